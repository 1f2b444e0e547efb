//! The Connect protocol and its messages.

use atoll_wire::{
    body,
    connect::{
        Call, Message, Messages, RpcError, client_stream,
        envelope::{Decoder, Envelope, end, message},
        server_stream, unary,
    },
    filesystem, node,
    process::{self, StartRequest, StreamInputRequest},
};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header, request::Parts};
use http_body_util::BodyExt as _;
use tokio::runtime::{Builder, Runtime};

use crate::input::Input;

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().enable_time().build().expect("a runtime without threads");
}

/// Line 1: `gzip`, or not. Line 2: pieces of the rest, a stream of envelopes.
///
/// However it is cut, the same envelopes come out, and each can be written again.
pub fn connect_envelope(bytes: &[u8]) {
    let mut input = Input(bytes);
    let gzip = input.line() == b"gzip";
    let pieces = input.pieces();
    let found = envelopes(gzip, &pieces);
    assert_eq!(found, envelopes(gzip, &[&pieces.concat()]));
    for envelope in found.0 {
        let written = match &envelope {
            Envelope::Message(payload) => message(payload).expect("a message that was read is not too long"),
            Envelope::End(result) => end(result.clone()),
        };
        assert_eq!(envelopes(false, &[&written]), (vec![envelope], Ok(true)));
    }
}

/// The envelopes in a stream; and whether nothing is left over, or why it is none.
fn envelopes(gzip: bool, pieces: &[&[u8]]) -> (Vec<Envelope>, Result<bool, RpcError>) {
    let mut decoder = Decoder::new(gzip);
    let mut found = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next_envelope() {
                Ok(Some(envelope)) => found.push(envelope),
                Ok(None) => break,
                Err(error) => return (found, Err(error)),
            }
        }
    }
    (found, Ok(decoder.is_empty()))
}

/// Headers up to an empty line, then pieces of the rest, the body of a call.
///
/// However the body is cut, each kind of method answers the same: a stream ends with exactly one end, an error has its status.
pub fn connect_stream(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mut head = Request::new(()).into_parts().0;
    head.method = Method::POST;
    head.headers = input.headers();
    let pieces = input.pieces();
    let work = async {
        let Ok(call) = Call::parse(&head) else { return };
        let whole = pieces.concat();
        for kind in [Kind::Unary, Kind::ServerStream, Kind::ClientStream] {
            let cut = answer(&call, kind, &pieces).await;
            assert_eq!(cut, answer(&call, kind, &[&whole]).await);
            check_answer(&head, &call, cut.0, &cut.1);
        }
    };
    RUNTIME.with(|runtime| runtime.block_on(work));
}

#[derive(Clone, Copy)]
enum Kind {
    Unary,
    ServerStream,
    ClientStream,
}

/// What a method answers that gives back what it gets.
async fn answer(call: &Call, kind: Kind, pieces: &[&[u8]]) -> (StatusCode, Bytes) {
    let (mut sender, body) = body::channel(pieces.len().max(1));
    for piece in pieces {
        sender.send(Bytes::copy_from_slice(piece)).await.expect("the body is not dropped yet");
    }
    drop(sender);
    let response = match kind {
        Kind::Unary => unary(call, body, |request: StartRequest| async { Ok(request) }).await,
        Kind::ServerStream => {
            server_stream(call, body, |request: StartRequest, mut sink| async move {
                sink.send(request.clone()).await;
                sink.send(request).await;
                Ok(())
            })
            .await
        }
        Kind::ClientStream => {
            client_stream(call, body, |mut messages: Messages<StreamInputRequest>| async move {
                let mut last = StreamInputRequest::default();
                while let Some(message) = messages.next().await? {
                    last = message;
                }
                Ok(last)
            })
            .await
        }
    };
    let (head, body) = response.into_parts();
    (head.status, body.collect().await.expect("an answer is not cut off").to_bytes())
}

fn check_answer(head: &Parts, call: &Call, status: StatusCode, answer: &Bytes) {
    if call.is_stream() {
        let (envelopes, outcome) = envelopes(false, &[answer]);
        assert_eq!((status, outcome), (StatusCode::OK, Ok(true)));
        let ends = envelopes.iter().map(|envelope| matches!(envelope, Envelope::End(_)));
        assert!(ends.clone().filter(|end| *end).count() == 1 && ends.last() == Some(true), "one end, and last: {envelopes:?}");
    } else if status != StatusCode::OK {
        let error: serde_json::Value = serde_json::from_slice(answer).expect("an error is JSON");
        assert!(error["code"].is_string(), "{error}");
    } else if head.headers[header::CONTENT_TYPE].as_bytes().to_ascii_lowercase().starts_with(b"application/json") {
        serde_json::from_slice::<StartRequest>(answer).expect("what was read is written in the same form");
    } else {
        <StartRequest as prost::Message>::decode(&answer[..]).expect("what was read is written in the same form");
    }
}

/// A message, read as any of ours, in both forms. What was read is written, and read again, and has not changed.
pub fn protobuf_messages(bytes: &[u8]) {
    macro_rules! try_as {
        ($($message:ty)*) => { $(any_form::<$message>(bytes);)* };
    }
    try_as! {
        process::ListRequest process::ListResponse process::StartRequest process::StartResponse process::ConnectRequest
        process::UpdateRequest process::SendInputRequest process::StreamInputRequest process::SendSignalRequest process::CloseStdinRequest
        filesystem::MoveRequest filesystem::MakeDirRequest filesystem::RemoveRequest filesystem::StatRequest filesystem::StatResponse
        filesystem::ListDirRequest filesystem::ListDirResponse filesystem::WatchDirRequest filesystem::WatchDirResponse
        filesystem::CreateWatcherRequest filesystem::GetWatcherEventsRequest filesystem::GetWatcherEventsResponse
        filesystem::RemoveWatcherRequest
        node::DescribeResponse node::EnsureSandboxRequest node::EnsureSandboxResponse node::RemoveSandboxRequest
        node::RemoveSandboxResponse node::SetDeadlineRequest node::ListSandboxesResponse node::WatchResponse
    }
}

fn any_form<M: Message>(bytes: &[u8]) {
    if let Ok(message) = M::decode(bytes) {
        survives(&message);
    }
    if let Ok(message) = serde_json::from_slice::<M>(bytes) {
        serde_json::to_vec(&message).expect("what was read from JSON has a JSON form");
        survives(&message);
    }
}

/// Messages are compared by their bytes: a number that is none differs from itself.
fn survives<M: Message>(message: &M) {
    let wire = message.encode_to_vec();
    assert_eq!(wire.len(), message.encoded_len());
    assert_eq!(M::decode(&wire[..]).expect("what was written can be read").encode_to_vec(), wire);
    // A moment outside the calendar has no JSON form.
    if let Ok(json) = serde_json::to_vec(message) {
        let read: M = serde_json::from_slice(&json).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&json)));
        assert_eq!(read.encode_to_vec(), wire, "{}", String::from_utf8_lossy(&json));
    }
}
