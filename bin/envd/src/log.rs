//! The daemon's log: one JSON object per line on standard output. A line is dropped rather than waited for when nobody reads the
//! other end, and none ever holds a token, a variable or an argument of a process.

use std::{
    fmt::Display,
    io::{self, Write as _},
    sync::atomic::{AtomicBool, Ordering},
};

use chrono::{SecondsFormat, Utc};
use serde_json::{Map, Value};

/// Writes up to this many bytes to a pipe are whole, and do not block while the pipe is writable.
const LONGEST_LINE: usize = 4096;

static VERBOSE: AtomicBool = AtomicBool::new(false);

/// Named values of one line.
pub type Fields<'a> = &'a [(&'a str, &'a dyn Display)];

/// Also write what [`debug`] says.
pub fn set_verbose() {
    VERBOSE.store(true, Ordering::Relaxed);
}

/// Something only a developer wants to know.
pub fn debug(logger: &str, message: &str, fields: Fields<'_>) {
    if VERBOSE.load(Ordering::Relaxed) {
        write("debug", logger, message, fields);
    }
}

/// Something that happened.
pub fn info(logger: &str, message: &str, fields: Fields<'_>) {
    write("info", logger, message, fields);
}

/// Something that did not work, and the daemon goes on.
pub fn warn(logger: &str, message: &str, fields: Fields<'_>) {
    write("warn", logger, message, fields);
}

/// Something that should not have happened.
pub fn error(logger: &str, message: &str, fields: Fields<'_>) {
    write("error", logger, message, fields);
}

fn write(level: &str, logger: &str, message: &str, fields: Fields<'_>) {
    let line = line(&Utc::now().to_rfc3339_opts(SecondsFormat::Nanos, true), level, logger, message, fields);
    let stdout = io::stdout();
    if line.len() <= LONGEST_LINE && atoll_sys::process::is_writable(&stdout) {
        // A log nobody can read is not worth failing for.
        let _ = stdout.lock().write_all(line.as_bytes());
    }
}

fn line(timestamp: &str, level: &str, logger: &str, message: &str, fields: Fields<'_>) -> String {
    let head = [("timestamp", timestamp), ("level", level), ("logger", logger), ("message", message)];
    let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), Value::String(value.to_string())));
    let object: Map<_, _> = head.into_iter().map(|(name, value)| (name.to_owned(), value.into())).chain(fields).collect();
    format!("{}\n", Value::Object(object))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_json_object() {
        let line = line("2026-01-01T00:00:00Z", "info", "process", "two\nlines", &[("pid", &7)]);
        assert_eq!(line.matches('\n').count(), 1);
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&value["message"], &value["pid"]), (&"two\nlines".into(), &"7".into()));
    }
}
