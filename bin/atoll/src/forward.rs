//! `atoll sandbox forward`: ports of a sandbox as ports of this machine.
//!
//! With the port of `envd` among them, E2B's SDKs reach the sandbox as they reach a local `envd` with `E2B_DEBUG=true`.

use std::{net::IpAddr, str::FromStr, sync::Arc};

use anyhow::{Context, Result};
use atoll_types::{ENVD_PORT, SandboxId};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header, uri::PathAndQuery};
use hyper::{body::Incoming, client, server, service::service_fn, upgrade};
use hyper_util::rt::TokioIo;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::{link::Link, print};

const ACCESS_TOKEN: HeaderName = HeaderName::from_static("x-access-token");

/// A port here and the sandbox's port that it leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    pub here: u16,
    pub there: u16,
}

impl FromStr for Ports {
    type Err = String;

    /// Reads `PORT` or `HERE:PORT`.
    fn from_str(text: &str) -> Result<Self, String> {
        let number =
            |text: &str| text.parse().map_err(|_| format!("`{text}` is no port: use PORT or HERE:PORT, with numbers from 1 to 65535"));
        let (here, there) = text.split_once(':').unwrap_or((text, text));
        match (number(here)?, number(there)?) {
            (_, 0) => Err("a sandbox has no port 0".into()),
            (here, there) => Ok(Self { here, there }),
        }
    }
}

/// The port of a sandbox that requests go to.
pub struct Target {
    pub id: SandboxId,
    pub port: u16,
    pub link: Link,
    /// For `envd`, which a client with `E2B_DEBUG` does not have.
    pub token: Option<HeaderValue>,
}

/// Listens on these ports of `address`, and says so, until the process ends.
pub async fn run(address: IpAddr, ways: Vec<(u16, Target)>) -> Result<u8> {
    let mut listening = JoinSet::new();
    for (here, target) in ways {
        let listener = TcpListener::bind((address, here)).await.with_context(|| format!("listening on port {here} of {address}"))?;
        print(&format!("http://{} leads to port {} of {}\n", listener.local_addr()?, target.port, target.id))?;
        listening.spawn(listen(listener, Arc::new(target)));
    }
    while let Some(ended) = listening.join_next().await {
        ended??;
    }
    Ok(0)
}

async fn listen(listener: TcpListener, target: Arc<Target>) -> Result<()> {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => drop(connections.spawn(serve(accepted.context("taking a connection")?.0, target.clone()))),
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, target: Arc<Target>) {
    let service = service_fn(move |request| {
        let target = target.clone();
        async move { target.relay(request).await }
    });
    let _ = stream.set_nodelay(true);
    // A client that left, or one whose request got no answer: either way its connection is over.
    let _ = server::conn::http1::Builder::new().half_close(false).serve_connection(TokioIo::new(stream), service).with_upgrades().await;
}

impl Target {
    async fn relay(&self, mut request: Request<Incoming>) -> Result<Response<Incoming>> {
        let here = upgrade::on(&mut request);
        self.address(&mut request)?;
        let (mut sender, connection) = client::conn::http1::handshake(TokioIo::new(self.link.connect().await?)).await?;
        tokio::spawn(connection.with_upgrades());
        let mut response = sender.send_request(request).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let there = upgrade::on(&mut response);
            tokio::spawn(async move {
                if let Ok((here, there)) = tokio::try_join!(here, there) {
                    // Either side may leave at any time: that is how tunnels end.
                    let _ = copy_bidirectional(&mut TokioIo::new(here), &mut TokioIo::new(there)).await;
                }
            });
        }
        Ok(response)
    }

    /// Makes the request one for that port.
    fn address(&self, request: &mut Request<Incoming>) -> Result<()> {
        let path = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        *request.uri_mut() = path.into();
        let headers = request.headers_mut();
        let trusted = self.port == ENVD_PORT && !is_from_a_page(headers);
        headers.insert(header::HOST, HeaderValue::from_str(self.link.authority())?);
        headers.insert("e2b-sandbox-id", HeaderValue::from_str(self.id.as_str())?);
        headers.insert("e2b-sandbox-port", HeaderValue::from(self.port));
        if let Some(token) = self.token.as_ref().filter(|_| trusted && !headers.contains_key(ACCESS_TOKEN)) {
            headers.insert(ACCESS_TOKEN, token.clone());
        }
        Ok(())
    }
}

/// Whether a page in somebody's browser may have sent this: such a page must not get the token's powers. A page that another name leads
/// here sends that name as host.
fn is_from_a_page(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()?.parse::<Uri>().ok()?.host().map(str::to_owned));
    let local = host.is_some_and(|host| host == "localhost" || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok());
    !local || headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_pairs() {
        let ports = |text: &str| text.parse::<Ports>();
        assert_eq!(ports("8000"), Ok(Ports { here: 8000, there: 8000 }));
        assert_eq!(ports("0:49983"), Ok(Ports { here: 0, there: 49983 }));
        for text in ["", "x", "1:", ":1", "1:2:3", "65536", "-1", "1:0", "0"] {
            assert!(ports(text).is_err(), "{text}");
        }
    }

    #[test]
    fn pages_are_told_from_programs() {
        let from_a_page = |pairs: &[(&'static str, &'static str)]| {
            is_from_a_page(&pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect())
        };
        for host in ["localhost:49983", "localhost", "127.0.0.1:49983", "[::1]:49983"] {
            assert!(!from_a_page(&[("host", host)]), "{host}");
            assert!(from_a_page(&[("host", host), ("origin", "https://evil.example")]));
            assert!(from_a_page(&[("host", host), ("sec-fetch-site", "cross-site")]));
        }
        assert!(from_a_page(&[("host", "evil.example:49983")]) && from_a_page(&[]));
    }
}
