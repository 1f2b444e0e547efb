//! Lines that sandboxes log.

use std::collections::BTreeMap;

use atoll_types::{SandboxId, Timestamp};
use rusqlite::ToSql;

use crate::{
    Fleet, StoreError, Tenant,
    sandboxes::Order,
    sql::{self, Columns as _},
};

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For whoever looks for a fault.
    Debug,
    /// What happened.
    Info,
    /// What should not happen often.
    Warn,
    /// What should not happen.
    Error,
}

impl Level {
    const ALL: [(Level, &'static str); 4] =
        [(Level::Debug, "debug"), (Level::Info, "info"), (Level::Warn, "warn"), (Level::Error, "error")];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

impl std::str::FromStr for Level {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.iter().find(|(_, name)| *name == text).map(|(level, _)| *level).ok_or("expected debug, info, warn or error")
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub struct LogRow {
    /// When it was logged.
    pub at: Timestamp,
    /// How much it matters.
    pub level: Level,
    /// What it says.
    pub message: String,
    /// What it says, for machines.
    pub fields: BTreeMap<String, String>,
}

/// Which lines.
#[derive(Debug, Clone)]
pub struct LogQuery {
    /// From then.
    pub start: Timestamp,
    /// To then; both included.
    pub end: Timestamp,
    /// Those that matter as much or more.
    pub level: Level,
    /// Those whose message contains this; empty for all.
    pub search: String,
    /// From which end.
    pub order: Order,
    /// At most so many.
    pub limit: u32,
}

impl Fleet {
    /// Keeps lines. Those of sandboxes that nobody knows are dropped.
    pub async fn record_logs(&self, lines: Vec<(SandboxId, LogRow)>) -> Result<(), StoreError> {
        let insert = "INSERT INTO log_lines (sandbox, at, level, message, fields_json)
             SELECT id, $2, $3, $4, $5 FROM sandboxes WHERE id = $1";
        self.db
            .write(move |conn| {
                for (id, LogRow { at, level, message, fields }) in &lines {
                    let fields = sql::json("log_lines.fields_json", fields)?;
                    sql::execute(conn, insert, &[&id.as_str(), &sql::micros(*at), &(*level as i64), message, &fields])?;
                }
                Ok(())
            })
            .await
    }
}

impl Tenant {
    /// Lines of a sandbox.
    pub async fn logs(&self, id: &SandboxId, query: LogQuery) -> Result<Vec<LogRow>, StoreError> {
        let (team, id) = (self.team.clone(), id.clone());
        let LogQuery { start, end, level, search, order, limit } = query;
        let direction = match order {
            Order::Ascending => "l.at ASC, l.seq ASC",
            Order::Descending => "l.at DESC, l.seq DESC",
        };
        // `replace` compares bytes in every engine; LIKE ignores case in some.
        let query = format!(
            "SELECT l.* FROM log_lines l JOIN sandboxes s ON s.id = l.sandbox
             WHERE l.sandbox = $1 AND s.team = $2 AND l.at >= $3 AND l.at <= $4 AND l.level >= $5
             AND ($6 = '' OR replace(l.message, $6, '') <> l.message) ORDER BY {direction} LIMIT $7"
        );
        self.db
            .read(move |conn| {
                let args: [&dyn ToSql; 7] =
                    [&id.as_str(), &team.as_str(), &sql::micros(start), &sql::micros(end), &(level as i64), &search, &limit];
                sql::all(conn, &query, &args, |row| {
                    Ok(LogRow {
                        at: row.moment("at")?,
                        level: Level::ALL.get(row.count("level")? as usize).map_or(Level::Info, |(level, _)| *level),
                        message: row.get("message")?,
                        fields: row.json("fields_json")?,
                    })
                })
            })
            .await
    }
}
