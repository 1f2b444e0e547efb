//! What a node reads from its disk.

use atoll_node::{home::Record, sandbox::log};
use atoll_types::{SandboxId, Timestamp};

/// A state file. One that can be read is written, and read again, and says the same.
pub fn state_file(bytes: &[u8]) {
    let Ok(record) = Record::parse(bytes) else { return };
    let text = record.to_text().expect("what was read from JSON has a JSON form");
    let again = Record::parse(&text).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&text)));
    assert_eq!(again.to_text().ok(), Some(text));
    if let Some(token) = record.access_token.as_ref().map(|token| token.expose()).filter(|token| token.len() > 20) {
        assert!(!format!("{:?}", Record { sandbox_id: "i".parse().expect("an id"), machine: None, ..record.clone() }).contains(token));
    }
}

/// A line of the log that `envd` writes: bounded, of a known level, and of about now.
pub fn log_line(bytes: &[u8]) {
    let id: SandboxId = "i1".parse().expect("an id");
    let now: Timestamp = "2026-01-02T03:04:05.678Z".parse().expect("a moment");
    let line = log::parse(&id, bytes, now);
    assert_eq!(line.sandbox_id, "i1");
    assert!(["debug", "info", "warn", "error"].contains(&line.level.as_str()), "{}", line.level);
    assert!(line.fields.len() <= 32);
    let at = line.at.and_then(|at| at.to_utc()).expect("a moment of the calendar");
    assert!((at - now).num_seconds().abs() <= 60, "{at}");
    // A byte that is no text, or a number with an exponent, may be written with more.
    let length: usize = line.fields.iter().map(|(name, value)| name.len() + value.len()).sum();
    assert!(line.message.len() + length <= 16 + bytes.len() * 24, "{line:?}");
}
