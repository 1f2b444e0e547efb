//! The state directory of a sandbox, `<data>/sandboxes/<id>/`: its state file, and in `machine/` what belongs to its machine.
//!
//! The state file is the anchor: written before anything else exists, removed after everything else is gone. Whoever finds one
//! after a crash knows what to take back or to finish.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use atoll_runtime::MachineState;
use atoll_types::{Egress, EndReason, Resources, SandboxId, Secret, TemplateId, Timestamp, fault};
use serde::{Deserialize, Serialize};

/// The version of [`Record`] that this program writes, and the only one it reads.
const VERSION: u32 = 1;
/// No honest state file is near this size.
const LIMIT: u64 = 1 << 20;

/// What the state file says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    pub sandbox_id: SandboxId,
    pub generation: u64,
    pub template_id: TemplateId,
    pub resources: Resources,
    pub egress: Egress,
    pub deadline: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_token: Option<Secret>,
    /// The network slot it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<u32>,
    /// Its machine, as soon as there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineState>,
    /// Since when it is ready; without it the boot was not complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// Why it is being stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<EndReason>,
}

#[derive(Serialize, Deserialize)]
struct Versioned<R> {
    version: u32,
    #[serde(flatten)]
    record: R,
}

#[derive(Deserialize)]
struct OnlyVersion {
    version: u32,
}

/// Why a state file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// There is none: nothing of the sandbox existed yet, or nothing exists any more.
    #[error("there is no state file")]
    Missing,
    #[error("reading the state file")]
    Read(#[source] io::Error),
    #[error("the state file is not one of ours")]
    Corrupt(#[source] serde_json::Error),
    #[error("the state file is larger than {LIMIT} bytes")]
    TooLarge,
    #[error("the state file has version {0}; this program reads version {VERSION}")]
    Version(u32),
    #[error("the state file speaks of sandbox `{0}`")]
    Misplaced(SandboxId),
}

impl Record {
    /// Reads the text of a state file.
    pub fn parse(text: &[u8]) -> Result<Self, RecordError> {
        let OnlyVersion { version } = serde_json::from_slice(text).map_err(RecordError::Corrupt)?;
        if version != VERSION {
            return Err(RecordError::Version(version));
        }
        let Versioned { record, .. } = serde_json::from_slice(text).map_err(RecordError::Corrupt)?;
        Ok(record)
    }

    /// The text of a state file.
    pub fn to_text(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&Versioned { version: VERSION, record: self })
    }
}

/// One state directory. The methods block; call them where that is allowed.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    dir: PathBuf,
}

impl Home {
    /// The directory `dir`, whether it exists or not.
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The machine's own directory.
    pub(crate) fn machine_dir(&self) -> PathBuf {
        self.dir.join("machine")
    }

    /// The log of `envd`.
    pub(crate) fn log(&self) -> PathBuf {
        self.machine_dir().join("envd.log")
    }

    /// Makes the directory, anchor first. Whoever asked removes what is there after an error.
    pub(crate) fn create(&self, record: &Record) -> io::Result<()> {
        let make = |dir: &Path| fs::DirBuilder::new().mode(0o700).create(dir);
        match make(&self.dir) {
            // An earlier run could not be removed completely.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                self.remove()?;
                make(&self.dir)?;
            }
            made => made?,
        }
        fault::point("home.made");
        self.save(record)?;
        make(&self.machine_dir())
    }

    /// Replaces the state file. After a crash of the daemon there is the old or the new one, never half of one.
    pub(crate) fn save(&self, record: &Record) -> io::Result<()> {
        let text = record.to_text()?;
        let draft = self.dir.join("state.json.new");
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        fault::fallible("home.draft")?;
        file.write_all(&text)?;
        fs::rename(draft, self.anchor())?;
        fault::point("home.saved");
        Ok(())
    }

    /// Reads the state file.
    pub(crate) fn load(&self) -> Result<Record, RecordError> {
        let length = match fs::metadata(self.anchor()) {
            Ok(found) => found.len(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(RecordError::Missing),
            Err(e) => return Err(RecordError::Read(e)),
        };
        if length > LIMIT {
            return Err(RecordError::TooLarge);
        }
        let text = fs::read(self.anchor()).map_err(RecordError::Read)?;
        let record = Record::parse(&text)?;
        match self.dir.file_name().is_some_and(|name| name == record.sandbox_id.as_str()) {
            true => Ok(record),
            false => Err(RecordError::Misplaced(record.sandbox_id)),
        }
    }

    /// Removes the directory, anchor last.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let gone = |result: io::Result<()>| match result {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        };
        gone(atoll_sys::fs::remove_tree(&self.machine_dir()))?;
        fault::fallible("home.emptied")?;
        gone(fs::remove_file(self.dir.join("state.json.new")))?;
        gone(fs::remove_file(self.anchor()))?;
        fault::point("home.unnamed");
        gone(fs::remove_dir(&self.dir))
    }

    fn anchor(&self) -> PathBuf {
        self.dir.join("state.json")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::scratch::Scratch;

    fn record(id: &str) -> Record {
        Record {
            sandbox_id: id.parse().unwrap(),
            generation: 2,
            template_id: "base".parse().unwrap(),
            resources: Resources::default(),
            egress: Egress::default(),
            deadline: "2026-01-02T03:04:05Z".parse().unwrap(),
            access_token: Some(Secret::new("token")),
            slot: Some(7),
            machine: None,
            started_at: None,
            ending: Some(EndReason::Killed),
        }
    }

    #[test]
    fn a_record_comes_back() {
        let scratch = Scratch::new("home-record");
        let home = Home::new(scratch.path().join("i1"));
        home.create(&record("i1")).unwrap();
        let back = home.load().unwrap();
        assert_eq!((back.generation, back.slot, back.ending), (2, Some(7), Some(EndReason::Killed)));
        assert_eq!(back.access_token.unwrap().expose(), "token");
        assert_eq!(fs::metadata(home.anchor()).unwrap().permissions().mode() & 0o777, 0o600);
        home.remove().unwrap();
        home.remove().unwrap();
        assert!(!home.dir.exists() && matches!(home.load(), Err(RecordError::Missing)));
    }

    /// The first version as it was released: it must stay readable.
    #[test]
    fn version_1_stays_readable() {
        let scratch = Scratch::new("home-v1");
        let home = Home::new(scratch.path().join("i1"));
        fs::create_dir(&home.dir).unwrap();
        let text = r#"{"version":1,"sandbox_id":"i1","generation":4,"template_id":"base",
            "resources":{"cpu_count":2,"memory_mib":1024,"disk_mib":10240,"pids":4096},"egress":{"internet":false},"deadline":"2026-01-02T03:04:05Z",
            "access_token":"token","slot":7,"machine":{"runtime":"container","pid":42,"pid_started":4711,"guest":"10.11.0.7:49983",
            "dir":"/var/lib/atoll/sandboxes/i1/machine","cgroup":"i1"},"started_at":"2026-01-02T03:00:00Z"}"#;
        fs::write(home.anchor(), text).unwrap();
        let record = home.load().unwrap();
        assert_eq!(record.machine.unwrap().pid, 42);
        assert_eq!((record.slot, record.ending), (Some(7), None));
    }

    #[test]
    fn a_state_file_that_is_not_ours_is_refused() {
        let scratch = Scratch::new("home-corrupt");
        let home = Home::new(scratch.path().join("i1"));
        fs::create_dir(&home.dir).unwrap();
        let load = |text: &str| {
            fs::write(home.anchor(), text).unwrap();
            home.load()
        };
        for corrupt in ["", "{", "[]", "\0\0", r#"{"version":1}"#, r#"{"version":"1"}"#] {
            assert!(matches!(load(corrupt), Err(RecordError::Corrupt(_))), "{corrupt:?}");
        }
        assert!(matches!(load(r#"{"version":2,"anything":true}"#), Err(RecordError::Version(2))));
        assert!(matches!(load(&" ".repeat(LIMIT as usize + 1)), Err(RecordError::TooLarge)));
        home.save(&record("i2")).unwrap();
        assert!(matches!(home.load(), Err(RecordError::Misplaced(_))));
    }
}
