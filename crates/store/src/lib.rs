//! SQL: what must outlive the daemon. Teams and their keys, templates and builds, sandboxes and the record of how they ended, samples
//! and log lines.
//!
//! One SQLite file in WAL mode, mode 0600: it holds the access tokens of secure sandboxes. SQL is text in the dialect that SQLite and
//! PostgreSQL share.
//!
//! Invariants: rows of a team are reached only through [`Store::team`]; what belongs to the whole platform, through [`Store::fleet`] and
//! the functions named for it. A write is acknowledged after its commit, and a read that starts after that sees it.

mod db;
mod error;
mod logs;
mod metrics;
mod migrations;
mod sandboxes;
mod sql;
mod teams;
mod templates;

use std::path::Path;

use atoll_types::TeamId;

pub use error::{OpenError, StoreError};
pub use logs::{Level, LogQuery, LogRow};
pub use metrics::SampleRow;
pub use sandboxes::{
    Cursor, Idempotency, InsertError, LiveSandbox, NewSandbox, Order, Page, Retention, SandboxQuery, SandboxRow, SandboxState, Started,
};
pub use teams::{KeyError, Limits, Team};
pub use templates::{BuildRow, NewBuild};

/// The database. Cheap to clone; it closes when the last clone is gone.
#[derive(Clone, Debug)]
pub struct Store {
    db: db::Db,
}

/// What one team has. The only way to its rows.
#[derive(Clone, Debug)]
pub struct Tenant {
    db: db::Db,
    team: TeamId,
}

/// The sandboxes of every team, for those who keep the platform running.
#[derive(Clone, Debug)]
pub struct Fleet {
    db: db::Db,
}

impl Store {
    /// Opens the database, making it if it is not there, and brings its schema up to date.
    pub async fn open(path: &Path) -> Result<Self, OpenError> {
        let path = path.to_owned();
        let db = tokio::task::spawn_blocking(move || db::Db::open(&path)).await.map_err(|_| OpenError::Interrupted)??;
        Ok(Self { db })
    }

    /// The rows of one team.
    pub fn team(&self, team: TeamId) -> Tenant {
        Tenant { db: self.db.clone(), team }
    }

    /// The sandboxes of all teams.
    pub fn fleet(&self) -> Fleet {
        Fleet { db: self.db.clone() }
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.db.read(|conn| sql::one(conn, "SELECT 1", &[], |row| row.get::<_, i64>(0)).map(drop)).await
    }
}
