//! Running statements, and columns that are more than SQL's types.

use std::{fmt::Display, str::FromStr, sync::Arc};

use atoll_types::Timestamp;
use rusqlite::{CachedStatement, Connection, Row, ToSql, types::Type};
use serde::{Serialize, de::DeserializeOwned};

use crate::StoreError;

/// Binds `$1`, `$2`, … by their numbers; SQLite alone would number them by where they first appear.
fn bind(statement: &mut CachedStatement<'_>, args: &[&dyn ToSql]) -> rusqlite::Result<()> {
    let wanted = statement.parameter_count();
    if wanted != args.len() {
        return Err(rusqlite::Error::InvalidParameterCount(args.len(), wanted));
    }
    for index in 1..=wanted {
        let name = statement.parameter_name(index).unwrap_or_default();
        let arg = name.strip_prefix('$').and_then(|n| n.parse::<usize>().ok()).and_then(|n| args.get(n.checked_sub(1)?));
        let arg = arg.ok_or_else(|| rusqlite::Error::InvalidParameterName(name.to_owned()))?;
        statement.raw_bind_parameter(index, arg)?;
    }
    Ok(())
}

/// How many rows changed.
pub(crate) fn execute(conn: &Connection, sql: &str, args: &[&dyn ToSql]) -> Result<usize, StoreError> {
    let mut statement = conn.prepare_cached(sql)?;
    bind(&mut statement, args)?;
    Ok(statement.raw_execute()?)
}

/// All rows.
pub(crate) fn all<T>(
    conn: &Connection,
    sql: &str,
    args: &[&dyn ToSql],
    mut read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = conn.prepare_cached(sql)?;
    bind(&mut statement, args)?;
    let mut rows = statement.raw_query();
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

/// The first row. The statement runs to its end, as a changing one must.
pub(crate) fn one<T>(
    conn: &Connection,
    sql: &str,
    args: &[&dyn ToSql],
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Option<T>, StoreError> {
    Ok(all(conn, sql, args, read)?.into_iter().next())
}

/// A moment as it is stored.
pub(crate) fn micros(at: Timestamp) -> i64 {
    at.timestamp_micros()
}

/// A count as it is stored; what no column can hold becomes the most that it can.
pub(crate) fn count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A value as JSON text.
pub(crate) fn json<T: Serialize>(column: &'static str, value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|e| StoreError::Json { column, source: Arc::new(e) })
}

/// Columns with more meaning than their type; what is there and cannot be understood is an error that names the column.
pub(crate) trait Columns {
    /// A value that is stored as its text.
    fn parsed<T: FromStr<Err: Display>>(&self, column: &str) -> rusqlite::Result<T>;
    /// Microseconds as a moment.
    fn moment(&self, column: &str) -> rusqlite::Result<Timestamp>;
    /// A count.
    fn count(&self, column: &str) -> rusqlite::Result<u64>;
    /// JSON text as a value.
    fn json<T: DeserializeOwned>(&self, column: &str) -> rusqlite::Result<T>;
}

impl Columns for Row<'_> {
    fn parsed<T: FromStr<Err: Display>>(&self, column: &str) -> rusqlite::Result<T> {
        self.get::<_, String>(column)?.parse().map_err(|e: T::Err| damaged(column, Type::Text, e.to_string()))
    }

    fn moment(&self, column: &str) -> rusqlite::Result<Timestamp> {
        let micros = self.get(column)?;
        Timestamp::from_timestamp_micros(micros).ok_or_else(|| damaged(column, Type::Integer, "a moment outside the calendar".into()))
    }

    fn count(&self, column: &str) -> rusqlite::Result<u64> {
        u64::try_from(self.get::<_, i64>(column)?).map_err(|e| damaged(column, Type::Integer, e.to_string()))
    }

    fn json<T: DeserializeOwned>(&self, column: &str) -> rusqlite::Result<T> {
        serde_json::from_str(&self.get::<_, String>(column)?).map_err(|e| damaged(column, Type::Text, e.to_string()))
    }
}

fn damaged(column: &str, found: Type, why: String) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, found, format!("column {column}: {why}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_bound_by_number() {
        let conn = Connection::open_in_memory().unwrap();
        let pair = one(&conn, "SELECT $2, $1, $2", &[&"one", &"two"], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)));
        assert_eq!(pair.unwrap().unwrap(), ("two".into(), "one".into()));
        for (sql, args) in [("SELECT $1, $2", 1), ("SELECT $1", 2), ("SELECT ?", 1), ("SELECT $3", 1)] {
            let args: Vec<&dyn ToSql> = std::iter::repeat_n(&1 as &dyn ToSql, args).collect();
            assert!(all(&conn, sql, &args, |_| Ok(())).is_err(), "{sql}");
        }
    }
}
