//! The way of a request through the proxy.

use std::{future::Future, sync::Arc, time::Duration};

use atoll_types::{ENVD_PORT, SandboxId};
use http::{Request, Response, StatusCode};
use http_body::Body;
use hyper::{body::Incoming, client::conn::http1, upgrade::OnUpgrade};
use hyper_util::{rt::TokioIo, server::conn::auto};
use tokio::{io::copy_bidirectional, time::MissedTickBehavior};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tracing::debug;

use crate::{
    ProxyConfig, ResponseBody, Routes,
    body::{Exchange, RequestBody},
    control_route::is_control_route,
    dial::dial,
    head::{self, is_for},
    host,
    pool::{Permit, Pool, Sender},
    refusal::{Refusal, is_navigation},
    server::{self, Tracked},
};

const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// The proxy. Clones share everything.
#[derive(Clone)]
pub struct Proxy(Arc<Inner>);

struct Inner {
    config: ProxyConfig,
    routes: Arc<dyn Routes>,
    pool: Arc<Pool>,
    server: auto::Builder<Tracked>,
    tasks: TaskTracker,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

/// Where one admitted request goes.
struct Hop {
    sandbox: SandboxId,
    port: u16,
    permit: Permit,
}

impl Proxy {
    /// A proxy to the sandboxes that `routes` knows. Needs a Tokio runtime around it.
    pub fn new(config: ProxyConfig, routes: Arc<dyn Routes>) -> Self {
        let (pool, tasks, stop) = (Arc::new(Pool::default()), TaskTracker::new(), CancellationToken::new());
        tasks.spawn(sweep(pool.clone(), config.idle_upstream(), stop.clone()));
        let server = server::builder(&config, tasks.clone());
        Self(Arc::new(Inner { config, routes, pool, server, tasks, _stop_on_drop: stop.clone().drop_guard(), stop }))
    }

    pub(crate) fn config(&self) -> &ProxyConfig {
        &self.0.config
    }

    pub(crate) fn server(&self) -> &auto::Builder<Tracked> {
        &self.0.server
    }

    /// Cuts tunnels, closes idle connections and waits until every task of the proxy is done. The connections being served must
    /// have been stopped before.
    pub async fn close(&self) {
        self.0.stop.cancel();
        self.0.pool.clear();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// Answers one request: with the guest's response, or with the reason why there is none.
    /// With a `name`, only if it is for that host.
    pub async fn serve(&self, request: Request<Incoming>, name: Option<&str>) -> Response<ResponseBody> {
        let person = is_navigation(request.headers());
        self.relay(request, name).await.unwrap_or_else(|refusal| refusal.into_response(person))
    }

    async fn relay(&self, request: Request<Incoming>, name: Option<&str>) -> Result<Response<ResponseBody>, Refusal> {
        if let Some(name) = name.filter(|name| !is_for(&request, name)) {
            return Err(Refusal::Misdirected { name: name.into() });
        }
        let (mut head, body) = request.into_parts();
        let target = head::authority(&head).and_then(|host| host::target(host, &head.headers)).map_err(Refusal::BadHost)?;
        let (sandbox, port) = (target.sandbox, target.port);
        if port == ENVD_PORT && is_control_route(head.uri.path()) {
            return Err(Refusal::ControlRoute { path: head.uri.path().into() });
        }
        let Some(route) = self.0.routes.route(&sandbox).filter(|route| !route.ended.is_cancelled()) else {
            return Err(Refusal::NotFound { sandbox });
        };
        let limit = self.0.config.connections_per_sandbox;
        let Some(permit) = self.0.pool.enter(&sandbox, route, limit) else {
            return Err(Refusal::TooMany { sandbox, limit });
        };
        // `envd` speaks no other protocol, and inside a tunnel its control routes would be out of our sight.
        let upgrade = head::upgrade(head.version, &head.headers).filter(|_| port != ENVD_PORT);
        let client = head.extensions.remove::<OnUpgrade>().filter(|_| upgrade.is_some());
        head::to_guest(&mut head, &body, target.own_host, upgrade);
        let request = Request::from_parts(head, RequestBody(Some(body)));
        self.exchange(request, client, Hop { sandbox, port, permit }).await
    }

    /// Sends the request over an idle connection, or over a new one if there is none that is safe to use: a server may close an idle
    /// connection at the moment we send, so only `envd`, which never does that first, gets requests there that cannot be repeated.
    async fn exchange(
        &self,
        mut request: Request<RequestBody>,
        client: Option<OnUpgrade>,
        hop: Hop,
    ) -> Result<Response<ResponseBody>, Refusal> {
        let repeatable = request.body().is_end_stream() && request.method().is_safe();
        if client.is_none() && (repeatable || hop.port == ENVD_PORT) {
            while let Some(mut sender) = hop.permit.check_out(hop.port, self.0.config.idle_upstream()) {
                let copy = repeatable.then(|| without_body(&request));
                match sender.try_send_request(request).await {
                    Ok(response) => return self.answer(response, client, hop, sender),
                    Err(mut failure) => match failure.take_message() {
                        Some(unsent) => request = unsent,
                        None => {
                            request = copy.ok_or_else(|| hop.broken(&failure.into_error()))?;
                            break;
                        }
                    },
                }
            }
        }
        let mut sender = self.connect(&hop).await?;
        match sender.try_send_request(request).await {
            Ok(response) => self.answer(response, client, hop, sender),
            Err(failure) => Err(hop.broken(&failure.into_error())),
        }
    }

    async fn connect(&self, hop: &Hop) -> Result<Sender, Refusal> {
        let route = hop.permit.route();
        let dialled = route.ended.run_until_cancelled(dial(route.address(hop.port), self.0.config.dial_timeout(), hop.port != ENVD_PORT));
        let stream = match dialled.await {
            None => return Err(Refusal::NotFound { sandbox: hop.sandbox.clone() }),
            Some(Err(e)) => {
                debug!(sandbox.id = %hop.sandbox, port = hop.port, error = %e, "could not connect to the sandbox");
                return Err(Refusal::PortClosed { sandbox: hop.sandbox.clone(), port: hop.port });
            }
            Some(Ok(stream)) => stream,
        };
        let (sender, connection) =
            http1::Builder::new().max_buf_size(server::MAX_BUFFER).handshake(TokioIo::new(stream)).await.map_err(|e| hop.broken(&e))?;
        let ended = route.ended.clone();
        self.0.tasks.spawn(async move { ended.run_until_cancelled(connection.with_upgrades()).await });
        Ok(sender)
    }

    fn answer(
        &self,
        mut response: Response<Incoming>,
        client: Option<OnUpgrade>,
        hop: Hop,
        sender: Sender,
    ) -> Result<Response<ResponseBody>, Refusal> {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let Some(client) = client else {
                debug!(sandbox.id = %hop.sandbox, port = hop.port, "the sandbox changed the protocol without being asked");
                return Err(Refusal::NoAnswer { sandbox: hop.sandbox, port: hop.port });
            };
            let guest = hyper::upgrade::on(&mut response);
            self.0.tasks.spawn(tunnel(client, guest, hop.permit, self.0.stop.clone()));
            return Ok(response.map(|_| ResponseBody::own("")));
        }
        let (mut head, incoming) = response.into_parts();
        head::to_client(&mut head);
        let exchange = Exchange { permit: hop.permit, port: hop.port, sender, room: self.0.config.idle_upstream_per_sandbox };
        Ok(Response::from_parts(head, ResponseBody::relayed(incoming, exchange)))
    }
}

impl Hop {
    fn broken(&self, error: &hyper::Error) -> Refusal {
        let Hop { sandbox, port, permit } = self;
        if permit.route().ended.is_cancelled() {
            return Refusal::NotFound { sandbox: sandbox.clone() };
        }
        debug!(sandbox.id = %sandbox, port, %error, "the sandbox did not answer a request");
        Refusal::NoAnswer { sandbox: sandbox.clone(), port: *port }
    }
}

fn without_body(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody(None));
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// Carries bytes both ways, each way until its own end, until the sandbox or the proxy ends.
async fn tunnel(
    client: OnUpgrade,
    guest: impl Future<Output = hyper::Result<hyper::upgrade::Upgraded>>,
    permit: Permit,
    stop: CancellationToken,
) {
    let copied = async {
        if let Ok((client, guest)) = tokio::try_join!(client, guest) {
            // Either side may vanish at any time: that is how tunnels end.
            let _ = copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(guest)).await;
        }
    };
    stop.run_until_cancelled(permit.route().ended.run_until_cancelled(copied)).await;
}

async fn sweep(pool: Arc<Pool>, age: Duration, stop: CancellationToken) {
    let mut clock = tokio::time::interval(SWEEP_EVERY);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(clock.tick()).await.is_some() {
        pool.sweep(age);
    }
}
