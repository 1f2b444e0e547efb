//! Samples and log lines on their way into the store, many at a time.

use atoll_store::{Fleet, Level, LogRow, SampleRow};
use atoll_types::SandboxId;
use atoll_wire::node as wire;
use tokio::sync::mpsc;
use tracing::warn;

use crate::error::chain;

const BATCH: usize = 512;

/// Where they wait. When it is full, whoever brings more waits as well, and the node drops what is too much.
pub(super) struct Queue(mpsc::Sender<Item>);

pub(super) enum Item {
    Sample(SandboxId, SampleRow),
    Line(SandboxId, LogRow),
}

pub(super) fn queue() -> (Queue, mpsc::Receiver<Item>) {
    let (sender, receiver) = mpsc::channel(4 * BATCH);
    (Queue(sender), receiver)
}

impl Queue {
    /// Takes a sample; one that makes no sense is dropped.
    pub(super) async fn sample(&self, sample: wire::Sample) {
        let wire::Sample { sandbox_id, at, cpu_count, cpu_used_pct, mem_used, mem_total, mem_cache, disk_used, disk_total } = sample;
        let (Ok(id), Some(at)) = (sandbox_id.parse(), at.and_then(atoll_wire::Timestamp::to_utc)) else { return };
        let cpu_used_pct = if cpu_used_pct.is_finite() { cpu_used_pct } else { 0.0 };
        let row = SampleRow { at, cpu_count, cpu_used_pct, mem_used, mem_total, mem_cache, disk_used, disk_total };
        // The receiver ends only with the whole control plane.
        let _ = self.0.send(Item::Sample(id, row)).await;
    }

    /// Takes a line; one that makes no sense is dropped.
    pub(super) async fn line(&self, line: wire::LogLine) {
        let wire::LogLine { sandbox_id, at, level, message, fields } = line;
        let (Ok(id), Some(at)) = (sandbox_id.parse(), at.and_then(atoll_wire::Timestamp::to_utc)) else { return };
        let level = level.parse().unwrap_or(Level::Info);
        let _ = self.0.send(Item::Line(id, LogRow { at, level, message, fields })).await;
    }
}

/// Stores what comes. What the store refuses is lost: it is not worth holding up the rest.
pub(super) async fn run(fleet: Fleet, mut queue: mpsc::Receiver<Item>) {
    let mut items = Vec::with_capacity(BATCH);
    while queue.recv_many(&mut items, BATCH).await > 0 {
        let (mut samples, mut lines) = (Vec::new(), Vec::new());
        for item in items.drain(..) {
            match item {
                Item::Sample(id, row) => samples.push((id, row)),
                Item::Line(id, row) => lines.push((id, row)),
            }
        }
        for stored in [fleet.record_samples(samples).await, fleet.record_logs(lines).await] {
            if let Err(error) = stored {
                warn!(error = chain(&error), "could not store samples or log lines");
            }
        }
    }
}
