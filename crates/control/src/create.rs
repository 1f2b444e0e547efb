//! Making a sandbox: check → template → row → node → row.
//!
//! Once the row is there, the rest runs in a task of its own: a client that goes away leaves a running sandbox or the record of a failure,
//! never something in between.

use std::{collections::BTreeMap, time::Duration};

use atoll_store::{BuildRow, Idempotency, InsertError, Level, LogRow, NewSandbox as NewRow, SandboxState, Started, Tenant};
use atoll_types::{
    Egress, EndReason, Ending, Resources, SandboxId, Secret, Stopwatch, TemplateRef, TemplateRefError, Timestamp, after, fault,
};
use atoll_wire::{
    connect::{Code, RpcError},
    e2b::{AutoResume, NetworkConfig, NewSandbox, Sandbox},
    node as wire,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tracing::{debug, warn};

use crate::{
    auth::Actor,
    control::Control,
    error::{ApiError, Kind, chain},
    network,
    routes::sandboxes::handed_out,
    ttl,
};

/// Each sandbox has one run until it can be paused.
const GENERATION: u64 = 1;
/// How long an idempotency key means the same request.
const KEY_LIFE: chrono::TimeDelta = chrono::TimeDelta::hours(24);

/// What is kept of a request beyond its columns: names, never values, of what may be secret.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Options {
    pub(crate) network: Option<NetworkConfig>,
    pub(crate) auto_resume: bool,
    /// What the client asked to happen at the deadline. This version ends the sandbox all the same, and its log says so.
    pub(crate) auto_pause: bool,
    auto_pause_memory: bool,
    env_names: Vec<String>,
    mcp: Vec<String>,
}

/// A request that was found to be possible.
pub(crate) struct Plan {
    reference: TemplateRef,
    length: Duration,
    secure: bool,
    internet: Option<bool>,
    egress: Egress,
    metadata: Option<BTreeMap<String, String>>,
    envs: BTreeMap<String, Secret>,
    options: Options,
    limit: u32,
    idempotency: Option<Idempotency>,
}

impl Plan {
    /// Checks everything that can be checked without asking anybody.
    pub(crate) fn check(request: NewSandbox, default: Duration, actor: &Actor, control: &Control) -> Result<Self, ApiError> {
        let NewSandbox {
            template_id,
            timeout,
            auto_pause,
            auto_pause_memory,
            auto_resume,
            secure,
            allow_internet_access,
            network,
            metadata,
            env_vars,
            mcp,
            iam,
            volume_mounts,
        } = request;
        let reference = template_id.parse().map_err(|e: TemplateRefError| ApiError::invalid(format_args!("templateID: {e}")))?;
        let length = ttl::of_new(timeout, default, actor.max_length(control.config())).map_err(ApiError::invalid)?;
        let (pause, resume) = (auto_pause == Some(true), matches!(auto_resume, Some(AutoResume { enabled: true })));
        // Generated clients send `true`, the default, whatever they want.
        if auto_pause_memory == Some(false) && !pause {
            return Err(ApiError::invalid("autoPauseMemory: false requires `autoPause: true`"));
        }
        if auto_pause_memory == Some(false) && resume {
            return Err(ApiError::invalid("autoPauseMemory: false cannot be combined with `autoResume.enabled`"));
        }
        let secure = secure == Some(true);
        let (egress, network) = network::check(network, allow_internet_access, secure)?;
        if iam.and_then(|iam| iam.tokens).is_some_and(|tokens| !tokens.is_empty()) {
            return Err(ApiError::invalid("iam: sandbox identities are not available on this host"));
        }
        if volume_mounts.is_some_and(|mounts| !mounts.is_empty()) {
            return Err(ApiError::invalid("volumeMounts: volumes are not available on this host"));
        }
        let envs = env_vars.unwrap_or_default();
        if let Some(name) = envs.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
            return Err(ApiError::invalid(format_args!("envVars: {name:?} cannot be the name of a variable")));
        }
        if let Some((name, _)) = envs.iter().find(|(_, value)| value.expose().contains('\0')) {
            return Err(ApiError::invalid(format_args!("envVars: the value of {name:?} contains a NUL")));
        }
        let options = Options {
            network,
            auto_resume: resume,
            auto_pause: pause,
            auto_pause_memory: auto_pause_memory.unwrap_or(true),
            env_names: envs.keys().cloned().collect(),
            mcp: mcp.unwrap_or_default().into_keys().collect(),
        };
        let limit = actor.max_sandboxes(control.config());
        Ok(Self { reference, length, secure, internet: allow_internet_access, egress, metadata, envs, options, limit, idempotency: None })
    }

    /// Names the request, which asks this, so that it is carried out once.
    pub(crate) fn once(self, key: String, asked: &serde_json::Value, now: Timestamp) -> Self {
        let digest = format!("{:x}", Sha256::digest(asked.to_string()));
        Self { idempotency: Some(Idempotency { key, digest, since: now - KEY_LIFE }), ..self }
    }

    /// The build that the request means.
    pub(crate) async fn build(&self, tenant: &Tenant) -> Result<BuildRow, ApiError> {
        let TemplateRef { namespace, name, tag } = &self.reference;
        let missing = || {
            let namespace = namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
            let tag = tag.as_deref().unwrap_or("default");
            ApiError::new(Kind::Missing, format!("template '{namespace}{name}' with a ready build tagged '{tag}' was not found"))
        };
        tenant.build(&self.reference).await?.ok_or_else(missing)
    }

    /// Makes the sandbox.
    pub(crate) async fn carry_out(self, control: Control, tenant: Tenant, build: BuildRow) -> Result<Sandbox, ApiError> {
        let Self { reference: _, length, secure, internet, egress, metadata, envs, options, limit, idempotency } = self;
        let id = SandboxId::random();
        let created_at = control.now();
        let token = secure.then(Secret::random_token);
        let will_not_pause = options.auto_pause;
        let row = NewRow {
            id: id.clone(),
            template: build.template.clone(),
            build: build.id,
            alias: build.alias,
            generation: GENERATION,
            resources: build.resources,
            created_at,
            deadline: after(created_at, length),
            metadata,
            access_token: token.clone(),
            allow_internet_access: internet,
            options: serde_json::to_value(options).map_err(ApiError::bug)?,
            idempotency,
        };
        let mut watch = Stopwatch::start();
        match tenant.insert_sandbox(row, limit).await {
            Ok(()) => {}
            Err(InsertError::Repeated { row, same: true }) if row.state != SandboxState::Starting => return Ok(handed_out(*row)),
            Err(refused) => return Err(refused.into()),
        }
        let admit_us = watch.lap();
        fault::point("create.recorded");

        let start_timeout = control.config().start_timeout();
        let spec = wire::SandboxSpec {
            sandbox_id: id.to_string(),
            generation: GENERATION,
            template_id: build.template.to_string(),
            layers: build.layers,
            resources: Some(resources(build.resources)),
            deadline: Some(after(created_at, start_timeout).into()),
            envs: envs.into_iter().map(|(name, value)| (name, value.expose().to_owned())).collect(),
            access_token: token.as_ref().map(|token| token.expose().to_owned()),
            default_user: build.default_user,
            default_workdir: build.default_workdir,
            egress: Some(wire::Egress { internet: egress.internet }),
            length_ms: u64::try_from(length.as_millis()).unwrap_or(u64::MAX),
        };
        let up = match control.node().ensure(spec, start_timeout).await {
            Ok(up) => up,
            Err(error) => return Err(failed(&control, &id, error).await),
        };
        let ensure_us = watch.lap();
        fault::point("create.up");
        let started = Started {
            node: control.reconcilers().connected().unwrap_or_default(),
            envd_version: up.envd_version,
            at: up.at,
            deadline: up.deadline,
        };
        let came_up = match control.store().fleet().started(&id, GENERATION, started).await {
            Ok(row) => row,
            Err(error) => {
                // Its owner will never hear of it. What the node then tells ends the row, as soon as the database takes it.
                if let Err(error) = control.node().remove(&id, GENERATION, EndReason::StartFailed).await {
                    warn!(sandbox.id = %id, error = chain(&error), "could not remove sandbox `{id}`, which could not be recorded as running");
                }
                return Err(error.into());
            }
        };
        debug!(target: "atoll_steps", admit_us, ensure_us, started_us = watch.lap(), "control");
        fault::point("create.updated");
        if will_not_pause {
            let message = "autoPause was asked for, but this version of Atoll cannot pause: the sandbox ends at its deadline".to_owned();
            let line = LogRow { at: control.now(), level: Level::Warn, message, fields: BTreeMap::new() };
            control.store().fleet().record_logs(vec![(id.clone(), line)]).await?;
        }
        if let Some(row) = came_up {
            return Ok(handed_out(row));
        }
        let ending = tenant.sandbox(&id).await?.and_then(|row| row.ending);
        let why = ending.map(|ending| format!("it ended at once ({}) {}", ending.reason, ending.detail)).unwrap_or_default();
        Err(not_placed(Kind::Bug, "sandbox_create_failed", why.trim_end()))
    }
}

impl From<InsertError> for ApiError {
    fn from(error: InsertError) -> Self {
        match error {
            InsertError::Full { limit } => {
                let what = format!(
                    "you have reached the maximum number of concurrent sandboxes ({limit}); end some, or have the team's limit raised"
                );
                ApiError::new(Kind::Limited, what)
            }
            InsertError::Repeated { same: false, .. } => {
                let what = "the Idempotency-Key was used for another request; use a new one for a new request";
                ApiError::new(Kind::Contradiction, what).with_code("idempotency_request_mismatch")
            }
            InsertError::Repeated { .. } => {
                let what = "the first request with this Idempotency-Key is still being carried out; try again in a moment";
                ApiError::new(Kind::Conflict, what).with_code("idempotency_in_progress")
            }
            InsertError::Store(error) => error.into(),
        }
    }
}

fn resources(resources: Resources) -> wire::Resources {
    let Resources { cpu_count, memory_mib, disk_mib, pids: _ } = resources;
    wire::Resources { cpu_count, memory_mib, disk_mib }
}

/// Records that the sandbox did not come up. If it does nevertheless, the reconciler removes it: its row has ended.
async fn failed(control: &Control, id: &SandboxId, error: RpcError) -> ApiError {
    let ending = Ending { reason: EndReason::StartFailed, exit_code: None, at: control.now(), detail: error.message.clone() };
    if let Err(error) = control.store().fleet().ended(id, GENERATION, ending).await {
        warn!(sandbox.id = %id, error = chain(&error), "could not record that sandbox `{id}` did not start");
    }
    let (kind, error_code, advice) = match error.code {
        Code::ResourceExhausted => (Kind::Unavailable, "sandbox_capacity_unavailable", "try again when sandboxes have ended"),
        Code::Unavailable => (Kind::Unavailable, "sandbox_capacity_unavailable", "the node does not answer; try again in a moment"),
        Code::DeadlineExceeded => (Kind::Late, "sandbox_placement_timeout", "it took too long to start; try again"),
        Code::FailedPrecondition | Code::InvalidArgument | Code::Unimplemented => {
            (Kind::Bug, "sandbox_create_refused", "the same request will fail again")
        }
        _ => (Kind::Bug, "sandbox_create_failed", "it may help to try again"),
    };
    not_placed(kind, error_code, &format!("{} ({advice})", error.message)).with_source(error)
}

fn not_placed(kind: Kind, error_code: &'static str, why: &str) -> ApiError {
    ApiError::new(kind, format!("Failed to place sandbox: {why}")).with_code(error_code)
}
