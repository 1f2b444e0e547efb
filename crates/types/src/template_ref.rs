//! How clients name templates: `[namespace/]name[:tag]`. Grammar: reference/rest-api.md §4.1.

use std::str::FromStr;

/// A reference to a template, normalised: trimmed, lower-case, `:default` dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateRef {
    /// The team's slug, when given.
    pub namespace: Option<String>,
    /// The name or the template's id.
    pub name: String,
    /// The tag, when given and not `default`.
    pub tag: Option<String>,
}

/// Why a reference is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid template reference: expected `[namespace/]name[:tag]` of letters, digits, `-`, `_` (and `.` in the tag)")]
pub struct TemplateRefError;

impl FromStr for TemplateRef {
    type Err = TemplateRefError;
    fn from_str(text: &str) -> Result<Self, TemplateRefError> {
        let text = text.trim().to_ascii_lowercase();
        let (path, tag) = match text.split_once(':') {
            Some((path, tag)) => (path, Some(word(tag, true)?)),
            None => (text.as_str(), None),
        };
        let (namespace, name) = match path.split_once('/') {
            Some((namespace, name)) => (Some(word(namespace, false)?), name),
            None => (None, path),
        };
        Ok(Self { namespace, name: word(name, false)?, tag: tag.filter(|tag| tag != "default") })
    }
}

fn word(text: &str, dots: bool) -> Result<String, TemplateRefError> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_' || (dots && b == b'.');
    if (1..=128).contains(&text.len()) && text.bytes().all(fits) { Ok(text.into()) } else { Err(TemplateRefError) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_the_grammar() {
        let r: TemplateRef = " Acme/My-App:v1.2 ".parse().unwrap();
        assert_eq!((r.namespace.as_deref(), r.name.as_str(), r.tag.as_deref()), (Some("acme"), "my-app", Some("v1.2")));
        let r: TemplateRef = "base:default".parse().unwrap();
        assert_eq!((r.namespace, r.name.as_str(), r.tag), (None, "base", None));
        for bad in ["", "a:", "/a", "a/b/c", "a b", "a:b:c", "é", ":x"] {
            assert!(bad.parse::<TemplateRef>().is_err(), "{bad:?}");
        }
    }
}
