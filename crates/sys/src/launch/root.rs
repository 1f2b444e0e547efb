//! The root file system of a container: an overlay of id-mapped layers, and the file systems that every program expects.
//!
//! Layers and the writable layer keep the owners that they have inside; the id-mapped mounts shift them by the sandbox's range.
//! The overlay is `volatile`: a `sync` inside costs nothing, because the writable directory does not outlive a crash of the host.
//! It is `nodev`: devices in an image are dead files. `redirect_dir` lets directories of the layers be renamed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink},
    },
    path::Path,
};

use rustix::thread::CapabilitiesSecureBits;

use super::{During, Failure, Plan};
use crate::{
    mount::{self, Cover, Flags},
    protection::Protection,
};

/// Devices that a sandbox shares with the host; each is stateless.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Links in `/dev`, each with its target.
const DEVICE_LINKS: [(&str, &str); 5] =
    [("ptmx", "pts/ptmx"), ("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")];

/// What tells about, or reaches, the host rather than the sandbox.
const HIDDEN: [&str; 29] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/cmdline",
    "/proc/interrupts",
    "/proc/iomem",
    "/proc/ioports",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/key-users",
    "/proc/keys",
    "/proc/kmsg",
    "/proc/kpagecgroup",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/latency_stats",
    "/proc/pressure",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/slabinfo",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/vmallocinfo",
    "/sys/devices/virtual/block",
    "/sys/devices/virtual/dmi",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/kernel/boot_params",
    "/sys/kernel/notes",
    "/sys/kernel/vmcoreinfo",
];

/// What may be read but sets the host's behaviour.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Terminals that a sandbox may have: the kernel has 3072 for all of them together unless `kernel.pty.max` says otherwise.
const TERMINALS: u32 = 512;

const STRICT: Flags = Flags::NOSUID.union(Flags::NODEV).union(Flags::NOEXEC);

/// Makes the planned root the root of this mount namespace. From here on this process creates files as root of the sandbox.
pub(super) fn build(plan: &Plan, disk: Option<OwnedFd>, users: BorrowedFd<'_>) -> Result<(), Failure> {
    mount::make_private().during("leaving the mounts of the host")?;
    let devices = DEVICES
        .map(|name| mount::clone_tree(&Path::new("/dev").join(name)).during(format!("opening /dev/{name}")).map(|device| (name, device)));
    overlay(plan, disk, users)?;
    mount::pivot(Path::new("root")).during("entering the root file system")?;

    etc(plan)?;
    file_system("proc", "/proc", STRICT, "")?;
    sys(plan.show_cgroup)?;
    dev(devices, plan.shm_bytes)?;
    if plan.disabled.spares(Protection::MaskedPaths) {
        restrict(&READ_ONLY, "write-protecting", mount::read_only)?;
        let mut cover = Cover::default();
        restrict(&HIDDEN, "hiding", |path| cover.hide(path))?;
    }
    file_system("tmpfs", "/run", Flags::NOSUID | Flags::NODEV, &format!("mode=0755,{}", room(plan.shm_bytes / 4)))?;
    directory("/run/lock", 0o1777)?;
    directory("/tmp", 0o1777)
}

/// Mounts the overlay at `root` in a scratch file system, which becomes the working directory.
fn overlay(plan: &Plan, disk: Option<OwnedFd>, users: BorrowedFd<'_>) -> Result<(), Failure> {
    let open = |path: &Path| mount::clone_tree(path).during(format!("opening {}", path.display()));
    let mapped = |path: &Path, tree: OwnedFd| {
        if plan.disabled.spares(Protection::UserNamespace) {
            mount::idmap(&tree, users).during(format!("mapping the owners of {}", path.display()))?;
        }
        Ok(tree)
    };
    let writable = mapped(&plan.dir, disk.map_or_else(|| open(&plan.dir), Ok)?)?;
    let layers = plan.layers.iter().map(|layer| mapped(layer, open(layer)?)).collect::<Result<Vec<_>, Failure>>()?;

    // Nobody looks into the machine's directory in this mount namespace any more, so it can carry the scratch file system.
    mount::mount("tmpfs", &plan.dir, Flags::empty(), "mode=0700").during("making room for mounts")?;
    std::env::set_current_dir(&plan.dir).during("making room for mounts")?;
    fs::create_dir("root").during("making room for mounts")?;
    attach(writable, "rw")?;
    for (n, layer) in layers.into_iter().enumerate() {
        attach(layer, &n.to_string())?;
    }
    act_as_owner(Path::new("rw/upper")).during("becoming the owner of the writable layer")?;

    // Short relative names: the kernel takes one page of options, and shows them to the sandbox.
    let lower: Vec<_> = (0..plan.layers.len()).rev().map(|n| n.to_string()).collect();
    let options = format!("lowerdir={},upperdir=rw/upper,workdir=rw/work,redirect_dir=on,index=off,metacopy=off,volatile", lower.join(":"));
    mount::mount("overlay", Path::new("root"), Flags::NODEV, &options).during("mounting the root file system")
}

fn attach(tree: OwnedFd, at: &str) -> Result<(), Failure> {
    fs::create_dir(at).and_then(|()| mount::attach(tree, Path::new(at))).during("attaching a layer")
}

/// The kernel refuses to create files of owners that an id-mapped mount does not know, and the host's root is one. So this process,
/// and with it the overlay, whose own files are made with the rights of who mounted it, creates files as root of the sandbox, which
/// is who owns `dir` there. It keeps its capabilities.
fn act_as_owner(dir: &Path) -> io::Result<()> {
    let owner = fs::metadata(dir)?;
    rustix::thread::set_capabilities_secure_bits(CapabilitiesSecureBits::NO_SETUID_FIXUP)?;
    // SAFETY: system calls without memory arguments.
    unsafe {
        libc::setfsgid(owner.gid());
        libc::setfsuid(owner.uid());
    }
    Ok(())
}

/// Replaces files of `/etc` whatever they were: links into directories that are not there yet, for example.
fn etc(plan: &Plan) -> Result<(), Failure> {
    directory("/etc", 0o755)?;
    for (name, text) in &plan.etc {
        let path = Path::new("/etc").join(name);
        let replace = || {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path)?.write_all(text.as_bytes())
        };
        replace().during(format!("writing {}", path.display()))?;
    }
    Ok(())
}

fn sys(show_cgroup: bool) -> Result<(), Failure> {
    let root = Path::new("/sys");
    directory("/sys", 0o555)?;
    // It belongs to the network namespace, and some hosts keep it from namespaces that are not theirs.
    if mount::mount("sysfs", root, STRICT | Flags::RDONLY, "").is_err() {
        return mount::mount("tmpfs", root, STRICT | Flags::RDONLY, "mode=0555").during("mounting /sys");
    }
    let cgroup = Path::new("/sys/fs/cgroup");
    if show_cgroup && cgroup.exists() {
        mount::mount("cgroup2", cgroup, STRICT | Flags::RDONLY, "").during("mounting /sys/fs/cgroup")?;
    }
    Ok(())
}

fn dev(devices: [Result<(&str, OwnedFd), Failure>; DEVICES.len()], shm_bytes: u64) -> Result<(), Failure> {
    let dev = Path::new("/dev");
    file_system("tmpfs", "/dev", Flags::NOSUID | Flags::NOEXEC, &format!("mode=0755,{}", room(shm_bytes / 8)))?;
    for device in devices {
        let (name, device) = device?;
        let path = dev.join(name);
        File::create(&path).and_then(|_| mount::attach(device, &path)).during(format!("making {}", path.display()))?;
    }
    for (name, target) in DEVICE_LINKS {
        symlink(target, dev.join(name)).during(format!("making /dev/{name}"))?;
    }
    // The option takes a group of the host; `tty` is group 5 inside.
    let root_group = fs::metadata(dev).during("looking at /dev")?.gid();
    let terminals = format!("newinstance,ptmxmode=0666,mode=0620,gid={},max={TERMINALS}", root_group + 5);
    file_system("devpts", "/dev/pts", Flags::NOSUID | Flags::NOEXEC, &terminals)?;
    file_system("tmpfs", "/dev/shm", STRICT, &format!("mode=1777,{}", room(shm_bytes)))?;
    file_system("mqueue", "/dev/mqueue", STRICT, "")
}

/// Options of a `tmpfs` of this size. Each file in it is memory too, about a kilobyte.
fn room(bytes: u64) -> String {
    format!("size={bytes},nr_inodes={}", bytes / (16 << 10))
}

fn file_system(kind: &str, path: &str, flags: Flags, options: &str) -> Result<(), Failure> {
    directory(path, 0o755)?;
    mount::mount(kind, Path::new(path), flags, options).during(format!("mounting {path}"))
}

/// Makes a directory unless there is one.
fn directory(path: &str, mode: u32) -> Result<(), Failure> {
    match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(mode)).during(format!("making {path}")),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        failed => failed.during(format!("making {path}")),
    }
}

/// Applies `how` to those of `paths` that this kernel has.
fn restrict(paths: &[&str], verb: &str, mut how: impl FnMut(&Path) -> io::Result<()>) -> Result<(), Failure> {
    for path in paths {
        match how(Path::new(path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).during(format!("{verb} {path}")),
            _ => {}
        }
    }
    Ok(())
}
