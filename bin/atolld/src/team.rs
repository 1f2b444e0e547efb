//! `atolld team create`: works on the database, whether the daemon runs or not.

use std::{
    io::{self, Write as _},
    path::Path,
};

use anyhow::{Context as _, Result, bail, ensure};
use atoll_store::{Limits, Store};
use atoll_types::{ApiKey, Clock as _, SystemClock};

use crate::data;

/// Makes a team with a key, and prints the key: nobody can read it again later.
pub async fn create(data_dir: &Path, name: &str) -> Result<()> {
    let slug = slug(name)?;
    let database = data::database(data_dir);
    ensure!(database.exists(), "there is no Atoll in {}; start it once, or name its directory in ATOLL_DATA_DIR", data_dir.display());
    let store = Store::open(&database).await?;
    if store.team_by_slug(&slug).await?.is_some() {
        bail!("there is a team `{slug}` already");
    }
    let (key, now) = (ApiKey::random(), SystemClock.now());
    let team = store.ensure_team(&slug, name, Limits::default(), now).await?;
    store.ensure_key(&team.id, &key, "first key", now).await.context("storing the key")?;
    writeln!(io::stdout(), "team {slug} ({})\n{}", team.id, key.expose()).context("printing the key, which is lost")
}

/// The name as it appears before the `/` of template names.
fn slug(name: &str) -> Result<String> {
    let slug = name.trim().to_ascii_lowercase().replace(char::is_whitespace, "-");
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    ensure!((1..=63).contains(&slug.len()) && slug.bytes().all(fits), "a team's name has up to 63 letters, digits, spaces, `-` and `_`");
    Ok(slug)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_namespaces() {
        assert_eq!(slug(" Acme Corp_2 ").unwrap(), "acme-corp_2");
        for bad in ["", " ", "a/b", "é", &"a".repeat(64)] {
            assert!(slug(bad).is_err(), "{bad:?}");
        }
    }
}
