//! What can go wrong in ways that scripts tell apart, and the exit codes that say so.

use std::{fmt, io};

use anyhow::Error;
use atoll_types::SandboxId;
use http::{StatusCode, Uri};

use crate::api::Refused;

/// For failures that have no code of their own.
pub const FAILED: u8 = 1;
/// What scripts call with too little.
pub const USAGE: u8 = 2;
const NO_SANDBOX: u8 = 3;
const NOT_ALLOWED: u8 = 4;
const NOBODY_THERE: u8 = 5;
/// What a shell reports for something that ran out of time.
pub const TIMED_OUT: u8 = 124;
const NOT_STARTED: u8 = 125;
const NOT_RUNNABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// There is no such sandbox, or no more.
#[derive(Debug)]
pub struct NoSandbox {
    pub id: SandboxId,
    /// One that there is, and whose id looks like it.
    pub nearest: Option<String>,
}

impl fmt::Display for NoSandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no sandbox `{}`, or no more; ", self.id)?;
        match &self.nearest {
            Some(nearest) => write!(f, "did you mean `{nearest}`?"),
            None => f.write_str("`atoll sandbox ls` shows those there are"),
        }
    }
}

/// Nobody answers there, or not who should.
#[derive(Debug)]
pub struct Unreachable {
    pub base: Uri,
    pub why: io::Error,
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { base, why } = self;
        match why.kind() {
            io::ErrorKind::ConnectionRefused => write!(
                f,
                "nothing listens at {base}: is the daemon running? Start it with `sudo atolld all`, or say where it is with E2B_DOMAIN, or with \
                 E2B_API_URL and E2B_SANDBOX_URL"
            ),
            _ => write!(f, "no connection to {base}: {why}"),
        }
    }
}

/// Nothing says who we are.
#[derive(Debug)]
pub struct NoKey {
    /// Where one was looked for.
    pub file: String,
}

impl fmt::Display for NoKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hint = "take the host's own with `source <(sudo atoll env)` there, or set E2B_API_KEY";
        write!(f, "no API key, as {} cannot be read: {hint}", self.file)
    }
}

/// The sandbox did not start the command.
#[derive(Debug)]
pub struct NotStarted(pub String);

impl fmt::Display for NotStarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoSandbox {}
impl std::error::Error for Unreachable {}
impl std::error::Error for NoKey {}
impl std::error::Error for NotStarted {}

/// What this failure exits with.
pub fn exit_code(error: &Error) -> u8 {
    let refused = error.downcast_ref::<Refused>().map(|refused| refused.status);
    if error.is::<NoSandbox>() {
        NO_SANDBOX
    } else if error.is::<NoKey>() || matches!(refused, Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)) {
        NOT_ALLOWED
    } else if error.is::<Unreachable>() {
        NOBODY_THERE
    } else {
        FAILED
    }
}

/// What it exits with where every smaller code may be a command's.
pub fn command_exit_code(error: &Error) -> u8 {
    match error.downcast_ref::<NotStarted>() {
        Some(NotStarted(why)) if why.ends_with("No such file or directory (os error 2)") => NOT_FOUND,
        Some(NotStarted(why)) if why.ends_with("Permission denied (os error 13)") => NOT_RUNNABLE,
        _ => NOT_STARTED,
    }
}

/// The word that looks most like this one, if any does: it begins like it, or a few letters are wrong.
pub fn nearest<'a>(word: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = words.into_iter().map(|known| (if known.starts_with(word) { 0 } else { distance(word, known) }, known));
    scored.filter(|(score, _)| *score <= word.len() / 4).min().map(|(_, known)| known)
}

/// How many letters must be added, left out or changed to make one word from the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn the_nearest_is_near() {
        let ids = ["ialpha0001", "ibravo0002"];
        assert_eq!(nearest("ialpha", ids), Some("ialpha0001"), "a beginning");
        assert_eq!(nearest("ibravo0003", ids), Some("ibravo0002"), "a slip");
        assert_eq!(nearest("brabo0002", ids), Some("ibravo0002"), "two");
        assert_eq!(nearest("zzzzzzzzzz", ids), None);
        assert_eq!([distance("", "abc"), distance("kitten", "sitting"), distance("ab", "ba")], [3, 3, 2]);
    }

    #[test]
    fn codes_are_stable() {
        let id: SandboxId = "abc".parse().unwrap();
        let missing = Error::from(NoSandbox { id, nearest: None }).context("while doing something");
        assert_eq!([exit_code(&missing), command_exit_code(&missing)], [3, 125]);
        assert_eq!(exit_code(&NoKey { file: "x".into() }.into()), 4);
        assert_eq!(exit_code(&Unreachable { base: "http://h".parse().unwrap(), why: io::ErrorKind::TimedOut.into() }.into()), 5);
        assert_eq!(exit_code(&anyhow!("anything")), 1);
        let not_started = |why: &str| command_exit_code(&NotStarted(why.into()).into());
        assert_eq!(not_started("starting 'x': No such file or directory (os error 2)"), 127);
        assert_eq!(not_started("starting 'x': Permission denied (os error 13)"), 126);
        assert_eq!(not_started("cwd '/x' does not exist"), 125);
    }
}
