//! One watched directory, as a service tells of it.

use std::{
    fmt::Display,
    fs,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use atoll_sys::inotify::Inotify;
use atoll_wire::{
    connect::{RpcError, Sink},
    filesystem::{
        EventType, FilesystemEvent, WatchDirRequest, WatchDirResponse,
        watch_dir_response::{Event, KeepAlive, StartEvent},
    },
};
use tokio::time::timeout;

use super::{
    blocking, entry, locate, refusal,
    tree::{Change, Tree, join},
};
use crate::{state::Context, users::Accounts};

/// File systems on which others change files without this kernel seeing it: NFS, CIFS, SMB, SMB2 and FUSE.
const REMOTE: [u32; 5] = [0x6969, 0xff53_4d42, 0x517b, 0xfe53_4d42, 0x6573_5546];

/// A watch that is armed: nothing that happens from now on is missed.
pub struct Watch {
    queue: Arc<Inotify>,
    /// Shared with the thread that works on it; there is never more than one.
    tree: Arc<Mutex<Tree>>,
    include_entry: bool,
}

impl Watch {
    /// Checks the directory that is meant, and watches it.
    pub async fn arm(context: Context, request: WatchDirRequest) -> Result<Self, RpcError> {
        let WatchDirRequest { path, recursive, include_entry, allow_network_mounts } = request;
        let tree = blocking(move || {
            let (root, _) = locate(&context, &path)?;
            check(&root, allow_network_mounts)?;
            Tree::arm(root, recursive).map_err(internal)
        })
        .await?;
        Ok(Self { queue: tree.inotify().clone(), tree: Arc::new(Mutex::new(tree)), include_entry })
    }

    /// The next events, some of them at least; `None` when there are none for so long. Not to be dropped half-way: what it took from the
    /// queue would be lost.
    pub async fn events(&self, patience: Duration) -> Result<Option<Vec<FilesystemEvent>>, RpcError> {
        let Ok(events) = timeout(patience, self.queue.next()).await else { return Ok(None) };
        let events = events.map_err(internal)?;
        let (tree, include_entry) = (self.tree.clone(), self.include_entry);
        let told = blocking(move || {
            let mut tree = tree.lock().unwrap_or_else(PoisonError::into_inner);
            let changes = tree.absorb(&events).map_err(internal)?;
            Ok(tell(changes, tree.root(), include_entry))
        });
        told.await.map(Some)
    }

    /// Sends everything that happens, until the client goes or watching fails.
    pub async fn narrate(self, keepalive: Duration, mut sink: Sink<WatchDirResponse>) -> Result<(), RpcError> {
        let message = |event| WatchDirResponse { event: Some(event) };
        sink.send(message(Event::Start(StartEvent {}))).await;
        loop {
            match self.events(keepalive).await? {
                None => sink.send(message(Event::Keepalive(KeepAlive {}))).await,
                Some(events) => {
                    for event in events {
                        sink.send(message(Event::Filesystem(event))).await;
                    }
                }
            }
        }
    }
}

fn check(root: &Path, allow_network_mounts: bool) -> Result<(), RpcError> {
    let shown = root.display();
    if !fs::metadata(root).map_err(|error| refusal(root, &error))?.is_dir() {
        return Err(RpcError::invalid_argument(format!("path '{shown}' is not a directory")));
    }
    let magic = atoll_sys::fs::magic(root).map_err(|error| refusal(root, &error))?;
    if REMOTE.contains(&magic) && !allow_network_mounts {
        return Err(RpcError::invalid_argument(format!("path '{shown}' is on a network mount: changes made elsewhere are not seen")));
    }
    Ok(())
}

fn tell(changes: Vec<Change>, root: &Path, include_entry: bool) -> Vec<FilesystemEvent> {
    let accounts = if include_entry { Accounts::read() } else { Accounts::default() };
    let event = |Change { place, kind }: Change| {
        let path = join(root, &place);
        let described = include_entry && matches!(kind, EventType::Create | EventType::Write | EventType::Chmod);
        FilesystemEvent {
            name: if place.as_os_str().is_empty() { ".".into() } else { place.to_string_lossy().into_owned() },
            r#type: kind.into(),
            // What went meanwhile cannot be described.
            entry: described.then(|| entry::describe(&path, &path, &accounts).ok()).flatten(),
        }
    };
    changes.into_iter().map(event).collect()
}

fn internal(error: impl Display) -> RpcError {
    RpcError::internal(error.to_string())
}
