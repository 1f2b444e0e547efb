//! Control groups: the classic way out, and the own limits.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{World, mounts::mount, namespaces::unshare, none_of, writable};
use crate::outcome::Outcome;

const CONTROLLERS: [&str; 7] = ["rdma", "memory", "cpu", "devices", "pids", "freezer", "blkio"];

/// Mounts a v1 hierarchy and opens the file that names a program which the host would run.
fn open_release_agent(world: &World, controller: &str) -> io::Result<()> {
    let at = mount(world, "cgroup", 0, controller)?;
    fs::OpenOptions::new().write(true).open(at.join("release_agent")).map(drop)
}

pub fn release_agent(world: &World) -> Outcome {
    Outcome::any(CONTROLLERS.map(|controller| Outcome::of(format!("release_agent of {controller}"), open_release_agent(world, controller))))
}

/// CVE-2022-0492.
pub fn release_agent_in_user_namespace(world: &World) -> Outcome {
    match unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWCGROUP) {
        Err(e) => Outcome::Held(format!("unshare: {e}")),
        Ok(_) => release_agent(world),
    }
}

pub fn files(_: &World) -> Outcome {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let cgroups = mounts.lines().filter_map(|line| line.split_once(" - ")).filter(|(_, fs)| fs.starts_with("cgroup"));
    let roots: Vec<PathBuf> = cgroups.filter_map(|(mount, _)| mount.split(' ').nth(4)).map(PathBuf::from).collect();
    let roots = roots.into_iter().chain([PathBuf::from("/sys/fs/cgroup")]);
    let hits: Vec<String> = roots
        .flat_map(|root| {
            let entries = fs::read_dir(&root).into_iter().flatten().flatten().map(|entry| entry.path());
            // Above it, and beside it.
            let others = ["../cgroup.procs", "cgroup.procs", "memory.max", "pids.max", "release_agent", "notify_on_release"];
            entries.chain(others.map(|name| root.join(name))).filter_map(|path: PathBuf| writable(Path::new(&path))).collect::<Vec<_>>()
        })
        .collect();
    none_of("writable files of control groups", &hits)
}
