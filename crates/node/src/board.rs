//! Where every sandbox posts how it stands, and watchers read it.
//!
//! - A watcher sees one snapshot and then every change after it, in order. One that falls behind sees a fresh snapshot instead: it
//!   may miss intermediate states, never the last one.
//! - Samples and log lines go past a slow watcher; the oldest are lost first.
//! - Ended sandboxes stay posted for a while, so that whoever was away learns why.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use atoll_types::{Clock, SandboxId, Timestamp};
use atoll_wire::node::{
    LogLine, Sample, Sandbox,
    watch_response::{Event, KeepAlive, Snapshot},
};
use tokio::sync::broadcast::{self, error::RecvError};

use crate::view::View;

/// How long an ended sandbox stays posted.
const ENDED_FOR: chrono::TimeDelta = chrono::TimeDelta::minutes(10);
/// How many ended sandboxes stay posted at most.
const ENDED_MOST: usize = 1024;
/// Changes a watcher may be behind before it gets a snapshot instead.
const CHANGES: usize = 1024;
/// Samples and log lines a watcher may be behind before it loses the oldest.
const EXTRAS: usize = 4096;
/// How long a watcher hears nothing at most.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Clone)]
pub(crate) struct Board(Arc<Shared>);

struct Shared {
    posts: Mutex<Posts>,
    changes: broadcast::Sender<Event>,
    extras: broadcast::Sender<Event>,
    clock: Arc<dyn Clock>,
}

#[derive(Default)]
struct Posts {
    views: HashMap<SandboxId, View>,
    /// Oldest first.
    ended: VecDeque<(Timestamp, SandboxId, u64)>,
}

impl Board {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let (changes, extras) = (broadcast::Sender::new(CHANGES), broadcast::Sender::new(EXTRAS));
        Self(Arc::new(Shared { posts: Mutex::default(), changes, extras, clock }))
    }

    /// Posts how a sandbox stands now, and tells the watchers.
    pub(crate) fn post(&self, view: View) {
        let mut posts = self.posts();
        if let Some(ending) = view.ending() {
            posts.ended.push_back((ending.at, view.id.clone(), view.generation));
        }
        posts.views.insert(view.id.clone(), view.clone());
        // Within the lock, so that a snapshot and the changes after it fit together. Nobody listening is fine.
        let _ = self.0.changes.send(Event::Changed(view.into()));
    }

    pub(crate) fn sample(&self, sample: Sample) {
        let _ = self.0.extras.send(Event::Sample(sample));
    }

    pub(crate) fn log(&self, line: LogLine) {
        let _ = self.0.extras.send(Event::Log(line));
    }

    /// How `id` stood last, if that is still posted.
    pub(crate) fn view(&self, id: &SandboxId) -> Option<View> {
        self.posts().views.get(id).cloned()
    }

    /// Everything that is posted.
    pub(crate) fn views(&self) -> Vec<View> {
        self.posts().views.values().cloned().collect()
    }

    /// A new watcher.
    pub(crate) fn watch(&self) -> Watcher {
        let posts = self.posts();
        let snapshot = Some(snapshot(&posts));
        Watcher { snapshot, changes: self.0.changes.subscribe(), extras: self.0.extras.subscribe(), board: self.clone() }
    }

    fn posts(&self) -> MutexGuard<'_, Posts> {
        let mut posts = self.0.posts.lock().unwrap_or_else(PoisonError::into_inner);
        posts.expire(self.0.clock.now());
        posts
    }
}

impl Posts {
    fn expire(&mut self, now: Timestamp) {
        while let Some((at, ..)) = self.ended.front()
            && (self.ended.len() > ENDED_MOST || now - *at > ENDED_FOR)
        {
            let Some((_, id, generation)) = self.ended.pop_front() else { return };
            // A newer run of the same sandbox has taken its place.
            if self.views.get(&id).is_some_and(|view| view.generation == generation) {
                self.views.remove(&id);
            }
        }
    }
}

fn snapshot(posts: &Posts) -> Event {
    let mut sandboxes: Vec<Sandbox> = posts.views.values().cloned().map(Into::into).collect();
    sandboxes.sort_by(|a, b| a.sandbox_id.cmp(&b.sandbox_id));
    Event::Snapshot(Snapshot { sandboxes })
}

/// One who watches.
pub(crate) struct Watcher {
    board: Board,
    snapshot: Option<Event>,
    changes: broadcast::Receiver<Event>,
    extras: broadcast::Receiver<Event>,
}

impl Watcher {
    /// What is new: a snapshot first, a keepalive when there is nothing for a while.
    pub(crate) async fn next(&mut self) -> Event {
        loop {
            if let Some(snapshot) = self.snapshot.take() {
                return snapshot;
            }
            tokio::select! {
                biased;
                change = self.changes.recv() => match change {
                    Ok(change) => return change,
                    Err(RecvError::Lagged(_)) => {
                        let fresh = self.board.watch();
                        (self.snapshot, self.changes) = (fresh.snapshot, fresh.changes);
                    }
                    Err(RecvError::Closed) => unreachable!("the watcher holds the board, and the board the sender"),
                },
                extra = self.extras.recv() => match extra {
                    Ok(extra) => return extra,
                    Err(RecvError::Lagged(lost)) => tracing::debug!(lost, "a slow watcher lost samples and log lines"),
                    Err(RecvError::Closed) => unreachable!("the watcher holds the board, and the board the sender"),
                },
                () = tokio::time::sleep(KEEPALIVE) => return Event::Keepalive(KeepAlive {}),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use atoll_types::{EndReason, Ending};
    use atoll_wire::connect::Code;

    use super::*;
    use crate::{scratch::Hands, view::Standing};

    fn view(n: usize, generation: u64, ended: Option<Timestamp>) -> View {
        let deadline = "2030-01-01T00:00:00Z".parse().unwrap();
        let standing = match ended {
            None => Standing::Running,
            Some(at) => Standing::Ended(Ending { reason: EndReason::Killed, exit_code: None, at, detail: String::new() }, Code::NotFound),
        };
        View { id: format!("i{n}").parse().unwrap(), generation, standing, started_at: None, deadline }
    }

    fn ids(event: Event) -> Vec<String> {
        match event {
            Event::Snapshot(Snapshot { sandboxes }) => sandboxes.into_iter().map(|s| s.sandbox_id).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_snapshot_and_then_every_change() {
        let board = Board::new(Arc::new(Hands::default()));
        board.post(view(1, 1, None));
        let mut watcher = board.watch();
        board.post(view(2, 1, None));
        assert_eq!(ids(watcher.next().await), ["i1"]);
        let Event::Changed(changed) = watcher.next().await else { panic!() };
        assert_eq!(changed.sandbox_id, "i2");
    }

    #[tokio::test]
    async fn a_slow_watcher_gets_a_fresh_snapshot() {
        let board = Board::new(Arc::new(Hands::default()));
        let mut watcher = board.watch();
        assert!(ids(watcher.next().await).is_empty());
        board.log(LogLine::default());
        for generation in 0..3 * CHANGES as u64 {
            board.post(view(1, generation, None));
        }
        let Event::Snapshot(Snapshot { sandboxes }) = watcher.next().await else { panic!() };
        assert_eq!(sandboxes[0].generation, 3 * CHANGES as u64 - 1);
        board.post(view(2, 1, None));
        assert!(matches!(watcher.next().await, Event::Changed(_)));
        assert!(matches!(watcher.next().await, Event::Log(_)), "what was not lost still comes");
    }

    #[test]
    fn the_ended_stay_for_a_while() {
        let clock = Hands::default();
        let board = Board::new(Arc::new(clock.clone()));
        let start = clock.now();
        board.post(view(1, 1, Some(start)));
        board.post(view(2, 1, Some(start)));
        board.post(view(2, 2, None));
        clock.advance(ENDED_FOR);
        assert!(board.view(&"i1".parse().unwrap()).is_some());
        clock.advance(chrono::TimeDelta::seconds(1));
        assert!(board.view(&"i1".parse().unwrap()).is_none());
        assert_eq!(board.view(&"i2".parse().unwrap()).unwrap().generation, 2, "the newer run stays");
        for n in 0..ENDED_MOST + 10 {
            board.post(view(n, 3, Some(clock.now())));
        }
        assert_eq!(board.views().len(), ENDED_MOST);
    }
}
