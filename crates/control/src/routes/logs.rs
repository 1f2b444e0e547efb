//! What sandboxes log. A sandbox that nobody knows has no lines.

use std::time::Duration;

use atoll_store::{Level, LogQuery, LogRow, Order};
use atoll_types::{Timestamp, after};
use atoll_wire::{
    body::{self, Body},
    e2b::{self, SandboxLog, SandboxLogEntries, SandboxLogEntry, SandboxLogs},
};
use http::{Response, StatusCode};
use serde_json::{Map, Value};

use crate::{
    auth::Actor,
    control::Control,
    error::ApiError,
    request::{Call, Query, bad},
};

const WINDOW: Duration = Duration::from_secs(7 * 24 * 60 * 60);
const DEFAULT_LIMIT: u32 = 1000;
/// A client that asks for more gets so many, and the rest when it asks from there.
const MOST: u32 = 10_000;
const MAX_SEARCH: usize = 256;

/// `GET /sandboxes/{sandboxID}/logs`
pub(crate) async fn both_forms(control: Control, actor: Actor, call: Call) -> Result<Response<Body>, ApiError> {
    let id = call.sandbox_id()?;
    let now = control.now();
    let limit = call.query.number("limit", 0..=i32::MAX)?.map_or(DEFAULT_LIMIT, i32::unsigned_abs).min(MOST);
    let query = LogQuery {
        start: millis(&call.query, "start")?.unwrap_or(before(now, WINDOW)),
        end: Timestamp::MAX_UTC,
        level: Level::Debug,
        search: String::new(),
        order: Order::Ascending,
        limit,
    };
    let rows = actor.tenant().logs(&id, query).await?;
    let logs = rows.iter().map(line).collect();
    Ok(body::json(StatusCode::OK, &SandboxLogs { logs, log_entries: rows.into_iter().map(entry).collect() }))
}

/// `GET /v2/sandboxes/{sandboxID}/logs`
pub(crate) async fn entries(control: Control, actor: Actor, call: Call) -> Result<Response<Body>, ApiError> {
    let id = call.sandbox_id()?;
    let query = &call.query;
    let now = control.now();
    let order = match query.text("direction") {
        None | Some("backward") => Order::Descending,
        Some("forward") => Order::Ascending,
        Some(other) => return Err(bad("direction", format_args!("expected forward or backward, got `{other}`"))),
    };
    let (start, end) = match (millis(query, "cursor")?, order) {
        (None, _) => (before(now, WINDOW), Timestamp::MAX_UTC),
        (Some(cursor), Order::Ascending) => (cursor, after(cursor, WINDOW)),
        // The cursor's whole millisecond: what came later within it would never be shown.
        (Some(cursor), Order::Descending) => (before(cursor, WINDOW), after(cursor, Duration::from_micros(999))),
    };
    let search = query.text("search").unwrap_or_default();
    if search.chars().count() > MAX_SEARCH {
        return Err(bad("search", format_args!("expected at most {MAX_SEARCH} characters")));
    }
    let query = LogQuery {
        start,
        end,
        level: query.parsed("level")?.unwrap_or(Level::Debug),
        search: search.into(),
        order,
        limit: query.number("limit", 0..=1000)?.unwrap_or(DEFAULT_LIMIT),
    };
    let rows = actor.tenant().logs(&id, query).await?;
    Ok(body::json(StatusCode::OK, &SandboxLogEntries { logs: rows.into_iter().map(entry).collect() }))
}

fn millis(query: &Query, name: &str) -> Result<Option<Timestamp>, ApiError> {
    let Some(millis) = query.parsed(name)? else { return Ok(None) };
    let at = Timestamp::from_timestamp_millis(millis).ok_or_else(|| bad(name, "expected milliseconds since 1970, within the calendar"))?;
    Ok(Some(at))
}

fn before(at: Timestamp, length: Duration) -> Timestamp {
    chrono::TimeDelta::from_std(length).ok().and_then(|length| at.checked_sub_signed(length)).unwrap_or(Timestamp::MIN_UTC)
}

fn entry(row: LogRow) -> SandboxLogEntry {
    let LogRow { at, level, message, fields } = row;
    let level = match level {
        Level::Debug => e2b::Level::Debug,
        Level::Info => e2b::Level::Info,
        Level::Warn => e2b::Level::Warn,
        Level::Error => e2b::Level::Error,
    };
    SandboxLogEntry { timestamp: at, level, message, fields }
}

/// The flat JSON object that the CLI parses; the fields do not hide level and message.
fn line(row: &LogRow) -> SandboxLog {
    let text = |text: &str| Value::String(text.to_owned());
    let mut object: Map<String, Value> = row.fields.iter().map(|(name, value)| (name.clone(), text(value))).collect();
    object.insert("level".into(), text(row.level.as_str()));
    object.insert("message".into(), text(&row.message));
    SandboxLog { timestamp: row.at, line: Value::Object(object).to_string() }
}
