//! Time, as a value that is passed in, and how much of it steps take.

use std::time::{Duration, Instant};

/// A moment in UTC.
pub type Timestamp = chrono::DateTime<chrono::Utc>;

/// Where the time comes from, so that tests can say what time it is.
pub trait Clock: Send + Sync + 'static {
    /// The moment now.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        chrono::Utc::now()
    }
}

/// That much later, or the end of the calendar.
pub fn after(at: Timestamp, length: Duration) -> Timestamp {
    chrono::TimeDelta::from_std(length).ok().and_then(|length| at.checked_add_signed(length)).unwrap_or(Timestamp::MAX_UTC)
}

/// Takes the time of steps that follow each other. Who takes it logs it at level `debug` for the target `atoll_steps`, in fields that
/// end in `_us`; the benchmark reads them.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// The first step begins.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Microseconds that the step took; the next one begins.
    pub fn lap(&mut self) -> u64 {
        let before = std::mem::replace(&mut self.0, Instant::now());
        (self.0 - before).as_micros() as u64
    }
}
