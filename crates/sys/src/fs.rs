//! What the standard library does not do with file systems.

use std::{
    ffi::{CStr, CString},
    fs::File,
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::FileExt,
    },
    path::Path,
};

use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, SeekFrom, fstat, openat, statat, unlinkat},
    io::Errno,
};

/// A flag for opening files: a FIFO without another side is empty or an error at once, instead of a wait for that side.
pub const NONBLOCK: i32 = libc::O_NONBLOCK;

/// The magic number of the file system that holds `path` (symlinks are followed); see statfs(2).
pub fn magic(path: &Path) -> io::Result<u32> {
    // The kernel's numbers have 32 bits; the field that carries them is wider, and signed, on some machines.
    Ok(rustix::fs::statfs(path)?.f_type as u32)
}

/// A new file in the file system of `dir` that has no name and is gone when it is closed, unless [`name`] names it.
pub fn nameless(dir: &Path) -> io::Result<File> {
    Ok(rustix::fs::open(dir, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR)?.into())
}

/// Gives a file from [`nameless`] its name.
pub fn name(file: &File, path: &Path) -> io::Result<()> {
    let open = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(rustix::fs::linkat(CWD, open, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

/// Makes `to`, an empty file, equal to `from`, on whatever file system. What is a hole in `from` stays one.
pub fn copy_sparse(from: &File, to: &File) -> io::Result<()> {
    let length = from.metadata()?.len();
    to.set_len(length)?;
    let (mut at, mut chunk) = (0, vec![0; 64 << 10]);
    while at < length {
        at = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            // Only holes follow.
            Err(Errno::NXIO) => return Ok(()),
            found => found?,
        };
        let end = rustix::fs::seek(from, SeekFrom::Hole(at))?;
        while at < end {
            let most = usize::try_from(end - at).map_or(chunk.len(), |left| left.min(chunk.len()));
            let read = from.read_at(&mut chunk[..most], at)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            to.write_all_at(&chunk[..read], at)?;
            at += read as u64;
        }
    }
    Ok(())
}

/// Removes a directory with everything in it. Symlinks are removed, never followed, not even when they replace a directory meanwhile.
/// Unlike the standard library's, it takes trees of any depth, with one descriptor and without recursion.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let top = open(CWD, path)?;
    let mut above: Vec<Level> = Vec::new();
    let mut level = Level::empty(&top, CString::default())?;
    let mut here = top;
    loop {
        if let Some(name) = level.directories.pop() {
            match open(&here, name.as_c_str()) {
                Ok(inside) => {
                    above.push(level);
                    level = Level::empty(&inside, name)?;
                    here = inside;
                }
                // Somebody put something else in its place.
                Err(Errno::NOTDIR | Errno::LOOP) => gone(unlinkat(&here, name, AtFlags::empty()))?,
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
            continue;
        }
        let Some(parent) = above.pop() else { break };
        here = open(&here, c"..")?;
        if identity(&here)? != parent.identity {
            return Err(io::Error::other("a directory was moved while it was being removed"));
        }
        gone(unlinkat(&here, level.name, AtFlags::REMOVEDIR))?;
        level = parent;
    }
    Ok(gone(unlinkat(CWD, path, AtFlags::REMOVEDIR))?)
}

/// A directory that is being removed, of whose entries only directories are left.
struct Level {
    name: CString,
    identity: (u64, u64),
    directories: Vec<CString>,
}

impl Level {
    fn empty(directory: &OwnedFd, name: CString) -> rustix::io::Result<Self> {
        let mut directories = Vec::new();
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            if is_directory(directory, name, entry.file_type())? {
                directories.push(name.to_owned());
            } else {
                gone(unlinkat(directory, name, AtFlags::empty()))?;
            }
        }
        Ok(Self { name, identity: identity(directory)?, directories })
    }
}

fn is_directory(parent: &OwnedFd, name: &CStr, kind: FileType) -> rustix::io::Result<bool> {
    if kind != FileType::Unknown {
        return Ok(kind == FileType::Directory);
    }
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(FileType::from_raw_mode(found.st_mode) == FileType::Directory),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

fn open(parent: impl std::os::fd::AsFd, path: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    openat(parent, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

fn identity(directory: &OwnedFd) -> rustix::io::Result<(u64, u64)> {
    let found = fstat(directory)?;
    Ok((found.st_dev, found.st_ino))
}

/// Whether something was removed by us or by somebody else is all the same.
fn gone(removed: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match removed {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt, symlink},
        path::PathBuf,
    };

    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("atoll-fs-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        path
    }

    #[test]
    fn proc_is_known_by_its_number() {
        assert_eq!(magic(Path::new("/proc")).unwrap(), 0x9fa0);
    }

    #[test]
    fn a_missing_path_is_said_so() {
        for error in [magic(Path::new("/no/such/path")).unwrap_err(), remove_tree(Path::new("/no/such/path")).unwrap_err()] {
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
        }
    }

    #[test]
    fn a_tree_goes_and_what_its_links_lead_to_stays() {
        let path = scratch("tree");
        fs::create_dir_all(path.join("kept")).unwrap();
        fs::write(path.join("kept/file"), "").unwrap();
        for directory in ["gone/a/b", "gone/a/c/d", "gone/e"] {
            fs::create_dir_all(path.join(directory)).unwrap();
            fs::write(path.join(directory).join("file"), "").unwrap();
            symlink("/", path.join(directory).join("root")).unwrap();
            symlink(path.join("kept"), path.join(directory).join("link")).unwrap();
        }
        remove_tree(&path.join("gone")).unwrap();
        assert!(!path.join("gone").exists() && path.join("kept/file").exists());

        symlink("kept", path.join("link")).unwrap();
        assert!(remove_tree(&path.join("link")).is_err());
        assert!(remove_tree(&path.join("kept/file")).is_err());
        assert!(path.join("kept/file").exists());
        remove_tree(&path).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_sparse_copy_is_equal_and_sparse() {
        let path = scratch("sparse");
        let (from, to) = (nameless(&path).unwrap(), nameless(&path).unwrap());
        from.set_len(64 << 20).unwrap();
        for (at, byte) in [(0, 1), (20 << 20, 2), (40 << 20, 3)] {
            from.write_all_at(&[byte; 5000], at).unwrap();
        }
        copy_sparse(&from, &to).unwrap();
        let read = |file: &File, at| {
            let mut bytes = [9; 5001];
            file.read_exact_at(&mut bytes, at).unwrap();
            bytes
        };
        for at in [0, 10 << 20, 20 << 20, 40 << 20, (64 << 20) - 5001] {
            assert_eq!(read(&from, at), read(&to, at), "at {at}");
        }
        let found = to.metadata().unwrap();
        assert_eq!(found.len(), 64 << 20);
        assert!(found.blocks() * 512 < 1 << 20, "{} blocks", found.blocks());

        assert!(fs::read_dir(&path).unwrap().next().is_none());
        name(&to, &path.join("named")).unwrap();
        assert_eq!(fs::metadata(path.join("named")).unwrap().ino(), found.ino());
        remove_tree(&path).unwrap();
    }

    #[test]
    fn depth_costs_neither_stack_nor_descriptors() {
        let path = scratch("deep");
        let mut here = File::open(&path).unwrap();
        for _ in 0..3_000 {
            let inside = PathBuf::from(format!("/proc/self/fd/{}/d", here.as_raw_fd()));
            fs::create_dir(&inside).unwrap();
            here = File::open(&inside).unwrap();
        }
        drop(here);
        let removed = path.clone();
        std::thread::Builder::new().stack_size(64 << 10).spawn(move || remove_tree(&removed)).unwrap().join().unwrap().unwrap();
        assert!(!path.exists());
    }
}
