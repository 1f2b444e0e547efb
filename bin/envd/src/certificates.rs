//! The certificates that a sandbox trusts in addition to its image's.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

/// Where the certificates go.
pub struct Store {
    /// What programs read.
    bundle: PathBuf,
    /// What the distribution makes the bundle of, the next time it does.
    source: PathBuf,
}

impl Store {
    /// The usual places.
    pub fn system() -> Self {
        Self { bundle: "/etc/ssl/certs/ca-certificates.crt".into(), source: "/usr/local/share/ca-certificates/e2b-ca.crt".into() }
    }

    /// Appends `pem` to the bundle, which must exist.
    pub fn add(&self, pem: &str) -> io::Result<()> {
        fs::OpenOptions::new().append(true).open(&self.bundle)?.write_all(framed(pem).as_bytes())
    }

    /// Keeps `pem` for the next time the bundle is made, and removes the one that was installed before it.
    pub fn settle(&self, pem: &str, previous: Option<&str>) -> io::Result<()> {
        if let Some(dir) = self.source.parent() {
            fs::create_dir_all(dir)?;
        }
        fs::write(&self.source, framed(pem))?;
        match previous {
            Some(previous) if previous != pem => remove(&self.bundle, &framed(previous)),
            _ => Ok(()),
        }
    }
}

/// With exactly one line feed at the end.
fn framed(pem: &str) -> String {
    format!("{}\n", pem.trim_end_matches('\n'))
}

fn remove(bundle: &Path, block: &str) -> io::Result<()> {
    let text = fs::read_to_string(bundle)?;
    let Some(at) = text.find(block) else { return Ok(()) };
    let rest = [&text[..at], &text[at + block.len()..]].concat();
    let temporary = bundle.with_extension("crt.e2b-tmp");
    fs::write(&temporary, rest)?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o644))?;
    fs::rename(&temporary, bundle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_certificate_replaces_the_previous_one() {
        let dir = std::env::temp_dir().join(format!("envd-certificates-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let store = Store { bundle: dir.join("bundle.crt"), source: dir.join("local/e2b-ca.crt") };
        assert_eq!(store.add("A").unwrap_err().kind(), io::ErrorKind::NotFound);

        fs::write(&store.bundle, "BASE\n").unwrap();
        store.add("A\n\n").unwrap();
        store.settle("A\n\n", None).unwrap();
        assert_eq!(fs::read_to_string(&store.bundle).unwrap(), "BASE\nA\n");
        store.add("B").unwrap();
        store.settle("B", Some("A")).unwrap();
        assert_eq!(fs::read_to_string(&store.bundle).unwrap(), "BASE\nB\n");
        assert_eq!(fs::read_to_string(&store.source).unwrap(), "B\n");
        fs::remove_dir_all(&dir).unwrap();
    }
}
