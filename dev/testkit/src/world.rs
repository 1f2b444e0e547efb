//! The platform.

use std::{
    future::Future,
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use atoll_control::{Control, ControlConfig};
use atoll_node::{Networks, Node, NodeConfig, NodeHandle};
use atoll_runtime::sim::Sim;
use atoll_store::{NewBuild, SandboxRow, Store};
use atoll_types::{ApiKey, Clock as _, Resources, SandboxId, TeamId};
use atoll_wire::{
    body::{Body, BoxError},
    connect::{Client, Transport},
    transport::{Pipe, pipe},
};
use http::{Request, Response};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Api, HandClock};

const PATIENCE: Duration = Duration::from_secs(20);
/// Sandboxes that the node has room for.
const ROOM: usize = 1000;

/// A platform. It ends with the value; its files go with it.
pub struct World {
    /// The control plane, for what is not in the API.
    pub control: Control,
    /// Its database.
    pub store: Store,
    /// The engine behind the node.
    pub sim: Sim,
    /// The time.
    pub clock: HandClock,
    /// The way from control to the node.
    pub link: Link,
    config: ControlConfig,
    key: ApiKey,
    node: Option<(NodeHandle, TaskTracker, CancellationToken)>,
    max_sandboxes: usize,
    tasks: TaskTracker,
    stop: CancellationToken,
    dir: Dir,
}

impl World {
    /// A platform with a team, a key, and the template `base`.
    pub async fn start() -> Result<Self> {
        Self::start_with(ControlConfig::default()).await
    }

    /// The same with other settings of the control plane.
    pub async fn start_with(config: ControlConfig) -> Result<Self> {
        let dir = Dir::new()?;
        let clock = HandClock::new("2026-01-01T00:00:00Z".parse().context("a moment")?);
        let (sim, link) = (Sim::new(), Link::default());
        let node = start_node(&dir, ROOM, &sim, &clock, &link).await?;
        let store = Store::open(&dir.0.join("atoll.db")).await?;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let control = start_control(&config, &store, &link, &clock, &tasks, &stop).await?;
        let key = control.ensure_default_team(None).await?;
        let build =
            NewBuild { layers: vec!["base".into()], resources: Resources::default(), default_user: "user".into(), default_workdir: None };
        control.ensure_template("base", build).await?;
        control.ready().await;
        Ok(Self { control, store, sim, clock, link, config, key, node: Some(node), max_sandboxes: ROOM, tasks, stop, dir })
    }

    /// The API, with the key of the first team.
    pub fn api(&self) -> Api {
        Api::new(self.control.clone(), Some(&self.key))
    }

    /// The API without a key.
    pub fn stranger(&self) -> Api {
        Api::new(self.control.clone(), None)
    }

    /// The API, with the key of another team, which is made.
    pub async fn another_team(&self, name: &str) -> Result<Api> {
        let key = self.control.create_team(name, None).await?;
        Ok(Api::new(self.control.clone(), Some(&key)))
    }

    /// The id of the first team.
    pub async fn team(&self) -> Result<TeamId> {
        Ok(self.store.team_of_key(&self.key.hash()).await?.context("the first team's key is known")?.id)
    }

    /// The row of one of the first team's sandboxes.
    pub async fn row(&self, id: &str) -> Result<SandboxRow> {
        let row = self.store.team(self.team().await?).sandbox(&id.parse()?).await?;
        row.with_context(|| format!("sandbox {id} has a row"))
    }

    /// Creates a sandbox and says its id.
    pub async fn create(&self, body: serde_json::Value) -> Result<SandboxId> {
        let made = self.api().post("/sandboxes", body).await;
        if made.status != 201 {
            bail!("creating a sandbox: {made:?}");
        }
        Ok(made.text("sandboxID").parse()?)
    }

    /// Waits until `condition` gives a value.
    pub async fn until<T, Fut: Future<Output = Option<T>>>(&self, what: &str, mut condition: impl FnMut() -> Fut) -> Result<T> {
        let poll = async {
            loop {
                if let Some(value) = condition().await {
                    return value;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, poll).await.with_context(|| format!("it never happened that {what}"))
    }

    /// Waits until a sandbox of the first team has ended, and says why.
    pub async fn ended(&self, id: &str) -> Result<atoll_types::Ending> {
        self.until("the sandbox ended", || async { self.row(id).await.ok().and_then(|row| row.ending) }).await
    }

    /// Waits until no machine is left: the node answers a removal when the sandbox is unreachable, and clears up after that.
    pub async fn emptied(&self) -> Result<()> {
        self.until("the last machine was gone", || async { self.sim.living().is_empty().then_some(()) }).await
    }

    /// Takes the node away; its sandboxes stay.
    pub async fn stop_node(&mut self) {
        self.link.cut();
        if let Some((_, tasks, stop)) = self.node.take() {
            stop.cancel();
            tasks.close();
            tasks.wait().await;
        }
    }

    /// Brings the node back.
    pub async fn start_node(&mut self) -> Result<()> {
        self.node = Some(start_node(&self.dir, self.max_sandboxes, &self.sim, &self.clock, &self.link).await?);
        Ok(())
    }

    /// Restarts the node with room for so many sandboxes.
    pub async fn resize_node(&mut self, max_sandboxes: usize) -> Result<()> {
        self.stop_node().await;
        self.max_sandboxes = max_sandboxes;
        self.start_node().await
    }

    /// Replaces the node by one that has never seen a sandbox.
    pub async fn forget_node(&mut self) -> Result<()> {
        self.stop_node().await;
        std::fs::remove_dir_all(self.dir.0.join("node"))?;
        self.start_node().await
    }

    /// Ends the control plane as a crash would, and starts it again over the same database.
    pub async fn restart_control(&mut self) -> Result<()> {
        self.stop.cancel();
        (self.tasks, self.stop) = (TaskTracker::new(), CancellationToken::new());
        self.control = start_control(&self.config, &self.store, &self.link, &self.clock, &self.tasks, &self.stop).await?;
        Ok(())
    }

    /// The time now.
    pub fn now(&self) -> atoll_types::Timestamp {
        self.clock.now()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some((_, _, stop)) = &self.node {
            stop.cancel();
        }
    }
}

async fn start_control(
    config: &ControlConfig,
    store: &Store,
    link: &Link,
    clock: &HandClock,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Control> {
    let node = Client::new(Arc::new(link.clone()));
    Ok(Control::start(config.clone(), store.clone(), node, Arc::new(clock.clone()), tasks.clone(), stop.clone()).await?)
}

async fn start_node(
    dir: &Dir,
    max_sandboxes: usize,
    sim: &Sim,
    clock: &HandClock,
    link: &Link,
) -> Result<(NodeHandle, TaskTracker, CancellationToken)> {
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let config = NodeConfig { max_sandboxes, ..NodeConfig::new("test-node", dir.0.join("node")) };
    std::fs::create_dir_all(config.layers_dir.join("base"))?;
    let engine = Arc::new(sim.clone());
    let node = Node::start(config, engine, Networks::Host, Arc::new(clock.clone()), tasks.clone(), stop.clone()).await?;
    let service = node.clone();
    let (end, serve) = pipe(move |request: Request<Body>| {
        let node = service.clone();
        async move { node.serve(request).await }
    });
    tasks.spawn(stop.clone().run_until_cancelled_owned(serve));
    link.connect(end);
    Ok((node, tasks, stop))
}

/// A pipe that can be cut and connected anew.
#[derive(Clone, Default)]
pub struct Link(Arc<LinkState>);

#[derive(Default)]
struct LinkState {
    pipe: Mutex<Option<Pipe>>,
    deaf: AtomicBool,
}

impl Link {
    /// Nothing gets through any more.
    pub fn cut(&self) {
        *self.0.pipe.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// New requests fail while this is so; streams that are open go on.
    pub fn refuse(&self, deaf: bool) {
        self.0.deaf.store(deaf, Ordering::Relaxed);
    }

    fn connect(&self, pipe: Pipe) {
        *self.0.pipe.lock().unwrap_or_else(PoisonError::into_inner) = Some(pipe);
    }
}

impl Transport for Link {
    fn send(&self, request: Request<Body>) -> Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send + '_>> {
        let pipe = self.0.pipe.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let pipe = pipe.filter(|_| !self.0.deaf.load(Ordering::Relaxed));
        Box::pin(async move { pipe.ok_or("the link is cut")?.send(request).await })
    }
}

/// A directory that goes with the value.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("atoll-world-{}", SandboxId::random()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // Tasks of the world that are still ending may put files there meanwhile.
        for _ in 0..1000 {
            match std::fs::remove_dir_all(&self.0) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => std::thread::sleep(Duration::from_millis(1)),
                _ => return,
            }
        }
    }
}
