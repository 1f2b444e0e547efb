//! How the paths that clients send become paths of the sandbox, and who owns the directories made on the way.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, chown},
    path::{Component, Path, PathBuf},
};

use crate::users::User;

/// Why a path a client sent is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// `~name`: other users' homes are not looked up.
    #[error("cannot resolve '{path}': only '~' and '~/...' are expanded, not the home of another user")]
    OtherHome {
        /// What was sent.
        path: String,
    },
    /// No path of a file system holds a NUL byte.
    #[error("a path cannot contain a NUL byte")]
    Nul,
}

/// Resolves a path for `user`. Empty means the default workdir, or the home without one; `~` is the home; an absolute path is taken
/// verbatim; anything else is relative to the home and cleaned.
pub fn resolve(path: &str, user: &User, default_workdir: Option<&str>) -> Result<PathBuf, PathError> {
    if path.contains('\0') {
        return Err(PathError::Nul);
    }
    let path = if path.is_empty() { default_workdir.unwrap_or_default() } else { path };
    let relative = match path.strip_prefix('~') {
        None if path.starts_with('/') => return Ok(path.into()),
        None => path,
        Some(rest) if rest.is_empty() || rest.starts_with('/') => rest.trim_start_matches('/'),
        Some(_) => return Err(PathError::OtherHome { path: path.into() }),
    };
    Ok(clean(&user.home.join(relative)))
}

/// An absolute path without `.`, `..` and doubled slashes, by its text alone: links are not followed.
pub fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => cleaned.push(name),
            Component::ParentDir => drop(cleaned.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    cleaned
}

/// Makes every missing directory above `path`; the new ones belong to `user`.
pub fn ensure_parents(path: &Path, user: &User) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| ensure_directory(parent, user))
}

/// Makes `path` and every missing directory above it, mode 0755 less the umask; the new ones belong to `user`, existing ones stay as
/// they are. Fails with [`io::ErrorKind::NotADirectory`] where something else is in the way.
pub fn ensure_directory(path: &Path, user: &User) -> io::Result<()> {
    let mut made = PathBuf::new();
    for component in path.components() {
        made.push(component);
        match fs::metadata(&made) {
            Ok(found) if found.is_dir() => continue,
            Ok(_) => return Err(io::ErrorKind::NotADirectory.into()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        match fs::DirBuilder::new().mode(0o755).create(&made) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            Ok(()) | Err(_) => chown(&made, Some(user.uid), Some(user.gid))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> User {
        User { name: "user".into(), uid: 1000, gid: 1000, groups: vec![1000], home: "/home/user".into(), shell: "/bin/sh".into() }
    }

    #[test]
    fn paths_resolve_as_the_clients_expect() {
        let cases = [
            ("", "/home/user"),
            ("~", "/home/user"),
            ("~/x", "/home/user/x"),
            ("~//x/../y/", "/home/user/y"),
            ("a/b", "/home/user/a/b"),
            ("./a//b/.", "/home/user/a/b"),
            ("../../etc", "/etc"),
            ("../../../../..", "/"),
            ("a~", "/home/user/a~"),
        ];
        for (sent, expected) in cases {
            assert_eq!(resolve(sent, &user(), None).unwrap(), Path::new(expected), "{sent:?}");
        }
    }

    #[test]
    fn absolute_paths_are_not_normalised() {
        assert_eq!(resolve("/a/../b//c/", &user(), Some("/w")).unwrap().as_os_str(), "/a/../b//c/");
    }

    #[test]
    fn the_default_workdir_replaces_only_an_empty_path() {
        assert_eq!(resolve("", &user(), Some("/code")).unwrap(), Path::new("/code"));
        assert_eq!(resolve("x", &user(), Some("/code")).unwrap(), Path::new("/home/user/x"));
        assert_eq!(resolve("", &user(), Some("project")).unwrap(), Path::new("/home/user/project"));
    }

    #[test]
    fn other_homes_and_nul_bytes_are_refused() {
        for sent in ["~root", "~root/x", "~~"] {
            assert_eq!(resolve(sent, &user(), None), Err(PathError::OtherHome { path: sent.into() }));
        }
        assert_eq!(resolve("/a\0b", &user(), None), Err(PathError::Nul));
    }

    #[test]
    fn directories_are_made_once_and_files_are_in_the_way() {
        let dir = std::env::temp_dir().join(format!("envd-paths-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let owner = fs::metadata(&dir).unwrap();
        let user = User { uid: std::os::unix::fs::MetadataExt::uid(&owner), gid: std::os::unix::fs::MetadataExt::gid(&owner), ..user() };
        ensure_parents(&dir.join("a/b/c"), &user).unwrap();
        assert!(dir.join("a/b").is_dir() && !dir.join("a/b/c").exists());
        ensure_directory(&dir.join("a/b"), &user).unwrap();
        fs::write(dir.join("file"), "").unwrap();
        assert_eq!(ensure_parents(&dir.join("file/x/y"), &user).unwrap_err().kind(), io::ErrorKind::NotADirectory);
        fs::remove_dir_all(&dir).unwrap();
    }
}
