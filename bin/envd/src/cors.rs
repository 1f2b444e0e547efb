//! Cross-origin access from browsers: any origin, any header, no credentials.

use atoll_wire::body::{self, Body};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request::Parts};

const METHODS: [&str; 6] = ["HEAD", "GET", "POST", "PUT", "PATCH", "DELETE"];
const EXPOSED: HeaderValue =
    HeaderValue::from_static("Grpc-Status, Grpc-Message, Grpc-Status-Details-Bin, Location, Cache-Control, X-Content-Type-Options");
const ANY: HeaderValue = HeaderValue::from_static("*");

/// The answer to a preflight; `None` when the request is none.
pub fn preflight(head: &Parts) -> Option<Response<Body>> {
    let method = head.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD).filter(|_| head.method == Method::OPTIONS)?;
    let mut response = body::status(StatusCode::NO_CONTENT);
    let headers = response.headers_mut();
    let vary = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";
    headers.insert(header::VARY, HeaderValue::from_static(vary));
    if head.headers.contains_key(header::ORIGIN) && METHODS.iter().any(|known| method == known) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, method.clone());
        if let Some(asked) = head.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
        }
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("7200"));
    }
    Some(response)
}

/// Adds to an answer what a browser needs to hand it to the page that asked.
pub fn expose(headers: &mut HeaderMap, to_a_page: bool) {
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if to_a_page {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
}
