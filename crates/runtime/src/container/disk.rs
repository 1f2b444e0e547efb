//! The writable layer of a machine: a file system of its own, as large as its template says, in a sparse file on a loop device.
//!
//! ```text
//! blank image (one per size, in the cache) ── sparse copy ──> nameless file ── loop device ──> ext4, mounted nowhere
//! ```
//!
//! So the size holds on every host, the number of files is limited too, and `df` inside tells the truth. A disk is held by
//! descriptors, later by the mounts of its machine: when these are gone the kernel unmounts it, detaches the device and frees what
//! has no name, whoever was killed. A file system that ends with its machine needs no journal and no barriers.
//!
//! Mounting takes milliseconds in which the kernel mostly waits, so some disks are made ahead: as many, and as large, as were taken.

use std::{
    collections::VecDeque,
    fs::{self, File, Permissions},
    io,
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use atoll_sys::{fs::copy_sparse, loop_device::LoopDevice, mount};
use atoll_types::Resources;

use crate::BootError;

/// Part of the name of a blank image: another recipe makes other images.
const RECIPE: u32 = 1;

/// A file system without what a short life does not need. No table is initialised: the image is zero where nothing was written, which
/// `noinit_itable` tells the kernel. Nothing is spread over the image, so that there are few extents to copy and to free.
const FEATURES: &str =
    "none,dir_index,dir_nlink,ext_attr,extent,extra_isize,filetype,flex_bg,huge_file,large_file,metadata_csum,sparse_super2";
const LAYOUT: &str = "lazy_itable_init=1,nodiscard,num_backup_sb=0,packed_meta_blocks=1,root_owner=0:0";

/// Bytes for each file that a disk has room for.
const BYTES_PER_FILE: u64 = 16 << 10;
/// Bytes that each of them takes in the tables.
const INODE: u64 = 256;
/// Bytes for everything else that is no file's.
const OVERHEAD: u64 = 1 << 20;

/// What is deleted becomes free on the host; see [`FEATURES`] for the others.
const OPTIONS: [&str; 3] = ["discard", "noinit_itable", "nobarrier"];

/// How many disks are kept ready.
const READY: usize = 8;

/// Why there is no disk. Nothing is left of it.
#[derive(Debug)]
pub(super) struct DiskError {
    /// What was being done.
    pub step: String,
    /// What went wrong.
    pub source: io::Error,
}

impl From<DiskError> for BootError {
    fn from(DiskError { step, source }: DiskError) -> Self {
        Self::Step { step, source }
    }
}

fn during(step: impl Into<String>) -> impl FnOnce(io::Error) -> DiskError {
    move |source| DiskError { step: step.into(), source }
}

/// Makes what an overlay writes into.
pub(super) fn layout(dir: &Path) -> io::Result<()> {
    let upper = dir.join("upper");
    fs::create_dir(&upper)?;
    // Its mode is that of `/` inside, whatever the daemon's mask.
    fs::set_permissions(&upper, Permissions::from_mode(0o755))?;
    fs::create_dir(dir.join("work"))
}

/// A disk that no machine has yet.
#[derive(Debug)]
struct Disk {
    size_mib: u32,
    image: File,
    mount: OwnedFd,
}

/// Where disks come from.
#[derive(Debug)]
pub(super) struct Disks {
    data_dir: PathBuf,
    blanks: PathBuf,
    /// The oldest first.
    ready: Mutex<VecDeque<Disk>>,
    restocking: AtomicBool,
    /// Held while a device is attached: who looks for a free one at the same time finds the same one.
    attaching: Mutex<()>,
}

impl Disks {
    /// Disks whose files are on the file system of `data_dir`; blank ones are kept in `blanks`. That this works is tried.
    pub(super) fn new(data_dir: &Path, blanks: &Path) -> Result<Self, DiskError> {
        let (data_dir, blanks) = (data_dir.to_owned(), blanks.to_owned());
        let disks = Self { data_dir, blanks, ready: Mutex::default(), restocking: AtomicBool::new(false), attaching: Mutex::default() };
        let first = disks.make(Resources::default().disk_mib)?;
        disks.ready().push_back(first);
        Ok(disks)
    }

    /// A disk whose image is in `dir`, as a detached mount with what [`layout`] makes.
    pub(super) fn take(&self, size_mib: u32, dir: &Path) -> Result<OwnedFd, DiskError> {
        let spare = {
            let mut ready = self.ready();
            ready.iter().position(|disk| disk.size_mib == size_mib).and_then(|index| ready.remove(index))
        };
        let Disk { image, mount, .. } = spare.map_or_else(|| self.make(size_mib), Ok)?;
        atoll_sys::fs::name(&image, &dir.join("disk.img")).map_err(during("naming the disk"))?;
        Ok(mount)
    }

    /// Makes as many disks of this size as are kept ready, in place of the oldest of others. Blocks; does nothing while another does it.
    pub(super) fn restock(&self, size_mib: u32) {
        if self.restocking.swap(true, Ordering::AcqRel) {
            return;
        }
        while self.ready().iter().filter(|disk| disk.size_mib == size_mib).count() < READY {
            match self.make(size_mib) {
                Ok(disk) => {
                    let mut ready = self.ready();
                    ready.push_back(disk);
                    let surplus = ready.len().saturating_sub(READY);
                    let surplus: Vec<_> = ready.drain(..surplus).collect();
                    drop(ready);
                    drop(surplus);
                }
                // The next who takes one tries again, and is told.
                Err(DiskError { step, source }) => {
                    tracing::debug!(error = %source, "no disk made ahead: {step}");
                    break;
                }
            }
        }
        self.restocking.store(false, Ordering::Release);
    }

    fn ready(&self) -> MutexGuard<'_, VecDeque<Disk>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make(&self, size_mib: u32) -> Result<Disk, DiskError> {
        let blank = self.blank(size_mib)?;
        let image = atoll_sys::fs::nameless(&self.data_dir).map_err(during(format!("making a file in {}", self.data_dir.display())))?;
        copy_sparse(&blank, &image).map_err(during("copying a blank disk"))?;
        let device = {
            let _alone = self.attaching.lock().unwrap_or_else(PoisonError::into_inner);
            LoopDevice::attach(&image).map_err(during("attaching a loop device"))?
        };
        let mount = mount::detached("ext4", device.path(), &OPTIONS).map_err(during("mounting a disk"))?;
        Ok(Disk { size_mib, image, mount })
    }

    /// The blank image of this size. It appears by a rename, whole or not at all.
    fn blank(&self, size_mib: u32) -> Result<File, DiskError> {
        let path = self.blanks.join(format!("blank-{RECIPE}-{size_mib}.img"));
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened.map_err(during(format!("opening {}", path.display()))),
        }
        let draft = self.blanks.join(format!(".blank-{size_mib}-{}-{:?}", std::process::id(), std::thread::current().id()));
        let made = fs::create_dir_all(&draft).and_then(|()| {
            let (tree, image) = (draft.join("tree"), draft.join("image"));
            fs::create_dir(&tree)?;
            layout(&tree)?;
            format(&image, &tree, size_mib)?;
            fs::rename(image, &path)
        });
        // The first error is the one to tell.
        let _ = fs::remove_dir_all(&draft);
        made.and_then(|()| File::open(&path)).map_err(during(format!("making a blank disk in {}", self.blanks.display())))
    }
}

/// Makes a file system with the files of `tree` that has room for so much more.
fn format(image: &Path, tree: &Path, size_mib: u32) -> io::Result<()> {
    let room = u64::from(size_mib) << 20;
    let tables = room / BYTES_PER_FILE * INODE;
    File::create_new(image)?.set_len(room + tables + tables / 32 + OVERHEAD)?;
    let mut mkfs = Command::new("mkfs.ext4");
    mkfs.args(["-q", "-F", "-m", "0", "-b", "4096", "-I", &INODE.to_string(), "-i", &BYTES_PER_FILE.to_string()]);
    mkfs.args(["-O", FEATURES, "-E", LAYOUT, "-d"]).arg(tree).arg(image);
    // Where `sudo` and the like do not look.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    mkfs.env("PATH", std::env::join_paths(std::env::split_paths(&path).chain(usual)).unwrap_or(path));
    let output = mkfs.stdin(Stdio::null()).output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => io::Error::other("there is no mkfs.ext4; is the package e2fsprogs installed?"),
        _ => error,
    })?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("mkfs.ext4: {}", errors.trim())))
}
