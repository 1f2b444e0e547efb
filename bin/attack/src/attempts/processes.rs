//! Processes of the host, and what a process may be.

use std::{fs, sync::mpsc, thread};

use atoll_sys::raw::{Argument, call, read_memory};

use super::World;
use crate::{
    outcome::{Outcome, contains},
    spec::Host,
};

/// More than any sandbox may have.
const MANY: usize = 4096 + 256;

pub fn list(world: &World, _: &Host) -> Outcome {
    match canary(world) {
        Some(pid) => Outcome::Breached(format!("/proc/{pid}/cmdline: the canary's secret")),
        None => Outcome::Held("the canary is not among the processes in /proc".into()),
    }
}

/// The canary, as seen from here.
fn canary(world: &World) -> Option<i32> {
    let pids = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.into_iter().find(|pid| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| contains(&line, &world.spec.secret)))
}

/// Does it to the canary, if that is there to be done to.
fn to_canary(world: &World, act: impl FnOnce(i32) -> Outcome) -> Outcome {
    match canary(world) {
        Some(pid) => act(pid),
        None => Outcome::Held("the canary is not in sight".into()),
    }
}

pub fn memory(world: &World, _: &Host) -> Outcome {
    to_canary(world, |pid| {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps"));
        let address = maps.as_ref().ok().and_then(|maps| usize::from_str_radix(maps.split('-').next()?, 16).ok()).unwrap_or(0x40_0000);
        let mut bytes = [0; 64];
        Outcome::any([
            Outcome::of("opening its mem", fs::File::open(format!("/proc/{pid}/mem"))),
            Outcome::of("process_vm_readv", read_memory(pid, address, &mut bytes)),
            Outcome::reading("reading its environment", fs::read(format!("/proc/{pid}/environ")), &world.spec.secret),
        ])
    })
}

pub fn trace(world: &World, _: &Host) -> Outcome {
    const SEIZE: i64 = 0x4206;
    to_canary(world, |pid| Outcome::of("ptrace", call(libc::SYS_ptrace, [SEIZE, pid.into(), 0, 0].map(Argument::Number))))
}

pub fn signal(world: &World, _: &Host) -> Outcome {
    to_canary(world, |pid| Outcome::of("kill", call(libc::SYS_kill, [pid.into(), 0].map(Argument::Number))))
}

pub fn descriptors(world: &World, _: &Host) -> Outcome {
    to_canary(world, |pid| {
        let stolen = call(libc::SYS_pidfd_open, [pid.into(), 0].map(Argument::Number))
            .and_then(|pidfd| call(libc::SYS_pidfd_getfd, [pidfd, 0, 0].map(Argument::Number)));
        Outcome::of("pidfd_getfd", stolen)
    })
}

pub fn root(world: &World, host: &Host) -> Outcome {
    to_canary(world, |pid| {
        let path = format!("/proc/{pid}/root{}", host.file.display());
        Outcome::reading(&path, fs::read(&path), &world.spec.secret)
    })
}

pub fn namespaces(world: &World, _: &Host) -> Outcome {
    to_canary(world, |pid| {
        Outcome::any(["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"].map(|kind| {
            let entered = fs::File::open(format!("/proc/{pid}/ns/{kind}")).and_then(|namespace| {
                let fd = std::os::fd::AsRawFd::as_raw_fd(&namespace);
                call(libc::SYS_setns, [fd.into(), 0].map(Argument::Number))
            });
            Outcome::of(format!("entering its {kind} namespace"), entered)
        }))
    })
}

pub fn identity(_: &World) -> Outcome {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let fields: Vec<u64> = map.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    match fields[..] {
        [inside, outside, length] if inside <= outside && outside > 0 && length < u64::from(u32::MAX) => {
            Outcome::Held(format!("root here is user {outside} there"))
        }
        _ => Outcome::Breached(format!("root here is root there: the map of user ids is {}", map.trim())),
    }
}

pub fn limit(_: &World) -> Outcome {
    let mut waiting = Vec::new();
    let error = loop {
        let (hold, released) = mpsc::channel::<()>();
        // The end of the sender is the end of the thread.
        let started = thread::Builder::new().stack_size(16 << 10).spawn(move || released.recv());
        match started {
            Ok(_) => waiting.push(hold),
            Err(e) => break e,
        }
        if waiting.len() == MANY {
            return Outcome::Breached(format!("{MANY} threads at once"));
        }
    };
    Outcome::Held(format!("thread {}: {error}", waiting.len() + 1))
}

pub fn priority(_: &World) -> Outcome {
    let arguments = [Argument::Number(0), Argument::Number(libc::SCHED_FIFO.into()), Argument::Bytes(&[1, 0, 0, 0])];
    Outcome::of("sched_setscheduler", call(libc::SYS_sched_setscheduler, arguments))
}

pub fn oom(_: &World) -> Outcome {
    Outcome::of("lowering the own oom_score_adj", fs::write("/proc/self/oom_score_adj", "-1000"))
}
