//! Devices of the host. A node alone is no breach: opening it is.

use std::{
    fs,
    io::{self, Read as _},
    os::unix::fs::FileTypeExt as _,
    path::Path,
};

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use super::{World, files::open_handle, scratch};
use crate::{outcome::Outcome, spec::Host};

/// Reads the first bytes of a device.
fn read(path: &Path) -> io::Result<()> {
    let mut bytes = [0; 512];
    fs::File::open(path)?.read(&mut bytes).map(drop)
}

pub fn disk_in_dev(_: &World, host: &Host) -> Outcome {
    let there = fs::read_dir("/dev").into_iter().flatten().flatten();
    let blocks = there.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_block_device())).map(|entry| entry.path());
    let named = host.disks.iter().map(|disk| Path::new("/dev").join(&disk.name));
    Outcome::any(blocks.chain(named).map(|path| Outcome::of(format!("reading {}", path.display()), read(&path))))
}

/// Makes a node wherever there is room for one, and opens it.
fn by_mknod(world: &World, name: &str, kind: FileType, device: u64) -> Outcome {
    let dirs = [scratch(world), Ok("/dev".into()), Ok("/dev/shm".into()), Ok("/run".into()), Ok("/".into())];
    Outcome::any(dirs.map(|dir| {
        let made = dir.and_then(|dir| {
            let path = dir.join(format!("atoll-attack-{name}"));
            mknodat(CWD, &path, kind, Mode::RUSR | Mode::WUSR, device)?;
            // Reading memory and ports can have effects.
            let opened = if kind == FileType::BlockDevice { read(&path) } else { fs::File::open(&path).map(drop) };
            fs::remove_file(&path)?;
            opened
        });
        Outcome::of(format!("{name} by mknod"), made)
    }))
}

pub fn disk_by_mknod(world: &World, host: &Host) -> Outcome {
    Outcome::any(host.disks.iter().map(|disk| by_mknod(world, &disk.name, FileType::BlockDevice, disk.device)))
}

pub fn disk_by_handle(_: &World, host: &Host) -> Outcome {
    let handles = host.disks.iter().filter_map(|disk| Some((&disk.name, disk.handle.as_ref()?)));
    // The devices in `/dev` are those of the host, and so is the file system that they are on.
    let tried = handles.flat_map(|(name, handle)| {
        ["/dev/null", "/dev/zero", "/dev"].map(|mount| {
            let read = open_handle(Path::new(mount), handle).and_then(|fd| read(Path::new(&format!("/proc/self/fd/{fd}"))));
            Outcome::of(format!("{name} by open_by_handle_at({mount})"), read)
        })
    });
    Outcome::any(tried)
}

pub fn memory(world: &World) -> Outcome {
    let devices = [("mem", 1, 1), ("port", 1, 4), ("kmsg", 1, 11), ("tun", 10, 200), ("kvm", 10, 232), ("fuse", 10, 229)];
    let paths = ["mem", "kmem", "port", "kmsg", "kvm", "fuse", "net/tun", "loop-control", "hwrng", "vfio/vfio", "cpu_dma_latency"];
    let named = paths.map(|name| Outcome::of(format!("opening /dev/{name}"), fs::File::open(Path::new("/dev").join(name))));
    let made = devices.map(|(name, major, minor)| by_mknod(world, name, FileType::CharacterDevice, makedev(major, minor)));
    Outcome::any(named.into_iter().chain(made))
}

/// The nodes that every sandbox shares with the host.
pub fn shared(_: &World) -> Outcome {
    Outcome::any(["null", "zero", "full", "random", "urandom", "tty"].map(|name| {
        let path = Path::new("/dev").join(name);
        let changed = fs::metadata(&path).and_then(|metadata| fs::set_permissions(&path, metadata.permissions()));
        Outcome::of(format!("changing the mode of {}", path.display()), changed)
    }))
}
