//! Making, moving and removing.

use std::{fs, io, path::Path};

use atoll_wire::{connect::RpcError, filesystem::EntryInfo};

use super::{entry, refusal};
use crate::{paths, users::User};

/// Makes a directory and those above it.
pub fn make_directory(path: &Path, user: &User) -> Result<EntryInfo, RpcError> {
    let shown = path.display();
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Err(RpcError::already_exists(format!("directory '{shown}' already exists"))),
        Ok(_) => return Err(RpcError::invalid_argument(format!("path '{shown}' exists and is not a directory"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(refusal(path, &error)),
    }
    let made = paths::ensure_directory(path, user).and_then(|()| entry::at(path));
    made.map_err(|error| RpcError::internal(format!("making directory '{shown}': {error}")))
}

/// Moves something to its final name, over a file that has it, but never over a directory.
pub fn rename(source: &Path, destination: &Path, user: &User) -> Result<EntryInfo, RpcError> {
    let shown = format!("moving '{}' to '{}'", source.display(), destination.display());
    let internal = |error: io::Error| RpcError::internal(format!("{shown}: {error}"));
    fs::symlink_metadata(source).map_err(|error| refusal(source, &error))?;
    paths::ensure_parents(destination, user).map_err(internal)?;
    if fs::symlink_metadata(destination).is_ok_and(|found| found.is_dir()) {
        return Err(internal(io::ErrorKind::AlreadyExists.into()));
    }
    fs::rename(source, destination).and_then(|()| entry::at(destination)).map_err(internal)
}

/// Removes whatever is there with all that is in it; nothing there is as good. Links are removed, not followed.
pub fn remove(path: &Path) -> Result<(), RpcError> {
    // With a slash behind it, the name of a link would mean the directory that it leads to.
    let path = path.components().as_path();
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => atoll_sys::fs::remove_tree(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(RpcError::internal(format!("removing '{}': {error}", path.display()))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use atoll_wire::connect::Code;

    use super::*;
    use crate::filesystem::scratch::Scratch;

    /// Whoever runs the test.
    fn user(scratch: &Scratch) -> User {
        let owner = fs::metadata(scratch.root()).unwrap();
        User { name: "me".into(), uid: owner.uid(), gid: owner.gid(), groups: vec![], home: "/".into(), shell: "/bin/sh".into() }
    }

    #[test]
    fn a_directory_is_made_once() {
        let scratch = Scratch::new("make");
        let make = |name: &str| make_directory(&scratch.path(name), &user(&scratch)).map_err(|error| error.code);
        assert_eq!(make("a/b/c").unwrap().permissions, "drwxr-xr-x");
        assert_eq!(make("a/b/c").unwrap_err(), Code::AlreadyExists);
        scratch.file("file", "");
        assert_eq!(make("file").unwrap_err(), Code::InvalidArgument);
        assert_eq!(make("file/below").unwrap_err(), Code::Internal);
    }

    #[test]
    fn a_move_replaces_files_and_never_directories() {
        let scratch = Scratch::new("move");
        let rename = |from: &str, to: &str| super::rename(&scratch.path(from), &scratch.path(to), &user(&scratch));
        let code = |from: &str, to: &str| rename(from, to).unwrap_err().code;
        scratch.file("a", "new");
        scratch.file("b", "old");
        scratch.directory("empty");
        scratch.directory("full");
        assert_eq!(rename("a", "b").unwrap().name, "b");
        assert_eq!(fs::read_to_string(scratch.path("b")).unwrap(), "new");
        assert_eq!(rename("b", "new/place/b").unwrap().path, scratch.path("new/place/b").to_str().unwrap());
        scratch.file("c", "");
        assert_eq!(code("missing", "c"), Code::NotFound);
        assert_eq!(code("missing", "empty"), Code::NotFound);
        assert_eq!(code("c", "empty"), Code::Internal);
        assert_eq!(code("full", "empty"), Code::Internal);
        assert_eq!(code("full", "c"), Code::Internal);
        assert!(!scratch.path("elsewhere").exists() && rename("missing", "elsewhere/x").is_err() && !scratch.path("elsewhere").exists());
    }

    #[test]
    fn removing_takes_links_not_their_targets_and_forgives_absence() {
        let scratch = Scratch::new("remove");
        scratch.directory("kept");
        scratch.file("kept/file", "");
        scratch.directory("gone/deep");
        symlink("../kept", scratch.path("gone/link")).unwrap();
        symlink("kept", scratch.path("link")).unwrap();
        for name in ["gone", "gone", "link/", "missing/below"] {
            remove(&scratch.path(name)).unwrap();
            assert!(fs::symlink_metadata(scratch.path(name.trim_end_matches('/'))).is_err());
        }
        assert!(scratch.path("kept/file").exists());
        assert_eq!(remove(&scratch.path("kept/file/below")).unwrap_err().code, Code::Internal);
    }
}
