//! `filesystem.Filesystem`: what is where, and what changes. Facts: reference/envd.md §13.
//!
//! Every call works on threads that may block, even the short ones: a file system that hangs must not take the daemon along. As with
//! `/files`, the caller's user decides how paths resolve and who owns what is made, not what is allowed.

mod change;
mod entry;
mod list;
#[cfg(test)]
mod scratch;
mod tree;
mod watch;
mod watchers;

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use atoll_wire::{
    body::Body,
    connect::{self, Call, RpcError},
    filesystem::{
        CreateWatcherRequest, CreateWatcherResponse, GetWatcherEventsRequest, GetWatcherEventsResponse, ListDirRequest, ListDirResponse,
        MakeDirRequest, MakeDirResponse, MoveRequest, MoveResponse, RemoveRequest, RemoveResponse, RemoveWatcherRequest,
        RemoveWatcherResponse, StatRequest, StatResponse, WatchDirRequest,
    },
};
use http::Response;

use self::watch::Watch;
pub use self::watchers::Watchers;
use crate::{paths, state::Context, users::User};

/// Answers a call of `method`; `None` when there is no such method. `keepalive` is how often a quiet stream says that it lives.
pub async fn handle(context: Context, call: Call, keepalive: Duration, method: &str, body: Body) -> Option<Response<Body>> {
    let state = context.state.clone();
    Some(match method {
        "Stat" => {
            let stat = |StatRequest { path }| {
                blocking(move || {
                    let (path, _) = locate(&context, &path)?;
                    Ok(StatResponse { entry: Some(entry::at(&path).map_err(|error| refusal(&path, &error))?) })
                })
            };
            connect::unary(&call, body, stat).await
        }
        "MakeDir" => {
            let make = |MakeDirRequest { path }| {
                blocking(move || {
                    let (path, user) = locate(&context, &path)?;
                    Ok(MakeDirResponse { entry: Some(change::make_directory(&path, &user)?) })
                })
            };
            connect::unary(&call, body, make).await
        }
        "Move" => {
            let rename = |MoveRequest { source, destination }| {
                blocking(move || {
                    let (source, _) = locate(&context, &source)?;
                    let (destination, user) = locate(&context, &destination)?;
                    Ok(MoveResponse { entry: Some(change::rename(&source, &destination, &user)?) })
                })
            };
            connect::unary(&call, body, rename).await
        }
        "Remove" => {
            let remove = |RemoveRequest { path }| blocking(move || change::remove(&locate(&context, &path)?.0).map(|()| RemoveResponse {}));
            connect::unary(&call, body, remove).await
        }
        "ListDir" => {
            let list = |ListDirRequest { path, depth }| {
                blocking(move || Ok(ListDirResponse { entries: list::entries(&locate(&context, &path)?.0, depth.max(1))? }))
            };
            connect::unary(&call, body, list).await
        }
        "WatchDir" => {
            let watch = |request, sink| async move { Watch::arm(context, request).await?.narrate(keepalive, sink).await };
            connect::server_stream(&call, body, watch).await
        }
        "CreateWatcher" => {
            let create = |CreateWatcherRequest { path, recursive, include_entry, allow_network_mounts }| async move {
                let wanted = WatchDirRequest { path, recursive, include_entry, allow_network_mounts };
                Ok(CreateWatcherResponse { watcher_id: state.watchers.add(Watch::arm(context, wanted).await?) })
            };
            connect::unary(&call, body, create).await
        }
        "GetWatcherEvents" => {
            let take = |GetWatcherEventsRequest { watcher_id }| async move {
                Ok(GetWatcherEventsResponse { events: state.watchers.take(&watcher_id)? })
            };
            connect::unary(&call, body, take).await
        }
        "RemoveWatcher" => {
            let remove =
                |RemoveWatcherRequest { watcher_id }| async move { state.watchers.remove(&watcher_id).map(|()| RemoveWatcherResponse {}) };
            connect::unary(&call, body, remove).await
        }
        _ => return None,
    })
}

/// The path that a caller means, and the caller's user.
fn locate(context: &Context, path: &str) -> Result<(PathBuf, User), RpcError> {
    let user = context.user()?;
    let path = paths::resolve(path, &user, context.state.default_workdir().as_deref())
        .map_err(|error| RpcError::invalid_argument(error.to_string()))?;
    Ok((path, user))
}

/// Runs `work` where it may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, RpcError> + Send + 'static) -> Result<T, RpcError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(RpcError::internal("the call could not be completed")))
}

/// What an error at a path is called: not found where nothing is, else internal.
fn refusal(path: &Path, error: &io::Error) -> RpcError {
    let message = format!("'{}': {error}", path.display());
    match error.kind() {
        io::ErrorKind::NotFound => RpcError::not_found(message),
        _ => RpcError::internal(message),
    }
}

/// Twenty random letters and digits.
pub(crate) fn random_id() -> String {
    const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut bytes = [0; 20];
    getrandom::fill(&mut bytes).expect("Linux always has randomness");
    bytes.iter().map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()])).collect()
}
