//! What clients attach to a file: short texts, kept as extended attributes `user.e2b.<key>`.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    io,
    path::Path,
};

use atoll_sys::xattr;
use http::HeaderMap;

const HEADER: &str = "x-metadata-";
const ATTRIBUTE: &str = "user.e2b.";
/// The kernel takes names of 255 bytes.
const LONGEST_KEY: usize = 246;
const LARGEST: usize = 4096;

/// Key to value.
pub type Metadata = BTreeMap<String, String>;

/// Why metadata is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// A key too long for an attribute.
    #[error("metadata key exceeds {LONGEST_KEY} bytes")]
    Key,
    /// A value that is not printable ASCII.
    #[error("metadata value of '{key}' must be printable ASCII")]
    Value {
        /// Whose.
        key: String,
    },
    /// More in total than file systems keep.
    #[error("metadata exceeds {LARGEST} bytes in total")]
    TooMuch,
}

/// Takes the `X-Metadata-*` headers of an upload. Of several with one name the first counts.
pub fn from_headers(headers: &HeaderMap) -> Result<Metadata, MetadataError> {
    let mut metadata = Metadata::new();
    for name in headers.keys() {
        // Names are lower case already, and printable.
        let Some(key) = name.as_str().strip_prefix(HEADER).filter(|key| !key.is_empty()) else { continue };
        if key.len() > LONGEST_KEY {
            return Err(MetadataError::Key);
        }
        let printable = headers[name].as_bytes().iter().all(|byte| matches!(byte, b' '..=b'~'));
        let value = headers[name].to_str().ok().filter(|_| printable).ok_or_else(|| MetadataError::Value { key: key.into() })?;
        metadata.insert(key.into(), value.into());
    }
    let size: usize = metadata.iter().map(|(key, value)| ATTRIBUTE.len() + key.len() + value.len()).sum();
    if size > LARGEST { Err(MetadataError::TooMuch) } else { Ok(metadata) }
}

/// What is attached to a file, or to what a symlink leads to. What cannot be read, or is not text, is left out.
pub fn read(path: &Path) -> Metadata {
    let text = |name: &OsStr| Some((key(name)?.to_owned(), String::from_utf8(xattr::get(path, name).ok()?).ok()?));
    xattr::list(path).unwrap_or_default().iter().filter_map(|name| text(name)).collect()
}

/// Makes `metadata` all that is attached to a file. A file system without attributes keeps none, and that is no error.
pub fn replace(path: &Path, metadata: &Metadata) -> io::Result<()> {
    let replaced = try_replace(path, metadata);
    match &replaced {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
        _ => replaced,
    }
}

fn try_replace(path: &Path, metadata: &Metadata) -> io::Result<()> {
    for name in xattr::list(path)? {
        if key(&name).is_some_and(|key| !metadata.contains_key(key)) {
            xattr::remove(path, &name)?;
        }
    }
    metadata.iter().try_for_each(|(key, value)| xattr::set(path, &OsString::from(format!("{ATTRIBUTE}{key}")), value.as_bytes()))
}

fn key(name: &OsStr) -> Option<&str> {
    name.to_str()?.strip_prefix(ATTRIBUTE)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn parse(headers: &[(&str, &str)]) -> Result<Metadata, MetadataError> {
        let header = |(name, value): &(&str, &str)| {
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        };
        let mut map = HeaderMap::new();
        for (name, value) in headers.iter().map(header) {
            map.append(name, value);
        }
        from_headers(&map)
    }

    #[test]
    fn keys_are_lower_case_and_the_first_value_counts() {
        let metadata = parse(&[("X-Metadata-Author", "me"), ("x-metadata-author", "you"), ("X-METADATA-EMPTY", ""), ("X-Metadata-", "x")]);
        let expected = Metadata::from([("author".into(), "me".into()), ("empty".into(), "".into())]);
        assert_eq!(metadata, Ok(expected));
        assert_eq!(parse(&[("x-meta-a", "b")]), Ok(Metadata::new()));
    }

    #[test]
    fn limits_are_exact() {
        let name = |length: usize| format!("x-metadata-{}", "k".repeat(length));
        assert!(parse(&[(&name(246), "v")]).is_ok());
        assert_eq!(parse(&[(&name(247), "v")]), Err(MetadataError::Key));
        assert!(parse(&[("x-metadata-k", &"v".repeat(4096 - 9 - 1))]).is_ok());
        assert_eq!(parse(&[("x-metadata-k", &"v".repeat(4096 - 9))]), Err(MetadataError::TooMuch));
        for value in ["tab\there", "naïve"] {
            assert_eq!(parse(&[("x-metadata-k", value)]), Err(MetadataError::Value { key: "k".into() }));
        }
    }
}
