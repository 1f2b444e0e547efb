//! What a download's conditional headers and its range ask for. Files have no entity tags, only a time of change.

use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, NaiveDateTime, Utc};
use http::{HeaderMap, HeaderName, header};

/// Headers that ask about the file as it is stored.
const ABOUT_IDENTITY: [HeaderName; 4] = [header::RANGE, header::IF_MODIFIED_SINCE, header::IF_NONE_MATCH, header::IF_RANGE];

/// Which answer fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// All of the file: 200.
    Whole,
    /// `length` bytes from `start` on: 206.
    Part {
        /// The first byte.
        start: u64,
        /// How many; never none.
        length: u64,
    },
    /// Nothing, the client has it: 304.
    Unchanged,
    /// Nothing, a precondition does not hold: 412.
    Failed,
    /// A range the file does not have: 416.
    Unsatisfiable,
}

/// Whether the request can only be answered with the file as it is stored.
pub fn needs_identity(headers: &HeaderMap) -> bool {
    ABOUT_IDENTITY.iter().any(|name| headers.contains_key(name))
}

/// A time as HTTP writes it; `None` for the epoch, which file systems without times report, and outside the calendar.
pub fn http_date(time: SystemTime) -> Option<String> {
    whole_seconds(time).map(|at| at.format("%a, %d %b %Y %H:%M:%S GMT").to_string())
}

/// Decides by the headers, the file's time of change and its size.
pub fn decide(headers: &HeaderMap, modified: SystemTime, size: u64) -> Wanted {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default().trim());
    let date = |name: HeaderName| text(name).and_then(parse_date);
    let modified = whole_seconds(modified);
    let any = |list: &str| list.split(',').any(|tag| tag.trim() == "*");

    let precondition = match text(header::IF_MATCH) {
        Some(list) => any(list),
        None => date(header::IF_UNMODIFIED_SINCE).is_none_or(|since| modified.is_none_or(|modified| modified <= since)),
    };
    if !precondition {
        return Wanted::Failed;
    }
    let unchanged = match text(header::IF_NONE_MATCH) {
        Some(list) => any(list),
        None => date(header::IF_MODIFIED_SINCE).is_some_and(|since| modified.is_some_and(|modified| modified <= since)),
    };
    if unchanged {
        return Wanted::Unchanged;
    }
    match text(header::RANGE) {
        Some(range) if text(header::IF_RANGE).is_none_or(|then| modified.is_some() && parse_date(then) == modified) => part(range, size),
        _ => Wanted::Whole,
    }
}

/// The one range that is asked for. Several are answered with the whole file, which is always allowed.
fn part(range: &str, size: u64) -> Wanted {
    let Some(range) = range.strip_prefix("bytes=") else { return Wanted::Unsatisfiable };
    // Some clients put a range on every request: an empty file is no error to them.
    if size == 0 || range.contains(',') {
        return Wanted::Whole;
    }
    let number = |text: &str| {
        let text = text.trim();
        (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().unwrap_or(u64::MAX))
    };
    let Some((first, last)) = range.split_once('-') else { return Wanted::Unsatisfiable };
    let (start, end) = match (number(first), number(last)) {
        (Some(start), Some(last)) if start <= last => (start, last.saturating_add(1).min(size)),
        (Some(start), None) if last.trim().is_empty() => (start, size),
        (None, Some(suffix)) if first.trim().is_empty() => (size.saturating_sub(suffix), size),
        _ => return Wanted::Unsatisfiable,
    };
    if start < end { Wanted::Part { start, length: end - start } } else { Wanted::Unsatisfiable }
}

fn parse_date(text: &str) -> Option<DateTime<Utc>> {
    let at = NaiveDateTime::parse_from_str(text, "%a, %d %b %Y %H:%M:%S GMT").ok()?;
    Some(at.and_utc())
}

/// The time as precise as HTTP has it; `None` for the epoch and outside the calendar, where a file's time can well be.
fn whole_seconds(time: SystemTime) -> Option<DateTime<Utc>> {
    let seconds = match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).ok()?,
        Err(before) => i64::try_from(before.duration().as_secs()).ok()?.checked_neg()?,
    };
    DateTime::from_timestamp(seconds, 0).filter(|_| seconds != 0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Wanted::*, *};

    const BEFORE: &str = "Tue, 14 Nov 2023 22:13:19 GMT";
    const THEN: &str = "Tue, 14 Nov 2023 22:13:20 GMT";
    const AFTER: &str = "Tue, 14 Nov 2023 22:13:21 GMT";

    fn modified() -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(1_700_000_000_500)
    }

    fn wanted(size: u64, headers: &[(HeaderName, &str)]) -> Wanted {
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        decide(&headers, modified(), size)
    }

    #[test]
    fn dates_are_written_as_they_are_read() {
        assert_eq!(http_date(modified()).unwrap(), THEN);
        assert_eq!(parse_date(THEN), DateTime::from_timestamp(1_700_000_000, 0));
        assert_eq!(http_date(UNIX_EPOCH), None);
        assert_eq!(http_date(UNIX_EPOCH + Duration::from_secs(9_000_000_000_000_000)), None);
        for nonsense in ["", "yesterday", "2023-11-14", "Tue, 14 Nov 2023 22:13:20 CET"] {
            assert_eq!(parse_date(nonsense), None);
        }
    }

    #[test]
    fn ranges_of_ten_bytes() {
        let table = [
            ("bytes=0-3", Part { start: 0, length: 4 }),
            ("bytes=4-", Part { start: 4, length: 6 }),
            ("bytes=-3", Part { start: 7, length: 3 }),
            ("bytes=-30", Part { start: 0, length: 10 }),
            ("bytes=9-99", Part { start: 9, length: 1 }),
            ("bytes= 2 - 3 ", Part { start: 2, length: 2 }),
            ("bytes=0-99999999999999999999999", Part { start: 0, length: 10 }),
            ("bytes=0-1,4-5", Whole),
            ("bytes=10-", Unsatisfiable),
            ("bytes=10-12", Unsatisfiable),
            ("bytes=99999999999999999999999-", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=5-4", Unsatisfiable),
            ("bytes=-", Unsatisfiable),
            ("bytes=", Unsatisfiable),
            ("bytes=a-b", Unsatisfiable),
            ("bytes=+1-2", Unsatisfiable),
            ("bytes=--5", Unsatisfiable),
            ("items=0-1", Unsatisfiable),
        ];
        for (range, expected) in table {
            assert_eq!(wanted(10, &[(header::RANGE, range)]), expected, "{range}");
        }
        assert_eq!(wanted(0, &[(header::RANGE, "bytes=0-3")]), Whole);
    }

    #[test]
    fn conditions_on_the_time_of_change() {
        let table = [
            (header::IF_MODIFIED_SINCE, BEFORE, Whole),
            (header::IF_MODIFIED_SINCE, THEN, Unchanged),
            (header::IF_MODIFIED_SINCE, AFTER, Unchanged),
            (header::IF_MODIFIED_SINCE, "nonsense", Whole),
            (header::IF_UNMODIFIED_SINCE, BEFORE, Failed),
            (header::IF_UNMODIFIED_SINCE, THEN, Whole),
            (header::IF_NONE_MATCH, "*", Unchanged),
            (header::IF_NONE_MATCH, "\"tag\"", Whole),
            (header::IF_MATCH, "*", Whole),
            (header::IF_MATCH, "\"tag\"", Failed),
        ];
        for (name, value, expected) in table {
            assert_eq!(wanted(10, &[(name.clone(), value)]), expected, "{name}: {value}");
        }
        assert_eq!(wanted(10, &[(header::IF_NONE_MATCH, "\"tag\""), (header::IF_MODIFIED_SINCE, AFTER)]), Whole);
    }

    #[test]
    fn a_range_may_depend_on_the_file_being_the_same() {
        let range = (header::RANGE, "bytes=1-1");
        assert_eq!(wanted(10, &[range.clone(), (header::IF_RANGE, THEN)]), Part { start: 1, length: 1 });
        assert_eq!(wanted(10, &[range.clone(), (header::IF_RANGE, BEFORE)]), Whole);
        assert_eq!(wanted(10, &[range, (header::IF_RANGE, "\"tag\"")]), Whole);
    }
}
