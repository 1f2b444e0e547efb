//! The heads of messages on their way through: what belongs to one connection stays behind, all else is kept.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version,
    header::{self, CONNECTION, CONTENT_LENGTH, COOKIE, HOST, TE, TRANSFER_ENCODING, UPGRADE},
    request, response,
    uri::{Authority, PathAndQuery},
};
use http_body::Body;

use crate::host::{self, BadHost, SANDBOX_ID, SANDBOX_PORT, only};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const TRAFFIC_TOKEN: HeaderName = HeaderName::from_static("e2b-traffic-access-token");

/// Meant for this proxy, not for the guest. `Expect` too: reading the body answers it.
const OURS: [HeaderName; 6] =
    [SANDBOX_ID, SANDBOX_PORT, TRAFFIC_TOKEN, header::EXPECT, header::PROXY_AUTHORIZATION, header::PROXY_AUTHENTICATE];

/// Whether a request is for this host, which is given in lower case, on any port.
pub fn is_for<B>(request: &Request<B>, name: &str) -> bool {
    addressed(request.method(), request.uri(), request.headers()).is_ok_and(|authority| host::is(authority, name))
}

/// The host that the client addressed. What the request line or `:authority` says overrules the `Host` header.
pub fn authority(head: &request::Parts) -> Result<&str, BadHost> {
    addressed(&head.method, &head.uri, &head.headers)
}

fn addressed<'a>(method: &Method, uri: &'a Uri, headers: &'a HeaderMap) -> Result<&'a str, BadHost> {
    if method == Method::CONNECT {
        return Err(BadHost::Malformed);
    }
    match uri.authority() {
        Some(authority) => Ok(authority.as_str()),
        None => only(headers, HOST).ok().flatten().ok_or(BadHost::Malformed),
    }
}

/// The protocol that an HTTP/1.1 request asks to change to.
pub fn upgrade(version: Version, headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = version == Version::HTTP_11 && tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"));
    headers.get(UPGRADE).filter(|_| asked).cloned()
}

/// Makes a client's request one that a guest's HTTP/1.1 server understands.
pub fn to_guest(head: &mut request::Parts, body: &impl Body, own_host: Option<String>, upgrade: Option<HeaderValue>) {
    let host = own_host.as_deref().or(head.uri.authority().map(Authority::as_str)).map(HeaderValue::from_str);
    let host = host.and_then(Result::ok).or_else(|| head.headers.get(HOST).cloned());
    let headers = &mut head.headers;
    let trailers = tokens(headers, &TE).any(|token| token.eq_ignore_ascii_case("trailers"));
    let sized = headers.contains_key(CONTENT_LENGTH);
    strip_hop(headers);
    for name in OURS {
        headers.remove(name);
    }
    if let Some(host) = host {
        headers.insert(HOST, host);
    }
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.append(CONNECTION, HeaderValue::from_static("te"));
    }
    // One unambiguous framing, whatever the client sent.
    headers.remove(CONTENT_LENGTH);
    match body.size_hint().exact() {
        Some(0) if !sized => {}
        Some(length) => drop(headers.insert(CONTENT_LENGTH, length.into())),
        None => drop(headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"))),
    }
    if head.version == Version::HTTP_2 {
        join_cookies(headers);
    }
    if let Some(protocol) = upgrade {
        headers.append(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    }
    // The empty path of `http://host#fragment` calls itself `/`, but would be written as nothing.
    let target = head.uri.path_and_query().filter(|target| *target != "/").cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    head.uri = Uri::from(target);
    head.version = Version::HTTP_11;
    head.extensions.clear();
}

/// Makes a guest's response one for any client.
pub fn to_client(head: &mut response::Parts) {
    if head.headers.contains_key(TRANSFER_ENCODING) {
        head.headers.remove(CONTENT_LENGTH);
    }
    strip_hop(&mut head.headers);
    head.version = Version::HTTP_11;
}

/// Removes what concerns one connection only, including what `Connection` names.
fn strip_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = tokens(headers, &CONNECTION).filter_map(|token| token.parse().ok()).collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TE, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
}

/// HTTP/2 may split a cookie header, HTTP/1.1 may not.
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_some() {
        let parts: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
        if let Ok(joined) = HeaderValue::from_bytes(&parts.join(&b"; "[..])) {
            headers.insert(COOKIE, joined);
        }
    }
}

/// The words of a comma-separated header.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).map(str::trim)
}
