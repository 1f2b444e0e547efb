//! What `/proc` and `/sys` let one set, and what they tell about the host.

use std::{
    fs,
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
};

use super::{World, none_of, walk, writable};
use crate::outcome::Outcome;

/// Enough for any host.
const MOST: usize = 50_000;

pub fn core_pattern(_: &World) -> Outcome {
    let path = "/proc/sys/kernel/core_pattern";
    Outcome::of(
        "writing what is there",
        fs::read(path).and_then(|value| {
            fs::OpenOptions::new().write(true).open(path).and_then(|mut file| std::io::Write::write_all(&mut file, &value))
        }),
    )
}

pub fn proc_sys(_: &World) -> Outcome {
    none_of("writable settings in /proc/sys", &walk(Path::new("/proc/sys"), MOST, &mut writable))
}

/// Everything in `/proc` that belongs to no process.
fn of_no_process() -> Vec<PathBuf> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let common = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir() || kind.is_file()));
    let names = common.filter(|entry| !entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit));
    names.map(|entry| entry.path()).filter(|path| path != Path::new("/proc/sys")).collect()
}

pub fn proc(_: &World) -> Outcome {
    let (dirs, files): (Vec<_>, Vec<_>) = of_no_process().into_iter().partition(|path| path.is_dir());
    let below = dirs.iter().flat_map(|dir| walk(dir, MOST, &mut writable));
    let hits: Vec<_> = below.chain(files.iter().filter_map(|path| writable(path))).collect();
    none_of("writable files in /proc", &hits)
}

pub fn sys(_: &World) -> Outcome {
    none_of("writable files in /sys", &walk(Path::new("/sys"), MOST, &mut writable))
}

/// Those of `paths` that have something to read, or list something.
fn telling(paths: &[&str]) -> Vec<String> {
    let tells = |path: &&&str| match fs::metadata(path) {
        Ok(metadata) if metadata.file_type().is_char_device() => false,
        Ok(metadata) if metadata.is_dir() => !walk(Path::new(path), MOST, &mut |file| first_byte(file).map(|_| String::new())).is_empty(),
        Ok(_) => first_byte(Path::new(path)).is_some(),
        Err(_) => false,
    };
    paths.iter().filter(tells).map(|path| (*path).to_owned()).collect()
}

fn first_byte(path: &Path) -> Option<u8> {
    use std::{io::Read as _, os::unix::fs::OpenOptionsExt as _};
    let mut byte = [0];
    // Some of them have nothing to say until something happens.
    let mut file = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).ok()?;
    (file.read(&mut byte).ok()? == 1).then_some(byte[0])
}

pub fn proc_secrets(_: &World) -> Outcome {
    let paths = [
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
        "/proc/vmallocinfo",
    ];
    none_of("files in /proc that tell about the host", &telling(&paths))
}

pub fn sys_secrets(_: &World) -> Outcome {
    let paths = [
        "/sys/devices/virtual/dmi",
        "/sys/devices/virtual/powercap",
        "/sys/firmware",
        "/sys/fs/bpf",
        "/sys/fs/pstore",
        "/sys/kernel/boot_params",
        "/sys/kernel/debug",
        "/sys/kernel/notes",
        "/sys/kernel/security",
        "/sys/kernel/tracing",
        "/sys/kernel/vmcoreinfo",
    ];
    none_of("files in /sys that tell about the host", &telling(&paths))
}
