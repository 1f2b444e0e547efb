//! The listener for clients that know only a domain. The name that a client asks for while it agrees on keys (SNI) decides who
//! answers on its connection; a request there for another host is misdirected.
//!
//! ```text
//!                        ┌─ api.<domain> ───────────────> Control
//! TCP ──> TLS 1.2, 1.3 ──┼─ <port>-<sandbox>.<domain> ──> Proxy
//!         h2, http/1.1   └─ anything else ──────────────> 404, 421
//! ```

mod authority;
mod certificates;
mod domain;

use std::{io, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use atoll_control::Control;
use atoll_proxy::Proxy;
use atoll_wire::body::{self, Body};
use http::{Request, Response, StatusCode};
use rustls::{ServerConfig, crypto::ring};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::debug;

pub use self::domain::Domain;
use self::{
    authority::Authority,
    certificates::{Certificates, Source},
    domain::Site,
};
use crate::{config, serve::ApiServer};

/// Takes connections with TLS to where they belong.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    certificates: Arc<Certificates>,
    domain: Domain,
    patience: Duration,
}

impl Tls {
    /// What the settings ask for, if they do; `dir` is for an authority of our own.
    pub fn new(config: &config::Tls, dir: &Path) -> Result<Option<Self>> {
        let given = !config.certificate.as_os_str().is_empty();
        if given == config.key.as_os_str().is_empty() {
            bail!("tls.certificate and tls.key belong together: give both, or none");
        }
        if config.domain.is_empty() {
            return Ok(None);
        }
        let domain = Domain::parse(&config.domain)?;
        let source = match given {
            true => Source::Files { certificate: config.certificate.clone(), key: config.key.clone() },
            false => Source::Own(Authority::open(dir, &domain)?.into()),
        };
        let certificates = Arc::new(Certificates::new(domain.clone(), source)?);
        let mut server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .context("preparing TLS")?
            .with_no_client_auth()
            .with_cert_resolver(certificates.clone());
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let patience = Duration::from_millis(config.handshake_timeout_ms);
        Ok(Some(Self { acceptor: Arc::new(server).into(), certificates, domain, patience }))
    }

    /// Keeps the certificate current until `stop`.
    pub fn watch(&self, stop: CancellationToken) -> impl Future<Output = io::Result<()>> + Send + use<> {
        self.certificates.clone().watch(stop)
    }

    /// What a client does to come in by this door, as comments for a shell.
    pub fn hints(&self, port: u16) -> String {
        let port = if port == 443 { String::new() } else { format!(":{port}") };
        let mut text = format!(
            "# Instead, for clients whose name servers lead *.{domain} here:\n#   unset E2B_API_URL E2B_SANDBOX_URL\n#   export E2B_DOMAIN={domain}{port}\n",
            domain = self.domain
        );
        if let Some(path) = self.certificates.to_trust() {
            let path = path.display();
            text += &format!("# They must trust {path}, for example:\n#   export SSL_CERT_FILE={path} NODE_EXTRA_CA_CERTS={path}\n");
        }
        text
    }

    /// Serves one client until it leaves, or `closing` and its last request is answered.
    pub async fn serve(self, stream: TcpStream, to: Destinations, closing: CancellationToken) {
        let handshake = timeout(self.patience, self.acceptor.accept(stream));
        let stream = match closing.run_until_cancelled(handshake).await {
            Some(Ok(Ok(stream))) => stream,
            Some(Ok(Err(error))) => return debug!(%error, "a client did not agree on keys"),
            Some(Err(_)) => return debug!("a client took too long to agree on keys"),
            None => return,
        };
        let name: Arc<str> = stream.get_ref().1.server_name().unwrap_or_default().to_ascii_lowercase().into();
        match self.domain.site(&name) {
            Site::Api => {
                let service = move |request: Request<Body>| {
                    let (control, name) = (to.control.clone(), name.clone());
                    async move {
                        match atoll_proxy::is_for(&request, &name) {
                            true => control.serve(request).await,
                            false => refuse(StatusCode::MISDIRECTED_REQUEST, &format!("this connection is for {name} alone")),
                        }
                    }
                };
                to.server.serve(stream, closing, service).await;
            }
            Site::Sandboxes => to.proxy.serve_connection(stream, Some(name), closing).await,
            site => {
                let (status, found) = match site {
                    Site::Nobody => (StatusCode::NOT_FOUND, format!("there is nothing at {name}")),
                    _ => {
                        (StatusCode::MISDIRECTED_REQUEST, format!("the name that the client asked for (SNI) is not one of {}", self.domain))
                    }
                };
                let message = format!("{found}: the API is api.{0}, a port of a sandbox is <port>-<sandbox ID>.{0}", self.domain);
                to.server.serve(stream, closing, move |_| std::future::ready(refuse(status, &message))).await;
            }
        }
    }
}

/// Who answers.
#[derive(Clone)]
pub struct Destinations {
    pub control: Control,
    pub server: ApiServer,
    pub proxy: Proxy,
}

fn refuse(status: StatusCode, message: &str) -> Response<Body> {
    body::json(status, &serde_json::json!({ "code": status.as_u16(), "message": message }))
}
