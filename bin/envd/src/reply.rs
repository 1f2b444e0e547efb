//! The daemon's plain HTTP answers, those that are not Connect's.

use std::fmt::Display;

use atoll_wire::{
    body::{self, Body},
    envd::HttpError,
};
use http::{HeaderValue, Response, StatusCode, header};

/// An error as JSON: the status again as `code`, and a message.
pub fn error(status: StatusCode, message: impl Display) -> Response<Body> {
    let mut response = body::json(status, &HttpError { code: status.as_u16(), message: message.to_string() });
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A line of plain text.
pub fn text(status: StatusCode, message: impl Display) -> Response<Body> {
    let mut response = Response::new(body::full(format!("{message}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The same answer, marked as one that must not be kept.
pub fn no_store(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
