//! Descriptors that tell the runtime when they are ready.

use std::{fs::File, io, os::fd::OwnedFd};

use tokio::io::{Interest, unix::AsyncFd};

/// Hands a descriptor that does not block to the runtime this is called in.
pub fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<File>> {
    // SAFETY: a file owns its descriptor, keeps it for as long as it lives, and always tells the same one; nobody else can close it.
    unsafe { AsyncFd::register_with_interest(File::from(fd), interest) }.map_err(io::Error::from)
}
