//! What a client may say about a sandbox's network, and what of it this version can do. Facts: reference/rest-api.md §6.4.
//!
//! A restriction that cannot be enforced is refused, never accepted in silence: a deny list that denies nothing is worse than an error.
//! What restricts nothing is kept and shown.

use std::net::IpAddr;

use atoll_types::Egress;
use atoll_wire::e2b::NetworkConfig;

use crate::error::{ApiError, Kind};

const EVERYTHING: &str = "0.0.0.0/0";

/// What the sandbox may reach; also gives the settings their defaults, as they are shown later.
pub fn check(
    network: Option<NetworkConfig>,
    allow_internet_access: Option<bool>,
    secure: bool,
) -> Result<(Egress, Option<NetworkConfig>), ApiError> {
    let allowed = allow_internet_access != Some(false);
    let Some(network) = network else { return Ok((Egress { internet: allowed }, None)) };
    let NetworkConfig { allow_public_traffic, allow_out, deny_out, dns_servers, https_ports, egress_proxy, mask_request_host, rules } =
        network;
    let (allow, deny) = (allow_out.as_deref().unwrap_or_default(), deny_out.as_deref().unwrap_or_default());

    for entry in deny {
        if destination(entry)? == Destination::Domain {
            return Err(ApiError::invalid(format_args!(
                "network.denyOut: `{entry}` is a domain; only addresses and CIDR blocks can be denied"
            )));
        }
    }
    let denies_all = !allowed || deny.iter().any(|entry| entry == EVERYTHING);
    for entry in allow {
        if destination(entry)? == Destination::Domain && !deny.iter().any(|entry| entry == EVERYTHING) {
            let why = format!("network.allowOut: allowing the domain `{entry}` requires `{EVERYTHING}` in network.denyOut");
            return Err(ApiError::invalid(why));
        }
    }
    if egress_proxy.is_some() {
        return Err(ApiError::new(Kind::Forbidden, "network.egressProxy: egress proxies are not available on this host"));
    }
    if rules.as_ref().is_some_and(|rules| !rules.is_empty()) {
        return Err(ApiError::invalid("network.rules: network rules are not available on this host"));
    }
    let public = allow_public_traffic.unwrap_or(true);
    if !public && !secure {
        return Err(ApiError::invalid("network.allowPublicTraffic: false requires `secure: true`"));
    }
    let not_yet = |what: &str| Err(ApiError::new(Kind::NotServed, format!("{what} is not served by this version of Atoll; leave it out")));
    if !public {
        return not_yet("network.allowPublicTraffic: false");
    }
    if denies_all && !allow.is_empty() {
        return not_yet("network.allowOut with everything else denied");
    }
    if !denies_all && !deny.is_empty() {
        return not_yet("network.denyOut of anything but `0.0.0.0/0`");
    }
    let shown = NetworkConfig {
        allow_public_traffic: Some(public),
        allow_out,
        deny_out,
        dns_servers,
        https_ports,
        mask_request_host,
        ..NetworkConfig::default()
    };
    Ok((Egress { internet: !denies_all }, Some(shown)))
}

#[derive(PartialEq)]
enum Destination {
    Block,
    Domain,
}

fn destination(entry: &str) -> Result<Destination, ApiError> {
    let bad = |why: &str| Err(ApiError::invalid(format_args!("network: `{entry}` {why}")));
    if entry == EVERYTHING {
        return Ok(Destination::Block);
    }
    let (address, prefix) = entry.split_once('/').map_or((entry, None), |(address, prefix)| (address, Some(prefix)));
    match (address.parse::<IpAddr>(), prefix) {
        (Ok(address), _) if address.is_unspecified() => bad("is unspecified; to mean everything, write 0.0.0.0/0"),
        (Ok(_), None) => Ok(Destination::Block),
        (Ok(address), Some(prefix)) => {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            match prefix.parse::<u8>() {
                Ok(length) if length <= bits => Ok(Destination::Block),
                _ => bad("is not a CIDR block"),
            }
        }
        (Err(_), None) if is_domain(entry.strip_prefix("*.").unwrap_or(entry)) => Ok(Destination::Domain),
        (Err(_), _) => bad("is neither an address, nor a CIDR block, nor a domain"),
    }
}

fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // What ends in a number was meant as an address.
    text.len() <= 253 && text.split('.').all(label) && !text.ends_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn run(network: Value, internet: Option<bool>) -> Result<(bool, Value), Kind> {
        let (egress, shown) = check(Some(serde_json::from_value(network).unwrap()), internet, false).map_err(|error| error.kind())?;
        Ok((egress.internet, serde_json::to_value(shown).unwrap()))
    }

    #[test]
    fn what_can_be_done_is_accepted_and_shown_with_its_defaults() {
        assert_eq!(check(None, None, false).unwrap().0, Egress { internet: true });
        assert_eq!(check(None, Some(false), true).unwrap().0, Egress { internet: false });
        let kept = json!({"allowPublicTraffic": true, "httpsPorts": [443], "maskRequestHost": "localhost:${PORT}"});
        assert_eq!(run(json!({"httpsPorts": [443], "maskRequestHost": "localhost:${PORT}"}), None).unwrap(), (true, kept));
        let denied = json!({"denyOut": ["0.0.0.0/0"]});
        assert_eq!(run(denied, Some(true)).unwrap(), (false, json!({"allowPublicTraffic": true, "denyOut": ["0.0.0.0/0"]})));
        let allowed = json!({"allowOut": ["8.8.8.8", "1.0.0.0/8", "2001:db8::/32"]});
        assert!(run(allowed, None).unwrap().0, "allowing what is allowed anyway");
    }

    #[test]
    fn what_is_wrong_and_what_cannot_be_done_yet_are_told_apart() {
        for invalid in [
            json!({"denyOut": ["example.com"]}),
            json!({"allowOut": ["example.com"]}),
            json!({"denyOut": ["0.0.0.0"]}),
            json!({"denyOut": ["::/0"]}),
            json!({"denyOut": ["1.2.3.4/33"]}),
            json!({"denyOut": ["1.2.3/8"]}),
            json!({"allowOut": ["a b"], "denyOut": ["0.0.0.0/0"]}),
            json!({"allowOut": ["1.2.3.400"], "denyOut": ["0.0.0.0/0"]}),
            json!({"rules": {"a.b": []}}),
            json!({"allowPublicTraffic": false}),
        ] {
            assert_eq!(run(invalid.clone(), None).unwrap_err(), Kind::Invalid, "{invalid}");
        }
        for later in [json!({"denyOut": ["1.2.3.4"]}), json!({"allowOut": ["*.example.com"], "denyOut": ["0.0.0.0/0"]})] {
            assert_eq!(run(later.clone(), None).unwrap_err(), Kind::NotServed, "{later}");
        }
        assert_eq!(run(json!({"egressProxy": {"address": "p:1"}}), None).unwrap_err(), Kind::Forbidden);
    }
}
