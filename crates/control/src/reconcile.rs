//! What keeps the store and the node in agreement. The store says what is intended, the node what is.
//!
//! None of these takes input: each reads the store, or what the node tells, and does what is missing. A crash or a lost message is only a
//! delay.
//!
//! | Task | On | Does |
//! |---|---|---|
//! | watch | every event of the node | records ends; removes what nobody wants; passes samples and lines on |
//! | record | samples and lines | inserts them in batches |
//! | settle | 5 s | moves deadlines that differ; removes what is to end |
//! | sweep | 10 min | deletes old records |

mod record;
mod watch;

use std::{pin::Pin, sync::Arc, time::Duration};

use atoll_store::{Fleet, LiveSandbox, Retention, SandboxState, StoreError};
use atoll_types::{Clock, EndReason, Ending, SandboxId, fault};
use atoll_wire::connect::RpcError;
use tokio::sync::{Mutex, watch as level};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

use crate::{error::chain, node::Node};

const SETTLE_EVERY: Duration = Duration::from_secs(5);
const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// The handle of the running reconcilers.
#[derive(Clone)]
pub(crate) struct Reconcilers(Arc<Shared>);

struct Shared {
    fleet: Fleet,
    node: Node,
    clock: Arc<dyn Clock>,
    retention: Retention,
    /// Held while a deadline travels, so that the node gets them in the order in which they were wanted.
    deadlines: Mutex<()>,
    /// The node's id while it is connected and agrees with the store.
    connected: level::Sender<Option<String>>,
}

/// Why the store and the node do not agree yet.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettleError {
    #[error("asking the store")]
    Store(#[from] StoreError),
    #[error("asking the node")]
    Node(#[from] RpcError),
}

impl Reconcilers {
    pub(crate) fn start(
        fleet: Fleet,
        node: Node,
        clock: Arc<dyn Clock>,
        retention: Retention,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let shared = Shared { fleet, node, clock, retention, deadlines: Mutex::default(), connected: level::Sender::new(None) };
        let this = Self(Arc::new(shared));
        let (extras, queue) = record::queue();
        let spawn = |task: Pin<Box<dyn Future<Output = ()> + Send>>| drop(tasks.spawn(stop.clone().run_until_cancelled_owned(task)));
        spawn(Box::pin(this.clone().watch(extras)));
        spawn(Box::pin(record::run(this.0.fleet.clone(), queue)));
        spawn(Box::pin(this.clone().settle()));
        spawn(Box::pin(this.clone().sweep()));
        this
    }

    /// Waits until the node is connected and agrees with the store.
    pub(crate) async fn ready(&self) {
        // The sender lives in `self`.
        let _ = self.0.connected.subscribe().wait_for(Option::is_some).await;
    }

    /// The id of the node, while it is connected.
    pub(crate) fn connected(&self) -> Option<String> {
        self.0.connected.borrow().clone()
    }

    /// Gives the node the deadline that the store has. `false` when the sandbox does not run on the node any more.
    pub(crate) async fn push_deadline(&self, id: &SandboxId) -> Result<bool, SettleError> {
        let Shared { fleet, node, deadlines, .. } = &*self.0;
        let _in_order = deadlines.lock().await;
        let Some(LiveSandbox { generation, deadline, node_deadline, state: SandboxState::Running, .. }) = fleet.live(id).await? else {
            return Ok(false);
        };
        if deadline == node_deadline {
            return Ok(true);
        }
        if !node.set_deadline(id, generation, deadline).await? {
            return Ok(false);
        }
        fleet.saw_deadline(id, generation, deadline).await?;
        Ok(true)
    }

    /// Ends a run of a sandbox on the node, then in the store.
    pub(crate) async fn remove(&self, id: &SandboxId, generation: u64) -> Result<(), SettleError> {
        let Shared { fleet, node, clock, .. } = &*self.0;
        node.remove(id, generation, EndReason::Killed).await?;
        fault::point("kill.unreachable");
        // If the node has told its own ending meanwhile, that one stands.
        let ending = Ending { reason: EndReason::Killed, exit_code: None, at: clock.now(), detail: String::new() };
        fleet.ended(id, generation, ending).await?;
        Ok(())
    }

    async fn settle(self) {
        loop {
            if let Err(error) = self.settle_once().await {
                warn!(error = chain(&error), "the node and the store do not agree yet; trying again in {} s", SETTLE_EVERY.as_secs());
            }
            tokio::time::sleep(SETTLE_EVERY).await;
        }
    }

    async fn settle_once(&self) -> Result<(), SettleError> {
        for LiveSandbox { id, .. } in self.0.fleet.wrong_deadlines().await? {
            self.push_deadline(&id).await?;
        }
        for LiveSandbox { id, generation, .. } in self.0.fleet.stopping().await? {
            self.remove(&id, generation).await?;
        }
        Ok(())
    }

    async fn sweep(self) {
        loop {
            if let Err(error) = self.0.fleet.sweep(self.0.retention, self.0.clock.now()).await {
                warn!(error = chain(&error), "could not delete old records");
            }
            tokio::time::sleep(SWEEP_EVERY).await;
        }
    }
}
