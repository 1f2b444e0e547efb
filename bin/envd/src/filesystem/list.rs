//! What is in a directory, and in the directories in it.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use atoll_wire::{
    connect::RpcError,
    filesystem::{EntryInfo, FileType},
};

use super::{entry, refusal};
use crate::{paths, users::Accounts};

/// Too many symbolic links; the standard library has no name for it yet.
const ELOOP: i32 = 40;

/// The entries of `directory`, `depth` levels of them, each directory followed by its contents; names are sorted by their bytes. A link
/// to a directory is followed when it is the one asked for, and not when it is met inside.
pub fn entries(directory: &Path, depth: u32) -> Result<Vec<EntryInfo>, RpcError> {
    let shown = directory.display();
    let names = names(directory).map_err(|error| match error.kind() {
        io::ErrorKind::NotADirectory => RpcError::invalid_argument(format!("path '{shown}' is not a directory")),
        _ if error.raw_os_error() == Some(ELOOP) => RpcError::failed_precondition(format!("path '{shown}': {error}")),
        _ => refusal(directory, &error),
    })?;
    let accounts = Accounts::read();
    let shown = paths::clean(directory);
    let mut entries = Vec::new();
    // Directories that are being listed, the innermost last, relative to the first: what is left of each, from its end.
    let mut open = vec![(PathBuf::new(), names)];
    while let Some((parent, names)) = open.last_mut() {
        let Some(name) = names.pop() else {
            open.pop();
            continue;
        };
        let relative = parent.join(name);
        let path = directory.join(&relative);
        let entry = match entry::describe(&path, &shown.join(&relative), &accounts) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            found => found.map_err(|error| broken(&path, &error))?,
        };
        let is_directory = entry.r#type == i32::from(FileType::Directory) && entry.symlink_target.is_none();
        if is_directory && open.len() < depth as usize {
            open.push((relative, self::names(&path).map_err(|error| broken(&path, &error))?));
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// The names in a directory, the last one first.
fn names(directory: &Path) -> io::Result<Vec<OsString>> {
    let mut names: Vec<_> = fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}

fn broken(path: &Path, error: &io::Error) -> RpcError {
    RpcError::internal(format!("listing '{}': {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use atoll_wire::connect::Code;

    use super::*;
    use crate::filesystem::scratch::Scratch;

    fn paths(directory: &Path, depth: u32) -> Vec<String> {
        let under = paths::clean(directory);
        let relative = |entry: EntryInfo| Path::new(&entry.path).strip_prefix(&under).unwrap().to_str().unwrap().to_owned();
        entries(directory, depth).unwrap().into_iter().map(relative).collect()
    }

    fn tree(name: &str) -> Scratch {
        let scratch = Scratch::new(name);
        for directory in ["a", "a/x", "a/x/y", "b", "Z"] {
            scratch.directory(directory);
        }
        for file in ["a.txt", "a/1", "a/x/y/deep", "b/.hidden", "é"] {
            scratch.file(file, "");
        }
        symlink("a", scratch.path("link")).unwrap();
        scratch
    }

    #[test]
    fn contents_follow_their_directory_and_bytes_decide_the_order() {
        let scratch = tree("order");
        assert_eq!(paths(scratch.root(), 1), ["Z", "a", "a.txt", "b", "link", "é"]);
        assert_eq!(paths(scratch.root(), 2), ["Z", "a", "a/1", "a/x", "a.txt", "b", "b/.hidden", "link", "é"]);
        assert_eq!(paths(scratch.root(), 9), ["Z", "a", "a/1", "a/x", "a/x/y", "a/x/y/deep", "a.txt", "b", "b/.hidden", "link", "é"]);
        assert_eq!(paths(scratch.root(), u32::MAX).len(), 11);
    }

    #[test]
    fn entries_are_shown_under_the_path_that_was_asked_for() {
        let scratch = tree("shown");
        assert_eq!(paths(&scratch.path("link"), 1), ["1", "x"]);
        // Cleaned for show only: what is behind the link is what is listed.
        symlink("a/x/y", scratch.path("far")).unwrap();
        assert_eq!(entries(&scratch.path("far/../"), 1).unwrap()[0].path, scratch.path("y").to_str().unwrap());
    }

    #[test]
    fn what_cannot_be_listed_says_why() {
        let scratch = tree("errors");
        symlink("loop", scratch.path("loop")).unwrap();
        let code = |name: &str| entries(&scratch.path(name), 1).unwrap_err().code;
        assert_eq!(code("missing"), Code::NotFound);
        assert_eq!(code("a.txt"), Code::InvalidArgument);
        assert_eq!(code("loop"), Code::FailedPrecondition);
    }
}
