//! What is done once, before the first request. Nothing of it is fatal: a daemon that runs can tell what is wrong.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use atoll_sys::{
    mount::{Flags, mount},
    process::set_umask,
};

use crate::log;

/// What the platform says about the sandbox.
const IDENTITY: [(&str, u32); 3] = [("E2B_SANDBOX", 0o444), ("E2B_SANDBOX_ID", 0o644), ("E2B_TEMPLATE_ID", 0o644)];

/// Variables of the platform: whoever starts the daemon may say which sandbox it is in the daemon's own environment.
pub fn internal_env(in_vm: bool) -> BTreeMap<String, String> {
    let told = IDENTITY.iter().filter_map(|(name, _)| Some(((*name).to_owned(), std::env::var(name).ok()?)));
    told.chain(in_vm.then(|| ("E2B_SANDBOX".to_owned(), "true".to_owned()))).collect()
}

/// Writes the files by which programs learn that they are in a sandbox, and in which.
pub fn write_run_files(dir: &Path, env: &BTreeMap<String, String>) {
    if let Err(error) = fs::create_dir_all(dir).and_then(|()| fs::set_permissions(dir, fs::Permissions::from_mode(0o755))) {
        return log::warn("envd", "cannot make the directory for run files", &[("path", &dir.display()), ("error", &error)]);
    }
    for (variable, mode) in IDENTITY {
        let Some(value) = env.get(variable) else { continue };
        let path = dir.join(format!(".{variable}"));
        if let Err(error) = replace(&path, value, mode) {
            log::warn("envd", "cannot write a run file", &[("path", &path.display()), ("error", &error)]);
        }
    }
}

fn replace(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    use io::Write as _;
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?.write_all(text.as_bytes())
}

/// Mounts what every program expects where nobody has done so, and sets the usual umask: the first process of a machine inherits
/// nothing.
pub fn prepare_machine() {
    set_umask(0o022);
    let flags = Flags::NOSUID | Flags::NOEXEC;
    let wanted = [
        ("/proc", "/proc/self", "proc", flags | Flags::NODEV, ""),
        ("/dev/pts", "/dev/pts/ptmx", "devpts", flags, "newinstance,ptmxmode=0666,mode=0620"),
        ("/tmp", "/tmp", "tmpfs", Flags::NOSUID | Flags::NODEV, "mode=1777"),
        ("/run", "/run", "tmpfs", Flags::NOSUID | Flags::NODEV, "mode=0755"),
    ];
    for (target, sign, kind, flags, options) in wanted {
        if Path::new(sign).exists() {
            continue;
        }
        if let Err(error) = fs::create_dir_all(target).and_then(|()| mount(kind, Path::new(target), flags, options)) {
            log::warn("envd", "cannot mount what is missing", &[("path", &target), ("error", &error)]);
        }
    }
}
