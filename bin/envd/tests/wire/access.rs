//! Routes, cross-origin rules, the token and Basic users.

use std::process::Command;

use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::daemon::{Daemon, basic, envelope, json_body, me, text_body};

const TOKEN: &str = "0123456789abcdef";

async fn secured() -> Daemon {
    let daemon = Daemon::start();
    assert_eq!(daemon.init(json!({"accessToken": TOKEN})).await, StatusCode::NO_CONTENT);
    daemon
}

#[test]
fn the_version_is_plain() {
    let output = Command::new(env!("CARGO_BIN_EXE_envd")).arg("-version").output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{}\n", atoll_wire::envd::ENVD_VERSION));
    let output = Command::new(env!("CARGO_BIN_EXE_envd")).arg("-nonsense").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[tokio::test]
async fn health_is_empty_and_must_not_be_kept() {
    let response = Daemon::start().get("/health", &[]).await;
    assert_eq!((response.status(), &response.headers()["cache-control"]), (StatusCode::NO_CONTENT, &"no-store".parse().unwrap()));
    assert_eq!(text_body(response).await, "");
}

#[tokio::test]
async fn unknown_paths_are_404_and_wrong_methods_405() {
    let daemon = Daemon::start();
    for path in ["/", "/nothing", "/health/", "//health", "/process.Process/Nothing", "/process.Process/", "/process.Process/List/x"] {
        let headers = [("content-type", "application/json")];
        assert_eq!(daemon.send(Method::POST, path, &headers, "{}").await.status(), StatusCode::NOT_FOUND, "{path}");
    }
    let wrong = [
        (Method::HEAD, "/health"),
        (Method::POST, "/health"),
        (Method::GET, "/init"),
        (Method::PUT, "/files"),
        (Method::GET, "/files/compose"),
    ];
    for (method, path) in wrong {
        let response = daemon.send(method, path, &[], "").await;
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert!(response.headers().contains_key("allow"), "{path}");
        assert_eq!(text_body(response).await, "", "{path}");
    }
    assert_eq!(daemon.get("/process.Process/List", &[]).await.status(), StatusCode::METHOD_NOT_ALLOWED);
    let response = daemon.send(Method::POST, "/process.Process/List", &[("content-type", "text/plain")], "{}").await;
    assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    for path in ["/freeze", "/unfreeze", "/fsfreeze", "/fsthaw", "/collapse", "/upgrade"] {
        let response = daemon.send(Method::POST, path, &[], "").await;
        assert_eq!(response.status(), StatusCode::NOT_IMPLEMENTED, "{path}");
        assert_eq!(json_body(response).await["code"], 501, "{path}");
    }
}

#[tokio::test]
async fn preflights_are_answered_before_authentication() {
    let daemon = secured().await;
    let asked =
        [("origin", "https://a.example"), ("access-control-request-method", "POST"), ("access-control-request-headers", "x-a, x-b")];
    let response = daemon.send(Method::OPTIONS, "/process.Process/Start", &asked, "").await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("access-control-allow-origin"), "*");
    assert_eq!(header("access-control-allow-methods"), "POST");
    assert_eq!(header("access-control-allow-headers"), "x-a, x-b");
    assert_eq!(header("access-control-max-age"), "7200");
    let response = daemon.send(Method::OPTIONS, "/metrics", &[("origin", "https://a.example")], "").await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn answers_are_exposed_to_pages() {
    let daemon = Daemon::start();
    let response = daemon.get("/health", &[("origin", "https://a.example")]).await;
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
    assert!(response.headers()["access-control-expose-headers"].to_str().unwrap().contains("Grpc-Status"));
    let response = daemon.get("/health", &[]).await;
    assert_eq!(response.headers()["vary"], "Origin");
    assert!(!response.headers().contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn replies_are_never_compressed() {
    let headers = [("content-type", "application/json"), ("content-encoding", "identity"), ("accept-encoding", "gzip, deflate, br")];
    let response = Daemon::start().send(Method::POST, "/process.Process/List", &headers, "{}").await;
    assert_eq!((response.status(), &response.headers()["content-type"]), (StatusCode::OK, &"application/json".parse().unwrap()));
    assert!(!response.headers().contains_key("content-encoding"));
    assert_eq!(text_body(response).await, "{}");
}

#[tokio::test]
async fn everything_is_open_until_there_is_a_token() {
    let daemon = Daemon::start();
    assert_eq!(daemon.get("/envs", &[]).await.status(), StatusCode::OK);
    assert_eq!(daemon.get("/metrics", &[("x-access-token", "any")]).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_missing_token_is_a_plain_401_on_rpc_paths_too() {
    let daemon = secured().await;
    let stream = [("content-type", "application/connect+json")];
    let unary = [("content-type", "application/json")];
    for (path, headers, body) in
        [("/process.Process/Start", stream, envelope(&json!({}))), ("/filesystem.Filesystem/Stat", unary, b"{}".into())]
    {
        let response = daemon.send(Method::POST, path, &headers, body).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(response.headers()["content-type"], "application/json; charset=utf-8");
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        let error = json_body(response).await;
        assert_eq!((&error["code"], error["message"].is_string()), (&json!(401), true), "an integer tells it from Connect's errors");
    }
    for (path, header) in [("/metrics", "wrong"), ("/envs", ""), ("/health/", TOKEN.trim_end_matches('f'))] {
        assert_eq!(daemon.get(path, &[("x-access-token", header)]).await.status(), StatusCode::UNAUTHORIZED, "{path}");
    }
    for path in ["/files/compose", "/freeze", "/upgrade"] {
        assert_eq!(daemon.send(Method::POST, path, &[], "{}").await.status(), StatusCode::UNAUTHORIZED, "{path}");
    }
    assert_eq!(daemon.get("/envs", &[("x-access-token", TOKEN)]).await.status(), StatusCode::OK);
    assert_eq!(daemon.get("/health", &[]).await.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn an_unknown_basic_user_breaks_even_health() {
    let daemon = Daemon::start();
    for name in ["no-such-user", "0", ""] {
        let response = daemon.get("/health", &[("authorization", &basic(name))]).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{name:?}");
        let error = json_body(response).await;
        assert_eq!(error["code"], "unauthenticated");
        assert!(error["message"].as_str().unwrap().contains(name));
    }
    for harmless in [basic(&me()), "Bearer x".into(), "Basic ???".into()] {
        assert_eq!(daemon.get("/health", &[("authorization", &harmless)]).await.status(), StatusCode::NO_CONTENT, "{harmless}");
    }
    let headers = [("content-type", "application/connect+json"), ("authorization", &basic("no-such-user"))];
    let response = daemon.send(Method::POST, "/process.Process/Start", &headers, "").await;
    assert_eq!(response.status(), StatusCode::OK);
    let body = atoll_wire::body::collect(response.into_body(), 1 << 16).await.unwrap();
    let end: Value = serde_json::from_slice(&body[5..]).unwrap();
    assert_eq!((body[0], &end["error"]["code"]), (2, &json!("unauthenticated")));
}

#[tokio::test]
async fn metrics_have_every_field() {
    let daemon = Daemon::start();
    let metrics = json_body(daemon.get("/metrics", &[]).await).await;
    let fields = metrics.as_object().unwrap();
    let names = [
        "ts",
        "cpu_count",
        "cpu_used_pct",
        "mem_total",
        "mem_used",
        "mem_cache",
        "mem_total_mib",
        "mem_used_mib",
        "disk_total",
        "disk_used",
    ];
    assert!(names.iter().all(|name| fields[*name].is_number()) && fields.len() == names.len(), "{metrics}");
    assert!(metrics["mem_total"].as_u64() >= metrics["mem_used"].as_u64());
}

#[tokio::test]
async fn hostile_bytes_do_not_stop_the_daemon() {
    let daemon = Daemon::start();
    let huge_header = format!("GET /health HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(2 << 20));
    let many_headers = format!("GET /health HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(5000));
    let lying_length = "POST /init HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\n{";
    let requests: [&[u8]; 7] = [
        b"\0\0\0\0\0\0\0\0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"GET ../../etc/passwd HTTP/1.1\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        huge_header.as_bytes(),
        many_headers.as_bytes(),
        lying_length.as_bytes(),
    ];
    for request in requests {
        let mut stream = TcpStream::connect(daemon.address).await.unwrap();
        // The daemon may refuse before it has read everything.
        let _ = stream.write_all(request).await;
        let _ = stream.shutdown().await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    let _silent = TcpStream::connect(daemon.address).await.unwrap();
    assert_eq!(daemon.get("/health", &[]).await.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_head_of_half_a_mebibyte_is_read() {
    let daemon = Daemon::start();
    let value = "x".repeat(512 << 10);
    assert_eq!(daemon.get("/health", &[("x-large", &value)]).await.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn http2_is_spoken_without_tls() {
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let daemon = Daemon::start();
    let stream = TcpStream::connect(daemon.address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let driver = tokio::spawn(connection);
    let request = http::Request::get(format!("http://{}/envs", daemon.address)).body(atoll_wire::body::empty()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!((response.status(), response.version()), (StatusCode::OK, http::Version::HTTP_2));
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), json!({"E2B_SANDBOX": "false"}));
    drop(sender);
    driver.await.unwrap().unwrap();
}
