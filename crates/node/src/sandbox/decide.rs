//! The rules of a sandbox's life, without any I/O.
//!
//! ```text
//! starting ──> running ──> stopping ──> ended
//!     │                        ↑          ↑
//!     ├──> aborting ───────────┴──────────┤
//!     └──────── boot failed ──────────────┘
//! ```
//!
//! - [`decide`] is total: every event in every state gets an answer, and a refused event changes nothing.
//! - A stop is entered once, with one cause; the first cause wins. It always asks for [`Effect::AbortBoot`] or [`Effect::TearDown`].
//! - A route is published once at most, and withdrawn before its machine is torn down.
//! - Nothing happens after `ended`.

#[cfg(test)]
mod tests;

use std::time::Duration;

use atoll_runtime::Exit;
use atoll_types::{EndReason, Timestamp, after};

/// Where one run of a sandbox stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct State {
    /// Which run it is.
    pub generation: u64,
    /// When it ends by itself.
    pub deadline: Timestamp,
    /// How long it runs from when it is up, while it starts and nobody has set a deadline; until then `deadline` bounds the start.
    pub length: Option<Duration>,
    /// Where it is in its life.
    pub phase: Phase,
}

/// A stage of a sandbox's life.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Phase {
    /// Being booted.
    Starting,
    /// Its agent answers.
    Running,
    /// To be stopped while it boots: the boot is being undone.
    Aborting(Cause),
    /// Being torn down.
    Stopping(Cause),
    /// Nothing of it is left.
    Ended(Cause),
}

impl Phase {
    /// Why it ends, once that is decided.
    pub(crate) fn cause(&self) -> Option<&Cause> {
        match self {
            Self::Starting | Self::Running => None,
            Self::Aborting(cause) | Self::Stopping(cause) | Self::Ended(cause) => Some(cause),
        }
    }
}

/// Why a sandbox ends.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cause {
    pub reason: EndReason,
    pub exit_code: Option<i32>,
    pub detail: String,
}

impl Cause {
    fn plain(reason: EndReason) -> Self {
        Self { reason, exit_code: None, detail: String::new() }
    }
}

impl From<Exit> for Cause {
    fn from(Exit { code, oom }: Exit) -> Self {
        match oom {
            true => Self { reason: EndReason::Oom, exit_code: code, detail: "the sandbox ran out of memory".into() },
            false => Self { reason: EndReason::Exited, exit_code: code, detail: "the first process of the sandbox ended".into() },
        }
    }
}

/// Something that happened or is asked for.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// The boot has succeeded, now.
    Ready(Timestamp),
    /// The boot has failed or was aborted; nothing of it is left.
    BootFailed(String),
    /// The machine ended by itself.
    Exited(Exit),
    /// Somebody wants this run, and any older one, to end.
    Remove { generation: u64, reason: EndReason },
    /// Somebody moves the deadline of exactly this run.
    SetDeadline { generation: u64, at: Timestamp },
    /// The time now.
    Clock(Timestamp),
    /// The teardown is complete.
    Gone,
}

/// Something to do, in the order given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Write the state file. Never while starting: the boot writes it then.
    Save,
    /// Make the sandbox reachable.
    Publish,
    /// Make it unreachable and cut what is connected.
    Withdraw,
    /// Tell the watchers.
    Announce,
    /// Undo the boot under way; it answers with [`Event::BootFailed`], or with [`Event::Ready`] if it was faster.
    AbortBoot,
    /// Stop the machine and free what it had; the answer is [`Event::Gone`].
    TearDown,
}

/// Why an event changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It speaks of another run.
    OtherGeneration,
    /// The sandbox is stopping or has ended.
    Ending,
    /// It cannot happen in this state.
    OutOfOrder,
}

/// The state after `event`, and what has to be done for it.
pub(crate) fn decide(state: &State, event: Event) -> Result<(State, Vec<Effect>), Refusal> {
    use {Effect::*, Phase::*};
    let to = |phase, effects: &[Effect]| Ok((State { phase, ..state.clone() }, effects.to_vec()));
    let stop = |cause| match state.phase {
        Starting => to(Aborting(cause), &[Announce, AbortBoot]),
        _ => to(Stopping(cause), &[Withdraw, Save, Announce, TearDown]),
    };
    let deadline = |deadline, effects: &[Effect]| Ok((State { deadline, length: None, ..state.clone() }, effects.to_vec()));
    match (&state.phase, event) {
        (Ended(_), _) => Err(Refusal::Ending),
        (_, Event::Remove { generation, .. }) if generation < state.generation => Err(Refusal::OtherGeneration),
        (_, Event::SetDeadline { generation, .. }) if generation != state.generation => Err(Refusal::OtherGeneration),

        (Starting, Event::Ready(now)) => {
            let deadline = state.length.map_or(state.deadline, |length| after(now, length));
            Ok((State { deadline, length: None, phase: Running, ..*state }, vec![Save, Publish, Announce]))
        }
        (Aborting(cause), Event::Ready(_)) => to(Stopping(cause.clone()), &[Save, Announce, TearDown]),
        (Starting, Event::BootFailed(detail)) => to(Ended(Cause { detail, ..Cause::plain(EndReason::StartFailed) }), &[Announce]),
        (Aborting(cause), Event::BootFailed(_)) | (Stopping(cause), Event::Gone) => to(Ended(cause.clone()), &[Announce]),

        (Running, Event::Exited(exit)) => stop(exit.into()),
        (Starting | Running, Event::Remove { reason, .. }) => stop(Cause::plain(reason)),
        (Starting | Running, Event::Clock(now)) if now >= state.deadline => stop(Cause::plain(EndReason::Timeout)),
        (Starting, Event::SetDeadline { at, .. }) => deadline(at, &[Announce]),
        (Running, Event::SetDeadline { at, .. }) => deadline(at, &[Save, Announce]),

        (Aborting(_) | Stopping(_), Event::SetDeadline { .. }) => Err(Refusal::Ending),
        (_, Event::Clock(_)) | (Aborting(_) | Stopping(_), Event::Remove { .. }) | (Stopping(_), Event::Exited(_)) => {
            to(state.phase.clone(), &[])
        }
        (Starting | Aborting(_), Event::Exited(_) | Event::Gone)
        | (Running, Event::Ready(_) | Event::BootFailed(_) | Event::Gone)
        | (Stopping(_), Event::Ready(_) | Event::BootFailed(_)) => Err(Refusal::OutOfOrder),
    }
}
