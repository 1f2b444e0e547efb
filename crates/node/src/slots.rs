//! Network slots: everything a sandbox needs of the network, made before anybody asks for it.
//!
//! ```text
//!             make                   take                release, drop
//!  free index ────▶ ready (a few) ────────▶ a sandbox's ──────────────▶ being removed ─▶ free, last in line
//! ```
//!
//! A slot is a user namespace, a network namespace owned by it, and a link between that and the host. Descriptors alone hold the
//! namespaces, so a daemon that crashes frees its idle slots by that; those of running sandboxes live on, and the next daemon takes
//! them back by their processes. An index, and with it an address and a range of user ids, is used again only after its link and its
//! place in the packet filter are gone, and after all other free ones.
//!
//! Several daemons share a host: each has a tag that all its interfaces, its table and its locks carry, and a block of addresses.

mod block;
mod claim;
mod firewall;
mod forward;
mod instance;
mod link;
mod policy;
mod start;

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use atoll_runtime::Network;
use atoll_sys::{namespace::Pair, nft::NftError};
use atoll_types::Egress;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

pub use block::{Block, Cidr, CidrError};
use claim::Claim;
use firewall::Firewall;
pub use instance::{Instance, InstanceError};
use start::Prepared;
pub use start::{Living, StartError, leftovers};

use crate::chain;

/// How many slots are made at the same time.
const MAKERS: usize = 4;
/// The wait after a failure to make or remove a slot.
const PAUSE: Duration = Duration::from_secs(1);
/// How often we look whether the packet filter is still there.
const ROUND: Duration = Duration::from_secs(5);

/// What the pool is told at its start.
#[derive(Debug, Clone)]
pub struct SlotsConfig {
    /// The daemon's tag.
    pub instance: Instance,
    /// The addresses that all daemons of the host share out among themselves.
    pub range: Cidr,
    /// How many slots are kept ready.
    pub ready: usize,
    /// Name servers that sandboxes may ask even where they are private.
    pub dns: Vec<IpAddr>,
    /// How long [`Slots::take`] waits for a slot to be made.
    pub patience: Duration,
    /// Where the locks are.
    pub run_dir: PathBuf,
    /// Let everything pass that sandboxes send: only for trying the escape harness.
    pub open: bool,
}

impl SlotsConfig {
    /// The default settings of the daemon with this tag.
    pub fn new(instance: Instance) -> Self {
        Self {
            instance,
            range: Cidr::default(),
            ready: 16,
            dns: Vec::new(),
            patience: Duration::from_secs(10),
            run_dir: PathBuf::from("/run/atoll"),
            open: false,
        }
    }
}

/// Why there is no slot.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// All are taken.
    #[error("all {capacity} network slots are in use")]
    Exhausted {
        /// How many there are.
        capacity: u32,
    },
    /// None became ready in time.
    #[error("no network slot became ready within {} s", .0.as_secs())]
    Late(Duration),
    /// They cannot be made at the moment.
    #[error("network slots cannot be made: {0}")]
    Broken(String),
    /// The packet filter refused it.
    #[error("denying the sandbox the internet")]
    Firewall(#[source] NftError),
    /// The pool is shutting down.
    #[error("the node is shutting down")]
    Stopped,
}

/// The network of one sandbox.
///
/// Dropping it gives it back, except after the pool was told to stop: from then on a sandbox may be meant to outlive the daemon, and
/// only [`Slot::release`] gives back.
#[derive(Debug)]
pub struct Slot {
    index: u32,
    address: Ipv4Addr,
    user_ns: Arc<OwnedFd>,
    net_ns: Arc<OwnedFd>,
    way_back: Option<(mpsc::UnboundedSender<u32>, CancellationToken)>,
    _taken: Option<OwnedSemaphorePermit>,
}

impl Slot {
    /// Its number in the pool; what the next daemon needs to take it back.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The sandbox's address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The network namespace.
    pub fn net_ns(&self) -> &Arc<OwnedFd> {
        &self.net_ns
    }

    /// What a runtime needs to start a machine in it.
    pub fn network(&self) -> Network {
        Network::Slot { user_ns: self.user_ns.clone(), net_ns: self.net_ns.clone(), address: self.address }
    }

    /// Gives it back. Nothing of the sandbox runs any more.
    pub fn release(mut self) {
        if let Some((freed, _)) = self.way_back.take() {
            // The receiver ends after the last slot is back, or with the process.
            let _ = freed.send(self.index);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some((freed, stop)) = self.way_back.take()
            && !stop.is_cancelled()
        {
            let _ = freed.send(self.index);
        }
    }
}

/// The pool of slots; cheap to clone.
#[derive(Debug, Clone)]
pub struct Slots(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    config: SlotsConfig,
    block: Block,
    firewall: Firewall,
    /// One permit for each index that nobody has.
    vacant: Arc<Semaphore>,
    ready: tokio::sync::Mutex<mpsc::Receiver<Slot>>,
    freed: mpsc::UnboundedSender<u32>,
    /// Why making the last slot failed, if it did.
    trouble: Mutex<Option<String>>,
    stop: CancellationToken,
    /// The tasks that end with `stop`.
    makers: TaskTracker,
    /// Ends the remover, once it has removed everything handed to it.
    last: CancellationToken,
    remover: TaskTracker,
    claims: Mutex<Vec<Claim>>,
}

impl Slots {
    /// Claims addresses, removes what a crashed daemon with our tag left, and starts to make slots until `stop`.
    ///
    /// `block` is what [`Slots::block`] said before; the slots of `living` sandboxes come back by their indexes. Those whose process or
    /// link is gone do not.
    pub async fn start(
        config: SlotsConfig,
        block: Option<Block>,
        living: Vec<Living>,
        stop: CancellationToken,
    ) -> Result<(Self, HashMap<u32, Slot>), StartError> {
        let prepare = move || Prepared::new(config, block, living);
        let lost = |lost: tokio::task::JoinError| StartError::Survey(lost.into());
        let Prepared { config, block, firewall, claims, living } = tokio::task::spawn_blocking(prepare).await.map_err(lost)??;

        let (freed, to_remove) = mpsc::unbounded_channel();
        let (free, to_make) = mpsc::unbounded_channel();
        let (made, ready) = mpsc::channel(config.ready.max(1));
        for index in (0..block.capacity()).filter(|index| !living.contains_key(index)) {
            // Its receiver is at hand.
            let _ = free.send(index);
        }
        let pool = Arc::new(Pool {
            config,
            block,
            firewall,
            vacant: Arc::new(Semaphore::new(block.capacity() as usize)),
            ready: tokio::sync::Mutex::new(ready),
            freed,
            trouble: Mutex::default(),
            stop,
            makers: TaskTracker::new(),
            last: CancellationToken::new(),
            remover: TaskTracker::new(),
            claims: Mutex::new(claims),
        });
        let living = living.into_iter().map(|(index, pair)| {
            let mut slot = pool.slot(index, pair);
            slot._taken = pool.vacant.clone().try_acquire_owned().ok();
            (index, slot)
        });
        let living = living.collect();
        let to_make = Arc::new(tokio::sync::Mutex::new(to_make));
        for _ in 0..MAKERS {
            pool.makers.spawn(pool.clone().make(to_make.clone(), made.clone()));
        }
        pool.makers.spawn(pool.clone().guard());
        pool.remover.spawn(pool.clone().remove(to_remove, free));
        Ok((Self(pool), living))
    }

    /// The addresses that are ours; to be given to the next [`Slots::start`].
    pub fn block(&self) -> Block {
        self.0.block
    }

    /// A slot for a sandbox that may reach what `egress` says.
    pub async fn take(&self, egress: &Egress) -> Result<Slot, SlotError> {
        let pool = &self.0;
        let permit = pool.vacant.clone().try_acquire_owned().map_err(|_| SlotError::Exhausted { capacity: pool.block.capacity() })?;
        let next = async {
            tokio::select! { () = pool.stop.cancelled() => None, slot = async { pool.ready.lock().await.recv().await } => slot }
        };
        let mut slot = match timeout(pool.config.patience, next).await {
            Ok(slot) => slot.ok_or(SlotError::Stopped)?,
            Err(_) => return Err(pool.trouble().clone().map_or(SlotError::Late(pool.config.patience), SlotError::Broken)),
        };
        slot._taken = Some(permit);
        if !egress.internet
            && let Err(e) = pool.firewall.put(slot.index, false).await
        {
            slot.release();
            return Err(SlotError::Firewall(e));
        }
        Ok(slot)
    }

    /// Stops, removes the slots that no sandbox has, and, if none is left, the packet filter. Sandboxes that live keep their network.
    pub async fn shutdown(&self) -> Result<(), NftError> {
        let pool = &self.0;
        pool.stop.cancel();
        pool.makers.close();
        pool.makers.wait().await;
        let mut ready = pool.ready.lock().await;
        while let Ok(slot) = ready.try_recv() {
            slot.release();
        }
        pool.last.cancel();
        pool.remover.close();
        pool.remover.wait().await;
        pool.firewall.uninstall().await?;
        pool.claims.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(())
    }
}

impl Pool {
    fn slot(&self, index: u32, pair: Pair) -> Slot {
        Slot {
            index,
            address: self.block.sandbox(index),
            user_ns: Arc::new(pair.user),
            net_ns: Arc::new(pair.net),
            way_back: Some((self.freed.clone(), self.stop.clone())),
            _taken: None,
        }
    }

    fn trouble(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(&self, index: u32) {
        // The remover, who receives it, ends only after the makers.
        let _ = self.freed.send(index);
    }

    /// Keeps slots ready.
    async fn make(self: Arc<Self>, indexes: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<u32>>>, ready: mpsc::Sender<Slot>) {
        loop {
            let next = async { Some((ready.reserve().await.ok()?, indexes.lock().await.recv().await?)) };
            let Some(Some((place, index))) = self.stop.run_until_cancelled(next).await else { return };
            match self.make_one(index).await {
                Ok(slot) => {
                    *self.trouble() = None;
                    place.send(slot);
                }
                Err(trouble) => {
                    warn!(slot.index = index, error = trouble, "could not make network slot {index}");
                    *self.trouble() = Some(trouble);
                    self.stop.run_until_cancelled(sleep(PAUSE)).await;
                }
            }
        }
    }

    /// Makes one slot; on failure its index goes the way of those that come back.
    async fn make_one(&self, index: u32) -> Result<Slot, String> {
        let (instance, block) = (self.config.instance.clone(), self.block);
        let made = tokio::task::spawn_blocking(move || link::make(&instance, block, index)).await;
        let made = made.map_err(|lost| lost.to_string()).and_then(|made| made.map_err(|e| chain(&e)));
        let pair = made.inspect_err(|_| self.give_back(index))?;
        let slot = self.slot(index, pair);
        match self.firewall.put(index, true).await {
            Ok(()) => Ok(slot),
            Err(e) => {
                slot.release();
                Err(chain(&e))
            }
        }
    }

    /// Sees to it that the packet filter stays.
    async fn guard(self: Arc<Self>) {
        while self.stop.run_until_cancelled(sleep(ROUND)).await.is_some() {
            match self.firewall.restore().await {
                Ok(false) => {}
                Ok(true) => warn!("somebody removed the packet filter of the sandboxes; it is back"),
                Err(e) => warn!(error = chain(&e), "could not see to the packet filter of the sandboxes"),
            }
        }
    }

    /// Removes the slots that come back, as many at once as there are, until the pool stops and all are removed.
    async fn remove(self: Arc<Self>, mut freed: mpsc::UnboundedReceiver<u32>, free: mpsc::UnboundedSender<u32>) {
        let mut left: Vec<u32> = Vec::new();
        loop {
            tokio::select! {
                biased;
                Some(index) = freed.recv() => left.push(index),
                () = sleep(PAUSE), if !left.is_empty() => {}
                () = self.last.cancelled() => return,
            }
            while let Ok(index) = freed.try_recv() {
                left.push(index);
            }
            let (instance, batch) = (self.config.instance.clone(), std::mem::take(&mut left));
            let unmade = tokio::task::spawn_blocking(move || {
                let is_gone = |index: &u32| match link::unmake(&instance, *index) {
                    Ok(()) => true,
                    Err(e) => {
                        warn!(slot.index = index, error = chain(&e), "could not remove network slot {index}; trying again");
                        false
                    }
                };
                batch.into_iter().partition::<Vec<_>, _>(is_gone)
            });
            let Ok((gone, stuck)) = unmade.await else { return };
            left = stuck;
            match self.firewall.remove(&gone).await {
                Ok(()) => {
                    for index in gone {
                        // The makers, who receive it, end only when the pool does.
                        let _ = free.send(index);
                    }
                }
                Err(e) => {
                    warn!(error = chain(&e), "could not remove network slots from the packet filter; trying again");
                    left.extend(gone);
                }
            }
        }
    }
}
