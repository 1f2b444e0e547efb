//! What a sandbox uses: the engine's view of processor and memory, `envd`'s view of the disk.
//!
//! Processor and memory come from outside because inside a container `/proc` shows the host, and because a sandbox cannot lie
//! about them.

use std::time::Instant;

use atoll_runtime::Usage;
use atoll_types::{Resources, SandboxId, Timestamp};
use atoll_wire::{envd::Metrics, node as wire};

/// Turns measurements into samples.
pub(crate) struct Sampler {
    resources: Resources,
    before: (Instant, u64),
    disk: (u64, u64),
}

impl Sampler {
    /// Begins to measure now.
    pub(crate) fn new(resources: Resources, usage: Usage, now: Instant) -> Self {
        Self { resources, before: (now, usage.cpu_usec), disk: (0, u64::from(resources.disk_mib) << 20) }
    }

    /// The sample of the time since the last one. Where `envd` does not answer, the disk stays as it was.
    pub(crate) fn sample(&mut self, id: &SandboxId, usage: Usage, envd: Option<Metrics>, now: Instant, at: Timestamp) -> wire::Sample {
        if let Some(metrics) = envd {
            self.disk = (metrics.disk_used.min(metrics.disk_total), metrics.disk_total);
        }
        let (then, cpu_then) = std::mem::replace(&mut self.before, (now, usage.cpu_usec));
        let allotted = now.duration_since(then).as_micros() as f64 * f64::from(self.resources.cpu_count.max(1));
        let used = usage.cpu_usec.saturating_sub(cpu_then) as f64;
        let percent = if allotted > 0.0 { (100.0 * used / allotted).min(100.0) } else { 0.0 };
        let mem_total = u64::from(self.resources.memory_mib) << 20;
        wire::Sample {
            sandbox_id: id.to_string(),
            at: Some(at.into()),
            cpu_count: self.resources.cpu_count,
            cpu_used_pct: (percent * 100.0).round() / 100.0,
            mem_used: usage.memory_bytes.saturating_sub(usage.cache_bytes).min(mem_total),
            mem_total,
            mem_cache: usage.cache_bytes.min(mem_total),
            disk_used: self.disk.0,
            disk_total: self.disk.1,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn relates_use_to_what_is_allotted() {
        let resources = Resources { cpu_count: 2, memory_mib: 100, disk_mib: 10, pids: 10 };
        let (id, start, at) = ("i1".parse().unwrap(), Instant::now(), "2026-01-01T00:00:00Z".parse().unwrap());
        let usage = |cpu_usec, memory_bytes, cache_bytes| Usage { cpu_usec, memory_bytes, cache_bytes, ..Usage::default() };
        let mut sampler = Sampler::new(resources, usage(1_000, 0, 0), start);

        let disk = Metrics { disk_used: 3, disk_total: 7, mem_total: 1 << 40, cpu_used_pct: f64::NAN, ..Metrics::default() };
        let sample = sampler.sample(&id, usage(1_001_000, 60 << 20, 20 << 20), Some(disk), start + Duration::from_secs(1), at);
        assert_eq!((sample.cpu_count, sample.cpu_used_pct), (2, 50.0));
        assert_eq!((sample.mem_used, sample.mem_total, sample.mem_cache), (40 << 20, 100 << 20, 20 << 20));
        assert_eq!((sample.disk_used, sample.disk_total), (3, 7));

        // No time, counters that go back, more than there is: still a number between the limits.
        let sample = sampler.sample(&id, usage(0, 1 << 40, 2 << 40), None, start + Duration::from_secs(1), at);
        assert_eq!((sample.cpu_used_pct, sample.mem_used, sample.mem_cache), (0.0, 0, 100 << 20));
        assert_eq!((sample.disk_used, sample.disk_total), (3, 7));
        let sample = sampler.sample(&id, usage(u64::MAX, 0, 0), None, start + Duration::from_secs(2), at);
        assert_eq!(sample.cpu_used_pct, 100.0);
    }
}
