//! A proxy on loopback, and both ends of its connections held by the test.

use std::{
    collections::HashMap,
    future::Future,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use atoll_proxy::{Proxy, ProxyConfig, Route, Routes};
use atoll_types::SandboxId;
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Waits for what must happen.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future).await.expect("did not happen within 20 s")
}

#[derive(Default)]
struct Table(Mutex<HashMap<SandboxId, Route>>);

impl Routes for Table {
    fn route(&self, id: &SandboxId) -> Option<Route> {
        self.0.lock().unwrap().get(id).cloned()
    }
}

/// A running proxy.
pub struct Edge {
    pub address: SocketAddr,
    pub proxy: Proxy,
    pub stop: CancellationToken,
    pub serving: TaskTracker,
    routes: Arc<Table>,
}

impl Edge {
    pub async fn start() -> Self {
        Self::with(ProxyConfig::default()).await
    }

    pub async fn with(config: ProxyConfig) -> Self {
        Self::of(config, None).await
    }

    /// A proxy whose connections are all for one host.
    pub async fn named(name: &str) -> Self {
        Self::of(ProxyConfig::default(), Some(name.into())).await
    }

    async fn of(config: ProxyConfig, name: Option<Arc<str>>) -> Self {
        let routes = Arc::new(Table::default());
        let proxy = Proxy::new(config, routes.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let edge = Self {
            address: listener.local_addr().unwrap(),
            proxy: proxy.clone(),
            stop: CancellationToken::new(),
            serving: TaskTracker::new(),
            routes,
        };
        let (stop, serving) = (edge.stop.clone(), edge.serving.clone());
        edge.serving.spawn(async move {
            while let Some(Ok((stream, _))) = stop.run_until_cancelled(listener.accept()).await {
                let (proxy, name, stop) = (proxy.clone(), name.clone(), stop.clone());
                serving.spawn(async move { proxy.serve_connection(stream, name, stop).await });
            }
        });
        edge
    }

    /// Makes a sandbox known; its `envd` is the guest. The token ends it.
    pub fn publish(&self, id: &str, envd: &Guest, generation: u64) -> CancellationToken {
        let ended = CancellationToken::new();
        let route = Route { guest: SocketAddr::from(([127, 0, 0, 1], envd.port)), generation, ended: ended.clone() };
        self.routes.0.lock().unwrap().insert(id.parse().unwrap(), route);
        ended
    }

    pub async fn client(&self) -> Wire {
        Wire::new(TcpStream::connect(self.address).await.unwrap())
    }

    pub async fn h2(&self) -> http2::SendRequest<Full<Bytes>> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    /// One request on a connection of its own.
    pub async fn ask(&self, request: &str) -> Reply {
        let mut client = self.client().await;
        client.send(request).await;
        client.reply().await
    }
}

/// A port of a sandbox.
pub struct Guest {
    pub listener: TcpListener,
    pub port: u16,
}

impl Guest {
    pub async fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { port: listener.local_addr().unwrap().port(), listener }
    }

    pub async fn accept(&self) -> Wire {
        Wire::new(soon(self.listener.accept()).await.unwrap().0)
    }

    /// A host that leads to this port.
    pub fn host(&self, id: &str) -> String {
        format!("{}-{id}.localhost", self.port)
    }

    /// Answers every request on every connection with the request's head.
    pub fn echo(self) {
        tokio::spawn(async move {
            while let Ok((stream, _)) = self.listener.accept().await {
                tokio::spawn(async move {
                    let mut wire = Wire::new(stream);
                    while let Some(head) = wire.try_head().await {
                        wire.send(&format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{head}", head.len())).await;
                    }
                });
            }
        });
    }
}

/// One end of a connection, as bytes.
pub struct Wire {
    pub stream: TcpStream,
    read: Vec<u8>,
}

pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Reply {
    pub fn json(&self) -> serde_json::Value {
        assert!(self.head.contains("content-type: application/json"), "{}", self.head);
        serde_json::from_str(&self.body).unwrap()
    }
}

impl Wire {
    fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, read: Vec::new() }
    }

    pub async fn send(&mut self, text: &str) {
        soon(self.stream.write_all(text.as_bytes())).await.unwrap();
    }

    /// Reads more; `None` at the end, also when the other side broke off.
    async fn more(&mut self) -> Option<()> {
        match soon(self.stream.read_buf(&mut self.read)).await {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(()),
        }
    }

    async fn try_until(&mut self, mark: &str) -> Option<String> {
        loop {
            if let Some(at) = self.read.windows(mark.len()).position(|w| w == mark.as_bytes()) {
                let rest = self.read.split_off(at + mark.len());
                return Some(String::from_utf8(std::mem::replace(&mut self.read, rest)).unwrap());
            }
            self.more().await?;
        }
    }

    /// Everything up to and including the mark.
    pub async fn until(&mut self, mark: &str) -> String {
        match self.try_until(mark).await {
            Some(text) => text,
            None => panic!("the connection ended before {mark:?}: {:?}", String::from_utf8_lossy(&self.read)),
        }
    }

    pub async fn try_head(&mut self) -> Option<String> {
        self.try_until("\r\n\r\n").await
    }

    pub async fn head(&mut self) -> String {
        self.until("\r\n\r\n").await
    }

    /// Everything until the other side closes.
    pub async fn rest(&mut self) -> String {
        String::from_utf8(self.rest_bytes().await).unwrap()
    }

    /// The same, text or not.
    pub async fn rest_bytes(&mut self) -> Vec<u8> {
        while self.more().await.is_some() {}
        std::mem::take(&mut self.read)
    }

    pub async fn exactly(&mut self, length: usize) -> String {
        while self.read.len() < length {
            self.more().await.expect("cut short");
        }
        let rest = self.read.split_off(length);
        String::from_utf8(std::mem::replace(&mut self.read, rest)).unwrap()
    }

    /// A whole response.
    pub async fn reply(&mut self) -> Reply {
        let head = self.head().await;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned());
        let mut body = String::new();
        if let Some(length) = field("content-length:") {
            body = self.exactly(length.parse().unwrap()).await;
        } else if field("transfer-encoding:").is_some() {
            loop {
                let size = usize::from_str_radix(self.until("\r\n").await.trim(), 16).unwrap();
                if size == 0 {
                    self.until("\r\n").await;
                    break;
                }
                body.push_str(self.until("\r\n").await.strip_suffix("\r\n").unwrap());
            }
        }
        Reply { status, head, body }
    }
}
