//! Where the host is and who we are there: flags, variables, or the file that a daemon on this machine wrote.

use std::{collections::BTreeMap, fs, io, path::Path};

use anyhow::{Result, anyhow, bail};
use atoll_types::Secret;
use http::Uri;

use crate::{cli::Place, failure::NoKey};

const API_URL: &str = "E2B_API_URL";
const SANDBOX_URL: &str = "E2B_SANDBOX_URL";
const API_KEY: &str = "E2B_API_KEY";

/// What every request needs.
pub struct Settings {
    pub api: Uri,
    pub key: Secret,
    /// Needed only to reach into sandboxes.
    pub sandboxes: Option<Uri>,
}

impl Place {
    /// Completes what was said with what the daemon's file says.
    pub fn resolve(self) -> Result<Settings> {
        // Without the file, what was said must do.
        let file = read_env(&self.data_dir).unwrap_or_default();
        let given = |said: Option<String>, name: &str| said.filter(|v| !v.is_empty()).or_else(|| file.get(name).cloned());
        let api = given(self.api_url, API_URL).unwrap_or_else(|| "http://localhost:3000".into());
        let key = given(self.api_key, API_KEY).ok_or_else(|| NoKey { file: self.data_dir.join("env").display().to_string() })?;
        let sandboxes = given(self.sandbox_url, SANDBOX_URL).map(|url| parse_url(SANDBOX_URL, &url)).transpose()?;
        Ok(Settings { api: parse_url(API_URL, &api)?, key: Secret::new(key), sandboxes })
    }
}

fn parse_url(name: &str, text: &str) -> Result<Uri> {
    let uri: Uri = text.parse().map_err(|e| anyhow!("{name} is not a URL ({e}): {text}"))?;
    match uri.scheme_str() {
        Some("http") if uri.host().is_some_and(|host| !host.is_empty()) => Ok(uri),
        Some("https") => bail!("{name} is {text}, but this command does not speak https yet: use the host's http:// address"),
        _ => bail!("{name} must have the form http://HOST:PORT, and is {text}"),
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

    #[test]
    fn flags_come_first_and_the_file_fills_in() {
        let dir = std::env::temp_dir().join(format!("atoll-settings-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("env"), "export E2B_API_URL=http://file:1\nexport E2B_API_KEY=e2b_00\n").unwrap();
        let place = |api_url: Option<&str>, dir: &Path| Place {
            api_url: api_url.map(Into::into),
            sandbox_url: None,
            api_key: None,
            data_dir: dir.into(),
        };
        let settings = place(None, &dir).resolve().unwrap();
        assert_eq!((settings.api.host(), settings.key.expose()), (Some("file"), "e2b_00"));
        assert_eq!(place(Some("http://flag:2"), &dir).resolve().unwrap().api.host(), Some("flag"));
        assert!(place(Some("https://flag"), &dir).resolve().err().unwrap().to_string().contains("https"));
        assert!(place(Some("flag"), &dir).resolve().is_err());
        fs::remove_dir_all(&dir).unwrap();
        assert!(place(None, &dir).resolve().err().unwrap().to_string().contains("E2B_API_KEY"));
        assert!(read_env(&dir).unwrap_err().to_string().contains("start the daemon"));
    }
}
