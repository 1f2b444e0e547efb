//! Starting a container: from the daemon through the small program `launch` to the first process of a sandbox.
//!
//! ```text
//! daemon ── spawn ──> launch ── clone(CLONE_PARENT) ──> first process ── execve ──> envd
//!   │                   │ joins cgroups, network          │ mounts, identity, privileges
//!   │                   └ exits                           │
//!   └──────────── reads reports until both have closed the pipe
//! ```
//!
//! A daemon with many threads can neither fork safely nor enter namespaces, so a single-threaded program does. The first process is
//! the daemon's child, not the program's; it has a session of its own and no death signal, so it outlives the daemon.
//!
//! Pid, mount, ipc, uts and cgroup namespaces belong to the host's user namespace, network and users to the sandbox's: code inside
//! is root over its files, processes and network, and over no mount. Everything before the last step is done as root of the host in
//! an environment that only the plan and the image influence, and the image's paths are resolved inside the new root only.

mod privilege;
mod root;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpListener},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    fs::{MemfdFlags, Mode, OFlags},
    process::Signal,
    thread::{LinkNameSpaceType, UnshareFlags},
};

use crate::{
    cgroup::Entrance,
    pidfd::Process,
    protection::{Disabled, Protection},
};

/// The form of [`Order`]; daemon and program are of one release, and a mix-up is told rather than guessed at.
const VERSION: u32 = 2;

/// How long a start may take before it counts as stuck. Most take some milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Of `linux/sched.h`; the C library's constant is too narrow.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// What to start.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Host name inside.
    pub hostname: String,
    /// The machine's directory.
    pub dir: PathBuf,
    /// Read-only layers, lowest first.
    pub layers: Vec<PathBuf>,
    /// Files of `/etc` to write, by name.
    pub etc: BTreeMap<String, String>,
    /// Size of `/dev/shm` in bytes; `/run` is a quarter of that and `/dev` an eighth. What is in them is memory that no kill frees, so
    /// they must leave room.
    pub shm_bytes: u64,
    /// The way into its cgroup.
    pub cgroup: Entrance,
    /// Show the cgroup at `/sys/fs/cgroup`.
    pub show_cgroup: bool,
    /// The TCP port to listen on, on all addresses; the program gets the socket as systemd's socket activation would give it (see
    /// [`crate::listeners::inherited`]). Whoever connects once the machine has started waits for the program, and need not try again.
    pub port: u16,
    /// The program to become, and its arguments from `argv[0]` on.
    pub program: PathBuf,
    /// See `program`.
    pub arguments: Vec<String>,
    /// What shall not protect the host from it.
    pub disabled: Disabled,
}

/// A plan on its way: what only the two sides need to know is added.
#[derive(serde::Serialize, serde::Deserialize)]
struct Order<P> {
    version: u32,
    user_ns: PathBuf,
    net_ns: PathBuf,
    disk: Option<PathBuf>,
    plan: P,
}

/// A start that failed. No process is left of it.
#[derive(Debug, thiserror::Error)]
#[error("{step}")]
pub struct Failure {
    /// What was being done.
    pub step: String,
    /// What went wrong.
    #[source]
    pub source: io::Error,
}

/// Names the deed that an error interrupted.
trait During<T> {
    fn during(self, step: impl Into<String>) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during(self, step: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|source| Failure { step: step.into(), source: source.into() })
    }
}

/// What comes back through the pipe, one per line.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum Report {
    /// The first process exists and has this number.
    Started(i32),
    /// A step failed; nothing follows.
    Failed { step: String, errno: Option<i32>, message: String },
}

/// What a machine lives in that was made before it.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Its user namespace.
    pub users: BorrowedFd<'a>,
    /// Its network namespace.
    pub network: BorrowedFd<'a>,
    /// A detached mount with the writable layer; without it that is in the machine's directory. `upper` and `work`, owned by root,
    /// are in either.
    pub disk: Option<BorrowedFd<'a>>,
}

/// Starts `plan` in this place by means of the program at `launch`; what the first process prints goes to `log`. Blocks until it runs.
pub fn spawn(launch: &Path, plan: &Plan, place: Place<'_>, log: File) -> Result<Process, Failure> {
    let begun = Instant::now();
    // `launch` finds our descriptors through our pid: nothing is inherited, so nothing can leak into another child.
    let ours = |fd: BorrowedFd<'_>| PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd()));
    let order = Order { version: VERSION, user_ns: ours(place.users), net_ns: ours(place.network), disk: place.disk.map(ours), plan };
    let mut input = File::from(rustix::fs::memfd_create("atoll-plan", MemfdFlags::CLOEXEC).during("writing the launch plan")?);
    serde_json::to_writer(&mut input, &order).map_err(io::Error::from).during("writing the launch plan")?;
    io::Seek::rewind(&mut input).during("writing the launch plan")?;
    let (reports, output) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).during("making a pipe")?;

    // The command is dropped with its ends of the descriptors, so that the pipe closes when the others are done.
    let mut child =
        Command::new(launch).env_clear().stdin(input).stdout(output).stderr(log).spawn().during(format!("running {}", launch.display()))?;
    let spawned = begun.elapsed();
    let mut first = None;
    let outcome = listen(reports, &mut first);
    let executed = begun.elapsed();
    if outcome.is_err() {
        // It may hang; if it has ended, nothing happens.
        let _ = child.kill();
    }
    child.wait().during("waiting for launch")?;
    let us = |from: Duration, to: Duration| (to - from).as_micros() as u64;
    let (spawn_us, execute_us, reap_us) = (us(Duration::ZERO, spawned), us(spawned, executed), us(executed, begun.elapsed()));
    tracing::debug!(target: "atoll_steps", spawn_us, execute_us, reap_us, "launch");
    match (outcome, first) {
        (Ok(()), Some(first)) => Ok(first),
        (Ok(()), None) => Err(Failure { step: "launching".into(), source: io::Error::other("launch ended without a word") }),
        (Err(failure), first) => {
            if let Some(first) = first {
                first.signal(Signal::KILL).during("ending what was started")?;
                first.wait(PATIENCE);
                first.reap();
            }
            Err(failure)
        }
    }
}

/// Reads reports until nobody is left to write one, which is when the first process has become its program.
fn listen(reports: OwnedFd, first: &mut Option<Process>) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    let mut reports = File::from(reports);
    let (mut text, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        wait_readable(&reports, deadline).during("launching")?;
        let read = reports.read(&mut chunk).during("reading from launch")?;
        if read == 0 {
            return Ok(());
        }
        text.extend_from_slice(&chunk[..read]);
        while let Some(end) = text.iter().position(|&b| b == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            match serde_json::from_slice(&line).map_err(io::Error::from).during("reading from launch")? {
                Report::Started(pid) => *first = Some(Process::open(pid).during("finding the first process")?),
                Report::Failed { step, errno, message } => {
                    return Err(Failure { step, source: errno.map_or_else(|| io::Error::other(message), io::Error::from_raw_os_error) });
                }
            }
        }
    }
}

fn wait_readable(file: &File, deadline: Instant) -> io::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
    match rustix::io::retry_on_intr(|| rustix::event::poll(&mut [PollFd::new(file, PollFlags::IN)], Some(&left)))? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}

/// The program `launch`: a plan on standard input, reports on standard output, and standard error becomes the sandbox's log.
pub fn run() -> ExitCode {
    let reports = match take_standard_output() {
        Ok(reports) => reports,
        Err(error) => {
            eprintln!("launch: {error}");
            return ExitCode::FAILURE;
        }
    };
    match launch(&reports) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let Failure { step, source } = failure;
            send(&reports, &Report::Failed { step, errno: source.raw_os_error(), message: source.to_string() });
            ExitCode::FAILURE
        }
    }
}

/// Keeps the pipe to the daemon away from whatever this process becomes.
fn take_standard_output() -> io::Result<File> {
    let reports = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
    Ok(reports.into())
}

fn send(mut reports: &File, report: &Report) {
    // The only way to tell is broken; the exit status is left.
    let _ = serde_json::to_vec(report).map(|mut line| {
        line.push(b'\n');
        reports.write_all(&line)
    });
}

fn launch(reports: &File) -> Result<(), Failure> {
    let order: Order<Plan> = serde_json::from_reader(io::stdin().lock()).map_err(io::Error::from).during("reading the launch plan")?;
    let Order { version, user_ns, net_ns, disk, plan } = order;
    if version != VERSION {
        return Err(io::Error::other(format!("version {version}, expected {VERSION}"))).during("reading the launch plan");
    }
    let users = File::open(&user_ns).during("opening the user namespace")?;
    let network = File::open(&net_ns).during("opening the network namespace")?;
    let open =
        |path: &Path| rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).during(format!("opening {}", path.display()));
    let program = open(&plan.program)?;
    let disk = disk.as_deref().map(open).transpose()?;

    for door in &plan.cgroup.doors {
        fs::write(door, "0").during(format!("joining the cgroup {}", door.display()))?;
    }
    rustix::thread::move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
        .during("entering the network namespace")?;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, plan.port)).during("listening for the program")?;
    rustix::net::listen(&listener, BACKLOG).during("listening for the program")?;
    let birth = plan.cgroup.birth.as_deref().map(|dir| File::open(dir).during(format!("opening {}", dir.display()))).transpose()?;
    if fork_into_new_namespaces(&plan.disabled, birth.as_ref()).during("making namespaces")? {
        become_first(&plan, disk, users.as_fd(), program.as_fd(), listener.as_fd(), reports)?;
    }
    Ok(())
}

/// Returns twice, like `fork`: true in the new process, which is a child of our parent and born in this cgroup.
fn fork_into_new_namespaces(disabled: &Disabled, cgroup: Option<&File>) -> io::Result<bool> {
    let mut flags = libc::CLONE_PARENT | libc::CLONE_NEWNS | libc::CLONE_NEWUTS;
    for (protection, flag) in [(Protection::PidNamespace, libc::CLONE_NEWPID), (Protection::IpcNamespace, libc::CLONE_NEWIPC)] {
        if disabled.spares(protection) {
            flags |= flag;
        }
    }
    // SAFETY: a struct of numbers, for which zero is nothing.
    let mut how: libc::clone_args = unsafe { std::mem::zeroed() };
    how.flags = flags as u64;
    if let Some(cgroup) = cgroup {
        how.flags |= CLONE_INTO_CGROUP;
        how.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: the struct is valid for reads. Without CLONE_VM and a stack this is a fork, and the process has one thread: no lock is
    // held by another.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const how, size_of::<libc::clone_args>()) };
    if pid < 0 { Err(io::Error::last_os_error()) } else { Ok(pid == 0) }
}

/// What the first process does until it is its program. Returns only if a step failed.
fn become_first(
    plan: &Plan,
    disk: Option<OwnedFd>,
    users: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    listener: BorrowedFd<'_>,
    reports: &File,
) -> Result<(), Failure> {
    // The old `/proc` still shows the numbers of the host.
    let pid = fs::read_link("/proc/self").during("finding the own process number")?;
    let pid = pid.to_str().and_then(|pid| pid.parse().ok()).ok_or(io::ErrorKind::InvalidData).during("finding the own process number")?;
    send(reports, &Report::Started(pid));

    // The root of a cgroup namespace is where its maker is, and only this process is in the sandbox's everywhere.
    // SAFETY: affects neither memory nor descriptors.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWCGROUP) }.during("making the cgroup namespace")?;
    rustix::process::setsid().during("starting a session")?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    privilege::set_limits().during("setting resource limits")?;
    rustix::system::sethostname(plan.hostname.as_bytes()).during("setting the host name")?;
    root::build(plan, disk, users)?;

    let null = File::open("/dev/null").during("opening /dev/null")?;
    rustix::stdio::dup2_stdin(&null).during("opening /dev/null")?;
    privilege::drop_to(users, &plan.disabled)?;
    privilege::execute(program, &plan.arguments, listener).during(format!("executing {}", plan.program.display()))
}
