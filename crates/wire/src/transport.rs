//! Ways to the other side: HTTP/1.1 to an address, and HTTP/2 over a pipe within one process.

use std::{convert::Infallible, future::Future, io, net::SocketAddr, pin::Pin, sync::Arc};

use http::{HeaderValue, Request, Response, Uri, header, uri::PathAndQuery};
use http_body_util::BodyExt as _;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream},
    net::TcpStream,
    sync::{Mutex, mpsc, oneshot},
};

use crate::{
    body::{Body, BoxError, from_incoming},
    connect::{Answer, Transport},
};

/// HTTP/1.1 to a base address, one connection for each request.
#[derive(Debug, Clone)]
pub struct Http {
    base: Uri,
}

/// Why a base address is none.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not an address of the form http://HOST[:PORT]")]
pub struct BadBase(Uri);

impl Http {
    /// To `http://HOST[:PORT]`.
    pub fn new(base: Uri) -> Result<Self, BadBase> {
        if base.scheme_str() == Some("http") && base.host().is_some() { Ok(Self { base }) } else { Err(BadBase(base)) }
    }
}

impl Transport for Http {
    fn send(&self, request: Request<Body>) -> Answer<'_> {
        Box::pin(async move {
            let authority = self.base.authority().map(|a| a.as_str()).unwrap_or_default();
            exchange(dial(&self.base).await?, authority, request).await
        })
    }
}

/// Connects to the host of a base address, on its port or its scheme's usual one.
pub async fn dial(base: &Uri) -> io::Result<TcpStream> {
    let host = base.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    // RFC 6761 §6.3: the name is this machine, whatever a resolver says or lacks.
    let host = if host == "localhost" || host.ends_with(".localhost") { "127.0.0.1" } else { host };
    let usual = if base.scheme_str() == Some("https") { 443 } else { 80 };
    let stream = TcpStream::connect((host, base.port_u16().unwrap_or(usual))).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends one HTTP/1.1 request to an address.
pub async fn request(address: SocketAddr, request: Request<Body>) -> Result<Response<Body>, BoxError> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    exchange(stream, &address.to_string(), request).await
}

/// Sends one HTTP/1.1 request over a connection of its own.
pub async fn exchange<I>(stream: I, authority: &str, mut request: Request<Body>) -> Result<Response<Body>, BoxError>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let path = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    *request.uri_mut() = path.into();
    if !request.headers().contains_key(header::HOST) {
        request.headers_mut().insert(header::HOST, HeaderValue::from_str(authority)?);
    }
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let (mut response, mut connection) = (std::pin::pin!(sender.send_request(request)), Box::pin(connection));
    let (response, connection) = tokio::select! {
        response = &mut response => (response?, Some(connection)),
        // The answer may have come with the close.
        closed = &mut connection => (response.await.map_err(|e| closed.err().unwrap_or(e))?, None),
    };
    // The response body drives the connection: no task outlives whoever reads it.
    Ok(response.map(|incoming| Driven { body: from_incoming(incoming), connection }.boxed_unsync()))
}

struct Driven<C> {
    body: Body,
    connection: Option<Pin<Box<C>>>,
}

impl<C: Future> http_body::Body for Driven<C> {
    type Data = bytes::Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, BoxError>>> {
        if let Some(connection) = &mut self.connection
            && connection.as_mut().poll(cx).is_ready()
        {
            self.connection = None;
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

/// The caller's end of an in-memory connection: HTTP/2 without a network, so that two roles in one process meet on the wire
/// nevertheless.
#[derive(Clone)]
pub struct Pipe {
    sender: Arc<Mutex<Option<http2::SendRequest<Body>>>>,
    connections: mpsc::Sender<oneshot::Sender<http2::SendRequest<Body>>>,
}

/// Bytes that may wait in the pipe, each way.
const PIPE_BUFFER: usize = 256 << 10;

/// Connects a service to its caller. The future serves the connections and ends when every [`Pipe`] is gone.
pub fn pipe<S, Fut>(service: S) -> (Pipe, impl Future<Output = ()> + Send + 'static)
where
    S: Fn(Request<Body>) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Response<Body>> + Send + 'static,
{
    let (connections, mut wanted) = mpsc::channel::<oneshot::Sender<_>>(1);
    let serve = async move {
        let mut running = tokio::task::JoinSet::new();
        loop {
            let caller = tokio::select! {
                caller = wanted.recv() => caller,
                Some(_) = running.join_next() => continue,
            };
            let Some(caller) = caller else { return };
            let (near, far) = tokio::io::duplex(PIPE_BUFFER);
            running.spawn(serve_one(far, service.clone()));
            let Ok((sender, connection)) = http2::handshake(TokioExecutor::new(), TokioIo::new(near)).await else { continue };
            running.spawn(async move { drop(connection.await) });
            // A caller that stopped waiting opens another connection next time.
            let _ = caller.send(sender);
        }
    };
    (Pipe { sender: Arc::new(Mutex::new(None)), connections }, serve)
}

async fn serve_one<S, Fut>(stream: DuplexStream, service: S)
where
    S: Fn(Request<Body>) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Response<Body>> + Send + 'static,
{
    let answer = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
        let reply = service(request.map(from_incoming));
        async move { Ok::<_, Infallible>(reply.await) }
    });
    // A connection ends with its caller; that is no error.
    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .max_concurrent_streams(100_000)
        .serve_connection(TokioIo::new(stream), answer)
        .await;
}

impl Transport for Pipe {
    fn send(&self, mut request: Request<Body>) -> Answer<'_> {
        Box::pin(async move {
            let path = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
            *request.uri_mut() = Uri::builder().scheme("http").authority("node").path_and_query(path).build()?;
            let mut sender = self.connected().await?;
            sender.ready().await?;
            Ok(sender.send_request(request).await?.map(from_incoming))
        })
    }
}

impl Pipe {
    async fn connected(&self) -> Result<http2::SendRequest<Body>, BoxError> {
        let mut current = self.sender.lock().await;
        if let Some(sender) = current.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let (give, take) = oneshot::channel();
        self.connections.send(give).await.map_err(|_| "the service behind the pipe has stopped")?;
        let sender = take.await.map_err(|_| "the service behind the pipe did not take the connection")?;
        *current = Some(sender.clone());
        Ok(sender)
    }
}
