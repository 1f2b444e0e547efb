//! HTTP bodies: one boxed type, and the few ways to make and read one.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};
use serde::Serialize;
use tokio::sync::mpsc;

/// Any error, on its way to a log.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of every request and response that our programs make.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// No bytes.
pub fn empty() -> Body {
    full(Bytes::new())
}

/// These bytes.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    http_body_util::Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// What a peer sends.
pub fn from_incoming(incoming: hyper::body::Incoming) -> Body {
    incoming.map_err(BoxError::from).boxed_unsync()
}

/// A body that is written while it is read; at most `capacity` chunks wait.
pub fn channel(capacity: usize) -> (Sender, Body) {
    let (sender, receiver) = mpsc::channel(capacity);
    (Sender(sender), Channel(receiver).boxed_unsync())
}

/// The writing end of [`channel`]. Dropping it ends the body well; [`Sender::fail`] ends it badly.
#[derive(Debug, Clone)]
pub struct Sender(mpsc::Sender<Result<Bytes, BoxError>>);

/// Nobody reads the body any more.
#[derive(Debug, thiserror::Error)]
#[error("the reader of the body is gone")]
pub struct Closed;

impl Sender {
    /// Sends a chunk, waiting while the reader is behind.
    pub async fn send(&mut self, chunk: Bytes) -> Result<(), Closed> {
        self.0.send(Ok(chunk)).await.map_err(|_| Closed)
    }

    /// Sends a chunk from a thread that may block.
    pub fn blocking_send(&mut self, chunk: Bytes) -> Result<(), Closed> {
        self.0.blocking_send(Ok(chunk)).map_err(|_| Closed)
    }

    /// Breaks the body off, so that the reader cannot take it for complete.
    pub async fn fail(self, error: BoxError) {
        // Whoever would have been told is gone.
        let _ = self.0.send(Err(error)).await;
    }

    /// Like [`Sender::fail`], from a thread that may block.
    pub fn blocking_fail(self, error: BoxError) {
        let _ = self.0.blocking_send(Err(error));
    }

    /// Whether the reader has taken every chunk, and waits for the next.
    pub fn is_idle(&self) -> bool {
        self.0.capacity() == self.0.max_capacity()
    }

    /// Resolves when nobody reads any more.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

struct Channel(mpsc::Receiver<Result<Bytes, BoxError>>);

impl http_body::Body for Channel {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_recv(cx).map(|chunk| chunk.map(|chunk| chunk.map(Frame::data)))
    }
}

/// Why a whole body was not read.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// It is longer than the reader accepts.
    #[error("the body is larger than {limit} bytes")]
    TooLarge {
        /// The most it accepts.
        limit: usize,
    },
    /// The peer broke off.
    #[error("the body broke off")]
    Broken(#[source] BoxError),
}

/// Reads a whole body of at most `limit` bytes.
pub async fn collect<B>(body: B, limit: usize) -> Result<Bytes, CollectError>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let mut body = std::pin::pin!(body);
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|e| CollectError::Broken(e.into()))?.into_data() else { continue };
        if first.len() + whole.len() + data.len() > limit {
            return Err(CollectError::TooLarge { limit });
        }
        if first.is_empty() && whole.is_empty() {
            first = data;
            continue;
        }
        if whole.is_empty() {
            whole.extend_from_slice(&std::mem::take(&mut first));
        }
        whole.extend_from_slice(&data);
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

/// A JSON answer.
pub fn json<T: Serialize>(status: StatusCode, value: &T) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(text) => {
            let mut response = Response::new(full(text));
            *response.status_mut() = status;
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
            response
        }
        // Only a value that has no JSON form gets here, and none of our wire types can hold one.
        Err(_) => self::status(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// An answer without a body.
pub fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(empty());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn collects_up_to_the_limit() {
        let (mut sender, body) = channel(1);
        let writer = tokio::spawn(async move {
            for part in ["ab", "cd", "e"] {
                sender.send(Bytes::from(part)).await.unwrap();
            }
        });
        assert_eq!(collect(body, 5).await.unwrap(), "abcde");
        writer.await.unwrap();
        assert!(matches!(collect(full("abcdef"), 5).await, Err(CollectError::TooLarge { limit: 5 })));
    }

    #[tokio::test]
    async fn a_failed_body_is_not_taken_for_a_whole_one() {
        let (mut sender, body) = channel(4);
        sender.send(Bytes::from("half")).await.unwrap();
        sender.fail("disk gone".into()).await;
        assert!(matches!(collect(body, 100).await, Err(CollectError::Broken(_))));
    }
}
