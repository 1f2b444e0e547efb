//! An engine whose machines end before they answer.

use std::{fs, net::SocketAddr, time::Duration};

use atoll_runtime::{Abilities, BootError, BootPlan, Boxed, Exit, Gone, Machine, MachineState, Runtime, Usage};
use tokio::net::TcpListener;

pub struct Stillborn;

struct Corpse {
    /// Connections wait in its queue, so that no try to reach it fails at once.
    listener: TcpListener,
    state: MachineState,
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
            fs::write(plan.dir.join("envd.log"), "starting\ncannot find init\n").unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let guest = listener.local_addr().unwrap();
            let (runtime, cgroup) = (self.name().to_owned(), String::new());
            let state = MachineState { runtime, pid: 0, pid_started: 0, guest, dir: plan.dir, cgroup };
            Ok(Box::new(Corpse { listener, state }) as Box<dyn Machine>)
        })
    }

    fn adopt(&self, _: MachineState) -> Boxed<'_, Result<Box<dyn Machine>, Gone>> {
        Box::pin(async { Err(Gone) })
    }

    fn discard(&self, _: MachineState) -> Boxed<'_, ()> {
        Box::pin(async {})
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
        Box::pin(async { EXIT })
    }
}
