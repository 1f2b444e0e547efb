//! One trait, many engines: what a node needs from whatever holds a sandbox.
//!
//! An engine turns a [`BootPlan`] into a [`Machine`] in which `envd` runs and answers at [`Machine::guest`]. Machines outlive the
//! daemon: [`Machine::state`] is what the node writes down, [`Runtime::adopt`] takes it back after a restart, and
//! [`Runtime::discard`] removes what is left of a machine that does not live any more. The suite in [`conformance`] is the
//! contract that every engine passes.

pub mod conformance;
pub mod container;
mod plan;
pub mod sim;

use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    pin::Pin,
    time::Duration,
};

use atoll_types::SandboxId;

pub use plan::{BootPlan, Network, RootFs};

/// A boxed future; booting is not a path on which one allocation counts.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One engine that can hold sandboxes.
pub trait Runtime: Send + Sync + 'static {
    /// Its name in configuration, state files and the API.
    fn name(&self) -> &'static str;

    /// What it can do: facts, not promises.
    fn abilities(&self) -> Abilities;

    /// Starts a machine. When the future resolves, `envd` has been started; it may need a moment more to answer. On failure nothing
    /// of the machine is left. If the future is dropped, nothing is left after a moment that nobody can tell: whoever wants to use
    /// the directory or the network for something else waits for the future, which always resolves within a minute.
    fn boot(&self, plan: BootPlan) -> Boxed<'_, Result<Box<dyn Machine>, BootError>>;

    /// Takes back a machine that outlived the daemon.
    fn adopt(&self, left: MachineState) -> Boxed<'_, Result<Box<dyn Machine>, Gone>>;

    /// Removes what is left of a machine: processes, cgroup, mounts. Idempotent; the state directory itself is the caller's.
    fn discard(&self, left: MachineState) -> Boxed<'_, ()>;

    /// Everything that is on the host of this engine's machines, each named well enough for [`Runtime::discard`]. Machines that
    /// outlived their state files are found by this.
    fn remains(&self) -> Boxed<'_, Vec<(SandboxId, MachineState)>>;
}

/// A running machine. Dropping it leaves it running: the node's state file still names it.
pub trait Machine: Send + 'static {
    /// Where its `envd` listens.
    fn guest(&self) -> SocketAddr;

    /// What [`Runtime::adopt`] needs.
    fn state(&self) -> MachineState;

    /// What it uses now, measured from outside.
    fn usage(&self) -> Usage;

    /// Resolves when its first process has ended by itself; again at once if asked again.
    fn exited(&mut self) -> Boxed<'_, Exit>;

    /// Ends it: a polite signal, then after `grace` the hard way, and removes everything [`Runtime::boot`] made.
    fn stop(self: Box<Self>, grace: Duration) -> Boxed<'static, Exit>;
}

/// What an engine can do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Abilities {
    /// Stop the clock of a machine and start it again.
    pub pause: bool,
    /// Write its files to disk as a snapshot.
    pub snapshot: bool,
    /// A fork keeps the memory, not only the files.
    pub fork_memory: bool,
    /// What a machine writes is limited to [`Resources::disk_mib`](atoll_types::Resources).
    pub disk_limit: bool,
}

/// How a machine ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Exit code of the first process; `None` when a signal ended it or nobody could see.
    pub code: Option<i32>,
    /// The kernel ended a process for want of memory, and the machine with it.
    pub oom: bool,
}

/// Plain data by which an engine finds a machine again; part of the node's versioned state file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MachineState {
    /// [`Runtime::name`] of the engine.
    pub runtime: String,
    /// The first process, as the host counts it, and when it started (clock ticks since boot), which tells it from a later process
    /// with the same number.
    pub pid: i32,
    /// See `pid`.
    pub pid_started: u64,
    /// Where its `envd` listens.
    pub guest: SocketAddr,
    /// The machine's state directory.
    pub dir: PathBuf,
    /// Name of its cgroup below Atoll's own; empty when it has none.
    #[serde(default)]
    pub cgroup: String,
}

impl MachineState {
    /// A machine of which only the sandbox is known: its start was cut off before it was written down, or what was written is lost.
    pub fn unnamed(runtime: &dyn Runtime, id: &SandboxId, dir: PathBuf) -> Self {
        let guest = (Ipv4Addr::UNSPECIFIED, 0).into();
        Self { runtime: runtime.name().to_owned(), pid: 0, pid_started: 0, guest, dir, cgroup: id.to_string() }
    }
}

/// What a machine uses, measured from outside it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time used since it started, in microseconds.
    pub cpu_usec: u64,
    /// Memory in bytes, page cache included.
    pub memory_bytes: u64,
    /// The part of it that is page cache.
    pub cache_bytes: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Times the kernel ended a process for want of memory.
    pub oom_kills: u64,
    /// Times it refused to make one because there were as many as allowed.
    pub pids_refused: u64,
}

/// Why a machine did not start. Whatever the variant, nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The host lacks something this engine needs.
    #[error("this host cannot run a `{runtime}` sandbox: {missing}")]
    Unsupported {
        /// The engine.
        runtime: &'static str,
        /// What is missing and what to do about it.
        missing: String,
    },
    /// A step of the start failed.
    #[error("{step}")]
    Step {
        /// What was being done, for a person: `mounting the root file system`.
        step: String,
        /// What went wrong.
        #[source]
        source: std::io::Error,
    },
}

/// There is no such machine any more.
#[derive(Debug, thiserror::Error)]
#[error("the machine is gone")]
pub struct Gone;
