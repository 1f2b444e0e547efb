//! Taking possession: locks, addresses, and an end to what a crashed daemon left.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    path::{Path, PathBuf},
};

use atoll_sys::{
    namespace::{self, Pair},
    netlink::{Link, Netlink},
    nft::{self, NftError},
};
use atoll_types::Egress;
use tracing::{info, warn};

use super::{
    Instance, SlotsConfig,
    block::{Block, Cidr},
    claim::{self, Claim},
    firewall::Firewall,
    forward, link,
    policy::Policy,
};
use crate::chain;

/// A sandbox that outlived the daemon which started it.
#[derive(Debug, Clone)]
pub struct Living {
    /// [`Slot::index`](super::Slot::index) of its slot.
    pub index: u32,
    /// Its first process.
    pub pid: i32,
    /// What it may reach.
    pub egress: Egress,
}

/// Why there is no pool.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A daemon with this tag runs already.
    #[error("a daemon with the instance tag `{0}` is running on this host")]
    InstanceRuns(Instance),
    /// No part of the range is free.
    #[error("every block of {0} is in use by other daemons or networks of this host; configure another range")]
    NoBlock(Cidr),
    /// Sandboxes have addresses that another daemon claimed.
    #[error("the addresses {0} of running sandboxes are claimed by another daemon")]
    BlockTaken(Cidr),
    /// The locks are unusable.
    #[error("locking below {}", .dir.display())]
    Lock {
        /// Where they are.
        dir: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// The kernel did not tell, or remove, what is there.
    #[error("looking for interfaces, addresses and routes of this host")]
    Survey(#[source] io::Error),
    /// The host would not forward packets.
    #[error("switching on IPv4 forwarding")]
    Forwarding(#[source] io::Error),
    /// The packet filter was not installed.
    #[error("installing the packet filter")]
    Firewall(#[source] NftError),
}

/// What [`Slots::start`](super::Slots::start) does before the first task runs. All of it blocks.
pub(super) struct Prepared {
    pub config: SlotsConfig,
    pub block: Block,
    pub firewall: Firewall,
    pub claims: Vec<Claim>,
    pub living: BTreeMap<u32, Pair>,
}

impl Prepared {
    pub(super) fn new(config: SlotsConfig, before: Option<Block>, living: Vec<Living>) -> Result<Self, StartError> {
        let lock_failed = |source| StartError::Lock { dir: config.run_dir.clone(), source };
        let of_instance = Claim::instance(&config.run_dir, &config.instance).map_err(lock_failed)?;
        let of_instance = of_instance.ok_or_else(|| StartError::InstanceRuns(config.instance.clone()))?;

        let mut netlink = Netlink::open().map_err(StartError::Survey)?;
        let links = netlink.links().map_err(StartError::Survey)?;
        let ours: HashMap<u32, u32> = links.iter().filter_map(|link| Some((config.instance.index(&link.name)?, link.index))).collect();
        let capacity = before.map_or(0, Block::capacity);
        let mut members = BTreeMap::new();
        let mut pairs = BTreeMap::new();
        for Living { index, pid, egress } in living {
            if index < capacity
                && ours.contains_key(&index)
                && let Ok(pair) = namespace::of_process(pid)
            {
                members.insert(index, egress.internet);
                pairs.insert(index, pair);
            }
        }
        for index in ours.keys().filter(|index| !pairs.contains_key(index)) {
            netlink.delete_link(&config.instance.link(*index)).map_err(StartError::Survey)?;
        }

        bury(&config, &links).map_err(StartError::Firewall)?;
        let (block, of_block) = choose(&config, before, !pairs.is_empty(), &mut netlink, &ours.into_values().collect())?;
        let policy = Policy { instance: config.instance.clone(), block, dns: config.dns.clone(), open: config.open, counts: true };
        let firewall = Firewall::install(policy, members).map_err(StartError::Firewall)?;
        if link::enable_forwarding().map_err(StartError::Forwarding)? {
            info!("switched on IPv4 forwarding on this host (net.ipv4.ip_forward), which the network of the sandboxes needs");
        }
        match link::allow_neighbours() {
            Ok(false) => {}
            Ok(true) => {
                let most = link::NEIGHBOURS;
                info!("raised the number of neighbours that this host remembers (net.ipv4.neigh.default.gc_thresh3) to {most}");
            }
            Err(e) => {
                warn!(error = chain(&e), "net.ipv4.neigh.default.gc_thresh3 cannot be raised: half of it is the most sandboxes that work")
            }
        }
        Ok(Self { config, block, firewall, claims: vec![of_instance, of_block], living: pairs })
    }
}

/// Removes the tables of daemons that crashed and have no sandbox left: each refuses what the host sends to its block, and the next
/// holder of that block may be us.
fn bury(config: &SlotsConfig, links: &[Link]) -> Result<(), NftError> {
    for table in nft::tables()? {
        let Some(Ok(instance)) = table.strip_prefix("atoll_").map(str::parse::<Instance>) else { continue };
        if links.iter().any(|link| instance.index(&link.name).is_some()) {
            continue;
        }
        // Held by whoever lives, and by us until the table is gone. A lock that cannot be had for another reason is left alone too.
        if let Ok(Some(_claim)) = Claim::instance(&config.run_dir, &instance) {
            info!("removing the packet filter table `{table}` of a daemon that is no more");
            nft::run(&format!("delete table inet {table}\n"))?;
        }
    }
    Ok(())
}

/// Claims a block: the one from before if sandboxes live in it or it still serves, else the first that is free.
fn choose(
    config: &SlotsConfig,
    before: Option<Block>,
    living: bool,
    netlink: &mut Netlink,
    ours: &HashSet<u32>,
) -> Result<(Block, Claim), StartError> {
    let claim = |block| {
        Claim::block(&config.run_dir, block, &config.instance).map_err(|source| StartError::Lock { dir: config.run_dir.clone(), source })
    };
    if living && let Some(block) = before {
        return claim(block)?.map(|claim| (block, claim)).ok_or(StartError::BlockTaken(block.cidr()));
    }
    let mut taken = netlink.addresses().map_err(StartError::Survey)?;
    taken.extend(netlink.routes().map_err(StartError::Survey)?);
    let taken: Vec<_> = taken.iter().filter(|subnet| !ours.contains(&subnet.link)).map(|subnet| (subnet.address, subnet.prefix)).collect();
    let before = config.range.blocks().filter(|&block| Some(block) == before);
    for block in before.chain(config.range.blocks()).filter(|&block| claim::is_free(block, config.range, &taken)) {
        if let Some(claim) = claim(block)? {
            return Ok((block, claim));
        }
    }
    Err(StartError::NoBlock(config.range))
}

/// Everything on this host that carries an instance tag: interfaces, the table and rules of the packet filter, locks. Blocks.
pub fn leftovers(run_dir: &Path, instance: &Instance) -> Result<Vec<String>, StartError> {
    let links = Netlink::open().and_then(|mut netlink| netlink.links()).map_err(StartError::Survey)?;
    let tables = nft::tables().map_err(StartError::Firewall)?;
    let rules = forward::rules(instance).map_err(StartError::Survey)?;
    let locks = claim::files(run_dir, instance).map_err(|source| StartError::Lock { dir: run_dir.to_owned(), source })?;
    let links = links.into_iter().filter(|link| instance.index(&link.name).is_some()).map(|link| format!("interface {}", link.name));
    let tables = tables.into_iter().filter(|table| *table == instance.table()).map(|table| format!("table inet {table}"));
    let rules = rules.into_iter().map(|rule| format!("rule {rule}"));
    let locks = locks.into_iter().map(|lock| format!("lock {}", lock.display()));
    Ok(links.chain(tables).chain(rules).chain(locks).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_dead_are_buried() {
        if nft::tables().is_err() {
            eprintln!("SKIPPED only_the_dead_are_buried: needs root and nft");
            return;
        }
        let tag = |kind: &str| format!("{kind}{:05}", std::process::id() % 100_000);
        let [dead, living, working]: [Instance; 3] = [tag("d"), tag("l"), tag("w")].map(|tag| tag.parse().unwrap());
        for instance in [&dead, &living, &working] {
            nft::run(&format!("add table inet {}\n", instance.table())).unwrap();
        }
        let run_dir = std::env::temp_dir().join(format!("atoll-bury-{}", std::process::id()));
        let config = SlotsConfig { run_dir: run_dir.clone(), ..SlotsConfig::new(tag("o").parse().unwrap()) };
        let _alive = Claim::instance(&run_dir, &living).unwrap().unwrap();
        let links = [Link { index: 7, name: working.link(0), up: true, carries: true }];
        // Other daemons on this host keep their locks elsewhere: they must not look dead to this test.
        let mine = |table: &String| [&dead, &living, &working].iter().any(|instance| instance.table() == *table);
        let others = nft::tables().unwrap().into_iter().filter(|table| !mine(table));
        let locks: Vec<_> = others.filter_map(|t| t.strip_prefix("atoll_")?.parse().ok()).map(|i| Claim::instance(&run_dir, &i)).collect();

        bury(&config, &links).unwrap();

        drop(locks);
        let mut left: Vec<_> = nft::tables().unwrap().into_iter().filter(mine).collect();
        for table in &left {
            nft::run(&format!("delete table inet {table}\n")).unwrap();
        }
        left.sort();
        assert_eq!(left, [living.table(), working.table()]);
        drop(_alive);
        std::fs::remove_dir(run_dir).unwrap();
    }
}
