//! The cheapest HTTP/1.1 client that is still a true one: the connection stays open, a request is one write, and of an answer only
//! what frames it is looked at. It shares the processors with what it measures.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// What one read takes at most.
const PIECE: usize = 256 << 10;
/// No answer of ours has a longer head.
const LONGEST_HEAD: usize = 16 << 10;

/// A connection with at most one request under way.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// What of the buffer has been read, and up to where it was handed out.
    at: usize,
    rest: Rest,
}

/// What of an answer's body is still to come.
#[derive(Debug, Clone, Copy)]
enum Rest {
    Nothing,
    Bytes(u64),
    /// Of the current chunk; `None` between two chunks.
    Chunks(Option<u64>),
}

/// The head of an answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Where a list goes on.
    pub next_token: Option<String>,
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(4096), at: 0, rest: Rest::Nothing })
    }

    /// Sends a request, or the beginning of one, and waits for the head of the answer.
    pub async fn ask(&mut self, request: &[u8]) -> Result<Answer> {
        self.write(request).await?;
        self.answer().await
    }

    /// Sends bytes.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await.context("sending a request")
    }

    /// The head of the next answer.
    pub async fn answer(&mut self) -> Result<Answer> {
        ensure!(matches!(self.rest, Rest::Nothing), "the last answer was not read to its end");
        self.buffer.drain(..self.at);
        self.at = 0;
        let end = self.find(b"\r\n\r\n").await?;
        let head = std::str::from_utf8(&self.buffer[..end]).context("the head of an answer is no text")?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).context("the answer is not HTTP")?;
        let mut next_token = None;
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            if name.eq_ignore_ascii_case("content-length") && status != 204 {
                self.rest = Rest::Bytes(value.trim().parse().context("the answer has a strange length")?);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                self.rest = Rest::Chunks(None);
            } else if name.eq_ignore_ascii_case("x-next-token") {
                next_token = Some(value.trim().to_owned());
            }
        }
        if let Rest::Bytes(0) = self.rest {
            self.rest = Rest::Nothing;
        }
        self.at = end + 4;
        Ok(Answer { status, next_token })
    }

    /// The next piece of the body; `None` after the last.
    pub async fn piece(&mut self) -> Result<Option<&[u8]>> {
        loop {
            match self.rest {
                Rest::Nothing => return Ok(None),
                Rest::Chunks(None) => {
                    let end = self.find(b"\r\n").await?;
                    let line = std::str::from_utf8(&self.buffer[self.at..end]).context("a chunk has no size")?;
                    let size = line.split(';').next().and_then(|size| u64::from_str_radix(size.trim(), 16).ok());
                    self.at = end + 2;
                    match size.context("a chunk has no size")? {
                        0 => {
                            self.at = self.find(b"\r\n").await? + 2;
                            self.rest = Rest::Nothing;
                        }
                        size => self.rest = Rest::Chunks(Some(size)),
                    }
                }
                Rest::Chunks(Some(0)) => {
                    self.at = self.find(b"\r\n").await? + 2;
                    self.rest = Rest::Chunks(None);
                }
                Rest::Bytes(left) | Rest::Chunks(Some(left)) => {
                    if self.at == self.buffer.len() {
                        self.fill().await?;
                    }
                    let taken = left.min((self.buffer.len() - self.at) as u64);
                    let left = left - taken;
                    self.rest = match self.rest {
                        Rest::Bytes(_) if left == 0 => Rest::Nothing,
                        Rest::Bytes(_) => Rest::Bytes(left),
                        _ => Rest::Chunks(Some(left)),
                    };
                    let from = self.at;
                    self.at += taken as usize;
                    return Ok(Some(&self.buffer[from..self.at]));
                }
            }
        }
    }

    /// The whole body.
    pub async fn body(&mut self) -> Result<Vec<u8>> {
        let mut whole = Vec::new();
        while let Some(piece) = self.piece().await? {
            whole.extend_from_slice(piece);
        }
        Ok(whole)
    }

    /// Reads the body for its length only.
    pub async fn drain(&mut self) -> Result<u64> {
        let mut length = 0;
        while let Some(piece) = self.piece().await? {
            length += piece.len() as u64;
        }
        Ok(length)
    }

    /// Where `what` begins in what has not been read.
    async fn find(&mut self, what: &[u8]) -> Result<usize> {
        let mut from = self.at;
        loop {
            if let Some(found) = self.buffer[from..].windows(what.len()).position(|window| window == what) {
                return Ok(from + found);
            }
            ensure!(self.buffer.len() - self.at < LONGEST_HEAD, "the answer is not HTTP");
            let seen = self.buffer.len() - self.at;
            self.fill().await?;
            from = self.at + seen.saturating_sub(what.len() - 1);
        }
    }

    async fn fill(&mut self) -> Result<()> {
        if self.at == self.buffer.len() {
            self.buffer.clear();
        } else {
            self.buffer.drain(..self.at);
        }
        self.at = 0;
        let before = self.buffer.len();
        // Long bodies get long reads, short answers do not pay for them.
        let room = if matches!(self.rest, Rest::Bytes(left) if left > 4096) { PIECE } else { 4096 };
        self.buffer.reserve(room);
        let read = self.stream.read_buf(&mut self.buffer).await.context("reading an answer")?;
        if read == 0 || self.buffer.len() == before {
            bail!("the connection was closed in the middle of an answer");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn answered(answer: &'static [&'static [u8]]) -> Connection {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connection = Connection::open(listener.local_addr().unwrap()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            for part in answer {
                server.write_all(part).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        connection
    }

    #[tokio::test]
    async fn answers_follow_each_other_however_they_are_framed() {
        let mut connection = answered(&[
            b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nhi",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chu",
            b"nked\r\n\r\n3\r",
            b"\nabc\r\n1;x=y\r\nd\r\n0\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n!",
        ])
        .await;
        for (status, body) in [(201, "hi"), (200, "abcd"), (204, ""), (200, "!")] {
            assert_eq!(connection.answer().await.unwrap().status, status);
            assert_eq!(connection.body().await.unwrap(), body.as_bytes());
        }
        assert!(connection.answer().await.is_err(), "the other side has gone");
    }
}
