//! The smallest HTTP server that keeps connections open; a copy of this program runs it inside a sandbox.

use std::net::Ipv4Addr;

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 6\r\n\r\nhello\n";

/// Answers every request with the same few bytes until it is killed.
pub async fn run(port: u16) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(answer(stream));
    }
}

/// Answers one connection; requests have no bodies.
async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut unread = Vec::with_capacity(4096);
    while stream.read_buf(&mut unread).await? > 0 {
        while let Some(end) = unread.windows(4).position(|window| window == b"\r\n\r\n") {
            unread.drain(..end + 4);
            stream.write_all(ANSWER).await?;
        }
    }
    Ok(())
}
