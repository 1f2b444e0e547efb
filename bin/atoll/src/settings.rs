//! Where the host is and who we are there: flags, variables, or the file that a daemon on this machine wrote. The variables mean what
//! they mean to E2B's SDKs: a URL before `E2B_DEBUG`, that before `E2B_DOMAIN`.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Result, anyhow, bail};
use atoll_types::Secret;
use http::Uri;

use crate::{cli::Place, failure::NoKey, traffic::Traffic};

const API_URL: &str = "E2B_API_URL";
const SANDBOX_URL: &str = "E2B_SANDBOX_URL";
const API_KEY: &str = "E2B_API_KEY";
const LOCAL_API: &str = "http://localhost:3000";

/// What every request needs.
pub struct Settings {
    pub api: Uri,
    pub key: Secret,
    /// The certificates to trust, if not the system's.
    pub trusted: Option<PathBuf>,
    pub traffic: Traffic,
}

impl Place {
    /// Completes what was said with what the daemon's file says.
    pub fn resolve(self) -> Result<Settings> {
        // Without the file, what was said must do.
        let file = read_env(&self.data_dir).unwrap_or_default();
        let written = |name: &str| file.get(name).cloned();
        let said = |value: Option<String>| value.filter(|v| !v.is_empty());
        let debug = self.debug.is_some_and(|debug| debug.eq_ignore_ascii_case("true"));
        let domain = said(self.domain);
        let api = said(self.api_url)
            .or_else(|| debug.then(|| LOCAL_API.into()))
            .or_else(|| domain.as_ref().map(|domain| format!("https://api.{domain}")))
            .or_else(|| written(API_URL));
        let traffic = match (said(self.sandbox_url), domain) {
            (Some(url), _) => Traffic::To(parse_url(SANDBOX_URL, &url)?),
            (None, _) if debug => Traffic::Local,
            (None, Some(domain)) => Traffic::Domain(domain),
            (None, None) => Traffic::File(written(SANDBOX_URL).map(|url| parse_url(SANDBOX_URL, &url)).transpose()?),
        };
        let key = said(self.api_key).or_else(|| written(API_KEY));
        Ok(Settings {
            api: parse_url(API_URL, api.as_deref().unwrap_or(LOCAL_API))?,
            key: Secret::new(key.ok_or_else(|| NoKey { file: self.data_dir.join("env").display().to_string() })?),
            trusted: said(self.ca).map(Into::into),
            traffic,
        })
    }
}

/// A URL that a setting of this name holds.
pub fn parse_url(name: &str, text: &str) -> Result<Uri> {
    let uri: Uri = text.parse().map_err(|e| anyhow!("{name} is not a URL ({e}): {text}"))?;
    match uri.scheme_str() {
        Some("http" | "https") if uri.host().is_some_and(|host| !host.is_empty()) => Ok(uri),
        _ => bail!("{name} must lead to http://HOST[:PORT] or https://HOST[:PORT], and that is {text}"),
    }
}

/// The variables in a daemon's data directory.
pub fn read_env(data_dir: &Path) -> Result<BTreeMap<String, String>> {
    let path = data_dir.join("env");
    let text = fs::read_to_string(&path).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => {
            anyhow!("{} does not exist: start the daemon first (`atolld all`), or say where its data is with --data-dir", path.display())
        }
        io::ErrorKind::PermissionDenied => anyhow!("{} may only be read by its owner, since it holds a key: try with sudo", path.display()),
        _ => anyhow!("reading {}: {e}", path.display()),
    })?;
    let entries = parse_env(&text);
    if entries.is_empty() { Err(anyhow!("{} holds no variables", path.display())) } else { Ok(entries) }
}

/// Reads lines like `export NAME=value`, with or without `export` and quotes; anything else is passed over.
fn parse_env(text: &str) -> BTreeMap<String, String> {
    let entry = |line: &str| {
        let line = line.trim();
        let (name, value) = line.strip_prefix("export ").unwrap_or(line).split_once('=')?;
        let (name, value) = (name.trim(), value.trim());
        let unquoted = ['\'', '"'].iter().find_map(|q| value.strip_prefix(*q)?.strip_suffix(*q)).unwrap_or(value);
        let valid = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        valid.then(|| (name.to_owned(), unquoted.to_owned()))
    };
    text.lines().filter_map(entry).collect()
}

/// The variables as lines for a shell.
pub fn exports(entries: &BTreeMap<String, String>) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-./:@%+,".contains(&b);
    let quote = |value: &str| if value.bytes().all(plain) { value.to_owned() } else { format!("'{}'", value.replace('\'', r"'\''")) };
    entries.iter().map(|(name, value)| format!("export {name}={}\n", quote(value))).collect()
}

#[cfg(test)]
mod tests {
    use atoll_types::{ENVD_PORT, SandboxId};

    use super::*;

    #[test]
    fn the_daemons_file_is_read_and_shown_again() {
        let text = "# made by atolld\n\nexport E2B_API_URL=http://localhost:3000\n  export E2B_SANDBOX_URL='http://localhost:3002'  \nE2B_API_KEY=\"e2b_00\"\nnonsense\n=x\na b=c\n";
        let entries = parse_env(text);
        assert_eq!(entries.len(), 3);
        assert_eq!(
            (entries[API_URL].as_str(), entries[SANDBOX_URL].as_str(), entries[API_KEY].as_str()),
            ("http://localhost:3000", "http://localhost:3002", "e2b_00")
        );
        assert_eq!(parse_env(&exports(&entries)), entries);
        assert_eq!(exports(&BTreeMap::from([("A".into(), "x; rm 'y'".into())])), "export A='x; rm '\\''y'\\'''\n");
    }

    fn place(said: &[(&str, Option<&str>)], data_dir: &Path) -> Place {
        let value = |name| said.iter().find(|(n, _)| *n == name).and_then(|(_, value)| value.map(String::from));
        Place {
            api_url: value(API_URL),
            sandbox_url: value(SANDBOX_URL),
            domain: value("E2B_DOMAIN"),
            debug: value("E2B_DEBUG"),
            ca: None,
            api_key: value(API_KEY),
            data_dir: data_dir.into(),
        }
    }

    #[test]
    fn variables_mean_what_they_mean_to_the_sdks() {
        let id: SandboxId = "abc1".parse().unwrap();
        let (api, sandbox) = (("E2B_API_URL", Some("http://a:1")), ("E2B_SANDBOX_URL", Some("http://s:2")));
        let (domain, debug) = (("E2B_DOMAIN", Some("my.cloud:8443")), ("E2B_DEBUG", Some("True")));
        let (local, local_envd) = ("http://localhost:3000/", "http://localhost:49983/");
        let (by_domain, envd_by_domain) = ("https://api.my.cloud:8443/", "https://49983-abc1.my.cloud:8443/");
        for (said, expected) in [
            (vec![domain], [by_domain, envd_by_domain]),
            (vec![domain, ("E2B_DEBUG", Some("1"))], [by_domain, envd_by_domain]),
            (vec![domain, debug], [local, local_envd]),
            (vec![domain, api], ["http://a:1/", envd_by_domain]),
            (vec![domain, sandbox], [by_domain, "http://s:2/"]),
            (vec![domain, debug, api, sandbox], ["http://a:1/", "http://s:2/"]),
            (vec![debug, api], ["http://a:1/", local_envd]),
            (vec![domain, ("E2B_API_URL", Some("")), ("E2B_SANDBOX_URL", Some(""))], [by_domain, envd_by_domain]),
        ] {
            let settings = place(&[&said[..], &[("E2B_API_KEY", Some("e2b_00"))]].concat(), Path::new("/none")).resolve().unwrap();
            assert_eq!([settings.api.to_string(), settings.traffic.base(&id, ENVD_PORT, None).unwrap().to_string()], expected, "{said:?}");
        }
    }

    #[test]
    fn flags_come_first_and_the_file_fills_in() {
        let dir = std::env::temp_dir().join(format!("atoll-settings-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("env"), "export E2B_API_URL=http://file:1\nexport E2B_API_KEY=e2b_00\n").unwrap();
        let place = |api_url: Option<&str>, dir: &Path| place(&[("E2B_API_URL", api_url)], dir);
        let settings = place(None, &dir).resolve().unwrap();
        assert_eq!((settings.api.host(), settings.key.expose()), (Some("file"), "e2b_00"));
        assert_eq!(place(Some("http://flag:2"), &dir).resolve().unwrap().api.host(), Some("flag"));
        assert_eq!(place(Some("https://flag"), &dir).resolve().unwrap().api.scheme_str(), Some("https"));
        assert!(place(Some("flag"), &dir).resolve().is_err());
        fs::remove_dir_all(&dir).unwrap();
        assert!(place(None, &dir).resolve().err().unwrap().to_string().contains("E2B_API_KEY"));
        assert!(read_env(&dir).unwrap_err().to_string().contains("start the daemon"));
    }
}
