//! Samples of what sandboxes use.

use std::{collections::BTreeMap, time::Duration};

use atoll_types::{SandboxId, Timestamp};
use rusqlite::{Row, ToSql};

use crate::{
    Fleet, StoreError, Tenant,
    sql::{self, Columns as _},
};

/// One sample, or the mean of those of one step.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleRow {
    /// When; of a step, its last sample's time.
    pub at: Timestamp,
    /// Processors.
    pub cpu_count: u32,
    /// Percent of them.
    pub cpu_used_pct: f64,
    /// Bytes.
    pub mem_used: u64,
    /// Bytes.
    pub mem_total: u64,
    /// Bytes.
    pub mem_cache: u64,
    /// Bytes.
    pub disk_used: u64,
    /// Bytes.
    pub disk_total: u64,
}

impl Fleet {
    /// Keeps samples. Those of sandboxes that nobody knows are dropped, and the first of two of the same moment stays.
    pub async fn record_samples(&self, samples: Vec<(SandboxId, SampleRow)>) -> Result<(), StoreError> {
        let insert = "INSERT INTO samples (sandbox, at, cpu_count, cpu_used_pct, mem_used, mem_total, mem_cache, disk_used, disk_total)
             SELECT id, $2, $3, $4, $5, $6, $7, $8, $9 FROM sandboxes WHERE id = $1
             ON CONFLICT (sandbox, at) DO NOTHING";
        self.db
            .write(move |conn| {
                for (id, sample) in &samples {
                    let SampleRow { at, cpu_count, cpu_used_pct, mem_used, mem_total, mem_cache, disk_used, disk_total } = sample;
                    let args: [&dyn ToSql; 9] = [
                        &id.as_str(),
                        &sql::micros(*at),
                        cpu_count,
                        cpu_used_pct,
                        &sql::count(*mem_used),
                        &sql::count(*mem_total),
                        &sql::count(*mem_cache),
                        &sql::count(*disk_used),
                        &sql::count(*disk_total),
                    ];
                    sql::execute(conn, insert, &args)?;
                }
                Ok(())
            })
            .await
    }
}

impl Tenant {
    /// When a sandbox's first and last samples were taken.
    pub async fn sample_range(&self, id: &SandboxId) -> Result<Option<(Timestamp, Timestamp)>, StoreError> {
        let (team, id) = (self.team.clone(), id.clone());
        let query = "SELECT min(m.at) AS first, max(m.at) AS last FROM samples m JOIN sandboxes s ON s.id = m.sandbox
             WHERE m.sandbox = $1 AND s.team = $2 HAVING count(*) > 0";
        let range = |row: &Row<'_>| Ok((row.moment("first")?, row.moment("last")?));
        self.db.read(move |conn| sql::one(conn, query, &[&id.as_str(), &team.as_str()], range)).await
    }

    /// A sandbox's samples from `start` to `end`, both included, oldest first: one for each `step` that has any.
    pub async fn samples(&self, id: &SandboxId, start: Timestamp, end: Timestamp, step: Duration) -> Result<Vec<SampleRow>, StoreError> {
        let (team, id) = (self.team.clone(), id.clone());
        let step = i64::try_from(step.as_micros()).unwrap_or(i64::MAX).max(1);
        let query = "SELECT max(m.at) AS at, max(m.cpu_count) AS cpu_count, avg(m.cpu_used_pct) AS cpu_used_pct,
             CAST(avg(mem_used) AS BIGINT) AS mem_used, max(mem_total) AS mem_total, CAST(avg(mem_cache) AS BIGINT) AS mem_cache,
             CAST(avg(disk_used) AS BIGINT) AS disk_used, max(disk_total) AS disk_total
             FROM samples m JOIN sandboxes s ON s.id = m.sandbox
             WHERE m.sandbox = $1 AND s.team = $2 AND m.at >= $3 AND m.at <= $4 GROUP BY m.at / $5 ORDER BY 1";
        self.db
            .read(move |conn| {
                let args: [&dyn ToSql; 5] = [&id.as_str(), &team.as_str(), &sql::micros(start), &sql::micros(end), &step];
                sql::all(conn, query, &args, sample)
            })
            .await
    }

    /// The last sample of each of these sandboxes that has any.
    pub async fn last_samples(&self, ids: Vec<SandboxId>) -> Result<BTreeMap<SandboxId, SampleRow>, StoreError> {
        let team = self.team.clone();
        let query = "SELECT m.* FROM samples m JOIN sandboxes s ON s.id = m.sandbox
             WHERE m.sandbox = $1 AND s.team = $2 ORDER BY m.at DESC LIMIT 1";
        self.db
            .read(move |conn| {
                let mut last = BTreeMap::new();
                for id in ids {
                    if let Some(found) = sql::one(conn, query, &[&id.as_str(), &team.as_str()], sample)? {
                        last.insert(id, found);
                    }
                }
                Ok(last)
            })
            .await
    }
}

fn sample(row: &Row<'_>) -> rusqlite::Result<SampleRow> {
    Ok(SampleRow {
        at: row.moment("at")?,
        cpu_count: row.get("cpu_count")?,
        cpu_used_pct: row.get("cpu_used_pct")?,
        mem_used: row.count("mem_used")?,
        mem_total: row.count("mem_total")?,
        mem_cache: row.count("mem_cache")?,
        disk_used: row.count("disk_used")?,
        disk_total: row.count("disk_total")?,
    })
}
