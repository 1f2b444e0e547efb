//! The five bytes before every message of a stream, and the message that ends one. Facts: reference/envd.md §4.4.

use std::io::Read as _;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::{
    MESSAGE_LIMIT, RpcError,
    code::{Code, ErrorBody},
};

const COMPRESSED: u8 = 1;
const END: u8 = 2;

/// What one envelope carries.
#[derive(Debug, PartialEq)]
pub enum Envelope {
    /// A message, no longer compressed.
    Message(Bytes),
    /// The last of a response, and how the call went.
    End(Result<(), RpcError>),
}

#[derive(serde::Serialize, serde::Deserialize)]
struct EndOfStream {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<ErrorBody>,
}

/// A message in its envelope; an error if it is longer than [`MESSAGE_LIMIT`].
pub fn message(payload: &Bytes) -> Result<Bytes, RpcError> {
    if payload.len() > MESSAGE_LIMIT {
        return Err(RpcError::resource_exhausted(format!("a message of {} bytes", payload.len())));
    }
    Ok(frame(0, payload))
}

/// The envelope that ends a response.
pub fn end(result: Result<(), RpcError>) -> Bytes {
    let end = EndOfStream { error: result.err().map(ErrorBody::from) };
    let payload = serde_json::to_vec(&end).expect("two strings always have a JSON form");
    frame(END, &payload)
}

fn frame(flags: u8, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(5 + payload.len());
    out.put_u8(flags);
    out.put_u32(u32::try_from(payload.len()).expect("messages are bounded far below 4 GiB"));
    out.put_slice(payload);
    out.freeze()
}

/// Finds envelopes in bytes that arrive in any pieces.
pub struct Decoder {
    buffer: BytesMut,
    gzip: bool,
}

impl Decoder {
    /// For a stream that may hold messages compressed with gzip, or may not.
    pub fn new(gzip: bool) -> Self {
        Self { buffer: BytesMut::new(), gzip }
    }

    /// Takes what has arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether nothing is left over, not even the start of an envelope.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The next whole envelope, or `None` until more bytes come.
    pub fn next_envelope(&mut self) -> Result<Option<Envelope>, RpcError> {
        let Some(mut head) = self.buffer.get(..5) else { return Ok(None) };
        let (flags, length) = (head.get_u8(), head.get_u32() as usize);
        if flags & !(COMPRESSED | END) != 0 {
            return Err(RpcError::invalid_argument(format!("an envelope with unknown flags {flags:#04x}")));
        }
        if length > MESSAGE_LIMIT {
            return Err(RpcError::resource_exhausted(format!("a message of {length} bytes is larger than {MESSAGE_LIMIT}")));
        }
        if self.buffer.len() < 5 + length {
            return Ok(None);
        }
        self.buffer.advance(5);
        let mut payload = self.buffer.split_to(length).freeze();
        if flags & COMPRESSED != 0 {
            if !self.gzip {
                return Err(RpcError::invalid_argument("a compressed message in a stream that named no compression"));
            }
            payload = gunzip(&payload)?;
        }
        if flags & END == 0 {
            return Ok(Some(Envelope::Message(payload)));
        }
        let end: EndOfStream =
            serde_json::from_slice(&payload).map_err(|e| RpcError::new(Code::Internal, format!("undecodable end of stream: {e}")))?;
        Ok(Some(Envelope::End(end.error.map_or(Ok(()), |error| Err(error.into())))))
    }
}

/// Undoes gzip, never into more than [`MESSAGE_LIMIT`] bytes.
pub(crate) fn gunzip(bytes: &[u8]) -> Result<Bytes, RpcError> {
    let mut out = Vec::new();
    flate2::read::MultiGzDecoder::new(bytes)
        .take(MESSAGE_LIMIT as u64 + 1)
        .read_to_end(&mut out)
        .map_err(|e| RpcError::invalid_argument(format!("undecodable gzip: {e}")))?;
    if out.len() > MESSAGE_LIMIT {
        return Err(RpcError::resource_exhausted(format!("a compressed message that unpacks to more than {MESSAGE_LIMIT} bytes")));
    }
    Ok(out.into())
}
