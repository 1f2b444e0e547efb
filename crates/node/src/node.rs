//! What all sandboxes of a node share, and who is there.

use std::{
    collections::{HashMap, hash_map::Entry},
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use atoll_runtime::Runtime;
use atoll_types::{Clock, EndReason, SandboxId, Timestamp};
use atoll_wire::connect::{Code, RpcError};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    NodeConfig,
    adopt::{self, Left},
    board::Board,
    home::Home,
    networks::{Networks, Pool},
    routes::{Route, Routes},
    sandbox::{
        actor::{Actor, Handle, has_ended},
        decide::Refusal,
    },
    slots,
    spec::Spec,
    view::{Standing, View},
};

/// The agent of a machine that holds sandboxes.
pub struct Node {
    pub(crate) config: NodeConfig,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) networks: Pool,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) board: Board,
    pub(crate) routes: Routes,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    /// Cancelled when the node is stopping and no sandbox needs it any more.
    pub(crate) idle: CancellationToken,
    handles: Mutex<HashMap<SandboxId, Handle>>,
    /// Held while this process owns the state directories.
    _lock: fs::File,
}

/// The way to a running [`Node`].
#[derive(Clone)]
pub struct NodeHandle(pub(crate) Arc<Node>);

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its directory cannot be used.
    #[error("using the directory {dir}")]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// There is another one.
    #[error("another node uses the directory {0}")]
    InUse(PathBuf),
    /// It has no networks for its sandboxes.
    #[error("starting the network slots")]
    Networks(#[from] slots::StartError),
}

impl Node {
    /// Starts a node: takes back the sandboxes that outlived the last one, then is ready to serve. It ends when `stop` is cancelled and
    /// its `tasks` are done; sandboxes stay, unless it is configured otherwise.
    pub async fn start(
        config: NodeConfig,
        runtime: Arc<dyn Runtime>,
        networks: Networks,
        clock: Arc<dyn Clock>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Result<NodeHandle, StartError> {
        let lock = claim(&config)?;
        let failed = |source| StartError::Directory { dir: config.sandboxes(), source };
        let left = adopt::survey(&config, &*runtime, &*clock).await.map_err(failed)?;
        let living = left.iter().filter_map(Left::living).collect();
        let (networks, slots) = Pool::start(networks, &config.data_dir, living, stop.child_token()).await?;
        let node = Arc::new(Self {
            config,
            runtime,
            networks,
            board: Board::new(clock.clone()),
            clock,
            routes: Routes::default(),
            tasks,
            stop,
            idle: CancellationToken::new(),
            handles: Mutex::default(),
            _lock: lock,
        });
        adopt::adopt(&node, left, slots);
        node.tasks.spawn(node.clone().finish());
        Ok(NodeHandle(node))
    }

    /// What remains to be done when the node stops.
    async fn finish(self: Arc<Self>) {
        self.stop.cancelled().await;
        self.check_idle(&self.handles());
        self.idle.cancelled().await;
        self.networks.shutdown().await;
    }

    /// The state directory of a sandbox.
    pub(crate) fn home(&self, id: &SandboxId) -> Home {
        Home::new(self.config.sandboxes().join(id.as_str()))
    }

    /// Makes an actor known and lets it live.
    pub(crate) fn enter(self: &Arc<Self>, id: SandboxId, (actor, handle): (Actor, Handle)) {
        self.handles().insert(id, handle);
        self.tasks.spawn(actor.run());
    }

    /// Forgets an actor that has ended or gives up its sandbox.
    pub(crate) fn forget(&self, id: &SandboxId, generation: u64) {
        let mut handles = self.handles();
        if let Entry::Occupied(entry) = handles.entry(id.clone())
            && entry.get().generation == generation
        {
            entry.remove();
        }
        self.check_idle(&handles);
    }

    /// Whether the sandbox has an actor.
    pub(crate) fn knows(&self, id: &SandboxId) -> bool {
        self.handles().contains_key(id)
    }

    fn check_idle(&self, handles: &HashMap<SandboxId, Handle>) {
        if self.stop.is_cancelled() && handles.is_empty() {
            self.idle.cancel();
        }
    }

    /// Starts the sandbox, or joins those who wait for it, or returns it if it runs.
    pub(crate) async fn ensure(self: &Arc<Self>, spec: Spec) -> Result<View, RpcError> {
        loop {
            let handle = self.find_or_start(&spec)?;
            if handle.generation == spec.generation {
                return handle.ready().await;
            }
            // An older run is obsolete: whoever asks for a newer one knows that.
            let _ = handle.remove(spec.generation, EndReason::Killed).await;
            let generation = handle.generation;
            handle.ended().await;
            self.forget(&spec.id, generation);
        }
    }

    /// The run of `spec` or an older one that is still here; a new one if there is none.
    fn find_or_start(self: &Arc<Self>, spec: &Spec) -> Result<Handle, RpcError> {
        let Spec { id, generation, .. } = spec;
        let mut handles = self.handles();
        if self.stop.is_cancelled() {
            return Err(RpcError::unavailable("the node is stopping"));
        }
        let last = handles.get(id).map(Handle::view).or_else(|| self.board.view(id));
        if let Some(view) = last {
            if view.generation > *generation {
                let newer = format!("generation {} of sandbox `{id}` is older than generation {}", generation, view.generation);
                return Err(RpcError::failed_precondition(newer));
            }
            if let (Standing::Ended(ending, code), true) = (&view.standing, view.generation == *generation) {
                return Err(RpcError::new(*code, has_ended(ending)));
            }
        }
        if let Some(handle) = handles.get(id) {
            return Ok(handle.clone());
        }
        let most = self.config.max_sandboxes;
        if handles.len() >= most {
            let full = format!("node `{}` holds {} of at most {most} sandboxes", self.config.id, handles.len());
            return Err(RpcError::new(Code::ResourceExhausted, full));
        }
        let (actor, handle) = Actor::starting(self.clone(), spec.clone());
        handles.insert(id.clone(), handle.clone());
        self.tasks.spawn(actor.run());
        Ok(handle)
    }

    /// Ends this run of a sandbox and any older one; whether there was one.
    pub(crate) async fn remove(&self, id: &SandboxId, generation: u64, reason: EndReason) -> bool {
        let handle = self.handles().get(id).cloned();
        match handle {
            Some(handle) => handle.remove(generation, reason).await.is_ok(),
            None => false,
        }
    }

    /// Moves the deadline of exactly this run.
    pub(crate) async fn set_deadline(&self, id: &SandboxId, generation: u64, at: Timestamp) -> Result<(), Refusal> {
        let handle = self.handles().get(id).cloned();
        handle.ok_or(Refusal::Ending)?.set_deadline(generation, at).await
    }

    /// How many sandboxes are here.
    pub(crate) fn count(&self) -> usize {
        self.handles().len()
    }

    fn handles(&self) -> MutexGuard<'_, HashMap<SandboxId, Handle>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the node's directory its own.
fn claim(config: &NodeConfig) -> Result<fs::File, StartError> {
    let failed = |source| StartError::Directory { dir: config.sandboxes(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(config.sandboxes()).map_err(failed)?;
    let lock = fs::File::create(config.data_dir.join("node.lock")).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::WouldBlock) => Err(StartError::InUse(config.data_dir.clone())),
        Err(fs::TryLockError::Error(error)) => Err(failed(error)),
    }
}

impl NodeHandle {
    /// The way to a sandbox that is ready and not being stopped.
    pub fn route(&self, id: &SandboxId) -> Option<Route> {
        self.0.routes.get(id)
    }
}
