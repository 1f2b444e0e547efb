//! What a host must have for containers, tried rather than guessed where that is possible.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
};

use atoll_sys::{
    cgroup::{Hierarchies, Mode},
    mount, namespace,
};

use super::disk::{DiskError, Disks};

/// Something that containers need of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability {
    /// What.
    pub what: String,
    /// Whether this host has it.
    pub there: bool,
    /// What does not work without it.
    pub why: &'static str,
    /// The command or setting that provides it.
    pub fix: &'static str,
    /// Without it no container starts; otherwise they start with less.
    pub fatal: bool,
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}. {}", self.what, self.why, self.fix)
    }
}

/// The oldest kernel on which an overlay may have id-mapped layers.
const OLDEST_KERNEL: (u32, u32) = (5, 19);

/// What the kernel has for all sandboxes together; how much a host for many wants.
const HOST_WIDE: [(&str, u64, &str); 4] = [
    ("kernel.pid_max", 1 << 20, "sysctl -w kernel.pid_max=4194304"),
    ("fs.file-max", 1 << 22, "sysctl -w fs.file-max=9223372036854775807"),
    ("kernel.pty.max", 4096, "sysctl -w kernel.pty.max=65536"),
    ("net.netfilter.nf_conntrack_max", 1 << 18, "sysctl -w net.netfilter.nf_conntrack_max=1048576"),
];

/// Looks for everything that containers need on this host; machines will live in `data_dir`, which must exist.
pub fn probe(data_dir: &Path) -> Vec<Capability> {
    let mut found = Vec::new();
    let mut look = |fatal, there, what: String, why, fix| found.push(Capability { what, there, why, fix, fatal });

    let root = is_root();
    look(true, root, "root".into(), "only root can make namespaces, mounts and cgroups for others", "Start the daemon with sudo.");

    let release = read("/proc/sys/kernel/osrelease");
    let recent = version(&release).is_none_or(|version| version >= OLDEST_KERNEL);
    let what = format!("Linux 5.19 or newer (this is {})", release.trim());
    look(true, recent, what, "layers are id-mapped, which overlayfs knows since then", "Install a kernel from 5.19 on.");

    let userns = Path::new("/proc/self/ns/user").exists();
    let why = "root of a sandbox is an ordinary user of the host";
    look(true, userns, "user namespaces".into(), why, "Use a kernel with CONFIG_USER_NS=y.");
    let most = read("/proc/sys/user/max_user_namespaces").trim().parse::<u64>().unwrap_or(0);
    let what = format!("room for user namespaces (at most {most})");
    look(true, !userns || most > 0, what, "every sandbox needs one", "sysctl -w user.max_user_namespaces=65536");

    let overlay = read("/proc/filesystems").lines().any(|line| line.ends_with("\toverlay"));
    look(true, overlay, "overlayfs".into(), "a sandbox writes over the shared layers of its template", "modprobe overlay");
    if root && userns && most > 0 {
        let tried = idmap(data_dir);
        let reason = tried.as_ref().err().map(|error| format!(" ({error})")).unwrap_or_default();
        let what = format!("id-mapped mounts in {}{reason}", data_dir.display());
        let why = "layers are shared by sandboxes with different owners";
        look(true, tried.is_ok(), what, why, "Keep the data directory on ext4, xfs or btrfs.");
    }

    if root {
        let tried = disk(data_dir);
        let reason = tried.as_ref().err().map(|DiskError { step, source }| format!(" ({step}: {source})")).unwrap_or_default();
        let what = format!("disks for sandboxes in {}{reason}", data_dir.display());
        let why = "what sandboxes write is not limited to what their templates say";
        look(
            false,
            tried.is_ok(),
            what,
            why,
            "modprobe -a loop ext4; apt-get install e2fsprogs; keep the data directory on ext4, xfs or btrfs",
        );
    }

    let filters = read("/proc/sys/kernel/seccomp/actions_avail").split(' ').any(|action| action.trim() == "errno");
    let why = "system calls that reach past a sandbox are refused";
    look(true, filters, "seccomp filters".into(), why, "Use a kernel with CONFIG_SECCOMP_FILTER=y.");

    look(true, in_path("nft"), "program nft".into(), "it sets the rules of who may reach whom", "apt-get install nftables");
    let veth = Path::new("/sys/module/veth").exists() || Path::new("/sys/class/net").exists() && module_available(&release, "veth");
    look(true, veth, "veth devices".into(), "they connect a sandbox to the host", "modprobe veth");
    let forward = read("/proc/sys/net/ipv4/ip_forward").trim() == "1";
    let why = "sandboxes reach the internet through the host; the daemon switches it on when it starts";
    look(false, forward, "IPv4 forwarding".into(), why, "sysctl -w net.ipv4.ip_forward=1");

    for (setting, wanted, fix) in HOST_WIDE {
        let path = format!("/proc/sys/{}", setting.replace('.', "/"));
        let Ok(most) = read(&path).trim().parse::<u64>() else { continue };
        let why = "all sandboxes share it, and a few hostile ones could use it up";
        look(false, most >= wanted, format!("{setting} of {wanted} or more (it is {most})"), why, fix);
    }

    let cgroups = Hierarchies::detect();
    let (mode, lacking) = cgroups.map_or((Mode::None, Vec::new()), |found| (found.mode(), found.missing()));
    let name = match mode {
        Mode::V2 => "v2",
        Mode::Hybrid => "v1 and v2",
        Mode::V1 => "v1",
        Mode::None => "none",
    };
    let why = "memory, processor time and processes of sandboxes are not limited";
    look(false, mode != Mode::None, format!("cgroups ({name})"), why, "mount -t cgroup2 none /sys/fs/cgroup");
    for controller in Hierarchies::LIMITING {
        let fix = "Boot with systemd.unified_cgroup_hierarchy=1, and on Debian or Raspberry Pi with cgroup_enable=memory.";
        let there = mode != Mode::None && !lacking.contains(&controller);
        look(false, there, format!("cgroup controller {controller}"), "it limits sandboxes", fix);
    }
    found
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn is_root() -> bool {
    read("/proc/self/status").lines().any(|line| line.strip_prefix("Uid:").is_some_and(|ids| ids.split_whitespace().nth(1) == Some("0")))
}

/// Major and minor number of a kernel release such as `6.1.0-13-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.trim().split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn idmap(dir: &Path) -> std::io::Result<()> {
    // Any range does: nothing is written.
    let pair = namespace::create_pair(1 << 30)?;
    mount::idmap(mount::clone_tree(dir)?, pair.user)
}

fn disk(dir: &Path) -> Result<(), DiskError> {
    let blanks = env::temp_dir().join(format!("atoll-probe-{}-{:?}", std::process::id(), std::thread::current().id()));
    let tried = Disks::new(dir, &blanks).map(drop);
    // It was made a moment ago; that it cannot be removed would say nothing about disks.
    let _ = fs::remove_dir_all(&blanks);
    tried
}

fn in_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(usual).any(|dir| dir.join(program).is_file())
}

/// Built in, or there to be loaded.
fn module_available(release: &str, name: &str) -> bool {
    let lists = ["modules.builtin", "modules.dep"].map(|list| read(&format!("/lib/modules/{}/{list}", release.trim())));
    // A kernel without modules has no lists; then only trying tells, which is the network's part.
    lists.iter().all(String::is_empty) || lists.iter().any(|list| list.contains(&format!("/{name}.ko")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_versions_are_read_from_any_release() {
        assert_eq!(version("6.1.0-13-amd64\n"), Some((6, 1)));
        assert_eq!(version("5.19-rc1"), Some((5, 19)));
        assert_eq!(version("nonsense"), None);
        assert!(version("5.4.0").unwrap() < OLDEST_KERNEL);
    }

    #[test]
    fn a_file_system_without_id_mapping_is_named() {
        if !is_root() {
            eprintln!("SKIPPED a_file_system_without_id_mapping_is_named: needs root");
            return;
        }
        let in_proc = probe(Path::new("/proc"));
        let found = in_proc.iter().find(|c| c.what.starts_with("id-mapped mounts in /proc (")).expect("the error is named");
        assert!(found.fatal && !found.there);
        assert!(probe(&env::temp_dir()).iter().any(|c| c.what.starts_with("id-mapped") && c.there), "the test's own directory can");
    }
}
