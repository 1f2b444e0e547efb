//! The one owner of the table. Whoever changes a member states the wish, then waits until a transaction that contains it is through;
//! wishes that arrive while one is under way share the next.
//!
//! A transaction changes what differs from what the kernel has. When the kernel refuses it, its state is not what we think: then the
//! whole table is stated anew. A slot whose wish failed is no member: failure denies.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use atoll_sys::nft::{self, NftError};

use tracing::warn;

use super::{
    forward,
    policy::{Members, Policy},
};
use crate::chain;

#[derive(Debug)]
pub(super) struct Firewall {
    policy: Policy,
    /// There are rules of ours in the host's own chain.
    passes: bool,
    wanted: Mutex<Wanted>,
    /// The newest wish that the kernel has, and what it came to.
    applied: Arc<tokio::sync::Mutex<Wanted>>,
}

#[derive(Debug, Clone)]
struct Wanted {
    wish: u64,
    members: Members,
}

impl Firewall {
    /// Replaces the table by one with these members. Blocks.
    pub(super) fn install(mut policy: Policy, members: Members) -> Result<Self, NftError> {
        if let Err(refused) = nft::run(&policy.table(&members)) {
            policy.counts = false;
            nft::run(&policy.table(&members))?;
            warn!(
                error = chain(&refused),
                "this kernel does not count connections: one sandbox can use up what the host remembers of them"
            );
        }
        let passes = forward::open(&policy.instance).unwrap_or_else(|e| {
            warn!(error = chain(&e), "could not let sandboxes pass the host's own packet filter; they may not reach the internet");
            false
        });
        let wanted = Wanted { wish: 0, members };
        Ok(Self { policy, passes, applied: Arc::new(wanted.clone().into()), wanted: wanted.into() })
    }

    /// Makes a slot a member, or changes what it may reach.
    pub(super) async fn put(&self, index: u32, internet: bool) -> Result<(), NftError> {
        let wish = self.wish(|members| {
            members.insert(index, internet);
        });
        self.apply(wish).await.inspect_err(|_| {
            self.wish(|members| {
                members.remove(&index);
            });
        })
    }

    /// Makes slots no members.
    pub(super) async fn remove(&self, indexes: &[u32]) -> Result<(), NftError> {
        let wish = self.wish(|members| members.retain(|index, _| !indexes.contains(index)));
        self.apply(wish).await
    }

    /// Removes the table, unless it has members: those live on without us.
    pub(super) async fn uninstall(&self) -> Result<(), NftError> {
        let _idle = self.applied.lock().await;
        if !self.wanted().members.is_empty() {
            return Ok(());
        }
        let (policy, passes) = (self.policy.clone(), self.passes);
        blocking(move || {
            nft::run(&policy.removal())?;
            if passes && let Err(e) = forward::close(&policy.instance) {
                warn!(error = chain(&e), "could not remove our rules from the host's own packet filter");
            }
            Ok(())
        })
        .await
    }

    /// Puts the table back if somebody removed it, as a reload of the host's own rules does; true if so.
    pub(super) async fn restore(&self) -> Result<bool, NftError> {
        let mut applied = self.applied.clone().lock_owned().await;
        let (policy, wanted) = (self.policy.clone(), self.wanted().clone());
        blocking(move || {
            let missing = !nft::tables()?.contains(&policy.instance.table());
            if missing {
                nft::run(&policy.table(&wanted.members))?;
                *applied = wanted;
            }
            Ok(missing)
        })
        .await
    }

    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wish(&self, change: impl FnOnce(&mut Members)) -> u64 {
        let mut wanted = self.wanted();
        change(&mut wanted.members);
        wanted.wish += 1;
        wanted.wish
    }

    async fn apply(&self, wish: u64) -> Result<(), NftError> {
        let mut applied = self.applied.clone().lock_owned().await;
        if applied.wish >= wish {
            return Ok(());
        }
        let (policy, wanted) = (self.policy.clone(), self.wanted().clone());
        // The lock goes along: a caller who stops waiting does not let a second transaction overtake this one.
        blocking(move || {
            let changed = nft::change(&policy.instance.table(), &policy.difference(&applied.members, &wanted.members));
            changed.or_else(|_| nft::run(&policy.table(&wanted.members)).map(drop))?;
            *applied = wanted;
            Ok(())
        })
        .await
    }
}

/// Runs `work` off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, NftError> + Send + 'static) -> Result<T, NftError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|lost| Err(NftError::Start(lost.into())))
}
