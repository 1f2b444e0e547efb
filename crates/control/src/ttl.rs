//! How long sandboxes run: from what a client asks to a deadline. Facts: reference/rest-api.md §5.3.

use std::time::Duration;

use atoll_types::{Timestamp, after};

/// When a client does not say.
pub(crate) const DEFAULT: Duration = Duration::from_secs(15);
/// The same in the second version of an operation.
pub(crate) const DEFAULT_V2: Duration = Duration::from_secs(300);
/// The longest prolongation by one refresh, in seconds.
pub(crate) const MAX_REFRESH: i32 = 3600;

/// Why there is no deadline.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TtlError {
    #[error("timeout: expected at least {least}, got {got}")]
    TooShort { least: i32, got: i32 },
    #[error("timeout: {got} s is longer than the {max} s that a sandbox of this team may run")]
    TooLong { got: i32, max: u64 },
    #[error("duration: expected 0 to {MAX_REFRESH}, got {0}")]
    Refresh(i32),
    #[error("the sandbox has run for the {max} s that a sandbox of this team may run; its end cannot be moved")]
    Exhausted { max: u64 },
}

/// How long a new sandbox runs.
pub(crate) fn of_new(timeout: Option<i32>, default: Duration, max: Duration) -> Result<Duration, TtlError> {
    match timeout {
        None => Ok(default.min(max)),
        Some(timeout) => bounded(timeout, 1, max),
    }
}

/// How far `/connect` prolongs a run.
pub(crate) fn of_connect(timeout: i32, max: Duration) -> Result<Duration, TtlError> {
    bounded(timeout, 0, max)
}

/// How far `/timeout` sets the end; what is too long is cut later.
pub(crate) fn of_timeout(timeout: i32) -> Result<Duration, TtlError> {
    bounded(timeout, 0, Duration::MAX)
}

/// How far `/refreshes` prolongs a run.
pub(crate) fn of_refresh(duration: Option<i32>) -> Result<Duration, TtlError> {
    match duration {
        Some(duration @ 0..=MAX_REFRESH) => Ok(Duration::from_secs(duration.unsigned_abs().into()).max(DEFAULT)),
        Some(duration) => Err(TtlError::Refresh(duration)),
        None => Ok(DEFAULT),
    }
}

fn bounded(timeout: i32, least: i32, max: Duration) -> Result<Duration, TtlError> {
    let seconds = u64::try_from(timeout).ok().filter(|_| timeout >= least);
    let length = Duration::from_secs(seconds.ok_or(TtlError::TooShort { least, got: timeout })?);
    if length <= max { Ok(length) } else { Err(TtlError::TooLong { got: timeout, max: max.as_secs() }) }
}

/// Moves the end to `length` from now, also nearer, and never beyond the longest run.
pub(crate) fn set(now: Timestamp, started: Timestamp, length: Duration, max: Duration) -> Result<Timestamp, TtlError> {
    let last = after(started, max);
    if now >= last { Err(TtlError::Exhausted { max: max.as_secs() }) } else { Ok(after(now, length).min(last)) }
}

/// Moves the end to `length` from now if that is later, and never beyond the longest run.
pub(crate) fn extend(now: Timestamp, started: Timestamp, current: Timestamp, length: Duration, max: Duration) -> Timestamp {
    after(now, length).min(after(started, max)).max(current)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_timestamp(1_700_000_000 + seconds, 0).unwrap()
    }

    #[test]
    fn what_clients_may_ask() {
        assert_eq!(of_new(None, DEFAULT, HOUR), Ok(DEFAULT));
        assert_eq!(of_new(Some(3600), DEFAULT, HOUR), Ok(HOUR));
        assert_eq!(of_new(Some(3601), DEFAULT, HOUR), Err(TtlError::TooLong { got: 3601, max: 3600 }));
        for bad in [0, -1, i32::MIN] {
            assert!(of_new(Some(bad), DEFAULT, HOUR).is_err());
        }
        assert_eq!(of_connect(0, HOUR), Ok(Duration::ZERO));
        assert!(of_connect(-1, HOUR).is_err() && of_connect(3601, HOUR).is_err());
        assert_eq!(of_timeout(i32::MAX), Ok(Duration::from_secs(2_147_483_647)));
        assert!(of_timeout(-1).is_err());
        assert_eq!((of_refresh(None), of_refresh(Some(0)), of_refresh(Some(16))), (Ok(DEFAULT), Ok(DEFAULT), Ok(Duration::from_secs(16))));
        assert!(of_refresh(Some(3601)).is_err() && of_refresh(Some(-1)).is_err());
    }

    proptest! {
        #[test]
        fn set_moves_both_ways_within_the_longest_run(age in 0i64..7200, length in 0u64..100_000) {
            let length = Duration::from_secs(length);
            match set(at(age), at(0), length, HOUR) {
                Ok(end) => {
                    prop_assert!(age < 3600 && end <= at(3600));
                    prop_assert!(end == at(age) + length || end == at(3600));
                }
                Err(_) => prop_assert!(age >= 3600),
            }
        }

        #[test]
        fn extend_never_shortens(age in 0i64..7200, left in 0i64..7200, length in 0u64..100_000) {
            let current = at(age + left);
            let end = extend(at(age), at(0), current, Duration::from_secs(length), HOUR);
            prop_assert!(end >= current);
            prop_assert!(end == current || end <= at(3600));
        }
    }
}
