//! The two ends of a stream: messages that arrive, and messages that leave.

use std::{
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt as _;
use tokio::sync::mpsc;

use super::{Codec, Message, RpcError, envelope};
use crate::body::{Body, BoxError};

/// Messages as they arrive.
pub struct Messages<M> {
    body: Body,
    decoder: envelope::Decoder,
    codec: Codec,
    ended: bool,
    /// A response must end with an end-of-stream envelope; a request just ends.
    needs_end: bool,
    message: PhantomData<fn() -> M>,
}

impl<M: Message> Messages<M> {
    pub(crate) fn new(body: Body, codec: Codec, gzip: bool, needs_end: bool) -> Self {
        Self { body, decoder: envelope::Decoder::new(gzip), codec, ended: false, needs_end, message: PhantomData }
    }

    /// The next message; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<M>, RpcError> {
        loop {
            if self.ended {
                return Ok(None);
            }
            match self.decoder.next_envelope()? {
                Some(envelope::Envelope::Message(payload)) => return self.codec.decode(payload).map(Some),
                Some(envelope::Envelope::End(result)) => {
                    self.ended = true;
                    return result.map(|()| None);
                }
                None => {}
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.decoder.push(&data);
                    }
                }
                Some(Err(error)) => return Err(RpcError::unavailable(format!("the stream broke off: {error}"))),
                None if self.needs_end => return Err(RpcError::unavailable("the stream ended without saying how")),
                None if !self.decoder.is_empty() => return Err(RpcError::invalid_argument("the stream ended within a message")),
                None => self.ended = true,
            }
        }
    }
}

/// Where the handler of a server stream puts its messages.
pub struct Sink<M> {
    out: mpsc::Sender<Result<Bytes, RpcError>>,
    codec: Codec,
    message: PhantomData<fn(M)>,
}

impl<M: Message> Sink<M> {
    pub(crate) fn new(out: mpsc::Sender<Result<Bytes, RpcError>>, codec: Codec) -> Self {
        Self { out, codec, message: PhantomData }
    }

    /// Sends one message, waiting while the client is slow. When the client is gone, the handler's future is dropped instead.
    pub async fn send(&mut self, message: M) {
        let framed = self.codec.encode(&message).and_then(|payload| envelope::message(&payload));
        // The receiver lives in the response body that polls this very future.
        let _ = self.out.send(framed).await;
    }
}

type Handler = Pin<Box<dyn Future<Output = Result<(), RpcError>> + Send>>;

/// The body of a server stream: polls the handler and hands out what it sends, so that a client that goes takes the handler along.
pub(crate) struct StreamBody {
    handler: Option<Handler>,
    queue: mpsc::Receiver<Result<Bytes, RpcError>>,
    end: Option<Result<(), RpcError>>,
    done: bool,
}

impl StreamBody {
    pub(crate) fn new(
        handler: impl Future<Output = Result<(), RpcError>> + Send + 'static,
        queue: mpsc::Receiver<Result<Bytes, RpcError>>,
    ) -> Self {
        Self { handler: Some(Box::pin(handler)), queue, end: None, done: false }
    }
}

impl http_body::Body for StreamBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            if this.done {
                return Poll::Ready(None);
            }
            match this.queue.try_recv() {
                Ok(Ok(message)) => return Poll::Ready(Some(Ok(Frame::data(message)))),
                Ok(Err(error)) => {
                    this.handler = None;
                    this.end = Some(Err(error));
                }
                Err(_) => {}
            }
            if let Some(result) = this.end.take() {
                this.done = true;
                return Poll::Ready(Some(Ok(Frame::data(envelope::end(result)))));
            }
            if let Some(handler) = &mut this.handler
                && let Poll::Ready(result) = handler.as_mut().poll(cx)
            {
                this.handler = None;
                // What the handler sent last is still in the queue: it goes out first.
                if this.queue.is_empty() {
                    this.end = Some(result);
                } else {
                    this.handler = Some(Box::pin(std::future::ready(result)));
                }
                continue;
            }
            match this.queue.poll_recv(cx) {
                Poll::Ready(Some(Ok(message))) => return Poll::Ready(Some(Ok(Frame::data(message)))),
                Poll::Ready(Some(Err(error))) => {
                    this.handler = None;
                    this.end = Some(Err(error));
                }
                // Nothing more will be sent, but the handler still works.
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }
}
