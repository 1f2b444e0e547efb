//! The hosts file: where the address of the host's event service is written down.

use std::{fs, io, net::IpAddr, path::Path};

/// The name programs use for the event service.
const EVENTS: &str = "events.e2b.local";

/// Makes the event service's name mean `address`.
pub fn set_events_address(address: IpAddr) -> io::Result<()> {
    let path = Path::new("/etc/hosts");
    let before = match fs::read_to_string(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        read => read.unwrap_or_default(),
    };
    // The file is often a mount of its own, which can be written but not replaced.
    fs::write(path, with_events_address(&before, address))
}

/// The same file, with the name mapped to `address` and, in that address family, to nothing else.
fn with_events_address(hosts: &str, address: IpAddr) -> String {
    let mut lines: Vec<String> = hosts.lines().filter_map(|line| without_events(line, address)).collect();
    lines.push(format!("{:<16} {EVENTS}", address.to_string()));
    lines.join("\n") + "\n"
}

/// The line without the name, if it maps it in the same family; `None` when nothing else is on it.
fn without_events(line: &str, address: IpAddr) -> Option<String> {
    let (mapping, comment) = line.split_once('#').map_or((line, None), |(m, c)| (m, Some(c)));
    let mut words = mapping.split_whitespace();
    let same_family = words.next().and_then(|a| a.parse::<IpAddr>().ok()).is_some_and(|a| a.is_ipv4() == address.is_ipv4());
    let names: Vec<&str> = words.collect();
    if !same_family || !names.contains(&EVENTS) {
        return Some(line.into());
    }
    let kept: Vec<&str> = names.into_iter().filter(|name| *name != EVENTS).collect();
    let first = mapping.split_whitespace().next().unwrap_or_default();
    let comment = comment.map(|c| format!(" #{c}")).unwrap_or_default();
    (!kept.is_empty()).then(|| format!("{first:<16} {}{comment}", kept.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_mapped_once_per_family() {
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let once = with_events_address("127.0.0.1 localhost\n", address);
        assert_eq!(once, "127.0.0.1 localhost\n192.0.2.1        events.e2b.local\n");
        assert_eq!(with_events_address(&once, address), once);
        let moved = with_events_address(&once, "192.0.2.77".parse().unwrap());
        assert_eq!(moved, "127.0.0.1 localhost\n192.0.2.77       events.e2b.local\n");
        assert_eq!(with_events_address(&once, "fd00::1".parse().unwrap()), format!("{once}fd00::1          events.e2b.local\n"));
    }

    #[test]
    fn other_names_and_strange_lines_stay() {
        let address: IpAddr = "10.0.0.1".parse().unwrap();
        let before = "# events.e2b.local\n\nnonsense events.e2b.local\n192.0.2.1 a events.e2b.local b # why\n";
        let after = with_events_address(before, address);
        assert_eq!(
            after,
            "# events.e2b.local\n\nnonsense events.e2b.local\n192.0.2.1        a b # why\n10.0.0.1         events.e2b.local\n"
        );
    }
}
