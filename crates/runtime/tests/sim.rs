//! The simulated engine keeps the contract, and does what tests ask of it.

#![allow(clippy::unwrap_used)]

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use atoll_runtime::{
    BootPlan, Boxed, Exit, Machine, MachineState, Network, RootFs, Runtime, Usage,
    conformance::{self, Fixture, request},
    sim::Sim,
};
use atoll_types::{Resources, SandboxId};

#[derive(Default)]
struct Surroundings {
    sim: Sim,
    dirs: AtomicU32,
}

impl Fixture for Surroundings {
    fn plan(&self) -> BootPlan {
        BootPlan {
            id: SandboxId::random(),
            // Nothing is written there; it only has to be the machine's own.
            dir: PathBuf::from(format!("/nowhere/{}", self.dirs.fetch_add(1, Ordering::Relaxed))),
            root: RootFs { layers: vec![] },
            resources: Resources::default(),
            network: Network::Host(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
            dns: vec![],
        }
    }

    fn broken_plan(&self) -> BootPlan {
        BootPlan { root: RootFs { layers: vec!["/nowhere/layer".into()] }, ..self.plan() }
    }

    fn end(&self, machine: MachineState) -> Boxed<'_, Option<i32>> {
        assert!(self.sim.exit_at(machine.guest, Exit { code: Some(7), oom: false }));
        Box::pin(std::future::ready(Some(7)))
    }

    fn traces(&self, dir: &Path) -> Vec<String> {
        self.sim.dirs().into_iter().filter(|living| living == dir).map(|dir| dir.display().to_string()).collect()
    }
}

#[tokio::test]
async fn it_keeps_the_contract() {
    let around = Surroundings::default();
    conformance::run(&around.sim, &around).await.unwrap();
}

async fn boot(around: &Surroundings) -> (SandboxId, Box<dyn Machine>) {
    let plan = around.plan();
    (plan.id.clone(), around.sim.boot(plan).await.unwrap())
}

#[tokio::test]
async fn tokens_are_enforced() {
    let around = Surroundings::default();
    let (id, machine) = boot(&around).await;
    let init = async |body: &str| request(machine.guest(), "POST", "/init", body).await.unwrap().0;
    assert_eq!(request(machine.guest(), "GET", "/metrics", "").await.unwrap().0, 200);
    for bad in ["[]", "nonsense", r#"{"accessToken":""}"#, r#"{"accessToken":"a\\b"}"#, r#"{"accessToken":7}"#] {
        assert_eq!(init(bad).await, 400, "{bad}");
    }
    assert_eq!(init(r#"{"accessToken":"t","envVars":{"A":"1"}}"#).await, 204);
    assert_eq!(init(r#"{"accessToken":"other"}"#).await, 401);
    assert_eq!(init("").await, 401);
    assert_eq!(init(r#"{"accessToken":"t"}"#).await, 204);
    let (status, body) = request(machine.guest(), "GET", "/metrics", "").await.unwrap();
    assert!(status == 401 && body.contains(r#""code":401"#), "{status} {body}");
    assert_eq!(request(machine.guest(), "GET", "/health", "").await.unwrap().0, 204);
    assert_eq!(around.sim.inits(&id)[0]["envVars"]["A"], "1");
    assert_eq!(around.sim.inits(&id).len(), 2);
}

#[tokio::test]
async fn machines_end_as_tests_wish() {
    let around = Surroundings::default();
    let (id, mut machine) = boot(&around).await;
    assert_eq!(around.sim.living(), std::slice::from_ref(&id));
    around.sim.set_usage(&id, Usage { memory_bytes: 5, ..Usage::default() });
    assert_eq!(machine.usage().memory_bytes, 5);
    assert!(around.sim.oom(&id));
    assert_eq!(machine.exited().await, Exit { code: None, oom: true });
    assert!(!around.sim.oom(&id));
    assert!(request(machine.guest(), "GET", "/health", "").await.is_err());
}

#[tokio::test]
async fn boots_fail_and_dawdle_as_tests_wish() {
    let around = Surroundings::default();
    around.sim.refuse(Some("mounting the root file system"));
    let error = around.sim.boot(around.plan()).await.err().unwrap();
    assert_eq!(error.to_string(), "mounting the root file system");
    around.sim.refuse(None);
    around.sim.delay(Duration::from_millis(30));
    let before = Instant::now();
    boot(&around).await;
    assert!(before.elapsed() >= Duration::from_millis(30));
}
