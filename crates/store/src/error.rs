//! What can go wrong with the database.

use std::{io, path::PathBuf, sync::Arc};

/// Why the database was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file could not be made or its mode not set.
    #[error("preparing the database file {path}")]
    File {
        /// Which file.
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// SQLite refused it.
    #[error("opening the database {path}")]
    Sqlite {
        /// Which file.
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    /// A step of the schema failed; nothing of it was kept.
    #[error("applying the schema step {step}")]
    Migration {
        /// Its name.
        step: &'static str,
        #[source]
        source: rusqlite::Error,
    },
    /// A newer program has been here.
    #[error(
        "the database has schema step {found}, which this program does not know (its newest is {known}): start the newer version that made it"
    )]
    TooNew {
        /// The database's newest step.
        found: String,
        /// The program's newest step.
        known: &'static str,
    },
    /// Its history is not ours.
    #[error(
        "the database went through schema step {found} where this program expects {expected}: it belongs to another program or a damaged build"
    )]
    Foreign {
        /// What the database says.
        found: String,
        /// What we would have done.
        expected: &'static str,
    },
    /// A thread of the database could not be started.
    #[error("starting a thread of the database")]
    Thread(#[source] io::Error),
    /// The program is shutting down.
    #[error("opening the database was interrupted")]
    Interrupted,
}

/// Why a query has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// SQLite refused a statement.
    #[error("a statement failed")]
    Statement(#[source] Arc<rusqlite::Error>),
    /// The changes of several callers could not be committed; none were kept.
    #[error("committing failed")]
    Commit(#[source] Arc<rusqlite::Error>),
    /// Another caller's failure ended the transaction that both shared.
    #[error("the transaction was rolled back")]
    RolledBack,
    /// A value for a column cannot be written.
    #[error("the value of {column} has no JSON form")]
    Json {
        /// Which column.
        column: &'static str,
        #[source]
        source: Arc<serde_json::Error>,
    },
    /// The database has been closed.
    #[error("the database is closed")]
    Closed,
}

impl StoreError {
    /// Whether the same may succeed later: the database is locked for too long, or its disk is full, read-only or failing.
    pub fn is_temporary(&self) -> bool {
        use rusqlite::ErrorCode::{CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, ReadOnly, SystemIoFailure};
        match self {
            Self::Statement(error) | Self::Commit(error) => matches!(
                error.sqlite_error_code(),
                Some(CannotOpen | DatabaseBusy | DatabaseLocked | DiskFull | ReadOnly | SystemIoFailure)
            ),
            Self::RolledBack => true,
            Self::Json { .. } | Self::Closed => false,
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Statement(Arc::new(error))
    }
}
