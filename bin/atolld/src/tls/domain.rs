//! A domain and the names below it: who answers where.

use std::fmt;

/// A domain whose every name leads to this host, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain(String);

/// Who answers to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Site {
    /// `api.<domain>`.
    Api,
    /// `<port>-<sandbox ID>.<domain>`, and `sandbox.<domain>`, where headers name the sandbox.
    Sandboxes,
    /// Another name of the domain.
    Nobody,
    /// A name of somebody else.
    Elsewhere,
}

/// Why a text is no domain.
#[derive(Debug, thiserror::Error)]
#[error("tls.domain must be a name of two or more labels without a port, for example sandboxes.example.com, and is `{0}`")]
pub struct BadDomain(String);

impl Domain {
    /// Reads a domain.
    pub fn parse(text: &str) -> Result<Self, BadDomain> {
        let name = text.to_ascii_lowercase();
        let label = |l: &str| {
            let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            (1..=63).contains(&l.len()) && l.bytes().all(inner) && !l.starts_with('-') && !l.ends_with('-')
        };
        // Below it: the longest label, which is a port and a sandbox's ID.
        let short = name.len() <= 253 - 64;
        // Clients refuse a wildcard right below the root. Four numbers would be an address.
        let last = name.rsplit('.').next().is_some_and(|last| last.bytes().any(|b| b.is_ascii_alphabetic()));
        if short && last && name.contains('.') && name.split('.').all(label) { Ok(Self(name)) } else { Err(BadDomain(text.into())) }
    }

    /// The domain as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Names that a certificate must be for, one of each kind.
    pub fn samples(&self) -> [String; 2] {
        [format!("api.{self}"), format!("49983-sandbox.{self}")]
    }

    /// Who answers to a name, which is in lower case.
    pub fn site(&self, name: &str) -> Site {
        if name == self.0 {
            return Site::Nobody;
        }
        match name.strip_suffix(&self.0).and_then(|rest| rest.strip_suffix('.')) {
            Some("api") => Site::Api,
            Some("sandbox") => Site::Sandboxes,
            Some(label) if starts_with_port(label) => Site::Sandboxes,
            Some(_) => Site::Nobody,
            None => Site::Elsewhere,
        }
    }
}

fn starts_with_port(label: &str) -> bool {
    let number = label.split_once('-').map_or("", |(number, _)| number);
    !label.contains('.') && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_their_sites() {
        let domain = Domain::parse("Boxes.Example.com").unwrap();
        for (name, site) in [
            ("api.boxes.example.com", Site::Api),
            ("49983-abc1.boxes.example.com", Site::Sandboxes),
            ("3000-abc1-legacy.boxes.example.com", Site::Sandboxes),
            ("sandbox.boxes.example.com", Site::Sandboxes),
            ("boxes.example.com", Site::Nobody),
            ("www.boxes.example.com", Site::Nobody),
            ("api.api.boxes.example.com", Site::Nobody),
            ("1-a.api.boxes.example.com", Site::Nobody),
            ("-abc1.boxes.example.com", Site::Nobody),
            ("apiboxes.example.com", Site::Elsewhere),
            ("1-aboxes.example.com", Site::Elsewhere),
            ("example.com", Site::Elsewhere),
            ("api.boxes.example.com.evil.com", Site::Elsewhere),
            ("", Site::Elsewhere),
        ] {
            assert_eq!(domain.site(name), site, "{name}");
        }
    }

    #[test]
    fn what_is_no_domain_is_refused() {
        for text in
            ["", "localhost", "a..b", ".a.b", "a.b.", "a.b:443", "https://a.b", "*.a.b", "-a.b", "a_b.c", "10.0.0.1", &"a.".repeat(120)]
        {
            assert!(Domain::parse(text).is_err(), "{text}");
        }
    }
}
