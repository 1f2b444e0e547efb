//! Bodies on their way through: never buffered, and never made to look complete when they are not.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::{
    pool::{Permit, Sender},
    server::Busy,
};

/// A request's body towards the guest; `None` when the request is sent a second time, which only happens to those without one.
pub struct RequestBody(pub Option<Incoming>);

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.0 {
            Some(incoming) => Pin::new(incoming).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or(SizeHint::with_exact(0), Incoming::size_hint)
    }
}

/// A body towards the client: the guest's, or a short one of our own.
pub struct ResponseBody {
    content: Content,
    /// Tells the client's connection that it is in use.
    pub(crate) busy: Option<Busy>,
}

enum Content {
    Own(Option<Bytes>),
    Relayed(Relayed),
}

struct Relayed {
    incoming: Incoming,
    complete: bool,
    /// Present until the body is dropped.
    exchange: Option<Exchange>,
}

/// What a relayed response holds open.
pub(crate) struct Exchange {
    pub permit: Permit,
    pub port: u16,
    pub sender: Sender,
    /// How many idle connections the run may keep.
    pub room: usize,
}

/// Why a relayed body broke off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The guest's server went away.
    #[error("the sandbox's server broke off its answer")]
    Guest(#[source] hyper::Error),
    /// The sandbox ended.
    #[error("the sandbox ended")]
    Ended,
}

impl ResponseBody {
    pub(crate) fn own(bytes: impl Into<Bytes>) -> Self {
        Self { content: Content::Own(Some(bytes.into()).filter(|b: &Bytes| !b.is_empty())), busy: None }
    }

    pub(crate) fn relayed(incoming: Incoming, exchange: Exchange) -> Self {
        Self { content: Content::Relayed(Relayed { incoming, complete: false, exchange: Some(exchange) }), busy: None }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.content {
            Content::Own(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Content::Relayed(relayed) => relayed.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Own(bytes) => bytes.is_none(),
            Content::Relayed(relayed) => relayed.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Content::Relayed(relayed) => relayed.incoming.size_hint(),
        }
    }
}

impl Relayed {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        // A connection that is cut because the run ended looks like one that finished: ask which it was.
        let ended = self.exchange.as_ref().is_none_or(|exchange| exchange.permit.route().ended.is_cancelled());
        Poll::Ready(match frame {
            Some(Ok(frame)) => Some(Ok(frame)),
            Some(Err(_)) | None if ended => Some(Err(BodyError::Ended)),
            Some(Err(e)) => Some(Err(BodyError::Guest(e))),
            None => {
                self.complete = true;
                None
            }
        })
    }
}

impl Drop for Relayed {
    fn drop(&mut self) {
        if let Some(Exchange { permit, port, sender, room }) = self.exchange.take()
            && (self.complete || self.incoming.is_end_stream())
        {
            permit.check_in(port, sender, room);
        }
    }
}
