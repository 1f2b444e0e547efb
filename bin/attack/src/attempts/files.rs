//! Files of the host.

use std::{
    fs,
    io::{self, Read as _},
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
};

use atoll_sys::raw::{Argument, call};

use super::{World, scratch};
use crate::{
    outcome::Outcome,
    spec::{Handle, Host},
};

pub fn by_path(world: &World, host: &Host) -> Outcome {
    let file = host.file.display();
    let paths = [
        format!("{file}"),
        format!("/proc/1/root{file}"),
        format!("/proc/self/root{file}"),
        format!("/proc/1/cwd{}{file}", "/..".repeat(32)),
        format!("/proc/thread-self/cwd{}{file}", "/..".repeat(32)),
    ];
    let direct = paths.map(|path| Outcome::reading(&path, fs::read(&path), &world.spec.secret));
    let through_link = scratch(world).and_then(|dir| {
        let link = dir.join("link");
        std::os::unix::fs::symlink(format!("/proc/self/fd/../root{file}"), &link)?;
        fs::read(link)
    });
    Outcome::any(direct.into_iter().chain([Outcome::reading("a link through /proc/self/fd", through_link, &world.spec.secret)]))
}

/// Opens a file by its handle on whatever file system `mount` is on.
pub fn open_handle(mount: &Path, handle: &Handle) -> io::Result<i64> {
    let mount = fs::File::open(mount)?;
    let fd = Argument::Number(mount.as_raw_fd().into());
    call(libc::SYS_open_by_handle_at, [fd, Argument::Bytes(&handle.0), Argument::Number(libc::O_RDONLY.into())])
}

pub fn by_handle(world: &World, host: &Host) -> Outcome {
    let Some(handle) = &host.handle else { return Outcome::NotApplicable("the host's file system has no handles".into()) };
    Outcome::any(["/", "/etc/hostname", "/dev/null", "/dev", "/proc", "/proc/1/exe"].map(|mount| {
        let read = open_handle(Path::new(mount), handle).and_then(|fd| fs::read(format!("/proc/self/fd/{fd}")));
        Outcome::reading(format!("open_by_handle_at({mount})"), read, &world.spec.secret)
    }))
}

pub fn by_descriptor(world: &World, host: &Host) -> Outcome {
    let up = format!("{}{}", "/..".repeat(32), host.file.display());
    let open = ["self", "1"].iter().flat_map(|pid| {
        let dir = PathBuf::from(format!("/proc/{pid}/fd"));
        fs::read_dir(&dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect::<Vec<_>>()
    });
    Outcome::any(open.map(|fd| {
        let path = format!("{}{up}", fd.display());
        Outcome::reading(format!("from {} upwards", fd.display()), fs::read(&path), &world.spec.secret)
    }))
}

pub fn chroot(world: &World, host: &Host) -> Outcome {
    let escape = || {
        let dir = scratch(world)?;
        let outside = fs::File::open("/")?;
        rustix::process::chroot(&dir)?;
        rustix::process::fchdir(&outside)?;
        for _ in 0..64 {
            rustix::process::chdir("..")?;
        }
        rustix::process::chroot(".")?;
        let mut secret = Vec::new();
        fs::File::open(&host.file)?.read_to_end(&mut secret)?;
        Ok(secret)
    };
    Outcome::reading("chroot, and up from the old root", escape(), &world.spec.secret)
}

/// The program of the first process is a file of the host, shared by all sandboxes.
pub fn agent_program(_: &World) -> Outcome {
    let exe = "/proc/1/exe";
    let through_descriptor = fs::File::open(exe).and_then(|file| {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        fs::OpenOptions::new().write(true).open(path)
    });
    let mode = fs::metadata(exe).and_then(|metadata| fs::set_permissions(exe, metadata.permissions()));
    Outcome::any([
        Outcome::gate("writing to it", fs::OpenOptions::new().write(true).open(exe), &[libc::ETXTBSY]),
        Outcome::gate("writing to it through a descriptor", through_descriptor, &[libc::ETXTBSY]),
        Outcome::of("changing its mode", mode),
    ])
}
