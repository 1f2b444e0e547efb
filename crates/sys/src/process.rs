//! Starting, signalling and reaping processes.
//!
//! [`spawn`] lends the new process our memory until it has become another program (`CLONE_VM | CLONE_VFORK`): nothing is copied
//! however large we are, and what goes wrong in between is written where we can read it. Everything that the new process needs is
//! made before; after the split it makes system calls only.

use std::{
    collections::BTreeMap,
    ffi::{CString, c_char, c_int, c_void},
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
    path::{Path, PathBuf},
    ptr,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags, fchown, fcntl_setfl},
    pipe::{PipeFlags, pipe_with},
    process::{Pid, WaitId, WaitIdOptions, WaitOptions, WaitStatus, pidfd_send_signal},
};

use crate::pty;

/// Where a program without a `/` is looked for when the environment has no `PATH`.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const STACK: usize = 64 << 10;

/// The longest string that the kernel hands to a program.
const LONGEST_STRING: usize = 128 << 10;

/// What to start, and how.
#[derive(Debug, Clone, Copy)]
pub struct Spawn<'a> {
    /// Looked for in the `PATH` of `env` unless it contains a `/`.
    pub program: &'a str,
    /// Its arguments, its own name not among them.
    pub args: &'a [String],
    /// Its whole environment.
    pub env: &'a BTreeMap<String, String>,
    /// Its working directory.
    pub cwd: &'a Path,
    /// Its user.
    pub uid: u32,
    /// Its primary group.
    pub gid: u32,
    /// All its groups.
    pub groups: &'a [u32],
    /// What it reads from and writes to.
    pub stdio: Stdio,
}

/// What a process reads from and writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stdio {
    /// A pipe each; with `stdin` false it reads from `/dev/null`.
    Pipes {
        /// Whether there is a pipe to its standard input.
        stdin: bool,
    },
    /// A terminal of that size, which it controls.
    Pty(pty::Size),
}

/// A process that was started. Dropping it leaves the process alone.
#[derive(Debug)]
pub struct Child {
    /// Its number.
    pub pid: u32,
    /// Itself: unlike the number it never means another process.
    pub pidfd: OwnedFd,
    /// Our ends of its standard streams.
    pub io: ChildIo,
}

/// Our ends of a process's standard streams; none of them blocks.
#[derive(Debug)]
pub enum ChildIo {
    /// Pipes.
    Pipes {
        /// To its standard input, if that is a pipe.
        stdin: Option<OwnedFd>,
        /// From its standard output.
        stdout: OwnedFd,
        /// From its standard error.
        stderr: OwnedFd,
    },
    /// The terminal's master end.
    Pty(OwnedFd),
}

/// Why nothing was started. A program that is not there is none of these: that process ends with 127, or 126, and says why.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The kernel's strings end at a NUL byte.
    #[error("{what} contains a NUL byte")]
    Nul {
        /// Which string.
        what: &'static str,
    },
    /// The process could not enter its working directory.
    #[error("cannot enter directory '{}'", path.display())]
    Cwd {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// No terminal.
    #[error("opening a pseudo-terminal")]
    Pty(#[source] io::Error),
    /// No pipes, or no `/dev/null`.
    #[error("opening the standard streams")]
    Streams(#[source] io::Error),
    /// The process could not become the user.
    #[error("becoming user {uid}")]
    User {
        /// The user.
        uid: u32,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// There could be no process.
    #[error("creating a process")]
    Fork(#[source] io::Error),
    /// The kernel refused the program for its arguments or for want of memory.
    #[error("executing '{program}'")]
    Exec {
        /// The program.
        program: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself.
    Code(i32),
    /// By a signal.
    Signal {
        /// Its number.
        signal: i32,
        /// Whether it left a core.
        core_dumped: bool,
    },
}

/// A signal that [`signal`] sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM.
    Term,
    /// SIGKILL.
    Kill,
}

/// Starts a process in a session of its own, with default signal handling, priority 0 and an OOM score of 100.
pub fn spawn(spawn: &Spawn<'_>) -> Result<Child, SpawnError> {
    let strings = Strings::new(spawn)?;
    let Streams { ours, theirs } = Streams::open(spawn)?;
    let [stdin, stdout, stderr] = match &theirs {
        Theirs::Separate(fds) => fds.each_ref().map(|fd| fd.as_raw_fd()),
        Theirs::Terminal(fd) => [fd.as_raw_fd(); 3],
    };
    let argv = pointers(&strings.argv);
    let mut shell_argv = pointers(&strings.argv);
    shell_argv.splice(..1, [SHELL.as_ptr(), ptr::null()]);
    let mut plan = Plan {
        candidates: pointers(&strings.candidates),
        argv,
        shell_argv,
        envp: pointers(&strings.env),
        cwd: strings.cwd.as_ptr(),
        not_found: strings.not_found.as_bytes(),
        not_executable: strings.not_executable.as_bytes(),
        stdio: [stdin, stdout, stderr],
        terminal: matches!(theirs, Theirs::Terminal(_)),
        user: becomes_another(spawn).then_some((spawn.uid, spawn.gid)),
        groups: spawn.groups,
        failure: None,
    };
    let (pid, pidfd) = split(&mut plan).map_err(SpawnError::Fork)?;
    let Some((step, errno)) = plan.failure else {
        return Ok(Child { pid: pid.as_raw_nonzero().get().unsigned_abs(), pidfd, io: ours });
    };
    // It has already left; nobody else waits for it.
    let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
    let source = io::Error::from_raw_os_error(errno);
    Err(match step {
        Step::Terminal => SpawnError::Pty(source),
        Step::Streams => SpawnError::Streams(source),
        Step::User => SpawnError::User { uid: spawn.uid, source },
        Step::Cwd => SpawnError::Cwd { path: spawn.cwd.into(), source },
        Step::Exec => SpawnError::Exec { program: spawn.program.into(), source },
    })
}

/// Sends a signal to one process; fails with `ESRCH` when it has been reaped.
pub fn signal(pidfd: impl AsFd, signal: Signal) -> io::Result<()> {
    let signal = match signal {
        Signal::Term => rustix::process::Signal::TERM,
        Signal::Kill => rustix::process::Signal::KILL,
    };
    Ok(pidfd_send_signal(pidfd, signal)?)
}

/// Sends SIGTERM to every process that we may signal, except ourselves; for the first process of a PID namespace.
pub fn terminate_all() {
    // SAFETY: `kill` takes no pointers.
    unsafe { libc::kill(-1, libc::SIGTERM) };
}

/// Whether the calling process has children, living or not yet reaped.
pub fn has_children() -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    rustix::process::waitid(WaitId::All, options).is_ok()
}

/// Reaps one of our children, if it has ended.
pub fn reap(pid: u32) -> Option<Exit> {
    let pid = Pid::from_raw(pid.try_into().ok()?)?;
    let (_, status) = rustix::process::waitpid(Some(pid), WaitOptions::NOHANG).ok()??;
    exit_of(status)
}

/// Reaps any child that has ended. Only for the first process of a PID namespace, which must reap whatever is left to it: elsewhere
/// this would steal the children of other components.
pub fn reap_any() -> Option<(u32, Exit)> {
    let (pid, status) = rustix::process::wait(WaitOptions::NOHANG).ok()??;
    Some((pid.as_raw_nonzero().get().unsigned_abs(), exit_of(status)?))
}

/// Sets the file mode creation mask of this process and of those it starts.
pub fn set_umask(mask: u32) {
    rustix::process::umask(Mode::from_raw_mode(mask));
}

/// Whether writing to `fd` would not block.
pub fn is_writable(fd: impl AsFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let fd = fd.as_fd();
    let mut fds = [PollFd::new(&fd, PollFlags::OUT)];
    poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0) && fds[0].revents().contains(PollFlags::OUT)
}

fn exit_of(status: WaitStatus) -> Option<Exit> {
    let by_signal = || status.terminating_signal().map(|signal| Exit::Signal { signal, core_dumped: status.as_raw() & 0x80 != 0 });
    status.exit_status().map(Exit::Code).or_else(by_signal)
}

/// An unprivileged daemon can start processes as itself only, and needs no system call for it.
fn becomes_another(spawn: &Spawn<'_>) -> bool {
    use rustix::process::{getgid, getuid};
    getuid().is_root() || (getuid().as_raw(), getgid().as_raw()) != (spawn.uid, spawn.gid)
}

const SHELL: &std::ffi::CStr = c"/bin/sh";

/// The kernel's `struct sigaction` for the default action. The library's own call refuses the signals it uses itself, which may yet
/// have been ignored by whoever started us.
static DEFAULT_ACTION: [u64; 4] = [0; 4];

/// Every text that the new process needs, as the kernel wants it.
struct Strings {
    candidates: Vec<CString>,
    argv: Vec<CString>,
    env: Vec<CString>,
    cwd: CString,
    not_found: String,
    not_executable: String,
}

impl Strings {
    fn new(spawn: &Spawn<'_>) -> Result<Self, SpawnError> {
        let text = |bytes: &[u8], what| CString::new(bytes).map_err(|_| SpawnError::Nul { what });
        let program = spawn.program;
        let path = spawn.env.get("PATH").map_or(DEFAULT_PATH, String::as_str);
        if path.len() > LONGEST_STRING {
            // No program takes it; looking through it would take long.
            return Err(SpawnError::Exec { program: program.into(), source: io::Error::from_raw_os_error(libc::E2BIG) });
        }
        let candidates = if program.contains('/') || program.is_empty() {
            vec![text(program.as_bytes(), "the command")?]
        } else {
            let candidate =
                |dir: &str| text(if dir.is_empty() { program.into() } else { format!("{dir}/{program}") }.as_bytes(), "the command");
            path.split(':').map(candidate).collect::<Result<_, _>>()?
        };
        let argv = std::iter::once(program).chain(spawn.args.iter().map(String::as_str));
        let argv = argv.map(|arg| text(arg.as_bytes(), "an argument")).collect::<Result<_, _>>()?;
        let variable = |(name, value): (&String, &String)| text(format!("{name}={value}").as_bytes(), "an environment variable");
        let env = spawn.env.iter().map(variable).collect::<Result<_, _>>()?;
        let cwd = text(spawn.cwd.as_os_str().as_encoded_bytes(), "the working directory")?;
        // Short enough for a pipe that nobody reads yet.
        let name: String = program.chars().take(512).collect();
        Ok(Self {
            candidates,
            argv,
            env,
            cwd,
            not_found: format!("{name}: command not found\n"),
            not_executable: format!("{name}: cannot execute\n"),
        })
    }
}

/// The array of pointers that `execve` takes; valid while `strings` is.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
}

/// Both ends of a new process's standard streams.
struct Streams {
    ours: ChildIo,
    theirs: Theirs,
}

enum Theirs {
    Separate([OwnedFd; 3]),
    Terminal(OwnedFd),
}

impl Streams {
    fn open(spawn: &Spawn<'_>) -> Result<Self, SpawnError> {
        match spawn.stdio {
            Stdio::Pipes { stdin } => Self::pipes(stdin).map_err(SpawnError::Streams),
            Stdio::Pty(size) => Self::terminal(size, spawn).map_err(SpawnError::Pty),
        }
    }

    fn pipes(with_stdin: bool) -> io::Result<Self> {
        let (their_stdin, stdin) = if with_stdin {
            let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
            (theirs, Some(nonblocking(ours)?))
        } else {
            (rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?, None)
        };
        let (stdout, their_stdout) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr, their_stderr) = pipe_with(PipeFlags::CLOEXEC)?;
        Ok(Self {
            ours: ChildIo::Pipes { stdin, stdout: nonblocking(stdout)?, stderr: nonblocking(stderr)? },
            theirs: Theirs::Separate([their_stdin, their_stdout, their_stderr]),
        })
    }

    fn terminal(size: pty::Size, spawn: &Spawn<'_>) -> io::Result<Self> {
        let pair = pty::open(size)?;
        // So that the user's programs can open their terminal by name; one that cannot be given away is still a terminal.
        let _ = fchown(&pair.slave, Some(rustix::fs::Uid::from_raw(spawn.uid)), None);
        Ok(Self { ours: ChildIo::Pty(nonblocking(pair.master)?), theirs: Theirs::Terminal(pair.slave) })
    }
}

fn nonblocking(fd: OwnedFd) -> io::Result<OwnedFd> {
    fcntl_setfl(&fd, OFlags::NONBLOCK)?;
    Ok(fd)
}

/// What the new process does before it is another program. It holds no owned descriptor: both sides share the memory, and only ours
/// may drop anything.
struct Plan<'a> {
    candidates: Vec<*const c_char>,
    argv: Vec<*const c_char>,
    /// `argv` for a script without an interpreter line: the second entry is filled in.
    shell_argv: Vec<*const c_char>,
    envp: Vec<*const c_char>,
    cwd: *const c_char,
    not_found: &'a [u8],
    not_executable: &'a [u8],
    stdio: [RawFd; 3],
    terminal: bool,
    user: Option<(u32, u32)>,
    groups: &'a [u32],
    failure: Option<(Step, i32)>,
}

#[derive(Clone, Copy)]
enum Step {
    Terminal,
    Streams,
    User,
    Cwd,
    Exec,
}

/// Makes the new process and waits until it has become another program or left.
fn split(plan: &mut Plan<'_>) -> io::Result<(Pid, OwnedFd)> {
    let mut stack: Vec<MaybeUninit<u8>> = Vec::with_capacity(STACK);
    let mut pidfd: c_int = -1;
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    // SAFETY: all signals are blocked around the split, so none of our handlers runs on the new process's stack. That stack is the
    // allocation above, its top aligned down to 16; the kernel does not let this thread go on until the new process has stopped using
    // our memory, so `plan` and `stack` outlive its use of them. `become_program` makes system calls only.
    let pid = unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        let top = stack.as_mut_ptr().add(STACK);
        let top = top.sub(top.addr() % 16);
        let pid = libc::clone(become_program, top.cast(), flags, ptr::from_mut(plan).cast(), &raw mut pidfd);
        let error = io::Error::last_os_error();
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut());
        Pid::from_raw(pid).filter(|_| pid > 0).ok_or(error)
    }?;
    // SAFETY: `clone` succeeded, so it stored a new descriptor there that nobody else owns.
    Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// The new process. It never returns to the code above: it becomes the program or exits.
extern "C" fn become_program(plan: *mut c_void) -> c_int {
    // SAFETY: `split` passes its exclusive reference and is suspended until this process is through.
    let plan = unsafe { &mut *plan.cast::<Plan<'_>>() };
    // SAFETY: every pointer in the plan is to a NUL-terminated string or a NULL-terminated array of them that `spawn` keeps alive;
    // all calls are system calls that allocate nothing and take no lock. The `set*id` calls are raw: the library's would try to
    // change the other threads of the process whose memory this is.
    unsafe {
        let failed = |plan: &mut Plan<'_>, step| {
            plan.failure = Some((step, *libc::__errno_location()));
            libc::_exit(127)
        };
        libc::setsid();
        for signal in 1..=64 {
            libc::syscall(libc::SYS_rt_sigaction, signal, DEFAULT_ACTION.as_ptr(), ptr::null_mut::<c_void>(), size_of::<u64>());
        }
        for (target, fd) in (0..).zip(plan.stdio) {
            if libc::dup2(fd, target) < 0 {
                failed(plan, Step::Streams);
            }
        }
        if plan.terminal && libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
            failed(plan, Step::Terminal);
        }
        lower_priority();
        if let Some((uid, gid)) = plan.user
            && (libc::syscall(libc::SYS_setgroups, plan.groups.len(), plan.groups.as_ptr()) < 0
                || libc::syscall(libc::SYS_setresgid, gid, gid, gid) < 0
                || libc::syscall(libc::SYS_setresuid, uid, uid, uid) < 0)
        {
            failed(plan, Step::User);
        }
        if libc::chdir(plan.cwd) < 0 {
            failed(plan, Step::Cwd);
        }
        libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0);
        let mut none = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
        match execute(plan) {
            libc::ENOENT | libc::ENOTDIR => complain(plan.not_found, 127),
            libc::E2BIG | libc::ENOMEM => failed(plan, Step::Exec),
            _ => complain(plan.not_executable, 126),
        }
    }
}

/// Tries every candidate; the error that counts is the first that is not "no such file".
///
/// # Safety
/// As for [`become_program`], which alone may call it.
unsafe fn execute(plan: &mut Plan<'_>) -> c_int {
    let mut verdict = libc::ENOENT;
    for candidate in 0..plan.candidates.len() - 1 {
        let path = plan.candidates[candidate];
        // SAFETY: see the function.
        let errno = unsafe {
            libc::execve(path, plan.argv.as_ptr(), plan.envp.as_ptr());
            if *libc::__errno_location() == libc::ENOEXEC {
                plan.shell_argv[1] = path;
                libc::execve(SHELL.as_ptr(), plan.shell_argv.as_ptr(), plan.envp.as_ptr());
                return libc::ENOEXEC;
            }
            *libc::__errno_location()
        };
        match errno {
            libc::ENOENT | libc::ENOTDIR => {}
            libc::EACCES => verdict = libc::EACCES,
            other => return other,
        }
    }
    verdict
}

/// Tells the process's standard error why there is no program, and leaves.
///
/// # Safety
/// Ends the calling process without unwinding: only for [`become_program`].
unsafe fn complain(message: &[u8], code: c_int) -> ! {
    // SAFETY: the message is valid for its length.
    unsafe {
        libc::write(2, message.as_ptr().cast(), message.len());
        libc::_exit(code)
    }
}

/// Priority 0, best-effort IO, and rather this process than the daemon when memory runs out. All as far as the kernel allows.
///
/// # Safety
/// As for [`become_program`], which alone may call it.
unsafe fn lower_priority() {
    const IOPRIO_WHO_PROCESS: c_int = 1;
    const BEST_EFFORT_4: c_int = 2 << 13 | 4;
    // SAFETY: the path ends with NUL and the text is valid for its length.
    unsafe {
        let fd = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if fd >= 0 {
            libc::write(fd, c"100".as_ptr().cast(), 3);
            libc::close(fd);
        }
        libc::setpriority(libc::PRIO_PROCESS, 0, 0);
        libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, BEST_EFFORT_4);
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read, time::Duration};

    use rustix::process::{getgid, getuid};

    use super::*;

    fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn command<'a>(program: &'a str, args: &'a [String], env: &'a BTreeMap<String, String>) -> Spawn<'a> {
        let (uid, gid) = (getuid().as_raw(), getgid().as_raw());
        Spawn { program, args, env, cwd: Path::new("/"), uid, gid, groups: &[], stdio: Stdio::Pipes { stdin: false } }
    }

    fn run(spawn_plan: &Spawn<'_>) -> (Exit, String, String) {
        let child = spawn(spawn_plan).unwrap();
        let read = |fd: &OwnedFd| {
            fcntl_setfl(fd, OFlags::empty()).unwrap();
            let mut text = String::new();
            File::from(fd.try_clone().unwrap()).read_to_string(&mut text).unwrap();
            text
        };
        let ChildIo::Pipes { stdout, stderr, .. } = &child.io else { panic!("pipes were asked for") };
        let output = (read(stdout), read(stderr));
        (wait(child.pid), output.0, output.1)
    }

    fn wait(pid: u32) -> Exit {
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while std::time::Instant::now() < deadline {
            if let Some(exit) = reap(pid) {
                return exit;
            }
            std::thread::yield_now();
        }
        panic!("process {pid} does not end");
    }

    fn shell(script: &str) -> [String; 2] {
        ["-c".into(), script.into()]
    }

    #[test]
    fn a_process_has_exactly_what_was_asked_for() {
        let args = shell("echo $0 $A $HOME; pwd; cat; echo err >&2; exit 7");
        let env = env(&[("A", "b"), ("PATH", "/usr/bin:/bin")]);
        let (exit, stdout, stderr) = run(&Spawn { cwd: Path::new("/proc"), ..command("sh", &args, &env) });
        assert_eq!((exit, stdout.as_str(), stderr.as_str()), (Exit::Code(7), "sh b\n/proc\n", "err\n"));
    }

    #[test]
    fn only_the_standard_streams_are_inherited() {
        let _open = File::open("/dev/null").unwrap();
        // The shell blocks signals while it starts a program, so the last one takes its place.
        let args = shell("ls /proc/$$/fd; exec sed -n 's/^SigIgn:[[:space:]]*//p; s/^SigBlk:[[:space:]]*//p' /proc/$$/status");
        let (exit, stdout, _) = run(&command("sh", &args, &env(&[])));
        assert_eq!((exit, stdout.as_str()), (Exit::Code(0), "0\n1\n2\n0000000000000000\n0000000000000000\n"));
    }

    #[test]
    fn it_leads_a_session_without_a_terminal() {
        let (_, stdout, _) = run(&command("sh", &shell("cut -d' ' -f1,6,7 /proc/$$/stat"), &env(&[])));
        let fields: Vec<_> = stdout.split_whitespace().collect();
        assert_eq!((fields[0], fields[2]), (fields[1], "0"));
    }

    #[test]
    fn a_missing_command_is_an_exit_code() {
        let (exit, stdout, stderr) = run(&command("no-such-command", &[], &env(&[])));
        assert_eq!((exit, stdout.as_str()), (Exit::Code(127), ""));
        assert!(stderr.contains("no-such-command"), "{stderr}");
        assert_eq!(run(&command("", &[], &env(&[]))).0, Exit::Code(127));
        assert_eq!(run(&command("/proc/self/no/such", &[], &env(&[]))).0, Exit::Code(127));
        for not_executable in ["/etc/passwd", "/"] {
            assert_eq!(run(&command(not_executable, &[], &env(&[]))).0, Exit::Code(126), "{not_executable}");
        }
    }

    #[test]
    fn the_childs_path_decides() {
        assert_eq!(run(&command("sh", &shell("true"), &env(&[("PATH", "/nowhere")]))).0, Exit::Code(127));
        assert_eq!(run(&command("sh", &shell("true"), &env(&[("PATH", "/nowhere:/etc/passwd:/bin")]))).0, Exit::Code(0));
        assert_eq!(run(&Spawn { cwd: Path::new("/bin"), ..command("sh", &shell("true"), &env(&[("PATH", "")])) }).0, Exit::Code(0));
    }

    #[test]
    fn a_bad_directory_and_bad_strings_start_nothing() {
        for dir in ["/no/such/directory", "/etc/passwd"] {
            let result = spawn(&Spawn { cwd: Path::new(dir), ..command("true", &[], &env(&[])) });
            assert!(matches!(result, Err(SpawnError::Cwd { .. })), "{dir}");
        }
        assert!(matches!(spawn(&command("a\0b", &[], &env(&[]))), Err(SpawnError::Nul { .. })));
        let huge = ["x".repeat(8 << 20)];
        assert!(matches!(spawn(&command("true", &huge, &env(&[]))), Err(SpawnError::Exec { .. })));
    }

    #[test]
    fn a_signal_is_told_from_an_exit_code() {
        let child = spawn(&command("sleep", &["60".into()], &env(&[]))).unwrap();
        signal(&child.pidfd, Signal::Kill).unwrap();
        assert_eq!(wait(child.pid), Exit::Signal { signal: libc::SIGKILL, core_dumped: false });
        assert!(signal(&child.pidfd, Signal::Kill).is_err());
        assert_eq!(reap(child.pid), None);
    }

    #[test]
    fn a_terminal_is_controlled_by_its_process() {
        let args = shell("tty; stty size; exit 3");
        let env = env(&[]);
        let size = pty::Size { cols: 91, rows: 17 };
        let child = match spawn(&Spawn { stdio: Stdio::Pty(size), ..command("sh", &args, &env) }) {
            Err(SpawnError::Pty(e)) => return eprintln!("SKIPPED a_terminal_is_controlled_by_its_process: {e}"),
            other => other.unwrap(),
        };
        let exit = wait(child.pid);
        let ChildIo::Pty(master) = child.io else { panic!("a terminal was asked for") };
        let mut bytes = [0; 4096];
        let n = File::from(master).read(&mut bytes).unwrap();
        let text = String::from_utf8_lossy(&bytes[..n]);
        assert!(text.contains("/dev/pts/") && text.contains("17 91"), "{text}");
        assert_eq!(exit, Exit::Code(3));
    }
}
