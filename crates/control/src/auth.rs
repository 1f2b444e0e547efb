//! Who is asking.
//!
//! Only API keys are served: the other schemes of E2B's API are unknown credentials here. An [`Actor`] exists only through
//! [`Actor::authenticate`], which the router calls; there is no default one.

use std::time::Duration;

use atoll_store::{Team, Tenant};
use atoll_types::ApiKey;
use http::HeaderMap;

use crate::{
    config::ControlConfig,
    control::Control,
    error::{ApiError, Kind},
};

/// The team for which a request speaks.
#[derive(Debug)]
pub(crate) struct Actor {
    team: Team,
    tenant: Tenant,
}

impl Actor {
    /// The team whose API key the request carries.
    pub(crate) async fn authenticate(control: &Control, headers: &HeaderMap) -> Result<Self, ApiError> {
        let denied = |why: &str| ApiError::new(Kind::Unauthenticated, why);
        let header = headers.get("x-api-key").ok_or_else(|| denied("the X-API-Key header is missing"))?;
        let text = header.to_str().ok().filter(|text| text.starts_with("e2b_"));
        let text = text.ok_or_else(|| denied("malformed X-API-Key header: an API key starts with `e2b_`"))?;
        let key: ApiKey = text.parse().map_err(|_| denied("invalid API key format"))?;
        let team = control.store().team_of_key(&key.hash()).await?;
        let team = team.ok_or_else(|| denied("cannot get the team for this API key: it is unknown or was deleted"))?;
        let tenant = control.store().team(team.id.clone());
        Ok(Self { team, tenant })
    }

    /// The team's rows.
    pub(crate) fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// How many live sandboxes it may have.
    pub(crate) fn max_sandboxes(&self, config: &ControlConfig) -> u32 {
        self.team.limits.sandboxes.unwrap_or(config.sandboxes_per_team)
    }

    /// How long its sandboxes may run.
    pub(crate) fn max_length(&self, config: &ControlConfig) -> Duration {
        self.team.limits.length.unwrap_or(config.max_length())
    }
}
