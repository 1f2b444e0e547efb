//! The server's side of a call: its head, and the three kinds of method.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request::Parts};
use http_body_util::BodyExt as _;
use tokio::sync::mpsc;

use super::{
    Codec, MESSAGE_LIMIT, Message, RpcError,
    code::ErrorBody,
    envelope::{self, gunzip},
    stream::{Messages, Sink, StreamBody},
};
use crate::body::{self, Body, BoxError, CollectError};

/// Messages that may wait for a slow client before its handler waits.
const QUEUE: usize = 16;

/// The head of a call.
#[derive(Debug, Clone)]
pub struct Call {
    codec: Codec,
    stream: bool,
    gzip: bool,
    timeout: Option<Duration>,
}

impl Call {
    /// Reads the head of a request. `Err` is the answer to a request that is no call at all.
    pub fn parse(head: &Parts) -> Result<Call, Response<Body>> {
        if head.method != Method::POST {
            let mut response = body::status(StatusCode::METHOD_NOT_ALLOWED);
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
            return Err(response);
        }
        let Some((codec, stream)) = content_type(&head.headers) else {
            let mut response = body::status(StatusCode::UNSUPPORTED_MEDIA_TYPE);
            let accepted = "application/connect+json, application/connect+proto, application/json, application/proto";
            response.headers_mut().insert("accept-post", HeaderValue::from_static(accepted));
            return Err(response);
        };
        let mut call = Call { codec, stream, gzip: false, timeout: None };
        call.timeout = timeout(&head.headers).map_err(|error| call.error(error))?;
        call.gzip = compression(&head.headers, stream).map_err(|error| call.error(error))?;
        match head.headers.get("connect-protocol-version") {
            Some(version) if version != "1" => Err(call.error(RpcError::invalid_argument("connect-protocol-version must be 1"))),
            _ => Ok(call),
        }
    }

    /// How long the client gives it (`Connect-Timeout-Ms`); absent means for ever, and so does zero.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Whether the client speaks in streams.
    pub fn is_stream(&self) -> bool {
        self.stream
    }

    /// The answer that says so: for a stream a 200 whose end carries the error, as clients expect.
    pub fn error(&self, error: RpcError) -> Response<Body> {
        if self.stream {
            return self.streaming(body::full(envelope::end(Err(error))));
        }
        let mut response = body::json(error.code.http_status(), &ErrorBody::from(error));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }

    fn streaming(&self, body: Body) -> Response<Body> {
        let content_type = match self.codec {
            Codec::Json => "application/connect+json",
            Codec::Proto => "application/connect+proto",
        };
        let mut response = Response::new(body);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    }

    /// The one message of a unary request or of a server stream's request.
    async fn request<Req: Message, B>(&self, body: B) -> Result<Req, RpcError>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if self.stream {
            let mut messages = self.messages(body);
            let first = messages.next().await?.ok_or_else(|| RpcError::invalid_argument("a request without a message"))?;
            return match messages.next().await? {
                None => Ok(first),
                Some(_) => Err(RpcError::invalid_argument("more than one message in a request that takes one")),
            };
        }
        let bytes = body::collect(body, MESSAGE_LIMIT).await.map_err(|error| match error {
            CollectError::TooLarge { .. } => RpcError::resource_exhausted(error.to_string()),
            CollectError::Broken(cause) => RpcError::unavailable(format!("the request broke off: {cause}")),
        })?;
        self.codec.decode(if self.gzip { gunzip(&bytes)? } else { bytes })
    }

    fn messages<Req: Message, B>(&self, body: B) -> Messages<Req>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Messages::new(body.map_err(Into::into).boxed_unsync(), self.codec, self.gzip, false)
    }

    fn reply<Res: Message>(&self, result: Result<Res, RpcError>) -> Response<Body> {
        match result.and_then(|reply| self.codec.encode(&reply)) {
            Err(error) => self.error(error),
            Ok(payload) => {
                let mut response = Response::new(body::full(payload));
                let content_type = match self.codec {
                    Codec::Json => "application/json",
                    Codec::Proto => "application/proto",
                };
                response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
                response
            }
        }
    }
}

/// Serves a method of one request and one reply.
pub async fn unary<Req, Res, B, F, Fut>(call: &Call, body: B, handler: F) -> Response<Body>
where
    Req: Message,
    Res: Message,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    F: FnOnce(Req) -> Fut,
    Fut: Future<Output = Result<Res, RpcError>>,
{
    if call.stream {
        return call.error(RpcError::unimplemented("this method takes one request and gives one reply"));
    }
    match call.request(body).await {
        Ok(request) => call.reply(handler(request).await),
        Err(error) => call.error(error),
    }
}

/// Serves a method of one request and a stream of replies. The head of the response goes out at once; the response body polls the
/// handler, so that it is dropped when the client goes. `Connect-Timeout-Ms` ends the stream with `deadline_exceeded`.
pub async fn server_stream<Req, Res, B, F, Fut>(call: &Call, body: B, handler: F) -> Response<Body>
where
    Req: Message,
    Res: Message,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    F: FnOnce(Req, Sink<Res>) -> Fut,
    Fut: Future<Output = Result<(), RpcError>> + Send + 'static,
{
    if !call.stream {
        return call.error(RpcError::unimplemented("this method gives a stream of replies"));
    }
    let request = match call.request(body).await {
        Ok(request) => request,
        Err(error) => return call.error(error),
    };
    let (out, queue) = mpsc::channel(QUEUE);
    let work = handler(request, Sink::new(out, call.codec));
    let body = match call.timeout {
        None => StreamBody::new(work, queue),
        Some(limit) => {
            let limited = async move { tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(RpcError::deadline_exceeded())) };
            StreamBody::new(limited, queue)
        }
    };
    call.streaming(body.boxed_unsync())
}

/// Serves a method of a stream of requests and one reply.
pub async fn client_stream<Req, Res, B, F, Fut>(call: &Call, body: B, handler: F) -> Response<Body>
where
    Req: Message,
    Res: Message,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    F: FnOnce(Messages<Req>) -> Fut,
    Fut: Future<Output = Result<Res, RpcError>>,
{
    if !call.stream {
        return call.error(RpcError::unimplemented("this method takes a stream of requests"));
    }
    let reply =
        handler(call.messages(body)).await.and_then(|reply| call.codec.encode(&reply)).and_then(|payload| envelope::message(&payload));
    match reply {
        Err(error) => call.error(error),
        Ok(message) => call.streaming(body::full([message, envelope::end(Ok(()))].concat())),
    }
}

fn content_type(headers: &HeaderMap) -> Option<(Codec, bool)> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?.to_ascii_lowercase();
    let (essence, parameters) = value.split_once(';').unwrap_or((&value, ""));
    let known = match essence.trim() {
        "application/json" => (Codec::Json, false),
        "application/proto" => (Codec::Proto, false),
        "application/connect+json" => (Codec::Json, true),
        "application/connect+proto" => (Codec::Proto, true),
        _ => return None,
    };
    let utf8 = matches!(parameters.trim(), "" | "charset=utf-8" | "charset=\"utf-8\"");
    utf8.then_some(known)
}

fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, RpcError> {
    let Some(value) = headers.get("connect-timeout-ms") else { return Ok(None) };
    let digits = value.to_str().unwrap_or_default();
    if digits.is_empty() || digits.len() > 10 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(RpcError::invalid_argument("connect-timeout-ms must be at most ten decimal digits"));
    }
    let ms: u64 = digits.parse().expect("at most ten digits fit");
    Ok((ms > 0).then(|| Duration::from_millis(ms)))
}

/// Whether what the client sends is compressed with gzip.
fn compression(headers: &HeaderMap, stream: bool) -> Result<bool, RpcError> {
    let name = if stream { "connect-content-encoding" } else { "content-encoding" };
    match headers.get(name).map(HeaderValue::as_bytes) {
        None | Some(b"" | b"identity") => Ok(false),
        Some(b"gzip") => Ok(true),
        Some(other) => {
            let other = String::from_utf8_lossy(other);
            Err(RpcError::unimplemented(format!("unknown compression {other:?}: supported encodings are gzip and identity")))
        }
    }
}
