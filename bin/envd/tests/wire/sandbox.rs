//! A daemon that sees accounts made for the test, and a small disk.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, chown},
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use http::StatusCode;
use serde_json::{Value, json};

use crate::daemon::{Daemon, json_body};

/// Numbers that no account of a usual machine has.
pub const UID: u32 = 54_321;
pub const GID: u32 = 54_322;

pub struct Sandbox {
    pub daemon: Daemon,
    /// The home of `user`, who is the default user.
    pub home: PathBuf,
    dir: PathBuf,
}

/// Starts a sandbox, or leaves the test of that name.
macro_rules! sandbox {
    ($test:literal) => {
        match crate::sandbox::Sandbox::start($test).await {
            Some(sandbox) => sandbox,
            None => return,
        }
    };
}

pub(crate) use sandbox;

impl Sandbox {
    /// Starts it, or says why `test` is skipped.
    pub async fn start(test: &str) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let dir = std::env::temp_dir().join(format!("envd-sandbox-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        let home = dir.join("home/user");
        fs::create_dir_all(&home).unwrap();
        fs::create_dir(dir.join("disk")).unwrap();
        let owned = chown(&home, Some(UID), Some(GID));
        let possible = Command::new("unshare").args(["--mount", "true"]).output();
        if owned.is_err() || !possible.is_ok_and(|output| output.status.success()) {
            fs::remove_dir_all(&dir).unwrap();
            eprintln!("SKIPPED {test}: needs root and mount namespaces");
            return None;
        }
        let passwd = format!("root:x:0:0::/root:/bin/sh\nuser:x:{UID}:{GID}::{}:/bin/sh\n", home.display());
        fs::write(dir.join("passwd"), passwd).unwrap();
        fs::write(dir.join("group"), format!("root:x:0:\ngroup-of-user:x:{GID}:\n")).unwrap();
        let script = "umask 022; cd \"$0\" && mount --bind passwd /etc/passwd && mount --bind group /etc/group \
                      && mount -t tmpfs -o size=1m tmpfs disk && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script]).arg(&dir).arg(env!("CARGO_BIN_EXE_envd"));
        let daemon = Daemon::launched_by(command, &[]);
        assert_eq!(daemon.init(json!({"defaultUser": "user"})).await, StatusCode::NO_CONTENT);
        Some(Self { daemon, home, dir })
    }

    /// A path in the home, as text.
    pub fn path(&self, name: &str) -> String {
        self.home.join(name).to_str().unwrap().to_owned()
    }

    /// A path on a disk of one mebibyte, which only the daemon sees.
    pub fn on_disk(&self, name: &str) -> String {
        self.dir.join("disk").join(name).to_str().unwrap().to_owned()
    }

    /// Writes a file of the home behind the daemon's back.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.home.join(name), content).unwrap();
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.home.join(name)).unwrap()
    }

    /// Owner, group and mode of a file of the home.
    pub fn ownership(&self, name: &str) -> (u32, u32, u32) {
        let found = fs::symlink_metadata(self.home.join(name)).unwrap();
        (found.uid(), found.gid(), found.mode() & 0o7777)
    }

    /// A call of the filesystem service.
    pub async fn call(&self, method: &str, request: Value) -> (StatusCode, Value) {
        let path = format!("/filesystem.Filesystem/{method}");
        let response = self.daemon.send(http::Method::POST, &path, &[("content-type", "application/json")], request.to_string()).await;
        (response.status(), json_body(response).await)
    }

    /// A call that must succeed.
    pub async fn done(&self, method: &str, request: Value) -> Value {
        let (status, reply) = self.call(method, request).await;
        assert_eq!(status, StatusCode::OK, "{method}: {reply}");
        reply
    }

    /// The code of a call that must fail.
    pub async fn fails(&self, method: &str, request: Value) -> String {
        let (status, reply) = self.call(method, request).await;
        assert!(!status.is_success(), "{method}: {reply}");
        reply["code"].as_str().unwrap().to_owned()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}
