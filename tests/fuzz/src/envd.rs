//! What clients of `envd` say besides the bodies of files: paths, queries, headers, signatures, the call that sets it up.

use std::time::{Duration, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use envd::{
    files::{
        conditions::{self, Wanted},
        encoding::{self, Encoding},
        metadata,
        parameters::{Parameters, inline},
        query::Query,
    },
    init as set_up,
    paths::{clean, resolve},
    signature::{Claim, Denied, Operation, check},
    state::Token,
    users::User,
};
use http::{HeaderMap, HeaderValue, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest as _, Sha256};

use crate::input::Input;

/// Lines: the home, the default workdir; the rest is the path.
///
/// An absolute path is taken as it is. Anything else is the clean path that its text says, seen from the home.
pub fn files_path(bytes: &[u8]) {
    let mut input = Input(bytes);
    let (home, workdir) = (format!("/{}", input.text()), input.text());
    let path = String::from_utf8_lossy(input.0);
    let user = User { name: "user".into(), uid: 1, gid: 1, groups: vec![1], home: home.clone().into(), shell: "/bin/sh".into() };
    let workdir = Some(&*workdir).filter(|workdir| !workdir.is_empty() && !workdir.contains('\0'));
    let meant = if path.is_empty() { workdir.unwrap_or_default() } else { &path };
    let foreign = meant.strip_prefix('~').is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'));
    let resolved = match resolve(&path, &user, workdir) {
        Err(_) => return assert!(meant.contains('\0') || foreign),
        Ok(resolved) => resolved,
    };
    assert!(!path.contains('\0') && !foreign);
    if meant.starts_with('/') {
        assert_eq!(resolved.as_os_str(), meant);
        return;
    }
    let mut expected = Vec::new();
    for name in format!("{home}/{}", meant.strip_prefix('~').unwrap_or(meant)).split('/') {
        match name {
            "" | "." => {}
            ".." => drop(expected.pop()),
            name => expected.push(name.to_owned()),
        }
    }
    assert_eq!(resolved.to_str(), Some(format!("/{}", expected.join("/")).as_str()));
    assert_eq!(clean(&resolved).as_os_str(), resolved.as_os_str());
}

/// The text after the `?` of `/files`. What was read can be written, and is read as the same.
pub fn files_query(bytes: &[u8]) {
    let Ok(query) = Query::parse(&String::from_utf8_lossy(bytes)) else { return };
    let Query { path, username, signature, expiration } = query.clone();
    let expiration = expiration.map(|expiration| expiration.to_string());
    let all = [("path", path), ("username", username), ("signature", signature), ("signature_expiration", expiration)];
    let pair = |(name, value): (&str, Option<String>)| Some(format!("{name}={}", utf8_percent_encode(&value?, NON_ALPHANUMERIC)));
    assert_eq!(Query::parse(&all.into_iter().filter_map(pair).collect::<Vec<_>>().join("&")), Ok(query));
}

/// Lines: the size of a file, its time of change; then headers.
///
/// A part lies within the file, an encoding is one the client takes, metadata stays within its limits, a file name survives the way out.
pub fn files_headers(bytes: &[u8]) {
    let mut input = Input(bytes);
    let (size, modified) = (input.text().parse().unwrap_or(10), input.text().parse().unwrap_or(1_700_000_000));
    let headers = input.headers();
    let modified = UNIX_EPOCH.checked_add(Duration::from_secs(modified)).unwrap_or(UNIX_EPOCH);
    if let Wanted::Part { start, length } = conditions::decide(&headers, modified, size) {
        assert!(length > 0 && start.checked_add(length).is_some_and(|end| end <= size), "{start} {length} of {size}");
    }
    if let Some(date) = conditions::http_date(modified) {
        let since = HeaderMap::from_iter([(header::IF_MODIFIED_SINCE, date.parse().expect("a date is a header value"))]);
        assert_eq!(conditions::decide(&since, modified, size), Wanted::Unchanged);
    }
    let offered = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let offered = offered.collect::<Vec<_>>().join(",").to_ascii_lowercase();
    if encoding::negotiate(&headers, false) == Some(Encoding::Gzip) {
        assert!(offered.contains("gzip") || offered.contains('*'));
    }
    assert_ne!(encoding::negotiate(&headers, true), Some(Encoding::Gzip));
    if let Ok(metadata) = metadata::from_headers(&headers) {
        let length: usize = metadata.iter().map(|(key, value)| "user.e2b.".len() + key.len() + value.len()).sum();
        assert!(length <= 4096 && metadata.keys().all(|key| (1..=246).contains(&key.len())));
        assert!(metadata.values().all(|value| value.bytes().all(|byte| matches!(byte, b' '..=b'~'))));
    }
    for value in headers.values().filter_map(|value| value.to_str().ok()) {
        let Some(name) = Parameters::parse(value).filename().filter(|name| !name.is_empty()) else { continue };
        let shown = inline(&name);
        HeaderValue::from_str(&shown).expect("what names a download is a header value");
        let read = Parameters::parse(&shown);
        // What is quoted or plain has no percent-encoding to undo.
        assert_eq!(read.get("filename").map(str::to_owned).or_else(|| read.filename()), Some(name));
    }
}

/// Lines: the token, `read` or `write`, the path, the user, the expiry, the time, the header `X-Access-Token`, the signature.
///
/// The right header passes, and without one exactly the signature that the token's holder makes, until it expires.
pub fn signature(bytes: &[u8]) {
    let mut input = Input(bytes);
    let token = input.text();
    let (operation, verb) = if input.line() == b"write" { (Operation::Write, "write") } else { (Operation::Read, "read") };
    let (path, username) = (input.text(), input.text());
    let expiration: Option<i64> = input.text().parse().ok();
    let now = input.text().parse().unwrap_or(1_700_000_000);
    let (header, sent) = (input.line(), input.text());

    let expiry = expiration.map(|expiration| format!(":{expiration}")).unwrap_or_default();
    let text = format!("{path}:{verb}:{username}:{token}{expiry}");
    let right = format!("v1_{}", STANDARD_NO_PAD.encode(Sha256::digest(text)));
    let claim = |signature| Claim { path: &path, username: &username, signature, expiration };
    let decide = |header, signature| check(Some(&Token::new(&token)), header, operation, claim(signature), now);

    let while_valid = if expiration.is_some_and(|expiration| expiration < now) { Err(Denied::Expired) } else { Ok(()) };
    assert_eq!(decide(None, Some(&right)), while_valid);
    assert_eq!(decide(None, Some(&*sent)), if *sent == right { while_valid } else { Err(Denied::WrongSignature) });
    assert_eq!(decide(None, None), Err(Denied::Unsigned));
    let by_header = if header == token.as_bytes() { Ok(()) } else { Err(Denied::WrongToken) };
    assert_eq!(decide(Some(header), Some(&right)), by_header);
    assert_eq!(check(None, Some(header), operation, claim(Some(&sent)), now), Ok(()));
    for changed in [format!("{path}x"), format!("x{path}"), path.to_ascii_uppercase()] {
        if changed != *path {
            let claim = Claim { path: &changed, ..claim(Some(&right)) };
            assert_eq!(check(Some(&Token::new(&token)), None, operation, claim, now), Err(Denied::WrongSignature));
        }
    }
}

/// The body of `POST /init`: a token in it can be compared later, a time is one.
pub fn init(bytes: &[u8]) {
    let Some((request, at)) = set_up::parse(bytes) else { return };
    assert!(request.access_token.as_deref().is_none_or(|token| !token.is_empty() && !token.contains('\\')));
    assert_eq!(request.timestamp.is_some(), at.is_some());
    let text = serde_json::to_vec(&request).expect("what was read from JSON has a JSON form");
    let (again, at_again) = set_up::parse(&text).expect("what was written can be read");
    assert_eq!((serde_json::to_vec(&again).ok(), at_again), (Some(text), at));
}
