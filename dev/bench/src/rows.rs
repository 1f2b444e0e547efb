//! The rows, by what they are about. Each group can be asked for alone.

pub mod command;
pub mod create;
pub mod crun;
pub mod files;
pub mod memory;
pub mod proxy;
pub mod sdk;
pub mod steps;

use std::time::{Duration, Instant};

/// How long something took.
pub async fn timed<T>(deed: impl Future<Output = T>) -> (T, Duration) {
    let begun = Instant::now();
    let result = deed.await;
    (result, begun.elapsed())
}

/// Whether an attempt succeeded; the first failure of a row is told, the others are counted.
#[derive(Default)]
pub struct Failures(pub u64);

impl Failures {
    pub fn sift<T>(&mut self, result: anyhow::Result<T>) -> Option<T> {
        result
            .inspect_err(|error| {
                if self.0 == 0 {
                    eprintln!("bench: {error:#}");
                }
                self.0 += 1;
            })
            .ok()
    }
}
