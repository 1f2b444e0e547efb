//! The programs that go into sandboxes: embedded in this one, laid out on disk at its start.

use std::{
    env, fs, io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

include!(concat!(env!("OUT_DIR"), "/guest.rs"));

/// Where the programs are.
#[derive(Debug, PartialEq)]
pub struct Guest {
    pub envd: PathBuf,
    pub launch: PathBuf,
}

/// Why they are not there.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    #[error("this atolld was built without `envd` and `launch`; build it with: cargo xtask build")]
    NotEmbedded,
    #[error("writing the guest programs below {}", dir.display())]
    Write { dir: PathBuf, source: io::Error },
}

impl Guest {
    /// Lays the programs out in `<bin>/<digest>/`. `ATOLL_ENVD` and `ATOLL_LAUNCH` name others, for development.
    pub fn unpack(bin: &Path) -> Result<Self, GuestError> {
        let named = |variable| env::var_os(variable).map(PathBuf::from);
        if let (Some(envd), Some(launch)) = (named("ATOLL_ENVD"), named("ATOLL_LAUNCH")) {
            return Ok(Self { envd, launch });
        }
        let (Some(envd), Some(launch)) = (ENVD, LAUNCH) else { return Err(GuestError::NotEmbedded) };
        let dir = lay_out(bin, [("envd", envd), ("launch", launch)]).map_err(|source| GuestError::Write { dir: bin.into(), source })?;
        Ok(Self { envd: named("ATOLL_ENVD").unwrap_or(dir.join("envd")), launch: named("ATOLL_LAUNCH").unwrap_or(dir.join("launch")) })
    }
}

/// Writes the programs into a directory named by their digest, whole or not at all, and removes those of other versions: what runs
/// keeps its program without a name.
fn lay_out(bin: &Path, programs: [(&str, &[u8]); 2]) -> io::Result<PathBuf> {
    let digest = programs.iter().fold(Sha256::new(), |hash, (_, program)| hash.chain_update(program)).finalize();
    let name = digest[..10].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let dir = bin.join(&name);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(bin)?;
    for entry in fs::read_dir(bin)? {
        let entry = entry?;
        if entry.file_name() != *name {
            fs::remove_dir_all(entry.path())?;
        }
    }
    if !dir.exists() {
        let draft = bin.join("draft");
        fs::DirBuilder::new().mode(0o700).create(&draft)?;
        for (name, program) in programs {
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o555).open(draft.join(name))?;
            io::Write::write_all(&mut file, program)?;
            file.sync_all()?;
        }
        fs::rename(draft, &dir)?;
    }
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn programs_are_laid_out_once_and_older_ones_removed() {
        let scratch = Scratch::new("guest");
        let bin = scratch.path().join("bin");
        let old = lay_out(&bin, [("envd", b"1"), ("launch", b"2")]).unwrap();
        fs::create_dir(bin.join("draft")).unwrap();
        let new = lay_out(&bin, [("envd", b"1"), ("launch", b"3")]).unwrap();
        assert_eq!(new, lay_out(&bin, [("envd", b"1"), ("launch", b"3")]).unwrap());
        assert_eq!(fs::read(new.join("launch")).unwrap(), b"3");
        assert_eq!(fs::metadata(new.join("envd")).unwrap().permissions().mode() & 0o777, 0o555);
        assert!(!old.exists() && fs::read_dir(&bin).unwrap().count() == 1);
    }
}
