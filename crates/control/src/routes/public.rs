//! Routes for everybody.

use atoll_wire::body::{self, Body};
use http::{HeaderValue, Response, StatusCode, header};

use crate::{
    control::Control,
    error::{ApiError, chain},
};

/// The description of what is served; a test compares it with the table of operations.
pub(crate) const OPENAPI: &str = include_str!("public/openapi.json");

/// Whether requests can be answered.
pub(crate) async fn health(control: Control) -> Result<Response<Body>, ApiError> {
    let (status, text) = match (control.store().ping().await, control.reconcilers().connected()) {
        (Ok(()), Some(_)) => (StatusCode::OK, "Health check successful"),
        (Ok(()), None) => (StatusCode::SERVICE_UNAVAILABLE, "The node is not connected"),
        (Err(error), _) => {
            tracing::warn!(error = chain(&error), "the database does not answer");
            (StatusCode::SERVICE_UNAVAILABLE, "The database does not answer")
        }
    };
    Ok(text_reply(status, "text/plain; charset=utf-8", text))
}

/// The OpenAPI description.
pub(crate) async fn openapi(_: Control) -> Result<Response<Body>, ApiError> {
    Ok(text_reply(StatusCode::OK, "application/json; charset=utf-8", OPENAPI))
}

fn text_reply(status: StatusCode, media_type: &'static str, text: &'static str) -> Response<Body> {
    let mut response = Response::new(body::full(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}
