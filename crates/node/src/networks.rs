//! Where the sandboxes of a node have their network: in slots, or, with engines that isolate nothing, on the host itself.

use std::{
    collections::HashMap,
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use atoll_runtime::Network;
use atoll_types::Egress;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::{
    disk,
    slots::{self, Block, Living, Slot, SlotError, Slots, SlotsConfig},
};

/// Which networks a node gives its sandboxes.
#[derive(Debug)]
pub enum Networks {
    /// A slot each.
    Slots(SlotsConfig),
    /// The host's loopback, for engines that isolate nothing.
    Host,
}

/// The source of networks.
pub(crate) enum Pool {
    Slots(Slots),
    Host,
}

/// The network of one sandbox.
pub(crate) enum Place {
    Slot(Slot),
    Host,
}

/// The version of [`Claim`] that this program writes, and the only one it reads.
const VERSION: u32 = 1;

/// What `network.json` says: the addresses that the sandboxes of this node have.
#[derive(Serialize, Deserialize)]
struct Claim {
    version: u32,
    block: Block,
}

impl Pool {
    /// Starts the source. The networks of the `living` come back by the index of their slot.
    pub(crate) async fn start(
        networks: Networks,
        data_dir: &Path,
        living: Vec<Living>,
        stop: CancellationToken,
    ) -> Result<(Self, HashMap<u32, Slot>), slots::StartError> {
        let config = match networks {
            Networks::Host => return Ok((Self::Host, HashMap::new())),
            Networks::Slots(config) => config,
        };
        let file = data_dir.join("network.json");
        let reading = file.clone();
        let before = disk::run(move || read_claim(&reading)).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot read {}: this node may get other addresses than before", file.display());
            None
        });
        let (slots, places) = Slots::start(config, before, living, stop).await?;
        let block = slots.block();
        if before != Some(block) {
            let writing = file.clone();
            if let Err(error) = disk::run(move || write_claim(&writing, block)).await {
                tracing::warn!(%error, "cannot write {}: sandboxes may lose their network at a restart", file.display());
            }
        }
        Ok((Self::Slots(slots), places))
    }

    /// A network for a sandbox that may reach what `egress` says.
    pub(crate) async fn take(&self, egress: &Egress) -> Result<Place, SlotError> {
        match self {
            Self::Slots(slots) => slots.take(egress).await.map(Place::Slot),
            Self::Host => Ok(Place::Host),
        }
    }

    /// Ends the source. Networks of sandboxes that live stay.
    pub(crate) async fn shutdown(&self) {
        if let Self::Slots(slots) = self
            && let Err(error) = slots.shutdown().await
        {
            tracing::warn!(error = crate::chain(&error), "cannot remove the packet filter of the network slots");
        }
    }
}

impl Place {
    /// What a runtime is told.
    pub(crate) fn network(&self) -> Network {
        match self {
            Self::Slot(slot) => slot.network(),
            Self::Host => Network::Host(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
        }
    }

    /// What the state file says of it.
    pub(crate) fn slot(&self) -> Option<u32> {
        match self {
            Self::Slot(slot) => Some(slot.index()),
            Self::Host => None,
        }
    }

    /// Gives it back. Nothing of the sandbox runs any more.
    pub(crate) fn release(self) {
        if let Self::Slot(slot) = self {
            slot.release();
        }
    }
}

fn read_claim(file: &Path) -> io::Result<Option<Block>> {
    match fs::read(file) {
        Ok(text) => match serde_json::from_slice::<Claim>(&text)? {
            Claim { version: VERSION, block } => Ok(Some(block)),
            Claim { version, .. } => Err(io::Error::other(format!("it has version {version}, not {VERSION}"))),
        },
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn write_claim(file: &Path, block: Block) -> io::Result<()> {
    let draft = file.with_extension("json.new");
    fs::write(&draft, serde_json::to_vec(&Claim { version: VERSION, block })?)?;
    fs::rename(draft, file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{scratch::Scratch, slots::Cidr};

    #[test]
    fn the_claim_comes_back() {
        let scratch = Scratch::new("networks-claim");
        let file = scratch.path().join("network.json");
        assert_eq!(read_claim(&file).unwrap(), None);
        let block = Cidr::default().blocks().nth(3);
        write_claim(&file, block.unwrap()).unwrap();
        assert_eq!(read_claim(&file).unwrap(), block);
        // As the first version was released.
        fs::write(&file, r#"{"version":1,"block":"10.11.48.0/20"}"#).unwrap();
        assert_eq!(read_claim(&file).unwrap(), block);
        for text in ["", "{}", r#"{"version":2,"block":"10.11.48.0/20"}"#, r#"{"version":1,"block":"10.11.48.0/99"}"#] {
            fs::write(&file, text).unwrap();
            assert!(read_claim(&file).is_err(), "{text}");
        }
    }
}
