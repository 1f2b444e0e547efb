//! User and network namespaces that exist before the process which shall live in them.
//!
//! Namespaces are held by descriptors alone: nothing is mounted, so they are gone when the last descriptor and the last process in
//! them are.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd, OwnedFd},
    panic, ptr, thread,
};

use rustix::{
    process::{Pid, Signal, WaitOptions},
    thread::{CapabilitiesSecureBits, LinkNameSpaceType, move_into_link_name_space},
};

/// How many user ids a namespace of ours has: 0 to 65535 inside.
pub const IDS: u32 = 65536;

/// A user namespace and a network namespace that it owns.
#[derive(Debug)]
pub struct Pair {
    /// The user namespace.
    pub user: OwnedFd,
    /// The network namespace.
    pub net: OwnedFd,
}

/// Makes a user namespace in which ids 0 to 65535 are `id_base` and following outside, and a network namespace that it owns.
///
/// Its owner is user `id_base`: what the kernel counts by user (inotify instances, pending signals, ...) it counts for the owner of
/// the namespace as well, and namespaces of one owner could use that up for each other, and for the owner.
pub fn create_pair(id_base: u32) -> io::Result<Pair> {
    if id_base.checked_add(IDS - 1).is_none_or(|last| last == u32::MAX) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("user ids from {id_base} do not fit 32 bits")));
    }
    on_own_thread(|| {
        make_namespaces_for(id_base)?;
        let anchor = Anchor::start()?;
        let pid = anchor.pid.as_raw_nonzero();
        let map = format!("0 {id_base} {IDS}\n");
        fs::write(format!("/proc/{pid}/uid_map"), &map)?;
        fs::write(format!("/proc/{pid}/gid_map"), &map)?;
        of_process(pid.get())
    })
}

/// The namespaces in which process `pid` lives.
pub fn of_process(pid: i32) -> io::Result<Pair> {
    let open = |kind| File::open(format!("/proc/{pid}/ns/{kind}")).map(OwnedFd::from);
    Ok(Pair { user: open("user")?, net: open("net")? })
}

/// Runs `work` on a thread of its own inside the network namespace. A panic of `work` goes on in the caller.
pub fn in_network<T: Send>(net: impl AsFd, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let net = net.as_fd();
    on_own_thread(|| {
        move_into_link_name_space(net, Some(LinkNameSpaceType::Network))?;
        Ok(work())
    })
}

/// Runs `work` on a thread that ends with it, and with it whatever it changed of its thread.
fn on_own_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("namespaces".to_owned()).spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|panicked| panic::resume_unwind(panicked))
    })
}

/// Makes `user` the owner of the namespaces that this thread makes from now on. All its rights remain: some hosts let nobody else make
/// user namespaces.
fn make_namespaces_for(user: u32) -> io::Result<()> {
    const SAME: libc::uid_t = libc::uid_t::MAX;
    rustix::thread::set_capabilities_secure_bits(CapabilitiesSecureBits::NO_SETUID_FIXUP)?;
    // SAFETY: a system call without memory arguments; unlike the C library's function it changes this thread alone.
    match unsafe { libc::syscall(libc::SYS_setresuid, SAME, user, SAME) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A child that does nothing but keep two new namespaces alive; ended and reaped on drop.
struct Anchor {
    pid: Pid,
    /// What the child stands on while it lives; on the heap, since it is filled from the far end.
    _stack: Box<[u128; STACK / 16]>,
}

/// Bytes of stack for four system calls.
const STACK: usize = 8 << 10;

impl Anchor {
    fn start() -> io::Result<Self> {
        // No exit signal: the child is none of those that a SIGCHLD handler or a `wait` for any child would see. Memory and the table of
        // descriptors are shared: a daemon with many pages is not copied, and the child does not hold a second reference to each file.
        let flags = libc::CLONE_NEWUSER | libc::CLONE_NEWNET | libc::CLONE_VM | libc::CLONE_FILES;
        let parent = rustix::process::getpid().as_raw_nonzero().get();
        let mut stack = Box::new([0u128; STACK / 16]);
        let mut all: libc::sigset_t = blank();
        let mut old: libc::sigset_t = blank();
        // SAFETY: both sets are valid for writes and outlive the calls. `anchor` runs on the far end of `stack`, which outlives it: drop
        // ends and reaps the child before the stack goes, and a stack is aligned as a `u128` is. Sharing our memory, it only makes
        // system calls and never returns. All signals are blocked while it starts and it inherits that, so no handler of ours ever
        // runs in it.
        let pid = unsafe {
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut old);
            let pid = libc::clone(anchor, stack.as_mut_ptr_range().end.cast(), flags, ptr::without_provenance_mut(parent as usize));
            let error = io::Error::last_os_error();
            libc::pthread_sigmask(libc::SIG_SETMASK, &old, ptr::null_mut());
            if pid < 0 {
                return Err(error);
            }
            pid
        };
        let pid = Pid::from_raw(pid).ok_or_else(|| io::Error::other("the kernel returned no process id"))?;
        Ok(Self { pid, _stack: stack })
    }
}

impl Drop for Anchor {
    fn drop(&mut self) {
        // Neither can fail: the child is ours, unreaped, and cannot block the signal.
        let _ = rustix::process::kill_process(self.pid, Signal::KILL);
        let _ = rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(self.pid), WaitOptions::from_bits_retain(libc::__WALL as u32)));
    }
}

/// What the child does: end when the thread that made it ends, and wait for that or for a kill.
extern "C" fn anchor(parent: *mut libc::c_void) -> libc::c_int {
    // SAFETY: system calls without memory arguments. They may set `errno`, which is the parent's as well, but only on failure: `prctl`
    // has none here, and nothing interrupts `pause` in a process that blocks all signals.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if libc::getppid() as usize != parent.addr() {
            libc::_exit(1);
        }
        loop {
            libc::pause();
        }
    }
}

fn blank() -> libc::sigset_t {
    // SAFETY: a signal set is plain bits; all zero is the empty set.
    unsafe { std::mem::zeroed() }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsRawFd, FromRawFd};

    use super::*;

    fn is_root(test: &str) -> bool {
        let root = rustix::process::geteuid().is_root();
        if !root {
            eprintln!("SKIPPED {test}: needs root");
        }
        root
    }

    fn links() -> String {
        fs::read_to_string("/proc/thread-self/net/dev").unwrap()
    }

    #[test]
    fn a_pair_is_a_new_network_owned_by_new_users() {
        if !is_root("a_pair_is_a_new_network_owned_by_new_users") {
            return;
        }
        let pair = create_pair(0x0fff_0000).unwrap();
        let ours = of_process(std::process::id() as i32).unwrap();
        let inode = |fd: &OwnedFd| rustix::fs::fstat(fd).unwrap().st_ino;
        assert_ne!(inode(&pair.user), inode(&ours.user));
        assert_ne!(inode(&pair.net), inode(&ours.net));

        let mut owner: libc::uid_t = 0;
        // SAFETY: the kernel writes one user id to where the pointer points.
        let asked = unsafe { libc::ioctl(pair.user.as_raw_fd(), libc::NS_GET_OWNER_UID, &raw mut owner) };
        assert_eq!((asked, owner), (0, 0x0fff_0000), "what the kernel counts by user it counts for this sandbox");
        assert!(rustix::process::geteuid().is_root());

        // SAFETY: returns a new descriptor and touches no memory.
        let owner = unsafe {
            let fd = libc::ioctl(pair.net.as_raw_fd(), libc::NS_GET_USERNS);
            assert!(fd >= 0, "{}", io::Error::last_os_error());
            OwnedFd::from_raw_fd(fd)
        };
        assert_eq!(inode(&owner), inode(&pair.user));
    }

    #[test]
    fn work_runs_inside_and_the_caller_stays_outside() {
        if !is_root("work_runs_inside_and_the_caller_stays_outside") {
            return;
        }
        let pair = create_pair(0x0fff_0000).unwrap();
        let before = links();
        let inside = in_network(&pair.net, links).unwrap();
        let names: Vec<_> = inside.lines().skip(2).filter_map(|line| line.split(':').next()).map(str::trim).collect();
        assert!(names.contains(&"lo") && !names.contains(&"eth0"), "{names:?}");
        assert_eq!(links().lines().count(), before.lines().count());
    }

    #[test]
    fn no_child_is_left() {
        if !is_root("no_child_is_left") {
            return;
        }
        let anchor = Anchor::start().unwrap();
        let proc = format!("/proc/{}", anchor.pid.as_raw_nonzero());
        assert!(fs::metadata(&proc).is_ok());
        drop(anchor);
        assert!(fs::metadata(&proc).is_err());
    }

    #[test]
    fn ids_that_do_not_fit_are_refused() {
        assert_eq!(create_pair(u32::MAX - 5).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(create_pair(u32::MAX - IDS + 1).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
