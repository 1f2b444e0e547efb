//! Time, as a value that is passed in.

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
