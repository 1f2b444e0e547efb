//! Leave for pages of any origin, so that the SDK works in a browser. Facts: reference/rest-api.md §1.2.

use atoll_wire::body::{self, Body};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS");
const REQUEST_HEADERS: HeaderValue = HeaderValue::from_static(
    "Origin, Content-Length, Content-Type, User-Agent, Authorization, X-API-Key, X-Team-ID, browser, lang, lang_version, Idempotency-Key, machine, \
     os, package_version, processor, publisher, release, sdk_runtime, system",
);
const RESPONSE_HEADERS: HeaderValue = HeaderValue::from_static(
    "X-Next-Token, X-Total-Running, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, Retry-After, Should-Retry",
);
const TWELVE_HOURS: HeaderValue = HeaderValue::from_static("43200");

/// The answer to a browser that asks before it acts.
pub(crate) fn preflight() -> Response<Body> {
    let mut response = body::status(StatusCode::NO_CONTENT);
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, TWELVE_HOURS);
    response
}

/// Lets a page read a reply.
pub(crate) fn allow(headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, RESPONSE_HEADERS);
}
