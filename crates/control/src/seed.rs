//! What the daemon sets up itself: teams, their keys, and the templates that come with it.

use atoll_store::{BuildRow, KeyError, Limits, NewBuild, StoreError, Team};
use atoll_types::ApiKey;

use crate::control::Control;

/// The team that a fresh installation has.
const DEFAULT_TEAM: &str = "default";

/// Why something was not set up.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// There is such a team.
    #[error("there is a team `{0}` already")]
    TeamExists(String),
    /// A team's name is also its namespace in template names.
    #[error("`{0}` cannot be the name of a team: use lower-case letters, digits, `-` and `_`, at most 63")]
    BadName(String),
    /// The key was refused.
    #[error("storing the API key of team `{team}`")]
    Key {
        /// Whose key.
        team: String,
        #[source]
        source: KeyError,
    },
    /// The database failed.
    #[error("asking the store")]
    Store(#[from] StoreError),
}

impl Control {
    /// Makes sure that there is the default team and that `key` speaks for it; makes a key when none is given.
    pub async fn ensure_default_team(&self, key: Option<ApiKey>) -> Result<ApiKey, SeedError> {
        let team = self.default_team().await?;
        self.give_key(&team, key).await
    }

    /// Makes a team with a key; makes the key when none is given.
    pub async fn create_team(&self, name: &str, key: Option<ApiKey>) -> Result<ApiKey, SeedError> {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        if !(1..=63).contains(&name.len()) || !name.bytes().all(fits) {
            return Err(SeedError::BadName(name.into()));
        }
        if self.store().team_by_slug(name).await?.is_some() {
            return Err(SeedError::TeamExists(name.into()));
        }
        let team = self.store().ensure_team(name, name, Limits::default(), self.now()).await?;
        self.give_key(&team, key).await
    }

    /// Makes `name` a template that every team may use, made of this build. Doing it again changes nothing.
    pub async fn ensure_template(&self, name: &str, build: NewBuild) -> Result<BuildRow, SeedError> {
        let owner = self.default_team().await?;
        Ok(self.store().ensure_public_template(&owner.id, name, build, self.now()).await?)
    }

    async fn default_team(&self) -> Result<Team, StoreError> {
        self.store().ensure_team(DEFAULT_TEAM, DEFAULT_TEAM, Limits::default(), self.now()).await
    }

    async fn give_key(&self, team: &Team, key: Option<ApiKey>) -> Result<ApiKey, SeedError> {
        let key = key.unwrap_or_else(ApiKey::random);
        let stored = self.store().ensure_key(&team.id, &key, "made by the daemon", self.now()).await;
        stored.map_err(|source| SeedError::Key { team: team.slug.clone(), source })?;
        Ok(key)
    }
}
