//! Containers as code inside sees them, and as the host does.

#![allow(clippy::unwrap_used)]

mod host;

use std::{
    fs,
    os::unix::fs::MetadataExt,
    time::{Duration, Instant},
};

use atoll_runtime::{
    Machine, Runtime,
    conformance::{self, Fixture, request},
};
use atoll_types::Resources;
use host::Host;

const DEADLINE: Duration = Duration::from_secs(20);

/// A booted container and a way to run things in it.
struct Inside {
    machine: Box<dyn Machine>,
    host: Host,
}

impl Inside {
    async fn start(test: &str) -> Option<Self> {
        Self::limited(test, Resources { cpu_count: 1, memory_mib: 64, disk_mib: 64, pids: 64 }).await
    }

    async fn limited(test: &str, resources: Resources) -> Option<Self> {
        let host = Host::start(test)?;
        let machine = host.engine.boot(host.plan_with(resources)).await.unwrap();
        let deadline = Instant::now() + DEADLINE;
        while request(machine.guest(), "GET", "/health", "").await.is_err() {
            assert!(Instant::now() < deadline, "{}", fs::read_to_string(machine.state().dir.join("envd.log")).unwrap());
        }
        Some(Self { machine, host })
    }

    /// What the guest prints when it is run inside with these words.
    async fn run(&self, words: &[&str]) -> String {
        self.ask("/run", words).await.unwrap().trim().to_owned()
    }

    async fn ask(&self, path: &str, words: &[&str]) -> std::io::Result<String> {
        request(self.machine.guest(), "POST", path, &serde_json::to_string(words)?).await.map(|(_, text)| text)
    }

    async fn stop(self) {
        self.machine.stop(Duration::ZERO).await;
        drop(self.host);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_keep_the_contract() {
    let Some(host) = Host::start("containers_keep_the_contract") else { return };
    conformance::run(&host.engine, &host).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_envd_keeps_the_contract() {
    let Some(host) = Host::start_real("the_real_envd_keeps_the_contract") else { return };
    conformance::run(&host.engine, &host).await.unwrap();
}

#[tokio::test]
async fn a_container_knows_its_name_and_name_servers() {
    let Some(inside) = Inside::start("a_container_knows_its_name_and_name_servers").await else { return };
    let state = inside.machine.state();
    let id = state.dir.file_name().unwrap().to_str().unwrap();
    assert_eq!(inside.run(&["read", "/proc/sys/kernel/hostname"]).await, id);
    assert_eq!(inside.run(&["read", "/etc/hostname"]).await, id);
    assert_eq!(inside.run(&["read", "/etc/resolv.conf"]).await, "nameserver 192.0.2.53");
    assert!(inside.run(&["read", "/etc/hosts"]).await.contains(&format!("{}\t{id}", state.guest.ip())));
    assert_eq!(fs::read_to_string(state.dir.join("envd.log")).unwrap(), "guest is up\n");
    inside.stop().await;
}

#[tokio::test]
async fn root_inside_is_nobody_outside() {
    let Some(inside) = Inside::start("root_inside_is_nobody_outside").await else { return };
    let state = inside.machine.state();
    let outside = fs::metadata(format!("/proc/{}", state.pid)).unwrap();
    assert!(outside.uid() >= 1 << 24, "it runs as {}", outside.uid());

    assert_eq!(inside.run(&["write", "/tmp/new", "text"]).await, "written");
    assert_eq!(inside.run(&["owner", "/tmp/new"]).await, "0:0");
    assert_eq!(inside.run(&["owner", "/bin/guest"]).await, "0:0");
    assert_eq!(inside.run(&["own", "/etc/passwd", "1000"]).await, "owned");
    assert_eq!(fs::metadata(inside.host.layer.join("etc/passwd")).unwrap().uid(), 0, "the layer is shared and must not change");
    inside.stop().await;
}

#[tokio::test]
async fn setuid_programs_work_and_capabilities_are_few() {
    let Some(inside) = Inside::start("setuid_programs_work_and_capabilities_are_few").await else { return };
    let status = inside.run(&["as", "1000", "/bin/setuid", "read", "/proc/self/status"]).await;
    let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!(line("Uid:"), "1000\t0\t0\t0");
    assert_eq!(line("NoNewPrivs:"), "0");
    assert_eq!(line("Seccomp:"), "2");
    let bounding = u64::from_str_radix(&line("CapBnd:"), 16).unwrap();
    assert_eq!(u64::from_str_radix(&line("CapEff:"), 16).unwrap(), bounding);
    const CHOWN: u64 = 1;
    const NET_ADMIN: u64 = 1 << 12;
    const SYS_ADMIN: u64 = 1 << 21;
    assert_eq!(bounding & (CHOWN | NET_ADMIN | SYS_ADMIN), CHOWN);
    assert!(inside.run(&["mount"]).await.contains("Operation not permitted"));
    let refusal = inside.run(&["namespaces"]).await;
    assert!(refusal.contains("Operation not permitted"), "{refusal}");
    inside.stop().await;
}

#[tokio::test]
async fn the_host_is_out_of_sight() {
    let Some(inside) = Inside::start("the_host_is_out_of_sight").await else { return };
    let listed = inside.run(&["list", "/proc"]).await;
    let pids: Vec<u32> = listed.lines().filter_map(|name| name.parse().ok()).collect();
    assert!(pids.contains(&1) && pids.len() == 2, "{pids:?}");
    assert_eq!(inside.run(&["read", "/proc/timer_list"]).await, "");
    for sealed in ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/sys/kernel/uevent_helper"] {
        assert!(inside.run(&["write", sealed, "x"]).await.starts_with("error"), "{sealed}");
    }
    let mounts = inside.run(&["read", "/proc/self/mountinfo"]).await;
    assert!(!mounts.contains(inside.machine.state().dir.to_str().unwrap()), "{mounts}");
    assert_eq!(inside.run(&["list", "/proc/1/fd"]).await.lines().filter(|fd| fd.parse::<u32>().is_ok_and(|fd| fd < 3)).count(), 3);
    let devices = inside.run(&["list", "/dev"]).await;
    for device in ["null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm", "mqueue", "fd", "stdin", "stdout", "stderr"] {
        assert!(devices.lines().any(|name| name == device), "no {device}");
    }
    assert_eq!(inside.run(&["write", "/dev/null", "x"]).await, "written");
    assert_eq!(inside.run(&["write", "/dev/shm/x", "x"]).await, "written");
    inside.stop().await;
}

#[tokio::test]
async fn directories_of_a_layer_can_be_renamed() {
    let Some(inside) = Inside::start("directories_of_a_layer_can_be_renamed").await else { return };
    assert_eq!(inside.run(&["rename", "/below", "/above"]).await, "renamed");
    assert_eq!(inside.run(&["list", "/above"]).await, "deep");
    assert!(inside.host.layer.join("below/deep").exists());
    inside.stop().await;
}

#[tokio::test]
async fn want_of_memory_ends_a_process_and_only_then_the_machine() {
    let Some(mut inside) = Inside::start("want_of_memory_ends_a_process_and_only_then_the_machine").await else { return };
    if inside.machine.usage().memory_bytes == 0 {
        eprintln!("SKIPPED want_of_memory_ends_a_process_and_only_then_the_machine: no memory controller");
        return inside.stop().await;
    }
    assert_eq!(inside.machine.usage().oom_kills, 0);
    assert!(inside.run(&["eat", "100"]).await.contains("signal: 9"));
    let usage = inside.machine.usage();
    assert_eq!(usage.oom_kills, 1);
    assert!(usage.cpu_usec > 0 && usage.pids >= 1, "{usage:?}");
    assert_eq!(request(inside.machine.guest(), "GET", "/health", "").await.unwrap().0, 204);

    assert!(inside.ask("/self", &["eat", "100"]).await.is_err());
    let exit = inside.machine.exited().await;
    assert_eq!((exit.code, exit.oom), (None, true));
    inside.stop().await;
}

#[tokio::test]
async fn a_full_disk_is_full_for_its_machine_only() {
    let Some(inside) = Inside::start("a_full_disk_is_full_for_its_machine_only").await else { return };
    if !inside.host.engine.abilities().disk_limit {
        eprintln!("SKIPPED a_full_disk_is_full_for_its_machine_only: this host cannot make disks");
        return inside.stop().await;
    }
    let dir = inside.machine.state().dir;
    let files: u32 = inside.run(&["flood", "/tmp/many"]).await.parse().unwrap();
    assert!((4_000..=4_400).contains(&files), "room for {files} files in 64 MiB");
    assert_eq!(inside.run(&["write", "/etc/passwd", "root:x:0:0::/:"]).await, "error: No space left on device (os error 28)");
    assert_eq!(inside.run(&["remove", "/tmp/many"]).await, "removed");

    let mebibytes: u32 = inside.run(&["fill", "/tmp/big"]).await.parse().unwrap();
    assert!((62..=66).contains(&mebibytes), "room for {mebibytes} of 64 MiB");
    assert_eq!(inside.run(&["write", "/dev/shm/x", "x"]).await, "written");
    assert_eq!(inside.run(&["remove", "/tmp/big"]).await, "removed");
    assert_eq!(inside.run(&["write", "/tmp/small", "x"]).await, "written");
    let room = || fs::metadata(dir.join("disk.img")).unwrap().blocks() * 512;
    let deadline = Instant::now() + DEADLINE;
    while room() > 8 << 20 {
        assert!(Instant::now() < deadline, "{} bytes of what was deleted are not free", room());
        tokio::task::yield_now().await;
    }

    assert!(!inside.host.traces(&dir).is_empty());
    inside.machine.stop(Duration::ZERO).await;
    assert_eq!(inside.host.traces(&dir), [] as [String; 0]);
}

#[tokio::test]
async fn without_disks_the_writable_layer_is_a_directory() {
    let Some(host) = Host::start_without_disks("without_disks_the_writable_layer_is_a_directory") else { return };
    assert!(!host.engine.abilities().disk_limit);
    conformance::run(&host.engine, &host).await.unwrap();
    let machine = host.engine.boot(host.plan()).await.unwrap();
    let upper = machine.state().dir.join("upper");
    assert_eq!(fs::metadata(upper.join("etc/resolv.conf")).unwrap().uid(), 0, "owners are those seen inside");
    machine.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn processes_are_limited() {
    let resources = Resources { cpu_count: 1, memory_mib: 256, disk_mib: 64, pids: 10 };
    let Some(inside) = Inside::limited("processes_are_limited", resources).await else { return };
    if inside.machine.usage().pids == 0 {
        eprintln!("SKIPPED processes_are_limited: no pids controller");
        return inside.stop().await;
    }
    let started: u32 = inside.run(&["children", "30"]).await.parse().unwrap();
    assert!((1..10).contains(&started), "{started} of 10 allowed");
    assert!(inside.machine.usage().pids_refused > 0);
    inside.stop().await;
}

#[tokio::test]
async fn hostile_roots_are_refused_or_harmless() {
    let Some(host) = Host::start("hostile_roots_are_refused_or_harmless") else { return };
    let canary = host.layer.with_file_name("canary");
    fs::create_dir(&canary).unwrap();
    let etc = host.layer.join("etc");
    fs::remove_dir_all(&etc).unwrap();
    std::os::unix::fs::symlink(&canary, &etc).unwrap();
    let plan = host.plan();
    let dir = plan.dir.clone();
    let machine = match host.engine.boot(plan).await {
        Ok(machine) => Some(machine),
        Err(error) => {
            assert!(error.to_string().contains("/etc"), "{error}");
            None
        }
    };
    assert_eq!(fs::read_dir(&canary).unwrap().count(), 0, "the link was followed out of the root");
    if let Some(machine) = machine {
        machine.stop(Duration::ZERO).await;
    }
    assert!(host.traces(&dir).is_empty());

    fs::remove_file(&etc).unwrap();
    std::os::unix::fs::symlink("/tmp", host.layer.join("proc")).unwrap();
    let error = host.engine.boot(host.plan()).await.err().expect("a /proc elsewhere would escape its masks");
    assert_eq!(error.to_string(), "mounting /proc");
}
