//! Who gets a request.

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt, Full};

use crate::support::{Edge, Guest, soon};

#[tokio::test]
async fn a_connection_for_one_host_is_for_no_other() {
    let edge = Edge::named("1-abc1.my.cloud").await;
    let envd = Guest::listen().await;
    edge.publish("abc1", &envd, 1);
    for host in ["1-abc1.my.cloud", "1-ABC1.My.Cloud:8443", "1-abc1.my.cloud."] {
        assert_eq!(edge.ask(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await.status, 502, "{host}");
    }
    for head in [
        "GET / HTTP/1.1\r\nHost: 2-abc1.my.cloud",
        "GET / HTTP/1.1\r\nHost: 1-abc1.my.cloud.evil.com",
        "GET / HTTP/1.1\r\nHost: my.cloud",
        "GET / HTTP/1.1\r\nHost: 1-abc1.my.cloud\r\nHost: 2-abc1.my.cloud",
        "GET / HTTP/1.1\r\nE2b-Sandbox-Id: abc1\r\nE2b-Sandbox-Port: 1",
        "GET http://2-abc1.my.cloud/ HTTP/1.1\r\nHost: 1-abc1.my.cloud",
    ] {
        assert_eq!(edge.ask(&format!("{head}\r\n\r\n")).await.status, 421, "{head}");
    }
}

#[tokio::test]
async fn every_form_of_address_leads_to_its_port() {
    let edge = Edge::start().await;
    let (envd, app) = (Guest::listen().await, Guest::listen().await);
    edge.publish("abc1", &envd, 1);
    let (id_only, port) = ("E2b-Sandbox-Id: abc1", app.port);
    envd.echo();
    app.echo();
    let headers = format!("{id_only}\r\nE2b-Sandbox-Port: {port}");
    for (request, host) in [
        (format!("GET /x HTTP/1.1\r\nHost: {port}-abc1.localhost\r\n\r\n"), format!("{port}-abc1.localhost")),
        (format!("GET /x HTTP/1.1\r\nHost: {port}-abc1.my.cloud:3002\r\n\r\n"), format!("{port}-abc1.my.cloud:3002")),
        (format!("GET /x HTTP/1.1\r\nHost: {port}-abc1-legacy.my.cloud\r\n\r\n"), format!("{port}-abc1-legacy.my.cloud")),
        (format!("GET /x HTTP/1.1\r\nHost: 127.0.0.1:3002\r\n{headers}\r\n\r\n"), "127.0.0.1:3002".into()),
        (format!("GET /x HTTP/1.1\r\nHost: [::1]:3002\r\n{headers}\r\n\r\n"), "[::1]:3002".into()),
        (format!("GET /x HTTP/1.1\r\nHost: localhost:3002\r\n{headers}\r\n\r\n"), format!("{port}-abc1.localhost:3002")),
        (format!("GET /x HTTP/1.1\r\nHost: sandbox.my.cloud\r\n{headers}\r\n\r\n"), format!("{port}-abc1.my.cloud")),
        // The host says more than the headers, the request line more than the host.
        (
            format!("GET /x HTTP/1.1\r\nHost: {port}-abc1.my.cloud\r\nE2b-Sandbox-Id: zzz\r\nE2b-Sandbox-Port: 1\r\n\r\n"),
            format!("{port}-abc1.my.cloud"),
        ),
        (format!("GET http://{port}-abc1.my.cloud/x HTTP/1.1\r\nHost: 1-zzz.my.cloud\r\n\r\n"), format!("{port}-abc1.my.cloud")),
    ] {
        let reply = edge.ask(&request).await;
        assert_eq!(reply.status, 200, "{request}{}", reply.body);
        assert!(reply.body.starts_with("GET /x HTTP/1.1\r\n"), "{request}{}", reply.body);
        assert!(reply.body.contains(&format!("host: {host}\r\n")), "{request}{}", reply.body);
        assert_eq!(reply.body.matches("host: ").count(), 1, "{}", reply.body);
    }
    let reply = edge.ask("GET /health HTTP/1.1\r\nHost: localhost\r\nE2b-Sandbox-Id: abc1\r\nE2b-Sandbox-Port: 49983\r\n\r\n").await;
    assert!(reply.body.starts_with("GET /health ") && reply.body.contains("host: localhost\r\n"), "{}", reply.body);
    let reply = edge.ask("GET /health HTTP/1.1\r\nHost: 49983-abc1.my.cloud\r\n\r\n").await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn http2_clients_are_served() {
    let edge = Edge::start().await;
    let app = Guest::listen().await;
    edge.publish("abc1", &app, 1);
    let host = app.host("abc1");
    app.echo();
    let mut client = edge.h2().await;
    let request = Request::post(format!("http://{host}/a%2Fb?q=%20"))
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(Full::new(Bytes::from_static(b"")))
        .unwrap();
    let response = soon(client.send_request(request)).await.unwrap();
    assert_eq!((response.status().as_u16(), response.version()), (200, Version::HTTP_2));
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let seen = std::str::from_utf8(&body).unwrap();
    assert!(seen.starts_with("POST /a%2Fb?q=%20 HTTP/1.1\r\n"), "{seen}");
    assert!(seen.contains(&format!("host: {host}\r\n")) && seen.contains("cookie: a=1; b=2\r\n"), "{seen}");

    // Without END_STREAM on the head and without a length, the body is chunked.
    let request = Request::put(format!("http://{host}/up")).body(Full::new(Bytes::from_static(b"data"))).unwrap();
    let response = soon(client.send_request(request)).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(std::str::from_utf8(&body).unwrap().contains("content-length: 4\r\n"));
}
