//! The schema, as the steps that make it. A step never changes once it has been released; the next one corrects it.

use rusqlite::Connection;

use crate::error::OpenError;

/// In order. The position is the step's version.
const STEPS: &[(&str, &str)] = &[
    ("0001_initial", include_str!("../migrations/0001_initial.sql")),
    ("0002_idempotency", include_str!("../migrations/0002_idempotency.sql")),
];

/// Applies what is missing, each step in its own transaction, and refuses a database whose history is not a beginning of ours.
pub(crate) fn apply(conn: &mut Connection) -> Result<(), OpenError> {
    let bookkeeping = |source| OpenError::Migration { step: "schema_steps", source };
    conn.execute_batch("CREATE TABLE IF NOT EXISTS schema_steps (version BIGINT PRIMARY KEY, name TEXT NOT NULL)").map_err(bookkeeping)?;
    let done: Vec<String> = conn
        .prepare("SELECT name FROM schema_steps ORDER BY version")
        .and_then(|mut statement| statement.query_map([], |row| row.get(0))?.collect())
        .map_err(bookkeeping)?;

    for (found, (expected, _)) in done.iter().zip(STEPS) {
        if found != expected {
            return Err(OpenError::Foreign { found: found.clone(), expected });
        }
    }
    if let Some(found) = done.get(STEPS.len()..).and_then(<[_]>::last) {
        return Err(OpenError::TooNew { found: found.clone(), known: STEPS[STEPS.len() - 1].0 });
    }
    for (version, (step, text)) in STEPS.iter().enumerate().skip(done.len()) {
        run(conn, version, step, text).map_err(|source| OpenError::Migration { step, source })?;
    }
    Ok(())
}

fn run(conn: &mut Connection, version: usize, step: &str, text: &str) -> rusqlite::Result<()> {
    let transaction = conn.transaction()?;
    transaction.execute_batch(text)?;
    transaction.execute("INSERT INTO schema_steps (version, name) VALUES (?1, ?2)", (version as i64, step))?;
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> Connection {
        let mut conn = Connection::open_in_memory().unwrap();
        apply(&mut conn).unwrap();
        conn
    }

    #[test]
    fn applying_again_changes_nothing() {
        let mut conn = fresh();
        conn.execute("INSERT INTO teams (id, slug, name, created_at) VALUES ('t', 't', 't', 0)", []).unwrap();
        apply(&mut conn).unwrap();
        assert_eq!(conn.query_row("SELECT count(*) FROM teams", [], |row| row.get::<_, i64>(0)).unwrap(), 1);
    }

    #[test]
    fn a_database_of_a_newer_program_is_left_alone() {
        let mut conn = fresh();
        conn.execute("INSERT INTO schema_steps (version, name) VALUES (99, '0100_later')", []).unwrap();
        let error = apply(&mut conn).unwrap_err();
        assert!(matches!(&error, OpenError::TooNew { found, .. } if found == "0100_later"), "{error}");
    }

    #[test]
    fn a_foreign_history_is_refused() {
        let mut conn = fresh();
        conn.execute("UPDATE schema_steps SET name = 'else' WHERE version = 0", []).unwrap();
        assert!(matches!(apply(&mut conn), Err(OpenError::Foreign { .. })));
    }

    #[test]
    fn a_failing_step_leaves_nothing() {
        let mut conn = fresh();
        assert!(run(&mut conn, 7, "bad", "CREATE TABLE half (a BIGINT); CREATE TABLE half (a BIGINT);").is_err());
        assert!(conn.prepare("SELECT a FROM half").is_err());
    }
}
