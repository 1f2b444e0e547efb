//! `atolld doctor`: what this host has and lacks, with the command that helps.

use std::{
    fs,
    io::{IsTerminal as _, stdout},
    net::TcpListener,
    path::Path,
};

use atoll_runtime::container;
use serde::Serialize;

use crate::{
    bootstrap::{self, find_program},
    config::{Config, RuntimeKind, Source},
    data, print,
};

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// What.
    pub what: String,
    /// Whether it is as it should be.
    pub ok: bool,
    /// Without it Atoll does not start, or must not.
    pub required: bool,
    /// Why it matters.
    pub why: String,
    /// What to do about it; empty when all is well.
    pub fix: String,
}

const MEMORY_WANTED_MIB: u64 = 1024;
const SPACE_WANTED: u64 = 4 << 30;

/// Looks at everything. While the daemon of this data directory runs, its addresses are as they should be.
pub fn examine(config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut look = |ok: bool, required, what: String, why: &str, fix: &str| {
        let fix = if ok { "" } else { fix };
        found.push(Finding { what, ok, required, why: why.into(), fix: fix.into() });
    };
    let runs = data::is_used(&config.data_dir);
    let tls = Some(("tls.listen", config.tls.listen)).filter(|_| !config.tls.domain.is_empty());
    for (setting, address) in [("api.listen", config.api.listen), ("proxy.listen", config.proxy.listen)].into_iter().chain(tls) {
        let why = "clients connect there";
        let fix = format!("stop what listens there, or give {setting} another address");
        match runs {
            true => look(true, true, format!("address {address} of the daemon that runs with {}", config.data_dir.display()), why, ""),
            false => look(TcpListener::bind(address).is_ok(), true, format!("address {address} free"), why, &fix),
        }
    }
    let layer_there = bootstrap::is_ready(&config.cache_dir, &config.template.base);
    if config.node.runtime == RuntimeKind::Container && config.template.base.sources.contains(&Source::Debootstrap) && !layer_there {
        let why = "it makes the base template at the first start";
        for program in ["mmdebstrap", "unshare"] {
            let package = if program == "unshare" { "util-linux" } else { program };
            look(find_program(program).is_some(), true, format!("program {program}"), why, &format!("apt-get install {package}"));
        }
        let why = "without it the first start waits for the disk";
        look(find_program("eatmydata").is_some(), false, "program eatmydata".into(), why, "apt-get install eatmydata");
    }
    for (dir, what) in [(&config.data_dir, "data"), (&config.cache_dir, "cache")] {
        let free = free_space(dir);
        let fix = format!("free some space, or set {what}_dir to another disk");
        let what = format!("{} GiB free for {} ({} GiB wanted)", free >> 30, dir.display(), SPACE_WANTED >> 30);
        look(free >= SPACE_WANTED, false, what, "templates and the files of sandboxes live there", &fix);
    }
    let memory = available_memory_mib();
    let what = format!("{memory} MiB of memory available ({MEMORY_WANTED_MIB} MiB wanted)");
    look(memory >= MEMORY_WANTED_MIB, false, what, "a sandbox may use 1024 MiB unless its template says otherwise", "add memory");
    let disabled = &config.danger.disable;
    let what = match disabled.is_empty() {
        true => "all protections of the host are on".into(),
        false => format!("protections of the host are off: {}", disabled.names()),
    };
    let why = "code in a sandbox can harm this host";
    look(disabled.is_empty(), true, what, why, "remove danger.disable from the settings (or ATOLL_DANGER_DISABLE from the environment)");
    if config.node.runtime == RuntimeKind::Container {
        for capability in container::probe(existing(&config.data_dir)) {
            let container::Capability { what, there, why, fix, fatal } = capability;
            look(there, fatal, what, why, fix);
        }
    }
    found
}

/// Prints the findings; whether Atoll can start.
pub fn report(findings: &[Finding], json: bool) -> anyhow::Result<bool> {
    let missing = findings.iter().filter(|finding| !finding.ok && finding.required).count();
    let mut text = String::new();
    if json {
        text = serde_json::to_string_pretty(findings)? + "\n";
    } else {
        let coloured = stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        for Finding { what, ok, required, why, fix } in findings {
            let (word, colour) = match (ok, required) {
                (true, _) => ("ok", 32),
                (false, true) => ("MISSING", 31),
                (false, false) => ("advice", 33),
            };
            let word = if coloured { format!("\x1b[{colour}m{word:<7}\x1b[0m") } else { format!("{word:<7}") };
            match ok {
                true => text += &format!("{word}  {what}\n"),
                false => text += &format!("{word}  {what}\n         why: {why}\n         fix: {fix}\n"),
            }
        }
        text += &match (missing, findings.iter().filter(|finding| !finding.ok).count() - missing) {
            (0, 0) => "\nAtoll can run here.\n".into(),
            (0, advice) => format!("\nAtoll can run here; it would do better with {advice} of the above.\n"),
            (missing, _) => format!("\nAtoll cannot run here: {missing} of the above must be put right first.\n"),
        };
    }
    print(&text)?;
    Ok(missing == 0)
}

/// The nearest directory above that is there.
fn existing(dir: &Path) -> &Path {
    dir.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/"))
}

fn free_space(dir: &Path) -> u64 {
    rustix::fs::statvfs(existing(dir)).map_or(0, |space| space.f_bavail * space.f_frsize)
}

fn available_memory_mib() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) >> 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_found_and_fails_the_examination() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut config = Config::defaults();
        config.node.runtime = RuntimeKind::Sim;
        config.api.listen = taken.local_addr().unwrap();
        config.proxy.listen = "127.0.0.1:0".parse().unwrap();
        let findings = examine(&config);
        let bad: Vec<_> = findings.iter().filter(|finding| !finding.ok && finding.required).collect();
        assert_eq!(bad.len(), 1, "{bad:?}");
        assert!(bad[0].fix.contains("api.listen"));
        assert!(!report(&findings, true).unwrap());
        config.api.listen.set_port(0);
        assert!(report(&examine(&config), false).unwrap());
    }
}
