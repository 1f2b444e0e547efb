//! What became of an attempt.

use std::{fmt::Display, io};

use serde::{Deserialize, Serialize};

/// The result, with the words that show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", content = "how", rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing was gained; this is what stood in the way.
    Held(String),
    /// The way is open.
    Breached(String),
    /// There is nothing here to attempt.
    NotApplicable(String),
    /// It ended otherwise than it should have, so nobody knows.
    Inconclusive(String),
}

use Outcome::{Breached, Held};

impl Outcome {
    /// An attempt whose mere success is the breach.
    pub fn of<T>(what: impl Display, result: io::Result<T>) -> Self {
        Self::gate(what, result, &[])
    }

    /// The same, when some errors come only after the permission was given.
    pub fn gate<T>(what: impl Display, result: io::Result<T>, permitted: &[i32]) -> Self {
        match result {
            Ok(_) => Breached(format!("{what}: done")),
            Err(e) if e.raw_os_error().is_some_and(|errno| permitted.contains(&errno)) => Breached(format!("{what}: permitted, then {e}")),
            Err(e) => Held(format!("{what}: {e}")),
        }
    }

    /// A breach exactly when `secret` is in what was read.
    pub fn reading(what: impl Display, result: io::Result<Vec<u8>>, secret: &str) -> Self {
        match result {
            Ok(bytes) if contains(&bytes, secret) => Breached(format!("{what}: the canary's secret")),
            Ok(bytes) => Held(format!("{what}: {} bytes, none of the canary's", bytes.len())),
            Err(e) => Held(format!("{what}: {e}")),
        }
    }

    /// Several ways to the same thing: one that is open is enough.
    pub fn any(outcomes: impl IntoIterator<Item = Self>) -> Self {
        let mut held = Vec::new();
        for outcome in outcomes {
            match outcome {
                Held(how) => held.push(how),
                other => return other,
            }
        }
        match held.len() {
            0 => Self::NotApplicable("there is nothing to try".into()),
            1..=3 => Held(held.join("; ")),
            more => Held(format!("{}; and {} more", held[..2].join("; "), more - 2)),
        }
    }
}

pub fn contains(bytes: &[u8], text: &str) -> bool {
    !text.is_empty() && bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_open_way_is_a_breach() {
        let refused = || Outcome::of("a", Err::<(), _>(io::Error::from_raw_os_error(libc::EPERM)));
        assert_eq!(
            Outcome::any([refused(), refused()]),
            Held("a: Operation not permitted (os error 1); a: Operation not permitted (os error 1)".into())
        );
        assert_eq!(Outcome::any([refused(), Outcome::of("b", Ok(()))]), Breached("b: done".into()));
        assert!(matches!(Outcome::any([]), Outcome::NotApplicable(_)));
    }

    #[test]
    fn an_error_behind_the_gate_is_a_breach() {
        let result = || Err::<(), _>(io::Error::from_raw_os_error(libc::EINVAL));
        assert!(matches!(Outcome::gate("a", result(), &[libc::EINVAL]), Breached(_)));
        assert!(matches!(Outcome::gate("a", result(), &[libc::ENOENT]), Held(_)));
    }

    #[test]
    fn only_the_secret_counts() {
        assert!(matches!(Outcome::reading("a", Ok(b"xx42xx".to_vec()), "42"), Breached(_)));
        assert!(matches!(Outcome::reading("a", Ok(b"xx4".to_vec()), "42"), Held(_)));
        assert!(!contains(b"", ""));
    }
}
