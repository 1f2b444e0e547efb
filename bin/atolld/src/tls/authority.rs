//! An authority of our own, for a domain without a certificate that the world trusts.
//!
//! Its key and certificate are made once and stay in the data directory: `<domain>.key` (0600) and `<domain>.pem`, which clients
//! are told to trust. That certificate speaks for its domain alone, so trusting it puts nothing else at risk. What it issues is
//! only ever in memory.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    NameConstraints, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use super::Domain;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const LIFE_OF_AUTHORITY: Duration = DAY.saturating_mul(20 * 365);
const LIFE: Duration = DAY.saturating_mul(90);
/// When what was issued should be issued anew.
pub const RENEW_AFTER: Duration = DAY.saturating_mul(30);

/// Issues certificates for one domain.
pub struct Authority {
    domain: Domain,
    issuer: Issuer<'static, KeyPair>,
    path: PathBuf,
}

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("keeping the authority's {}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{} is not a key of an authority; remove it to get a new one, which clients must be told to trust", path.display())]
    Key { path: PathBuf },
    #[error("making a certificate")]
    Make(#[from] rcgen::Error),
}

impl Authority {
    /// The authority for `domain` in this directory; makes what is not there.
    pub fn open(dir: &Path, domain: &Domain) -> Result<Self, AuthorityError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| AuthorityError::File { path, source }
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed(dir))?;
        let (key_path, path) = (dir.join(format!("{domain}.key")), dir.join(format!("{domain}.pem")));
        let key = match fs::read(&key_path) {
            Ok(text) => read_key(&text).ok_or(AuthorityError::Key { path: key_path })?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let key = KeyPair::generate()?;
                write(&key_path, "PRIVATE KEY", key.serialized_der(), 0o600).map_err(failed(&key_path))?;
                key
            }
            Err(source) => return Err(AuthorityError::File { path: key_path, source }),
        };
        let parameters = authority(domain);
        if !path.exists() {
            let certificate = parameters.self_signed(&key)?;
            write(&path, "CERTIFICATE", certificate.der(), 0o644).map_err(failed(&path))?;
        }
        Ok(Self { domain: domain.clone(), issuer: Issuer::new(parameters, key), path })
    }

    /// The file with the certificate that clients should trust.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A certificate for every name of the domain, and its key.
    pub fn issue(&self) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), AuthorityError> {
        let key = KeyPair::generate()?;
        let mut parameters = CertificateParams::new([format!("*.{}", self.domain), self.domain.to_string()])?;
        parameters.distinguished_name.push(DnType::CommonName, self.domain.as_str());
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        parameters.use_authority_key_identifier_extension = true;
        valid_for(&mut parameters, LIFE);
        let certificate = parameters.signed_by(&key, &self.issuer)?;
        Ok((certificate.der().clone(), PrivateKeyDer::Pkcs8(key.serialize_der().into())))
    }
}

fn authority(domain: &Domain) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, format!("Atoll's authority for {domain}"));
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let permitted_subtrees = vec![GeneralSubtree::DnsName(domain.to_string())];
    parameters.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    valid_for(&mut parameters, LIFE_OF_AUTHORITY);
    parameters
}

/// From a day ago, for clients whose clocks are late.
fn valid_for(parameters: &mut CertificateParams, life: Duration) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    parameters.not_before = date_time_ymd(1970, 1, 1) + now - DAY;
    parameters.not_after = parameters.not_before + DAY + life;
}

fn read_key(text: &[u8]) -> Option<KeyPair> {
    let key = PrivateKeyDer::from_pem_slice(text).ok()?;
    KeyPair::try_from(&key).ok()
}

/// Writes a PEM file, whole or not at all.
pub fn write(path: &Path, kind: &str, der: &[u8], mode: u32) -> io::Result<()> {
    let code = BASE64_STANDARD.encode(der);
    let lines = code.as_bytes().chunks(64).flat_map(|line| [line, b"\n"]).flatten();
    let mut text = format!("-----BEGIN {kind}-----\n").into_bytes();
    text.extend(lines);
    text.extend(format!("-----END {kind}-----\n").into_bytes());
    let draft = path.with_added_extension("new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&draft)?;
    io::Write::write_all(&mut file, &text)?;
    file.sync_all()?;
    fs::rename(&draft, path)
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, sync::Arc};

    use rustls::{
        RootCertStore,
        client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
        crypto::ring,
        pki_types::{ServerName, UnixTime},
    };

    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn an_authority_is_made_once_and_kept_private() {
        let scratch = Scratch::new("authority");
        let domain = Domain::parse("boxes.test").unwrap();
        let first = Authority::open(scratch.path(), &domain).unwrap();
        let key = scratch.path().join("boxes.test.key");
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read(first.path()).unwrap();
        let again = Authority::open(scratch.path(), &domain).unwrap();
        assert_eq!((fs::read(again.path()).unwrap(), again.issuer.key().serialized_der()), (text, first.issuer.key().serialized_der()));
        fs::write(&key, "no key").unwrap();
        assert!(matches!(Authority::open(scratch.path(), &domain), Err(AuthorityError::Key { .. })));
        let other = Authority::open(scratch.path(), &Domain::parse("other.test").unwrap()).unwrap();
        assert_ne!(other.path(), first.path());
    }

    #[test]
    fn an_authority_speaks_for_its_domain_alone() {
        let scratch = Scratch::new("authority-constraints");
        let mut authority = Authority::open(scratch.path(), &Domain::parse("boxes.test").unwrap()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority.path()).unwrap()).unwrap();
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider())).build().unwrap();
        let trusted = |authority: &Authority, name: &str| {
            let (certificate, _) = authority.issue().unwrap();
            let name = ServerName::try_from(name.to_owned()).unwrap();
            verifier.verify_server_cert(&certificate, &[], &name, &[], UnixTime::now()).is_ok()
        };
        assert!(trusted(&authority, "api.boxes.test") && trusted(&authority, "boxes.test"));
        assert!(!trusted(&authority, "a.b.boxes.test"));
        authority.domain = Domain::parse("bank.test").unwrap();
        assert!(!trusted(&authority, "api.bank.test"));
    }
}
