//! How often a quiet stream says that it is still there.

use std::time::Duration;

use http::HeaderMap;

const DEFAULT: Duration = Duration::from_secs(90);

/// The interval a client asked for in `Keepalive-Ping-Interval`, whole seconds; 90 s where it asked for none, or for nonsense.
pub fn interval(headers: &HeaderMap) -> Duration {
    let asked = headers.get("keepalive-ping-interval").and_then(|v| v.to_str().ok()?.trim().parse::<u32>().ok());
    asked.filter(|s| *s > 0).map_or(DEFAULT, |s| Duration::from_secs(s.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_means_the_default() {
        for (sent, seconds) in [("50", 50), (" 1 ", 1), ("0", 90), ("-1", 90), ("", 90), ("x", 90), ("1.5", 90), ("99999999999", 90)] {
            let headers = HeaderMap::from_iter([(http::HeaderName::from_static("keepalive-ping-interval"), sent.parse().unwrap())]);
            assert_eq!(interval(&headers).as_secs(), seconds, "{sent:?}");
        }
        assert_eq!(interval(&HeaderMap::new()).as_secs(), 90);
    }
}
