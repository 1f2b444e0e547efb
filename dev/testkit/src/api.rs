//! A client of the REST API that hides nothing.

use atoll_control::Control;
use atoll_types::ApiKey;
use atoll_wire::body;
use http::{HeaderMap, Method, Request, header};
use serde_json::Value;

/// Sends requests, with one team's key or without any.
#[derive(Clone)]
pub struct Api {
    control: Control,
    key: Option<String>,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as JSON; a string when it is none, and null when it is empty.
    pub body: Value,
}

impl Reply {
    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// A member of the body as text; empty when there is none.
    pub fn text(&self, member: &str) -> &str {
        self.body[member].as_str().unwrap_or_default()
    }
}

impl Api {
    pub(crate) fn new(control: Control, key: Option<&ApiKey>) -> Self {
        Self { control, key: key.map(|key| key.expose().to_owned()) }
    }

    /// The same with another text in the place of the key.
    pub fn with_key(&self, key: &str) -> Self {
        Self { key: Some(key.into()), ..self.clone() }
    }

    /// `GET`
    pub async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, None).await
    }

    /// `POST` with a JSON body.
    pub async fn post(&self, path: &str, json: Value) -> Reply {
        self.send(Method::POST, path, Some(json.to_string())).await
    }

    /// `DELETE`
    pub async fn delete(&self, path: &str) -> Reply {
        self.send(Method::DELETE, path, None).await
    }

    /// Any request; a body is said to be JSON.
    pub async fn send(&self, method: Method, path: &str, json: Option<String>) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        if json.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        self.send_request(request, json.unwrap_or_default()).await
    }

    /// Any request at all; only the key is added.
    pub async fn send_request(&self, mut request: http::request::Builder, body: impl Into<bytes::Bytes>) -> Reply {
        if let Some(key) = &self.key {
            // As the SDKs write it.
            request = request.header("X-API-KEY", key);
        }
        let request = request.body(body::full(body)).expect("tests write their requests well");
        let (head, body) = self.control.serve(request).await.into_parts();
        let bytes = body::collect(body, usize::MAX).await.expect("replies of the control plane are whole");
        let body = match bytes.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into()),
        };
        Reply { status: head.status.as_u16(), headers: head.headers, body }
    }
}
