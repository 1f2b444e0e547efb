//! The way of requests to ports of sandboxes.

use anyhow::{Context, Result, bail};
use atoll_types::SandboxId;
use http::Uri;

use crate::settings::parse_url;

/// Where the traffic of sandboxes goes.
pub enum Traffic {
    /// All of it there.
    To(Uri),
    /// To the same port of this machine.
    Local,
    /// To a host for each port.
    Domain(String),
    /// To what the daemon's file says, if it says something.
    File(Option<Uri>),
}

impl Traffic {
    /// Where requests for a port of a sandbox go; `domain` is what the API says about it.
    pub fn base(&self, id: &SandboxId, port: u16, domain: Option<&str>) -> Result<Uri> {
        match self.own(id, port, domain) {
            Some(url) => parse_url("E2B_DOMAIN", &url),
            None => self.known().cloned(),
        }
    }

    /// The URL of that port, for a browser.
    pub fn url(&self, id: &SandboxId, port: u16, domain: Option<&str>) -> Result<String> {
        self.own(id, port, domain).map_or_else(|| named(self.known()?, id, port), Ok)
    }

    /// Where nothing else goes.
    fn own(&self, id: &SandboxId, port: u16, domain: Option<&str>) -> Option<String> {
        let below = |domain: &str| format!("https://{port}-{id}.{domain}");
        match (self, domain.filter(|domain| !domain.is_empty())) {
            (Self::Local, _) => Some(format!("http://localhost:{port}")),
            (Self::To(_), _) | (Self::File(_), None) => None,
            (_, Some(domain)) => Some(below(domain)),
            (Self::Domain(domain), None) => Some(below(domain)),
        }
    }

    /// Where everything goes, if it all goes to one place.
    pub fn shared(&self) -> Option<&Uri> {
        match self {
            Self::To(url) => Some(url),
            Self::File(url) => url.as_ref(),
            Self::Local | Self::Domain(_) => None,
        }
    }

    fn known(&self) -> Result<&Uri> {
        self.shared().context("where the traffic of sandboxes goes is not known: set E2B_SANDBOX_URL or E2B_DOMAIN")
    }
}

/// The name of a port below the host that all sandboxes share: addresses have no names below them, so this machine's is replaced by its name.
fn named(base: &Uri, id: &SandboxId, port: u16) -> Result<String> {
    let host = match base.host().unwrap_or_default() {
        "127.0.0.1" | "[::1]" | "0.0.0.0" => "localhost",
        host if host.starts_with('[') || host.parse::<std::net::Ipv4Addr>().is_ok() => bail!(
            "the port has no URL, as {base} names no domain; send requests there with the headers `E2b-Sandbox-Id: {id}` and `E2b-Sandbox-Port: {port}`"
        ),
        host => host,
    };
    let own = base.port().map(|own| format!(":{own}")).unwrap_or_default();
    Ok(format!("{}://{port}-{id}.{host}{own}", base.scheme_str().unwrap_or("http")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_have_urls_where_there_is_a_name() {
        let url = |base: &str| named(&base.parse().unwrap(), &"abc1".parse().unwrap(), 8000);
        assert_eq!(url("http://localhost:3002").unwrap(), "http://8000-abc1.localhost:3002");
        assert_eq!(url("http://127.0.0.1:3002/").unwrap(), "http://8000-abc1.localhost:3002");
        assert_eq!(url("https://box.example").unwrap(), "https://8000-abc1.box.example");
        assert!(url("http://10.0.0.7:3002").unwrap_err().to_string().contains("E2b-Sandbox-Id: abc1"));
        assert!(url("http://[fd00::1]:3002").is_err());
    }

    #[test]
    fn a_domain_has_a_host_for_each_port() {
        let id = "abc1".parse().unwrap();
        let own = |traffic: &Traffic, domain| [traffic.url(&id, 80, domain).unwrap(), traffic.base(&id, 80, domain).unwrap().to_string()];
        let domain = Traffic::Domain("my.cloud:8443".into());
        assert_eq!(own(&domain, None), ["https://80-abc1.my.cloud:8443", "https://80-abc1.my.cloud:8443/"]);
        assert_eq!(own(&domain, Some("")), own(&domain, None));
        assert_eq!(own(&domain, Some("other.cloud"))[0], "https://80-abc1.other.cloud");
        assert_eq!(own(&Traffic::File(None), Some("other.cloud"))[0], "https://80-abc1.other.cloud");
        assert_eq!(own(&Traffic::Local, Some("other.cloud")), ["http://localhost:80", "http://localhost:80/"]);
        let shared = Traffic::To("http://localhost:3002".parse().unwrap());
        assert_eq!(own(&shared, Some("other.cloud")), ["http://80-abc1.localhost:3002", "http://localhost:3002/"]);
        assert!(Traffic::File(None).base(&id, 80, None).unwrap_err().to_string().contains("E2B_DOMAIN"));
    }
}
