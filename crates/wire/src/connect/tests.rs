use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use proptest::prelude::*;

use super::{envelope::Decoder, *};
use crate::{
    body::{self, Body},
    filesystem::{EntryInfo, FileType, WatchDirRequest},
    process::{
        ListRequest, ListResponse, ProcessEvent, SendInputRequest, SendSignalRequest, Signal, StartRequest, StartResponse,
        StreamInputRequest,
        process_event::{DataEvent, EndEvent, Event, KeepAlive, StartEvent, data_event::Output},
        process_input::Input,
    },
    transport,
};

fn head(content_type: &str, more: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::post("/x").header("content-type", content_type);
    for (name, value) in more {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

fn call(content_type: &str, more: &[(&str, &str)]) -> Result<Call, Response<Body>> {
    Call::parse(&head(content_type, more).into_parts().0)
}

async fn text(response: Response<Body>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

fn enveloped(json: &str) -> Vec<u8> {
    [&[0][..], &(json.len() as u32).to_be_bytes(), json.as_bytes()].concat()
}

#[test]
fn json_follows_protobufs_rules() {
    let event = |event| serde_json::to_string(&StartResponse { event: Some(ProcessEvent { event: Some(event) }) }).unwrap();
    assert_eq!(event(Event::Start(StartEvent { pid: 7 })), r#"{"event":{"start":{"pid":7}}}"#);
    assert_eq!(event(Event::Keepalive(KeepAlive {})), r#"{"event":{"keepalive":{}}}"#);
    let end = EndEvent { exit_code: 0, exited: true, status: "exit status 0".into(), error: None };
    assert_eq!(event(Event::End(end)), r#"{"event":{"end":{"exited":true,"status":"exit status 0"}}}"#);
    let data = DataEvent { output: Some(Output::Stdout(Bytes::from_static(b"\xff\xfe?"))) };
    assert_eq!(event(Event::Data(data)), r#"{"event":{"data":{"stdout":"//4/"}}}"#);

    let entry = EntryInfo { size: 5, r#type: FileType::Directory as i32, symlink_target: Some(String::new()), ..Default::default() };
    assert_eq!(serde_json::to_string(&entry).unwrap(), r#"{"type":"FILE_TYPE_DIRECTORY","size":"5","symlinkTarget":""}"#);
}

#[test]
fn json_reads_what_clients_may_write() {
    let read = |text| serde_json::from_str::<EntryInfo>(text).unwrap();
    assert_eq!(read(r#"{"size":5}"#).size, 5);
    assert_eq!(read(r#"{"size":"-5","unknown":[1,{}]}"#).size, -5);
    assert_eq!(read(r#"{"name":null,"size":null,"metadata":null}"#), EntryInfo::default());
    assert_eq!(read(r#"{"symlink_target":"a"}"#).symlink_target.as_deref(), Some("a"));
    let at = read(r#"{"modifiedTime":"2025-01-02T03:04:05.5+01:00"}"#);
    assert_eq!(serde_json::to_string(&at).unwrap(), r#"{"modifiedTime":"2025-01-02T02:04:05.500Z"}"#);

    let signal = |text| serde_json::from_str::<SendSignalRequest>(text).unwrap().signal;
    assert_eq!((signal(r#"{"signal":"SIGNAL_SIGKILL"}"#), signal(r#"{"signal":15}"#)), (Signal::Sigkill as i32, 15));

    for base64 in ["//4/", "__4_", "//4", "__4"] {
        let request: SendInputRequest = serde_json::from_str(&format!(r#"{{"input":{{"stdin":"{base64}"}}}}"#)).unwrap();
        let Some(Input::Stdin(bytes)) = request.input.unwrap().input else { panic!("{base64}") };
        assert_eq!(&bytes[..], if base64.len() == 4 { &b"\xff\xfe?"[..] } else { &b"\xff\xfe"[..] });
    }
    assert!(serde_json::from_str::<EntryInfo>(r#"{"size":"many"}"#).is_err());
    assert!(serde_json::from_str::<SendSignalRequest>(r#"{"signal":"SIGNAL_SIGHUP"}"#).is_err());
    let watch: WatchDirRequest = serde_json::from_str(r#"{"path":"/a","includeEntry":true,"allow_network_mounts":true}"#).unwrap();
    assert!(watch.include_entry && watch.allow_network_mounts);
}

#[test]
fn the_binary_form_is_protobufs() {
    use prost::Message as _;
    let end = EndEvent { exit_code: -1, exited: false, status: "signal: killed".into(), error: Some(String::new()) };
    // Field 1 zigzag(-1) = 1; field 3 length 14; field 4 present though empty.
    assert_eq!(end.encode_to_vec(), [&[0x08, 1, 0x1a, 14][..], b"signal: killed", &[0x22, 0]].concat());
    let input = crate::process::stream_input_request::DataEvent { input: Some(Default::default()) };
    assert_eq!(input.encode_to_vec(), [0x12, 0], "input is field 2");
    let request = StartRequest { stdin: Some(false), ..Default::default() };
    assert_eq!(request.encode_to_vec(), [0x20, 0], "an explicit false is kept");
}

#[test]
fn heads_are_checked() {
    assert!(call("application/json; charset=utf-8", &[]).is_ok_and(|c| !c.is_stream()));
    assert!(call("application/connect+proto", &[]).is_ok_and(|c| c.is_stream()));
    assert_eq!(call("text/plain", &[]).unwrap_err().status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(call("application/json", &[("connect-timeout-ms", "60000")]).unwrap().timeout(), Some(Duration::from_secs(60)));
    assert_eq!(call("application/json", &[("connect-timeout-ms", "0")]).unwrap().timeout(), None);
    for bad in ["", "-1", "1.5", "12345678901", "x"] {
        assert_eq!(call("application/json", &[("connect-timeout-ms", bad)]).unwrap_err().status(), StatusCode::BAD_REQUEST, "{bad:?}");
        assert_eq!(call("application/connect+json", &[("connect-timeout-ms", bad)]).unwrap_err().status(), StatusCode::OK, "{bad:?}");
    }
    assert!(call("application/json", &[("content-encoding", "identity")]).is_ok());
    assert_eq!(call("application/json", &[("content-encoding", "br")]).unwrap_err().status(), StatusCode::NOT_IMPLEMENTED);
    assert_eq!(call("application/json", &[("connect-protocol-version", "2")]).unwrap_err().status(), StatusCode::BAD_REQUEST);
    let get = Request::get("/x").body(()).unwrap().into_parts().0;
    assert_eq!(Call::parse(&get).unwrap_err().status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_unary_error_has_its_status_and_a_stream_error_has_200() {
    let error = || RpcError::not_found("no process 9");
    let response = call("application/json", &[]).unwrap().error(error());
    assert_eq!(
        (response.status(), text(response).await),
        (StatusCode::NOT_FOUND, r#"{"code":"not_found","message":"no process 9"}"#.into())
    );
    let response = call("application/connect+json", &[]).unwrap().error(error());
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(text(response).await.split_off(5), r#"{"error":{"code":"not_found","message":"no process 9"}}"#);
}

#[tokio::test]
async fn an_empty_json_body_is_refused_and_gzip_is_undone() {
    let unary = |call: Call, body: Vec<u8>| async move {
        unary(&call, body::full(body), |_: ListRequest| async { Ok(ListResponse::default()) }).await.status()
    };
    assert_eq!(unary(call("application/json", &[]).unwrap(), vec![]).await, StatusCode::BAD_REQUEST);
    let mut gzip = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, b"{}").unwrap();
    let gzip = gzip.finish().unwrap();
    assert_eq!(unary(call("application/json", &[("content-encoding", "gzip")]).unwrap(), gzip.clone()).await, StatusCode::OK);
    assert_eq!(unary(call("application/json", &[]).unwrap(), gzip).await, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_stream_sends_everything_and_says_how_it_ended() {
    for result in [Ok(()), Err(RpcError::internal("broken"))] {
        let call = call("application/connect+json", &[]).unwrap();
        let handler_result = result.clone();
        let response = server_stream(&call, body::full(enveloped("{}")), |_: ListRequest, mut sink| async move {
            for pid in 1..=100 {
                sink.send(StartEvent { pid }).await;
            }
            handler_result
        })
        .await;
        let mut messages = Messages::<StartEvent>::new(response.into_body(), Codec::Json, false, true);
        for pid in 1..=100 {
            assert_eq!(messages.next().await.unwrap(), Some(StartEvent { pid }));
        }
        assert_eq!(messages.next().await.map(|m| assert_eq!(m, None)), result);
    }
}

#[tokio::test]
async fn a_stream_ends_at_its_deadline() {
    let call = call("application/connect+json", &[("connect-timeout-ms", "20")]).unwrap();
    let response = server_stream(&call, body::full(enveloped("{}")), |_: ListRequest, mut sink| async move {
        sink.send(StartEvent { pid: 1 }).await;
        std::future::pending().await
    })
    .await;
    let mut messages = Messages::<StartEvent>::new(response.into_body(), Codec::Json, false, true);
    assert_eq!(messages.next().await.unwrap(), Some(StartEvent { pid: 1 }));
    assert_eq!(messages.next().await.unwrap_err().code, Code::DeadlineExceeded);
}

#[tokio::test]
async fn dropping_the_response_drops_the_handler() {
    let alive = Arc::new(());
    let call = call("application/connect+json", &[]).unwrap();
    let held = alive.clone();
    let response = server_stream(&call, body::full(enveloped("{}")), |_: ListRequest, _: Sink<StartEvent>| async move {
        let _held = held;
        std::future::pending().await
    })
    .await;
    assert_eq!(Arc::strong_count(&alive), 2);
    drop(response);
    assert_eq!(Arc::strong_count(&alive), 1);
}

#[tokio::test]
async fn a_client_stream_reads_to_its_end() {
    let call = call("application/connect+json", &[]).unwrap();
    let body = [enveloped(r#"{"keepalive":{}}"#), enveloped(r#"{"keepalive":{}}"#)].concat();
    let response = client_stream(&call, body::full(body), |mut messages: Messages<StreamInputRequest>| async move {
        let mut pid = 0;
        while messages.next().await?.is_some() {
            pid += 1;
        }
        Ok(StartEvent { pid })
    })
    .await;
    let mut messages = Messages::<StartEvent>::new(response.into_body(), Codec::Json, false, true);
    assert_eq!(messages.next().await.unwrap(), Some(StartEvent { pid: 2 }));
    assert_eq!(messages.next().await.unwrap(), None);
}

#[tokio::test]
async fn hostile_streams_are_refused() {
    let cases: [(&[u8], Code); 5] = [
        (b"", Code::InvalidArgument),
        (b"\x00\x00\x00", Code::InvalidArgument),
        (b"\x00\xff\xff\xff\xff", Code::ResourceExhausted),
        (b"\x01\x00\x00\x00\x00", Code::InvalidArgument),
        (b"\x80\x00\x00\x00\x00", Code::InvalidArgument),
    ];
    for (bytes, code) in cases {
        let call = call("application/connect+json", &[]).unwrap();
        let response = server_stream(&call, body::full(bytes), |_: ListRequest, _: Sink<StartEvent>| async { Ok(()) }).await;
        let mut messages = Messages::<StartEvent>::new(response.into_body(), Codec::Json, false, true);
        assert_eq!(messages.next().await.unwrap_err().code, code, "{bytes:?}");
    }
}

#[tokio::test]
async fn client_and_server_meet_over_the_pipe() {
    let (pipe, serve) = transport::pipe(|request: Request<Body>| async move {
        let (head, body) = request.into_parts();
        let call = match Call::parse(&head) {
            Ok(call) => call,
            Err(refusal) => return refusal,
        };
        match head.uri.path() {
            crate::service::process::LIST => {
                unary(&call, body, |_: ListRequest| async { Err::<ListResponse, _>(RpcError::not_found("no")) }).await
            }
            _ => {
                server_stream(&call, body, |request: StartEvent, mut sink| async move {
                    for pid in 0..request.pid {
                        sink.send(StartEvent { pid }).await;
                    }
                    Ok(())
                })
                .await
            }
        }
    });
    let serving = tokio::spawn(serve);
    let client = Client::new(Arc::new(pipe)).with_timeout(Duration::from_secs(20));
    let error = client.unary::<_, ListResponse>(crate::service::process::LIST, &ListRequest {}).await.unwrap_err();
    assert_eq!(error, RpcError::not_found("no"));
    let mut messages = client.server_stream::<_, StartEvent>("/count", &StartEvent { pid: 500 }).await.unwrap();
    let mut seen = 0;
    while let Some(event) = messages.next().await.unwrap() {
        assert_eq!(event.pid, seen);
        seen += 1;
    }
    assert_eq!(seen, 500);
    drop((client, messages));
    tokio::time::timeout(Duration::from_secs(20), serving).await.unwrap().unwrap();
}

proptest! {
    #[test]
    fn envelopes_survive_any_cut(messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..8), cut in 1usize..20) {
        let mut wire = Vec::new();
        for message in &messages {
            wire.extend_from_slice(&envelope::message(&Bytes::from(message.clone())).unwrap());
        }
        wire.extend_from_slice(&envelope::end(Ok(())));
        let mut decoder = Decoder::new(false);
        let mut seen = Vec::new();
        let mut ended = false;
        for piece in wire.chunks(cut) {
            decoder.push(piece);
            while let Some(envelope) = decoder.next_envelope().unwrap() {
                match envelope {
                    envelope::Envelope::Message(bytes) => seen.push(bytes.to_vec()),
                    envelope::Envelope::End(result) => { prop_assert_eq!(result, Ok(())); ended = true; }
                }
            }
        }
        prop_assert!(ended && decoder.is_empty());
        prop_assert_eq!(seen, messages);
    }

    #[test]
    fn any_bytes_are_an_envelope_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut decoder = Decoder::new(true);
        decoder.push(&bytes);
        while let Ok(Some(_)) = decoder.next_envelope() {}
        let _ = Codec::Proto.decode::<StartRequest>(Bytes::from(bytes.clone()));
        let _ = Codec::Json.decode::<StartRequest>(Bytes::from(bytes));
    }
}
