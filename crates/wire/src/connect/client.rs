//! The caller's side of a call, in the binary form.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header};

use super::{
    Codec, MESSAGE_LIMIT, Message, RpcError,
    code::{Code, ErrorBody},
    envelope,
    stream::Messages,
};
use crate::body::{self, Body, BoxError};

/// The head of an answer, when it comes.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send + 'a>>;

/// What carries a request to the other side.
pub trait Transport: Send + Sync {
    /// Sends it and waits for the head of the answer.
    fn send(&self, request: Request<Body>) -> Answer<'_>;
}

/// Calls methods over a transport. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    transport: Arc<dyn Transport>,
    headers: HeaderMap,
    timeout: Option<Duration>,
}

impl Client {
    /// A client without headers of its own and without a deadline.
    pub fn new(transport: Arc<dyn Transport>) -> Self {
        Self { transport, headers: HeaderMap::new(), timeout: None }
    }

    /// Adds a header to every call.
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Gives every call this long; a stream, this long in all.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Calls a method of one request and one reply.
    pub async fn unary<Req: Message, Res: Message>(&self, path: &str, request: &Req) -> Result<Res, RpcError> {
        let call = async {
            let response = self.send(path, "application/proto", Codec::Proto.encode(request)?).await?;
            let status = response.status();
            let bytes = body::collect(response.into_body(), MESSAGE_LIMIT).await.map_err(|e| RpcError::unavailable(e.to_string()))?;
            if status.is_success() { Codec::Proto.decode(bytes) } else { Err(failure(status, &bytes)) }
        };
        match self.timeout {
            None => call.await,
            Some(limit) => tokio::time::timeout(limit, call).await.unwrap_or_else(|_| Err(RpcError::deadline_exceeded())),
        }
    }

    /// Calls a method of one request and a stream of replies.
    pub async fn server_stream<Req: Message, Res: Message>(&self, path: &str, request: &Req) -> Result<Messages<Res>, RpcError> {
        let message = envelope::message(&Codec::Proto.encode(request)?)?;
        let response = self.send(path, "application/connect+proto", message).await?;
        let status = response.status();
        if !status.is_success() {
            let bytes = body::collect(response.into_body(), MESSAGE_LIMIT).await.map_err(|e| RpcError::unavailable(e.to_string()))?;
            return Err(failure(status, &bytes));
        }
        Ok(Messages::new(response.into_body(), Codec::Proto, false, true))
    }

    /// Sends a plain request to the same place, with the headers that every call has.
    pub async fn send_plain(&self, mut request: Request<Body>) -> Result<Response<Body>, BoxError> {
        for (name, value) in &self.headers {
            request.headers_mut().entry(name).or_insert_with(|| value.clone());
        }
        self.transport.send(request).await
    }

    async fn send(&self, path: &str, content_type: &'static str, payload: Bytes) -> Result<Response<Body>, RpcError> {
        let mut request = Request::new(body::full(payload));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = path.parse().map_err(|e| RpcError::internal(format!("the path {path:?}: {e}")))?;
        let headers = request.headers_mut();
        headers.clone_from(&self.headers);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert("connect-protocol-version", HeaderValue::from_static("1"));
        if let Some(timeout) = self.timeout {
            headers.insert("connect-timeout-ms", HeaderValue::from(timeout.as_millis().clamp(1, 9_999_999_999) as u64));
        }
        self.transport.send(request).await.map_err(|e| RpcError::unavailable(e.to_string()))
    }
}

/// What a failed reply says: a Connect error, a plain `{"message"}`, or only its status.
fn failure(status: http::StatusCode, bytes: &[u8]) -> RpcError {
    if let Ok(error) = serde_json::from_slice::<ErrorBody>(bytes)
        && Code::from_name(&error.code).is_some()
    {
        return error.into();
    }
    let message = serde_json::from_slice::<serde_json::Value>(bytes)
        .ok()
        .and_then(|v| Some(v.get("message")?.as_str()?.to_owned()))
        .unwrap_or_else(|| format!("HTTP {status}"));
    RpcError::new(Code::from_http(status), message)
}
