//! What is attempted.

mod cgroups;
mod devices;
mod files;
mod forgery;
mod ipc;
mod kernel;
mod mounts;
mod namespaces;
mod network;
mod processes;
mod settings;

use std::{fs, io, net::Ipv4Addr, path::Path};

use crate::{
    outcome::Outcome,
    spec::{Host, Spec},
};

/// What an attempt knows.
pub struct World {
    pub spec: Spec,
    /// What its packets carry.
    pub label: String,
}

/// One attempt.
pub struct Attempt {
    pub name: &'static str,
    pub group: &'static str,
    pub way: Way,
}

/// How it is made, by what it needs to find.
pub enum Way {
    Alone(fn(&World) -> Outcome),
    Host(fn(&World, &Host) -> Outcome),
    Neighbour(fn(&World, Ipv4Addr) -> Outcome),
}

const fn alone(group: &'static str, name: &'static str, run: fn(&World) -> Outcome) -> Attempt {
    Attempt { name, group, way: Way::Alone(run) }
}

const fn host(group: &'static str, name: &'static str, run: fn(&World, &Host) -> Outcome) -> Attempt {
    Attempt { name, group, way: Way::Host(run) }
}

const fn neighbour(group: &'static str, name: &'static str, run: fn(&World, Ipv4Addr) -> Outcome) -> Attempt {
    Attempt { name, group, way: Way::Neighbour(run) }
}

/// All attempts, in the order in which they are made. `docs/security.md` says what holds each.
pub const ATTEMPTS: &[Attempt] = &[
    host("processes", "host-process-list", processes::list),
    host("processes", "host-process-memory", processes::memory),
    host("processes", "host-process-trace", processes::trace),
    host("processes", "host-process-signal", processes::signal),
    host("processes", "host-process-descriptors", processes::descriptors),
    host("processes", "host-process-root", processes::root),
    host("processes", "host-process-namespaces", processes::namespaces),
    alone("processes", "root-of-the-host", processes::identity),
    alone("processes", "real-time-priority", processes::priority),
    alone("processes", "oom-immunity", processes::oom),
    // Alone in its group: meanwhile nobody else gets a process.
    alone("limits", "process-limit", processes::limit),
    host("files", "host-file-by-path", files::by_path),
    host("files", "host-file-by-handle", files::by_handle),
    host("files", "host-file-by-descriptor", files::by_descriptor),
    host("files", "chroot-breakout", files::chroot),
    alone("files", "agent-program", files::agent_program),
    host("devices", "disk-in-dev", devices::disk_in_dev),
    host("devices", "disk-by-mknod", devices::disk_by_mknod),
    host("devices", "disk-by-handle", devices::disk_by_handle),
    alone("devices", "memory-devices", devices::memory),
    alone("devices", "shared-device-nodes", devices::shared),
    alone("kernel", "load-module", kernel::modules),
    alone("kernel", "kexec", kernel::kexec),
    alone("kernel", "reboot", kernel::reboot),
    alone("kernel", "swap", kernel::swap),
    alone("kernel", "accounting", kernel::accounting),
    alone("kernel", "kernel-log", kernel::log),
    alone("kernel", "bpf", kernel::bpf),
    alone("kernel", "perf-events", kernel::perf),
    alone("kernel", "keyring", kernel::keyring),
    host("kernel", "host-key", kernel::host_key),
    alone("kernel", "io-uring", kernel::io_uring),
    alone("kernel", "userfaultfd", kernel::userfaultfd),
    alone("kernel", "fanotify", kernel::fanotify),
    alone("kernel", "io-ports", kernel::io_ports),
    alone("kernel", "32-bit-calls", kernel::foreign_calls),
    alone("kernel", "rare-sockets", kernel::rare_sockets),
    alone("kernel", "clock", kernel::clock),
    alone("kernel", "host-name", kernel::host_name),
    alone("settings", "core-pattern", settings::core_pattern),
    alone("settings", "proc-sys-writes", settings::proc_sys),
    alone("settings", "proc-writes", settings::proc),
    alone("settings", "sys-writes", settings::sys),
    alone("settings", "proc-secrets", settings::proc_secrets),
    alone("settings", "sys-secrets", settings::sys_secrets),
    alone("mounts", "mount", mounts::plain),
    alone("mounts", "bind-mount", mounts::bind),
    alone("mounts", "overlay-mount", mounts::overlay),
    alone("mounts", "proc-mount", mounts::proc),
    alone("mounts", "devtmpfs-mount", mounts::devtmpfs),
    alone("mounts", "remount-writable", mounts::remount),
    alone("mounts", "unmask", mounts::unmask),
    alone("mounts", "detached-mount", mounts::detached),
    alone("mounts", "idmapped-mount", mounts::idmapped),
    alone("mounts", "pivot-root", mounts::pivot),
    alone("namespaces", "user-namespace", namespaces::user),
    alone("namespaces", "mount-in-user-namespace", namespaces::mount_in_user),
    alone("namespaces", "network-in-user-namespace", namespaces::network_in_user),
    alone("namespaces", "other-namespaces", namespaces::others),
    alone("cgroups", "release-agent", cgroups::release_agent),
    alone("cgroups", "release-agent-in-user-namespace", cgroups::release_agent_in_user_namespace),
    alone("cgroups", "cgroup-files", cgroups::files),
    host("ipc", "host-shared-memory", ipc::shared_memory),
    host("ipc", "host-message-queue", ipc::message_queue),
    host("ipc", "host-socket", ipc::socket),
    host("ipc", "host-abstract-socket", ipc::abstract_socket),
    host("network", "host-ports", network::host_ports),
    host("network", "host-datagrams", network::host_datagrams),
    host("network", "host-links", network::host_links),
    alone("network", "daemon-ports", network::daemon_ports),
    neighbour("network", "neighbour-port", network::neighbour_port),
    neighbour("network", "neighbour-agent", network::neighbour_agent),
    neighbour("network", "neighbour-datagrams", network::neighbour_datagrams),
    alone("network", "metadata-service", network::metadata),
    neighbour("network", "sniffing", network::sniff),
    alone("network", "own-address", network::own_address),
    alone("network", "own-routes", network::own_routes),
    alone("network", "own-hardware-address", network::own_hardware_address),
    host("forgery", "host-loopback-by-frame", forgery::loopback),
    neighbour("forgery", "forged-source", forgery::source),
    neighbour("forgery", "forged-hardware-address", forgery::hardware_address),
    neighbour("forgery", "arp-poisoning", forgery::arp),
    host("forgery", "ipv6-link-local", forgery::ipv6),
    host("forgery", "broadcast-and-multicast", forgery::broadcast),
];

/// Files below `dir` for which `found` says something; at most `most` entries are looked at. Links are not followed.
fn walk(dir: &Path, most: usize, found: &mut impl FnMut(&Path) -> Option<String>) -> Vec<String> {
    let (mut queue, mut seen, mut hits) = (vec![dir.to_owned()], 0, Vec::new());
    while let Some(dir) = queue.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            seen += 1;
            if seen > most {
                return hits;
            }
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => queue.push(entry.path()),
                Ok(kind) if kind.is_file() => hits.extend(found(&entry.path())),
                _ => {}
            }
        }
    }
    hits
}

/// The path, if it may be written. What is hidden behind `/dev/null` looks like a file only in its directory.
fn writable(path: &Path) -> Option<String> {
    fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    fs::OpenOptions::new().write(true).open(path).ok().map(|_| path.display().to_string())
}

/// A breach if there are any.
fn none_of(what: &str, hits: &[String]) -> Outcome {
    match hits {
        [] => Outcome::Held(format!("no {what}")),
        [first, ..] => Outcome::Breached(format!("{} {what}, such as {first}", hits.len())),
    }
}

/// A directory of this attempt's own.
fn scratch(world: &World) -> io::Result<std::path::PathBuf> {
    let name: String = world.label.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    let dir = Path::new("/tmp").join(name);
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_attempt_has_its_own_name_and_is_in_the_threat_model() {
        let page = include_str!("../../../docs/security.md");
        let names: BTreeSet<_> = ATTEMPTS.iter().map(|attempt| attempt.name).collect();
        assert_eq!(names.len(), ATTEMPTS.len());
        for name in names {
            assert!(page.contains(&format!("`{name}`")), "docs/security.md does not mention `{name}`");
        }
    }
}
