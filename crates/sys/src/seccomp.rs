//! The system calls that code in a container may not make.
//!
//! The filter names what is refused, in groups that say why, and refuses every call newer than [`LAST_KNOWN`]. Together that is an
//! allow-list (what is neither listed nor new has been looked at) that reads like a deny-list. What is refused either reaches parts
//! of the kernel that no namespace confines, makes namespaces (in which a process has capabilities over code that few have
//! reviewed), or is large attack surface that programs can do without. Calls of other architectures, x32 included, are never what
//! they seem to a filter and are not answered at all, or as unknown.
//!
//! Programs probe some facilities and fall back when they are absent: those answer `ENOSYS`, the others `EPERM`. `ptrace` is
//! allowed: what it reaches in a pid namespace has no more rights than its user. The filter does not need `no_new_privs`, which
//! would break `sudo`: it is installed while the process still has `CAP_SYS_ADMIN` in its user namespace.

use std::io;

use libc::sock_filter;

/// Calls numbered above this one did not exist when the lists were written. Numbers are common to all architectures from 424 on.
const LAST_KNOWN: i64 = libc::SYS_mseal;

/// Absent, for all that a program can see.
const ABSENT: &[i64] = &[
    // Its flags are behind a pointer, out of a filter's sight; C libraries fall back to `clone`.
    libc::SYS_clone3,
    // Calls made in the kernel's name, past any filter.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // Obsolete.
    libc::SYS_nfsservctl,
    libc::SYS_lookup_dcookie,
];

/// Refused.
const REFUSED: &[i64] = &[
    // Namespaces.
    libc::SYS_unshare,
    libc::SYS_setns,
    // Mounts.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_mount_setattr,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    // Files by handle, past the path that leads to them; quotas; watching whole file systems.
    libc::SYS_open_by_handle_at,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_fanotify_init,
    // Programs in the kernel, and its counters.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    // Keys belong to users of the host, not to a namespace.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // The kernel itself.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_vhangup,
    // The host's clock.
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    // Memory: faults handled by the process itself, a favourite of exploits; placement on the host's nodes.
    libc::SYS_userfaultfd,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    // Ports, and system calls long dead.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_uselib,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ustat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_sysfs,
    #[cfg(target_arch = "x86_64")]
    libc::SYS__sysctl,
];

/// Kinds of sockets that exist; the rest of the families is rarely used, and not all of it knows namespaces.
const FAMILIES: &[i32] = &[libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK, libc::AF_PACKET];

/// Flags of `clone` that make namespaces.
const NEW_NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// Calls of x32 have this bit set.
#[cfg(target_arch = "x86_64")]
const X32: u32 = 0x4000_0000;

/// Applies the filter to this thread and whatever it becomes and starts. Cannot be undone.
pub fn confine() -> io::Result<()> {
    let mut program = program();
    let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    // SAFETY: `program` points to `len` instructions that live until the call returns; the kernel copies and checks them.
    let done = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

// Offsets in `struct seccomp_data`; the low half of an argument comes first on the little-endian machines we build for.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

fn program() -> Vec<sock_filter> {
    let mut code = vec![load(ARCH), jump(libc::BPF_JEQ, ARCHITECTURE, 1, 0), finish(libc::SECCOMP_RET_KILL_PROCESS), load(NUMBER)];
    #[cfg(target_arch = "x86_64")]
    code.extend([jump(libc::BPF_JGE, X32, 0, 1), error(libc::ENOSYS)]);
    code.extend([jump(libc::BPF_JGT, LAST_KNOWN as u32, 0, 1), error(libc::ENOSYS)]);
    for (calls, errno) in [(ABSENT, libc::ENOSYS), (REFUSED, libc::EPERM)] {
        code.extend(calls.iter().flat_map(|&call| [jump(libc::BPF_JEQ, call as u32, 0, 1), error(errno)]));
    }

    let makes_namespaces = [load(FIRST_ARGUMENT), jump(libc::BPF_JSET, NEW_NAMESPACES, 0, 1), error(libc::EPERM), allow()];
    code.push(jump(libc::BPF_JEQ, libc::SYS_clone as u32, 0, makes_namespaces.len() as u8));
    code.extend(makes_namespaces);

    for call in [libc::SYS_socket, libc::SYS_socketpair] {
        let known = FAMILIES.iter().flat_map(|&family| [jump(libc::BPF_JEQ, family as u32, 0, 1), allow()]);
        let check: Vec<_> = [load(FIRST_ARGUMENT)].into_iter().chain(known).chain([error(libc::EAFNOSUPPORT)]).collect();
        code.push(jump(libc::BPF_JEQ, call as u32, 0, check.len() as u8));
        code.extend(check);
    }
    code.push(allow());
    code
}

fn load(offset: u32) -> sock_filter {
    sock_filter { code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, jt: 0, jf: 0, k: offset }
}

fn jump(condition: u32, value: u32, if_true: u8, if_false: u8) -> sock_filter {
    sock_filter { code: (libc::BPF_JMP | condition | libc::BPF_K) as u16, jt: if_true, jf: if_false, k: value }
}

fn finish(action: u32) -> sock_filter {
    sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: action }
}

fn error(errno: i32) -> sock_filter {
    finish(libc::SECCOMP_RET_ERRNO | errno as u32)
}

fn allow() -> sock_filter {
    finish(libc::SECCOMP_RET_ALLOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would.
    fn verdict(call: i64, arch: u32, argument: u32) -> u32 {
        let program = program();
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let step = &program[at];
            at += 1;
            let code = u32::from(step.code);
            match code & 7 {
                libc::BPF_LD => {
                    accumulator = match step.k {
                        NUMBER => call as u32,
                        ARCH => arch,
                        FIRST_ARGUMENT => argument,
                        other => panic!("reads offset {other}"),
                    }
                }
                libc::BPF_RET => return step.k,
                libc::BPF_JMP => {
                    let holds = match code & 0xf0 {
                        libc::BPF_JEQ => accumulator == step.k,
                        libc::BPF_JGT => accumulator > step.k,
                        libc::BPF_JGE => accumulator >= step.k,
                        libc::BPF_JSET => accumulator & step.k != 0,
                        other => panic!("unknown jump {other}"),
                    };
                    at += usize::from(if holds { step.jt } else { step.jf });
                }
                other => panic!("unknown instruction {other}"),
            }
        }
    }

    fn answer(call: i64, argument: i32) -> u32 {
        verdict(call, ARCHITECTURE, argument as u32)
    }

    const fn failing(errno: i32) -> u32 {
        libc::SECCOMP_RET_ERRNO | errno as u32
    }

    #[test]
    fn every_listed_call_is_refused() {
        for &call in ABSENT {
            assert_eq!(answer(call, 0), failing(libc::ENOSYS), "call {call}");
        }
        for &call in REFUSED {
            assert_eq!(answer(call, 0), failing(libc::EPERM), "call {call}");
        }
    }

    #[test]
    fn ordinary_calls_pass() {
        for call in [libc::SYS_read, libc::SYS_execve, libc::SYS_chroot, libc::SYS_ptrace, libc::SYS_setuid, libc::SYS_prctl] {
            assert_eq!(answer(call, 0), libc::SECCOMP_RET_ALLOW, "call {call}");
        }
    }

    #[test]
    fn clone_makes_processes_but_no_namespaces() {
        assert_eq!(answer(libc::SYS_clone, libc::SIGCHLD | libc::CLONE_VM), libc::SECCOMP_RET_ALLOW);
        for flag in [libc::CLONE_NEWUSER, libc::CLONE_NEWNS, libc::CLONE_NEWNET | libc::SIGCHLD] {
            assert_eq!(answer(libc::SYS_clone, flag), failing(libc::EPERM));
        }
    }

    #[test]
    fn sockets_are_of_known_families() {
        for call in [libc::SYS_socket, libc::SYS_socketpair] {
            for &family in FAMILIES {
                assert_eq!(answer(call, family), libc::SECCOMP_RET_ALLOW);
            }
            for family in [libc::AF_VSOCK, libc::AF_ALG, libc::AF_RDS, -1] {
                assert_eq!(answer(call, family), failing(libc::EAFNOSUPPORT));
            }
        }
    }

    #[test]
    fn unknown_calls_and_foreign_architectures_are_out() {
        assert_eq!(answer(LAST_KNOWN + 1, 0), failing(libc::ENOSYS));
        assert_eq!(answer(-1, 0), failing(libc::ENOSYS));
        assert_eq!(verdict(libc::SYS_read, 0x4000_0003, 0), libc::SECCOMP_RET_KILL_PROCESS);
        #[cfg(target_arch = "x86_64")]
        assert_eq!(verdict(libc::SYS_read | i64::from(X32), ARCHITECTURE, 0), failing(libc::ENOSYS));
    }
}
