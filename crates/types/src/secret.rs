//! Text that must not be seen.

use std::fmt;

use crate::id::{hex, random};

/// A token or key. `Debug` hides it, and it has no `Display`; [`Secret::expose`] marks every place where it leaves our hands.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Secret(Box<str>);

impl Secret {
    /// Wraps a secret that came from elsewhere.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// A new token: 32 random bytes as 64 hexadecimal digits.
    pub fn random_token() -> Self {
        Self(hex(&random::<32>()).into())
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Compares in a time that depends on the lengths only.
    pub fn matches(&self, candidate: &str) -> bool {
        let (ours, theirs) = (self.0.as_bytes(), candidate.as_bytes());
        ours.len() == theirs.len() && ours.iter().zip(theirs).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_and_hides() {
        let secret = Secret::new("tok");
        assert!(secret.matches("tok"));
        assert!(!secret.matches("tOk") && !secret.matches("to") && !secret.matches(""));
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert_eq!(Secret::random_token().expose().len(), 64);
    }
}
