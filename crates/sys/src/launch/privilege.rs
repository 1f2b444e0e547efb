//! From root of the host to root of a sandbox, and no way back.

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd, BorrowedFd},
    ptr,
};

use rustix::{
    io::Errno,
    process::{Resource, Rlimit},
    thread::{CapabilitySet, CapabilitySets, Gid, LinkNameSpaceType, Uid},
};

use super::{During, Failure};
use crate::{
    listeners::INHERITED,
    protection::{Disabled, Protection},
    seccomp,
};

/// What root of a sandbox may do in its own user namespace: what container engines grant by default, less `MKNOD`, which does nothing
/// there, plus `SYS_PTRACE`, so that debuggers work under `sudo`; the processes in reach have no rights beyond these.
const CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE)
    .union(CapabilitySet::SYS_PTRACE);

/// The environment of the first process, less its number. It has one socket.
const ENVIRONMENT: [&std::ffi::CStr; 2] = [c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", c"LISTEN_FDS=1"];

/// The score of the process that the kernel ends last for want of memory.
const LAST_TO_GO: &str = "-900";

/// Open files that a process may have, if the daemon may give that many.
const OPEN_FILES: u64 = 1 << 20;

/// Sets what processes inherit from the daemon to what a fresh machine has.
pub(super) fn set_limits() -> io::Result<()> {
    let set = |resource, limit| rustix::process::setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) });
    let allowed = rustix::process::getrlimit(Resource::Nofile).maximum.unwrap_or(OPEN_FILES);
    set(Resource::Nofile, OPEN_FILES).or_else(|_| set(Resource::Nofile, allowed.min(OPEN_FILES)))?;
    set(Resource::Core, 0)?;
    // Without the first process there is no sandbox: it goes last. `envd` gives those it starts an ordinary score, and none of them can
    // get a better one than this.
    let prefer = |score| std::fs::write("/proc/self/oom_score_adj", score);
    prefer(LAST_TO_GO).or_else(|_| prefer("0"))
}

/// Becomes root of the user namespace with [`CAPABILITIES`] and under the system call filter. Nothing of the host is open to this
/// process afterwards but what it holds open, which closes when it executes a program.
pub(super) fn drop_to(users: BorrowedFd<'_>, disabled: &Disabled) -> Result<(), Failure> {
    if disabled.spares(Protection::UserNamespace) {
        rustix::thread::move_into_link_name_space(users, Some(LinkNameSpaceType::User)).during("entering the user namespace")?;
    }
    rustix::thread::set_thread_groups(&[]).during("dropping groups")?;
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).during("becoming group 0")?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).during("becoming user 0")?;

    if disabled.spares(Protection::Capabilities) {
        drop_capabilities()?;
    }
    // The right to do this without `no_new_privs` ends at the execution of a program, like everything outside the bounding set.
    match disabled.spares(Protection::Seccomp) {
        true => seccomp::confine().during("installing the system call filter"),
        false => Ok(()),
    }
}

fn drop_capabilities() -> Result<(), Failure> {
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        if !CAPABILITIES.contains(capability) {
            match rustix::thread::remove_capability_from_bounding_set(capability) {
                // The kernel does not know that many.
                Ok(()) | Err(Errno::INVAL) => {}
                failed => failed.during("dropping capabilities")?,
            }
        }
    }
    let kept = CAPABILITIES | CapabilitySet::SYS_ADMIN;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).during("dropping capabilities")
}

/// Becomes the program, with no descriptors but the standard three and the socket.
pub(super) fn execute(program: BorrowedFd<'_>, arguments: &[String], listener: BorrowedFd<'_>) -> io::Result<()> {
    // Out of the way of the socket, which may itself be in its place already.
    let above = INHERITED + 1;
    let (program, listener) = (rustix::io::fcntl_dupfd_cloexec(program, above)?, rustix::io::fcntl_dupfd_cloexec(listener, above)?);
    let arguments = arguments.iter().map(|argument| CString::new(argument.as_str())).collect::<Result<Vec<_>, _>>()?;
    let list = |strings: &mut dyn Iterator<Item = *const libc::c_char>| strings.chain([ptr::null()]).collect::<Vec<_>>();
    let argv = list(&mut arguments.iter().map(|argument| argument.as_ptr()));
    // 1, unless it has no pid namespace of its own.
    let number = CString::new(format!("LISTEN_PID={}", std::process::id()))?;
    let envp = list(&mut ENVIRONMENT.into_iter().chain([number.as_c_str()]).map(|variable| variable.as_ptr()));
    // SAFETY: takes no memory, and nobody owns the number that the socket gets. Both lists end in a null pointer, their strings in a zero byte, and all live until the call returns,
    // which it does only if it failed.
    unsafe {
        libc::dup2(listener.as_raw_fd(), INHERITED);
        libc::syscall(libc::SYS_close_range, above, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
        libc::syscall(libc::SYS_execveat, program.as_raw_fd(), c"".as_ptr(), argv.as_ptr(), envp.as_ptr(), libc::AT_EMPTY_PATH);
    }
    Err(io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_of_a_sandbox_rules_nothing_but_its_own() {
        for forbidden in [CapabilitySet::SYS_ADMIN, CapabilitySet::NET_ADMIN, CapabilitySet::SYS_MODULE, CapabilitySet::BPF] {
            assert!(!CAPABILITIES.contains(forbidden));
        }
    }
}
