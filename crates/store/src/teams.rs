//! Teams and the keys that speak for them.

use std::time::Duration;

use atoll_types::{ApiKey, ApiKeyHash, TeamId, Timestamp};
use rusqlite::Row;

use crate::{
    Store, StoreError,
    sql::{self, Columns as _},
};

/// A team.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Team {
    /// Its id.
    pub id: TeamId,
    /// Its namespace in template names.
    pub slug: String,
    /// What people call it.
    pub name: String,
    /// What it may use, where that differs from the platform's default.
    pub limits: Limits,
}

/// What a team may use; `None` is the platform's default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Live sandboxes at once.
    pub sandboxes: Option<u32>,
    /// The longest run of one sandbox.
    pub length: Option<Duration>,
}

/// Why a key was not stored.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It speaks for another team already.
    #[error("this API key belongs to another team")]
    Taken,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// The team of this slug, made with `name` and `limits` if there is none.
    pub async fn ensure_team(&self, slug: &str, name: &str, limits: Limits, now: Timestamp) -> Result<Team, StoreError> {
        let (slug, name) = (slug.to_owned(), name.to_owned());
        let length = limits.length.map(|length| u32::try_from(length.as_secs()).unwrap_or(u32::MAX));
        self.db
            .write(move |conn| {
                let id = TeamId::random();
                let inserted = "INSERT INTO teams (id, slug, name, max_sandboxes, max_length_seconds, created_at)
                     VALUES ($1, $2, $3, $4, $5, $6)
                     ON CONFLICT (slug) DO UPDATE SET slug = excluded.slug
                     RETURNING *";
                let args: [&dyn rusqlite::ToSql; 6] = [&id.as_str(), &slug, &name, &limits.sandboxes, &length, &sql::micros(now)];
                sql::one(conn, inserted, &args, team)?.ok_or_else(|| rusqlite::Error::QueryReturnedNoRows.into())
            })
            .await
    }

    /// The team of this slug.
    pub async fn team_by_slug(&self, slug: &str) -> Result<Option<Team>, StoreError> {
        let slug = slug.to_owned();
        self.db.read(move |conn| sql::one(conn, "SELECT * FROM teams WHERE slug = $1", &[&slug], team)).await
    }

    /// The team for which a key speaks.
    pub async fn team_of_key(&self, key: &ApiKeyHash) -> Result<Option<Team>, StoreError> {
        let hash = key.as_str().to_owned();
        let query = "SELECT t.* FROM api_keys k JOIN teams t ON t.id = k.team WHERE k.hash = $1";
        self.db.read(move |conn| sql::one(conn, query, &[&hash], team)).await
    }

    /// Lets a key speak for a team. Doing it again changes nothing.
    pub async fn ensure_key(&self, owner: &TeamId, key: &ApiKey, name: &str, now: Timestamp) -> Result<(), KeyError> {
        let (hash, (_, digits, head, tail)) = (key.hash(), key.mask());
        let (team, name) = (owner.as_str().to_owned(), name.to_owned());
        let holder = self
            .db
            .write(move |conn| {
                let inserted = "INSERT INTO api_keys (hash, team, name, digits, head, tail, created_at)
                     VALUES ($1, $2, $3, $4, $5, $6, $7)
                     ON CONFLICT (hash) DO UPDATE SET hash = excluded.hash
                     RETURNING team";
                let args: [&dyn rusqlite::ToSql; 7] = [&hash.as_str(), &team, &name, &(digits as i64), &head, &tail, &sql::micros(now)];
                sql::one(conn, inserted, &args, |row| row.parsed::<TeamId>("team"))
            })
            .await?;
        if holder.as_ref() == Some(owner) { Ok(()) } else { Err(KeyError::Taken) }
    }
}

fn team(row: &Row<'_>) -> rusqlite::Result<Team> {
    Ok(Team {
        id: row.parsed("id")?,
        slug: row.get("slug")?,
        name: row.get("name")?,
        limits: Limits {
            sandboxes: row.get("max_sandboxes")?,
            length: row.get::<_, Option<u32>>("max_length_seconds")?.map(|seconds| Duration::from_secs(seconds.into())),
        },
    })
}
