//! One request as a route reads it: path parameters, query, body.

use std::{fmt::Display, ops::RangeInclusive, str::FromStr, time::Duration};

use atoll_types::SandboxId;
use atoll_wire::body::{self, Body, CollectError};
use bytes::Bytes;
use http::{HeaderMap, header, request::Parts};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;

use crate::error::{ApiError, Kind};

const BODY_LIMIT: usize = 16 << 20;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A request whose operation is known.
pub(crate) struct Call {
    params: Vec<(&'static str, String)>,
    pub(crate) query: Query,
    headers: HeaderMap,
    body: Body,
}

impl Call {
    pub(crate) fn new(head: &Parts, params: Vec<(&'static str, String)>, body: Body) -> Result<Self, ApiError> {
        let query = Query::parse(head.uri.query().unwrap_or_default())?;
        Ok(Self { params, query, headers: head.headers.clone(), body })
    }

    /// The sandbox that the path names.
    pub(crate) fn sandbox_id(&self) -> Result<SandboxId, ApiError> {
        let text = self.params.iter().find(|(name, _)| *name == "sandboxID").map(|(_, value)| value.as_str()).unwrap_or_default();
        SandboxId::from_client(text).map_err(|e| ApiError::invalid(format_args!("path parameter `sandboxID`: {e}")))
    }

    /// What the client calls this request, if anything.
    pub(crate) fn idempotency_key(&self) -> Result<Option<String>, ApiError> {
        let Some(value) = self.headers.get("idempotency-key") else { return Ok(None) };
        let fits = |key: &&str| (1..=255).contains(&key.len()) && key.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        let key = value.to_str().ok().filter(fits);
        let key =
            key.ok_or_else(|| ApiError::invalid("header Idempotency-Key: expected 1 to 255 lower-case letters, digits and hyphens"))?;
        Ok(Some(key.to_owned()))
    }

    /// The JSON body, which must be there.
    pub(crate) async fn json<T: DeserializeOwned>(self) -> Result<T, ApiError> {
        match self.optional_json().await? {
            Some(value) => Ok(value),
            None => Err(ApiError::invalid("a JSON request body is required")),
        }
    }

    /// The JSON body, if there is one.
    pub(crate) async fn optional_json<T: DeserializeOwned>(self) -> Result<Option<T>, ApiError> {
        let bytes = self.media_typed_body().await?;
        if bytes.is_empty() { Ok(None) } else { parse(&bytes).map(Some) }
    }

    /// The body as it was sent; said to be JSON, unless it is empty.
    pub(crate) async fn media_typed_body(self) -> Result<Bytes, ApiError> {
        let bytes = match tokio::time::timeout(BODY_TIMEOUT, body::collect(self.body, BODY_LIMIT)).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(e @ CollectError::TooLarge { .. })) => return Err(ApiError::new(Kind::TooLarge, e.to_string())),
            Ok(Err(CollectError::Broken(_))) => return Err(ApiError::invalid("the request body broke off")),
            Err(_) => return Err(ApiError::new(Kind::Slow, format!("the request body took longer than {} s", BODY_TIMEOUT.as_secs()))),
        };
        let media_type = self.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default().trim();
        if !bytes.is_empty() && !media_type.eq_ignore_ascii_case("application/json") {
            return Err(ApiError::invalid(format_args!("header Content-Type: expected application/json, got `{media_type}`")));
        }
        Ok(bytes)
    }
}

/// Reads JSON that a client sent.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(bytes).map_err(|e| ApiError::invalid(format_args!("request body: {e}")))
}

/// The query string, decoded once.
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the text after the `?`.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((unescape(name)?, unescape(value)?))
        });
        pairs.collect::<Option<_>>().map(Self).ok_or_else(|| ApiError::invalid("the query string is not percent-encoded UTF-8"))
    }

    /// A parameter as text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A parameter as the items of a comma-separated list, which may also be given item by item.
    pub fn list(&self, name: &str) -> Option<Vec<&str>> {
        self.text(name)?;
        Some(self.0.iter().filter(|(key, _)| key == name).flat_map(|(_, value)| value.split(',')).collect())
    }

    /// A parameter as anything that has a textual form.
    pub(crate) fn parsed<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, ApiError> {
        self.text(name).map(str::parse).transpose().map_err(|e| bad(name, e))
    }

    /// A parameter as a number of a range.
    pub(crate) fn number<T>(&self, name: &str, range: RangeInclusive<T>) -> Result<Option<T>, ApiError>
    where
        T: FromStr<Err: Display> + PartialOrd + Display,
    {
        match self.parsed(name)? {
            Some(number) if !range.contains(&number) => {
                Err(bad(name, format_args!("expected {} to {}, got {number}", range.start(), range.end())))
            }
            number => Ok(number),
        }
    }
}

/// An error about a query parameter.
pub(crate) fn bad(name: &str, why: impl Display) -> ApiError {
    ApiError::invalid(format_args!("query parameter `{name}`: {why}"))
}

/// Decodes form encoding; `None` for a stray `%` and for what is not UTF-8.
pub fn unescape(text: &str) -> Option<String> {
    let spaced = text.replace('+', " ");
    let escapes = |text: &str| text.split('%').skip(1).all(|rest| rest.len() >= 2 && rest.bytes().take(2).all(|b| b.is_ascii_hexdigit()));
    if !escapes(&spaced) {
        return None;
    }
    percent_decode_str(&spaced).decode_utf8().ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded_once() {
        let query = Query::parse("a=1%252C2&b=x+y&&c&a=3,4&é=%C3%BC").unwrap();
        assert_eq!(query.text("a"), Some("1%2C2"));
        assert_eq!(query.list("a").unwrap(), ["1%2C2", "3", "4"]);
        assert_eq!((query.text("b"), query.text("c"), query.text("é"), query.text("d")), (Some("x y"), Some(""), Some("ü"), None));
        for bad in ["a=%", "a=%2", "a=%zz", "%ff=1", "a=%-1", "a=%+1"] {
            assert!(Query::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_have_ranges() {
        let query = Query::parse("a=5&b=&c=99999999999&d=-1").unwrap();
        assert_eq!(query.number("a", 1..=5).unwrap(), Some(5));
        assert_eq!(query.number::<i32>("e", 1..=5).unwrap(), None);
        for name in ["b", "c", "d"] {
            assert!(query.number::<i32>(name, 0..=100).is_err(), "{name}");
        }
        assert!(query.number("a", 1..=4).unwrap_err().public().starts_with("validation error: query parameter `a`"));
    }
}
