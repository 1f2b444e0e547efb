//! Which name servers sandboxes use when the settings name none.

use std::{fs, net::IpAddr};

/// Where systemd-resolved keeps the servers behind its own loopback address, then the usual file.
const FILES: [&str; 2] = ["/run/systemd/resolve/resolv.conf", "/etc/resolv.conf"];
/// When the host only asks itself, where a sandbox cannot ask.
const PUBLIC: [IpAddr; 2] = [IpAddr::V4(std::net::Ipv4Addr::new(1, 1, 1, 1)), IpAddr::V4(std::net::Ipv4Addr::new(8, 8, 8, 8))];

/// The host's name servers that a sandbox can reach.
pub fn of_host() -> Vec<IpAddr> {
    let found = FILES.iter().map(|file| servers(&fs::read_to_string(file).unwrap_or_default())).find(|servers| !servers.is_empty());
    found.unwrap_or(PUBLIC.into())
}

fn servers(text: &str) -> Vec<IpAddr> {
    let named = text.lines().filter_map(|line| line.strip_prefix("nameserver")?.trim().parse::<IpAddr>().ok());
    // Sandboxes have IPv4 only.
    named.filter(|server| server.is_ipv4() && !server.is_loopback()).take(3).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_a_sandbox_can_reach() {
        let text =
            "# comment\nsearch here\nnameserver 127.0.0.53\nnameserver 10.0.0.2\nnameserver ::1\nnameserver fe80::1%eth0\nnameserver x\n";
        assert_eq!(servers(text), ["10.0.0.2".parse::<IpAddr>().unwrap()]);
        assert!(!of_host().is_empty());
    }
}
