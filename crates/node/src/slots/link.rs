//! Making and unmaking a slot on this host: namespaces, a pair of linked interfaces, addresses, routes, kernel settings. All of it
//! blocks.

use std::{
    fs, io, thread,
    time::{Duration, Instant},
};

use atoll_sys::{
    namespace::{self, IDS, Pair},
    netlink::Netlink,
};

use super::{Instance, block::Block};

/// The sandbox's end of the link.
const INSIDE: &str = "eth0";
const PREFIX: u8 = 31;
/// Two for each sandbox of the default range.
pub(super) const NEIGHBOURS: u32 = 1 << 16;
/// For a fresh link to carry packets.
const PATIENCE: Duration = Duration::from_secs(5);

/// A step of making or unmaking a slot that failed.
#[derive(Debug, thiserror::Error)]
#[error("{step} of network slot {index}")]
pub(super) struct LinkError {
    step: &'static str,
    index: u32,
    #[source]
    source: io::Error,
}

/// Makes slot `index`. On failure nothing of it is left.
pub(super) fn make(instance: &Instance, block: Block, index: u32) -> Result<Pair, LinkError> {
    let failed = |step| move |source| LinkError { step, index, source };
    let (link, id_base) = (instance.link(index), block.id_base(index));
    let pair = namespace::create_pair(id_base).map_err(failed("creating the namespaces"))?;
    let mut netlink = Netlink::open().map_err(failed("asking the kernel about the link"))?;
    netlink.create_veth(&link, INSIDE, &pair.net).map_err(failed("creating the link"))?;
    let wired = namespace::in_network(&pair.net, || wire_inside(block, index, id_base))
        .and_then(|done| done)
        .map_err(failed("setting up the sandbox's end"))
        .and_then(|mut inside| {
            wire_outside(&mut netlink, &link, block, index).map_err(failed("setting up the host's end"))?;
            until_it_carries(&mut netlink, &link)
                .and_then(|()| until_it_carries(&mut inside, INSIDE))
                .map_err(failed("waiting for the carrier on the link"))
        });
    match wired {
        Ok(()) => Ok(pair),
        Err(error) => {
            // The first error is the one to tell; a link that stays is found by the next start.
            let _ = netlink.delete_link(&link);
            Err(error)
        }
    }
}

/// Removes the link of slot `index`, if there is one.
pub(super) fn unmake(instance: &Instance, index: u32) -> Result<(), LinkError> {
    let delete = || Netlink::open()?.delete_link(&instance.link(index)).map(drop);
    delete().map_err(|source| LinkError { step: "removing the link", index, source })
}

/// Lets this host forward packets; true if it did not before.
pub(super) fn enable_forwarding() -> io::Result<bool> {
    let before = get("ipv4/ip_forward")?;
    set("ipv4/ip_forward", "1")?;
    Ok(before == "0")
}

/// Lets the kernel remember as many neighbours as there can be sandboxes; true if it did not before. Each has one at either end of its
/// link, and the kernel counts those of all namespaces together, up to 1024 by default.
pub(super) fn allow_neighbours() -> io::Result<bool> {
    let mut changed = false;
    for (name, wanted) in [("gc_thresh3", NEIGHBOURS), ("gc_thresh2", NEIGHBOURS / 2)] {
        let setting = format!("ipv4/neigh/default/{name}");
        if get(&setting)?.parse().is_ok_and(|allowed: u32| allowed < wanted) {
            set(&setting, &wanted.to_string())?;
            changed = true;
        }
    }
    Ok(changed)
}

/// Sets up the sandbox's end; returns the socket, which stays in its namespace.
fn wire_inside(block: Block, index: u32, id_base: u32) -> io::Result<Netlink> {
    let mut netlink = Netlink::open()?;
    netlink.set_up("lo", true)?;
    set_ipv6_off(INSIDE)?;
    for scope in ["all", INSIDE] {
        set(&format!("ipv4/conf/{scope}/rp_filter"), "0")?;
    }
    // The kernel reads group ids as the writer sees them: all of the sandbox's may ping.
    set("ipv4/ping_group_range", &format!("{id_base} {}", id_base + (IDS - 1)))?;
    netlink.add_address(INSIDE, block.sandbox(index), PREFIX)?;
    netlink.set_up(INSIDE, true)?;
    netlink.add_route(INSIDE, [0, 0, 0, 0].into(), 0, Some(block.host(index)))?;
    Ok(netlink)
}

fn wire_outside(netlink: &mut Netlink, link: &str, block: Block, index: u32) -> io::Result<()> {
    set_ipv6_off(link)?;
    // Only its own address comes from it, and it learns no address of ours but the one on the link.
    for (name, value) in [("forwarding", "1"), ("rp_filter", "1"), ("proxy_arp", "0"), ("arp_ignore", "1"), ("accept_redirects", "0")] {
        set(&format!("ipv4/conf/{link}/{name}"), value)?;
    }
    netlink.add_address(link, block.host(index), PREFIX)?;
    netlink.set_up(link, true)
}

/// The kernel lets packets through in its own time, up to a second on a busy host; before that they are lost without a word.
fn until_it_carries(netlink: &mut Netlink, link: &str) -> io::Result<()> {
    let start = Instant::now();
    while !netlink.link(link)?.carries {
        if start.elapsed() > PATIENCE {
            return Err(io::ErrorKind::TimedOut.into());
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn get(setting: &str) -> io::Result<String> {
    fs::read_to_string(format!("/proc/sys/net/{setting}")).map(|value| value.trim_end().to_owned())
}

fn set(setting: &str, value: &str) -> io::Result<()> {
    fs::write(format!("/proc/sys/net/{setting}"), value)
}

/// On a host without IPv6 there is nothing to switch off.
fn set_ipv6_off(link: &str) -> io::Result<()> {
    match set(&format!("ipv6/conf/{link}/disable_ipv6"), "1") {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
