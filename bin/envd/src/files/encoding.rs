//! Which encoding of a download the client takes.

use http::{HeaderMap, header};

/// How a file travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Identity,
    /// Compressed.
    Gzip,
}

/// Chooses an encoding by `Accept-Encoding`; `None` when the client takes neither. Parts of a file and conditions on it only make
/// sense for the file as it is, so `identity_only` leaves no choice but refusal.
pub fn negotiate(headers: &HeaderMap, identity_only: bool) -> Option<Encoding> {
    let lines = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
    let mut offers: Vec<_> = lines.flat_map(|line| line.split(',')).filter_map(offer).collect();
    let refused = |name: &str| offers.iter().any(|(offered, weight)| offered == name && *weight <= 0.0);
    let wanted = |name: &str| offers.iter().any(|(offered, weight)| offered == name && *weight > 0.0);
    let identity_refused = refused("identity") || refused("*") && !wanted("identity");
    let identity = (!identity_refused).then_some(Encoding::Identity);
    if identity_only {
        return identity;
    }
    offers.retain(|(_, weight)| *weight > 0.0);
    offers.sort_by(|a, b| b.1.total_cmp(&a.1));
    let chosen = offers.iter().find_map(|(name, _)| match name.as_str() {
        "identity" => Some(Encoding::Identity),
        "gzip" => Some(Encoding::Gzip),
        "*" => Some(identity.unwrap_or(Encoding::Gzip)),
        _ => None,
    });
    chosen.or(identity)
}

/// One entry of the list with its weight; an entry with a weight that is none counts for nothing.
fn offer(entry: &str) -> Option<(String, f32)> {
    let mut parts = entry.split(';').map(str::trim);
    let name = parts.next().filter(|name| !name.is_empty())?.to_ascii_lowercase();
    let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    let weight = weight.map_or(Some(1.0), |text| text.trim().parse::<f32>().ok().filter(|weight| weight.is_finite()))?;
    Some((name, weight))
}

#[cfg(test)]
mod tests {
    use super::{Encoding::*, *};

    fn accept(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT_ENCODING, value.parse().unwrap())])
    }

    #[test]
    fn the_best_supported_offer_wins() {
        let table = [
            ("", Some(Identity)),
            ("gzip", Some(Gzip)),
            ("gzip, deflate", Some(Gzip)),
            ("GZip", Some(Gzip)),
            ("identity", Some(Identity)),
            ("identity, gzip", Some(Identity)),
            ("gzip;q=0.5, identity", Some(Identity)),
            ("gzip;q=1.0, identity;q=0.5", Some(Gzip)),
            ("identity;q=0.5, gzip;q=0.8, br;q=1", Some(Gzip)),
            ("gzip;q=0", Some(Identity)),
            ("br, zstd, deflate", Some(Identity)),
            ("*", Some(Identity)),
            ("*, identity;q=0", Some(Gzip)),
            ("identity;q=0, gzip", Some(Gzip)),
            ("*;q=0, gzip;q=0.1", Some(Gzip)),
            ("*;q=0, identity;q=0.1", Some(Identity)),
            ("identity;q=0", None),
            ("*;q=0", None),
            ("br, *;q=0", None),
            ("identity;q=0, br", None),
            ("gzip;q=high", Some(Identity)),
            (",, ;q=1,gzip ; q=0.3", Some(Gzip)),
        ];
        for (value, expected) in table {
            assert_eq!(negotiate(&accept(value), false), expected, "{value:?}");
        }
        assert_eq!(negotiate(&HeaderMap::new(), false), Some(Identity));
    }

    #[test]
    fn several_lines_are_one_list() {
        let mut headers = accept("identity;q=0");
        headers.append(header::ACCEPT_ENCODING, "gzip".parse().unwrap());
        assert_eq!(negotiate(&headers, false), Some(Gzip));
    }

    #[test]
    fn parts_of_a_file_travel_as_they_are_or_not_at_all() {
        assert_eq!(negotiate(&accept("gzip"), true), Some(Identity));
        assert_eq!(negotiate(&accept("gzip, identity;q=0"), true), None);
        assert_eq!(negotiate(&accept("*;q=0, gzip"), true), None);
    }
}
