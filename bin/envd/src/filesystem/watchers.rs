//! Watches whose events wait until a client asks for them.
//!
//! A watcher lives until it is removed, whoever made it and however long nobody asks. What waits is bounded: a watcher that is not asked
//! for too long breaks, and says so from then on.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use atoll_wire::{
    connect::{Message, RpcError},
    filesystem::FilesystemEvent,
};
use tokio::task::AbortHandle;

use super::{random_id, watch::Watch};

/// The most bytes that wait in one watcher.
const LIMIT: usize = 8 << 20;
/// What an event takes beside its text.
const OVERHEAD: usize = 128;

/// All watchers, by id.
#[derive(Default)]
pub struct Watchers(Mutex<HashMap<String, Watcher>>);

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
}

impl Watchers {
    /// Collects what `watch` tells; returns the id to ask by.
    pub fn add(&self, watch: Watch) -> String {
        let pending = Arc::new(Mutex::new(Pending::default()));
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
        lock(&self.0).insert(id.clone(), Watcher { pending, task: task.abort_handle() });
        id
    }

    /// Takes the events that wait.
    pub fn take(&self, id: &str) -> Result<Vec<FilesystemEvent>, RpcError> {
        let pending = lock(&self.0).get(id).ok_or_else(|| unknown(id))?.pending.clone();
        lock(&pending).take()
    }

    /// Ends a watcher.
    pub fn remove(&self, id: &str) -> Result<(), RpcError> {
        lock(&self.0).remove(id).map(drop).ok_or_else(|| unknown(id))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Pending {
    /// Adds what a watch told; false when nothing more can be added, ever.
    fn put(&mut self, told: Result<Option<Vec<FilesystemEvent>>, RpcError>) -> bool {
        let told = told.and_then(|events| {
            let events = events.unwrap_or_default();
            self.bytes += events.iter().map(|event| OVERHEAD + length(event)).sum::<usize>();
            self.events.extend(events);
            if self.bytes > LIMIT { Err(RpcError::internal("too many events waited for too long: some were lost")) } else { Ok(()) }
        });
        if let Err(error) = told {
            *self = Self { broken: Some(error), ..Self::default() };
        }
        self.broken.is_none()
    }

    fn take(&mut self) -> Result<Vec<FilesystemEvent>, RpcError> {
        match &self.broken {
            Some(error) => Err(error.clone()),
            None => {
                self.bytes = 0;
                Ok(mem::take(&mut self.events))
            }
        }
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
