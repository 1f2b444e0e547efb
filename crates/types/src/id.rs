//! Identifiers. Formats: reference/rest-api.md §4.

use std::{fmt, str::FromStr};

use sha2::{Digest, Sha256};

use crate::Secret;

/// Why a string is not the id it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {noun}: expected {expected}")]
pub struct IdError {
    /// What was being parsed.
    pub noun: &'static str,
    /// Its grammar, for a person.
    pub expected: &'static str,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $noun:literal, $expected:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Box<str>);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) { Ok(Self(text.into())) } else { Err(IdError { noun: $noun, expected: $expected }) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

text_id!(
    /// A sandbox: `i` and 20 of `[a-z0-9]` when we make it; any `[a-z0-9]{1,63}` when we read it, so that it fits a DNS label.
    SandboxId, "sandbox ID", "lower-case letters and digits",
    |t| (1..=63).contains(&t.len()) && lower_alphanumeric(t)
);
text_id!(
    /// A template: 20 of `[a-z0-9]` when we make it.
    TemplateId, "template ID", "lower-case letters and digits",
    |t| (1..=63).contains(&t.len()) && lower_alphanumeric(t)
);
text_id!(
    /// One build of a template: a UUID.
    BuildId, "build ID", "a UUID", uuid
);
text_id!(
    /// A team (E2B's clients say project): a UUID.
    TeamId, "team ID", "a UUID", uuid
);

impl SandboxId {
    /// A new id from the system's randomness.
    pub fn random() -> Self {
        Self(format!("i{}", random_alphanumeric()).into())
    }

    /// Reads an id a client sent: the legacy form `<id>-<client id>` is accepted and its suffix dropped.
    pub fn from_client(text: &str) -> Result<Self, IdError> {
        match text.split_once('-') {
            Some((id, suffix)) if !suffix.contains('-') => id.parse(),
            _ => text.parse(),
        }
    }
}

impl TemplateId {
    /// A new id from the system's randomness.
    pub fn random() -> Self {
        Self(random_alphanumeric().into())
    }
}

impl BuildId {
    /// A new version 4 UUID.
    pub fn random() -> Self {
        Self(random_uuid().into())
    }
}

impl TeamId {
    /// A new version 4 UUID.
    pub fn random() -> Self {
        Self(random_uuid().into())
    }
}

/// A team's API key as its owner holds it: `e2b_` and lower-case hexadecimal digits.
#[derive(Clone, Debug)]
pub struct ApiKey(Secret);

impl ApiKey {
    const PREFIX: &'static str = "e2b_";

    /// A new key: 20 random bytes.
    pub fn random() -> Self {
        Self(Secret::new(format!("{}{}", Self::PREFIX, hex(&random::<20>()))))
    }

    /// The key itself. Show it only to its owner.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// What the store keeps instead of the key.
    pub fn hash(&self) -> ApiKeyHash {
        ApiKeyHash(hex(&Sha256::digest(self.expose().as_bytes())))
    }

    /// `(prefix, digits, first two digits, last four)`, for showing which key it is without showing the key.
    pub fn mask(&self) -> (&'static str, usize, String, String) {
        let digits = &self.expose()[Self::PREFIX.len()..];
        let head = digits[..digits.len().min(2)].to_owned();
        let tail = digits[digits.len().saturating_sub(4)..].to_owned();
        (Self::PREFIX, digits.len(), head, tail)
    }
}

impl FromStr for ApiKey {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let digits = text.strip_prefix(Self::PREFIX).unwrap_or_default();
        let hexadecimal = digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if hexadecimal && (2..=128).contains(&digits.len()) && digits.len().is_multiple_of(2) {
            Ok(Self(Secret::new(text)))
        } else {
            Err(IdError { noun: "API key", expected: "`e2b_` and an even number of lower-case hexadecimal digits" })
        }
    }
}

/// The SHA-256 of an API key, in hexadecimal: enough to recognise the key, useless for making it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKeyHash(String);

impl ApiKeyHash {
    /// The digest as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn lower_alphanumeric(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

fn uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_digit() || (b'a'..=b'f').contains(&b),
        })
}

pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the kernel's random generator answers once the system has booted");
    bytes
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [DIGITS[(b >> 4) as usize], DIGITS[(b & 15) as usize]]).map(char::from).collect()
}

fn random_alphanumeric() -> String {
    const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    // 64 bits per character: the modulo bias is far below anything measurable.
    random::<160>().chunks_exact(8).map(|c| ALPHABET[(c.iter().fold(0u64, |n, b| n << 8 | u64::from(*b)) % 36) as usize] as char).collect()
}

fn random_uuid() -> String {
    let mut bytes = random::<16>();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let digits = hex(&bytes);
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_ids_parse_back() {
        let id = SandboxId::random();
        assert_eq!(id.as_str().len(), 21);
        assert!(id.as_str().starts_with('i'));
        assert_eq!(id.as_str().parse::<SandboxId>().unwrap(), id);
        assert_eq!(TemplateId::random().as_str().len(), 20);
        let build = BuildId::random();
        assert_eq!(build.as_str().parse::<BuildId>().unwrap(), build);
        assert_ne!(SandboxId::random(), SandboxId::random());
    }

    #[test]
    fn a_client_may_send_the_legacy_suffix_once() {
        assert_eq!(SandboxId::from_client("abc1-6532622b").unwrap().as_str(), "abc1");
        for bad in ["", "a-b-c", "ABC", "a_b", "-a", "a.b", "a/../b", "é", &"a".repeat(64)] {
            assert!(SandboxId::from_client(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn keys_are_hidden_and_hashed() {
        let key: ApiKey = "e2b_00112233445566778899aabbccddeeff00112233".parse().unwrap();
        assert!(!format!("{key:?}").contains("0011"));
        assert_eq!(key.hash(), key.clone().hash());
        assert_ne!(key.hash(), ApiKey::random().hash());
        assert_eq!(key.mask(), ("e2b_", 40, "00".into(), "2233".into()));
        for bad in ["", "e2b_", "e2b_0", "e2b_XY", "sk_e2b_00", "e2b_é0"] {
            assert!(bad.parse::<ApiKey>().is_err(), "{bad:?}");
        }
    }
}
