//! `GET /metrics`: what the machine uses, seen from inside.

use std::{fs, io, path::Path, sync::PoisonError, thread::available_parallelism};

use atoll_wire::{
    body::{self, Body},
    envd::Metrics,
};
use chrono::Utc;
use http::{Response, StatusCode};

use crate::{log, state::State};

const MIB: u64 = 1 << 20;

/// Processor time since boot, in ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Processor {
    busy: u64,
    total: u64,
}

impl Processor {
    /// What the kernel has counted; zeros where it does not tell.
    pub fn now() -> Self {
        fs::read_to_string("/proc/stat").map(|text| Self::parse(&text)).unwrap_or_default()
    }

    /// Guest time is part of user time, so only the first eight numbers count; of these, idle and iowait are not busy.
    fn parse(text: &str) -> Self {
        let numbers = text.lines().next().and_then(|line| line.strip_prefix("cpu ")).unwrap_or_default();
        let numbers: Vec<u64> = numbers.split_whitespace().take(8).filter_map(|n| n.parse().ok()).collect();
        let total = numbers.iter().fold(0u64, |sum, n| sum.saturating_add(*n));
        let idle = numbers.iter().skip(3).take(2).fold(0u64, |sum, n| sum.saturating_add(*n));
        Self { busy: total - idle, total }
    }

    /// Percent that was busy since `before`, with two decimals.
    fn busy_since(self, before: Self) -> f64 {
        let total = self.total.saturating_sub(before.total);
        let busy = self.busy.saturating_sub(before.busy);
        if total == 0 { 0.0 } else { (busy as f64 / total as f64 * 10_000.0).round().clamp(0.0, 10_000.0) / 100.0 }
    }
}

/// The answer to `GET /metrics`.
pub fn answer(state: &State) -> Response<Body> {
    match collect(state) {
        Ok(metrics) => body::json(StatusCode::OK, &metrics),
        Err(error) => {
            log::error("envd", "cannot read the metrics", &[("error", &error)]);
            body::status(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

fn collect(state: &State) -> io::Result<Metrics> {
    let memory = fs::read_to_string("/proc/meminfo")?;
    let (mem_total, mem_available) = (memory_field(&memory, "MemTotal"), memory_field(&memory, "MemAvailable"));
    let mem_used = mem_total.saturating_sub(mem_available);
    let disk = atoll_sys::machine::disk(Path::new("/"))?;
    let now = Processor::now();
    let before = std::mem::replace(&mut *state.processor.lock().unwrap_or_else(PoisonError::into_inner), now);
    Ok(Metrics {
        ts: Utc::now().timestamp(),
        cpu_count: available_parallelism().map_or(1, |n| n.get().try_into().unwrap_or(u32::MAX)),
        cpu_used_pct: now.busy_since(before),
        mem_total,
        mem_used,
        mem_cache: memory_field(&memory, "Cached").saturating_add(memory_field(&memory, "SReclaimable")),
        mem_total_mib: mem_total / MIB,
        mem_used_mib: mem_used / MIB,
        disk_total: disk.total,
        disk_used: disk.used,
    })
}

/// A field of `/proc/meminfo`, in bytes; zero where there is none.
fn memory_field(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.and_then(|v| v.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()).unwrap_or_default().saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_time_idle_and_iowait_are_not_busy() {
        let before = Processor::parse("cpu  100 0 50 800 50 0 0 0 7 0\ncpu0 1 1\n");
        assert_eq!(before, Processor { busy: 150, total: 1000 });
        let after = Processor::parse("cpu  200 0 50 1000 50 0 0 0 99 0\n");
        assert_eq!(after.busy_since(before), 33.33);
        assert_eq!(before.busy_since(after), 0.0);
    }

    #[test]
    fn nonsense_counts_as_nothing() {
        for text in ["", "cpu", "cpu x y", "intr 1 2 3", "cpu  18446744073709551615 18446744073709551615 1 1 1"] {
            assert!(Processor::parse(text).busy_since(Processor::default()) <= 100.0, "{text:?}");
        }
        assert_eq!(memory_field("MemTotal: x kB\nCached: 18446744073709551615 kB", "Cached"), u64::MAX);
        assert_eq!(memory_field("MemTotal: x kB", "MemTotal"), 0);
    }

    #[test]
    fn memory_is_told_in_bytes() {
        let text = "MemTotal:       24683612 kB\nSwapCached:  5 kB\nCached:          1000 kB\n";
        assert_eq!((memory_field(text, "MemTotal"), memory_field(text, "Cached")), (24_683_612 * 1024, 1000 * 1024));
    }
}
