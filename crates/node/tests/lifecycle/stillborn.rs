//! An engine whose machines end before they answer, and take their time to start.

use std::{
    fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use atoll_runtime::{Abilities, BootError, BootPlan, Boxed, Exit, Gone, Machine, MachineState, Runtime, Usage};
use atoll_types::SandboxId;
use tokio::{net::TcpListener, sync::Notify, time::sleep};

#[derive(Clone, Default)]
pub struct Stillborn {
    pub delay: Duration,
    /// Told when a start begins.
    pub begun: Arc<Notify>,
    /// How many machines were stopped.
    pub stopped: Arc<AtomicUsize>,
}

struct Corpse {
    /// Connections wait in its queue, so that no try to reach it fails at once.
    listener: TcpListener,
    state: MachineState,
    stopped: Arc<AtomicUsize>,
}

const EXIT: Exit = Exit { code: Some(3), oom: false };

impl Runtime for Stillborn {
    fn name(&self) -> &'static str {
        "stillborn"
    }

    fn abilities(&self) -> Abilities {
        Abilities::default()
    }

    fn boot(&self, plan: BootPlan) -> Boxed<'_, Result<Box<dyn Machine>, BootError>> {
        Box::pin(async move {
            self.begun.notify_one();
            sleep(self.delay).await;
            fs::write(plan.dir.join("envd.log"), "starting\ncannot find init\n").unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let guest = listener.local_addr().unwrap();
            let (runtime, cgroup) = (self.name().to_owned(), String::new());
            let state = MachineState { runtime, pid: 0, pid_started: 0, guest, dir: plan.dir, cgroup };
            Ok(Box::new(Corpse { listener, state, stopped: self.stopped.clone() }) as Box<dyn Machine>)
        })
    }

    fn adopt(&self, _: MachineState) -> Boxed<'_, Result<Box<dyn Machine>, Gone>> {
        Box::pin(async { Err(Gone) })
    }

    fn discard(&self, _: MachineState) -> Boxed<'_, ()> {
        Box::pin(async {})
    }

    fn remains(&self) -> Boxed<'_, Vec<(SandboxId, MachineState)>> {
        Box::pin(async { Vec::new() })
    }
}

impl Machine for Corpse {
    fn guest(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    fn state(&self) -> MachineState {
        self.state.clone()
    }

    fn usage(&self) -> Usage {
        Usage::default()
    }

    fn exited(&mut self) -> Boxed<'_, Exit> {
        Box::pin(async { EXIT })
    }

    fn stop(self: Box<Self>, _: Duration) -> Boxed<'static, Exit> {
        self.stopped.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { EXIT })
    }
}
