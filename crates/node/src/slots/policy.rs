//! What sandboxes may send to whom, as one nftables table per daemon.
//!
//! The rules are few and constant: sandboxes are elements of two sets. Interfaces are matched by the prefix of their names, so a new
//! one is denied everything until its element exists. Everything a sandbox sends is judged once, before routing and before any
//! other table could rewrite its destination. What the kernel remembers of an earlier sandbox with the same address opens nothing to
//! one that is offline: it only answers. And what it remembers is for all sandboxes together, so each may have so many connections.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::IpAddr,
};

use atoll_sys::nft::{self, Change};

use super::{Instance, block::Block};

/// Never reached from a sandbox, whoever routes them: this host and unspecified, private, shared and link-local networks, the
/// metadata services that some clouds have elsewhere (192.0.0.192, 168.63.129.16), multicast and reserved addresses.
const DENIED: &str = "0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 168.63.129.16, 169.254.0.0/16, 172.16.0.0/12, 192.0.0.0/24, \
                      192.168.0.0/16, 224.0.0.0/4, 240.0.0.0/4";

/// The slots that exist, and whether each may reach the internet.
pub(super) type Members = BTreeMap<u32, bool>;

/// Where the kernel counts the connections of each; it makes the elements itself.
const COUNTED: &str = "\n\tset connections {\n\t\ttype ipv4_addr\n\t\tsize 65535\n\t\tflags dynamic\n\t}";

/// Connections that a sandbox may have at the same time.
const CONNECTIONS: u32 = 4096;

/// What the rules depend on.
#[derive(Debug, Clone)]
pub(super) struct Policy {
    pub instance: Instance,
    pub block: Block,
    /// Name servers, reachable on port 53 even where they are private. Sandboxes have no IPv6, so only IPv4 ones count.
    pub dns: Vec<IpAddr>,
    /// Everything passes.
    pub open: bool,
    /// Connections are counted; not every kernel can.
    pub counts: bool,
}

impl Policy {
    /// The script that replaces the whole table, whatever was there, by one with exactly these members.
    pub(super) fn table(&self, members: &Members) -> String {
        let (table, links, block) = (self.instance.table(), self.instance.links(), self.block.cidr());
        let servers: Vec<_> = self.dns.iter().filter(|server| server.is_ipv4()).map(IpAddr::to_string).collect();
        let dns = match &servers[..] {
            [] => String::new(),
            servers => format!("\n\t\tip daddr {{ {} }} meta l4proto {{ tcp, udp }} th dport 53 accept", servers.join(", ")),
        };
        let gate = if self.open { "\n\t\taccept" } else { "" };
        let (set, count) = match self.counts {
            true => (COUNTED, format!("\n\t\tadd @connections {{ ip saddr ct count over {CONNECTIONS} }} drop")),
            false => ("", String::new()),
        };
        let members = self.members(members);
        format!(
            r#"table inet {table} {{}}
delete table inet {table}
table inet {table} {{
	set live {{
		type ifname . ipv4_addr
	}}
	set offline {{
		type ipv4_addr
	}}{set}
	chain from_sandboxes {{
		type filter hook prerouting priority mangle; policy accept;{gate}
		iifname != "{links}" accept
		meta nfproto != ipv4 drop
		iifname . ip saddr != @live drop
		ip saddr @offline ct direction original drop
		ct state vmap {{ established : accept, related : accept, invalid : drop }}
		ip saddr @offline drop{count}{dns}
		ip daddr {{ {DENIED} }} drop
		fib daddr type != unicast drop
	}}
	chain to_sandboxes {{
		type filter hook forward priority filter; policy accept;{gate}
		oifname != "{links}" accept
		ct state established,related accept
		drop
	}}
	chain from_host {{
		type filter hook output priority filter; policy accept;
		ip daddr {block} oifname != "lo" oifname != "{links}" reject with icmp host-unreachable
	}}
	chain to_internet {{
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr {block} oifname != "lo" oifname != "{links}" masquerade
	}}
}}
{members}"#
        )
    }

    /// The script that adds these members to a new table.
    fn members(&self, members: &Members) -> String {
        let table = self.instance.table();
        let mut script = String::new();
        for (&index, &internet) in members {
            let address = self.block.sandbox(index);
            // Writing to a string cannot fail.
            let _ = writeln!(script, "add element inet {table} live {{ \"{}\" . {address} }}", self.instance.link(index));
            if !internet {
                let _ = writeln!(script, "add element inet {table} offline {{ {address} }}");
            }
        }
        script
    }

    /// The changes that make one state of the sets the other.
    pub(super) fn difference(&self, before: &Members, after: &Members) -> Vec<Change<'static>> {
        let address = |index| self.block.sandbox(index).octets();
        let live =
            |index, add| Change { add, set: "live", key: [&nft::interface_key(&self.instance.link(index))[..], &address(index)].concat() };
        let addressed = |set, index, add| Change { add, set, key: address(index).into() };
        let offline =
            |members: &Members| members.iter().filter(|(_, internet)| !**internet).map(|(&index, _)| index).collect::<BTreeSet<_>>();
        let mut changes = Vec::new();
        for &index in before.keys().filter(|index| !after.contains_key(index)) {
            changes.push(live(index, false));
            if self.counts {
                // Whoever gets the address next starts from zero. One that never had a connection is added before it can be removed.
                changes.extend([true, false].map(|add| addressed("connections", index, add)));
            }
        }
        for &index in after.keys().filter(|index| !before.contains_key(index)) {
            changes.push(live(index, true));
        }
        let (was, is) = (offline(before), offline(after));
        changes.extend(was.symmetric_difference(&is).map(|&index| addressed("offline", index, is.contains(&index))));
        changes
    }

    /// The script that removes the table, if there is one.
    pub(super) fn removal(&self) -> String {
        let table = self.instance.table();
        format!("table inet {table} {{}}\ndelete table inet {table}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(dns: &[&str]) -> Policy {
        let block = "10.11.16.0/20".parse::<super::super::block::Cidr>().unwrap().blocks().next().unwrap();
        let dns = dns.iter().map(|server| server.parse().unwrap()).collect();
        Policy { instance: "ab12".parse().unwrap(), block, dns, open: false, counts: true }
    }

    #[test]
    fn the_table_is_this() {
        let text = policy(&["10.0.0.53", "1.1.1.1", "fd00::53"]).table(&Members::from([(0, true), (7, false)]));
        let expected = r#"table inet atoll_ab12 {}
delete table inet atoll_ab12
table inet atoll_ab12 {
	set live {
		type ifname . ipv4_addr
	}
	set offline {
		type ipv4_addr
	}
	set connections {
		type ipv4_addr
		size 65535
		flags dynamic
	}
	chain from_sandboxes {
		type filter hook prerouting priority mangle; policy accept;
		iifname != "atab12-*" accept
		meta nfproto != ipv4 drop
		iifname . ip saddr != @live drop
		ip saddr @offline ct direction original drop
		ct state vmap { established : accept, related : accept, invalid : drop }
		ip saddr @offline drop
		add @connections { ip saddr ct count over 4096 } drop
		ip daddr { 10.0.0.53, 1.1.1.1 } meta l4proto { tcp, udp } th dport 53 accept
		ip daddr { 0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 168.63.129.16, 169.254.0.0/16, 172.16.0.0/12, 192.0.0.0/24, 192.168.0.0/16, 224.0.0.0/4, 240.0.0.0/4 } drop
		fib daddr type != unicast drop
	}
	chain to_sandboxes {
		type filter hook forward priority filter; policy accept;
		oifname != "atab12-*" accept
		ct state established,related accept
		drop
	}
	chain from_host {
		type filter hook output priority filter; policy accept;
		ip daddr 10.11.16.0/20 oifname != "lo" oifname != "atab12-*" reject with icmp host-unreachable
	}
	chain to_internet {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr 10.11.16.0/20 oifname != "lo" oifname != "atab12-*" masquerade
	}
}
add element inet atoll_ab12 live { "atab12-0" . 10.11.16.1 }
add element inet atoll_ab12 live { "atab12-7" . 10.11.16.15 }
add element inet atoll_ab12 offline { 10.11.16.15 }
"#;
        assert_eq!(text, expected);
    }

    #[test]
    fn a_difference_is_what_was_added_removed_and_put_offline() {
        let policy = policy(&[]);
        let set = |change: &Change<'_>| (change.set.to_owned(), change.add, *change.key.last().unwrap());
        let before = Members::from([(0, true), (1, false), (2, true), (3, false)]);
        let after = Members::from([(0, true), (1, true), (2, false), (4, false)]);
        let changes: Vec<_> = policy.difference(&before, &after).iter().map(set).collect();
        let last = |index| policy.block.sandbox(index).octets()[3];
        let expected = [
            ("live", false, 3),
            ("connections", true, 3),
            ("connections", false, 3),
            ("live", true, 4),
            ("offline", false, 1),
            ("offline", true, 2),
            ("offline", false, 3),
            ("offline", true, 4),
        ];
        assert_eq!(changes, expected.map(|(set, add, index)| (set.to_owned(), add, last(index))));
        assert_eq!(policy.difference(&after, &after), []);
        let Change { key, .. } = &policy.difference(&Members::new(), &Members::from([(7, true)]))[0];
        assert_eq!(key[..], *b"atab12-7\0\0\0\0\0\0\0\0\x0a\x0b\x10\x0f");
    }

    #[test]
    fn where_the_kernel_cannot_count_nothing_says_so() {
        let uncounted = Policy { counts: false, ..policy(&[]) };
        assert!(!uncounted.table(&Members::new()).contains("connections"));
        let changes = uncounted.difference(&Members::from([(7, true)]), &Members::new());
        assert!(changes.iter().all(|change| change.set == "live"));
    }

    #[test]
    fn without_name_servers_there_is_no_rule_for_them() {
        assert!(!policy(&["fd00::53"]).table(&Members::new()).contains("dport"));
    }
}
