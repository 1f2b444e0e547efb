//! How a sandbox comes up: phases that own what they made.
//!
//! `Planned` (a state directory) → `Networked` (and a network) → `Booted` (and a machine) → [`Live`] (and an `envd` that answers).
//! Each step consumes the phase before it; a step that fails, or is told to stop, undoes everything in reverse order before it
//! answers. The future of [`boot`] is therefore never dropped: it is cancelled by its token.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use atoll_runtime::{BootPlan, Exit, Machine, RootFs};
use atoll_types::{SandboxId, Stopwatch, fault};
use atoll_wire::connect::Code;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{
    agent::{self, InitError},
    log::{self, Tail},
};
use crate::{
    disk,
    home::{Home, Record},
    networks::Place,
    node::Node,
    slots::SlotError,
    spec::Spec,
};

/// The wait before a state directory that could not be removed is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// Why a sandbox did not come up. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootFailure {
    #[error("layer `{0}` is not on this node")]
    Layer(String),
    #[error("writing the state directory")]
    Home(#[source] io::Error),
    #[error("getting a network")]
    Network(#[source] SlotError),
    #[error("starting the machine")]
    Machine(#[source] atoll_runtime::BootError),
    #[error("the first process ended during the start ({}){}", exit_text(.exit), words_text(.last_words))]
    Died { exit: Exit, last_words: Option<String> },
    #[error(transparent)]
    Init(#[from] InitError),
    #[error("stopped while starting")]
    Aborted,
}

impl BootFailure {
    /// What to tell whoever waits for the sandbox.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Layer(_) | Self::Machine(atoll_runtime::BootError::Unsupported { .. }) => Code::FailedPrecondition,
            Self::Network(SlotError::Exhausted { .. }) => Code::ResourceExhausted,
            Self::Network(SlotError::Late(_) | SlotError::Stopped) => Code::Unavailable,
            Self::Aborted => Code::Aborted,
            Self::Home(_) | Self::Network(_) | Self::Machine(_) | Self::Died { .. } | Self::Init(_) => Code::Internal,
        }
    }
}

fn exit_text(exit: &Exit) -> String {
    match (exit.oom, exit.code) {
        (true, _) => "out of memory".into(),
        (false, Some(code)) => format!("exit code {code}"),
        (false, None) => "by a signal".into(),
    }
}

fn words_text(words: &Option<String>) -> String {
    words.as_ref().map(|words| format!("; its last words: {words}")).unwrap_or_default()
}

/// Brings a sandbox up, or leaves nothing of it.
pub(crate) async fn boot(node: Arc<Node>, spec: Spec, abort: CancellationToken) -> Result<Box<Live>, BootFailure> {
    let mut watch = Stopwatch::start();
    let planned = Planned::new(node, spec).await?;
    let home_us = watch.lap();
    let networked = planned.connect(&abort).await?;
    let slot_us = watch.lap();
    let booted = networked.boot(&abort).await?;
    let machine_us = watch.lap();
    let live = booted.ready(&abort).await?;
    tracing::debug!(target: "atoll_steps", home_us, slot_us, machine_us, init_us = watch.lap(), "node");
    Ok(Box::new(live))
}

struct Planned {
    node: Arc<Node>,
    spec: Spec,
    home: Home,
    record: Record,
    layers: Vec<PathBuf>,
}

struct Networked {
    planned: Planned,
    place: Place,
}

struct Booted {
    spec: Spec,
    live: Live,
}

/// A sandbox with everything it has.
pub(crate) struct Live {
    pub node: Arc<Node>,
    pub home: Home,
    pub record: Record,
    pub place: Place,
    pub machine: Box<dyn Machine>,
    pub tail: Tail,
}

impl Planned {
    async fn new(node: Arc<Node>, spec: Spec) -> Result<Self, BootFailure> {
        let home = node.home(&spec.id);
        let record = Record {
            sandbox_id: spec.id.clone(),
            generation: spec.generation,
            template_id: spec.template_id.clone(),
            resources: spec.resources,
            egress: spec.egress.clone(),
            deadline: spec.deadline,
            access_token: spec.access_token.clone(),
            slot: None,
            machine: None,
            started_at: None,
            ending: None,
        };
        let layers: Vec<_> = spec.layers.iter().map(|name| node.config.layers_dir.join(name.as_str())).collect();
        let making = (home.clone(), record.clone(), layers.clone());
        let missing = disk::run(move || {
            let (home, record, layers) = making;
            match layers.iter().position(|dir| !dir.is_dir()) {
                None => home.create(&record).map(|()| None),
                missing => Ok(missing),
            }
        });
        match missing.await {
            Ok(None) => Ok(Self { node, spec, home, record, layers }),
            Ok(Some(index)) => Err(BootFailure::Layer(spec.layers[index].as_str().into())),
            Err(error) => {
                remove(&node, &spec.id, home).await;
                Err(BootFailure::Home(error))
            }
        }
    }

    async fn connect(mut self, abort: &CancellationToken) -> Result<Networked, BootFailure> {
        let place = tokio::select! {
            biased;
            () = abort.cancelled() => Err(BootFailure::Aborted),
            place = self.node.networks.take(&self.spec.egress) => place.map_err(BootFailure::Network),
        };
        match place {
            Ok(place) => {
                fault::point("boot.networked");
                self.record.slot = place.slot();
                Ok(Networked { planned: self, place })
            }
            Err(failure) => {
                remove(&self.node, &self.spec.id, self.home).await;
                Err(failure)
            }
        }
    }
}

impl Networked {
    async fn boot(self, abort: &CancellationToken) -> Result<Booted, BootFailure> {
        let Self { planned: Planned { node, spec, home, mut record, layers }, place } = self;
        let plan = BootPlan {
            id: spec.id.clone(),
            dir: home.machine_dir(),
            root: RootFs { layers },
            resources: spec.resources,
            network: place.network(),
            dns: node.config.dns.clone(),
        };
        let runtime = node.runtime.clone();
        let mut booting = runtime.boot(plan);
        let machine = tokio::select! {
            machine = &mut booting => machine.map_err(BootFailure::Machine),
            () = abort.cancelled() => {
                // Only one that is let finish is gone for certain when its directory is removed and its network used again.
                if let Ok(machine) = booting.await {
                    machine.stop(Duration::ZERO).await;
                }
                Err(BootFailure::Aborted)
            }
        };
        match machine {
            Ok(machine) => {
                fault::point("boot.machine");
                record.machine = Some(machine.state());
                let tail = Tail::new(spec.id.clone(), home.log());
                Ok(Booted { spec, live: Live { node, home, record, place, machine, tail } })
            }
            Err(failure) => {
                place.release();
                remove(&node, &spec.id, home).await;
                Err(failure)
            }
        }
    }
}

impl Booted {
    async fn ready(self, abort: &CancellationToken) -> Result<Live, BootFailure> {
        let Self { spec, mut live } = self;
        let node = live.node.clone();
        let (home, record, guest) = (live.home.clone(), live.record.clone(), live.machine.guest());
        // The file names the machine while its envd is still coming up.
        let saved = tokio::task::spawn_blocking(move || home.save(&record));
        let answered = tokio::select! {
            biased;
            () = abort.cancelled() => Err(BootFailure::Aborted),
            answered = agent::init(guest, &spec, &*node.clock) => answered.map_err(BootFailure::from),
            exit = live.machine.exited() => {
                let log = live.home.log();
                let last_words = disk::run(move || Ok(log::last_words(&log))).await.unwrap_or_default();
                Err(BootFailure::Died { exit, last_words })
            }
        };
        let saved = saved.await.map_err(io::Error::other).and_then(|saved| saved).map_err(BootFailure::Home);
        match answered.and(saved) {
            Ok(()) => {
                fault::point("boot.initialized");
                Ok(live)
            }
            Err(failure) => {
                live.tear_down(Duration::ZERO).await;
                Err(failure)
            }
        }
    }
}

impl Live {
    /// Writes the state file.
    pub(crate) async fn save(&mut self) {
        let (home, record) = (self.home.clone(), self.record.clone());
        if let Err(error) = disk::run(move || home.save(&record)).await {
            let id = &self.record.sandbox_id;
            tracing::warn!(sandbox.id = %id, %error, "cannot write the state file of sandbox `{id}`: a restart of the daemon sees an older state");
        }
    }

    /// Passes on what its `envd` has logged since the last call.
    pub(crate) async fn pass_on_log(&mut self) {
        if !self.tail.has_more() {
            return;
        }
        let now = self.node.clock.now();
        let fresh = Tail::new(self.record.sandbox_id.clone(), self.home.log());
        let mut tail = std::mem::replace(&mut self.tail, fresh);
        let read = disk::run(move || {
            let lines = tail.lines(now);
            Ok((tail, lines))
        });
        if let Ok((tail, lines)) = read.await {
            self.tail = tail;
            lines.into_iter().for_each(|line| self.node.board.log(line));
        }
    }

    /// Stops the machine and frees everything, in reverse order of its making.
    pub(crate) async fn tear_down(mut self, grace: Duration) {
        self.pass_on_log().await;
        self.machine.stop(grace).await;
        fault::point("stop.machine");
        self.place.release();
        fault::point("stop.network");
        remove(&self.node, &self.record.sandbox_id, self.home).await;
    }
}

/// Removes a state directory. What cannot be removed now stays named by its state file and is tried again, by the next start at the latest.
pub(crate) async fn remove(node: &Arc<Node>, id: &SandboxId, home: Home) {
    if try_remove(id, &home).await {
        return;
    }
    let (nodes, id) = (node.clone(), id.clone());
    let again = async move {
        // A new run of the sandbox owns the directory, and has removed what was in it.
        while {
            sleep(AGAIN).await;
            !nodes.knows(&id) && !try_remove(&id, &home).await
        } {}
    };
    drop(node.tasks.spawn(node.stop.clone().run_until_cancelled_owned(again)));
}

/// Whether the directory is gone now.
pub(crate) async fn try_remove(id: &SandboxId, home: &Home) -> bool {
    let home = home.clone();
    let removed = disk::run(move || home.remove()).await;
    removed.inspect_err(|error| tracing::error!(sandbox.id = %id, %error, "cannot remove the state directory of sandbox `{id}`")).is_ok()
}
