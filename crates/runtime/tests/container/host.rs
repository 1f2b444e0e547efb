//! A host for containers that a test makes and that cleans up after itself.

use std::{
    fs, io,
    net::Ipv4Addr,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use atoll_runtime::{
    BootPlan, Boxed, MachineState, Network, RootFs,
    conformance::{Fixture, request},
    container::{Container, ContainerConfig, probe},
};
use atoll_sys::{
    cgroup::Hierarchies,
    loop_device, namespace,
    netlink::Netlink,
    pidfd::{Process, Signal},
    protection::Disabled,
};
use atoll_types::{Resources, SandboxId};

/// Ids, links and addresses of tests are told apart by this number.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// Where containers live, and what is left of them.
pub struct Host {
    /// The engine.
    pub engine: Container,
    /// One layer with a guest in it.
    pub layer: PathBuf,
    dir: PathBuf,
    cgroup_parent: String,
    /// Its guests are the real `envd`.
    is_real: bool,
    links: Mutex<Vec<String>>,
}

impl Host {
    /// A host, unless this machine cannot have containers.
    pub fn start(test: &str) -> Option<Self> {
        let dir = std::env::temp_dir().join(format!("atoll-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&dir).unwrap();
        if let Some(missing) = probe(&dir).into_iter().find(|capability| capability.fatal && !capability.there) {
            eprintln!("SKIPPED {test}: {missing}");
            fs::remove_dir(&dir).unwrap();
            return None;
        }
        let guest = guest();
        let layer = dir.join("layer");
        for below in ["bin", "etc", "tmp", "below/deep"] {
            fs::create_dir_all(layer.join(below)).unwrap();
        }
        fs::write(layer.join("etc/passwd"), "root:x:0:0::/:/bin/guest\nuser:x:1000:1000::/:/bin/guest\n").unwrap();
        std::os::unix::fs::symlink("../run/elsewhere", layer.join("etc/resolv.conf")).unwrap();
        for (name, mode) in [("guest", 0o755), ("setuid", 0o4755)] {
            fs::copy(&guest, layer.join("bin").join(name)).unwrap();
            fs::set_permissions(layer.join("bin").join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        let cgroup_parent = format!("atoll-test-{}", dir.file_name().unwrap().display());
        let engine = engine(guest.clone(), guest, &cgroup_parent, &dir, &dir);
        Some(Self { engine, layer, dir, cgroup_parent, is_real: false, links: Mutex::default() })
    }

    /// The same where there is no place for blank disks.
    pub fn start_without_disks(test: &str) -> Option<Self> {
        let mut host = Self::start(test)?;
        host.engine = engine(guest(), guest(), &host.cgroup_parent, &host.dir, Path::new("/proc"));
        Some(host)
    }

    /// The same with the `envd` that `ATOLL_TEST_ENVD` names, in the root file system that `ATOLL_TEST_ROOT` names, if it does.
    pub fn start_real(test: &str) -> Option<Self> {
        let Some(envd) = std::env::var_os("ATOLL_TEST_ENVD") else {
            eprintln!("SKIPPED {test}: ATOLL_TEST_ENVD names no envd; `cargo xtask check` sets it after `cargo xtask build`");
            return None;
        };
        let mut host = Self::start(test)?;
        host.engine = engine(envd.into(), guest(), &host.cgroup_parent, &host.dir, &host.dir);
        if let Some(root) = std::env::var_os("ATOLL_TEST_ROOT") {
            host.layer = root.into();
        }
        host.is_real = true;
        Some(host)
    }

    /// A network that the test can reach.
    fn slot(&self) -> Network {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let place = std::process::id() % 4096;
        let pair = namespace::create_pair((1 << 24) + number * namespace::IDS).unwrap();
        // The block for benchmarks of interconnected networks; nobody else's.
        let subnet = u32::from(Ipv4Addr::new(198, 18, 0, 0)) + (place * 16 + number % 16) * 2;
        let (gateway, address) = (Ipv4Addr::from(subnet), Ipv4Addr::from(subnet + 1));
        let link = format!("at{}n{number}", std::process::id());
        let mut here = Netlink::open().unwrap();
        here.create_veth(&link, "eth0", &pair.net).unwrap();
        here.add_address(&link, gateway, 31).unwrap();
        here.set_up(&link, true).unwrap();
        let inside = || -> io::Result<()> {
            let mut there = Netlink::open()?;
            there.set_up("lo", true)?;
            there.add_address("eth0", address, 31)?;
            there.set_up("eth0", true)
        };
        namespace::in_network(&pair.net, inside).unwrap().unwrap();
        self.links.lock().unwrap().push(link);
        Network::Slot { user_ns: Arc::new(pair.user), net_ns: Arc::new(pair.net), address }
    }

    /// A plan with these limits.
    pub fn plan_with(&self, resources: Resources) -> BootPlan {
        let id = SandboxId::random();
        let dir = self.dir.join(id.as_str());
        fs::create_dir(&dir).unwrap();
        let root = RootFs { layers: vec![self.layer.clone()] };
        BootPlan { id, dir, root, resources, network: self.slot(), dns: vec![Ipv4Addr::new(192, 0, 2, 53).into()] }
    }
}

impl Fixture for Host {
    fn plan(&self) -> BootPlan {
        self.plan_with(Resources { cpu_count: 1, memory_mib: 64, disk_mib: 64, pids: 64 })
    }

    fn broken_plan(&self) -> BootPlan {
        BootPlan { root: RootFs { layers: vec![self.dir.join("nowhere")] }, ..self.plan() }
    }

    fn end(&self, machine: MachineState) -> Boxed<'_, Option<i32>> {
        Box::pin(async move {
            if self.is_real {
                Process::find(machine.pid, machine.pid_started).unwrap().signal(Signal::KILL).unwrap();
                return None;
            }
            // It ends before it answers.
            let _ = request(machine.guest, "POST", "/exit", "[\"7\"]").await;
            Some(7)
        })
    }

    fn traces(&self, dir: &Path) -> Vec<String> {
        let id = dir.file_name().unwrap().display().to_string();
        let mut found = find_dirs(Path::new("/sys/fs/cgroup"), &format!("{}/{id}", self.cgroup_parent));
        for process in fs::read_dir("/proc").unwrap().flatten() {
            let mounts = fs::read_to_string(process.path().join("mountinfo")).unwrap_or_default();
            if mounts.contains(&id) || is_in_group(&process.path(), &id) {
                found.push(process.path().display().to_string());
            }
        }
        // The image's name came later than the device, which knows it by its number.
        if let Ok(image) = fs::metadata(dir.join("disk.img")) {
            let name = format!("#{} (deleted)", image.ino());
            let shown = loop_device::showing_files_in(&self.dir).unwrap();
            found.extend(shown.into_iter().filter(|(_, file)| file.ends_with(&name)).map(|(device, _)| device));
        }
        found
    }
}

/// The engine with its parts in these places.
fn engine(envd: PathBuf, launch: PathBuf, cgroup_parent: &str, data_dir: &Path, cache_dir: &Path) -> Container {
    let (data_dir, cache_dir) = (data_dir.to_owned(), cache_dir.to_owned());
    let (cgroup_parent, disabled) = (cgroup_parent.to_owned(), Disabled::default());
    Container::new(ContainerConfig { envd, launch, cgroup_parent, disabled, data_dir, cache_dir }).unwrap()
}

fn is_in_group(process: &Path, id: &str) -> bool {
    fs::read_to_string(process.join("cgroup")).unwrap_or_default().lines().any(|line| line.ends_with(id))
}

/// Directories with this path in any hierarchy.
fn find_dirs(root: &Path, path: &str) -> Vec<String> {
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    let places = hierarchies.chain([root.to_owned()]).map(|hierarchy| hierarchy.join(path));
    places.filter(|place| place.exists()).map(|place| place.display().to_string()).collect()
}

impl Drop for Host {
    fn drop(&mut self) {
        let mut netlink = Netlink::open().unwrap();
        for link in self.links.lock().unwrap().iter() {
            netlink.delete_link(link).unwrap();
        }
        // A test that failed leaves its machine.
        let hierarchies = Hierarchies::detect().unwrap();
        let machines = hierarchies.groups_in(&self.cgroup_parent).into_iter().map(|name| format!("{}/{name}", self.cgroup_parent));
        for group in machines.chain([self.cgroup_parent.clone()]) {
            let _ = hierarchies.group(&group).remove(Duration::from_secs(5));
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// The program of `examples/guest.rs`, built if only this test was.
fn guest() -> PathBuf {
    static GUEST: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let here = std::env::current_exe().unwrap();
        let guest = here.parent().unwrap().parent().unwrap().join("examples/guest");
        if !guest.exists() {
            let cargo = std::env::var("CARGO").unwrap_or("cargo".into());
            assert!(Command::new(cargo).args(["build", "-q", "-p", "atoll-runtime", "--example", "guest"]).status().unwrap().success());
        }
        guest
    };
    GUEST.get_or_init(build).clone()
}
