//! Mounts, the old calls and the new.

use std::{io, os::fd::AsRawFd as _};

use atoll_sys::raw::{Argument, call};

use super::{World, scratch};
use crate::{host::c_string, outcome::Outcome};

/// Mounts `kind` somewhere.
pub fn mount(world: &World, kind: &str, flags: u64, options: &str) -> io::Result<std::path::PathBuf> {
    let dir = scratch(world)?;
    let (kind, at, options) = (c_string(kind), c_string(&dir.to_string_lossy()), c_string(options));
    let arguments =
        [Argument::Bytes(&kind), Argument::Bytes(&at), Argument::Bytes(&kind), Argument::Number(flags as i64), Argument::Bytes(&options)];
    call(libc::SYS_mount, arguments).map(|_| dir)
}

pub fn plain(world: &World) -> Outcome {
    Outcome::any(["tmpfs", "sysfs", "mqueue", "ramfs"].map(|kind| Outcome::of(format!("mounting {kind}"), mount(world, kind, 0, ""))))
}

pub fn bind(world: &World) -> Outcome {
    Outcome::any(["/", "/proc", "/dev"].map(|from| Outcome::of(format!("binding {from}"), mount(world, from, libc::MS_BIND, ""))))
}

pub fn overlay(world: &World) -> Outcome {
    Outcome::of("mounting an overlay", mount(world, "overlay", 0, "lowerdir=/usr:/etc"))
}

pub fn proc(world: &World) -> Outcome {
    Outcome::of("mounting /proc anew, with nothing hidden", mount(world, "proc", 0, ""))
}

pub fn devtmpfs(world: &World) -> Outcome {
    Outcome::any(
        ["devtmpfs", "debugfs", "tracefs", "securityfs", "bpf", "binfmt_misc"]
            .map(|kind| Outcome::of(format!("mounting {kind}"), mount(world, kind, 0, ""))),
    )
}

pub fn remount(_: &World) -> Outcome {
    Outcome::any(["/proc/sys", "/proc/sysrq-trigger", "/sys", "/proc"].map(|path| {
        let at = c_string(path);
        let arguments = [
            Argument::Number(0),
            Argument::Bytes(&at),
            Argument::Number(0),
            Argument::Number((libc::MS_REMOUNT | libc::MS_BIND) as i64),
            Argument::Number(0),
        ];
        Outcome::of(format!("making {path} writable"), call(libc::SYS_mount, arguments))
    }))
}

pub fn unmask(_: &World) -> Outcome {
    Outcome::any(["/proc/kcore", "/proc/sys", "/sys/firmware"].map(|path| {
        let at = c_string(path);
        Outcome::of(
            format!("uncovering {path}"),
            call(libc::SYS_umount2, [Argument::Bytes(&at), Argument::Number(libc::MNT_DETACH.into())]),
        )
    }))
}

fn open_tree() -> io::Result<i64> {
    const CLONE: i64 = 1;
    call(libc::SYS_open_tree, [Argument::Number(libc::AT_FDCWD.into()), Argument::Bytes(b"/\0"), Argument::Number(CLONE)])
}

pub fn detached(_: &World) -> Outcome {
    Outcome::any([
        Outcome::of("fsopen", call(libc::SYS_fsopen, [Argument::Bytes(b"tmpfs\0"), Argument::Number(0)])),
        Outcome::of("open_tree", open_tree()),
        Outcome::gate("fsmount", call(libc::SYS_fsmount, [-1, 0, 0].map(Argument::Number)), &[libc::EBADF]),
        Outcome::gate(
            "move_mount",
            call(
                libc::SYS_move_mount,
                [Argument::Number(-1), Argument::Bytes(b"\0"), Argument::Number(-1), Argument::Bytes(b"\0"), Argument::Number(0)],
            ),
            &[libc::EBADF, libc::ENOENT],
        ),
    ])
}

pub fn idmapped(_: &World) -> Outcome {
    const IDMAP: u64 = 0x10_0000;
    let map = std::fs::File::open("/proc/self/ns/user").and_then(|users| {
        let tree = open_tree().unwrap_or(libc::AT_FDCWD.into());
        let attributes: Vec<u8> = [IDMAP, 0, 0, users.as_raw_fd() as u64].iter().flat_map(|word| word.to_ne_bytes()).collect();
        let arguments = [
            Argument::Number(tree),
            Argument::Bytes(b"\0"),
            Argument::Number(libc::AT_EMPTY_PATH.into()),
            Argument::Bytes(&attributes),
            Argument::Number(attributes.len() as i64),
        ];
        call(libc::SYS_mount_setattr, arguments)
    });
    Outcome::of("mount_setattr", map)
}

pub fn pivot(_: &World) -> Outcome {
    // `/proc` is a mount, but not one that the root can be put below.
    let pivoted = call(libc::SYS_pivot_root, [Argument::Bytes(b"/proc\0"), Argument::Bytes(b"/tmp\0")]);
    Outcome::gate("pivot_root", pivoted, &[libc::EINVAL, libc::EBUSY])
}
