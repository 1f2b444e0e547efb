//! The log of a sandbox: the node's lines about its life, and what its `envd` writes into `envd.log`.
//!
//! The file is hostile: lines are bounded in length, fields and number, bytes need not be UTF-8, and the file is cut when it grows.
//! What is passed on is kept for days, so a sandbox has an allowance of bytes, which grows with time.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::PathBuf,
};

use atoll_types::{SandboxId, Timestamp};
use atoll_wire::node::LogLine;
use serde_json::Value;

/// Bytes of a line; what is longer is cut.
const LINE: usize = 8 << 10;
/// Bytes read at once.
const CHUNK: usize = 256 << 10;
/// Lines passed on from one reading.
const LINES: usize = 200;
/// Bytes passed on at once at most, and how many more each second brings.
const BURST: u64 = 256 << 10;
const PER_SECOND: u64 = 1 << 10;
/// Fields of a line.
const FIELDS: usize = 32;
/// The file is cut when this many bytes of it are read, or when it is four times as long, read or not. Its writer appends, so it
/// goes on at the start.
const FILE: u64 = 1 << 20;

/// A line of the node itself.
pub(crate) fn line(id: &SandboxId, at: Timestamp, level: &str, message: impl Into<String>, fields: &[(&str, String)]) -> LogLine {
    LogLine {
        sandbox_id: id.to_string(),
        at: Some(at.into()),
        level: level.into(),
        message: message.into(),
        fields: fields.iter().map(|(k, v)| ((*k).into(), v.clone())).chain([("logger".into(), "node".into())]).collect(),
    }
}

/// Follows a growing file.
pub(crate) struct Tail {
    id: SandboxId,
    path: PathBuf,
    read: u64,
    /// The start of a line whose end is not written yet.
    rest: Vec<u8>,
    /// Within a line that is too long: the remainder is skipped.
    skipping: bool,
    /// Bytes that may be passed on, and when that was so.
    allowance: (u64, Option<Timestamp>),
    /// Lines that were not passed on, and not told yet.
    dropped: usize,
}

impl Tail {
    /// From the start of the file.
    pub(crate) fn new(id: SandboxId, path: PathBuf) -> Self {
        Self { id, path, read: 0, rest: Vec::new(), skipping: false, allowance: (BURST, None), dropped: 0 }
    }

    /// From where the file ends now.
    pub(crate) fn at_end(id: SandboxId, path: PathBuf) -> Self {
        let read = std::fs::metadata(&path).map_or(0, |found| found.len());
        Self { read, ..Self::new(id, path) }
    }

    /// Whether there may be something to read: one cheap question to the file system.
    pub(crate) fn has_more(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|found| found.len() != self.read)
    }

    /// The lines written since the last call. Blocks.
    pub(crate) fn lines(&mut self, now: Timestamp) -> Vec<LogLine> {
        let since = self.allowance.1.replace(now).map_or(0, |before| (now - before).num_seconds().clamp(0, 3600) as u64);
        self.allowance.0 = BURST.min(self.allowance.0 + since * PER_SECOND);
        let lines = match self.read() {
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                tracing::debug!(sandbox.id = %self.id, %error, "cannot read the sandbox's log");
                return Vec::new();
            }
        };
        let mut lines: Vec<_> = lines.iter().map(|text| parse(&self.id, text, now)).collect();
        if self.dropped > 0 && self.allowance.0 > LINE as u64 {
            let dropped = std::mem::take(&mut self.dropped);
            lines.push(line(&self.id, now, "warn", format!("{dropped} log lines dropped: too many"), &[]));
        }
        lines
    }

    fn read(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let mut file = File::open(&self.path)?;
        let length = file.metadata()?.len();
        if length < self.read {
            (self.read, self.skipping) = (0, false);
            self.rest.clear();
        }
        file.seek(SeekFrom::Start(self.read))?;
        let mut chunk = Vec::new();
        let read = file.take(CHUNK as u64).read_to_end(&mut chunk)?;
        self.read += read as u64;
        let split = self.split(&chunk);
        if self.read > FILE || length > 4 * FILE {
            OpenOptions::new().write(true).open(&self.path)?.set_len(0)?;
            self.read = 0;
        }
        Ok(split)
    }

    /// Complete lines, as many as are passed on.
    fn split(&mut self, chunk: &[u8]) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        for part in chunk.split_inclusive(|byte| *byte == b'\n') {
            let (text, complete) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
            if !self.skipping {
                let room = LINE - self.rest.len();
                self.rest.extend_from_slice(&text[..text.len().min(room)]);
                self.skipping = text.len() > room;
            }
            if complete {
                let line = std::mem::take(&mut self.rest);
                self.skipping = false;
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                match self.allowance.0.checked_sub(line.len() as u64) {
                    Some(left) if lines.len() < LINES => {
                        self.allowance.0 = left;
                        lines.push(line);
                    }
                    _ => self.dropped += 1,
                }
            }
        }
        lines
    }
}

/// Reads a line of `envd`: a JSON object, or any text.
pub fn parse(id: &SandboxId, text: &[u8], now: Timestamp) -> LogLine {
    let mut line = LogLine { sandbox_id: id.to_string(), at: Some(now.into()), level: "info".into(), ..LogLine::default() };
    let Ok(Value::Object(object)) = serde_json::from_slice::<Value>(text) else {
        line.message = String::from_utf8_lossy(text).into_owned();
        return line;
    };
    let mut fields = BTreeMap::new();
    for (key, value) in object {
        let text = match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        match key.as_str() {
            "timestamp" => {
                // The sandbox's clock may be anything; only a moment near ours is believed.
                let near = |at: &Timestamp| (now - *at).abs() < chrono::TimeDelta::minutes(1);
                line.at = text.parse::<Timestamp>().ok().filter(near).or(Some(now)).map(Into::into);
            }
            "level" => line.level = level(&text).into(),
            "message" => line.message = text,
            _ if fields.len() < FIELDS => drop(fields.insert(key, text)),
            _ => {}
        }
    }
    line.fields = fields;
    line
}

fn level(text: &str) -> &'static str {
    match text.to_ascii_lowercase().as_str() {
        "debug" | "trace" => "debug",
        "warn" | "warning" => "warn",
        "error" | "fatal" | "panic" => "error",
        _ => "info",
    }
}

/// The last line of a log, for a person who wonders why it is the last.
pub(crate) fn last_words(path: &std::path::Path) -> Option<String> {
    const MOST: usize = 400;
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LINE as u64))).ok()?;
    let mut end = Vec::new();
    file.take(LINE as u64).read_to_end(&mut end).ok()?;
    let text = String::from_utf8_lossy(&end);
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(line.trim().chars().take(MOST).collect())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::scratch::Scratch;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn append(path: &std::path::Path, bytes: &[u8]) {
        OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(bytes).unwrap();
    }

    #[test]
    fn follows_lines_as_they_are_completed() {
        let scratch = Scratch::new("log-follow");
        let path = scratch.path().join("envd.log");
        let mut tail = Tail::new("i1".parse().unwrap(), path.clone());
        assert!(tail.lines(now()).is_empty() && !tail.has_more());
        append(&path, b"{\"level\":\"WARNING\",\"message\":\"hi\",\"pid\":7,\"timestamp\":\"2025-12-31T23:59:59Z\"}\n\n\xff half");
        let lines = tail.lines(now());
        assert_eq!(lines.len(), 1);
        assert_eq!((lines[0].level.as_str(), lines[0].message.as_str()), ("warn", "hi"));
        assert_eq!(lines[0].fields, BTreeMap::from([("pid".into(), "7".into())]));
        assert_eq!(lines[0].at.unwrap().to_utc().unwrap(), now() - chrono::TimeDelta::seconds(1));
        assert!(!tail.has_more());
        append(&path, b" whole\n");
        assert!(tail.has_more());
        assert_eq!(tail.lines(now())[0].message, "\u{fffd} half whole");
    }

    #[test]
    fn a_flood_is_bounded() {
        let scratch = Scratch::new("log-flood");
        let path = scratch.path().join("envd.log");
        let mut tail = Tail::new("i1".parse().unwrap(), path.clone());
        append(&path, &[vec![b'x'; 3 * LINE], b"\nshort\n".repeat(LINES + 5)].concat());
        let lines = tail.lines(now());
        assert_eq!((lines[0].message.len(), lines[1].message.as_str()), (LINE, "short"));
        assert_eq!(lines.len(), LINES + 1);
        assert!(lines[LINES].message.starts_with("6 log lines dropped"), "{}", lines[LINES].message);

        append(&path, &vec![b'y'; FILE as usize]);
        while tail.has_more() {
            assert!(tail.lines(now()).is_empty());
            assert!(tail.rest.len() <= LINE);
        }
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0, "the file is cut");
        append(&path, b"z\nafter\n");
        assert_eq!(tail.lines(now()).last().unwrap().message, "after");
    }

    #[test]
    fn what_is_kept_is_bounded_for_as_long_as_it_floods() {
        let scratch = Scratch::new("log-allowance");
        let path = scratch.path().join("envd.log");
        let mut tail = Tail::new("i1".parse().unwrap(), path.clone());
        let (mut kept, mut told) = (0, 0);
        for second in 0..600 {
            append(&path, &[&[b'x'; 1023][..], b"\n"].concat().repeat(64));
            for line in tail.lines(now() + chrono::TimeDelta::seconds(second)) {
                kept += line.message.len() as u64;
                told += line.message.strip_suffix(" log lines dropped: too many").map_or(0, |number| number.parse::<u64>().unwrap());
            }
        }
        assert!(kept <= BURST + 600 * PER_SECOND + (LINE as u64), "{kept} bytes");
        // A pause pays for the news.
        append(&path, b"last\n");
        let last = tail.lines(now() + chrono::TimeDelta::seconds(2000));
        assert_eq!(last[0].message, "last");
        told += last[1].message.split(' ').next().unwrap().parse::<u64>().unwrap();
        assert_eq!(told + kept / 1023, 600 * 64, "each line is passed on or counted");
    }

    #[test]
    fn the_time_of_a_liar_is_ours() {
        let lied = parse(&"i1".parse().unwrap(), br#"{"timestamp":"2099-01-01T00:00:00Z","level":3,"message":{"a":1}}"#, now());
        assert_eq!(lied.at.unwrap().to_utc().unwrap(), now());
        assert_eq!((lied.level.as_str(), lied.message.as_str()), ("info", r#"{"a":1}"#));
    }

    #[test]
    fn last_words_are_the_last_line() {
        let scratch = Scratch::new("log-last");
        let path = scratch.path().join("envd.log");
        assert_eq!(last_words(&path), None);
        append(&path, b"first\ncannot bind\n\n");
        assert_eq!(last_words(&path).unwrap(), "cannot bind");
    }
}
