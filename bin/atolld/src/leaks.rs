//! `atolld leaks`: what a daemon has on its host. Once it has ended and its sandboxes with it, that must be nothing.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use atoll_node::slots;
use atoll_sys::loop_device;
use serde::Serialize;

use crate::{instance, print};

/// Something that is there.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Trace {
    /// process, cgroup, link, table, lock, mount, loop or directory.
    pub kind: &'static str,
    /// Which.
    pub what: String,
}

/// Everything that the daemon with this data directory has on the host.
pub fn find(data_dir: &Path) -> Result<Vec<Trace>> {
    let data = data_dir.canonicalize().unwrap_or(data_dir.to_owned());
    let instance = instance::of(&data);
    let mut found = BTreeSet::new();
    for leftover in slots::leftovers(Path::new(instance::RUN_DIR), &instance)? {
        let kind = match leftover.split(' ').next() {
            Some("interface") => "link",
            Some("table") => "table",
            _ => "lock",
        };
        found.insert(Trace { kind, what: leftover });
    }
    let sandboxes = data.join("sandboxes");
    found.extend(names(&sandboxes).into_iter().map(|name| trace("directory", sandboxes.join(name))));
    for group in instance::cgroups(&instance) {
        found.extend(pids(&group).into_iter().map(process));
        found.insert(trace("cgroup", group));
    }
    for (device, file) in loop_device::showing_files_in(&data)? {
        found.insert(Trace { kind: "loop", what: format!("{device} {}", file.display()) });
    }
    let ours = format!("{}/", sandboxes.display());
    found.extend(mounts("self").filter(|line| line.contains(&ours)).map(|what| Trace { kind: "mount", what }));
    let all = names(Path::new("/proc")).into_iter().filter(|name| name.bytes().all(|b| b.is_ascii_digit()));
    found.extend(all.filter(|pid| *pid != std::process::id().to_string() && mounts(pid).any(|line| line.contains(&ours))).map(process));
    Ok(found.into_iter().collect())
}

/// Prints what was found; whether that was nothing.
pub fn report(found: &[Trace], json: bool) -> Result<bool> {
    print(&match json {
        true => serde_json::to_string_pretty(found)? + "\n",
        false => found.iter().map(|Trace { kind, what }| format!("{kind}: {what}\n")).collect(),
    })?;
    Ok(found.is_empty())
}

fn trace(kind: &'static str, path: PathBuf) -> Trace {
    Trace { kind, what: path.display().to_string() }
}

fn process(pid: String) -> Trace {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Trace { kind: "process", what: format!("{pid} {}", name.trim()) }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The lines of a process's mount table; none if it has ended.
fn mounts(pid: &str) -> impl Iterator<Item = String> + use<> {
    let table = fs::read(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    let lines: Vec<_> = table.split(|b| *b == b'\n').map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    lines.into_iter()
}

fn pids(group: &Path) -> Vec<String> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn processes_are_named() {
        let scratch = Scratch::new("leaks");
        fs::write(scratch.path().join("cgroup.procs"), format!("{}\n", std::process::id())).unwrap();
        let pids = pids(scratch.path());
        assert_eq!(pids, [std::process::id().to_string()]);
        assert!(process(pids[0].clone()).what.len() > pids[0].len() + 1);
        assert!(mounts("self").any(|line| line.contains(" / ")) && mounts("0").count() == 1);
    }
}
