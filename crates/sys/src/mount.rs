//! Mounts: detached trees held by descriptors, id-mapped, and the few classic calls a sandbox's root is made of.
//!
//! A detached tree belongs to nobody until it is attached: dropping the descriptor undoes it.

use std::{
    ffi::CString,
    fs, io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::CWD,
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags},
};

/// What a mount allows; see mount(8).
pub use rustix::mount::MountFlags as Flags;

/// A detached copy of the mount at `path`, without the mounts below it.
pub fn clone_tree(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::mount::open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?)
}

/// A detached mount of the file system of type `kind` on the block device `source`, with `flags` that are options of the file system.
/// Devices and set-user-id bits on it mean nothing.
pub fn detached(kind: &str, source: &Path, flags: &[&str]) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&context, "source", source)?;
    for flag in flags {
        rustix::mount::fsconfig_set_flag(&context, *flag)?;
    }
    rustix::mount::fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
    Ok(rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Shows the files of a detached tree with the owners they have inside `users`: uid 0 on disk is root of that user namespace.
pub fn idmap(tree: impl AsFd, users: impl AsFd) -> io::Result<()> {
    let users = users.as_fd().as_raw_fd();
    let attr = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::try_from(users).map_err(|_| io::ErrorKind::InvalidInput)?,
    };
    // SAFETY: the path is an empty C string and `attr` is valid for the size given; the kernel only reads both.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Puts a detached tree where others can see it.
pub fn attach(tree: impl AsFd, target: &Path) -> io::Result<()> {
    Ok(rustix::mount::move_mount(tree, c"", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// Mounts a file system of type `kind`. A `target` that is a symbolic link is refused.
pub fn mount(kind: &str, target: &Path, flags: MountFlags, options: &str) -> io::Result<()> {
    if !fs::symlink_metadata(target)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let options = CString::new(options)?;
    Ok(rustix::mount::mount(kind, target, kind, flags, options.as_c_str())?)
}

/// Makes `path`, and what is below it on the same mount, read-only by mounting it over itself.
pub fn read_only(path: &Path) -> io::Result<()> {
    rustix::mount::mount_bind(path, path)?;
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    Ok(rustix::mount::mount_remount(path, flags, c"")?)
}

/// What is put over paths that are to be hidden.
#[derive(Debug, Default)]
pub struct Cover {
    /// The first hidden directory; the others show the same file system, since each costs time and memory.
    empty: Option<PathBuf>,
}

impl Cover {
    /// Hides `path`: an empty read-only directory or `/dev/null` in its place.
    pub fn hide(&mut self, path: &Path) -> io::Result<()> {
        if !fs::symlink_metadata(path)?.is_dir() {
            return Ok(rustix::mount::mount_bind("/dev/null", path)?);
        }
        if let Some(empty) = &self.empty {
            return Ok(rustix::mount::mount_bind(empty, path)?);
        }
        let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("tmpfs", path, flags, "mode=0555")?;
        self.empty = Some(path.to_owned());
        Ok(())
    }
}

/// Cuts this mount namespace off from what others mount and unmount.
pub fn make_private() -> io::Result<()> {
    Ok(rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?)
}

/// Makes `root`, a mount point, the root directory, and leaves nothing of the old one.
pub fn pivot(root: &Path) -> io::Result<()> {
    std::env::set_current_dir(root)?;
    // With both arguments the same the old root ends up on top of the new one, where it is taken off again.
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    std::env::set_current_dir("/")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn idmapped_trees_show_the_owners_of_the_user_namespace() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED idmapped_trees_show_the_owners_of_the_user_namespace: needs root");
            return;
        }
        let pair = crate::namespace::create_pair(0x0fff_0000).unwrap();
        let dir = std::env::temp_dir().join(format!("atoll-idmap-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let tree = clone_tree(&dir).unwrap();
        idmap(&tree, &pair.user).unwrap();
        let shown = fs::metadata(format!("/proc/self/fd/{}", tree.as_raw_fd())).unwrap();
        fs::remove_dir(&dir).unwrap();
        assert_eq!((shown.uid(), shown.gid()), (0x0fff_0000, 0x0fff_0000));
    }

    #[test]
    fn a_link_is_no_mount_point() {
        let dir = std::env::temp_dir().join(format!("atoll-link-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        std::os::unix::fs::symlink("/", dir.join("link")).unwrap();
        let refused = mount("tmpfs", &dir.join("link"), MountFlags::empty(), "").unwrap_err();
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::NotADirectory);
    }
}
