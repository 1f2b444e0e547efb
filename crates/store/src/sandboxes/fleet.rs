//! What keeps rows and nodes in agreement, for the sandboxes of all teams.

use std::time::Duration;

use atoll_types::{EndReason, Ending, SandboxId, Timestamp};
use rusqlite::{Row, ToSql};

use super::{SandboxRow, SandboxState, sandbox};
use crate::{
    Fleet, StoreError,
    sql::{self, Columns as _},
};

/// What the control plane and a node must agree on about a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveSandbox {
    /// Its id.
    pub id: SandboxId,
    /// Which run of it.
    pub generation: u64,
    /// Where it is in its life.
    pub state: SandboxState,
    /// When it is to end.
    pub deadline: Timestamp,
    /// When its node is going to end it.
    pub node_deadline: Timestamp,
}

/// What is known once a sandbox has come up.
#[derive(Debug, Clone)]
pub struct Started {
    /// The node it runs on.
    pub node: String,
    /// The version of its `envd`.
    pub envd_version: String,
    /// When it came up.
    pub at: Timestamp,
    /// When its node is going to end it.
    pub deadline: Timestamp,
}

/// How long records are kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Of sandboxes that have ended.
    pub sandboxes: Duration,
    /// Samples.
    pub samples: Duration,
    /// Log lines.
    pub logs: Duration,
}

const LIVE: &str = "SELECT id, generation, state, deadline, node_deadline FROM sandboxes";

impl Fleet {
    /// Records that a starting sandbox came up. `None` when it is no longer starting.
    pub async fn started(&self, id: &SandboxId, generation: u64, started: Started) -> Result<Option<SandboxRow>, StoreError> {
        let id = id.clone();
        let Started { node, envd_version, at, deadline } = started;
        let update =
            "UPDATE sandboxes SET state = 'running', node = $3, envd_version = $4, started_at = $5, deadline = $6, node_deadline = $6
             WHERE id = $1 AND generation = $2 AND state = 'starting' RETURNING *";
        self.db
            .write(move |conn| {
                let (at, deadline) = (sql::micros(at), sql::micros(deadline));
                let args: [&dyn ToSql; 6] = [&id.as_str(), &sql::count(generation), &node, &envd_version, &at, &deadline];
                sql::one(conn, update, &args, sandbox)
            })
            .await
    }

    /// Records the end of a sandbox. `false` when that run of it has ended before, or never was.
    pub async fn ended(&self, id: &SandboxId, generation: u64, ending: Ending) -> Result<bool, StoreError> {
        let id = id.clone();
        let update = "UPDATE sandboxes SET state = 'ended', ended_at = $3, end_reason = $4, exit_code = $5, end_detail = $6,
             idempotency_key = CASE WHEN state = 'starting' THEN NULL ELSE idempotency_key END
             WHERE id = $1 AND generation = $2 AND ended_at IS NULL";
        self.db
            .write(move |conn| {
                let Ending { reason, exit_code, at, detail } = ending;
                let args: [&dyn ToSql; 6] =
                    [&id.as_str(), &sql::count(generation), &sql::micros(at), &reason.as_str(), &exit_code, &detail];
                Ok(sql::execute(conn, update, &args)? == 1)
            })
            .await
    }

    /// Ends every sandbox that is still starting: whoever was starting it is gone. Says how many.
    pub async fn abandon_starting(&self, detail: &str, now: Timestamp) -> Result<usize, StoreError> {
        let (detail, now, reason) = (detail.to_owned(), sql::micros(now), EndReason::StartFailed.as_str());
        let update = "UPDATE sandboxes SET state = 'ended', ended_at = $1, end_reason = $2, end_detail = $3,
             idempotency_key = NULL WHERE state = 'starting'";
        self.db.write(move |conn| sql::execute(conn, update, &[&now, &reason, &detail])).await
    }

    /// A sandbox that has not ended.
    pub async fn live(&self, id: &SandboxId) -> Result<Option<LiveSandbox>, StoreError> {
        let id = id.clone();
        let query = format!("{LIVE} WHERE id = $1 AND ended_at IS NULL");
        self.db.read(move |conn| sql::one(conn, &query, &[&id.as_str()], live)).await
    }

    /// Every sandbox that runs or is to end.
    pub async fn all_live(&self) -> Result<Vec<LiveSandbox>, StoreError> {
        let query = format!("{LIVE} WHERE ended_at IS NULL AND state IN ('running', 'stopping')");
        self.db.read(move |conn| sql::all(conn, &query, &[], live)).await
    }

    /// Running sandboxes whose node has another deadline than we want.
    pub async fn wrong_deadlines(&self) -> Result<Vec<LiveSandbox>, StoreError> {
        let query = format!("{LIVE} WHERE state = 'running' AND deadline <> node_deadline");
        self.db.read(move |conn| sql::all(conn, &query, &[], live)).await
    }

    /// Sandboxes that are being made.
    pub async fn starting(&self) -> Result<Vec<SandboxId>, StoreError> {
        let query = "SELECT id FROM sandboxes WHERE ended_at IS NULL AND state = 'starting' ORDER BY created_at, id";
        self.db.read(move |conn| sql::all(conn, query, &[], |row| row.parsed("id"))).await
    }

    /// Sandboxes that are to end.
    pub async fn stopping(&self) -> Result<Vec<LiveSandbox>, StoreError> {
        let query = format!("{LIVE} WHERE ended_at IS NULL AND state = 'stopping'");
        self.db.read(move |conn| sql::all(conn, &query, &[], live)).await
    }

    /// Records the deadline that the node has.
    pub async fn saw_deadline(&self, id: &SandboxId, generation: u64, deadline: Timestamp) -> Result<(), StoreError> {
        let (id, deadline) = (id.clone(), sql::micros(deadline));
        let update = "UPDATE sandboxes SET node_deadline = $3
             WHERE id = $1 AND generation = $2 AND state = 'running' AND node_deadline <> $3";
        self.db.write(move |conn| sql::execute(conn, update, &[&id.as_str(), &sql::count(generation), &deadline]).map(drop)).await
    }

    /// Deletes the records that are older than they need be kept.
    pub async fn sweep(&self, keep: Retention, now: Timestamp) -> Result<usize, StoreError> {
        let before = |kept: Duration| sql::micros(now).saturating_sub(i64::try_from(kept.as_micros()).unwrap_or(i64::MAX));
        let deletions = [
            ("DELETE FROM samples WHERE at < $1", before(keep.samples)),
            ("DELETE FROM log_lines WHERE at < $1", before(keep.logs)),
            ("DELETE FROM sandboxes WHERE ended_at < $1", before(keep.sandboxes)),
        ];
        let mut deleted = 0;
        for (delete, before) in deletions {
            deleted += self.db.write(move |conn| sql::execute(conn, delete, &[&before])).await?;
        }
        Ok(deleted)
    }
}

fn live(row: &Row<'_>) -> rusqlite::Result<LiveSandbox> {
    Ok(LiveSandbox {
        id: row.parsed("id")?,
        generation: row.count("generation")?,
        state: row.parsed("state")?,
        deadline: row.moment("deadline")?,
        node_deadline: row.moment("node_deadline")?,
    })
}
