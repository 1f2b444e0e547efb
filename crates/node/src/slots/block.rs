//! Addresses: which block of them is ours, and what slot `index` has of it.
//!
//! A configured range is cut into blocks, one for each daemon of the host. Slot `i` of a block has the `i`-th pair of addresses in it,
//! the even one for the host's end of the link and the odd one for the sandbox, and a range of user ids that follows from the address.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use atoll_sys::namespace::IDS;
use serde::{Deserialize, Serialize};

/// How a block is written, unless the whole range is smaller.
const BLOCK_PREFIX: u8 = 20;
/// The widest and the narrowest range that makes sense.
const PREFIXES: std::ops::RangeInclusive<u8> = 16..=30;
/// User ids begin here, far above those of people, of `/etc/subuid` and of system services.
const FIRST_ID: u32 = 0x1000_0000;
/// They end at 2³¹, beyond which the kernel's `ping_group_range` cannot name them.
const ID_RANGES: u32 = (0x8000_0000 - FIRST_ID) / IDS;

/// A range of IPv4 addresses: `10.11.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    network: Ipv4Addr,
    prefix: u8,
}

/// Why a text is no range we can use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a range of addresses like 10.11.0.0/16, from /16 to /30, without host bits")]
pub struct CidrError(String);

impl Cidr {
    /// Its addresses share this many leading bits.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether `address` is in it.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & mask(self.prefix) == self.network.to_bits()
    }

    /// Whether it has an address in common with `address`/`prefix`.
    pub fn overlaps(self, address: Ipv4Addr, prefix: u8) -> bool {
        let common = mask(self.prefix.min(prefix));
        address.to_bits() & common == self.network.to_bits() & common
    }

    /// The blocks that daemons of one host share out among themselves.
    pub fn blocks(self) -> impl Iterator<Item = Block> {
        let prefix = self.prefix.max(BLOCK_PREFIX);
        (0..1u32 << (prefix - self.prefix))
            .map(move |n| Block(Self { network: Ipv4Addr::from_bits(self.network.to_bits() + (n << (32 - prefix))), prefix }))
    }
}

impl Default for Cidr {
    fn default() -> Self {
        Self { network: Ipv4Addr::new(10, 11, 0, 0), prefix: 16 }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let parse = || {
            let (network, prefix) = text.split_once('/')?;
            let (network, prefix) = (network.parse::<Ipv4Addr>().ok()?, prefix.parse().ok()?);
            let fits = PREFIXES.contains(&prefix) && network.to_bits() & !mask(prefix) == 0;
            fits.then_some(Self { network, prefix })
        };
        parse().ok_or_else(|| CidrError(text.to_owned()))
    }
}

impl TryFrom<String> for Cidr {
    type Error = CidrError;

    fn try_from(text: String) -> Result<Self, CidrError> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.to_string()
    }
}

/// The addresses of one daemon. Written down by the node, so that the sandboxes which outlive the daemon keep theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Block(Cidr);

impl Block {
    /// The range it spans.
    pub fn cidr(self) -> Cidr {
        self.0
    }

    /// How many slots it has.
    pub fn capacity(self) -> u32 {
        1 << (31 - self.0.prefix)
    }

    /// The host's address on the link of slot `index`, which is less than [`Block::capacity`].
    pub fn host(self, index: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.0.network.to_bits() + 2 * index)
    }

    /// The address of the sandbox in slot `index`, which is less than [`Block::capacity`].
    pub fn sandbox(self, index: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.host(index).to_bits() + 1)
    }

    /// The first of the 65536 user ids of slot `index`. No two slots of a block share any; nor do two blocks of a range, except that
    /// the last two of sixteen have those of the first two.
    pub fn id_base(self, index: u32) -> u32 {
        let pair = (self.host(index).to_bits() & 0xffff) / 2;
        FIRST_ID + pair % ID_RANGES * IDS
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cidrs() -> impl Strategy<Value = Cidr> {
        (any::<u32>(), PREFIXES).prop_map(|(bits, prefix)| Cidr { network: Ipv4Addr::from_bits(bits & mask(prefix)), prefix })
    }

    #[test]
    fn the_default_range_has_sixteen_blocks() {
        let blocks: Vec<_> = Cidr::default().blocks().collect();
        assert_eq!(blocks.len(), 16);
        assert_eq!(blocks[1].cidr().to_string(), "10.11.16.0/20");
        assert_eq!((blocks[1].capacity(), blocks[1].host(3), blocks[1].sandbox(3)), (2048, [10, 11, 16, 6].into(), [10, 11, 16, 7].into()));
        assert_eq!((blocks[0].id_base(0), blocks[0].id_base(1)), (0x1000_0000, 0x1001_0000));
        assert_eq!(blocks[13].id_base(2047), 0x7fff_0000);
        assert_eq!(blocks[14].id_base(0), blocks[0].id_base(0));
    }

    #[test]
    fn ranges_that_make_no_sense_are_refused() {
        for text in ["", "10.11.0.0", "10.11.0.0/", "10.11.0.0/15", "10.11.0.0/31", "10.11.0.1/16", "10.11.0/16", "::/16", "10.11.0.0/16 "]
        {
            assert_eq!(text.parse::<Cidr>(), Err(CidrError(text.to_owned())));
        }
    }

    #[test]
    fn a_block_is_written_as_its_range() {
        let block = Cidr::default().blocks().nth(2).unwrap();
        assert_eq!(serde_json::to_string(&block).unwrap(), r#""10.11.32.0/20""#);
        assert_eq!(serde_json::from_str::<Block>(r#""10.11.32.0/20""#).unwrap(), block);
        assert!(serde_json::from_str::<Block>(r#""10.0.0.0/8""#).is_err());
    }

    proptest! {
        #[test]
        fn text_is_parsed_back(cidr in cidrs()) {
            prop_assert_eq!(cidr.to_string().parse(), Ok(cidr));
        }

        #[test]
        fn blocks_cover_the_range_without_overlap(cidr in cidrs(), address: u32) {
            let address = Ipv4Addr::from_bits(address & !mask(cidr.prefix) | cidr.network.to_bits());
            prop_assert_eq!(cidr.blocks().filter(|block| block.cidr().contains(address)).count(), 1);
            prop_assert!(cidr.blocks().all(|block| cidr.overlaps(block.0.network, block.0.prefix)));
        }

        #[test]
        fn slots_of_a_block_share_nothing(cidr in cidrs(), n: prop::sample::Index, a: prop::sample::Index, b: prop::sample::Index) {
            let blocks: Vec<_> = cidr.blocks().collect();
            let block = *n.get(&blocks);
            let (a, b) = (a.index(block.capacity() as usize) as u32, b.index(block.capacity() as usize) as u32);
            prop_assert!(block.cidr().contains(block.host(a)) && block.cidr().contains(block.sandbox(a)));
            prop_assert_eq!(block.host(a).to_bits() % 2, 0);
            prop_assert_eq!(block.sandbox(a).to_bits(), block.host(a).to_bits() + 1);
            prop_assert!(block.id_base(a) >= FIRST_ID && block.id_base(a) <= 0x7fff_0000);
            prop_assert_eq!(block.id_base(a) == block.id_base(b), a == b);
            prop_assert_eq!(block.sandbox(a) == block.sandbox(b), a == b);
        }

        #[test]
        fn overlap_is_having_an_address_in_common(cidr in cidrs(), other in cidrs()) {
            let common = cidr.contains(other.network) || other.contains(cidr.network);
            prop_assert_eq!(cidr.overlaps(other.network, other.prefix), common);
            prop_assert!(cidr.overlaps(Ipv4Addr::UNSPECIFIED, 0));
        }
    }
}
