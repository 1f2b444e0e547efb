//! The data directory: root's alone, and used by one daemon at a time.
//!
//! ```text
//! <data>/lock       held while a daemon uses it        <data>/atoll.db    what control remembers
//! <data>/env        the way to the API, 0600           <data>/sandboxes/  what the node remembers
//! <data>/bin/       the guest programs             <data>/tls/        the authority for a domain without a certificate
//! ```

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use atoll_types::ApiKey;

/// A data directory that is ours.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: fs::File,
}

/// Why it is not.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    #[error("using the data directory {}", path.display())]
    Unusable { path: PathBuf, source: io::Error },
    #[error("another atolld is using the data directory {}", path.display())]
    InUse { path: PathBuf },
    #[error("{} holds no valid API key; remove the file to get a new one", path.display())]
    BadEnv { path: PathBuf },
}

/// Where the database is.
pub fn database(data: &Path) -> PathBuf {
    data.join("atoll.db")
}

/// A daemon that was killed may have been starting a process, which holds its descriptors for a moment longer.
const LAST_BREATH: Duration = Duration::from_secs(1);

impl DataDir {
    /// Makes the directory if it is not there, and takes it.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let unusable = |source| DataError::Unusable { path: path.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(unusable)?;
        let path = path.canonicalize().map_err(unusable)?;
        let lock = fs::File::create(path.join("lock")).map_err(unusable)?;
        let deadline = Instant::now() + LAST_BREATH;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Self { path, _lock: lock }),
                Err(fs::TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
                Err(fs::TryLockError::WouldBlock) => return Err(DataError::InUse { path }),
                Err(fs::TryLockError::Error(source)) => return Err(DataError::Unusable { path, source }),
            }
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the guest programs go.
    pub fn bin(&self) -> PathBuf {
        self.path.join("bin")
    }

    /// Where an authority of our own is.
    pub fn tls(&self) -> PathBuf {
        self.path.join("tls")
    }

    fn env(&self) -> PathBuf {
        self.path.join("env")
    }

    /// The API key of an earlier start.
    pub fn key(&self) -> Result<Option<ApiKey>, DataError> {
        let path = self.env();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(DataError::Unusable { path, source }),
        };
        let key = text.lines().find_map(|line| line.strip_prefix("export E2B_API_KEY=")).and_then(|key| key.parse().ok());
        key.map(Some).ok_or(DataError::BadEnv { path })
    }

    /// Writes down how clients reach this daemon, with `hints` as comments, and returns what was written.
    pub fn write_env(&self, api: SocketAddr, proxy: SocketAddr, key: &ApiKey, hints: &str) -> Result<String, DataError> {
        let (api, proxy, key) = (url(api), url(proxy), key.expose());
        let text = format!("export E2B_API_URL={api}\nexport E2B_SANDBOX_URL={proxy}\nexport E2B_API_KEY={key}\n{hints}");
        let (path, draft) = (self.env(), self.path.join("env.new"));
        let write = || {
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
            io::Write::write_all(&mut file, text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&draft, &path)
        };
        write().map_err(|source| DataError::Unusable { path: path.clone(), source })?;
        Ok(text)
    }
}

/// How a client on this host writes the address.
fn url(listening: SocketAddr) -> String {
    let here = listening.ip() == std::net::Ipv4Addr::LOCALHOST || listening.ip().is_unspecified();
    if here { format!("http://localhost:{}", listening.port()) } else { format!("http://{listening}") }
}

/// Whether a daemon uses this directory now.
pub fn is_used(path: &Path) -> bool {
    let lock = fs::File::open(path.join("lock"));
    lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(fs::TryLockError::WouldBlock)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn one_daemon_at_a_time() {
        let scratch = Scratch::new("data-lock");
        let path = scratch.path().join("data");
        let first = DataDir::open(&path).unwrap();
        assert!(matches!(DataDir::open(&path), Err(DataError::InUse { .. })) && is_used(&path));
        drop(first);
        assert!(!is_used(&path));
        DataDir::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn the_key_of_an_earlier_start_comes_back() {
        let scratch = Scratch::new("data-env");
        let data = DataDir::open(scratch.path()).unwrap();
        assert!(data.key().unwrap().is_none());
        let key = ApiKey::random();
        let (api, proxy) = ("127.0.0.1:3000".parse().unwrap(), "10.0.0.7:3002".parse().unwrap());
        let text = data.write_env(api, proxy, &key, "# more\n").unwrap();
        assert!(text.starts_with("export E2B_API_URL=http://localhost:3000\nexport E2B_SANDBOX_URL=http://10.0.0.7:3002\n"), "{text}");
        assert_eq!(data.key().unwrap().unwrap().expose(), key.expose());
        assert_eq!(fs::metadata(data.env()).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(data.env(), "export E2B_API_KEY=stolen").unwrap();
        assert!(matches!(data.key(), Err(DataError::BadEnv { .. })));
    }

    #[test]
    fn clients_get_an_address_they_can_use() {
        assert_eq!(url("0.0.0.0:80".parse().unwrap()), "http://localhost:80");
        assert_eq!(url("[::]:80".parse().unwrap()), "http://localhost:80");
        assert_eq!(url("[fd00::1]:80".parse().unwrap()), "http://[fd00::1]:80");
    }
}
