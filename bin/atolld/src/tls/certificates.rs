//! The certificate that clients are shown, kept current: read again when its files change, issued again before it ends.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use rustls::{
    client::verify_server_name,
    crypto::ring,
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName,
        pem::{self, PemObject as _},
    },
    server::{ClientHello, ParsedCertificate, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    Domain,
    authority::{Authority, AuthorityError, RENEW_AFTER},
};

/// How often we look whether the files are others, without being told to by SIGHUP.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Where certificates come from.
pub enum Source {
    /// From files of the user.
    Files { certificate: PathBuf, key: PathBuf },
    /// From an authority of our own.
    Own(Box<Authority>),
}

/// The current certificate.
pub struct Certificates {
    domain: Domain,
    source: Source,
    current: RwLock<Current>,
}

#[derive(Clone)]
struct Current {
    key: Arc<CertifiedKey>,
    /// When it was issued; what was read does not age here.
    issued: Option<SystemTime>,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("reading {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is not a PEM file with {wanted}", path.display())]
    Pem { path: PathBuf, wanted: &'static str, source: pem::Error },
    #[error("the certificate {} and the key {} do not belong together, or are of a kind that is not understood", certificate.display(), key.display())]
    Pair { certificate: PathBuf, key: PathBuf, source: rustls::Error },
    #[error("the certificate {} is not for {name}; it must be for *.{domain}", certificate.display())]
    Name { certificate: PathBuf, name: String, domain: Domain },
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error("using a certificate of our own")]
    Own(#[source] rustls::Error),
}

impl Certificates {
    /// Gets the first certificate.
    pub fn new(domain: Domain, source: Source) -> Result<Self, CertificateError> {
        let current = RwLock::new(get(&domain, &source)?);
        Ok(Self { domain, source, current })
    }

    /// The file with the certificate that clients must be told to trust, if they must.
    pub fn to_trust(&self) -> Option<&Path> {
        match &self.source {
            Source::Files { .. } => None,
            Source::Own(authority) => Some(authority.path()),
        }
    }

    /// Keeps the certificate current until `stop`. Connections that are open keep what they have.
    pub async fn watch(self: Arc<Self>, stop: CancellationToken) -> io::Result<()> {
        let mut hangup = signal(SignalKind::hangup())?;
        let mut said = String::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = hangup.recv() => said.clear(),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let this = self.clone();
            let looked = tokio::task::spawn_blocking(move || this.refresh()).await;
            let problem = match looked {
                Ok(Err(error)) => format!("{:#}", anyhow::Error::new(error)),
                _ => String::new(),
            };
            if !problem.is_empty() && problem != said {
                warn!(error = problem, "the certificate stays as it was");
            }
            said = problem;
        }
    }

    fn refresh(&self) -> Result<(), CertificateError> {
        let now = self.current();
        // A clock that was set back counts as age.
        let fresh = now.issued.is_some_and(|issued| issued.elapsed().is_ok_and(|age| age < RENEW_AFTER));
        if fresh {
            return Ok(());
        }
        let next = get(&self.domain, &self.source)?;
        if next.key.cert != now.key.cert {
            info!("clients are shown a new certificate for *.{}", self.domain);
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = next;
        }
        Ok(())
    }

    fn current(&self) -> Current {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current().key)
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("domain", &self.domain).finish_non_exhaustive()
    }
}

fn get(domain: &Domain, source: &Source) -> Result<Current, CertificateError> {
    let provider = ring::default_provider();
    match source {
        Source::Own(authority) => {
            let (certificate, key) = authority.issue()?;
            let key = CertifiedKey::from_der(vec![certificate], key, &provider).map_err(CertificateError::Own)?;
            Ok(Current { key: Arc::new(key), issued: Some(SystemTime::now()) })
        }
        Source::Files { certificate, key } => {
            let chain =
                read(certificate, "a certificate", |text| match CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>() {
                    Ok(chain) if chain.is_empty() => Err(pem::Error::NoItemsFound),
                    chain => chain,
                })?;
            let private = read(key, "a private key", PrivateKeyDer::from_pem_slice)?;
            let pair = |source| CertificateError::Pair { certificate: certificate.clone(), key: key.clone(), source };
            let certified = CertifiedKey::from_der(chain, private, &provider).map_err(pair)?;
            let leaf = ParsedCertificate::try_from(certified.end_entity_cert().map_err(pair)?).map_err(pair)?;
            for name in domain.samples() {
                let valid = ServerName::try_from(name.as_str()).is_ok_and(|server| verify_server_name(&leaf, &server).is_ok());
                if !valid {
                    return Err(CertificateError::Name { certificate: certificate.clone(), name, domain: domain.clone() });
                }
            }
            Ok(Current { key: Arc::new(certified), issued: None })
        }
    }
}

fn read<T>(path: &Path, wanted: &'static str, parse: impl FnOnce(&[u8]) -> Result<T, pem::Error>) -> Result<T, CertificateError> {
    let text = fs::read(path).map_err(|source| CertificateError::Read { path: path.to_owned(), source })?;
    parse(&text).map_err(|source| CertificateError::Pem { path: path.to_owned(), wanted, source })
}

#[cfg(test)]
mod tests {
    use super::{super::authority, *};
    use crate::scratch::Scratch;

    /// Files as a user gives them, for this domain.
    fn files(dir: &Path, domain: &Domain) -> Source {
        let (certificate, key) = (dir.join("certificate.pem"), dir.join("key.pem"));
        let (chain, private) = Authority::open(dir, domain).unwrap().issue().unwrap();
        authority::write(&certificate, "CERTIFICATE", &chain, 0o644).unwrap();
        authority::write(&key, "PRIVATE KEY", private.secret_der(), 0o600).unwrap();
        Source::Files { certificate, key }
    }

    #[test]
    fn only_a_pair_for_the_domain_is_taken() {
        let scratch = Scratch::new("certificates");
        let (ours, theirs) = (Domain::parse("boxes.test").unwrap(), Domain::parse("other.test").unwrap());
        let source = files(scratch.path(), &ours);
        let Source::Files { certificate, key } = &source else { panic!() };
        let (certificate, key) = (certificate.clone(), key.clone());
        let says = |error: CertificateError, expected: &str| assert!(error.to_string().contains(expected), "{error}");
        let certificates = Certificates::new(ours.clone(), source).unwrap();
        let shown = || certificates.current().key;
        let first = shown();

        let good = fs::read(&key).unwrap();
        files(scratch.path(), &ours);
        fs::write(&key, good).unwrap();
        says(certificates.refresh().unwrap_err(), "do not belong together");
        fs::write(&key, "nothing").unwrap();
        says(certificates.refresh().unwrap_err(), "is not a PEM file with a private key");
        fs::remove_file(&key).unwrap();
        says(certificates.refresh().unwrap_err(), "reading");
        files(scratch.path(), &theirs);
        says(certificates.refresh().unwrap_err(), "is not for api.boxes.test; it must be for *.boxes.test");
        fs::write(&certificate, "").unwrap();
        says(certificates.refresh().unwrap_err(), "is not a PEM file with a certificate");
        assert!(Arc::ptr_eq(&first, &shown()), "what is wrong replaced what works");

        files(scratch.path(), &ours);
        certificates.refresh().unwrap();
        let second = shown();
        assert_ne!(first.cert, second.cert);
        certificates.refresh().unwrap();
        assert!(Arc::ptr_eq(&second, &shown()), "the same files are no change");
    }

    #[test]
    fn our_own_is_issued_anew_when_it_is_old() {
        let scratch = Scratch::new("certificates-own");
        let domain = Domain::parse("boxes.test").unwrap();
        let own = Source::Own(Authority::open(scratch.path(), &domain).unwrap().into());
        let certificates = Certificates::new(domain, own).unwrap();
        let first = certificates.current().key;
        certificates.refresh().unwrap();
        assert!(Arc::ptr_eq(&first, &certificates.current().key));
        certificates.current.write().unwrap().issued = Some(SystemTime::now() - RENEW_AFTER);
        certificates.refresh().unwrap();
        assert_ne!(first.cert, certificates.current().key.cert);
    }
}
