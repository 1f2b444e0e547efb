//! The engine in this process: no isolation, no files, instant. For tests of everything above an engine, and for looking around where
//! nothing else runs.
//!
//! A machine is a server on the loopback that answers as the smallest `envd`: health, init with its rules about tokens, metrics. It
//! lives as long as the [`Sim`], whoever holds its [`Machine`]; so a test restarts a daemon by keeping the engine. Tests can make
//! machines end, boots slow or impossible, and read what a machine was told.

mod guest;

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use atoll_types::SandboxId;
use tokio::{net::TcpListener, sync::watch, task::AbortHandle, time::sleep};

use self::guest::Guest;
use crate::{Abilities, BootError, BootPlan, Boxed, Exit, Gone, Machine, MachineState, Network, Runtime, Usage};

const NAME: &str = "sim";

/// The engine; clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Sim(Arc<Mutex<World>>);

#[derive(Debug, Default)]
struct World {
    living: HashMap<i32, Living>,
    last_pid: i32,
    delay: Duration,
    refusal: Option<String>,
}

/// A machine that runs.
#[derive(Debug)]
struct Living {
    id: SandboxId,
    state: MachineState,
    guest: Arc<Guest>,
    usage: Usage,
    exit: watch::Sender<Option<Exit>>,
    server: AbortHandle,
}

impl Drop for Living {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Sim {
    /// An engine with no machines.
    pub fn new() -> Self {
        Self::default()
    }

    /// The sandboxes that have a machine, in order of their starts.
    pub fn living(&self) -> Vec<SandboxId> {
        let world = self.world();
        let mut living: Vec<_> = world.living.iter().collect();
        living.sort_by_key(|(pid, _)| **pid);
        living.into_iter().map(|(_, machine)| machine.id.clone()).collect()
    }

    /// The directories of the machines that live.
    pub fn dirs(&self) -> Vec<PathBuf> {
        self.world().living.values().map(|machine| machine.state.dir.clone()).collect()
    }

    /// Ends a sandbox's machine as if by itself; false if it has none.
    pub fn exit(&self, id: &SandboxId, exit: Exit) -> bool {
        self.world().end(|machine| machine.id == *id, exit)
    }

    /// Ends the machine at this address as if by itself; false if there is none.
    pub fn exit_at(&self, guest: SocketAddr, exit: Exit) -> bool {
        self.world().end(|machine| machine.state.guest == guest, exit)
    }

    /// Ends a sandbox's machine as if the kernel had, for want of memory; false if it has none.
    pub fn oom(&self, id: &SandboxId) -> bool {
        self.set_usage(id, Usage { oom_kills: 1, ..Usage::default() });
        self.exit(id, Exit { code: None, oom: true })
    }

    /// Makes boots fail with this reason, or work again.
    pub fn refuse(&self, reason: Option<&str>) {
        self.world().refusal = reason.map(str::to_owned);
    }

    /// Makes boots take this long.
    pub fn delay(&self, delay: Duration) {
        self.world().delay = delay;
    }

    /// Sets what a sandbox's machine uses from now on; false if it has none.
    pub fn set_usage(&self, id: &SandboxId, usage: Usage) -> bool {
        let mut world = self.world();
        let machine = world.living.values_mut().find(|machine| machine.id == *id);
        machine.map(|machine| machine.usage = usage).is_some()
    }

    /// The bodies of `POST /init` that a sandbox's guest has accepted, oldest first.
    pub fn inits(&self, id: &SandboxId) -> Vec<serde_json::Value> {
        let guest = self.world().living.values().find(|machine| machine.id == *id).map(|machine| machine.guest.clone());
        guest.map(|guest| guest.inits()).unwrap_or_default()
    }

    fn world(&self) -> MutexGuard<'_, World> {
        // No code that holds it can leave it half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn adopted(&self, left: &MachineState) -> Option<Simulated> {
        let world = self.world();
        let machine = world.living.get(&left.pid).filter(|machine| machine.state == *left)?;
        Some(Simulated { sim: self.clone(), state: left.clone(), exit: machine.exit.subscribe(), usage: machine.usage })
    }

    async fn start(&self, plan: BootPlan) -> Result<Simulated, BootError> {
        let Network::Host(address) = plan.network else {
            return Err(BootError::Unsupported { runtime: NAME, missing: "the host's network; it does not isolate".to_owned() });
        };
        let (delay, refusal) = {
            let world = self.world();
            (world.delay, world.refusal.clone())
        };
        sleep(delay).await;
        if let Some(reason) = refusal {
            return Err(BootError::Step { step: reason, source: io::Error::other("refused by the test") });
        }
        let step = |step: &str, source| BootError::Step { step: step.to_owned(), source };
        for layer in &plan.root.layers {
            layer.metadata().map_err(|e| step(&format!("opening {}", layer.display()), e))?;
        }
        let listener = TcpListener::bind(address).await.map_err(|e| step("listening", e))?;
        let address = listener.local_addr().map_err(|e| step("listening", e))?;
        Ok(self.settle(plan, address, listener))
    }

    fn settle(&self, plan: BootPlan, address: SocketAddr, listener: TcpListener) -> Simulated {
        let guest = Arc::new(Guest::new(plan.resources));
        let server = tokio::spawn(guest.clone().serve(listener)).abort_handle();
        let (exit, watcher) = watch::channel(None);
        let mut world = self.world();
        world.last_pid += 1;
        let pid = world.last_pid;
        let state = MachineState {
            runtime: NAME.to_owned(),
            pid,
            pid_started: pid.unsigned_abs().into(),
            guest: address,
            dir: plan.dir,
            cgroup: String::new(),
        };
        let usage = Usage { pids: 1, ..Usage::default() };
        world.living.insert(pid, Living { id: plan.id, state: state.clone(), guest, usage, exit, server });
        Simulated { sim: self.clone(), state, exit: watcher, usage }
    }
}

impl World {
    fn end(&mut self, which: impl Fn(&Living) -> bool, exit: Exit) -> bool {
        let pid = self.living.iter().find(|(_, machine)| which(machine)).map(|(pid, _)| *pid);
        let ended = pid.and_then(|pid| self.living.remove(&pid));
        ended.map(|machine| machine.exit.send_replace(Some(exit))).is_some()
    }
}

impl Runtime for Sim {
    fn name(&self) -> &'static str {
        NAME
    }

    fn abilities(&self) -> Abilities {
        Abilities::default()
    }

    fn boot(&self, plan: BootPlan) -> Boxed<'_, Result<Box<dyn Machine>, BootError>> {
        Box::pin(async move { Ok(Box::new(self.start(plan).await?) as Box<dyn Machine>) })
    }

    fn adopt(&self, left: MachineState) -> Boxed<'_, Result<Box<dyn Machine>, Gone>> {
        Box::pin(async move { Ok(Box::new(self.adopted(&left).ok_or(Gone)?) as Box<dyn Machine>) })
    }

    fn discard(&self, left: MachineState) -> Boxed<'_, ()> {
        Box::pin(async move {
            self.world().end(|machine| machine.state == left, STOPPED);
        })
    }

    fn remains(&self) -> Boxed<'_, Vec<(SandboxId, MachineState)>> {
        Box::pin(async { self.world().living.values().map(|machine| (machine.id.clone(), machine.state.clone())).collect() })
    }
}

/// How a machine ends that was told to.
const STOPPED: Exit = Exit { code: Some(0), oom: false };

/// A handle on a machine.
struct Simulated {
    sim: Sim,
    state: MachineState,
    exit: watch::Receiver<Option<Exit>>,
    usage: Usage,
}

impl Machine for Simulated {
    fn guest(&self) -> SocketAddr {
        self.state.guest
    }

    fn state(&self) -> MachineState {
        self.state.clone()
    }

    fn usage(&self) -> Usage {
        self.sim.world().living.get(&self.state.pid).map_or(self.usage, |machine| machine.usage)
    }

    fn exited(&mut self) -> Boxed<'_, Exit> {
        Box::pin(async move {
            match self.exit.wait_for(Option::is_some).await.map(|exit| *exit) {
                Ok(Some(exit)) => exit,
                // The sender says how it ended before it is dropped.
                _ => Exit { code: None, oom: false },
            }
        })
    }

    fn stop(mut self: Box<Self>, _grace: Duration) -> Boxed<'static, Exit> {
        Box::pin(async move {
            self.sim.world().end(|machine| machine.state == self.state, STOPPED);
            self.exited().await
        })
    }
}
