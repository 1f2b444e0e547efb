//! Who a request to the proxy is for, and its head on the way to the guest and back.

use atoll_proxy::{
    control_route::is_control_route,
    head,
    host::{SANDBOX_ID, SANDBOX_PORT, target},
};
use atoll_wire::body;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, Version,
    header::{self, CONNECTION, CONTENT_LENGTH, COOKIE, HOST, TE, TRANSFER_ENCODING, UPGRADE},
    request::Parts,
};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, percent_encode};

use crate::input::Input;

/// Lines: the host, `E2b-Sandbox-Id`, `E2b-Sandbox-Port`.
///
/// Case is nothing; a first label that begins with a number means that port of the sandbox after it; a host of a port's own leads back.
pub fn proxy_host(bytes: &[u8]) {
    let mut input = Input(bytes);
    let authority = input.text();
    let mut headers = HeaderMap::new();
    for name in [SANDBOX_ID, SANDBOX_PORT] {
        if let Some(value) = HeaderValue::from_bytes(input.line()).ok().filter(|value| !value.is_empty()) {
            headers.insert(name, value);
        }
    }
    let found = target(&authority, &headers);
    let place = |authority: &str, headers| target(authority, headers).map(|target| (target.sandbox, target.port));
    assert_eq!(place(&authority.to_ascii_uppercase(), &headers), place(&authority.to_ascii_lowercase(), &headers));
    let Ok(found) = found else { return };
    assert_ne!(found.port, 0);
    assert!(found.sandbox.as_str().parse::<atoll_types::SandboxId>().is_ok());
    let host = authority.split(':').next().unwrap_or_default();
    let label = host.strip_suffix('.').unwrap_or(host).split_once('.').map_or("", |(label, _)| label);
    let words: Vec<&str> = label.split('-').collect();
    if let [number, id, ..] = words[..]
        && !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
    {
        assert_eq!((found.port.to_string(), found.sandbox.as_str()), (number.trim_start_matches('0').into(), &*id.to_ascii_lowercase()));
        assert_eq!(found.own_host, None);
    } else {
        let port = headers[SANDBOX_PORT].to_str().expect("it was read").trim();
        assert_eq!(found.port.to_string(), port.trim_start_matches('0'));
    }
    if let Some(own) = &found.own_host {
        assert_eq!(place(own, &HeaderMap::new()), Ok((found.sandbox.clone(), found.port)), "{own}");
        HeaderValue::from_str(own).expect("a host is a header value");
    }
}

/// A path as it stands in a request.
///
/// No other spelling of a control route gets through: escaped, doubled, or with detours.
pub fn proxy_path(bytes: &[u8]) {
    let path = String::from_utf8_lossy(bytes);
    let control = is_control_route(&path);
    let decoded: Vec<u8> = percent_decode_str(&path).collect();
    let escaped = percent_encode(&decoded, NON_ALPHANUMERIC).to_string();
    for spelling in [format!("/{path}"), format!("/.//{path}"), format!("/x/..//{path}"), format!("{path}/"), format!("{path}/."), escaped]
    {
        assert_eq!(is_control_route(&spelling), control, "{spelling:?}");
    }
    assert!(!is_control_route(&format!("{path}/x/y")) || decoded.windows(2).any(|pair| pair == b".."));
    if let Some(name) = path.strip_prefix('/')
        && ["init", "upgrade", "freeze", "unfreeze", "fsfreeze", "fsthaw", "collapse"].contains(&name)
    {
        assert!(control);
    }
}

const HOP: [HeaderName; 6] =
    [CONNECTION, TE, TRANSFER_ENCODING, UPGRADE, HeaderName::from_static("keep-alive"), HeaderName::from_static("proxy-connection")];
const OURS: [HeaderName; 6] = [
    SANDBOX_ID,
    SANDBOX_PORT,
    HeaderName::from_static("e2b-traffic-access-token"),
    header::EXPECT,
    header::PROXY_AUTHORIZATION,
    header::PROXY_AUTHENTICATE,
];

/// A request: its first line (`GET /x 1.1`), headers up to an empty line, a body; one that begins with `?` has no length beforehand.
///
/// What belongs to a connection stays behind, the target arrives byte for byte, there is one host and one framing, and all else is kept.
pub fn proxy_head(bytes: &[u8]) {
    let mut input = Input(bytes);
    let line = input.text();
    let headers = input.headers();
    let mut words = line.split(' ');
    let method = words.next().and_then(|word| Method::from_bytes(word.as_bytes()).ok());
    let uri = words.next().and_then(|word| Uri::try_from(word).ok());
    let (Some(method), Some(uri)) = (method, uri) else { return };
    let version = if words.next() == Some("2") { Version::HTTP_2 } else { Version::HTTP_11 };
    let mut request = Request::builder().method(method).uri(uri).version(version).body(()).expect("all parts are valid").into_parts().0;
    request.headers = headers;
    to_client(&request.headers);
    let Ok(authority) = head::authority(&request).map(str::to_owned) else { return };
    let own_host = target(&authority, &request.headers).ok().and_then(|target| target.own_host);
    let sized = input.0.first() != Some(&b'?');
    // The writing end is held, or the body would have ended.
    let (_writer, unsized_body) = body::channel(1);
    let body = if sized { body::full(input.0.to_vec()) } else { unsized_body };

    let upgrade = head::upgrade(version, &request.headers);
    let mut sent = request.clone();
    head::to_guest(&mut sent, &body, own_host.clone(), upgrade.clone());
    check_request(&request, &sent);
    let hosts: Vec<_> = sent.headers.get_all(HOST).iter().collect();
    assert_eq!(hosts, [own_host.as_ref().unwrap_or(&authority).as_str()]);
    assert_eq!(sent.headers.get(UPGRADE), upgrade.as_ref());
    let length = sent.headers.get(CONTENT_LENGTH).map(|length| length.to_str().expect("digits").parse::<usize>());
    match (sized, length) {
        (true, Some(length)) => assert_eq!(length, Ok(input.0.len())),
        (true, None) => assert!(input.0.is_empty() && !request.headers.contains_key(CONTENT_LENGTH)),
        (false, length) => assert_eq!(length, None),
    }
    assert_eq!(sent.headers.contains_key(TRANSFER_ENCODING), !sized);
}

fn check_request(request: &Parts, sent: &Parts) {
    assert_eq!((sent.version, &sent.method), (Version::HTTP_11, &request.method));
    // A query alone gets the slash that every path has.
    let target = request.uri.path_and_query().map_or("/".into(), |target| target.to_string());
    assert_eq!(sent.uri.to_string(), target);
    assert!(OURS.iter().all(|name| !sent.headers.contains_key(name)));
    let kept: Vec<_> = tokens(&sent.headers);
    assert!(kept.iter().all(|token| token == "te" || token == "upgrade"), "{kept:?}");
    let changed = |name: &HeaderName| OURS.contains(name) || [HOST, CONTENT_LENGTH, COOKIE].contains(name);
    check_kept(&request.headers, &sent.headers, changed);
    if request.version == Version::HTTP_2 && !tokens(&request.headers).contains(&"cookie".into()) {
        let cookies = |headers: &HeaderMap| headers.get_all(COOKIE).iter().map(|value| value.as_bytes().to_vec()).collect::<Vec<_>>();
        assert_eq!(cookies(&sent.headers).concat(), cookies(&request.headers).join(&b"; "[..]));
    }
}

fn to_client(headers: &HeaderMap) {
    let mut response = Response::new(()).into_parts().0;
    response.headers = headers.clone();
    head::to_client(&mut response);
    assert!(HOP.iter().all(|name| !response.headers.contains_key(name)));
    assert!(!headers.contains_key(TRANSFER_ENCODING) || !response.headers.contains_key(CONTENT_LENGTH));
    check_kept(headers, &response.headers, |name| *name == CONTENT_LENGTH);
}

/// What the connection names is gone; other headers are as they were, values in order.
fn check_kept(before: &HeaderMap, after: &HeaderMap, changed: impl Fn(&HeaderName) -> bool) {
    let named = tokens(before);
    for name in before.keys().chain(after.keys()).filter(|name| !HOP.contains(name) && !changed(name)) {
        let values = |headers: &HeaderMap| headers.get_all(name).iter().cloned().collect::<Vec<_>>();
        let expected = if named.contains(&name.as_str().to_owned()) { Vec::new() } else { values(before) };
        assert_eq!(values(after), expected, "{name}");
    }
}

/// What `Connection` names.
fn tokens(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(|token| token.trim().to_ascii_lowercase()).collect()
}
