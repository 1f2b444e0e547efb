//! The real daemon, spoken to as the SDKs do. Each test is named for the fact of the protocol that it checks.

// A test's helpers may fail as loudly as the test.
#![allow(clippy::unwrap_used)]

mod access;
mod daemon;
mod files;
mod filesystem;
mod forwarding;
mod hostile;
mod init;
mod input;
mod process;
mod sandbox;
mod terminal;
mod watching;
