//! What clients of the REST API send.

use atoll_control::{
    cursor, network,
    request::{Query, unescape},
};
use atoll_store::Order;
use atoll_types::{ApiKey, BuildId, SandboxId, TeamId, TemplateId, TemplateRef};
use atoll_wire::{
    e2b::{Connect, ConnectV2, NewSandbox, Refresh, Timeout},
    envd::Metrics,
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Serialize, de::DeserializeOwned};

/// A JSON body, read as any of ours. What was read is written, and read again, and has not changed; a network that is to be closed is
/// closed, or the request refused.
pub fn rest_bodies(bytes: &[u8]) {
    survives::<Connect>(bytes);
    survives::<ConnectV2>(bytes);
    survives::<Refresh>(bytes);
    survives::<Timeout>(bytes);
    survives::<Metrics>(bytes);
    let Some(request) = survives::<NewSandbox>(bytes) else { return };
    let denied = request.network.as_ref().and_then(|network| network.deny_out.as_ref()).is_some_and(|deny| !deny.is_empty());
    let private = request.network.as_ref().is_some_and(|network| network.allow_public_traffic == Some(false));
    let closed = request.allow_internet_access == Some(false);
    if let Ok((egress, _)) = network::check(request.network, request.allow_internet_access, request.secure == Some(true)) {
        assert!(!private, "what cannot be kept private is not taken");
        assert_eq!(egress.internet, !closed && !denied);
    }
}

fn survives<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let read: T = serde_json::from_slice(bytes).ok()?;
    let value = serde_json::to_value(&read).expect("what was read from JSON has a JSON form");
    let again: T = serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value}"));
    assert_eq!(serde_json::to_value(again).ok(), Some(value));
    Some(read)
}

/// The text after a `?`: escapes are undone once, and what was read can be written.
pub fn rest_query(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let read = Query::parse(&text);
    let pairs: Option<Vec<_>> = text
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| Some((unescape(name)?, unescape(value)?)))
        .collect();
    assert_eq!(read.is_ok(), pairs.is_some());
    let (Ok(read), Some(pairs)) = (read, pairs) else { return };
    for (name, value) in &pairs {
        assert_eq!(unescape(&utf8_percent_encode(value, NON_ALPHANUMERIC).to_string()).as_ref(), Some(value));
        let of_name: Vec<_> = pairs.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_str()).collect();
        assert_eq!(read.text(name), of_name.first().copied());
        assert_eq!(read.list(name).map(|items| items.join(",")), Some(of_name.join(",")));
    }
}

/// A token of a page: one that is taken can be given out, and means the same, in its own order only.
pub fn rest_cursor(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for (order, other) in [(Order::Ascending, Order::Descending), (Order::Descending, Order::Ascending)] {
        let Some(cursor) = cursor::parse(&text, order) else { continue };
        let token = cursor::token(&cursor, order);
        assert_eq!(cursor::parse(&token, order), Some(cursor), "{token}");
        assert_eq!(cursor::parse(&token, other), None);
        assert_eq!(cursor::parse(&text, other), None);
    }
}

/// A name: of a sandbox, a template, a build, a team, or a key. What is taken is what is written.
pub fn rest_names(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    macro_rules! same {
        ($($name:ty)*) => { $(if let Ok(id) = text.parse::<$name>() { assert_eq!(id.as_str(), text); })* };
    }
    same!(SandboxId TemplateId BuildId TeamId);
    if let Ok(id) = SandboxId::from_client(&text) {
        assert!(text.starts_with(id.as_str()) && id.as_str().bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9')));
    }
    if let Ok(key) = text.parse::<ApiKey>() {
        assert_eq!(key.expose(), text);
        let (prefix, digits, head, tail) = key.mask();
        assert!(text.starts_with(&format!("{prefix}{head}")) && text.ends_with(&tail) && text.len() == prefix.len() + digits);
    }
    if let Ok(reference) = text.parse::<TemplateRef>() {
        let TemplateRef { namespace, name, tag } = &reference;
        let namespace = namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
        let tag = tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        assert_eq!(format!("{namespace}{name}{tag}").parse(), Ok(reference));
    }
}
