//! Following the node's events.
//!
//! The first snapshot of a connection is compared with what the store had *before* the connection: what was running then and is not in
//! the snapshot is lost. What came up meanwhile is in neither, and its events follow.

use std::{collections::HashMap, time::Duration};

use atoll_store::{LiveSandbox, SandboxState};
use atoll_types::{EndReason, Ending, SandboxId};
use atoll_wire::{
    connect::RpcError,
    node::{self as wire, watch_response::Event},
};
use tokio::time::Instant;
use tracing::{info, warn};

use super::{Reconcilers, SettleError, record};
use crate::{error::chain, node};

const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// A node says something every few seconds; one that is silent for so long is gone.
const SILENCE: Duration = Duration::from_secs(35);

impl Reconcilers {
    pub(super) async fn watch(self, extras: record::Queue) {
        let mut wait = FIRST_WAIT;
        loop {
            let begun = Instant::now();
            let Err(error) = self.follow(&extras).await;
            if self.0.connected.send_replace(None).is_some() || wait == FIRST_WAIT {
                warn!(error = chain(&error), "no connection to the node; trying until there is one");
            }
            wait = if begun.elapsed() > LONGEST_WAIT { FIRST_WAIT } else { (wait * 2).min(LONGEST_WAIT) };
            tokio::time::sleep(wait).await;
        }
    }

    async fn follow(&self, extras: &record::Queue) -> Result<std::convert::Infallible, SettleError> {
        let mut known = self.0.fleet.all_live().await?;
        let described = self.0.node.describe().await?;
        let mut events = self.0.node.watch().await?;
        loop {
            let next = tokio::time::timeout(SILENCE, events.next()).await;
            let next = next.unwrap_or_else(|_| Err(RpcError::unavailable(format!("silent for {} s", SILENCE.as_secs()))))?;
            let told = next.ok_or_else(|| RpcError::unavailable("the node closed the stream"))?;
            match told.event {
                Some(Event::Snapshot(snapshot)) => {
                    let lost = std::mem::take(&mut known);
                    self.compare(lost, snapshot.sandboxes).await?;
                    if self.0.connected.send_replace(Some(described.node_id.clone())).is_none() {
                        info!(
                            node.id = described.node_id,
                            node.runtime = described.runtime,
                            "connected to the node `{}`",
                            described.node_id
                        );
                    }
                }
                Some(Event::Changed(sandbox)) => self.apply(sandbox).await?,
                Some(Event::Sample(sample)) => extras.sample(sample).await,
                Some(Event::Log(line)) => extras.line(line).await,
                Some(Event::Keepalive(_)) | None => {}
            }
        }
    }

    /// Applies a snapshot. What was `known` and is not in it is lost.
    async fn compare(&self, known: Vec<LiveSandbox>, here: Vec<wire::Sandbox>) -> Result<(), SettleError> {
        let mut lost: HashMap<String, LiveSandbox> = known.into_iter().map(|live| (live.id.to_string(), live)).collect();
        for sandbox in here {
            lost.remove(&sandbox.sandbox_id);
            self.apply(sandbox).await?;
        }
        for LiveSandbox { id, generation, state, .. } in lost.into_values() {
            let (reason, detail) = match state {
                SandboxState::Stopping => (EndReason::Killed, ""),
                _ => (EndReason::NodeLost, "its node does not have it any more"),
            };
            let ending = Ending { reason, exit_code: None, at: self.0.clock.now(), detail: detail.into() };
            if self.0.fleet.ended(&id, generation, ending).await? {
                warn!(sandbox.id = %id, "the node does not have sandbox `{id}` any more; recorded as {reason}");
            }
        }
        Ok(())
    }

    /// Takes over how a sandbox stands on the node; removes it there when it is nobody's.
    async fn apply(&self, told: wire::Sandbox) -> Result<(), SettleError> {
        let state = wire::SandboxState::try_from(told.state).unwrap_or_default();
        let Ok(id) = told.sandbox_id.parse::<SandboxId>() else {
            warn!("the node tells of a sandbox with the impossible id {:?}", told.sandbox_id);
            return Ok(());
        };
        let generation = told.generation;
        if state == wire::SandboxState::Ended {
            self.0.fleet.ended(&id, generation, node::ending(told.ending, self.0.clock.now())).await?;
            return Ok(());
        }
        if state == wire::SandboxState::Stopping {
            return Ok(());
        }
        match self.0.fleet.live(&id).await? {
            Some(live) if live.generation >= generation => {
                if let Some(deadline) = told.deadline.and_then(atoll_wire::Timestamp::to_utc) {
                    self.0.fleet.saw_deadline(&id, generation, deadline).await?;
                }
            }
            _ => {
                info!(sandbox.id = %id, "removing sandbox `{id}` from the node: it is not wanted");
                self.0.node.remove(&id, generation, EndReason::Killed).await?;
            }
        }
        Ok(())
    }
}
