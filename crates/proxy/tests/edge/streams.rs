//! Bodies as they flow, and how they end.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http2::SendRequest};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::support::{Edge, Guest, Wire, soon};

async fn world() -> (Edge, Guest, CancellationToken) {
    let edge = Edge::start().await;
    let app = Guest::listen().await;
    let ended = edge.publish("abc1", &app, 1);
    (edge, app, ended)
}

/// A request in flight: the guest has its head.
async fn asked(edge: &Edge, app: &Guest) -> (Wire, Wire) {
    let mut client = edge.client().await;
    client.send(&format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", app.host("abc1"))).await;
    let mut guest = app.accept().await;
    guest.head().await;
    (client, guest)
}

/// The same with a response that has begun.
async fn streaming(edge: &Edge, app: &Guest) -> (Wire, Wire) {
    let (mut client, mut guest) = asked(edge, app).await;
    guest.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n").await;
    client.head().await;
    assert_eq!(client.until("first\r\n").await, "5\r\nfirst\r\n");
    (client, guest)
}

async fn h2_streaming(edge: &Edge, app: &Guest) -> (Incoming, Wire, SendRequest<Full<Bytes>>) {
    let mut client = edge.h2().await;
    let request = Request::get(format!("http://{}/", app.host("abc1"))).body(Full::<Bytes>::default()).unwrap();
    let (response, guest) = tokio::join!(client.send_request(request), async {
        let mut guest = app.accept().await;
        guest.head().await;
        guest.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n").await;
        guest
    });
    let mut body = response.unwrap().into_body();
    assert_eq!(soon(body.frame()).await.unwrap().unwrap().into_data().unwrap(), "first");
    (body, guest, client)
}

#[tokio::test]
async fn a_response_flows_as_it_is_written() {
    let (edge, app, _ended) = world().await;
    let (mut client, mut guest) = streaming(&edge, &app).await;
    guest.send("6\r\nsecond\r\n").await;
    client.until("second\r\n").await;
    guest.send("0\r\n\r\n").await;
    client.until("0\r\n\r\n").await;
}

#[tokio::test]
async fn a_request_flows_as_it_is_written() {
    let (edge, app, _ended) = world().await;
    let mut client = edge.client().await;
    client.send(&format!("POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: 11\r\n\r\nfirst", app.host("abc1"))).await;
    let mut guest = app.accept().await;
    assert!(guest.until("first").await.contains("content-length: 11\r\n"));
    // The answer may begin before the question ends.
    guest.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n").await;
    client.until("2\r\nhi\r\n").await;
    client.send("second").await;
    assert_eq!(guest.until("second").await, "second");
    guest.send("0\r\n\r\n").await;
    client.until("0\r\n\r\n").await;
}

#[tokio::test]
async fn an_answer_arrives_from_a_server_that_did_not_want_to_read_on() {
    let (edge, app, _ended) = world().await;
    for _ in 0..20 {
        let mut client = edge.client().await;
        client.send(&format!("POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: 1000000000\r\n\r\n", app.host("abc1"))).await;
        let mut guest = app.accept().await;
        guest.head().await;
        let (mut from_edge, mut to_edge) = client.stream.split();
        let upload = async { while to_edge.write_all(&[b'x'; 1 << 16]).await.is_ok() {} };
        let answer = async {
            // Until there is no room on the way, and the connection ends with much unread.
            sleep(Duration::from_millis(5)).await;
            let body = "n".repeat(1000);
            guest.send(&format!("HTTP/1.1 413 Content Too Large\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await;
            drop(guest);
            let mut text = String::new();
            while text.len() < body.len() || !text.ends_with(&body) {
                let mut chunk = vec![0; 1 << 16];
                match soon(from_edge.read(&mut chunk)).await {
                    Ok(read) if read > 0 => text.push_str(std::str::from_utf8(&chunk[..read]).unwrap()),
                    end => panic!("{end:?} after {} bytes: {}", text.len(), &text[..text.len().min(300)]),
                }
            }
            text
        };
        let text = tokio::select! { text = answer => text, () = async { upload.await; std::future::pending().await } => unreachable!() };
        assert!(text.starts_with("HTTP/1.1 413"), "{}", &text[..300]);
    }
}

#[tokio::test]
async fn a_client_that_waits_for_100_is_told_to_go_on() {
    let (edge, app, _ended) = world().await;
    let mut client = edge.client().await;
    client.send(&format!("PUT / HTTP/1.1\r\nHost: {}\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n", app.host("abc1"))).await;
    let mut guest = app.accept().await;
    assert!(!guest.head().await.contains("expect"));
    assert_eq!(client.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("body").await;
    guest.until("body").await;
    guest.send("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(client.reply().await.status, 201);
    // Not for a request that goes nowhere.
    let reply = edge.ask("PUT / HTTP/1.1\r\nHost: 1-gone.my.cloud\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n").await;
    assert_eq!(reply.status, 502);
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_by_the_guest() {
    let (edge, app, _ended) = world().await;
    let (client, mut guest) = asked(&edge, &app).await;
    drop(client);
    assert_eq!(guest.rest().await, "", "before the answer");

    let (client, mut guest) = streaming(&edge, &app).await;
    drop(client);
    assert_eq!(guest.rest().await, "", "during the answer");

    let (body, mut guest, _client) = h2_streaming(&edge, &app).await;
    drop(body);
    assert_eq!(guest.rest().await, "", "one stream of many");

    let mut client = edge.client().await;
    client.send(&format!("POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: 11\r\n\r\nfirst", app.host("abc1"))).await;
    let mut guest = app.accept().await;
    guest.until("first").await;
    drop(client);
    assert_eq!(guest.rest().await, "", "during the question");
}

#[tokio::test]
async fn a_guest_that_leaves_cuts_the_response() {
    let (edge, app, _ended) = world().await;
    let (mut client, guest) = streaming(&edge, &app).await;
    drop(guest);
    assert_eq!(client.rest().await, "", "no final chunk");

    let (mut body, guest, _client) = h2_streaming(&edge, &app).await;
    drop(guest);
    let error = soon(body.frame()).await.unwrap().unwrap_err();
    assert!(!error.is_closed(), "the stream is reset, the connection is not: {error:?}");
}

#[tokio::test]
async fn the_end_of_a_sandbox_cuts_everything() {
    let (edge, app, ended) = world().await;
    let (mut waiting, mut waiting_guest) = asked(&edge, &app).await;
    let (mut reading, mut reading_guest) = streaming(&edge, &app).await;
    let (mut body, mut h2_guest, mut client) = h2_streaming(&edge, &app).await;
    ended.cancel();
    let reply = waiting.reply().await;
    assert_eq!((reply.status, reply.json()["reason"].as_str()), (502, Some("sandbox_not_found")));
    assert_eq!(reading.rest().await, "", "no final chunk");
    soon(body.frame()).await.unwrap().unwrap_err();
    for guest in [&mut waiting_guest, &mut reading_guest, &mut h2_guest] {
        assert_eq!(guest.rest().await, "");
    }
    // The client's connection lives on, and learns what happened.
    let request = Request::get("http://49983-abc1.my.cloud/health").body(Full::<Bytes>::default()).unwrap();
    assert_eq!(soon(client.send_request(request)).await.unwrap().status(), 502);
}

#[tokio::test]
async fn an_old_server_may_end_its_answer_by_closing() {
    let (edge, app, _ended) = world().await;
    let (mut client, mut guest) = asked(&edge, &app).await;
    guest.send("HTTP/1.0 200 OK\r\nServer: old\r\n\r\nall of it").await;
    drop(guest);
    let reply = client.reply().await;
    assert!(reply.head.starts_with("HTTP/1.1 200 OK\r\n") && reply.head.contains("transfer-encoding: chunked"), "{}", reply.head);
    assert_eq!(reply.body, "all of it");
}

#[tokio::test]
async fn large_bodies_pass_whole_both_ways() {
    let (edge, app, _ended) = world().await;
    let size = 8 << 20;
    let data: String = (0..size).map(|i| char::from(b'a' + (i % 23) as u8)).collect();
    let mut client = edge.client().await;
    let request = format!("POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: {size}\r\n\r\n", app.host("abc1"));
    let sending = async {
        client.send(&request).await;
        client.send(&data).await;
        client.reply().await
    };
    let echoing = async {
        let mut guest = app.accept().await;
        guest.head().await;
        let body = guest.exactly(size).await;
        guest.send(&format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n")).await;
        guest.send(&body).await;
    };
    let (reply, ()) = tokio::join!(sending, echoing);
    assert!(reply.body == data);
}
