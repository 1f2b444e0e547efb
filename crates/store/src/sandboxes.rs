//! Sandboxes: one row for each that was ever admitted.
//!
//! ```text
//! starting ──> running ──> stopping ──> ended(reason)
//!     └───────────┴─────────────────────────┘
//! ```
//! The row says what is intended; the node says what is. `deadline` is the intention, `node_deadline` what the node last said. Every
//! change names the generation it is about, and a change about an older one does nothing. Nothing leaves `ended`.

mod fleet;
mod list;

use std::collections::BTreeMap;

use atoll_types::{BuildId, EndReason, Ending, Resources, SandboxId, Secret, TeamId, TemplateId, Timestamp};
use rusqlite::{Row, ToSql};

use crate::{
    StoreError, Tenant,
    sql::{self, Columns as _},
    templates,
};
pub use fleet::{LiveSandbox, Retention, Started};
pub use list::{Cursor, Order, Page, SandboxQuery};

/// Where a sandbox is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxState {
    /// Its node is making it.
    Starting,
    /// It serves.
    Running,
    /// It is to end.
    Stopping,
    /// It is gone; the row says why.
    Ended,
}

impl SandboxState {
    const ALL: [(SandboxState, &'static str); 4] = [
        (SandboxState::Starting, "starting"),
        (SandboxState::Running, "running"),
        (SandboxState::Stopping, "stopping"),
        (SandboxState::Ended, "ended"),
    ];
}

impl std::str::FromStr for SandboxState {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.iter().find(|(_, name)| *name == text).map(|(state, _)| *state).ok_or("not a state of a sandbox")
    }
}

/// A sandbox as the database knows it.
#[derive(Debug, Clone)]
pub struct SandboxRow {
    /// Its id.
    pub id: SandboxId,
    /// Whose it is.
    pub team: TeamId,
    /// What it was made from.
    pub template: TemplateId,
    /// Which build of that.
    pub build: BuildId,
    /// The template's name when the sandbox was made; may be empty.
    pub alias: String,
    /// Where it is in its life.
    pub state: SandboxState,
    /// Which run of the sandbox this is.
    pub generation: u64,
    /// The node that runs it, once that is known.
    pub node: Option<String>,
    /// The version of its `envd`; empty before it runs.
    pub envd_version: String,
    /// What it may use.
    pub resources: Resources,
    /// When it was admitted.
    pub created_at: Timestamp,
    /// When it came up; the time of admission before that.
    pub started_at: Timestamp,
    /// When it is to end.
    pub deadline: Timestamp,
    /// How it ended.
    pub ending: Option<Ending>,
    /// What the client attached; `None` when it attached nothing, not even an empty map.
    pub metadata: Option<BTreeMap<String, String>>,
    /// The token for its `envd`, when it is secure.
    pub access_token: Option<Secret>,
    /// What the client said about the internet, if it did.
    pub allow_internet_access: Option<bool>,
    /// The rest of what the client asked for, in the control plane's own shape.
    pub options: serde_json::Value,
}

/// A sandbox to admit.
#[derive(Debug, Clone)]
pub struct NewSandbox {
    /// Its id.
    pub id: SandboxId,
    /// What it is made from.
    pub template: TemplateId,
    /// Which build of that.
    pub build: BuildId,
    /// The template's name.
    pub alias: String,
    /// Which run of the sandbox this is.
    pub generation: u64,
    /// What it may use.
    pub resources: Resources,
    /// Now.
    pub created_at: Timestamp,
    /// When it is to end, unless it comes up late.
    pub deadline: Timestamp,
    /// What the client attached.
    pub metadata: Option<BTreeMap<String, String>>,
    /// The token for its `envd`, when it is secure.
    pub access_token: Option<Secret>,
    /// What the client said about the internet, if it did.
    pub allow_internet_access: Option<bool>,
    /// The rest of what the client asked for.
    pub options: serde_json::Value,
    /// What the client called the request, if anything.
    pub idempotency: Option<Idempotency>,
}

/// The name of a request that is not to be carried out twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// What the client calls it.
    pub key: String,
    /// A digest of what it asks.
    pub digest: String,
    /// A key that was used before then is free again.
    pub since: Timestamp,
}

/// Why a sandbox was not admitted.
#[derive(Debug, thiserror::Error)]
pub enum InsertError {
    /// The team has as many as it may.
    #[error("the team already has {limit} live sandboxes")]
    Full {
        /// How many it may have.
        limit: u32,
    },
    /// The request was made before.
    #[error("the request was made before, for sandbox {0}", .row.id)]
    Repeated {
        /// What came of it.
        row: Box<SandboxRow>,
        /// Whether it asked the same.
        same: bool,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Tenant {
    /// Admits a sandbox, as starting, unless the request was made before or the team has `limit` live ones.
    pub async fn insert_sandbox(&self, new: NewSandbox, limit: u32) -> Result<(), InsertError> {
        let team = self.team.clone();
        self.db
            .write(move |conn| {
                if let Some(idempotency) = &new.idempotency
                    && let Some((row, same)) = repeated(conn, &team, idempotency)?
                {
                    return Ok(Err(InsertError::Repeated { row: Box::new(row), same }));
                }
                let count = "SELECT count(*) FROM sandboxes WHERE team = $1 AND ended_at IS NULL";
                let live = sql::one(conn, count, &[&team.as_str()], |row| row.get::<_, i64>(0))?.unwrap_or_default();
                if live >= i64::from(limit) {
                    return Ok(Err(InsertError::Full { limit }));
                }
                insert(conn, &team, &new).map(Ok)
            })
            .await?
    }

    /// The sandbox, if it is running and its time has not come.
    pub async fn running(&self, id: &SandboxId, now: Timestamp) -> Result<Option<SandboxRow>, StoreError> {
        let (team, id, now) = (self.team.clone(), id.clone(), sql::micros(now));
        let query = "SELECT * FROM sandboxes WHERE id = $1 AND team = $2 AND state = 'running' AND deadline > $3";
        self.db.read(move |conn| sql::one(conn, query, &[&id.as_str(), &team.as_str(), &now], sandbox)).await
    }

    /// The sandbox, whatever became of it.
    pub async fn sandbox(&self, id: &SandboxId) -> Result<Option<SandboxRow>, StoreError> {
        let (team, id) = (self.team.clone(), id.clone());
        let query = "SELECT * FROM sandboxes WHERE id = $1 AND team = $2";
        self.db.read(move |conn| sql::one(conn, query, &[&id.as_str(), &team.as_str()], sandbox)).await
    }

    /// Gives a running sandbox the deadline that `choose` makes of its row, or the refusal. `None` when it does not run.
    pub async fn change_deadline<E: Send + 'static>(
        &self,
        id: &SandboxId,
        now: Timestamp,
        choose: impl FnOnce(&SandboxRow) -> Result<Timestamp, E> + Send + 'static,
    ) -> Result<Option<Result<SandboxRow, E>>, StoreError> {
        let (team, id, now) = (self.team.clone(), id.clone(), sql::micros(now));
        self.db
            .write(move |conn| {
                let query = "SELECT * FROM sandboxes WHERE id = $1 AND team = $2 AND state = 'running' AND deadline > $3";
                let Some(row) = sql::one(conn, query, &[&id.as_str(), &team.as_str(), &now], sandbox)? else { return Ok(None) };
                let deadline = match choose(&row) {
                    Ok(deadline) => deadline,
                    Err(refusal) => return Ok(Some(Err(refusal))),
                };
                let update = "UPDATE sandboxes SET deadline = $2 WHERE id = $1 RETURNING *";
                Ok(sql::one(conn, update, &[&id.as_str(), &sql::micros(deadline)], sandbox)?.map(Ok))
            })
            .await
    }

    /// Marks a running sandbox as one that is to end, and says which run of it. Doing it again while it ends changes nothing. `None` when
    /// there is no such sandbox.
    pub async fn stop(&self, id: &SandboxId) -> Result<Option<u64>, StoreError> {
        let (team, id) = (self.team.clone(), id.clone());
        let update = "UPDATE sandboxes SET state = 'stopping' WHERE id = $1 AND team = $2 AND state IN ('running', 'stopping')
             RETURNING generation";
        self.db.write(move |conn| sql::one(conn, update, &[&id.as_str(), &team.as_str()], |row| row.count("generation"))).await
    }
}

/// What came of an earlier request of this name, and whether it asked the same. Frees the name if that was long ago.
fn repeated(conn: &rusqlite::Connection, team: &TeamId, idempotency: &Idempotency) -> Result<Option<(SandboxRow, bool)>, StoreError> {
    let Idempotency { key, digest, since } = idempotency;
    let free = "UPDATE sandboxes SET idempotency_key = NULL WHERE team = $1 AND idempotency_key = $2 AND created_at < $3";
    sql::execute(conn, free, &[&team.as_str(), key, &sql::micros(*since)])?;
    let query = "SELECT * FROM sandboxes WHERE team = $1 AND idempotency_key = $2";
    sql::one(conn, query, &[&team.as_str(), key], |row| Ok((sandbox(row)?, row.get::<_, String>("request_digest")? == *digest)))
}

fn insert(conn: &rusqlite::Connection, team: &TeamId, new: &NewSandbox) -> Result<(), StoreError> {
    let NewSandbox {
        id,
        template,
        build,
        alias,
        generation,
        resources,
        created_at,
        deadline,
        metadata,
        access_token,
        allow_internet_access,
        options,
        idempotency,
    } = new;
    let Resources { cpu_count, memory_mib, disk_mib, pids: _ } = resources;
    let statement =
        "INSERT INTO sandboxes (id, team, template, build, alias, state, generation, envd_version, cpu_count, memory_mib, disk_mib,
         created_at, started_at, deadline, node_deadline, metadata_json, access_token, allow_internet_access, options_json,
         idempotency_key, request_digest)
         VALUES ($1, $2, $3, $4, $5, 'starting', $6, '', $7, $8, $9, $10, $10, $11, $11, $12, $13, $14, $15, $16, $17)";
    let metadata_json = metadata.as_ref().map(|map| sql::json("sandboxes.metadata_json", map)).transpose()?;
    let options_json = sql::json("sandboxes.options_json", options)?;
    let args: [&dyn ToSql; 17] = [
        &id.as_str(),
        &team.as_str(),
        &template.as_str(),
        &build.as_str(),
        alias,
        &sql::count(*generation),
        cpu_count,
        memory_mib,
        disk_mib,
        &sql::micros(*created_at),
        &sql::micros(*deadline),
        &metadata_json,
        &access_token.as_ref().map(Secret::expose),
        allow_internet_access,
        &options_json,
        &idempotency.as_ref().map(|idempotency| &idempotency.key),
        &idempotency.as_ref().map(|idempotency| &idempotency.digest),
    ];
    sql::execute(conn, statement, &args)?;
    let pair = "INSERT INTO sandbox_metadata (sandbox, name, value) VALUES ($1, $2, $3)";
    for (name, value) in metadata.iter().flatten() {
        sql::execute(conn, pair, &[&id.as_str(), name, value])?;
    }
    Ok(())
}

fn sandbox(row: &Row<'_>) -> rusqlite::Result<SandboxRow> {
    let ending = match row.get::<_, Option<i64>>("ended_at")? {
        None => None,
        Some(_) => Some(Ending {
            reason: row.parsed::<EndReason>("end_reason")?,
            exit_code: row.get("exit_code")?,
            at: row.moment("ended_at")?,
            detail: row.get("end_detail")?,
        }),
    };
    let metadata = match row.get_ref("metadata_json")? {
        rusqlite::types::ValueRef::Null => None,
        _ => Some(row.json("metadata_json")?),
    };
    Ok(SandboxRow {
        id: row.parsed("id")?,
        team: row.parsed("team")?,
        template: row.parsed("template")?,
        build: row.parsed("build")?,
        alias: row.get("alias")?,
        state: row.parsed("state")?,
        generation: row.count("generation")?,
        node: row.get("node")?,
        envd_version: row.get("envd_version")?,
        resources: templates::resources(row)?,
        created_at: row.moment("created_at")?,
        started_at: row.moment("started_at")?,
        deadline: row.moment("deadline")?,
        ending,
        metadata,
        access_token: row.get::<_, Option<String>>("access_token")?.map(Secret::new),
        allow_internet_access: row.get("allow_internet_access")?,
        options: row.json("options_json")?,
    })
}

#[cfg(test)]
mod tests;
