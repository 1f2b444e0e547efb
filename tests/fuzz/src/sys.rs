//! What the kernel answers about links and sockets.

use atoll_sys::{
    listeners,
    netlink::{Link, attribute, messages},
};

/// A datagram of rtnetlink: what is found lies within it and does not overlap, and nothing follows what is malformed.
pub fn netlink(bytes: &[u8]) {
    let mut left = bytes;
    let mut read = messages(bytes);
    for message in read.by_ref() {
        let Ok(message) = message else { break };
        let at = message.body.as_ptr() as usize - left.as_ptr() as usize;
        assert_eq!(at, 16);
        left = left.get((at + message.body.len()).next_multiple_of(4)..).unwrap_or_default();
        if let Some(link) = Link::read(message.body) {
            assert!(link.name.len() <= 3 * message.body.len());
        }
        for kind in [libc::IFLA_IFNAME, libc::IFLA_LINKINFO, libc::RTA_DST] {
            let value = attribute(message.body, kind);
            assert!(value.is_none_or(|value| message.body.as_ptr_range().contains(&value.as_ptr()) || value.is_empty()));
        }
    }
    assert!(read.next().is_none());
}

/// A datagram of socket diagnostics: no more sockets than it has room for.
pub fn listeners(bytes: &[u8]) {
    let mut found = Vec::new();
    // Malformed or not: what was found until then is bounded.
    let _ = listeners::read(bytes, &mut found);
    assert!(found.len() <= bytes.len() / 20);
}
