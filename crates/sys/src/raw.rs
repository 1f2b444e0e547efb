//! System calls by number, as hostile code makes them: for the escape harness, which tries what no library offers.

use std::io;

/// One argument of a system call.
#[derive(Debug)]
pub enum Argument<'a> {
    /// A number; 0 is also the null pointer.
    Number(i64),
    /// The address of bytes that the kernel reads.
    Bytes(&'a [u8]),
    /// The address of room that the kernel may fill.
    Room(&'a mut [u8; ROOM]),
}

/// Size of [`Argument::Room`]; none of the [`CALLS`] fills more: the longest is a message of a queue.
pub const ROOM: usize = 8192;

/// The calls that may be made: none of them changes the memory of this process other than through its arguments.
const CALLS: &[i64] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_init_module,
    libc::SYS_io_uring_setup,
    libc::SYS_ioctl,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_kill,
    libc::SYS_mknodat,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_mq_open,
    libc::SYS_mq_timedreceive,
    libc::SYS_mq_timedsend,
    libc::SYS_mq_unlink,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_open,
    libc::SYS_pivot_root,
    libc::SYS_ptrace,
    libc::SYS_reboot,
    libc::SYS_sched_setscheduler,
    libc::SYS_sendto,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_shmctl,
    libc::SYS_shmget,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
];

/// Makes a system call that is on the list of this module; others fail with `ENOTSUP`. A descriptor that it returns is the caller's to
/// close, by ending.
pub fn call<const N: usize>(number: i64, arguments: [Argument<'_>; N]) -> io::Result<i64> {
    if !CALLS.contains(&number) || N > 6 {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let mut words = [0i64; 6];
    for (word, argument) in words.iter_mut().zip(arguments) {
        *word = match argument {
            Argument::Number(number) => number,
            Argument::Bytes(bytes) => bytes.as_ptr() as i64,
            Argument::Room(page) => page.as_mut_ptr() as i64,
        };
    }
    let [a, b, c, d, e, f] = words;
    // SAFETY: the calls on the list write to memory only where an argument points, and at most [`ROOM`]: what is lent as writable is that long,
    // and lives until the call returns. A number that is used as an address is the caller's lie, which the kernel finds out when nothing
    // is mapped there; no caller in this project passes one that could be.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Reads memory of process `pid` from `address` on; returns how much was read.
pub fn read_memory(pid: i32, address: usize, into: &mut [u8]) -> io::Result<usize> {
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: into.len() };
    // SAFETY: the kernel writes at most `iov_len` bytes to `into`, which is that long and borrowed; the remote address is looked up in
    // the other process only.
    let read = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}

/// Asks for the number of this process through the gate of 32-bit programs. The kernel may end the process for it.
#[cfg(target_arch = "x86_64")]
pub fn getpid_of_32_bits() -> i64 {
    let mut word: i64 = 20;
    // SAFETY: `getpid` has no arguments and touches no memory; the gate changes no register but those named.
    unsafe {
        std::arch::asm!("int 0x80", inlateout("rax") word, lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _);
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_are_not_listed_are_not_made() {
        assert_eq!(call(libc::SYS_munmap, [Argument::Number(0)]).unwrap_err().kind(), io::ErrorKind::Unsupported);
        let made = call(libc::SYS_kill, [Argument::Number(std::process::id().into()), Argument::Number(0)]);
        assert_eq!(made.unwrap(), 0);
    }
}
