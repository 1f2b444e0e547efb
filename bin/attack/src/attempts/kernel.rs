//! Parts of the kernel that no namespace confines.

use std::{fs, io, str};

use atoll_sys::raw::{Argument, ROOM, call, getpid_of_32_bits};
use rustix::net::{AddressFamily, SocketType, socket};

use super::World;
use crate::{host::c_string, outcome::Outcome, spec::Host};

/// A file that is not there, so that nothing happens where it is allowed.
const NOWHERE: &[u8] = b"/atoll-attack/nowhere\0";

fn numbers<const N: usize>(call_number: i64, arguments: [i64; N]) -> io::Result<i64> {
    call(call_number, arguments.map(Argument::Number))
}

pub fn modules(_: &World) -> Outcome {
    let empty = [Argument::Number(0), Argument::Number(0), Argument::Bytes(b"\0")];
    let none = [Argument::Number(-1), Argument::Bytes(b"\0"), Argument::Number(0)];
    let unknown = [Argument::Bytes(b"atoll_attack_nothing\0"), Argument::Number(libc::O_NONBLOCK.into())];
    Outcome::any([
        Outcome::gate("init_module", call(libc::SYS_init_module, empty), &[libc::ENOEXEC, libc::EFAULT, libc::EINVAL]),
        Outcome::gate("finit_module", call(libc::SYS_finit_module, none), &[libc::EBADF]),
        Outcome::gate("delete_module", call(libc::SYS_delete_module, unknown), &[libc::ENOENT]),
    ])
}

pub fn kexec(_: &World) -> Outcome {
    // More segments than there may be.
    Outcome::gate("kexec_load", numbers(libc::SYS_kexec_load, [0, 1 << 20, 0, 0]), &[libc::EINVAL])
}

pub fn reboot(_: &World) -> Outcome {
    // Without the magic numbers.
    Outcome::gate("reboot", numbers(libc::SYS_reboot, [0, 0, 0, 0]), &[libc::EINVAL])
}

pub fn swap(_: &World) -> Outcome {
    Outcome::gate("swapon", call(libc::SYS_swapon, [Argument::Bytes(NOWHERE), Argument::Number(0)]), &[libc::ENOENT])
}

pub fn accounting(_: &World) -> Outcome {
    Outcome::gate("acct", call(libc::SYS_acct, [Argument::Bytes(NOWHERE)]), &[libc::ENOENT])
}

pub fn log(_: &World) -> Outcome {
    const READ_ALL: i64 = 3;
    let mut answer = [0; ROOM];
    let read = call(libc::SYS_syslog, [Argument::Number(READ_ALL), Argument::Room(&mut answer), Argument::Number(ROOM as i64)]);
    Outcome::of("syslog", read)
}

pub fn bpf(_: &World) -> Outcome {
    const ARRAY: u32 = 2;
    // Map type, sizes of key and value, entries.
    let mut attributes: Vec<u8> = [ARRAY, 4, 4, 1].iter().flat_map(|word| word.to_ne_bytes()).collect();
    attributes.resize(72, 0);
    let size = attributes.len() as i64;
    let create_map = [Argument::Number(0), Argument::Bytes(&attributes), Argument::Number(size)];
    // What the setting allows is decided before the attributes are looked at.
    Outcome::of("bpf", call(libc::SYS_bpf, create_map))
}

pub fn perf(_: &World) -> Outcome {
    const SOFTWARE: u32 = 1;
    const WITHOUT_KERNEL: u64 = 0b110_0000;
    let mut attributes = Vec::new();
    attributes.extend(SOFTWARE.to_ne_bytes());
    attributes.extend(64u32.to_ne_bytes());
    attributes.resize(40, 0);
    attributes.extend(WITHOUT_KERNEL.to_ne_bytes());
    attributes.resize(64, 0);
    Outcome::any([("this process", 0, -1), ("processor 0", -1, 0)].map(|(whom, pid, cpu)| {
        let arguments =
            [Argument::Bytes(&attributes), Argument::Number(pid), Argument::Number(cpu), Argument::Number(-1), Argument::Number(0)];
        Outcome::of(format!("perf_event_open of {whom}"), call(libc::SYS_perf_event_open, arguments))
    }))
}

pub fn keyring(_: &World) -> Outcome {
    const PROCESS_KEYRING: i64 = -2;
    let key = [
        Argument::Bytes(b"user\0"),
        Argument::Bytes(b"atoll\0"),
        Argument::Bytes(b"x"),
        Argument::Number(1),
        Argument::Number(PROCESS_KEYRING),
    ];
    Outcome::any([
        Outcome::of("add_key", call(libc::SYS_add_key, key)),
        Outcome::of("keyctl", numbers(libc::SYS_keyctl, [0, PROCESS_KEYRING, 1])),
    ])
}

pub fn host_key(world: &World, host: &Host) -> Outcome {
    const READ: i64 = 11;
    let Some(key) = host.key else { return Outcome::NotApplicable("the host has no kernel keys".into()) };
    let mut answer = [0; ROOM];
    let arguments = [Argument::Number(READ), Argument::Number(key), Argument::Room(&mut answer), Argument::Number(ROOM as i64)];
    let read = call(libc::SYS_keyctl, arguments);
    Outcome::reading("keyctl", read.map(|_| answer.to_vec()), &world.spec.secret)
}

pub fn io_uring(_: &World) -> Outcome {
    let mut parameters = [0; ROOM];
    Outcome::of("io_uring_setup", call(libc::SYS_io_uring_setup, [Argument::Number(4), Argument::Room(&mut parameters)]))
}

pub fn userfaultfd(_: &World) -> Outcome {
    const USER_MODE_ONLY: i64 = 1;
    Outcome::any([0, USER_MODE_ONLY].map(|flags| Outcome::of("userfaultfd", numbers(libc::SYS_userfaultfd, [flags]))))
}

pub fn fanotify(_: &World) -> Outcome {
    const REPORT_FID: i64 = 0x200;
    Outcome::any([0, REPORT_FID].map(|flags| Outcome::of("fanotify_init", numbers(libc::SYS_fanotify_init, [flags, 0]))))
}

#[cfg(target_arch = "x86_64")]
pub fn io_ports(_: &World) -> Outcome {
    // The port that firmware writes its progress to, which does nothing; it is not written.
    Outcome::any([Outcome::of("iopl", numbers(libc::SYS_iopl, [3])), Outcome::of("ioperm", numbers(libc::SYS_ioperm, [0x80, 1, 1]))])
}

#[cfg(target_arch = "x86_64")]
pub fn foreign_calls(_: &World) -> Outcome {
    // Whoever is not ended by this, or by there being no such gate, is past the filter.
    match getpid_of_32_bits() {
        pid if pid == i64::from(std::process::id()) => Outcome::Breached("a system call of 32-bit programs was answered".into()),
        other => Outcome::Held(format!("a system call of 32-bit programs: {other}")),
    }
}

#[cfg(not(target_arch = "x86_64"))]
pub fn io_ports(_: &World) -> Outcome {
    Outcome::NotApplicable("this architecture has no ports".into())
}

#[cfg(not(target_arch = "x86_64"))]
pub fn foreign_calls(_: &World) -> Outcome {
    Outcome::NotApplicable("this architecture has no 32-bit gate here".into())
}

pub fn rare_sockets(_: &World) -> Outcome {
    let families = [("vsock", libc::AF_VSOCK), ("alg", libc::AF_ALG), ("key", libc::AF_KEY), ("rds", libc::AF_RDS), ("can", libc::AF_CAN)];
    let kinds = [SocketType::STREAM, SocketType::SEQPACKET, SocketType::RAW];
    let tried = families.into_iter().flat_map(|(name, family)| {
        kinds.map(|kind| {
            Outcome::of(format!("a socket of {name}"), Ok(socket(AddressFamily::from_raw(family as u16), kind, None)).and_then(|s| Ok(s?)))
        })
    });
    Outcome::any(tried)
}

pub fn clock(_: &World) -> Outcome {
    // With nothing to set.
    Outcome::of("settimeofday", numbers(libc::SYS_settimeofday, [0, 0]))
}

pub fn host_name(_: &World) -> Outcome {
    let name = fs::read("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = c_string(str::from_utf8(&name).unwrap_or_default().trim());
    let arguments = [Argument::Bytes(&name), Argument::Number(name.len() as i64 - 1)];
    Outcome::of("sethostname", call(libc::SYS_sethostname, arguments))
}
