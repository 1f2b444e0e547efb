//! The processes that clients started: the table of them, and the service that speaks for it.
//!
//! ```text
//!  Start ──> running ── exit, and end of output ──> ended ── 30 s, or its pid or tag is used again ──> forgotten
//!               └────── exit after a signal or at the deadline, end of output or not ──┘
//! ```
//! A process does not depend on whoever watches it: clients come and go, each sees the output from when it came on.

mod exit;
mod reaper;
mod rpc;
mod running;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use atoll_sys::process::{Spawn, SpawnError};
use atoll_wire::process::{ProcessConfig, process_event::EndEvent, process_selector::Selector};
use tokio::{sync::mpsc, time::Instant};

use crate::log;
pub use reaper::Reaper;
pub use rpc::handle;
use running::{Output, Process};

/// How long a process that ended can still be asked how.
const RETENTION: Duration = Duration::from_secs(30);

/// The most ended processes that are kept.
const MOST_RETAINED: usize = 4096;

/// The table. Cheap to clone.
#[derive(Clone)]
pub struct Processes(Arc<Inner>);

struct Inner {
    reaper: Reaper,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// In the order they were started.
    live: Vec<Arc<Process>>,
    /// In the order they ended.
    ended: VecDeque<(Instant, Ended)>,
}

/// What is kept of a process that ended: nothing that it held open, and not what it was started with.
#[derive(Debug, Clone, PartialEq)]
struct Ended {
    pid: u32,
    tag: Option<String>,
    end: EndEvent,
}

/// A process that a client means.
enum Known {
    Live(Arc<Process>),
    Ended(Ended),
}

/// Why a process was not started.
#[derive(Debug, thiserror::Error)]
enum StartError {
    /// The kernel refused.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// Its streams could not be watched; it was killed again.
    #[error("watching the streams of a process")]
    Watch(#[source] std::io::Error),
}

impl Processes {
    /// An empty table, whose processes are reaped by `reaper`.
    pub fn new(reaper: Reaper) -> Self {
        Self(Arc::new(Inner { reaper, table: Mutex::default() }))
    }

    /// Who reaps.
    pub fn reaper(&self) -> &Reaper {
        &self.0.reaper
    }

    /// Sends SIGTERM to every process.
    pub fn terminate(&self) {
        for process in &self.table().live {
            // One that is gone already needs no signal.
            let _ = process.signal(atoll_sys::process::Signal::Term);
        }
    }

    /// Starts a process; the receiver gets its output from the first byte on. At the deadline it is killed.
    fn start(
        &self,
        spawn: &Spawn<'_>,
        config: ProcessConfig,
        tag: Option<String>,
        deadline: Option<Instant>,
    ) -> Result<(Arc<Process>, mpsc::Receiver<Output>), StartError> {
        let child = atoll_sys::process::spawn(spawn)?;
        let exit = self.0.reaper.exit_of(child.pid);
        let (process, streams) = Process::new(child, config, tag).map_err(StartError::Watch)?;
        let process = Arc::new(process);
        let output = process.subscribe();
        log::info("process", "process_start", &[("pid", &process.pid), ("command", &process.config.cmd)]);

        let mut table = self.table();
        table.ended.retain(|(_, p)| p.pid != process.pid && (p.tag.is_none() || p.tag != process.tag));
        table.live.push(process.clone());
        drop(table);

        let supervised = process.clone();
        let processes = self.clone();
        tokio::spawn(async move {
            supervised.supervise(streams, exit, deadline).await;
            processes.retire(&supervised);
        });
        Ok((process, output))
    }

    fn retire(&self, process: &Arc<Process>) {
        let mut table = self.table();
        table.live.retain(|p| !Arc::ptr_eq(p, process));
        if let Some(end) = process.end() {
            table.ended.push_back((Instant::now(), Ended { pid: process.pid, tag: process.tag.clone(), end }));
        }
        if table.ended.len() > MOST_RETAINED {
            table.ended.pop_front();
        }
    }

    /// Every process that has not ended.
    fn live(&self) -> Vec<Arc<Process>> {
        self.table().live.clone()
    }

    /// The process that a client means, if it has not ended.
    fn find_live(&self, selector: &Selector) -> Option<Arc<Process>> {
        self.table().live.iter().rev().find(|p| means(selector, p.pid, &p.tag)).cloned()
    }

    /// The process that a client means, if it is still known.
    fn find(&self, selector: &Selector) -> Option<Known> {
        let ended = || self.table().ended.iter().rev().map(|(_, p)| p).find(|p| means(selector, p.pid, &p.tag)).cloned();
        self.find_live(selector).map(Known::Live).or_else(|| ended().map(Known::Ended))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        let mut table = self.0.table.lock().unwrap_or_else(PoisonError::into_inner);
        while table.ended.front().is_some_and(|(at, _)| at.elapsed() >= RETENTION) {
            table.ended.pop_front();
        }
        table
    }
}

fn means(selector: &Selector, pid: u32, tag: &Option<String>) -> bool {
    match selector {
        Selector::Pid(meant) => *meant == pid,
        Selector::Tag(meant) => tag.as_ref() == Some(meant),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_known_for_thirty_seconds() {
        let processes = Processes::new(Reaper::new(false));
        let ended = |pid| Ended { pid, tag: None, end: EndEvent::default() };
        let ago = |seconds| Instant::now() - Duration::from_secs(seconds);
        processes.table().ended.extend([(ago(31), ended(1)), (ago(30), ended(2)), (ago(20), ended(3))]);
        let known = |pid| processes.find(&Selector::Pid(pid)).is_some();
        assert_eq!([1, 2, 3].map(known), [false, false, true]);
        assert_eq!(processes.table().ended.len(), 1);
    }
}
