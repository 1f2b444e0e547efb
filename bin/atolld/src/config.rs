//! The settings: one annotated TOML page of defaults, over it the user's file, over that the environment.
//!
//! `config/default.toml` is the only place that knows the defaults; it is also what `atolld config` prints. So a setting that is not
//! documented does not exist.

use std::{
    fmt, fs, io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use atoll_sys::protection::Disabled;
use atoll_types::Secret;
use serde::Deserialize;
use toml::{Table, Value, de::DeTable};

/// The annotated defaults.
pub const DEFAULTS: &str = include_str!("config/default.toml");
/// Where the user's file is when nobody says otherwise.
const USUAL_FILE: &str = "/etc/atoll/atoll.toml";
/// Short names of variables.
const ALIASES: [(&str, &str); 1] = [("ATOLL_LOG", "ATOLL_LOG_LEVEL")];

/// All settings; `config/default.toml` says what they mean.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub data_dir: PathBuf,
    pub cache_dir: PathBuf,
    pub api: Api,
    pub proxy: Proxy,
    pub tls: Tls,
    pub node: Node,
    pub network: Network,
    pub template: Templates,
    pub log: Log,
    pub shutdown: Shutdown,
    pub danger: Danger,
}

#[derive(Debug, Deserialize)]
pub struct Api {
    pub listen: SocketAddr,
    pub head_timeout_ms: u64,
    pub key: Secret,
    #[serde(flatten)]
    pub limits: atoll_control::ControlConfig,
}

#[derive(Debug, Deserialize)]
pub struct Proxy {
    pub listen: SocketAddr,
    #[serde(flatten)]
    pub limits: atoll_proxy::ProxyConfig,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    pub domain: String,
    pub listen: SocketAddr,
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub handshake_timeout_ms: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    pub id: String,
    pub runtime: RuntimeKind,
    pub max_sandboxes: usize,
    pub dns: Vec<IpAddr>,
    pub stop_grace_ms: u64,
    pub end_with_daemon: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeKind {
    Container,
    Sim,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    pub range: String,
    pub ready: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Templates {
    pub base: Base,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    pub sources: Vec<Source>,
    pub archive: PathBuf,
    pub suite: String,
    pub mirrors: Vec<String>,
    pub packages: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    Archive,
    Debootstrap,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    pub level: String,
    pub format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shutdown {
    pub grace_ms: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Danger {
    pub disable: Disabled,
}

/// Why the settings are not usable.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("reading the configuration {path}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{file}, line {line}: {problem}")]
    File { file: String, line: usize, problem: String },
    #[error("{variable} in the environment: {problem}")]
    Variable { variable: String, problem: String },
    #[error("the configuration is wrong: {0}")]
    Meaning(String),
}

impl Config {
    /// The settings that `file` (or the usual one, if it is there) and the environment make.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let path = file.unwrap_or(Path::new(USUAL_FILE));
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound && file.is_none() => String::new(),
            Err(source) => return Err(ConfigError::Read { path: path.to_owned(), source }),
        };
        Self::from_parts(&path.display().to_string(), &text, |name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn from_parts(file: &str, text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let mut settings: Table = DEFAULTS.parse().map_err(|e: toml::de::Error| ConfigError::Meaning(e.message().into()))?;
        let user = DeTable::parse(text).map_err(|e| at(file, text, e.span().unwrap_or_default().start, e.message()))?;
        check(user.get_ref(), &settings, &mut Vec::new()).map_err(|(offset, problem)| at(file, text, offset, problem))?;
        let user: Table = text.parse().map_err(|e: toml::de::Error| at(file, text, e.span().unwrap_or_default().start, e.message()))?;
        merge(&mut settings, user);
        let variable = |name: &str| {
            let alias = ALIASES.iter().find(|(_, full)| *full == name).and_then(|(short, _)| variable(short));
            variable(name).or(alias)
        };
        overlay(&mut settings, "ATOLL", &variable)?;
        settings.try_into().map_err(|e: toml::de::Error| ConfigError::Meaning(one_line(&e)))
    }

    /// The defaults, for tests.
    #[cfg(test)]
    pub fn defaults() -> Self {
        Self::from_parts("", "", |_| None).unwrap()
    }
}

fn at(file: &str, text: &str, offset: usize, problem: impl fmt::Display) -> ConfigError {
    let line = text.as_bytes().iter().take(offset).filter(|b| **b == b'\n').count() + 1;
    ConfigError::File { file: file.into(), line, problem: problem.to_string() }
}

/// A message of the parser without its picture of the source, with the key it speaks of.
fn one_line(error: &toml::de::Error) -> String {
    error.to_string().split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Every key must be one of ours and of our type; else the offset of the first that is not, and what is wrong.
fn check<'a>(user: &'a DeTable<'a>, known: &Table, path: &mut Vec<&'a str>) -> Result<(), (usize, String)> {
    for (key, value) in user {
        path.push(key.get_ref());
        let name = path.join(".");
        let Some(ours) = known.get(key.get_ref().as_ref()) else {
            return Err((key.span().start, format!("there is no setting `{name}`; `atolld config` prints all of them")));
        };
        let theirs = value.get_ref();
        if theirs.type_str() != ours.type_str() {
            return Err((value.span().start, format!("`{name}` must be of type {}, not {}", ours.type_str(), theirs.type_str())));
        }
        if let (Some(theirs), Some(ours)) = (theirs.as_table(), ours.as_table()) {
            check(theirs, ours, path)?;
        }
        path.pop();
    }
    Ok(())
}

fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(into)), Value::Table(from)) => merge(into, from),
            (_, value) => drop(into.insert(key, value)),
        }
    }
}

fn overlay(settings: &mut Table, prefix: &str, variable: &impl Fn(&str) -> Option<String>) -> Result<(), ConfigError> {
    for (key, value) in settings {
        let name = format!("{prefix}_{}", key.to_ascii_uppercase());
        if let Value::Table(table) = value {
            overlay(table, &name, variable)?;
        } else if let Some(text) = variable(&name) {
            *value = read(&text, value).map_err(|problem| ConfigError::Variable { variable: name, problem })?;
        }
    }
    Ok(())
}

/// The text of a variable as a value of the same type as `like`.
fn read(text: &str, like: &Value) -> Result<Value, String> {
    match like {
        Value::Integer(_) => text.parse().map(Value::Integer).map_err(|_| "expected a whole number".into()),
        Value::Boolean(_) => text.parse().map(Value::Boolean).map_err(|_| "expected `true` or `false`".into()),
        Value::Array(_) => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Ok(Value::Array(items.map(|item| Value::String(item.into())).collect()))
        }
        _ => Ok(Value::String(text.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::from_parts("atoll.toml", text, |name| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).into()))
    }

    #[test]
    fn defaults_are_the_documented_ones_and_agree_with_the_crates() {
        let config = Config::defaults();
        assert_eq!(config.api.listen.to_string(), "127.0.0.1:3000");
        assert_eq!(config.proxy.listen.to_string(), "127.0.0.1:3002");
        assert_eq!(config.api.limits, atoll_control::ControlConfig::default());
        assert_eq!(config.proxy.limits, atoll_proxy::ProxyConfig::default());
        assert_eq!(config.node.runtime, RuntimeKind::Container);
        assert!(config.danger.disable.is_empty());
    }

    #[test]
    fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
        let file = "data_dir = '/a'\n[api]\nlisten = '127.0.0.1:1'\n[node]\nmax_sandboxes = 5\n";
        let config =
            with(file, &[("ATOLL_API_LISTEN", "127.0.0.1:2"), ("ATOLL_NODE_DNS", "1.1.1.1, ::1"), ("ATOLL_LOG", "debug")]).unwrap();
        assert_eq!(config.data_dir, Path::new("/a"));
        assert_eq!(config.api.listen.port(), 2);
        assert_eq!(config.node.max_sandboxes, 5);
        assert_eq!(config.node.dns, ["1.1.1.1".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()]);
        assert_eq!(config.log.level, "debug");
        assert_eq!(config.cache_dir, Path::new("/var/cache/atoll"));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let says = |text: &str, expected: &str| {
            let error = with(text, &[]).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        };
        says("\n[api]\nlisen = 'x'\n", "atoll.toml, line 3: there is no setting `api.lisen`");
        says("[nod]\n", "line 1: there is no setting `nod`");
        says("[template.base]\n\nsuite = 12\n", "line 3: `template.base.suite` must be of type string, not integer");
        says("a = = 2", "line 1");
        says("[api]\nlisten = 'here'\n", "api.listen");
        says("[node]\nruntime = 'docker'\n", "docker");
        says("[danger]\ndisable = ['walls']\n", "walls");
        let error = with("", &[("ATOLL_NODE_MAX_SANDBOXES", "many")]).unwrap_err();
        assert_eq!(error.to_string(), "ATOLL_NODE_MAX_SANDBOXES in the environment: expected a whole number");
    }

    #[test]
    fn a_key_is_not_shown() {
        let config = with("", &[("ATOLL_API_KEY", "e2b_0011")]).unwrap();
        assert!(!format!("{config:?}").contains("0011"));
    }
}
