//! What clients are told when their request goes nowhere.

use std::time::{Duration, Instant};

use atoll_proxy::ProxyConfig;
use serde_json::json;
use tokio::{io::AsyncWriteExt, net::TcpListener};

use crate::support::{Edge, Guest, soon};

#[tokio::test]
async fn an_unknown_sandbox_is_502() {
    let edge = Edge::start().await;
    let reply = edge.ask("GET /health HTTP/1.1\r\nHost: localhost\r\nE2b-Sandbox-Id: gone\r\nE2b-Sandbox-Port: 49983\r\n\r\n").await;
    assert_eq!(reply.status, 502);
    assert_eq!(
        reply.json(),
        json!({"sandboxId": "gone", "message": "The sandbox was not found", "code": 502, "reason": "sandbox_not_found"})
    );
}

#[tokio::test]
async fn a_closed_port_is_502_after_patience() {
    let edge = Edge::start().await;
    let (envd, app) = (Guest::listen().await, Guest::listen().await);
    let ended = edge.publish("abc1", &envd, 1);
    let (port, host) = (app.port, app.host("abc1"));
    drop(app);
    let asked = Instant::now();
    let reply = edge.ask(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    assert!(asked.elapsed() >= Duration::from_secs(1));
    assert_eq!(reply.status, 502);
    assert_eq!(
        reply.json(),
        json!({"sandboxId": "abc1", "message": "The sandbox is running but port is not open", "port": port, "code": 502, "reason": "port_closed"})
    );

    // A sandbox that ends meanwhile is gone, at once.
    let mut client = edge.client().await;
    client.send(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    ended.cancel();
    assert_eq!(client.reply().await.json()["reason"], "sandbox_not_found");
}

#[tokio::test]
async fn a_port_that_opens_late_is_reached() {
    let edge = Edge::start().await;
    let (envd, app) = (Guest::listen().await, Guest::listen().await);
    edge.publish("abc1", &envd, 1);
    let (port, host) = (app.port, app.host("abc1"));
    drop(app);
    let asking = async { edge.ask(&format!("GET /late HTTP/1.1\r\nHost: {host}\r\n\r\n")).await };
    let opening = async {
        // Longer than the first pause between attempts; the test passes whatever the machine makes of it.
        tokio::time::sleep(Duration::from_millis(150)).await;
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        Guest { listener, port }.echo();
    };
    let (reply, ()) = tokio::join!(asking, opening);
    assert!(reply.status == 200 && reply.body.starts_with("GET /late "), "{}", reply.body);
}

#[tokio::test]
async fn control_routes_are_404_before_anything_is_looked_up() {
    let edge = Edge::start().await;
    let envd = Guest::listen().await;
    edge.publish("abc1", &envd, 1);
    for id in ["abc1", "unknown"] {
        for (method, path) in
            [("POST", "/init"), ("GET", "//freeze"), ("PUT", "/x/../%69nit?a=1"), ("POST", "/upgrade/"), ("POST", "/%2Fcollapse")]
        {
            for request in [
                format!("{method} {path} HTTP/1.1\r\nHost: 49983-{id}.my.cloud\r\n\r\n"),
                format!("{method} http://49983-{id}.my.cloud{path} HTTP/1.1\r\nHost: x\r\n\r\n"),
                format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nE2b-Sandbox-Id: {id}\r\nE2b-Sandbox-Port: 049983\r\n\r\n"),
            ] {
                let reply = edge.ask(&request).await;
                assert_eq!((reply.status, reply.json()["reason"].as_str()), (404, Some("control_route")), "{request}");
            }
        }
    }
    // The same path of a user's server is the user's.
    let app = Guest::listen().await;
    let request = format!("POST /init HTTP/1.1\r\nHost: {}\r\n\r\n", app.host("abc1"));
    app.echo();
    assert_eq!(edge.ask(&request).await.status, 200);
}

#[tokio::test]
async fn a_request_for_nothing_is_400_in_words() {
    let edge = Edge::start().await;
    for request in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: nodot\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: 3000-abc1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nE2b-Sandbox-Id: abc1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nE2b-Sandbox-Port: 1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nE2b-Sandbox-Id: ABC\r\nE2b-Sandbox-Port: 1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: 99999-abc1.my.cloud\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: me@3000-abc1.my.cloud\r\n\r\n",
        "GET http://me:pw@3000-abc1.my.cloud/ HTTP/1.1\r\nHost: x\r\n\r\n",
        "CONNECT 3000-abc1.my.cloud:80 HTTP/1.1\r\nHost: 3000-abc1.my.cloud:80\r\n\r\n",
    ] {
        let reply = edge.ask(request).await;
        assert_eq!(reply.status, 400, "{request}");
        assert!(reply.head.contains("content-type: text/plain") && reply.body.len() > 10, "{request}{}{}", reply.head, reply.body);
    }
}

#[tokio::test]
async fn a_head_beyond_the_limit_is_refused() {
    let edge = Edge::start().await;
    let app = Guest::listen().await;
    edge.publish("abc1", &app, 1);
    let host = app.host("abc1");
    app.echo();
    let long = "x".repeat(60 * 1024);
    assert_eq!(edge.ask(&format!("GET / HTTP/1.1\r\nHost: {host}\r\nX-Long: {long}\r\n\r\n")).await.status, 200);
    let mut client = edge.client().await;
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nX-Long: {long}\r\nX-More: {long}\r\n\r\n");
    // The proxy may close before it has read everything.
    let _ = soon(client.stream.write_all(request.as_bytes())).await;
    let answer = client.rest().await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn too_many_connections_are_429() {
    let edge = Edge::with(ProxyConfig { connections_per_sandbox: 1, ..ProxyConfig::default() }).await;
    let app = Guest::listen().await;
    edge.publish("abc1", &app, 1);
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", app.host("abc1"));
    let mut first = edge.client().await;
    first.send(&request).await;
    let mut guest = app.accept().await;
    guest.head().await;
    let reply = edge.ask(&request).await;
    assert_eq!((reply.status, reply.json()["connectionLimit"].as_u64()), (429, Some(1)));
    guest.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(first.reply().await.body, "ok");
    first.send(&request).await;
    guest.head().await;
    guest.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(first.reply().await.status, 200);
}

#[tokio::test]
async fn nonsense_from_the_guest_is_502() {
    let edge = Edge::start().await;
    let app = Guest::listen().await;
    edge.publish("abc1", &app, 1);
    for answer in ["", "SSH-2.0-hello\r\n", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"] {
        let mut client = edge.client().await;
        client.send(&format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", app.host("abc1"))).await;
        let mut guest = app.accept().await;
        guest.head().await;
        guest.send(answer).await;
        drop(guest);
        let reply = client.reply().await;
        assert_eq!((reply.status, reply.json()["reason"].as_str()), (502, Some("no_answer")), "{answer:?}");
    }
}

#[tokio::test]
async fn people_get_a_page() {
    let edge = Edge::start().await;
    let browser = "User-Agent: Mozilla/5.0\r\nAccept: text/html,*/*\r\n";
    let page = edge.ask(&format!("GET / HTTP/1.1\r\nHost: 3000-gone.my.cloud\r\n{browser}Sec-Fetch-Mode: navigate\r\n\r\n")).await;
    assert_eq!(page.status, 502);
    assert!(page.head.contains("content-type: text/html") && page.body.contains("gone") && page.body.contains("not found"));
    let script = edge.ask(&format!("GET / HTTP/1.1\r\nHost: 3000-gone.my.cloud\r\n{browser}Sec-Fetch-Mode: cors\r\n\r\n")).await;
    assert_eq!(script.json()["code"], 502);
}
