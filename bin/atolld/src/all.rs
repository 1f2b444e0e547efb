//! `atolld all`: every role in one process.
//!
//! ```text
//! SDK ──> api listener ───> Control ──(in-memory HTTP/2)──> Node ──> Runtime ──> sandboxes
//!    ├──> proxy listener ─> Proxy ──────── routes ───────────┘
//!    └──> TLS listener ───> one of the two
//! ```
//!
//! A stop goes the other way round: no new connections, requests in flight end within a grace period, then control, node and proxy
//! stop. Sandboxes keep running, and the next start takes them back.

use std::{
    io::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use atoll_control::Control;
use atoll_node::{Networks, Node, NodeConfig, NodeHandle, slots::SlotsConfig};
use atoll_proxy::{Proxy, Route, Routes};
use atoll_runtime::{
    Runtime,
    container::{self, Container, ContainerConfig},
    sim::Sim,
};
use atoll_store::{NewBuild, Store};
use atoll_sys::protection::Protection;
use atoll_types::{ApiKey, Clock, Resources, SandboxId, SystemClock};
use atoll_wire::{connect::Client, transport};
use tokio::{net::TcpListener, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use crate::{
    bootstrap,
    config::{Config, RuntimeKind},
    data::{self, DataDir},
    dns,
    guest::Guest,
    instance,
    serve::{self, ApiServer, Connections},
    tls::{Destinations, Tls},
};

/// How long the parts may take to stop once nobody is connected any more.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs until `closing`.
pub async fn run(config: Config, closing: CancellationToken) -> Result<()> {
    let started = Instant::now();
    let given = Some(config.api.key.expose()).filter(|key| !key.is_empty());
    let given: Option<ApiKey> = given.map(str::parse).transpose().context("api.key")?;
    if config.node.runtime == RuntimeKind::Container && !rustix::process::geteuid().is_root() {
        bail!("only root can hold sandboxes; start atolld with sudo");
    }
    let data = DataDir::open(&config.data_dir)?;
    let key = match given {
        Some(key) => key,
        None => data.key()?.unwrap_or_else(ApiKey::random),
    };
    let (api, api_address) = serve::bind(config.api.listen, "api.listen").await?;
    let (proxy, proxy_address) = serve::bind(config.proxy.listen, "proxy.listen").await?;
    let tls = match Tls::new(&config.tls, &data.tls())? {
        None => None,
        Some(tls) => Some((tls, serve::bind(config.tls.listen, "tls.listen").await?)),
    };
    let hints = tls.as_ref().map(|(tls, (_, address))| tls.hints(address.port())).unwrap_or_default();
    let (for_node, for_control) = (Background::default(), Background::default());
    let parts = build(&config, &data, &key, &for_node, &for_control, &closing).await;
    let result = match parts {
        Ok(parts) => {
            let exports = data.write_env(api_address, proxy_address, &key, &hints);
            let connections = Connections { closing: closing.clone(), ..Connections::default() };
            let server = ApiServer::new(connections.tasks.clone(), Duration::from_millis(config.api.head_timeout_ms));
            let tls = tls.map(|(tls, (listener, _))| (tls, listener));
            let listening = listen(&parts, server, api, proxy, tls, &connections);
            let announced = exports.context("writing down how to reach the API").and_then(|exports| {
                info!(duration_ms = started.elapsed().as_millis() as u64, "atoll is ready on {api_address} and {proxy_address}");
                Ok(writeln!(std::io::stdout(), "{exports}atoll ready")?)
            });
            if announced.is_err() {
                closing.cancel();
            }
            listening.await;
            connections.drain(Duration::from_millis(config.shutdown.grace_ms)).await;
            within_patience("the proxy", parts.proxy.close()).await;
            announced
        }
        Err(_) if closing.is_cancelled() => Ok(()),
        Err(error) => Err(error),
    };
    for_control.end("control").await;
    for_node.end("the node").await;
    instance::remove_empty_cgroups(&instance::of(data.path()));
    result
}

/// The tasks of one part.
#[derive(Default)]
struct Background {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Background {
    async fn end(self, part: &str) {
        self.stop.cancel();
        self.tasks.close();
        within_patience(part, self.tasks.wait()).await;
    }
}

async fn within_patience(part: &str, end: impl Future<Output = ()>) {
    if timeout(PATIENCE, end).await.is_err() {
        warn!("{part} did not stop within {} s", PATIENCE.as_secs());
    }
}

/// What answers requests.
struct Parts {
    control: Control,
    proxy: Proxy,
}

async fn build(
    config: &Config,
    data: &DataDir,
    key: &ApiKey,
    for_node: &Background,
    for_control: &Background,
    closing: &CancellationToken,
) -> Result<Parts> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let store = Store::open(&data::database(data.path())).await?;
    let (runtime, networks) = engine(config, data)?;
    let node =
        Node::start(node_config(config, data), runtime, networks, clock.clone(), for_node.tasks.clone(), for_node.stop.clone()).await?;
    let layers = match config.node.runtime {
        RuntimeKind::Container => vec![bootstrap::ensure(&config.cache_dir, &config.template.base, closing).await?],
        RuntimeKind::Sim => Vec::new(),
    };
    let (pipe, served) = transport::pipe({
        let node = node.clone();
        move |request| {
            let node = node.clone();
            async move { node.serve(request).await }
        }
    });
    for_node.tasks.spawn(served);
    let base = NewBuild { layers, resources: Resources::default(), default_user: "user".into(), default_workdir: None };
    let client = Client::new(Arc::new(pipe));
    let control =
        Control::start(config.api.limits.clone(), store, client, clock, for_control.tasks.clone(), for_control.stop.clone()).await?;
    control.ensure_default_team(Some(key.clone())).await?;
    control.ensure_template("base", base).await?;
    control.ready().await;
    let proxy = Proxy::new(config.proxy.limits.clone(), Arc::new(NodeRoutes(node)));
    Ok(Parts { control, proxy })
}

/// What holds the sandboxes, and where their packets go.
fn engine(config: &Config, data: &DataDir) -> Result<(Arc<dyn Runtime>, Networks)> {
    if config.node.runtime == RuntimeKind::Sim {
        return Ok((Arc::new(Sim::new()), Networks::Host));
    }
    let guest = Guest::unpack(&data.bin())?;
    if let Some(missing) = container::probe(data.path()).into_iter().find(|capability| capability.fatal && !capability.there) {
        bail!("this host cannot hold sandboxes: {missing} (`atolld doctor` looks at everything)");
    }
    let instance = instance::of(data.path());
    let cgroup_parent = instance::cgroup(&instance);
    let disabled = config.danger.disable.clone();
    if !disabled.is_empty() {
        warn!("code in sandboxes can harm this host: danger.disable is {}; remove it from the settings", disabled.names());
    }
    let open = !disabled.spares(Protection::Firewall);
    let container = Container::new(ContainerConfig {
        envd: guest.envd,
        launch: guest.launch,
        cgroup_parent,
        disabled,
        data_dir: data.path().to_owned(),
        cache_dir: config.cache_dir.clone(),
    });
    let slots = SlotsConfig {
        range: config.network.range.parse().context("network.range")?,
        ready: config.network.ready,
        dns: name_servers(config),
        run_dir: instance::RUN_DIR.into(),
        open,
        ..SlotsConfig::new(instance)
    };
    Ok((Arc::new(container.context("looking at this host's cgroups")?), Networks::Slots(slots)))
}

fn name_servers(config: &Config) -> Vec<std::net::IpAddr> {
    if config.node.dns.is_empty() { dns::of_host() } else { config.node.dns.clone() }
}

fn node_config(config: &Config, data: &DataDir) -> NodeConfig {
    NodeConfig {
        layers_dir: bootstrap::layers_dir(&config.cache_dir),
        max_sandboxes: config.node.max_sandboxes,
        dns: name_servers(config),
        stop_grace: Duration::from_millis(config.node.stop_grace_ms),
        end_with_daemon: config.node.end_with_daemon,
        ..NodeConfig::new(config.node.id.clone(), data.path())
    }
}

/// Takes connections until they are closing.
async fn listen(
    parts: &Parts,
    server: ApiServer,
    api: TcpListener,
    proxy: TcpListener,
    tls: Option<(Tls, TcpListener)>,
    connections: &Connections,
) {
    let for_api = connections.accept(api, |stream| {
        let control = parts.control.clone();
        let service = move |request| {
            let control = control.clone();
            async move { control.serve(request).await }
        };
        server.clone().serve(stream, connections.closing.clone(), service)
    });
    let for_proxy = connections.accept(proxy, |stream| {
        let (proxy, closing) = (parts.proxy.clone(), connections.closing.clone());
        async move { proxy.serve_connection(stream, None, closing).await }
    });
    let for_tls = async {
        let Some((tls, listener)) = tls else { return };
        let to = Destinations { control: parts.control.clone(), server: server.clone(), proxy: parts.proxy.clone() };
        let accept = connections.accept(listener, |stream| tls.clone().serve(stream, to.clone(), connections.closing.clone()));
        let (watched, ()) = tokio::join!(tls.watch(connections.closing.clone()), accept);
        if let Err(error) = watched {
            warn!(%error, "the certificate is not looked at again: no signals");
        }
    };
    tokio::join!(for_api, for_proxy, for_tls);
}

/// Where the proxy finds the sandboxes of this process.
struct NodeRoutes(NodeHandle);

impl Routes for NodeRoutes {
    fn route(&self, id: &SandboxId) -> Option<Route> {
        let atoll_node::Route { generation, guest, ended } = self.0.route(id)?;
        Some(Route { guest, generation, ended })
    }
}
