//! Reaping: every ended process at once, since a zombie still answers `kill -0`.
//!
//! As the first process of a PID namespace the daemon reaps whatever is left to it; elsewhere it waits for its own children only.

use std::{
    collections::HashMap,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use atoll_sys::process::{Exit, reap, reap_any};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
    task::yield_now,
};

/// How many are reaped before others get their turn: a storm of processes may end as fast as they are reaped.
const BATCH: usize = 256;

/// Reaps, and tells those who wait.
pub struct Reaper {
    first_process: bool,
    waiting: Mutex<HashMap<u32, oneshot::Sender<Exit>>>,
}

impl Reaper {
    /// A reaper; `first_process` says whether orphans are its duty too.
    pub fn new(first_process: bool) -> Self {
        Self { first_process, waiting: Mutex::default() }
    }

    /// Resolves with the exit of a child. Call it before anything else can run after the child was started.
    pub fn exit_of(&self, pid: u32) -> oneshot::Receiver<Exit> {
        let (tell, exit) = oneshot::channel();
        self.waiting().insert(pid, tell);
        exit
    }

    /// Reaps for ever; `Err` when children's signals cannot be received.
    pub async fn run(&self) -> io::Result<()> {
        let mut ended = signal(SignalKind::child())?;
        loop {
            while self.reap() == BATCH {
                yield_now().await;
            }
            ended.recv().await;
        }
    }

    /// Reaps up to a batch; says how many there were.
    fn reap(&self) -> usize {
        let mut waiting = self.waiting();
        let ended: Vec<(u32, Exit)> = if self.first_process {
            std::iter::from_fn(reap_any).take(BATCH).collect()
        } else {
            waiting.keys().filter_map(|pid| Some((*pid, reap(*pid)?))).take(BATCH).collect()
        };
        let count = ended.len();
        for (pid, exit) in ended {
            if let Some(tell) = waiting.remove(&pid) {
                // A process that nobody supervises any more is reaped all the same.
                let _ = tell.send(exit);
            }
        }
        count
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u32, oneshot::Sender<Exit>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
