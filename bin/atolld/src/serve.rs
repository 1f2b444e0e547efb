//! Listening, and the connections of the API. Those of the proxy are the proxy's.

use std::{
    convert::Infallible,
    future::{Future, pending},
    io,
    net::SocketAddr,
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result};
use atoll_wire::body::{Body, from_incoming};
use http::{Request, Response};
use hyper::{rt::Executor, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

/// How long a client may stay without sending a request.
const IDLE: Duration = Duration::from_secs(620);
/// The wait after the system refused a connection, mostly for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// The most that is kept of a message, in bytes, and with it the largest head.
const MAX_BUFFER: usize = 64 << 10;

/// Opens a listening socket; `setting` is what names its address.
pub async fn bind(address: SocketAddr, setting: &str) -> Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            anyhow::anyhow!("another program listens on {address}; stop it, or give {setting} another address (port 0: any free one)")
        }
        _ => anyhow::Error::new(error).context(format!("listening on {address}, which {setting} says")),
    })?;
    let actual = listener.local_addr().context("asking a socket for its address")?;
    Ok((listener, actual))
}

/// The connections of a listener.
#[derive(Clone, Default)]
pub struct Connections {
    /// No new ones; those there are end with their last request.
    pub closing: CancellationToken,
    /// None at all.
    pub cut: CancellationToken,
    /// What they run in.
    pub tasks: TaskTracker,
}

impl Connections {
    /// Hands each new connection to `serve`, in a task of its own, until they are closing.
    pub async fn accept<F>(&self, listener: TcpListener, serve: impl Fn(TcpStream) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        while let Some(accepted) = self.closing.run_until_cancelled(listener.accept()).await {
            match accepted.and_then(|(stream, _)| stream.set_nodelay(true).map(|()| stream)) {
                Ok(stream) => {
                    let (cut, work) = (self.cut.clone(), serve(stream));
                    self.tasks.spawn(async move { cut.run_until_cancelled(work).await });
                }
                Err(error) => {
                    warn!(%error, "could not take a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Waits until they have ended, at most for `grace`, and cuts those that have not.
    pub async fn drain(&self, grace: Duration) {
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_err() {
            info!("cutting {} connections that did not end within {} ms", self.tasks.len(), grace.as_millis());
            self.cut.cancel();
        }
    }
}

/// Serves the HTTP/1.1 or HTTP/2 connections of the API.
#[derive(Clone)]
pub struct ApiServer {
    builder: auto::Builder<Tracked>,
    head_timeout: Duration,
}

/// Runs the streams of HTTP/2 connections.
#[derive(Clone)]
struct Tracked(TaskTracker);

impl<F: Future<Output: Send + 'static> + Send + 'static> Executor<F> for Tracked {
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

impl ApiServer {
    /// A server whose tasks are among `tasks`; clients have `head_timeout` for the head of their first request.
    pub fn new(tasks: TaskTracker, head_timeout: Duration) -> Self {
        let mut builder = auto::Builder::new(Tracked(tasks));
        builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(MAX_BUFFER);
        builder.http2().timer(TokioTimer::new()).max_header_list_size(MAX_BUFFER as u32);
        Self { builder, head_timeout }
    }

    /// Serves one client until it leaves, or `closing` and its last request is answered.
    pub async fn serve<I, S, F>(self, stream: I, closing: CancellationToken, service: S)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Fn(Request<Body>) -> F + Send + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let asked = AtomicBool::new(false);
        let service = service_fn(|request: Request<hyper::body::Incoming>| {
            asked.store(true, Ordering::Relaxed);
            let response = service(request.map(from_incoming));
            async move { Ok::<_, Infallible>(response.await) }
        });
        let mut connection = pin!(self.builder.serve_connection(TokioIo::new(stream), service));
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = closing.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            () = silence(&asked, self.head_timeout) => return,
        };
        if let Err(error) = result {
            debug!(%error, "a client's connection broke");
        }
    }
}

/// Resolves after `limit` if nobody has asked for anything by then.
async fn silence(asked: &AtomicBool, limit: Duration) {
    tokio::time::sleep(limit).await;
    if asked.load(Ordering::Relaxed) {
        pending().await
    }
}
