//! Work that waits for a disk, away from the threads that serve.

use std::io;

/// Runs `work` where blocking is allowed.
pub(crate) async fn run<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
