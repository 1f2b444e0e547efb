//! What a message keeps and what it loses on its way.

use crate::support::{Edge, Guest};

#[tokio::test]
async fn paths_and_queries_arrive_byte_for_byte() {
    let edge = Edge::start().await;
    let app = Guest::listen().await;
    edge.publish("abc1", &app, 1);
    let host = app.host("abc1");
    app.echo();
    for target in [
        "/",
        "/?",
        "//",
        "/a//b/",
        "/a%2Fb%2f",
        "/a/../b/./c",
        "/%2e%2e/%2E",
        "/%C3%A9/%f0%9f%8f%9d",
        "/é/🏝",
        "/a;p=1,2/b:c@d",
        "/[x]/{y}|z",
        "/q?a=b&a=%26&&=&c=d=e?f/g",
        "/q?x=%00%ff",
        "/q?a[]=1&b={2}|3`'",
        "/%zz%",
    ] {
        let reply = edge.ask(&format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(reply.body.lines().next(), Some(format!("GET {target} HTTP/1.1").as_str()));
    }
    let reply = edge.ask(&format!("OPTIONS * HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    assert!(reply.body.starts_with("OPTIONS * HTTP/1.1\r\n"), "{}", reply.body);
    let reply = edge.ask(&format!("GET http://{host} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    assert!(reply.body.starts_with("GET / HTTP/1.1\r\n"), "{}", reply.body);
}

#[tokio::test]
async fn requests_lose_what_is_ours_and_nothing_else() {
    let edge = Edge::start().await;
    let app = Guest::listen().await;
    edge.publish("abc1", &app, 1);
    let host = app.host("abc1");
    app.echo();
    let reply = edge
        .ask(&format!(
            "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\n\
             Proxy-Authorization: p\r\nTE: trailers, gzip\r\nE2b-Sandbox-Id: abc1\r\nE2b-Sandbox-Port: 1\r\n\
             e2b-traffic-access-token: secret\r\nX-Access-Token: t\r\nAuthorization: Basic dXNlcjo=\r\nAccept-Encoding: br\r\n\
             X-Forwarded-For: 1.2.3.4\r\nX-Twice: 1\r\nX-Twice: 2\r\n\r\n"
        ))
        .await;
    let mut kept: Vec<&str> = reply.body.lines().skip(1).filter(|line| !line.is_empty()).collect();
    kept.sort_unstable();
    assert_eq!(
        kept,
        [
            "accept-encoding: br",
            "authorization: Basic dXNlcjo=",
            "connection: te",
            &format!("host: {host}"),
            "te: trailers",
            "x-access-token: t",
            "x-forwarded-for: 1.2.3.4",
            "x-twice: 1",
            "x-twice: 2",
        ]
    );
}

#[tokio::test]
async fn responses_keep_their_coding_and_lose_the_hop() {
    let edge = Edge::start().await;
    let app = Guest::listen().await;
    edge.publish("abc1", &app, 1);
    let mut client = edge.client().await;
    client.send(&format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", app.host("abc1"))).await;
    let mut guest = app.accept().await;
    guest.head().await;
    guest
        .send(
            "HTTP/1.1 299 Rather Fine\r\nContent-Encoding: gzip\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nSet-Cookie: a\r\n\
             Set-Cookie: b\r\nServer: s\r\nDate: d\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nzzzz\r\n0\r\n\r\n",
        )
        .await;
    let reply = client.reply().await;
    assert!(reply.head.starts_with("HTTP/1.1 299 Rather Fine\r\n"), "{}", reply.head);
    assert_eq!(reply.body, "zzzz");
    let mut kept: Vec<&str> = reply.head.lines().skip(1).filter(|line| !line.is_empty()).collect();
    kept.sort_unstable();
    assert_eq!(kept, ["content-encoding: gzip", "date: d", "server: s", "set-cookie: a", "set-cookie: b", "transfer-encoding: chunked"]);
}

#[tokio::test]
async fn a_head_response_keeps_its_length() {
    let edge = Edge::start().await;
    let app = Guest::listen().await;
    edge.publish("abc1", &app, 1);
    let mut client = edge.client().await;
    client.send(&format!("HEAD / HTTP/1.1\r\nHost: {}\r\n\r\n", app.host("abc1"))).await;
    let mut guest = app.accept().await;
    assert!(guest.head().await.starts_with("HEAD / "));
    guest.send("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n").await;
    assert!(client.head().await.contains("content-length: 1234\r\n"));
}

#[tokio::test]
async fn one_request_stays_one_request() {
    let edge = Edge::start().await;
    let app = Guest::listen().await;
    edge.publish("abc1", &app, 1);
    let host = app.host("abc1");
    for ambiguous in [
        "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "Content-Length: +5\r\n\r\nhello",
        "Content-Length: 5, 6\r\n\r\nhello",
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "Host: other\r\n\r\n",
        "X : 1\r\n\r\n",
        "X: a\rb\r\n\r\n",
        "X: a\0b\r\n\r\n",
    ] {
        let reply = edge.ask(&format!("POST / HTTP/1.1\r\nHost: {host}\r\n{ambiguous}")).await;
        assert_eq!(reply.status, 400, "{ambiguous:?}: {}", reply.head);
    }

    // Both framings: chunked is what counts, and the only one that the guest sees.
    let mut client = edge.client().await;
    client
        .send(&format!(
            "POST /a HTTP/1.1\r\nHost: {host}\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        ))
        .await;
    let mut guest = app.accept().await;
    let head = guest.head().await;
    assert!(head.contains("transfer-encoding: chunked\r\n") && !head.contains("content-length"), "{head}");
    assert_eq!(guest.until("0\r\n\r\n").await, "5\r\nhello\r\n0\r\n\r\n");
    guest.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(client.reply().await.status, 204);

    // Equal lengths twice, and a length that `Connection` asks to remove: one length arrives.
    for doubled in ["Content-Length: 5\r\nContent-Length: 5\r\n", "Connection: content-length, host\r\nContent-Length: 5\r\n"] {
        let mut client = edge.client().await;
        client.send(&format!("POST /b HTTP/1.1\r\nHost: {host}\r\n{doubled}\r\nhello")).await;
        let mut guest = app.accept().await;
        let head = guest.head().await;
        assert_eq!(head.matches("content-length: 5\r\n").count(), 1, "{head}");
        assert!(!head.contains("transfer-encoding") && head.contains(&format!("host: {host}\r\n")), "{head}");
        assert_eq!(guest.until("hello").await, "hello");
    }

    // A body on GET is passed on, chunked or not.
    let mut client = edge.client().await;
    client.send(&format!("GET /c HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")).await;
    let mut guest = app.accept().await;
    guest.head().await;
    assert_eq!(guest.until("0\r\n\r\n").await, "2\r\nhi\r\n0\r\n\r\n");
}

#[tokio::test]
async fn a_response_with_two_lengths_is_no_answer() {
    let edge = Edge::start().await;
    let app = Guest::listen().await;
    edge.publish("abc1", &app, 1);
    let mut client = edge.client().await;
    client.send(&format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", app.host("abc1"))).await;
    let mut guest = app.accept().await;
    guest.head().await;
    guest.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab").await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.json()["reason"].as_str()), (502, Some("no_answer")));
}

#[tokio::test]
async fn trailers_pass() {
    let edge = Edge::start().await;
    let app = Guest::listen().await;
    edge.publish("abc1", &app, 1);
    let mut client = edge.client().await;
    client
        .send(&format!(
            "POST / HTTP/1.1\r\nHost: {}\r\nTE: trailers\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx-sum: 7\r\n\r\n",
            app.host("abc1")
        ))
        .await;
    let mut guest = app.accept().await;
    guest.head().await;
    assert_eq!(guest.until("\r\n\r\n").await, "1\r\na\r\n0\r\nx-sum: 7\r\n\r\n");
    guest.send("HTTP/1.1 200 OK\r\nTrailer: x-end\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nb\r\n0\r\nx-end: 8\r\n\r\n").await;
    client.head().await;
    assert_eq!(client.until("\r\n\r\n").await, "1\r\nb\r\n0\r\nx-end: 8\r\n\r\n");
}
