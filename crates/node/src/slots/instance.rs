//! The tag by which one daemon's interfaces, table and locks are told from those of another on the same host.

use std::{fmt, str::FromStr};

/// A tag of one to eight lower-case letters and digits. With it, the longest name of an interface has the fifteen characters that
/// Linux allows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Instance(String);

/// Why a text is no tag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no instance tag: one to eight lower-case letters and digits")]
pub struct InstanceError(String);

impl Instance {
    /// The host's interface of slot `index`.
    pub(super) fn link(&self, index: u32) -> String {
        format!("at{self}-{index}")
    }

    /// The slot of a host interface, if it is one of ours.
    pub(super) fn index(&self, link: &str) -> Option<u32> {
        let index = link.strip_prefix("at")?.strip_prefix(self.0.as_str())?.strip_prefix('-')?.parse().ok()?;
        (self.link(index) == link).then_some(index)
    }

    /// What nftables matches all our interfaces with.
    pub(super) fn links(&self) -> String {
        format!("at{self}-*")
    }

    /// The name of our table.
    pub(super) fn table(&self) -> String {
        format!("atoll_{self}")
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Instance {
    type Err = InstanceError;

    fn from_str(text: &str) -> Result<Self, InstanceError> {
        let fits = (1..=8).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if fits { Ok(Self(text.to_owned())) } else { Err(InstanceError(text.to_owned())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_are_read_back() {
        let instance: Instance = "abcd1234".parse().unwrap();
        assert_eq!(instance.link(2047), "atabcd1234-2047");
        assert_eq!(instance.link(2047).len(), 15);
        assert_eq!(instance.index("atabcd1234-2047"), Some(2047));
        for foreign in ["atabcd1234-", "atabcd1234-07", "atabcd1234-+7", "atabcd123-7", "atabcd12345-7", "eth0", ""] {
            assert_eq!(instance.index(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn other_tags_are_refused() {
        for text in ["", "abcd12345", "AB", "a-b", "a b", "ä", "a*"] {
            assert_eq!(text.parse::<Instance>(), Err(InstanceError(text.to_owned())));
        }
    }
}
