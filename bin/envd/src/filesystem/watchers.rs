//! Watches whose events wait until a client asks for them.
//!
//! A watcher lives until it is removed, whoever made it and however long nobody asks. What waits is bounded, in each watcher and in all
//! of them: one that is not asked for too long breaks, and says so from then on.

use std::{
    collections::HashMap,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use atoll_wire::{
    connect::{Message, RpcError},
    filesystem::FilesystemEvent,
};
use tokio::task::AbortHandle;

use super::{random_id, watch::Watch};

/// The most bytes that wait in one watcher.
const LIMIT: usize = 16 << 20;
/// The most bytes that wait in all of them.
const LIMIT_OF_ALL: usize = 64 << 20;
/// What an event takes beside its text.
const OVERHEAD: usize = size_of::<FilesystemEvent>() + 32;

/// All watchers, by id.
#[derive(Default)]
pub struct Watchers {
    table: Mutex<HashMap<String, Watcher>>,
    waiting: Arc<AtomicUsize>,
}

struct Watcher {
    pending: Arc<Mutex<Pending>>,
    task: AbortHandle,
}

/// What waits to be asked for.
#[derive(Default)]
struct Pending {
    events: Vec<FilesystemEvent>,
    bytes: usize,
    broken: Option<RpcError>,
    /// The bytes of all watchers, those of this one among them.
    all: Arc<AtomicUsize>,
}

impl Watchers {
    /// Collects what `watch` tells; returns the id to ask by.
    pub fn add(&self, watch: Watch) -> String {
        let pending = Arc::new(Mutex::new(Pending::among(&self.waiting)));
        let collected = pending.clone();
        let task = tokio::spawn(async move {
            loop {
                let events = watch.events(Duration::MAX).await;
                if !lock(&collected).put(events) {
                    return;
                }
            }
        });
        let id = format!("w{}", random_id());
        lock(&self.table).insert(id.clone(), Watcher { pending, task: task.abort_handle() });
        id
    }

    /// Takes the events that wait.
    pub fn take(&self, id: &str) -> Result<Vec<FilesystemEvent>, RpcError> {
        let pending = lock(&self.table).get(id).ok_or_else(|| unknown(id))?.pending.clone();
        lock(&pending).take()
    }

    /// Ends a watcher.
    pub fn remove(&self, id: &str) -> Result<(), RpcError> {
        lock(&self.table).remove(id).map(drop).ok_or_else(|| unknown(id))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Pending {
    /// Nothing yet, to be counted among what waits in `all` watchers.
    fn among(all: &Arc<AtomicUsize>) -> Self {
        Self { events: Vec::new(), bytes: 0, broken: None, all: all.clone() }
    }

    /// Adds what a watch told; false when nothing more can be added, ever.
    fn put(&mut self, told: Result<Option<Vec<FilesystemEvent>>, RpcError>) -> bool {
        let told = told.and_then(|events| {
            let events = events.unwrap_or_default();
            let bytes = events.iter().map(|event| OVERHEAD + length(event)).sum::<usize>();
            self.events.extend(events);
            self.bytes += bytes;
            let all = self.all.fetch_add(bytes, Ordering::Relaxed) + bytes;
            if self.bytes > LIMIT || all > LIMIT_OF_ALL {
                return Err(RpcError::internal("too many events waited for too long: some were lost"));
            }
            Ok(())
        });
        if let Err(error) = told {
            self.clear();
            self.broken = Some(error);
        }
        self.broken.is_none()
    }

    fn take(&mut self) -> Result<Vec<FilesystemEvent>, RpcError> {
        self.broken.clone().map_or_else(|| Ok(self.clear()), Err)
    }

    fn clear(&mut self) -> Vec<FilesystemEvent> {
        self.all.fetch_sub(mem::take(&mut self.bytes), Ordering::Relaxed);
        mem::take(&mut self.events)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.clear();
    }
}

fn length(message: &impl Message) -> usize {
    message.encoded_len()
}

fn unknown(id: &str) -> RpcError {
    RpcError::not_found(format!("watcher '{id}' not found"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use atoll_wire::connect::Code;

    use super::*;

    fn event(length: usize) -> FilesystemEvent {
        FilesystemEvent { name: "x".repeat(length), ..Default::default() }
    }

    #[test]
    fn events_are_taken_once() {
        let mut pending = Pending::default();
        assert!(pending.put(Ok(Some(vec![event(1), event(2)]))));
        assert!(pending.put(Ok(Some(vec![event(3)]))));
        assert_eq!(pending.take().unwrap(), [event(1), event(2), event(3)]);
        assert_eq!(pending.take().unwrap(), []);
    }

    #[test]
    fn a_watcher_nobody_asks_breaks_and_stays_broken() {
        let mut pending = Pending::default();
        for _ in 0..3 {
            assert!(pending.put(Ok(Some(vec![event(LIMIT / 4)]))));
        }
        assert!(!pending.put(Ok(Some(vec![event(LIMIT / 4)]))));
        assert!(pending.events.is_empty() && pending.events.capacity() == 0);
        for _ in 0..2 {
            assert_eq!(pending.take().unwrap_err().code, Code::Internal);
        }
    }

    #[test]
    fn watchers_share_what_all_of_them_may_hold() {
        let all = Arc::new(AtomicUsize::new(0));
        let fill = || {
            let mut pending = Pending::among(&all);
            (pending.put(Ok(Some(vec![event(LIMIT - 2 * OVERHEAD)]))), pending)
        };
        let mut full: Vec<_> = (0..LIMIT_OF_ALL / LIMIT).map(|_| fill()).collect();
        assert!(full.iter().all(|(room, _)| *room));
        let mut late = Pending::among(&all);
        assert!(!late.put(Ok(Some(vec![event(LIMIT / 2)]))));
        full.pop();
        assert!(fill().0, "a watcher that goes makes room");
        drop((full, late));
        assert_eq!(all.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn asking_makes_room() {
        let mut pending = Pending::default();
        for _ in 0..10 {
            assert!(pending.put(Ok(Some(vec![event(LIMIT / 2)]))));
            assert_eq!(pending.take().unwrap().len(), 1);
        }
    }

    #[test]
    fn a_failure_is_told_every_time() {
        let mut pending = Pending::default();
        assert!(!pending.put(Err(RpcError::internal("gone"))));
        for _ in 0..2 {
            assert_eq!(pending.take().unwrap_err().message, "gone");
        }
    }

    #[tokio::test]
    async fn unknown_watchers_are_not_found() {
        let watchers = Watchers::default();
        assert_eq!(watchers.take("w").unwrap_err().code, Code::NotFound);
        assert_eq!(watchers.remove("w").unwrap_err().code, Code::NotFound);
    }
}
