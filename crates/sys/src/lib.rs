//! Linux, safely: all `unsafe` of the project is in this room, and everything it returns is an owned descriptor, a guard or a plain
//! value.

pub mod cgroup;
pub mod fs;
pub mod inotify;
pub mod launch;
pub mod listeners;
pub mod loop_device;
pub mod machine;
pub mod memory;
pub mod mount;
pub mod namespace;
pub mod netlink;
pub mod nft;
pub mod pidfd;
pub mod process;
pub mod protection;
pub mod pty;
pub mod raw;
pub mod readiness;
pub mod seccomp;
pub mod xattr;
