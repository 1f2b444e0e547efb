//! The Connect protocol: unary calls and streams over HTTP, JSON and binary protobuf. Facts: reference/envd.md §4 and §5.
//!
//! Our own framing instead of a framework: what envd must get right (errors inside a 200 stream, deadlines that own a process, a
//! stream that ends when its client goes) is most of the protocol, and the rest is this folder.

mod call;
mod client;
mod code;
pub mod envelope;
mod stream;

pub use call::{Call, client_stream, server_stream, unary};
pub use client::{Answer, Client, Transport};
pub use code::{Code, RpcError};
pub use stream::{Messages, Sink};

/// What can travel: every message that `cargo xtask wire` generates.
pub trait Message: prost::Message + Default + serde::Serialize + serde::de::DeserializeOwned + Send + 'static {}

impl<T: prost::Message + Default + serde::Serialize + serde::de::DeserializeOwned + Send + 'static> Message for T {}

/// The most bytes one message may have, on either side, compressed or not.
pub const MESSAGE_LIMIT: usize = 64 << 20;

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    Json,
    Proto,
}

impl Codec {
    pub(crate) fn encode<M: Message>(self, message: &M) -> Result<bytes::Bytes, RpcError> {
        match self {
            Codec::Proto => Ok(message.encode_to_vec().into()),
            Codec::Json => serde_json::to_vec(message).map(Into::into).map_err(|e| RpcError::internal(format!("encoding the reply: {e}"))),
        }
    }

    pub(crate) fn decode<M: Message>(self, bytes: bytes::Bytes) -> Result<M, RpcError> {
        match self {
            Codec::Proto => M::decode(bytes).map_err(|e| RpcError::invalid_argument(format!("undecodable message: {e}"))),
            Codec::Json => serde_json::from_slice(&bytes).map_err(|e| RpcError::invalid_argument(format!("undecodable message: {e}"))),
        }
    }
}

#[cfg(test)]
mod tests;
