//! A node with an engine, a clock and a caller, all in this process.

use std::{
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use atoll_node::{Networks, Node, NodeConfig, NodeHandle, StartError};
use atoll_runtime::{Runtime, sim::Sim};
use atoll_types::{Clock, Timestamp};
use atoll_wire::{
    body::{Body, BoxError},
    connect::{Client, Messages, RpcError, Transport},
    node::{self as wire, SandboxState, rpc, watch_response::Event},
};
use http::{Request, Response};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long anything may take.
const LONG: Duration = Duration::from_secs(20);

/// A clock that tests move.
#[derive(Clone)]
pub struct Hands(Arc<Mutex<Timestamp>>);

impl Hands {
    pub fn advance(&self, seconds: i64) {
        *self.0.lock().unwrap() += chrono::TimeDelta::seconds(seconds);
    }
}

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

/// Everything that outlives a node.
pub struct World {
    dir: PathBuf,
    pub engine: Sim,
    pub clock: Hands,
}

impl World {
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("atoll-lifecycle-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(dir.join("layers/base")).unwrap();
        Self { dir, engine: Sim::new(), clock: Hands(Arc::new(Mutex::new("2026-01-01T00:00:00Z".parse().unwrap()))) }
    }

    pub fn home(&self, id: &str) -> PathBuf {
        self.dir.join("sandboxes").join(id)
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The state directories there are.
    pub fn homes(&self) -> Vec<String> {
        let homes = std::fs::read_dir(self.dir.join("sandboxes")).unwrap();
        homes.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    pub async fn node(&self) -> Running {
        self.node_with(|_| {}).await
    }

    pub async fn node_with(&self, change: impl FnOnce(&mut NodeConfig)) -> Running {
        self.try_node(change).await.unwrap()
    }

    pub async fn try_node(&self, change: impl FnOnce(&mut NodeConfig)) -> Result<Running, StartError> {
        self.node_on(Arc::new(self.engine.clone()), change).await
    }

    pub async fn node_on(&self, engine: Arc<dyn Runtime>, change: impl FnOnce(&mut NodeConfig)) -> Result<Running, StartError> {
        let mut config = NodeConfig::new("n1", &self.dir);
        change(&mut config);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let node = Node::start(config, engine, Networks::Host, Arc::new(self.clock.clone()), tasks.clone(), stop.clone()).await?;
        let client = Client::new(Arc::new(Direct(node.clone())));
        Ok(Running { node, client, tasks, stop, clock: self.clock.clone() })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

struct Direct(NodeHandle);

impl Transport for Direct {
    fn send(&self, request: Request<Body>) -> Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send + '_>> {
        Box::pin(async move { Ok(self.0.serve(request).await) })
    }
}

/// A node that runs.
pub struct Running {
    pub node: NodeHandle,
    pub client: Client,
    pub stop: CancellationToken,
    tasks: TaskTracker,
    clock: Hands,
}

impl Running {
    /// A sandbox that lives for a hundred seconds.
    pub fn spec(&self, id: &str, generation: u64) -> wire::SandboxSpec {
        wire::SandboxSpec {
            sandbox_id: id.into(),
            generation,
            template_id: "base".into(),
            layers: vec!["base".into()],
            resources: Some(wire::Resources { cpu_count: 2, memory_mib: 512, disk_mib: 1024 }),
            deadline: Some((self.clock.now() + chrono::TimeDelta::seconds(20)).into()),
            length_ms: 100_000,
            envs: [("NAME".to_owned(), "value".to_owned()), ("E2B_SANDBOX_ID".into(), "forged".into())].into(),
            access_token: Some("token".into()),
            default_user: "user".into(),
            default_workdir: Some("/home/user".into()),
            egress: Some(wire::Egress { internet: true }),
        }
    }

    pub async fn ensure_spec(&self, spec: wire::SandboxSpec) -> Result<wire::Sandbox, RpcError> {
        let request = wire::EnsureSandboxRequest { spec: Some(spec) };
        let answer = self.client.unary::<_, wire::EnsureSandboxResponse>(rpc::ENSURE_SANDBOX, &request).await?;
        Ok(answer.sandbox.unwrap())
    }

    pub async fn ensure(&self, id: &str, generation: u64) -> Result<wire::Sandbox, RpcError> {
        self.ensure_spec(self.spec(id, generation)).await
    }

    pub async fn remove(&self, id: &str, generation: u64) -> bool {
        let request = wire::RemoveSandboxRequest { sandbox_id: id.into(), generation, reason: "killed".into() };
        self.client.unary::<_, wire::RemoveSandboxResponse>(rpc::REMOVE_SANDBOX, &request).await.unwrap().found
    }

    /// Moves the deadline to so many seconds from now.
    pub async fn set_deadline(&self, id: &str, generation: u64, seconds: i64) -> Result<(), RpcError> {
        let deadline = Some((self.clock.now() + chrono::TimeDelta::seconds(seconds)).into());
        let request = wire::SetDeadlineRequest { sandbox_id: id.into(), generation, deadline };
        self.client.unary::<_, wire::SetDeadlineResponse>(rpc::SET_DEADLINE, &request).await.map(drop)
    }

    pub async fn list(&self) -> Vec<String> {
        let answer = self.client.unary::<_, wire::ListSandboxesResponse>(rpc::LIST_SANDBOXES, &wire::ListSandboxesRequest {}).await;
        answer.unwrap().sandboxes.into_iter().map(|sandbox| sandbox.sandbox_id).collect()
    }

    pub async fn watch(&self) -> Watch {
        Watch(self.client.server_stream(rpc::WATCH, &wire::WatchRequest {}).await.unwrap())
    }

    /// How a sandbox has ended, as soon as it has.
    pub async fn ended(&self, id: &str) -> wire::Ending {
        self.watch().await.ended(id).await
    }

    /// Stops the node and waits until nothing of it runs.
    pub async fn stop(self) {
        let Self { node, client, stop, tasks, .. } = self;
        stop.cancel();
        drop((node, client));
        tasks.close();
        tokio::time::timeout(LONG, tasks.wait()).await.expect("the node stops");
    }
}

/// What a watcher sees.
pub struct Watch(Messages<wire::WatchResponse>);

impl Watch {
    /// The next event; `None` when the node has closed the stream.
    pub async fn next(&mut self) -> Option<Event> {
        let next = tokio::time::timeout(LONG, self.0.next()).await.expect("something happens in time");
        next.unwrap().map(|response| response.event.expect("every message has an event"))
    }

    /// The snapshot with which every watch begins.
    pub async fn snapshot(&mut self) -> Vec<wire::Sandbox> {
        match self.next().await {
            Some(Event::Snapshot(snapshot)) => snapshot.sandboxes,
            other => panic!("not a snapshot: {other:?}"),
        }
    }

    /// The next event of which `pick` makes something.
    pub async fn find<T>(&mut self, mut pick: impl FnMut(Event) -> Option<T>) -> T {
        loop {
            if let Some(found) = pick(self.next().await.expect("the stream goes on")) {
                return found;
            }
        }
    }

    pub async fn ended(&mut self, id: &str) -> wire::Ending {
        self.find(|event| {
            let seen = match event {
                Event::Snapshot(snapshot) => snapshot.sandboxes,
                Event::Changed(sandbox) => vec![sandbox],
                _ => vec![],
            };
            let of_it = seen.into_iter().find(|s| s.sandbox_id == id && s.state() == SandboxState::Ended);
            of_it.map(|sandbox| sandbox.ending.expect("an end has a reason"))
        })
        .await
    }
}
