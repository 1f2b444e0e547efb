//! What the proxy has open to each run of a sandbox: requests counted, idle connections kept for the next request.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use atoll_types::SandboxId;
use hyper::client::conn::http1::SendRequest;

use crate::{Route, body::RequestBody};

/// The sending half of a connection to a guest.
pub type Sender = SendRequest<RequestBody>;

/// All runs with traffic.
#[derive(Default)]
pub struct Pool {
    runs: Mutex<HashMap<SandboxId, Arc<Run>>>,
}

/// One run of a sandbox.
struct Run {
    route: Route,
    active: AtomicUsize,
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    port: u16,
    sender: Sender,
    since: Instant,
}

/// The right to have one request or tunnel open to a run; given back when dropped.
pub struct Permit(Arc<Run>);

impl Pool {
    /// Admits one more request to the run that `route` leads to, unless it has `limit` already.
    pub fn enter(&self, id: &SandboxId, route: Route, limit: usize) -> Option<Permit> {
        let mut runs = lock(&self.runs);
        let run = match runs.get(id) {
            Some(run) if run.route.generation == route.generation && run.route.guest == route.guest => run.clone(),
            _ => {
                let run = Arc::new(Run { route, active: AtomicUsize::new(0), idle: Mutex::default() });
                runs.insert(id.clone(), run.clone());
                run
            }
        };
        // Counted under the lock, so that `sweep` never forgets a run that somebody is about to use.
        let before = run.active.fetch_add(1, Ordering::Relaxed);
        let permit = Permit(run);
        (before < limit).then_some(permit)
    }

    /// Closes connections that have been idle for `age` and forgets runs that ended or have nothing open.
    pub fn sweep(&self, age: Duration) {
        lock(&self.runs).retain(|_, run| {
            let mut idle = lock(&run.idle);
            idle.retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() < age);
            !run.route.ended.is_cancelled() && (run.active.load(Ordering::Relaxed) > 0 || !idle.is_empty())
        });
    }

    /// Closes every idle connection.
    pub fn clear(&self) {
        self.sweep(Duration::ZERO);
    }
}

impl Permit {
    /// How to reach the run.
    pub fn route(&self) -> &Route {
        &self.0.route
    }

    /// Takes the idle connection to `port` that was used last.
    pub fn check_out(&self, port: u16, age: Duration) -> Option<Sender> {
        let mut idle = lock(&self.0.idle);
        let newest = idle.iter().rposition(|idle| idle.port == port && idle.sender.is_ready() && idle.since.elapsed() < age)?;
        Some(idle.remove(newest).sender)
    }

    /// Keeps a connection whose exchange is complete, while there is room.
    pub fn check_in(&self, port: u16, sender: Sender, room: usize) {
        let mut idle = lock(&self.0.idle);
        if idle.len() < room && !sender.is_closed() {
            idle.push(Idle { port, sender, since: Instant::now() });
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these, and no invariant spans two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
