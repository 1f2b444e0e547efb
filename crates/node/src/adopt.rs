//! What a node does first: it goes through the state directories that the last one left.
//!
//! - A sandbox that was ready and whose machine lives is taken back; its deadline holds, also if it has passed.
//! - One whose machine is gone, whose start was not complete or whose stop had begun is torn down and reported as ended.
//! - A state file that cannot be understood is moved aside with its directory, and said so: it may belong to a newer version.
//! - A machine that no state file names is removed.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    sync::Arc,
    time::Duration,
};

use atoll_runtime::{Machine, MachineState, Runtime};
use atoll_types::{Clock, EndReason, SandboxId};

use crate::{
    NodeConfig, chain, disk,
    home::{Home, Record, RecordError},
    networks::Place,
    node::Node,
    sandbox::{
        actor::{Actor, Work},
        boot::{self, Live},
        decide::{Cause, Phase, State},
        log::Tail,
    },
    slots::{Living, Slot},
};

/// A sandbox that an earlier node left.
pub(crate) struct Left {
    home: Home,
    record: Record,
    /// Its machine, if that lives.
    machine: Option<Box<dyn Machine>>,
}

impl Left {
    /// Its network, if it lives and had one of its own.
    pub(crate) fn living(&self) -> Option<Living> {
        let pid = self.machine.as_ref()?.state().pid;
        Some(Living { index: self.record.slot?, pid, egress: self.record.egress.clone() })
    }
}

/// Goes through all state directories. One that makes trouble is logged and left; only the list itself must be readable.
pub(crate) async fn survey(config: &NodeConfig, runtime: &dyn Runtime, clock: &dyn Clock) -> io::Result<Vec<Left>> {
    let dir = config.sandboxes();
    let list = dir.clone();
    let names = disk::run(move || fs::read_dir(list)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()).await?;
    let (mut found, mut known) = (Vec::new(), HashSet::new());
    for name in names {
        let Some(id) = name.to_str().and_then(|name| name.parse::<SandboxId>().ok()) else {
            tracing::warn!("`{}` is no state directory of a sandbox; it is left alone", dir.join(&name).display());
            continue;
        };
        let home = Home::new(dir.join(&name));
        let read = home.clone();
        known.insert(id.clone());
        match disk::run(move || Ok(read.load())).await? {
            Ok(record) => found.extend(look(runtime, home, record).await),
            // Nothing exists before its state file does.
            Err(RecordError::Missing) => drop(boot::try_remove(&id, &home).await),
            Err(error @ RecordError::Read(_)) => {
                tracing::error!(sandbox.id = %id, error = chain(&error), "cannot read the state of sandbox `{id}`; it is left alone");
            }
            Err(error) => {
                set_aside(config, clock, &id, &error).await;
                known.remove(&id);
            }
        }
    }
    for (id, left) in runtime.remains().await.into_iter().filter(|(id, _)| !known.contains(id)) {
        tracing::warn!(sandbox.id = %id, "sandbox `{id}` has no state directory any more; what is left of it is removed");
        runtime.discard(left).await;
    }
    Ok(found)
}

async fn look(runtime: &dyn Runtime, home: Home, record: Record) -> Option<Left> {
    let machine = match record.machine.clone() {
        Some(left) if left.runtime != runtime.name() => {
            let (id, theirs, ours) = (&record.sandbox_id, left.runtime, runtime.name());
            tracing::error!(sandbox.id = %id, "sandbox `{id}` belongs to the runtime `{theirs}`, this node has `{ours}`; it is left alone");
            return None;
        }
        Some(left) => runtime.adopt(left).await.ok(),
        None => None,
    };
    Some(Left { home, record, machine })
}

async fn set_aside(config: &NodeConfig, clock: &dyn Clock, id: &SandboxId, error: &RecordError) {
    let (from, aside) = (config.sandboxes().join(id.as_str()), config.data_dir.join("aside"));
    let to = aside.join(format!("{id}-{}", clock.now().timestamp_millis()));
    let (source, target) = (from.clone(), to.clone());
    let moved = disk::run(move || {
        fs::create_dir_all(aside)?;
        fs::rename(source, target)
    });
    let error = chain(error);
    match moved.await {
        Ok(()) => tracing::error!(
            sandbox.id = %id, error,
            "the state of sandbox `{id}` cannot be understood; it is now in {}, and what still runs of it is ended",
            to.display()
        ),
        Err(trouble) => tracing::error!(sandbox.id = %id, error, %trouble, "cannot move {} aside", from.display()),
    }
}

/// Gives every sandbox that was left an owner again. `slots` are those of the ones that live.
pub(crate) fn adopt(node: &Arc<Node>, left: Vec<Left>, mut slots: HashMap<u32, Slot>) {
    let count = left.len();
    let running = left.into_iter().filter_map(|left| give_owner(node, left, &mut slots).then_some(())).count();
    if count > 0 {
        tracing::info!(running, ended = count - running, "took over the sandboxes that the last run of this node left");
    }
}

/// Whether the sandbox runs on.
fn give_owner(node: &Arc<Node>, Left { home, record, machine }: Left, slots: &mut HashMap<u32, Slot>) -> bool {
    let (id, generation, deadline, started_at) = (record.sandbox_id.clone(), record.generation, record.deadline, record.started_at);
    let place = match record.slot {
        None => Some(Place::Host),
        Some(index) => slots.remove(&index).map(Place::Slot),
    };
    let detail = match (&machine, &place) {
        _ if started_at.is_none() => "the node stopped while the sandbox started",
        (None, _) => "it ended while its node was away",
        (Some(_), None) => "it lost its network while its node was away",
        (Some(_), Some(_)) => "",
    };
    let reason = record.ending.unwrap_or(match started_at {
        None => EndReason::StartFailed,
        Some(_) => EndReason::Exited,
    });
    let ready = record.ending.is_none() && started_at.is_some();
    let work = match (machine, place) {
        (Some(machine), Some(place)) => {
            let tail = Tail::at_end(id.clone(), home.log());
            let live = Live { node: node.clone(), home, record, place, machine, tail };
            match ready {
                true => Work::Running(Box::new(live)),
                false => Work::TearingDown(Box::pin(live.tear_down(Duration::ZERO))),
            }
        }
        (machine, _) => Work::TearingDown(Box::pin(finish(node.clone(), home, record, machine))),
    };
    let phase = match &work {
        Work::Running(_) => Phase::Running,
        _ => Phase::Stopping(Cause { reason, exit_code: None, detail: detail.into() }),
    };
    let runs = matches!(phase, Phase::Running);
    node.enter(id.clone(), Actor::new(node.clone(), id, State { generation, deadline, length: None, phase }, work, started_at));
    runs
}

/// Finishes the teardown of a sandbox that has lost its machine or its network.
async fn finish(node: Arc<Node>, home: Home, record: Record, machine: Option<Box<dyn Machine>>) {
    match machine {
        Some(machine) => drop(machine.stop(Duration::ZERO).await),
        None => {
            // An engine may have come far before the file could name the machine.
            let unnamed = || MachineState::unnamed(&*node.runtime, &record.sandbox_id, home.machine_dir());
            node.runtime.discard(record.machine.clone().unwrap_or_else(unnamed)).await;
        }
    }
    boot::remove(&node, &record.sandbox_id, home).await;
}
