//! A comparable container by crun, in turns with sandboxes of ours, each until a login shell says hello.
//!
//! crun gets the same files (an overlay over the same layer with an empty writable one), the same namespaces but for the user's, a
//! cgroup with the same limits, capabilities and a system call filter. It has no daemon, no HTTP, no network beyond an empty
//! namespace, no id-mapped mounts and nothing inside that goes on serving.

use std::{
    fs,
    io::Read as _,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout},
};

use super::create::birth;
use crate::{
    Bench,
    client::Client,
    report::{Row, Unit},
};

/// Calls that the filter refuses: those that ours refuses, by the names that crun knows.
const REFUSED: [&str; 40] = [
    "unshare",
    "setns",
    "mount",
    "umount2",
    "pivot_root",
    "mount_setattr",
    "open_tree",
    "move_mount",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "open_by_handle_at",
    "quotactl",
    "fanotify_init",
    "bpf",
    "perf_event_open",
    "add_key",
    "request_key",
    "keyctl",
    "init_module",
    "finit_module",
    "delete_module",
    "kexec_load",
    "kexec_file_load",
    "reboot",
    "syslog",
    "acct",
    "swapon",
    "swapoff",
    "vhangup",
    "settimeofday",
    "clock_settime",
    "clock_adjtime",
    "adjtimex",
    "userfaultfd",
    "move_pages",
    "migrate_pages",
    "iopl",
    "ioperm",
];
const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
    "CAP_SYS_PTRACE",
];

pub async fn measure(bench: &mut Bench) -> Result<()> {
    if !bench.tool("crun", "crun", "the comparison of the start with crun") {
        return Ok(());
    }
    let place = bench.daemon()?.place();
    let mut client = Client::connect(&place).await?;
    let mut containers = Containers::start(&bench.ours, &layer()?)?;
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for round in 0..bench.rounds(100, 20) + 3 {
        let time = containers.run().await?;
        let (birth, sandbox) = birth(&mut client).await?;
        client.kill(&sandbox).await?;
        // What happens the first time happens once.
        if round >= 3 {
            theirs.push(time);
            ours.push(birth.spoke);
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    containers.end().await?;
    let ratios: Vec<_> = ours.iter().zip(&theirs).map(|(ours, theirs)| ours.as_secs_f64() / theirs.as_secs_f64()).collect();
    bench.add(Row::new("crun.start", "crun: start → first output", Unit::Millis).times(theirs));
    bench.add(Row::new("crun.ours", "create → first output, in turns with it", Unit::Millis).times(ours));
    bench.add(Row::new("crun.ratio", "ours, of crun's time", Unit::Times).samples(ratios));
    Ok(())
}

/// The files of the `base` template: the newest, if there are several.
fn layer() -> Result<PathBuf> {
    let cache = std::env::var_os("ATOLL_CACHE_DIR").map_or_else(|| PathBuf::from("/var/cache/atoll"), PathBuf::from);
    let dir = cache.join("layers");
    let entries = fs::read_dir(&dir).with_context(|| format!("reading {}", dir.display()))?.flatten();
    let layers = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("base-") && entry.path().is_dir());
    let newest = layers.max_by_key(|entry| entry.metadata().and_then(|data| data.modified()).ok());
    Ok(newest.with_context(|| format!("no base template in {}", dir.display()))?.path())
}

/// Starts a container for each line on standard input and prints how many seconds it took.
pub fn serve(layer: &Path) -> Result<()> {
    for (number, line) in std::io::stdin().lines().enumerate() {
        line?;
        println!("{}", Bundle::new(layer, number)?.run()?.as_secs_f64());
    }
    Ok(())
}

/// A copy of this program that runs the containers, in a mount namespace of its own: no mount of theirs can stay behind. crun refuses
/// hosts with controllers in both versions of the hierarchies, so it does not get to see the second there.
struct Containers {
    child: Child,
    orders: ChildStdin,
    times: Lines<BufReader<ChildStdout>>,
}

impl Containers {
    fn start(ours: &Path, layer: &Path) -> Result<Self> {
        let script = "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$0\" containers \"$1\"";
        let mut command = tokio::process::Command::new("unshare");
        command.args(["--mount", "--propagation=private", "sh", "-c", script]).arg(ours).arg(layer);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut child = command.spawn().context("starting unshare")?;
        let orders = child.stdin.take().context("it has no input")?;
        let times = BufReader::new(child.stdout.take().context("it has no output")?).lines();
        Ok(Self { child, orders, times })
    }

    async fn run(&mut self) -> Result<Duration> {
        self.orders.write_all(b"\n").await?;
        let seconds = self.times.next_line().await?.context("crun failed")?;
        Ok(Duration::from_secs_f64(seconds.parse()?))
    }

    async fn end(mut self) -> Result<()> {
        drop(self.orders);
        let status = self.child.wait().await?;
        ensure!(status.success(), "what ran crun ended with {status}");
        Ok(())
    }
}

/// A bundle of crun's, with its container; both are gone when it is dropped.
struct Bundle {
    dir: PathBuf,
    name: String,
}

impl Bundle {
    fn new(layer: &Path, number: usize) -> Result<Self> {
        let name = format!("atoll-bench-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(&name);
        for part in ["rootfs", "upper", "work"] {
            fs::create_dir_all(dir.join(part)).with_context(|| format!("making {}", dir.display()))?;
        }
        let bundle = Self { dir, name };
        fs::write(bundle.dir.join("config.json"), bundle.configuration().to_string())?;
        bundle.mount(layer)?;
        Ok(bundle)
    }

    fn mount(&self, layer: &Path) -> Result<()> {
        let dir = self.dir.display();
        let options = format!("lowerdir={},upperdir={dir}/upper,workdir={dir}/work,volatile", layer.display());
        let options = std::ffi::CString::new(options)?;
        mount("overlay", self.dir.join("rootfs"), "overlay", MountFlags::NODEV, options.as_c_str()).context("mounting an overlay for crun")
    }

    fn configuration(&self) -> serde_json::Value {
        let special = |at: &str, kind: &str, options: &[&str]| json!({"destination": at, "type": kind, "source": kind, "options": options});
        let namespaces = ["pid", "mount", "ipc", "uts", "network", "cgroup"].map(|kind| json!({"type": kind}));
        let capabilities = json!(CAPABILITIES);
        json!({
            "ociVersion": "1.0.2",
            "process": {
                "terminal": false,
                "user": {"uid": 1000, "gid": 1000},
                "args": ["/bin/bash", "-l", "-c", "echo hello"],
                "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/home/user"],
                "cwd": "/home/user",
                "capabilities": {"bounding": capabilities, "effective": [], "permitted": [], "inheritable": []},
            },
            "root": {"path": "rootfs"},
            "hostname": self.name,
            "mounts": [
                special("/proc", "proc", &["nosuid", "noexec", "nodev"]),
                special("/dev", "tmpfs", &["nosuid", "noexec", "mode=755", "size=65536k"]),
                special("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
                special("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777"]),
                special("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
                special("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
                special("/run", "tmpfs", &["nosuid", "nodev", "mode=755"]),
            ],
            "linux": {
                "namespaces": namespaces,
                "cgroupsPath": format!("/{}", self.name),
                "resources": {
                    "memory": {"limit": 1 << 30},
                    "cpu": {"quota": 200_000, "period": 100_000},
                    "pids": {"limit": 4096},
                },
                "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/scsi", "/sys/firmware"],
                "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
                "seccomp": {
                    "defaultAction": "SCMP_ACT_ALLOW",
                    "architectures": ["SCMP_ARCH_X86_64"],
                    "syscalls": [{"names": &REFUSED[..], "action": "SCMP_ACT_ERRNO"}],
                },
            },
        })
    }

    /// From the start of crun to the first byte.
    fn run(&self) -> Result<Duration> {
        let begun = Instant::now();
        let mut command = Command::new("crun");
        command.args(["--cgroup-manager=cgroupfs", "run", "--bundle"]).arg(&self.dir).arg(&self.name).process_group(0);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("starting crun")?;
        let mut byte = [0];
        let read = child.stdout.as_mut().context("crun has no output")?.read(&mut byte)?;
        let time = begun.elapsed();
        let output = child.wait_with_output()?;
        ensure!(read == 1 && output.status.success(), "crun: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(time)
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        // After a failure there may be no container, or no mount.
        let _ = Command::new("crun").args(["delete", "--force", &self.name]).stderr(Stdio::null()).status();
        let _ = unmount(self.dir.join("rootfs"), UnmountFlags::DETACH);
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            eprintln!("bench: removing {}: {error}", self.dir.display());
        }
    }
}
