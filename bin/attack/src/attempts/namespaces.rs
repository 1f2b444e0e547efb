//! New namespaces, in which one would have rights over code that few have reviewed.

use std::io;

use atoll_sys::raw::{Argument, call};

use super::{World, mounts::mount};
use crate::outcome::Outcome;

pub fn unshare(flags: i32) -> io::Result<i64> {
    call(libc::SYS_unshare, [Argument::Number(flags.into())])
}

pub fn user(_: &World) -> Outcome {
    Outcome::of("unshare", unshare(libc::CLONE_NEWUSER))
}

pub fn mount_in_user(world: &World) -> Outcome {
    let kinds = [("tmpfs", ""), ("overlay", "lowerdir=/usr:/etc"), ("proc", "")];
    // The first makes the namespaces; the others are in them.
    let entered = unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS);
    match entered {
        Err(e) => Outcome::Held(format!("unshare: {e}")),
        Ok(_) => Outcome::any(kinds.map(|(kind, options)| Outcome::of(format!("mounting {kind}"), mount(world, kind, 0, options)))),
    }
}

pub fn network_in_user(_: &World) -> Outcome {
    Outcome::of("unshare", unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET))
}

pub fn others(_: &World) -> Outcome {
    let kinds = [
        ("mount", libc::CLONE_NEWNS),
        ("pid", libc::CLONE_NEWPID),
        ("network", libc::CLONE_NEWNET),
        ("ipc", libc::CLONE_NEWIPC),
        ("uts", libc::CLONE_NEWUTS),
        ("cgroup", libc::CLONE_NEWCGROUP),
        ("time", libc::CLONE_NEWTIME),
    ];
    Outcome::any(kinds.map(|(kind, flag)| Outcome::of(format!("a {kind} namespace"), unshare(flag))))
}
