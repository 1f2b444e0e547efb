//! The proxy between real sockets: a client's on one side, a guest's on the other.

// Everything here is test code, but only the functions marked `#[test]` are known as such.
#![allow(clippy::unwrap_used)]

mod identity;
mod refusals;
mod reuse;
mod routing;
mod streams;
mod support;
mod tunnels;
