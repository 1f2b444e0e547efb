//! The connections: one thread writes, a few read.
//!
//! ```text
//! callers ──> queue ──> writer: BEGIN · savepoint per caller · COMMIT ──> answers
//!         └─> queue ──> readers
//! ```
//! What waits while the writer works shares the next transaction, so a burst costs few commits. A failing caller rolls back to its own
//! savepoint; a failing commit is told to all who shared it.

use std::{
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};
use tokio::sync::{mpsc, oneshot};

use crate::{
    error::{OpenError, StoreError},
    migrations,
};

const READERS: usize = 3;
const QUEUE: usize = 1024;
/// The most callers that share a transaction.
const BATCH: usize = 128;

/// Called with the outcome of the commit.
type Answer = Box<dyn FnOnce(Result<(), StoreError>)>;
type Write = Box<dyn FnOnce(Result<&mut Connection, StoreError>) -> Answer + Send>;
type Read = Box<dyn FnOnce(&Connection) + Send>;

#[derive(Clone, Debug)]
pub(crate) struct Db {
    writes: mpsc::Sender<Write>,
    reads: mpsc::Sender<Read>,
}

impl Db {
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        let file = |source| OpenError::File { path: path.to_owned(), source };
        // SQLite gives its side files the mode of the main one.
        OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(file)?;
        let mut writer = connect(path)?;
        migrations::apply(&mut writer)?;

        let (writes, queue) = mpsc::channel(QUEUE);
        spawn("store-writer", move || write_all(writer, queue))?;
        let (reads, queue) = mpsc::channel(QUEUE);
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..READERS {
            let (connection, queue) = (connect(path)?, queue.clone());
            spawn("store-reader", move || read_all(&connection, &queue))?;
        }
        Ok(Self { writes, reads })
    }

    /// Runs `deed` in a transaction. All it did is undone when it fails.
    pub(crate) async fn write<T, F>(&self, deed: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let write: Write = Box::new(move |connection| {
            let outcome = connection.and_then(|connection| in_savepoint(connection, deed));
            // A caller that stopped waiting does not stop its write.
            Box::new(move |committed| drop(reply.send(committed.and(outcome))))
        });
        self.writes.send(write).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Runs `query` on a connection that nobody else uses meanwhile.
    pub(crate) async fn read<T, F>(&self, query: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let read: Read = Box::new(move |connection| drop(reply.send(query(connection))));
        self.reads.send(read).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

fn connect(path: &Path) -> Result<Connection, OpenError> {
    let open = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(Duration::from_secs(10))?;
        connection.set_prepared_statement_cache_capacity(64);
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // No disk sync per commit: a crash of the daemon loses nothing, and a power cut, which may lose the last moments, takes the
        // sandboxes with it as well.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        Ok(connection)
    };
    open().map_err(|source| OpenError::Sqlite { path: path.to_owned(), source })
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), OpenError> {
    thread::Builder::new().name(name.into()).spawn(run).map(drop).map_err(OpenError::Thread)
}

fn in_savepoint<T>(connection: &mut Connection, deed: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
    // Dropping a savepoint rolls back to it.
    let savepoint = connection.savepoint()?;
    let value = deed(&savepoint)?;
    savepoint.commit()?;
    Ok(value)
}

fn write_all(mut connection: Connection, mut queue: mpsc::Receiver<Write>) {
    while let Some(first) = queue.blocking_recv() {
        let begun = connection.execute_batch("BEGIN IMMEDIATE").map_err(StoreError::from);
        let mut answers = Vec::new();
        let mut next = Some(first);
        while let Some(write) = next {
            // Some failures (a full disk) end the whole transaction: nothing may run outside of one.
            let inside =
                if connection.is_autocommit() { Err(begun.clone().err().unwrap_or(StoreError::RolledBack)) } else { Ok(&mut connection) };
            answers.push(write(inside));
            next = if answers.len() < BATCH { queue.try_recv().ok() } else { None };
        }
        let committed = begun.and_then(|()| connection.execute_batch("COMMIT").map_err(|e| StoreError::Commit(Arc::new(e))));
        if committed.is_err() && !connection.is_autocommit() {
            // The next transaction must not find this one open.
            let _ = connection.execute_batch("ROLLBACK");
        }
        answers.into_iter().for_each(|answer| answer(committed.clone()));
    }
}

fn read_all(connection: &Connection, queue: &Mutex<mpsc::Receiver<Read>>) {
    loop {
        let read = queue.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        match read {
            Some(read) => read(connection),
            None => return,
        }
    }
}
