//! Connections to guests that are used again, and those that must not be.

use atoll_proxy::ProxyConfig;

use crate::support::{Edge, Guest, Wire, soon};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

async fn answered(client: &mut Wire, request: &str, guest: &mut Wire) -> String {
    client.send(request).await;
    let head = guest.head().await;
    guest.send(OK).await;
    assert_eq!(client.reply().await.body, "ok");
    head
}

#[tokio::test]
async fn a_connection_serves_many_requests_but_one_run() {
    let edge = Edge::start().await;
    let app = Guest::listen().await;
    edge.publish("abc1", &app, 1);
    let get = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", app.host("abc1"));
    let mut client = edge.client().await;
    client.send(&get).await;
    let mut guest = app.accept().await;
    guest.head().await;
    guest.send(OK).await;
    assert_eq!(client.reply().await.body, "ok");
    for _ in 0..5 {
        answered(&mut client, &get, &mut guest).await;
    }
    let mut other = edge.client().await;
    answered(&mut other, &get, &mut guest).await;

    edge.publish("abc1", &app, 2);
    client.send(&get).await;
    let mut newer = app.accept().await;
    newer.head().await;
    newer.send(OK).await;
    assert_eq!(client.reply().await.body, "ok");
    assert_eq!(guest.rest().await, "");
}

#[tokio::test]
async fn only_envd_gets_unrepeatable_requests_on_used_connections() {
    let edge = Edge::start().await;
    let guest = Guest::listen().await;
    edge.publish("abc1", &guest, 1);
    for (host, again) in [("49983-abc1.my.cloud".to_owned(), true), (guest.host("abc1"), false)] {
        let post = format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\n\r\nhi");
        let mut client = edge.client().await;
        client.send(&post).await;
        let mut first = guest.accept().await;
        first.until("\r\n\r\nhi").await;
        first.send(OK).await;
        assert_eq!(client.reply().await.body, "ok");
        client.send(&post).await;
        let mut second = if again { first } else { guest.accept().await };
        second.until("\r\n\r\nhi").await;
        second.send(OK).await;
        assert_eq!(client.reply().await.body, "ok");
    }
}

#[tokio::test]
async fn a_connection_that_died_meanwhile_costs_nothing() {
    let edge = Edge::start().await;
    let app = Guest::listen().await;
    edge.publish("abc1", &app, 1);
    let get = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", app.host("abc1"));
    let mut client = edge.client().await;
    client.send(&get).await;
    let mut guest = app.accept().await;
    guest.head().await;
    guest.send(OK).await;
    assert_eq!(client.reply().await.body, "ok");
    // Taken, read, and closed without a word: the request is sent again.
    client.send(&get).await;
    guest.head().await;
    drop(guest);
    let mut guest = app.accept().await;
    guest.head().await;
    guest.send(OK).await;
    assert_eq!(client.reply().await.body, "ok");
    // Closed while idle.
    drop(guest);
    client.send(&get).await;
    let mut guest = app.accept().await;
    guest.head().await;
    guest.send(OK).await;
    assert_eq!(client.reply().await.body, "ok");
}

#[tokio::test]
async fn half_an_answer_is_not_asked_for_again() {
    let edge = Edge::start().await;
    let app = Guest::listen().await;
    edge.publish("abc1", &app, 1);
    let get = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", app.host("abc1"));
    let mut client = edge.client().await;
    client.send(&get).await;
    let mut guest = app.accept().await;
    guest.head().await;
    guest.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await;
    drop(guest);
    assert!(client.rest().await.ends_with("\r\n\r\nhalf"));
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let edge = Edge::with(ProxyConfig { idle_upstream_ms: 50, ..ProxyConfig::default() }).await;
    let app = Guest::listen().await;
    edge.publish("abc1", &app, 1);
    let mut client = edge.client().await;
    client.send(&format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", app.host("abc1"))).await;
    let mut guest = app.accept().await;
    guest.head().await;
    guest.send(OK).await;
    assert_eq!(client.reply().await.body, "ok");
    assert_eq!(guest.rest().await, "");
}

#[tokio::test]
async fn idle_clients_are_sent_away_and_busy_ones_are_not() {
    let edge = Edge::with(ProxyConfig { idle_timeout_ms: 50, ..ProxyConfig::default() }).await;
    let app = Guest::listen().await;
    edge.publish("abc1", &app, 1);
    assert_eq!(edge.client().await.rest().await, "");
    let mut client = edge.client().await;
    client.send(&format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", app.host("abc1"))).await;
    let mut guest = app.accept().await;
    guest.head().await;
    // While this request waits, another client comes and is sent away.
    assert_eq!(edge.client().await.rest().await, "");
    guest.send(OK).await;
    assert_eq!(client.reply().await.body, "ok");
    assert_eq!(client.rest().await, "");
    let h2 = edge.h2().await;
    soon(async {
        while !h2.is_closed() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn who_does_not_come_to_a_request_is_cut_off() {
    let edge = Edge::with(ProxyConfig { head_timeout_ms: 50, ..ProxyConfig::default() }).await;
    for begun in ["", "G", "GET / HTTP/1.1\r\nhost: x\r\n", "PRI * HTTP/2.0\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut client = edge.client().await;
        client.send(begun).await;
        assert!(!client.rest_bytes().await.starts_with(b"HTTP/1.1 2"), "{begun}");
    }
    // A first request is enough.
    let app = Guest::listen().await;
    edge.publish("abc1", &app, 1);
    let mut client = edge.client().await;
    client.send(&format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", app.host("abc1"))).await;
    let mut guest = app.accept().await;
    guest.head().await;
    for _ in 0..3 {
        assert!(!edge.client().await.rest_bytes().await.starts_with(b"HTTP/1.1 2"), "time passes");
    }
    guest.send(OK).await;
    assert_eq!(client.reply().await.body, "ok");
}

#[tokio::test]
async fn stopping_lets_the_last_request_finish() {
    let edge = Edge::start().await;
    let app = Guest::listen().await;
    edge.publish("abc1", &app, 1);
    let (mut idle, mut client) = (edge.client().await, edge.client().await);
    client.send(&format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", app.host("abc1"))).await;
    let mut guest = app.accept().await;
    guest.head().await;
    edge.stop.cancel();
    assert_eq!(idle.rest().await, "");
    guest.send(OK).await;
    assert_eq!(client.reply().await.body, "ok");
    assert_eq!(client.rest().await, "");
    edge.serving.close();
    soon(edge.serving.wait()).await;
    soon(edge.proxy.close()).await;
    assert_eq!(guest.rest().await, "");
}
