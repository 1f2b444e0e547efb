//! Ports of the loopback, seen from another address.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::daemon::{Daemon, until};

/// Another loopback address stands for the sandbox's own.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

#[tokio::test]
async fn servers_on_either_loopback_are_reachable_and_go_away() {
    let daemon = Daemon::with_flags(&["-forward-address", &OUTSIDE.to_string()]);
    for loopback in ["127.0.0.1:0", "[::1]:0"] {
        let server = match TcpListener::bind(loopback).await {
            Ok(server) => server,
            Err(error) => {
                eprintln!("SKIPPED {loopback} of servers_on_either_loopback_are_reachable_and_go_away: {error}");
                continue;
            }
        };
        let outside = SocketAddr::from((OUTSIDE, server.local_addr().unwrap().port()));
        let serve = tokio::spawn(async move {
            while let Ok((mut stream, _)) = server.accept().await {
                let _ = stream.write_all(b"hello").await;
            }
        });
        until(async || greeting(outside).await.as_deref() == Some("hello")).await;
        serve.abort();
        until(async || TcpStream::connect(outside).await.is_err()).await;
    }
    assert!(TcpStream::connect((OUTSIDE, daemon.address.port())).await.is_ok(), "the daemon itself listens everywhere");
}

async fn greeting(at: SocketAddr) -> Option<String> {
    let mut text = String::new();
    TcpStream::connect(at).await.ok()?.read_to_string(&mut text).await.ok()?;
    Some(text)
}
