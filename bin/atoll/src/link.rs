//! The way to a base address, with TLS where it says https.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use atoll_wire::{
    body::Body,
    connect::{Answer, Transport},
    transport,
};
use http::{Request, Uri};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

/// Where systems keep the certificates that they trust: Debian, Fedora, Alpine and macOS, SUSE.
const TRUSTED: [&str; 4] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem", "/etc/ssl/ca-bundle.pem"];

/// HTTP/1.1 to a base address, one connection for each request.
#[derive(Clone)]
pub struct Link {
    base: Uri,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// A connection.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Link {
    /// To `http://HOST[:PORT]` or `https://HOST[:PORT]`, trusting the certificates in `trusted`, or those that the system trusts.
    pub fn to(base: Uri, trusted: Option<&Path>) -> Result<Self> {
        let tls = if base.scheme_str() == Some("https") { Some(prepare(&base, trusted)?) } else { None };
        Ok(Self { base, tls })
    }

    /// Where it leads.
    pub fn base(&self) -> &Uri {
        &self.base
    }

    /// The host and port.
    pub fn authority(&self) -> &str {
        self.base.authority().map(|a| a.as_str()).unwrap_or_default()
    }

    /// A new connection.
    pub async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let stream = transport::dial(&self.base).await?;
        match &self.tls {
            None => Ok(Box::new(stream)),
            Some((tls, name)) => Ok(Box::new(tls.connect(name.clone(), stream).await.map_err(explained)?)),
        }
    }
}

impl Transport for Link {
    fn send(&self, request: Request<Body>) -> Answer<'_> {
        Box::pin(async move { transport::exchange(self.connect().await?, self.authority(), request).await })
    }
}

fn prepare(base: &Uri, trusted: Option<&Path>) -> Result<(TlsConnector, ServerName<'static>)> {
    let host = base.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(host).with_context(|| format!("the host of {base}"))?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(trusted)?)
        .with_no_client_auth();
    Ok((Arc::new(config).into(), name))
}

fn explained(error: io::Error) -> io::Error {
    match error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_)) => {
            io::Error::other(format!("{error}; if the host has an authority of its own, name its certificate with --ca or SSL_CERT_FILE"))
        }
        _ => error,
    }
}

fn roots(trusted: Option<&Path>) -> Result<RootCertStore> {
    let of_system = || TRUSTED.iter().map(PathBuf::from).find(|path| path.exists());
    let Some(path) = trusted.map(Into::into).or_else(of_system) else {
        bail!("this system has no list of trusted certificates: install ca-certificates, or name a file with --ca or SSL_CERT_FILE");
    };
    let mut roots = RootCertStore::empty();
    let read = CertificateDer::pem_file_iter(&path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let (found, _) =
        roots.add_parsable_certificates(read.with_context(|| format!("reading the trusted certificates in {}", path.display()))?);
    if found == 0 {
        bail!("{} holds no certificate", path.display());
    }
    Ok(roots)
}
