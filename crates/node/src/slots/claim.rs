//! Locks by which the daemons of a host stay out of each other's way: one for an instance tag, one for a block of addresses.
//!
//! A lock is a file with the holder's tag in it. It is held as long as its file is open, so it never outlives its holder; the file of
//! a holder that crashed is taken over by the next.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    net::Ipv4Addr,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use super::{
    Instance,
    block::{Block, Cidr},
};

/// A lock that is held. Dropping it removes its file and gives it up.
#[derive(Debug)]
pub(super) struct Claim {
    path: PathBuf,
    _file: File,
}

impl Claim {
    /// Takes the lock `name` below `dir`; `None` if somebody has it.
    pub(super) fn take(dir: &Path, name: &str, instance: &Instance) -> io::Result<Option<Self>> {
        DirBuilder::new().mode(0o700).recursive(true).create(dir)?;
        let path = dir.join(name);
        loop {
            let mut file = OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(e)) => return Err(e),
            }
            // Its holder may have removed it between our opening and our locking it.
            if fs::metadata(&path).is_ok_and(|named| file.metadata().is_ok_and(|locked| locked.ino() == named.ino())) {
                file.set_len(0)?;
                writeln!(file, "{instance}")?;
                return Ok(Some(Self { path, _file: file }));
            }
        }
    }

    /// Takes the lock of an instance tag.
    pub(super) fn instance(dir: &Path, instance: &Instance) -> io::Result<Option<Self>> {
        Self::take(dir, &format!("instance-{instance}"), instance)
    }

    /// Takes the lock of a block.
    pub(super) fn block(dir: &Path, block: Block, instance: &Instance) -> io::Result<Option<Self>> {
        Self::take(dir, &format!("block-{}", block.cidr().to_string().replace('/', "-")), instance)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Still locked, so it is ours to remove. If it stays, the next holder finds it unlocked.
        let _ = fs::remove_file(&self.path);
    }
}

/// The files of locks with this tag in them.
pub(super) fn files(dir: &Path, instance: &Instance) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if fs::read_to_string(&path).is_ok_and(|holder| holder.trim_end() == instance.to_string()) {
            found.push(path);
        }
    }
    Ok(found)
}

/// Whether a block is free of what is there already: `taken` are the subnets of the host's addresses and routes. Routes wider than
/// the whole configured range are aggregates, which ours refine.
pub(super) fn is_free(block: Block, range: Cidr, taken: &[(Ipv4Addr, u8)]) -> bool {
    !taken.iter().any(|&(address, prefix)| prefix >= range.prefix() && block.cidr().overlaps(address, prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_has_one_holder_and_leaves_nothing() {
        let dir = std::env::temp_dir().join(format!("atoll-claim-{}", std::process::id()));
        let (one, two): (Instance, Instance) = ("one".parse().unwrap(), "two".parse().unwrap());
        let held = Claim::take(&dir, "x", &one).unwrap().unwrap();
        assert!(Claim::take(&dir, "x", &two).unwrap().is_none());
        assert_eq!(files(&dir, &one).unwrap(), [dir.join("x")]);
        assert!(files(&dir, &two).unwrap().is_empty());
        drop(held);
        assert!(files(&dir, &one).unwrap().is_empty());

        fs::write(dir.join("x"), "crashed\n").unwrap();
        let held = Claim::take(&dir, "x", &two).unwrap().unwrap();
        assert_eq!(files(&dir, &two).unwrap(), [dir.join("x")]);
        drop(held);
        fs::remove_dir(&dir).unwrap();
        assert!(files(&dir, &one).unwrap().is_empty());
    }

    #[test]
    fn a_block_is_free_unless_somebody_has_addresses_in_it() {
        let range = Cidr::default();
        let block = range.blocks().nth(1).unwrap();
        let free = |taken: &[(&str, u8)]| is_free(block, range, &taken.iter().map(|&(ip, n)| (ip.parse().unwrap(), n)).collect::<Vec<_>>());
        assert!(free(&[]));
        assert!(free(&[("0.0.0.0", 0), ("10.0.0.0", 8), ("10.11.32.0", 31), ("192.168.0.1", 24)]));
        assert!(!free(&[("10.11.16.0", 31)]));
        assert!(!free(&[("10.11.0.0", 16)]));
        assert!(!free(&[("10.11.31.255", 32)]));
    }
}
