//! By what the things of one daemon are told from those of another on the same host: a tag made from its data directory.

use std::{
    fs,
    path::{Path, PathBuf},
};

use atoll_node::slots::Instance;
use sha2::{Digest as _, Sha256};

/// Where the daemons of a host keep the locks by which they share it.
pub const RUN_DIR: &str = "/run/atoll";

/// The tag of the daemon with this data directory, which is a canonical path.
pub fn of(data: &Path) -> Instance {
    use std::os::unix::ffi::OsStrExt as _;
    let digest = Sha256::digest(data.as_os_str().as_bytes());
    let tag: String = digest[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    tag.parse().expect("eight hexadecimal digits are a tag")
}

/// The cgroup below which it has one for each sandbox.
pub fn cgroup(instance: &Instance) -> String {
    format!("atoll-{instance}")
}

/// Its cgroups in every hierarchy, the outer before the inner.
pub fn cgroups(instance: &Instance) -> Vec<PathBuf> {
    below(Path::new("/sys/fs/cgroup"), &cgroup(instance), 2)
}

/// Removes its cgroups that hold nothing.
pub fn remove_empty_cgroups(instance: &Instance) {
    for group in cgroups(instance).iter().rev() {
        // The kernel keeps those in use.
        let _ = fs::remove_dir(group);
    }
}

/// The directories called `name`, at most `depth` further down than `dir`'s own, each followed by what is in it.
fn below(dir: &Path, name: &str, depth: u32) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for child in children(dir) {
        if child.file_name().is_some_and(|found| found == name) {
            let inner = children(&child);
            found.push(child);
            found.extend(inner);
        } else if depth > 0 {
            found.extend(below(&child, name, depth - 1));
        }
    }
    found
}

fn children(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn a_data_directory_has_one_tag() {
        assert_eq!(of(Path::new("/var/lib/atoll")), of(Path::new("/var/lib/atoll")));
        assert_ne!(of(Path::new("/var/lib/atoll")), of(Path::new("/var/lib/atoll2")));
    }

    #[test]
    fn cgroups_are_found_in_every_hierarchy() {
        let scratch = Scratch::new("cgroups");
        for dir in ["memory/atoll-x/i1", "unified/atoll-x", "pids/a/b/atoll-x"] {
            fs::create_dir_all(scratch.path().join(dir)).unwrap();
        }
        let mut found: Vec<_> =
            below(scratch.path(), "atoll-x", 1).iter().map(|dir| dir.strip_prefix(scratch.path()).unwrap().to_owned()).collect();
        found.sort();
        assert_eq!(found, ["memory/atoll-x", "memory/atoll-x/i1", "unified/atoll-x"].map(PathBuf::from));
    }
}
