//! Which sandbox and port a request is for.
//!
//! The left-most label of the host says it: `<port>-<sandbox ID>[-<anything>].<domain>`. A host without such a label (an IP address,
//! `localhost`, `sandbox.<domain>`, the machine's own name) is shared by all sandboxes, and the headers `E2b-Sandbox-Id` and
//! `E2b-Sandbox-Port` say it. A label that begins with a number and `-` is always of the first form, whatever the headers say.

use std::net::{Ipv4Addr, Ipv6Addr};

use atoll_types::{ENVD_PORT, SandboxId};
use http::{HeaderMap, HeaderName};

/// Names the sandbox where the host does not.
pub const SANDBOX_ID: HeaderName = HeaderName::from_static("e2b-sandbox-id");
/// Names its port.
pub const SANDBOX_PORT: HeaderName = HeaderName::from_static("e2b-sandbox-port");

/// What a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The sandbox.
    pub sandbox: SandboxId,
    /// Its port.
    pub port: u16,
    /// For a user's port on a host shared by name, the host of this port alone: what the guest should see as `Host`.
    pub own_host: Option<String>,
}

/// Why a request is for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHost {
    #[error("invalid host: exactly one host name or IP address with an optional port is needed")]
    Malformed,
    #[error("the host names no sandbox: use <port>-<sandbox ID>.<domain> as host, or send the headers E2b-Sandbox-Id and E2b-Sandbox-Port")]
    NoSandbox,
    #[error("both headers E2b-Sandbox-Id and E2b-Sandbox-Port are needed, each once")]
    Headers,
    #[error("invalid port: expected a number from 1 to 65535")]
    Port,
    #[error("invalid sandbox ID: expected lower-case letters and digits")]
    Id,
}

/// Reads the target from the authority (`host[:port]`) that the client addressed and, for shared hosts, from the headers.
pub fn target(authority: &str, headers: &HeaderMap) -> Result<Target, BadHost> {
    let (host, port) = split_port(authority)?;
    if host.starts_with('[') {
        return from_headers(headers);
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    if !is_name(host) {
        return Err(BadHost::Malformed);
    }
    let (label, domain) = host.split_once('.').unwrap_or((host, ""));
    if host.parse::<Ipv4Addr>().is_ok() {
        return from_headers(headers);
    }
    if !domain.is_empty() && label.split_once('-').is_some_and(|(number, _)| is_digits(number)) {
        return from_label(label);
    }
    let mut target = from_headers(headers)?;
    let shared = if label.eq_ignore_ascii_case("sandbox") { domain } else { host };
    if !shared.is_empty() && target.port != ENVD_PORT {
        // An id that leaves no room for a port has no host of its own.
        let own = format!("{}-{}.{shared}", target.port, target.sandbox);
        target.own_host = is_name(&own).then(|| own + port);
    }
    Ok(target)
}

/// Whether the authority is this host, which is given in lower case, on any port.
pub fn is(authority: &str, name: &str) -> bool {
    split_port(authority).is_ok_and(|(host, _)| host.strip_suffix('.').unwrap_or(host).eq_ignore_ascii_case(name))
}

/// Splits off `:port`, which is returned with its colon.
fn split_port(authority: &str) -> Result<(&str, &str), BadHost> {
    let end = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, _) = rest.split_once(']').ok_or(BadHost::Malformed)?;
            address.parse::<Ipv6Addr>().map_err(|_| BadHost::Malformed)?;
            address.len() + 2
        }
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at(end);
    let digits = port.strip_prefix(':').unwrap_or(port);
    let valid = port.is_empty() || (port.starts_with(':') && (digits.is_empty() || number(digits).is_some()));
    if valid { Ok((host, port)) } else { Err(BadHost::Malformed) }
}

fn is_name(host: &str) -> bool {
    let label = |l: &str| (1..=63).contains(&l.len()) && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    host.len() <= 253 && host.split('.').all(label)
}

fn from_label(label: &str) -> Result<Target, BadHost> {
    let mut parts = label.split('-');
    let port = port(parts.next().unwrap_or_default())?;
    let sandbox = parts.next().unwrap_or_default().to_ascii_lowercase().parse().map_err(|_| BadHost::Id)?;
    Ok(Target { sandbox, port, own_host: None })
}

fn from_headers(headers: &HeaderMap) -> Result<Target, BadHost> {
    let text = |name| match only(headers, name) {
        Ok(value) => Ok(value.map(str::trim).filter(|v| !v.is_empty())),
        Err(()) => Err(BadHost::Headers),
    };
    match (text(SANDBOX_ID)?, text(SANDBOX_PORT)?) {
        (Some(id), Some(number)) => {
            Ok(Target { sandbox: SandboxId::from_client(id).map_err(|_| BadHost::Id)?, port: port(number)?, own_host: None })
        }
        (None, None) => Err(BadHost::NoSandbox),
        _ => Err(BadHost::Headers),
    }
}

/// The header's only value; `Err` when there are several or it is not text.
pub(crate) fn only(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| ()),
        _ => Err(()),
    }
}

fn port(text: &str) -> Result<u16, BadHost> {
    number(text).filter(|port| *port != 0).ok_or(BadHost::Port)
}

fn number(text: &str) -> Option<u16> {
    // `u16::from_str` alone would take a sign.
    if is_digits(text) { text.parse().ok() } else { None }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(id: &str, port: &str) -> HeaderMap {
        [(SANDBOX_ID, id.parse().unwrap()), (SANDBOX_PORT, port.parse().unwrap())].into_iter().collect()
    }

    fn found(authority: &str, headers: &HeaderMap) -> (String, u16) {
        let target = target(authority, headers).unwrap_or_else(|e| panic!("{authority}: {e}"));
        (target.sandbox.to_string(), target.port)
    }

    #[test]
    fn the_label_says_it() {
        for host in [
            "3000-abc1.example.com",
            "3000-abc1.example.com:3002",
            "3000-abc1.example.com.",
            "3000-abc1.localhost",
            "3000-abc1.localhost:3002",
            "3000-ABC1.Example.COM",
            "3000-abc1-6532622b.e2b.app",
            "3000-abc1-6532622b-more.e2b.app",
            "03000-abc1.x",
        ] {
            assert_eq!(found(host, &HeaderMap::new()), ("abc1".into(), 3000), "{host}");
            assert_eq!(found(host, &headers("other", "1")), ("abc1".into(), 3000), "{host}: the host wins");
        }
    }

    #[test]
    fn the_headers_say_it_on_shared_hosts() {
        let named = headers("abc1", "49983");
        for host in [
            "127.0.0.1",
            "127.0.0.1:3002",
            "[::1]",
            "[::1]:3002",
            "localhost",
            "LOCALHOST:3002",
            "localhost.",
            "sandbox.e2b.app",
            "Sandbox.e2b.app",
            "atoll",
            "atoll:3002",
            "my-box.lan",
            "3d-printer.lan",
        ] {
            assert_eq!(found(host, &named), ("abc1".into(), 49983), "{host}");
            assert_eq!(target(host, &HeaderMap::new()), Err(BadHost::NoSandbox), "{host}");
        }
        assert_eq!(found("127.0.0.1", &headers("abc1-6532622b", "1")), ("abc1".into(), 1), "the legacy suffix");
        let mut half = headers("abc1", "1");
        half.remove(SANDBOX_PORT);
        assert_eq!(target("localhost", &half), Err(BadHost::Headers));
        let mut twice = headers("abc1", "1");
        twice.append(SANDBOX_ID, "other".parse().unwrap());
        assert_eq!(target("localhost", &twice), Err(BadHost::Headers));
    }

    #[test]
    fn a_shared_name_becomes_the_ports_own() {
        let own = |host: &str| target(host, &headers("abc1", "3000")).unwrap().own_host;
        assert_eq!(own("sandbox.example.com:3002").as_deref(), Some("3000-abc1.example.com:3002"));
        assert_eq!(own("localhost:3002").as_deref(), Some("3000-abc1.localhost:3002"));
        assert_eq!(own("atoll").as_deref(), Some("3000-abc1.atoll"));
        assert_eq!(own("127.0.0.1:3002"), None);
        assert_eq!(own("[::1]:3002"), None);
        assert_eq!(own("80-xyz.example.com"), None);
        let long = "a".repeat(63);
        assert_eq!(target("localhost", &headers(&long, "80")).unwrap().own_host, None, "no label is longer than 63");
    }

    #[test]
    fn hostile_hosts_are_refused() {
        let named = headers("abc1", "49983");
        let overlong = format!("3000-{}.example.com", "a".repeat(59));
        let deep = format!("3000-abc{}", ".abcdefgh".repeat(30));
        for (host, error) in [
            ("", BadHost::Malformed),
            (".", BadHost::Malformed),
            ("..", BadHost::Malformed),
            (":3002", BadHost::Malformed),
            ("user@3000-abc1.example.com", BadHost::Malformed),
            ("3000-abc1.example.com:x", BadHost::Malformed),
            ("3000-abc1.example.com:99999", BadHost::Malformed),
            ("3000-abc1.example.com:1:2", BadHost::Malformed),
            ("3000-abc1..com", BadHost::Malformed),
            ("3000-abc1.exa mple.com", BadHost::Malformed),
            ("3000-abc1.example.com/x", BadHost::Malformed),
            ("[::1", BadHost::Malformed),
            ("[fe80::1%25eth0]", BadHost::Malformed),
            ("[localhost]", BadHost::Malformed),
            ("[::1]x", BadHost::Malformed),
            (&overlong, BadHost::Malformed),
            (&deep, BadHost::Malformed),
            ("3000-.example.com", BadHost::Id),
            ("3000-a_b.example.com", BadHost::Id),
            ("0-abc1.example.com", BadHost::Port),
            ("65536-abc1.example.com", BadHost::Port),
        ] {
            assert_eq!(target(host, &named), Err(error), "{host:?}");
        }
        for (id, number, error) in [
            ("ABC", "1", BadHost::Id),
            ("a/b", "1", BadHost::Id),
            ("a-b-c", "1", BadHost::Id),
            ("abc", "0", BadHost::Port),
            ("abc", "+1", BadHost::Port),
            ("abc", "70000", BadHost::Port),
            ("abc", "", BadHost::Headers),
        ] {
            assert_eq!(target("localhost", &headers(id, number)), Err(error), "{id:?} {number:?}");
        }
    }

    proptest! {
        #[test]
        fn any_host_gets_an_answer(host in ".{0,300}", id in "[ -~]{0,70}", port in "[ -~]{0,8}") {
            let _ = target(&host, &headers(&id, &port));
            let _ = target(&host, &HeaderMap::new());
        }

        #[test]
        fn what_is_written_is_read(port in 1u16.., id in "[a-z0-9]{1,50}", rest in "(-[a-z0-9]{1,3})?", domain in "[a-z]{1,9}(\\.[a-z]{1,5}){0,3}") {
            let target = target(&format!("{port}-{id}{rest}.{domain}"), &HeaderMap::new()).unwrap();
            prop_assert_eq!((target.sandbox.as_str(), target.port), (id.as_str(), port));
        }

        #[test]
        fn own_hosts_lead_back(port in 1u16..ENVD_PORT, id in "[a-z0-9]{1,50}", shared in "(localhost|sandbox\\.[a-z]{1,9}\\.[a-z]{2,5})(:[1-9][0-9]{0,3})?") {
            let first = target(&shared, &headers(&id, &port.to_string())).unwrap();
            let own = first.own_host.clone().unwrap();
            let second = target(&own, &HeaderMap::new()).unwrap();
            prop_assert_eq!((first.sandbox, first.port), (second.sandbox, second.port));
        }
    }
}
