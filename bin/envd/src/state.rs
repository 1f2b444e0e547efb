//! What the daemon knows: its access token, its default user and workdir, the global environment, and the processes and watchers it
//! holds. Everything lives in memory; a restart forgets it.

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use atoll_wire::connect::RpcError;
use chrono::{DateTime, Utc};

use crate::{
    filesystem::Watchers,
    metrics::Processor,
    process::Processes,
    users::{self, User},
};

/// The daemon's memory, shared by all requests.
pub struct State {
    settings: Mutex<Settings>,
    /// Where the files about the sandbox are.
    pub(crate) run_dir: PathBuf,
    /// The machine is the sandbox's own, and so is its clock.
    pub(crate) in_vm: bool,
    /// One `/init` at a time.
    pub(crate) init: Mutex<()>,
    /// The processes that clients started.
    pub processes: Processes,
    /// The watchers that `CreateWatcher` made.
    pub watchers: Watchers,
    pub(crate) processor: Mutex<Processor>,
}

/// What `/init` sets.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The access token, once there is one.
    pub token: Option<Token>,
    /// Whom requests without a user mean.
    pub default_user: String,
    /// What an empty path means instead of the home.
    pub default_workdir: Option<String>,
    /// Variables of the platform; they win over `user_env`.
    pub internal_env: BTreeMap<String, String>,
    /// Variables of the sandbox's owner.
    pub user_env: BTreeMap<String, String>,
    /// When the newest `/init` that was applied was sent.
    pub applied: Option<DateTime<Utc>>,
    /// The certificates that the last `/init` installed.
    pub certificates: Option<String>,
}

impl State {
    /// The state of a daemon that was just started, with the platform's variables.
    pub fn new(run_dir: PathBuf, in_vm: bool, internal_env: BTreeMap<String, String>, processes: Processes) -> Arc<Self> {
        let settings = Settings {
            token: None,
            default_user: "root".into(),
            default_workdir: None,
            internal_env,
            user_env: BTreeMap::new(),
            applied: None,
            certificates: None,
        };
        Arc::new(Self {
            settings: Mutex::new(settings),
            run_dir,
            in_vm,
            init: Default::default(),
            processes,
            watchers: Watchers::default(),
            processor: Mutex::new(Processor::now()),
        })
    }

    /// Locks the settings. Hold it for lines, never across an `await`.
    pub fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The access token, once there is one.
    pub fn token(&self) -> Option<Token> {
        self.settings().token.clone()
    }

    /// Whom requests without a user mean.
    pub fn default_user(&self) -> String {
        self.settings().default_user.clone()
    }

    /// What an empty path means instead of the home.
    pub fn default_workdir(&self) -> Option<String> {
        self.settings().default_workdir.clone()
    }

    /// The variables every process gets.
    pub fn global_env(&self) -> BTreeMap<String, String> {
        let settings = self.settings();
        let mut env = settings.user_env.clone();
        env.extend(settings.internal_env.clone());
        // Outside a virtual machine only the platform knows whether this is a sandbox, and it may say so with the rest.
        env.entry("E2B_SANDBOX".into()).or_insert_with(|| self.in_vm.to_string());
        env
    }
}

/// What one request stands on.
#[derive(Clone)]
pub struct Context {
    /// The daemon's memory.
    pub state: Arc<State>,
    /// The user that the Basic credentials named; they were checked to exist.
    pub basic: Option<User>,
}

impl Context {
    /// The user of an RPC: the one named by Basic credentials, else the default one; unauthenticated when that one is no account.
    pub fn user(&self) -> Result<User, RpcError> {
        match &self.basic {
            Some(user) => Ok(user.clone()),
            None => {
                let name = self.state.default_user();
                users::find(&name).ok_or_else(|| unknown_user(&name))
            }
        }
    }
}

/// There is no account of that name.
pub fn unknown_user(name: &str) -> RpcError {
    RpcError::unauthenticated(format!("invalid username: '{name}'"))
}

/// An access token: compared in constant time, wiped from memory when dropped, never shown.
#[derive(Clone)]
pub struct Token(Box<[u8]>);

impl Token {
    /// Takes the token's text.
    pub fn new(text: &str) -> Self {
        Self(text.as_bytes().into())
    }

    /// The token itself, for computing signatures.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Whether `presented` is this token, in a time that depends on lengths alone.
    pub fn matches(&self, presented: &[u8]) -> bool {
        same(&self.0, presented)
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.fill(0);
        std::hint::black_box(&self.0);
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Whether two texts are equal, in a time that depends on their lengths alone.
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && std::hint::black_box(a.iter().zip(b).fold(0, |different, (a, b)| different | (a ^ b))) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_compare_and_hide() {
        let token = Token::new("secret");
        assert!(token.matches(b"secret"));
        for wrong in ["", "secre", "secret ", "Secret", "secres"] {
            assert!(!token.matches(wrong.as_bytes()), "{wrong:?}");
        }
        assert!(!format!("{token:?}").contains("secret"));
    }
}
