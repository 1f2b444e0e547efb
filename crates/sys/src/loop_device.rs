//! Loop devices: files as disks.
//!
//! A device of ours is detached by the kernel when nobody uses it any more, so there is nothing to undo: who holds the descriptor, or
//! a mount of it, holds the device, and the device holds the file, which may have no name by then.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::fd::{AsFd, AsRawFd},
    path::{Path, PathBuf},
};

/// What [`LoopDevice::attach`] asks of the kernel; see `linux/loop.h`.
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;
const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
const AUTOCLEAR: u32 = 4;

/// The size of a device's blocks in bytes, which is that of the file system on it.
const BLOCK: u32 = 4096;

/// How often another program may take the free device that the kernel has just named to us.
const RACES: usize = 100;

/// `struct loop_config` of `linux/loop.h`.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

/// `struct loop_info64` of `linux/loop.h`; what we leave at zero has no name here.
#[repr(C)]
struct Info {
    zero: [u64; 5],
    number: u32,
    encryption: [u32; 2],
    flags: u32,
    names: [u8; 64 + 64 + 32],
    init: [u64; 2],
}

/// A device that shows a file.
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
    _open: File,
}

impl LoopDevice {
    /// Makes a free device show `image`, which is open for writing.
    ///
    /// What is written goes through the page cache of the image's file system: an image that is thrown away soon then never reaches
    /// the disk at all.
    pub fn attach(image: impl AsFd) -> io::Result<Self> {
        let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
        let config = Config {
            fd: u32::try_from(image.as_fd().as_raw_fd()).map_err(|_| io::ErrorKind::InvalidInput)?,
            block_size: BLOCK,
            info: Info { zero: [0; 5], number: 0, encryption: [0; 2], flags: AUTOCLEAR, names: [0; 160], init: [0; 2] },
            reserved: [0; 8],
        };
        for _ in 0..RACES {
            // SAFETY: takes no memory.
            let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
            if number < 0 {
                return Err(io::Error::last_os_error());
            }
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let device = OpenOptions::new().read(true).write(true).open(&path)?;
            // SAFETY: `config` has the form and size that the kernel reads, and outlives the call.
            if unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) } == 0 {
                return Ok(Self { path, _open: device });
            }
            let error = io::Error::last_os_error();
            if error.raw_os_error() != Some(libc::EBUSY) {
                return Err(error);
            }
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }

    /// Its node in `/dev`.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The devices that show files below `dir`: the name of each, and what its file is called, or was.
pub fn showing_files_in(dir: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/sys/block")? {
        let name = entry?.file_name();
        // Only a device that shows something has this.
        let Ok(file) = fs::read_to_string(Path::new("/sys/block").join(&name).join("loop/backing_file")) else { continue };
        let file = PathBuf::from(file.trim_end_matches('\n'));
        if file.starts_with(dir) {
            found.push((name.to_string_lossy().into_owned(), file));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_lives_as_long_as_who_holds_it() {
        let dir = std::env::temp_dir().join(format!("atoll-loop-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let image = crate::fs::nameless(&dir).unwrap();
        image.set_len(1 << 20).unwrap();
        let device = match LoopDevice::attach(&image) {
            Ok(device) => device,
            Err(error) => {
                eprintln!("SKIPPED a_device_lives_as_long_as_who_holds_it: needs root and loop devices ({error})");
                return fs::remove_dir(&dir).unwrap();
            }
        };
        drop(image);
        let shown = showing_files_in(&dir).unwrap();
        assert_eq!(shown.len(), 1);
        assert_eq!(Path::new("/dev").join(&shown[0].0), device.path());
        drop(device);
        assert_eq!(showing_files_in(&dir).unwrap(), []);
        fs::remove_dir(&dir).unwrap();
    }
}
