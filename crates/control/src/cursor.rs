//! Tokens that say where the next page starts. Facts: reference/rest-api.md §1.3.

use atoll_store::{Cursor, Order};
use atoll_types::Timestamp;
use base64::{Engine as _, engine::general_purpose::URL_SAFE};
use chrono::SecondsFormat;

/// The token for the page after `last`.
pub fn token(last: &Cursor, order: Order) -> String {
    let at = last.started_at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    let suffix = if order == Order::Ascending { "__asc" } else { "" };
    URL_SAFE.encode(format!("{at}__{}{suffix}", last.id))
}

/// What a token means; `None` when it is none, or is one of a list in the other order.
pub fn parse(token: &str, order: Order) -> Option<Cursor> {
    let text = String::from_utf8(URL_SAFE.decode(token).ok()?).ok()?;
    let text = match order {
        Order::Ascending => text.strip_suffix("__asc")?,
        Order::Descending => &text,
    };
    let (at, id) = text.split_once("__")?;
    let started_at: Timestamp = chrono::DateTime::parse_from_rfc3339(at).ok()?.to_utc();
    // An ascending token read in descending order fails here: ids have no underscores.
    Some(Cursor { started_at, id: id.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_in_their_own_order_only() {
        let cursor = Cursor { started_at: "2025-01-01T00:00:00.123456Z".parse().unwrap(), id: "iabc".parse().unwrap() };
        for (order, other) in [(Order::Ascending, Order::Descending), (Order::Descending, Order::Ascending)] {
            let token = token(&cursor, order);
            assert_eq!(parse(&token, order), Some(cursor.clone()));
            assert_eq!(parse(&token, other), None);
        }
        for bad in
            ["", "x", "AAAA", "////", &URL_SAFE.encode("2025-01-01T00:00:00Z"), &URL_SAFE.encode("__i"), &URL_SAFE.encode([0xff, 0xfe])]
        {
            assert_eq!(parse(bad, Order::Descending), None, "{bad}");
        }
    }
}
