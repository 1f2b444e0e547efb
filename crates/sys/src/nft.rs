//! The packet filter: scripts through `nft`, elements of sets through the kernel's own interface. A change is applied whole or not at
//! all.
//!
//! Rules are text that people can review, and change once per start of the daemon. Elements change with every sandbox: running `nft` for
//! each costs more than everything else about a network slot.

use std::{
    io::{self, Write},
    process::{Command, Stdio},
    thread,
};

use crate::netlink::{Netlink, Request};

// Attributes of <linux/netfilter/nf_tables.h>.
const ELEMENTS_TABLE: u16 = 1;
const ELEMENTS_SET: u16 = 2;
const ELEMENTS: u16 = 3;
const LIST_ELEMENT: u16 = 1;
const KEY: u16 = 1;
const DATA_VALUE: u16 = 1;

/// Why a script was not applied. Nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// There is no usable `nft`.
    #[error("running `nft`; is the package nftables installed?")]
    Start(#[source] io::Error),
    /// It did not take the script.
    #[error("nft refused the script: {0}")]
    Refused(String),
}

/// Applies a script as one transaction and returns what it printed.
pub fn run(script: &str) -> Result<String, NftError> {
    let mut nft = Command::new("nft");
    nft.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = nft.spawn().map_err(NftError::Start)?;
    let input = child.stdin.take();
    // Written while the answers are read, so that neither side waits for the other. A failure to write shows in what `nft` says.
    let output = thread::scope(|scope| {
        scope.spawn(move || input.map(|mut input| input.write_all(script.as_bytes())));
        child.wait_with_output()
    });
    let output = output.map_err(NftError::Start)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let first = errors.lines().next().map_or_else(|| output.status.to_string(), str::to_owned);
    Err(NftError::Refused(first))
}

/// The names of all `inet` tables.
pub fn tables() -> Result<Vec<String>, NftError> {
    let listed = run("list tables inet\n")?;
    Ok(listed.lines().filter_map(|line| line.strip_prefix("table inet ")).map(|name| name.trim().to_owned()).collect())
}

/// An element of a set to be added or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change<'a> {
    /// Adds it, or else removes it.
    pub add: bool,
    /// The set.
    pub set: &'a str,
    /// The element as the kernel compares it: each part in network byte order, padded with zeros to a multiple of four bytes; the name of
    /// an interface to sixteen.
    pub key: Vec<u8>,
}

/// The part of a key that is the name of an interface.
pub fn interface_key(name: &str) -> [u8; libc::IFNAMSIZ] {
    std::array::from_fn(|at| name.as_bytes().get(at).copied().unwrap_or_default())
}

/// Changes elements of the sets of an `inet` table, all or none. Adding what is there does nothing; removing what is not there, like a
/// missing table, is an error.
pub fn change(table: &str, changes: &[Change<'_>]) -> io::Result<()> {
    let edge = |kind: i32| {
        let mut edge = Request::new(kind as u16, 0);
        edge.bytes(&[libc::AF_UNSPEC as u8, 0, 0, libc::NFNL_SUBSYS_NFTABLES as u8]);
        edge
    };
    let changes = changes.iter().map(|Change { add, set, key }| {
        let (kind, flags) = if *add { (libc::NFT_MSG_NEWSETELEM, libc::NLM_F_CREATE) } else { (libc::NFT_MSG_DELSETELEM, 0) };
        let mut request = Request::new((libc::NFNL_SUBSYS_NFTABLES << 8 | kind) as u16, flags);
        request.bytes(&[libc::NFPROTO_INET as u8, 0, 0, 0]);
        request.string(ELEMENTS_TABLE, table);
        request.string(ELEMENTS_SET, set);
        request.nest(ELEMENTS, |list| list.nest(LIST_ELEMENT, |element| element.nest(KEY, |key_data| key_data.attribute(DATA_VALUE, key))));
        request
    });
    let (begin, end) = (edge(libc::NFNL_MSG_BATCH_BEGIN), edge(libc::NFNL_MSG_BATCH_END));
    Netlink::speaking(Some(rustix::net::netlink::NETFILTER))?.transaction(begin, changes.collect(), end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn can_filter(test: &str) -> bool {
        let able = tables().is_ok();
        if !able {
            eprintln!("SKIPPED {test}: needs root and nft");
        }
        able
    }

    #[test]
    fn a_script_is_applied_whole_or_not_at_all() {
        if !can_filter("a_script_is_applied_whole_or_not_at_all") {
            return;
        }
        let name = format!("atoll_nft_test_{}", std::process::id());
        let refused = run(&format!("add table inet {name}\nadd rule inet {name} nowhere accept\n")).unwrap_err();
        assert!(matches!(&refused, NftError::Refused(why) if why.contains("No such file")), "{refused}");
        assert!(!tables().unwrap().contains(&name));

        let many: String = (0..20_000).map(|i| format!("add element inet {name} s {{ 10.0.{}.{} }}\n", i / 250, i % 250)).collect();
        run(&format!("add table inet {name}\nadd set inet {name} s {{ type ipv4_addr; }}\n{many}")).unwrap();
        assert!(tables().unwrap().contains(&name));
        run(&format!("delete table inet {name}\n")).unwrap();
        assert!(!tables().unwrap().contains(&name));
    }

    #[test]
    fn elements_are_changed_all_or_none() {
        if !can_filter("elements_are_changed_all_or_none") {
            return;
        }
        let name = format!("atoll_nft_elements_{}", std::process::id());
        run(&format!(
            "add table inet {name}\nadd set inet {name} live {{ type ifname . ipv4_addr; }}\nadd set inet {name} offline {{ type ipv4_addr; }}\n"
        ))
        .unwrap();
        let listed = |set: &str| run(&format!("list set inet {name} {set}\n")).unwrap();
        let live =
            |add, link: &str, last| Change { add, set: "live", key: interface_key(link).into_iter().chain([10, 11, 0, last]).collect() };
        let offline = |add, last| Change { add, set: "offline", key: vec![10, 11, 0, last] };

        change(&name, &[live(true, "atab12-0", 1), live(true, "atab12-1", 3), offline(true, 3)]).unwrap();
        assert!(listed("live").contains(r#""atab12-0" . 10.11.0.1"#) && listed("live").contains(r#""atab12-1" . 10.11.0.3"#));
        assert!(listed("offline").contains("10.11.0.3"));
        change(&name, &[live(true, "atab12-0", 1)]).unwrap();

        let refused = change(&name, &[live(false, "atab12-0", 1), offline(false, 9)]).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::NotFound);
        assert!(listed("live").contains("atab12-0"), "one that fails takes the others with it");
        change(&name, &[live(false, "atab12-0", 1), offline(false, 3)]).unwrap();
        assert!(!listed("live").contains("atab12-0") && !listed("offline").contains("10.11"));

        let many: Vec<_> = (0..500u32).map(|i| Change { add: true, set: "offline", key: i.to_be_bytes().into() }).collect();
        change(&name, &many).unwrap();
        run(&format!("delete table inet {name}\n")).unwrap();
        assert_eq!(change(&name, &[offline(true, 1)]).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
