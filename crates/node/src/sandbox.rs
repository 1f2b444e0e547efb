//! One run of a sandbox on this node: its rules, its owner, how it comes up, what it says and uses.

pub(crate) mod actor;
mod agent;
pub(crate) mod boot;
pub(crate) mod decide;
mod hits;
pub mod log;
mod sample;
