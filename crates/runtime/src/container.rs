//! The engine without hardware: namespaces, an overlay of id-mapped layers, cgroups and a system call filter.
//!
//! A machine is the first process of a pid namespace, which is `envd`, and a cgroup named after the sandbox. When the first process
//! ends, the kernel ends the others before anybody can see the end, so waiting for it is waiting for all. The machine's directory
//! holds `envd.log` and the image of its [`disk`], or, where the host has none of these, `upper` and `work`: the writable layer with
//! the owners seen inside.

mod disk;
mod probe;

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use atoll_sys::{
    cgroup::{Cgroup, Hierarchies, Limits},
    launch,
    pidfd::{Process, Signal, Status, Watched},
    protection::{Disabled, Protection},
};
use atoll_types::{ENVD_PORT, SandboxId, Stopwatch, fault};
use tokio::{
    task::spawn_blocking,
    time::{sleep, timeout},
};

use self::disk::{DiskError, Disks};
pub use self::probe::{Capability, probe};
use crate::{Abilities, BootError, BootPlan, Boxed, Exit, Gone, Machine, MachineState, Network, Runtime, Usage};

const NAME: &str = "container";

/// How long the kernel may take to let go of a cgroup whose processes have ended.
const CGROUP_PATIENCE: Duration = Duration::from_secs(5);

/// How long a process that is not our child may take to be collected by its parent, before which nobody can tell how it ended.
const COLLECTION: Duration = Duration::from_millis(100);

/// Where the engine finds its parts.
#[derive(Debug, Clone)]
pub struct ContainerConfig {
    /// The program that runs in every sandbox; static, and executable for everyone.
    pub envd: PathBuf,
    /// The program that starts it; see [`atoll_sys::launch`].
    pub launch: PathBuf,
    /// The cgroup, relative to the root of each hierarchy, in which each machine gets one; only this daemon's.
    pub cgroup_parent: String,
    /// What shall not protect the host from the machines.
    pub disabled: Disabled,
    /// A directory on the file system that holds the directories of machines.
    pub data_dir: PathBuf,
    /// What is made once for all disks goes into `disks` here.
    pub cache_dir: PathBuf,
}

/// The engine.
#[derive(Debug, Clone)]
pub struct Container(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    config: ContainerConfig,
    hierarchies: Hierarchies,
    disks: Option<Disks>,
}

impl Container {
    /// Looks at the host's cgroups and disks; what is missing there is not limited, and said once in the log. Blocks for some
    /// milliseconds.
    pub fn new(config: ContainerConfig) -> io::Result<Self> {
        let hierarchies = Hierarchies::detect()?;
        let missing = hierarchies.missing();
        if !missing.is_empty() {
            tracing::warn!(controllers = missing.join(","), "this host lacks cgroup controllers: sandboxes are not limited in these");
        }
        let disks = Disks::new(&config.data_dir, &config.cache_dir.join("disks"));
        if let Err(DiskError { step, source }) = &disks {
            tracing::warn!(
                error = format!("{step}: {source}"),
                "this host cannot make disks for sandboxes: what they write lies in {}, and only its size limits it",
                config.data_dir.display()
            );
        }
        Ok(Self(Arc::new(Parts { config, hierarchies, disks: disks.ok() })))
    }
}

impl Parts {
    fn group(&self, name: &str) -> Option<Cgroup> {
        (!name.is_empty()).then(|| self.hierarchies.group(&format!("{}/{name}", self.config.cgroup_parent)))
    }

    /// The first process of a machine, dead or alive. Start times count from the start of the host: after a restart of the host
    /// another process can have both numbers, but is not in the cgroup.
    fn process(&self, left: &MachineState) -> Option<Process> {
        let group = self.group(&left.cgroup);
        let process = Process::find(left.pid, left.pid_started)?;
        (process.has_ended() || group.is_none_or(|group| group.holds(process.pid()))).then_some(process)
    }

    fn start(&self, plan: BootPlan) -> Result<Started, BootError> {
        let BootPlan { id, dir, root, resources, network, dns } = plan;
        let Network::Slot { user_ns, net_ns, address } = network else {
            return Err(BootError::Unsupported { runtime: NAME, missing: "a network slot; it cannot share the host's network".into() });
        };
        let id = id.to_string();
        let memory_bytes = u64::from(resources.memory_mib) << 20;
        let step = |step: &str| {
            let step = step.to_owned();
            move |source| BootError::Step { step, source }
        };
        let mut watch = Stopwatch::start();
        let disk = match &self.disks {
            Some(disks) => Some(disks.take(resources.disk_mib, &dir)?),
            None => disk::layout(&dir).map(|()| None).map_err(step("making the writable layer"))?,
        };
        fault::fallible("machine.layer").map_err(step("making the writable layer"))?;
        let log = OpenOptions::new().create(true).append(true).mode(0o600).open(dir.join("envd.log")).map_err(step("opening the log"))?;
        let files_us = watch.lap();

        let limits = match self.config.disabled.spares(Protection::CgroupLimits) {
            true => Limits { memory_bytes, cpus: resources.cpu_count, pids: resources.pids },
            false => Limits::NONE,
        };
        let name = format!("{}/{id}", self.config.cgroup_parent);
        let cgroup = self.hierarchies.create(&name, &limits).map_err(step("making the cgroup"))?;
        let cgroup_us = watch.lap();
        fault::point("machine.cgroup");
        let mut left = Left { process: None, cgroup: Some(cgroup.clone()) };

        let arguments = vec!["envd".to_owned(), "-isnotfc".to_owned()];
        let plan = launch::Plan {
            hostname: id.clone(),
            dir: dir.clone(),
            layers: root.layers,
            etc: etc(&id, address, &dns),
            shm_bytes: memory_bytes / 2,
            cgroup: cgroup.entrance(),
            show_cgroup: cgroup.is_v2(),
            port: ENVD_PORT,
            program: self.config.envd.clone(),
            arguments,
            disabled: self.config.disabled.clone(),
        };
        let place = launch::Place { users: user_ns.as_fd(), network: net_ns.as_fd(), disk: disk.as_ref().map(AsFd::as_fd) };
        let process = launch::spawn(&self.config.launch, &plan, place, log)
            .map_err(|launch::Failure { step, source }| BootError::Step { step, source })?;
        tracing::debug!(target: "atoll_steps", files_us, cgroup_us, launch_us = watch.lap(), "machine");
        let state = MachineState {
            runtime: NAME.to_owned(),
            pid: process.pid(),
            pid_started: process.started(),
            guest: SocketAddr::new(address.into(), ENVD_PORT),
            dir,
            cgroup: id,
        };
        left.process = Some(process);
        fault::fallible("machine.spawned").map_err(step("starting the first process"))?;
        Ok(Started { left, state })
    }
}

/// Files of `/etc` that say where the sandbox is.
fn etc(id: &str, address: Ipv4Addr, dns: &[IpAddr]) -> BTreeMap<String, String> {
    let hosts = format!("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n{address}\t{id}\n");
    let resolv: String = dns.iter().map(|server| format!("nameserver {server}\n")).collect();
    [("hostname", format!("{id}\n")), ("hosts", hosts), ("resolv.conf", resolv)].map(|(name, text)| (name.to_owned(), text)).into()
}

impl Runtime for Container {
    fn name(&self) -> &'static str {
        NAME
    }

    fn abilities(&self) -> Abilities {
        Abilities { disk_limit: self.0.disks.is_some(), ..Abilities::default() }
    }

    fn boot(&self, plan: BootPlan) -> Boxed<'_, Result<Box<dyn Machine>, BootError>> {
        let parts = self.0.clone();
        Box::pin(async move {
            let size = plan.resources.disk_mib;
            // If this future is dropped, the result is, and takes the machine with it.
            let started = run_blocking({
                let parts = parts.clone();
                move || parts.start(plan)
            });
            let Started { left, state } = started.await?;
            drop(spawn_blocking(move || parts.disks.as_ref().map(|disks| disks.restock(size))));
            let machine = Running::watch(left, state).map_err(|source| BootError::Step { step: "watching the machine".into(), source })?;
            Ok(Box::new(machine) as Box<dyn Machine>)
        })
    }

    fn adopt(&self, left: MachineState) -> Boxed<'_, Result<Box<dyn Machine>, Gone>> {
        Box::pin(async move {
            let process = self.0.process(&left).filter(|process| left.runtime == NAME && !process.has_ended()).ok_or(Gone)?;
            let cgroup = self.0.group(&left.cgroup);
            let machine = Running::watch(Left { process: Some(process), cgroup }, left).map_err(|_| Gone)?;
            Ok(Box::new(machine) as Box<dyn Machine>)
        })
    }

    fn discard(&self, left: MachineState) -> Boxed<'_, ()> {
        let (process, cgroup) = (self.0.process(&left), self.0.group(&left.cgroup));
        Box::pin(run_blocking(move || drop(Left { process, cgroup })))
    }

    fn remains(&self) -> Boxed<'_, Vec<(SandboxId, MachineState)>> {
        let groups = self.0.hierarchies.groups_in(&self.0.config.cgroup_parent);
        let ids = groups.into_iter().filter_map(|name| name.parse::<SandboxId>().ok());
        let found = ids.map(|id| (id.clone(), MachineState::unnamed(self, &id, PathBuf::new()))).collect();
        Box::pin(async { found })
    }
}

/// Runs what blocks on the thread pool for that. A panic there goes on here.
async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work).await {
        Ok(value) => value,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only while the async runtime goes down, when nobody polls this any more.
            Err(_) => std::future::pending().await,
        },
    }
}

/// A machine between its start and somebody who watches it.
struct Started {
    left: Left,
    state: MachineState,
}

/// All that a machine is on the host. Dropped, it is gone; blocks until then.
struct Left {
    process: Option<Process>,
    cgroup: Option<Cgroup>,
}

impl Drop for Left {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            if let Err(error) = process.signal(Signal::KILL) {
                tracing::warn!(pid = process.pid(), %error, "could not end a machine");
            }
            process.wait(CGROUP_PATIENCE);
            process.reap();
        }
        fault::point("machine.ended");
        if let Some(cgroup) = self.cgroup.take()
            && let Err(error) = cgroup.remove(CGROUP_PATIENCE)
        {
            tracing::warn!(%error, "could not remove a cgroup");
        }
    }
}

/// A machine. It lives on when this is dropped.
struct Running {
    process: Watched,
    cgroup: Option<Cgroup>,
    state: MachineState,
    /// We have used force, so that is what ended it.
    forced: bool,
    exit: Option<Exit>,
}

impl Running {
    fn watch(mut left: Left, state: MachineState) -> io::Result<Self> {
        let Some(process) = left.process.take() else { return Err(io::ErrorKind::NotFound.into()) };
        let process = process.watch().map_err(|(process, error)| {
            left.process = Some(process);
            error
        })?;
        Ok(Self { process, cgroup: left.cgroup.take(), state, forced: false, exit: None })
    }

    async fn wait(&mut self) -> Exit {
        if let Some(exit) = self.exit {
            return exit;
        }
        self.process.ended().await;
        let status = match self.process.reap() {
            Some(status) => Some(status),
            None => self.collected().await,
        };
        let killed = status.is_none_or(|status| status == Status::Killed(Signal::KILL.as_raw()));
        let exit = Exit {
            code: status.and_then(|status| if let Status::Exited(code) = status { Some(code) } else { None }),
            oom: killed && !self.forced && self.usage().oom_kills > 0,
        };
        *self.exit.insert(exit)
    }

    /// How a process ended that is another's child.
    async fn collected(&self) -> Option<Status> {
        let status = async {
            loop {
                match self.process.reap() {
                    Some(status) => return status,
                    None => sleep(Duration::from_millis(5)).await,
                }
            }
        };
        timeout(COLLECTION, status).await.ok()
    }

    fn signal(&self, signal: Signal) {
        if let Err(error) = self.process.signal(signal) {
            tracing::warn!(pid = self.state.pid, %error, "could not signal a machine");
        }
    }
}

impl Machine for Running {
    fn guest(&self) -> SocketAddr {
        self.state.guest
    }

    fn state(&self) -> MachineState {
        self.state.clone()
    }

    fn usage(&self) -> Usage {
        let usage = self.cgroup.as_ref().map(Cgroup::usage).unwrap_or_default();
        let atoll_sys::cgroup::Usage { cpu_usec, memory_bytes, cache_bytes, pids, oom_kills, pids_refused } = usage;
        Usage { cpu_usec, memory_bytes, cache_bytes, pids, oom_kills, pids_refused }
    }

    fn exited(&mut self) -> Boxed<'_, Exit> {
        Box::pin(self.wait())
    }

    fn stop(mut self: Box<Self>, grace: Duration) -> Boxed<'static, Exit> {
        Box::pin(async move {
            self.signal(Signal::TERM);
            let exit = match timeout(grace, self.wait()).await {
                Ok(exit) => exit,
                Err(_) => {
                    self.forced = true;
                    self.signal(Signal::KILL);
                    self.wait().await
                }
            };
            let cgroup = self.cgroup.take();
            run_blocking(move || drop(Left { process: None, cgroup })).await;
            exit
        })
    }
}
