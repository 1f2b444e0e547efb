//! Client connections: HTTP/1.1 and HTTP/2 in clear text on the same port.
//!
//! A client that closes its side of an HTTP/1.1 connection is taken to be gone, and what it waited for is cancelled: a command that
//! prints nothing would otherwise outlive its caller. For the same reason there are no HTTP/2 pings: a client that is single-threaded
//! answers none while its user computes.

use std::{
    convert::Infallible,
    future::Future,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper::{rt::Executor, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::debug;

use crate::{Proxy, ProxyConfig};

/// The most that is kept of a message that comes or goes, in bytes, and with it the largest head: what a slow client costs.
pub const MAX_BUFFER: usize = 64 << 10;
const MAX_STREAMS: u32 = 2048;

/// Runs the streams of HTTP/2 connections.
#[derive(Clone)]
pub struct Tracked(TaskTracker);

impl<F: Future<Output: Send + 'static> + Send + 'static> Executor<F> for Tracked {
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

/// How connections are served.
pub fn builder(config: &ProxyConfig, tasks: TaskTracker) -> auto::Builder<Tracked> {
    let mut builder = auto::Builder::new(Tracked(tasks));
    builder.http1().timer(TokioTimer::new()).header_read_timeout(config.idle_timeout()).half_close(false).max_buf_size(MAX_BUFFER);
    let http2 = &mut builder.http2();
    http2
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_BUFFER as u32)
        .max_send_buf_size(MAX_BUFFER)
        .max_concurrent_streams(MAX_STREAMS);
    builder
}

impl Proxy {
    /// Serves one client until it leaves, is idle for too long, or `stop` is cancelled and its last request answered. A tunnel
    /// outlives this call and ends with [`Proxy::close`]. With a `name`, which is in lower case, requests for other hosts are refused.
    pub async fn serve_connection<I>(&self, io: I, name: Option<Arc<str>>, stop: CancellationToken)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let activity =
            Arc::new(Activity { busy: AtomicUsize::new(0), asked: AtomicBool::new(false), idle_since: Mutex::new(Instant::now()) });
        let service = service_fn(|request| {
            let (proxy, name, busy) = (self.clone(), name.clone(), Busy::new(&activity));
            async move {
                let mut response = proxy.serve(request, name.as_deref()).await;
                response.body_mut().busy = Some(busy);
                Ok::<_, Infallible>(response)
            }
        });
        let mut connection = pin!(self.server().serve_connection_with_upgrades(TokioIo::new(io), service));
        let idle_timeout = self.config().idle_timeout();
        let (mut closing, mut check) = (false, Instant::now() + idle_timeout.min(self.config().head_timeout()));
        loop {
            let close = tokio::select! {
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        debug!(%error, "a client's connection broke");
                    }
                    return;
                }
                () = stop.cancelled(), if !closing => true,
                () = sleep_until(check), if !closing => {
                    if !activity.asked.load(Ordering::Relaxed) {
                        return;
                    }
                    check = activity.may_idle_until(idle_timeout);
                    check <= Instant::now()
                }
            };
            if close {
                connection.as_mut().graceful_shutdown();
                closing = true;
            }
        }
    }
}

/// How busy a client's connection is.
struct Activity {
    busy: AtomicUsize,
    /// There was a request.
    asked: AtomicBool,
    idle_since: Mutex<Instant>,
}

impl Activity {
    fn may_idle_until(&self, idle_timeout: Duration) -> Instant {
        let since = if self.busy.load(Ordering::Acquire) > 0 {
            Instant::now()
        } else {
            *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner)
        };
        since + idle_timeout
    }
}

/// Held by everything that a connection is busy with.
pub struct Busy(Arc<Activity>);

impl Busy {
    fn new(activity: &Arc<Activity>) -> Self {
        activity.asked.store(true, Ordering::Relaxed);
        activity.busy.fetch_add(1, Ordering::AcqRel);
        Self(activity.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        *self.0.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.busy.fetch_sub(1, Ordering::AcqRel);
    }
}
