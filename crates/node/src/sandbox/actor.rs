//! The owner of one run of a sandbox: a task that asks [`decide`] what to do and does it.
//!
//! Everybody else holds a [`Handle`]: commands go in through a queue, how the sandbox stands comes out through a watch.

use std::{future, sync::Arc, time::Duration};

use atoll_runtime::{Boxed, Exit, Usage};
use atoll_types::{EndReason, Ending, SandboxId, Timestamp, fault};
use atoll_wire::{
    connect::{Code, RpcError},
    envd::Metrics,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    agent,
    boot::{BootFailure, Live, boot},
    decide::{Cause, Effect, Event, Phase, Refusal, State, decide},
    hits::Hits,
    log::line,
    sample::Sampler,
};
use crate::{
    chain,
    node::Node,
    routes::Route,
    spec::Spec,
    view::{Standing, View},
};

/// How often the clock and the log are looked at.
const TICK: Duration = Duration::from_secs(1);
/// Between two samples.
const SAMPLE: Duration = Duration::from_secs(5);
/// Commands that may wait.
const QUEUE: usize = 16;

/// What an actor is asked for.
enum Command {
    Remove { generation: u64, reason: EndReason, reply: oneshot::Sender<Result<(), Refusal>> },
    SetDeadline { generation: u64, at: Timestamp, reply: oneshot::Sender<Result<(), Refusal>> },
}

/// The way to an actor.
#[derive(Clone)]
pub(crate) struct Handle {
    pub generation: u64,
    commands: mpsc::Sender<Command>,
    view: watch::Receiver<View>,
}

impl Handle {
    /// How the sandbox stands now.
    pub(crate) fn view(&self) -> View {
        self.view.borrow().clone()
    }

    /// Asks it to end; the answer comes as soon as it is unreachable.
    pub(crate) async fn remove(&self, generation: u64, reason: EndReason) -> Result<(), Refusal> {
        self.ask(|reply| Command::Remove { generation, reason, reply }).await
    }

    /// Moves its deadline.
    pub(crate) async fn set_deadline(&self, generation: u64, at: Timestamp) -> Result<(), Refusal> {
        self.ask(|reply| Command::SetDeadline { generation, at, reply }).await
    }

    async fn ask(&self, command: impl FnOnce(oneshot::Sender<Result<(), Refusal>>) -> Command) -> Result<(), Refusal> {
        let (reply, answer) = oneshot::channel();
        // An actor that does not answer has ended.
        self.commands.send(command(reply)).await.map_err(|_| Refusal::Ending)?;
        answer.await.unwrap_or(Err(Refusal::Ending))
    }

    /// Waits until it runs.
    pub(crate) async fn ready(mut self) -> Result<View, RpcError> {
        let settled = self.view.wait_for(|view| !matches!(view.standing, Standing::Starting)).await;
        let view = settled.map_err(|_| RpcError::unavailable("the node is stopping"))?.clone();
        match &view.standing {
            Standing::Stopping => Err(RpcError::new(Code::Aborted, "the sandbox is being stopped")),
            Standing::Ended(ending, code) => Err(RpcError::new(*code, has_ended(ending))),
            Standing::Starting | Standing::Running => Ok(view),
        }
    }

    /// Waits until nothing of it is left.
    pub(crate) async fn ended(mut self) {
        // An actor that is gone without an end was detached; the caller sees the node stopping.
        let _ = self.view.wait_for(|view| view.ending().is_some()).await;
    }
}

/// One sentence about an ending.
pub(crate) fn has_ended(ending: &Ending) -> String {
    match ending.detail.as_str() {
        "" => format!("the sandbox has ended: {}", ending.reason),
        detail => format!("the sandbox has ended: {}: {detail}", ending.reason),
    }
}

/// What an actor owns, by where its sandbox is.
pub(crate) enum Work {
    Booting { boot: Boxed<'static, Result<Box<Live>, BootFailure>>, abort: CancellationToken },
    Running(Box<Live>),
    TearingDown(Boxed<'static, ()>),
    Nothing,
}

enum Outcome {
    Booted(Result<Box<Live>, BootFailure>),
    Exited(Exit),
    Gone,
}

impl Work {
    /// Resolves when the work has come to something.
    async fn next(&mut self) -> Outcome {
        match self {
            Self::Booting { boot, .. } => Outcome::Booted(boot.await),
            Self::Running(live) => Outcome::Exited(live.machine.exited().await),
            Self::TearingDown(teardown) => {
                teardown.await;
                Outcome::Gone
            }
            Self::Nothing => future::pending().await,
        }
    }
}

/// See the module.
pub(crate) struct Actor {
    node: Arc<Node>,
    id: SandboxId,
    state: State,
    work: Work,
    started_at: Option<Timestamp>,
    born: Instant,
    commands: mpsc::Receiver<Command>,
    view: watch::Sender<View>,
    failure: Code,
    tick_at: Instant,
    sampler: Option<Sampler>,
    hits: Option<Hits>,
    sample_at: Instant,
    metrics: Option<Boxed<'static, Option<Metrics>>>,
}

impl Actor {
    /// An actor that boots a new sandbox.
    pub(crate) fn starting(node: Arc<Node>, spec: Spec) -> (Self, Handle) {
        let state = State { generation: spec.generation, deadline: spec.deadline, length: Some(spec.length), phase: Phase::Starting };
        let (id, abort) = (spec.id.clone(), CancellationToken::new());
        let boot = Box::pin(boot(node.clone(), spec, abort.clone()));
        let made = Self::new(node, id, state, Work::Booting { boot, abort }, None);
        made.0.chronicle();
        made
    }

    /// An actor for a sandbox in any state; `work` fits the state.
    pub(crate) fn new(node: Arc<Node>, id: SandboxId, state: State, work: Work, started_at: Option<Timestamp>) -> (Self, Handle) {
        let (sender, commands) = mpsc::channel(QUEUE);
        let (generation, now) = (state.generation, Instant::now());
        // Sandboxes that are taken over all at once are not measured all at once.
        let spread = SAMPLE * (id.as_str().bytes().map(u32::from).sum::<u32>() * 37 % 64) / 64;
        let view = View { id: id.clone(), generation, standing: Standing::Starting, started_at, deadline: state.deadline };
        let (view, watched) = watch::channel(view);
        let mut actor = Self {
            node,
            id,
            state,
            work,
            started_at,
            born: now,
            commands,
            view,
            failure: Code::FailedPrecondition,
            tick_at: now + TICK,
            sampler: None,
            hits: None,
            sample_at: now + spread,
            metrics: None,
        };
        if matches!(actor.state.phase, Phase::Running) {
            actor.publish();
        }
        actor.announce();
        (actor, Handle { generation, commands: sender, view: watched })
    }

    /// Lives the sandbox's life.
    pub(crate) async fn run(mut self) {
        let stop = self.node.stop.clone();
        let mut leaving = false;
        while !matches!(self.state.phase, Phase::Ended(_)) {
            let wake = self.wake();
            tokio::select! {
                () = stop.cancelled(), if !leaving => {
                    leaving = true;
                    if matches!(self.state.phase, Phase::Running) && !self.node.config.end_with_daemon {
                        // Dropping the machine leaves it running; its state file names it.
                        break;
                    }
                    let _ = self.feed(Event::Remove { generation: self.state.generation, reason: EndReason::Shutdown }).await;
                }
                Some(command) = self.commands.recv() => self.obey(command).await,
                outcome = self.work.next() => self.take(outcome).await,
                metrics = fetched(&mut self.metrics) => self.sample(metrics),
                () = tokio::time::sleep_until(wake) => self.tick().await,
            }
        }
        self.node.forget(&self.id, self.state.generation);
    }

    /// When to look at the clock again: at the deadline, but soon enough to see that the clock was moved.
    fn wake(&self) -> Instant {
        if !matches!(self.state.phase, Phase::Starting | Phase::Running) {
            return self.tick_at;
        }
        let left = (self.state.deadline - self.node.clock.now()).to_std().unwrap_or_default();
        self.tick_at.min(Instant::now() + left.min(TICK))
    }

    async fn tick(&mut self) {
        self.check_deadline().await;
        let now = Instant::now();
        if now < self.tick_at {
            return;
        }
        self.tick_at = now + TICK;
        let Work::Running(live) = &mut self.work else { return };
        live.pass_on_log().await;
        if now >= self.sample_at && self.metrics.is_none() {
            self.sample_at = now + SAMPLE;
            self.metrics = Some(Box::pin(agent::metrics(live.machine.guest(), live.record.access_token.clone())));
        }
    }

    async fn check_deadline(&mut self) {
        let now = self.node.clock.now();
        let _ = self.feed(Event::Clock(now)).await;
    }

    fn sample(&mut self, metrics: Option<Metrics>) {
        self.metrics = None;
        if let (Some(sampler), Work::Running(live)) = (&mut self.sampler, &self.work) {
            let (now, usage) = (self.node.clock.now(), live.machine.usage());
            let disk = metrics.as_ref().map(|metrics| (metrics.disk_used, metrics.disk_total));
            self.node.board.sample(sampler.sample(&self.id, usage, metrics, std::time::Instant::now(), now));
            self.tell_hits(usage, disk);
        }
    }

    fn tell_hits(&mut self, usage: Usage, disk: Option<(u64, u64)>) {
        for hit in self.hits.iter_mut().flat_map(|hits| hits.news(usage, disk)) {
            self.node.board.log(line(&self.id, self.node.clock.now(), "warn", hit, &[]));
        }
    }

    async fn obey(&mut self, command: Command) {
        let (reply, done) = match command {
            Command::Remove { generation, reason, reply } => (reply, self.feed(Event::Remove { generation, reason }).await),
            Command::SetDeadline { generation, at, reply } => (reply, self.feed(Event::SetDeadline { generation, at }).await),
        };
        // Whoever asked may have gone; what was asked for has happened nevertheless. A deadline in the past is seen at once.
        let _ = reply.send(done);
        self.check_deadline().await;
    }

    async fn take(&mut self, outcome: Outcome) {
        let event = match outcome {
            Outcome::Booted(Ok(live)) => {
                let now = self.node.clock.now();
                self.work = Work::Running(live);
                self.started_at = Some(now);
                self.sample_at = Instant::now();
                Event::Ready(now)
            }
            Outcome::Booted(Err(failure)) => {
                self.work = Work::Nothing;
                self.failure = failure.code();
                Event::BootFailed(chain(&failure))
            }
            Outcome::Exited(exit) => Event::Exited(exit),
            Outcome::Gone => {
                self.work = Work::Nothing;
                Event::Gone
            }
        };
        // The work fits the state, so what comes of it is never out of order.
        let _ = self.feed(event).await;
    }

    async fn feed(&mut self, event: Event) -> Result<(), Refusal> {
        let (state, effects) = decide(&self.state, event)?;
        let before = std::mem::replace(&mut self.state, state);
        if std::mem::discriminant(&before.phase) != std::mem::discriminant(&self.state.phase) {
            self.chronicle();
        }
        for effect in effects {
            self.perform(effect).await;
        }
        Ok(())
    }

    async fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Announce => self.announce(),
            Effect::Publish => self.publish(),
            Effect::Withdraw => {
                self.node.routes.withdraw(&self.id);
                fault::point("stop.withdrawn");
            }
            Effect::Save => {
                if let Work::Running(live) = &mut self.work {
                    live.record.deadline = self.state.deadline;
                    live.record.started_at = self.started_at;
                    live.record.ending = self.state.phase.cause().map(|cause| cause.reason);
                    live.save().await;
                }
            }
            Effect::AbortBoot => {
                if let Work::Booting { abort, .. } = &self.work {
                    abort.cancel();
                }
            }
            Effect::TearDown => {
                self.metrics = None;
                if let Work::Running(live) = &self.work {
                    self.tell_hits(live.machine.usage(), None);
                }
                self.work = match std::mem::replace(&mut self.work, Work::Nothing) {
                    Work::Running(live) => Work::TearingDown(Box::pin(live.tear_down(self.node.config.stop_grace))),
                    other => other,
                };
            }
        }
    }

    fn publish(&mut self) {
        if let Work::Running(live) = &self.work {
            let (guest, usage) = (live.machine.guest(), live.machine.usage());
            self.hits = Some(Hits::since(usage));
            self.sampler = Some(Sampler::new(live.record.resources, usage, std::time::Instant::now()));
            let route = Route { generation: self.state.generation, guest, ended: CancellationToken::new() };
            self.node.routes.publish(&self.id, route);
            fault::point("boot.published");
        }
    }

    /// Tells how the sandbox stands: whoever waits for it, the watchers, its log and ours.
    fn announce(&mut self) {
        let now = self.node.clock.now();
        let standing = match &self.state.phase {
            Phase::Starting => Standing::Starting,
            Phase::Running => Standing::Running,
            Phase::Aborting(_) | Phase::Stopping(_) => Standing::Stopping,
            Phase::Ended(Cause { reason, exit_code, detail }) => {
                let ending = Ending { reason: *reason, exit_code: *exit_code, at: now, detail: detail.clone() };
                Standing::Ended(ending, self.failure)
            }
        };
        let view = View {
            id: self.id.clone(),
            generation: self.state.generation,
            standing,
            started_at: self.started_at,
            deadline: self.state.deadline,
        };
        self.node.board.post(view.clone());
        self.view.send_replace(view);
    }

    /// Writes a turn of the sandbox's life into its log and ours.
    fn chronicle(&self) {
        let (id, generation) = (&self.id, self.state.generation);
        let tell = |message: &str, fields: &[(&str, String)]| {
            self.node.board.log(line(id, self.node.clock.now(), "info", message, fields));
        };
        match &self.state.phase {
            Phase::Starting => {
                tracing::debug!(sandbox.id = %id, generation, "sandbox `{id}` is starting");
                tell("sandbox created", &[]);
            }
            Phase::Running => {
                let duration_ms = self.born.elapsed().as_millis() as u64;
                tracing::info!(sandbox.id = %id, generation, duration_ms, "sandbox `{id}` is ready");
                tell("sandbox ready", &[("duration_ms", duration_ms.to_string())]);
            }
            Phase::Aborting(_) | Phase::Stopping(_) => {}
            Phase::Ended(Cause { reason, exit_code, detail }) => {
                tracing::info!(sandbox.id = %id, generation, %reason, exit_code, detail, "sandbox `{id}` has ended");
                let mut fields = vec![("reason", reason.to_string())];
                fields.extend(exit_code.map(|code| ("exit_code", code.to_string())));
                fields.extend((!detail.is_empty()).then(|| ("detail", detail.clone())));
                tell("sandbox ended", &fields);
            }
        }
    }
}

async fn fetched(metrics: &mut Option<Boxed<'static, Option<Metrics>>>) -> Option<Metrics> {
    match metrics {
        Some(fetch) => fetch.await,
        None => future::pending().await,
    }
}
