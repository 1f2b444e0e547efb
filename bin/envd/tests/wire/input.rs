//! Standard input.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::daemon::{Daemon, encoded, envelope, json_body, shell};

async fn stream_input(daemon: &Daemon, messages: &[Value]) -> Vec<u8> {
    let body: Vec<u8> = messages.iter().flat_map(envelope).collect();
    let headers = [("content-type", "application/connect+json")];
    let response = daemon.send(Method::POST, "/process.Process/StreamInput", &headers, body).await;
    assert_eq!(response.status(), StatusCode::OK);
    atoll_wire::body::collect(response.into_body(), 1 << 20).await.unwrap().to_vec()
}

#[tokio::test]
async fn input_is_echoed_until_it_is_closed() {
    let daemon = Daemon::for_processes().await;
    let mut events = daemon.shell("cat; echo closed").await;
    let pid = events.pid().await;
    daemon.done("SendInput", json!({"process": {"pid": pid}, "input": {"stdin": encoded("hello\n")}})).await;
    assert_eq!(events.until_output("hello\n").await, "hello\n");
    assert_eq!(daemon.done("CloseStdin", json!({"process": {"pid": pid}})).await, json!({}));
    let outcome = events.outcome().await;
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (0, "closed\n"));
}

#[tokio::test]
async fn closing_twice_and_closing_nothing_are_successes() {
    let daemon = Daemon::for_processes().await;
    let enabled = daemon.shell("exec sleep 100").await.pid().await;
    let mut request = shell("exec sleep 100");
    request["stdin"] = false.into();
    let disabled = daemon.stream("Start", &[], request).await.pid().await;
    for pid in [enabled, disabled] {
        for _ in 0..2 {
            daemon.done("CloseStdin", json!({"process": {"pid": pid}})).await;
        }
        let request = json!({"process": {"pid": pid}, "input": {"stdin": encoded("x")}});
        assert_eq!(daemon.fails("SendInput", request).await.0, "internal");
    }
}

#[tokio::test]
async fn without_stdin_a_process_reads_nothing() {
    let daemon = Daemon::for_processes().await;
    let mut request = shell("read x");
    request["stdin"] = false.into();
    assert_eq!(daemon.stream("Start", &[], request).await.outcome().await.code(), 1);
}

#[tokio::test]
async fn input_of_the_wrong_kind_is_refused() {
    let daemon = Daemon::for_processes().await;
    let pid = daemon.shell("exec sleep 100").await.pid().await;
    for (input, code) in [(json!({"pty": encoded("x")}), "internal"), (json!({}), "unimplemented")] {
        assert_eq!(daemon.fails("SendInput", json!({"process": {"pid": pid}, "input": input})).await.0, code);
    }
    let size = json!({"size": {"cols": 1, "rows": 1}});
    assert_eq!(daemon.fails("Update", json!({"process": {"pid": pid}, "pty": size})).await.0, "internal");
    assert_eq!(daemon.done("Update", json!({"process": {"pid": pid}})).await, json!({}));
}

#[tokio::test]
async fn input_nobody_reads_fails_when_the_process_ends() {
    let daemon = Daemon::for_processes().await;
    let mut events = daemon.shell("exec sleep 100").await;
    let pid = events.pid().await;
    let large = encoded(&"x".repeat(1 << 20));
    let blocked = daemon.fails("SendInput", json!({"process": {"pid": pid}, "input": {"stdin": large}}));
    let killed = daemon.done("SendSignal", json!({"process": {"pid": pid}, "signal": "SIGNAL_SIGKILL"}));
    let ((code, _), _) = tokio::join!(blocked, killed);
    assert!(["internal", "not_found"].contains(&code.as_str()), "{code}");
}

#[tokio::test]
async fn a_stream_of_input_arrives_in_order() {
    let daemon = Daemon::for_processes().await;
    let mut events = daemon.shell("cat").await;
    let pid = events.pid().await;
    let data = |text: &str| json!({"data": {"input": {"stdin": encoded(text)}}});
    let messages = [json!({"start": {"process": {"pid": pid}}}), data("one "), json!({"keepalive": {}}), data("two "), data("three")];
    let reply = stream_input(&daemon, &messages).await;
    assert_eq!(reply, [envelope(&json!({})), b"\x02\0\0\0\x02{}".into()].concat());
    assert_eq!(events.until_output("three").await, "one two three");
}

#[tokio::test]
async fn a_stream_of_input_must_begin_with_start() {
    let daemon = Daemon::for_processes().await;
    let end = |reply: Vec<u8>| serde_json::from_slice::<Value>(&reply[5..]).unwrap()["error"]["code"].clone();
    let data = json!({"data": {"input": {"stdin": encoded("x")}}});
    assert_eq!(end(stream_input(&daemon, &[data]).await), "invalid_argument");
    assert_eq!(end(stream_input(&daemon, &[json!({})]).await), "unimplemented");
    assert_eq!(end(stream_input(&daemon, &[json!({"start": {"process": {"pid": 999_999}}})]).await), "not_found");
    let alive = daemon.send(Method::POST, "/process.Process/List", &[("content-type", "application/json")], "{}").await;
    assert_eq!(json_body(alive).await, json!({}));
}
