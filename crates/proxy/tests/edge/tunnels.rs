//! Connections that change their protocol, as websockets do.

use tokio::io::AsyncWriteExt;
use tokio_util::sync::CancellationToken;

use crate::support::{Edge, Guest, Wire};

async fn tunnel(edge: &Edge, app: &Guest) -> (Wire, Wire) {
    let mut client = edge.client().await;
    client
        .send(&format!(
            "GET /ws HTTP/1.1\r\nHost: {}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n",
            app.host("abc1")
        ))
        .await;
    let mut guest = app.accept().await;
    let head = guest.head().await;
    assert!(
        head.contains("connection: upgrade\r\n") && head.contains("upgrade: websocket\r\n") && head.contains("sec-websocket-key: k\r\n"),
        "{head}"
    );
    guest
        .send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: a\r\n\r\nhello")
        .await;
    let head = client.head().await.to_lowercase();
    assert!(
        head.starts_with("http/1.1 101 ") && head.contains("upgrade: websocket\r\n") && head.contains("connection: upgrade\r\n"),
        "{head}"
    );
    assert!(head.contains("sec-websocket-accept: a\r\n"), "{head}");
    assert_eq!(client.until("hello").await, "hello");
    (client, guest)
}

async fn world() -> (Edge, Guest, CancellationToken) {
    let edge = Edge::start().await;
    let app = Guest::listen().await;
    let ended = edge.publish("abc1", &app, 1);
    (edge, app, ended)
}

#[tokio::test]
async fn bytes_flow_both_ways_and_each_way_ends_by_itself() {
    let (edge, app, _ended) = world().await;
    let (mut client, mut guest) = tunnel(&edge, &app).await;
    client.send("ping").await;
    assert_eq!(guest.until("ping").await, "ping");
    guest.send("pong").await;
    assert_eq!(client.until("pong").await, "pong");
    client.stream.shutdown().await.unwrap();
    assert_eq!(guest.rest().await, "");
    guest.send("bye").await;
    drop(guest);
    assert_eq!(client.rest().await, "bye");
}

#[tokio::test]
async fn whoever_leaves_takes_the_tunnel_along() {
    let (edge, app, ended) = world().await;
    let (client, mut guest) = tunnel(&edge, &app).await;
    drop(client);
    assert_eq!(guest.rest().await, "");
    let (mut client, guest) = tunnel(&edge, &app).await;
    drop(guest);
    assert_eq!(client.rest().await, "");
    let (mut client, mut guest) = tunnel(&edge, &app).await;
    ended.cancel();
    assert_eq!((client.rest().await, guest.rest().await), (String::new(), String::new()));
}

#[tokio::test]
async fn a_guest_may_decline() {
    let (edge, app, _ended) = world().await;
    let mut client = edge.client().await;
    client.send(&format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: upgrade\r\nUpgrade: h9\r\n\r\n", app.host("abc1"))).await;
    let mut guest = app.accept().await;
    guest.head().await;
    guest.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno").await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.body.as_str()), (400, "no"));
}

#[tokio::test]
async fn envd_is_never_behind_a_tunnel() {
    let (edge, envd, _ended) = world().await;
    let mut client = edge.client().await;
    client.send("GET /health HTTP/1.1\r\nHost: 49983-abc1.my.cloud\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n").await;
    let mut guest = envd.accept().await;
    let head = guest.head().await;
    assert!(!head.contains("upgrade") && !head.contains("h2c") && !head.contains("http2-settings"), "{head}");
    guest.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n").await;
    assert_eq!(client.reply().await.status, 502);
}
