//! One sandbox: create, get, kill, and its end.

use std::time::Duration;

use atoll_store::{SandboxRow, StoreError};
use atoll_types::{EndReason, SandboxId, Timestamp, fault};
use atoll_wire::{
    body::{self, Body},
    e2b::{
        CLIENT_ID, Connect, ConnectV2, Lifecycle, ListedSandbox, NewSandbox, OnTimeout, Refresh, Sandbox, SandboxDetail, SandboxState,
        Timeout,
    },
};
use http::{Response, StatusCode};
use tracing::warn;

use crate::{
    auth::Actor,
    control::{Control, no_content},
    create::{Options, Plan},
    error::{ApiError, Kind, chain},
    request::{Call, parse},
    ttl,
};

/// `POST /sandboxes`
pub(crate) async fn create(control: Control, actor: Actor, call: Call) -> Result<Response<Body>, ApiError> {
    let request = call.json().await?;
    carry_out(Plan::check(request, ttl::DEFAULT, &actor, &control)?, control, actor).await
}

/// `POST /v2/sandboxes`: always secure, with a longer default timeout, and carried out once if it has a name.
pub(crate) async fn create_v2(control: Control, actor: Actor, call: Call) -> Result<Response<Body>, ApiError> {
    let key = call.idempotency_key()?;
    let bytes = call.media_typed_body().await?;
    let request = NewSandbox { secure: Some(true), ..parse(&bytes)? };
    let mut plan = Plan::check(request, ttl::DEFAULT_V2, &actor, &control)?;
    if let Some(key) = key {
        plan = plan.once(key, &parse(&bytes)?, control.now());
    }
    carry_out(plan, control, actor).await
}

async fn carry_out(plan: Plan, control: Control, actor: Actor) -> Result<Response<Body>, ApiError> {
    let tenant = actor.tenant().clone();
    let build = plan.build(&tenant).await?;
    let task = control.tasks().spawn(plan.carry_out(control.clone(), tenant, build));
    let sandbox = task.await.map_err(ApiError::bug)??;
    fault::point("create.answered");
    Ok(body::json(StatusCode::CREATED, &sandbox))
}

/// `GET /sandboxes/{sandboxID}`
pub(crate) async fn get(control: Control, actor: Actor, call: Call) -> Result<Response<Body>, ApiError> {
    let id = call.sandbox_id()?;
    let row = actor.tenant().running(&id, control.now()).await?.ok_or_else(|| missing(&id))?;
    Ok(body::json(StatusCode::OK, &detail(row)?))
}

/// `DELETE /sandboxes/{sandboxID}`
pub(crate) async fn kill(control: Control, actor: Actor, call: Call) -> Result<Response<Body>, ApiError> {
    let id = call.sandbox_id()?;
    let generation = match actor.tenant().stop(&id).await {
        Err(error) if error.is_temporary() => return kill_unrecorded(&control, &actor, &id, error).await,
        stopped => stopped?.ok_or_else(|| missing(&id))?,
    };
    fault::point("kill.recorded");
    let removed = control.reconcilers().remove(&id, generation).await;
    removed.map_err(|error| {
        let what = format!("sandbox {id} will end, but its node has not confirmed it yet; it is asked again until it does");
        ApiError::new(Kind::Unavailable, what).with_source(error)
    })?;
    fault::point("kill.answered");
    Ok(no_content())
}

/// A full disk must not protect the sandbox that fills it: it ends, and is recorded as ended when the database takes it.
async fn kill_unrecorded(control: &Control, actor: &Actor, id: &SandboxId, error: StoreError) -> Result<Response<Body>, ApiError> {
    let row = actor.tenant().sandbox(id).await?.filter(|row| row.ending.is_none()).ok_or_else(|| missing(id))?;
    warn!(sandbox.id = %id, error = chain(&error), "ending sandbox `{id}`, which cannot be recorded at the moment");
    control.node().remove(id, row.generation, EndReason::Killed).await.map_err(|_| error)?;
    Ok(no_content())
}

/// `POST /sandboxes/{sandboxID}/connect`
pub(crate) async fn connect(control: Control, actor: Actor, call: Call) -> Result<Response<Body>, ApiError> {
    let id = call.sandbox_id()?;
    let Connect { timeout, memory: _ } = call.json().await?;
    reach(&control, &actor, &id, timeout).await
}

/// `POST /v2/sandboxes/{sandboxID}/connect`: without a body, for the usual time.
pub(crate) async fn connect_v2(control: Control, actor: Actor, call: Call) -> Result<Response<Body>, ApiError> {
    let id = call.sandbox_id()?;
    let ConnectV2 { timeout, memory: _ } = call.optional_json().await?.unwrap_or_default();
    let usual = || i32::try_from(ttl::DEFAULT_V2.min(actor.max_length(control.config())).as_secs()).unwrap_or(i32::MAX);
    reach(&control, &actor, &id, timeout.unwrap_or_else(usual)).await
}

async fn reach(control: &Control, actor: &Actor, id: &SandboxId, timeout: i32) -> Result<Response<Body>, ApiError> {
    let length = ttl::of_connect(timeout, actor.max_length(control.config())).map_err(ApiError::invalid)?;
    let row = extend(control, actor, id, length).await?;
    Ok(body::json(StatusCode::OK, &handed_out(row)))
}

/// `POST /sandboxes/{sandboxID}/timeout`
pub(crate) async fn set_timeout(control: Control, actor: Actor, call: Call) -> Result<Response<Body>, ApiError> {
    let id = call.sandbox_id()?;
    let Timeout { timeout } = call.json().await?;
    let length = ttl::of_timeout(timeout).map_err(ApiError::invalid)?;
    let (now, max) = (control.now(), actor.max_length(control.config()));
    change_deadline(&control, &actor, &id, now, move |row| ttl::set(now, row.started_at, length, max)).await?;
    Ok(no_content())
}

/// `POST /sandboxes/{sandboxID}/refreshes`
pub(crate) async fn refresh(control: Control, actor: Actor, call: Call) -> Result<Response<Body>, ApiError> {
    let id = call.sandbox_id()?;
    let Refresh { duration } = call.json().await?;
    let length = ttl::of_refresh(duration).map_err(ApiError::invalid)?;
    extend(&control, &actor, &id, length).await?;
    Ok(no_content())
}

async fn extend(control: &Control, actor: &Actor, id: &SandboxId, length: Duration) -> Result<SandboxRow, ApiError> {
    let (now, max) = (control.now(), actor.max_length(control.config()));
    change_deadline(control, actor, id, now, move |row| Ok(ttl::extend(now, row.started_at, row.deadline, length, max))).await
}

/// Moves the end of a running sandbox in the store, then on its node.
async fn change_deadline(
    control: &Control,
    actor: &Actor,
    id: &SandboxId,
    now: Timestamp,
    choose: impl FnOnce(&SandboxRow) -> Result<Timestamp, ttl::TtlError> + Send + 'static,
) -> Result<SandboxRow, ApiError> {
    let changed = actor.tenant().change_deadline(id, now, choose).await?;
    let row = changed.ok_or_else(|| missing(id))?.map_err(|e| ApiError::new(Kind::Invalid, e.to_string()))?;
    match control.reconcilers().push_deadline(id).await {
        Ok(true) => Ok(row),
        Ok(false) => Err(missing(id)),
        Err(error) => {
            let what =
                format!("the new end of sandbox {id} is recorded, but its node has not confirmed it yet; it is told again until it does");
            Err(ApiError::new(Kind::Unavailable, what).with_source(error))
        }
    }
}

/// A row as its owner gets it.
pub(crate) fn handed_out(row: SandboxRow) -> Sandbox {
    Sandbox {
        template_id: row.template.to_string(),
        sandbox_id: row.id.to_string(),
        client_id: CLIENT_ID.into(),
        envd_version: row.envd_version,
        alias: Some(row.alias),
        envd_access_token: row.access_token,
        traffic_access_token: None,
        domain: None,
    }
}

/// What is not there, and what is another team's.
fn missing(id: &SandboxId) -> ApiError {
    ApiError::new(Kind::Missing, format!("sandbox {id} was not found"))
}

/// A row as lists show it.
pub(crate) fn listed(row: SandboxRow) -> ListedSandbox {
    ListedSandbox {
        template_id: row.template.to_string(),
        alias: Some(row.alias),
        sandbox_id: row.id.to_string(),
        client_id: CLIENT_ID.into(),
        started_at: row.started_at,
        end_at: row.deadline,
        cpu_count: row.resources.cpu_count,
        memory_mb: row.resources.memory_mib,
        disk_size_mb: row.resources.disk_mib,
        state: SandboxState::Running,
        envd_version: row.envd_version,
        metadata: row.metadata,
        volume_mounts: Some(Vec::new()),
    }
}

fn detail(mut row: SandboxRow) -> Result<SandboxDetail, ApiError> {
    let Options { network, auto_resume, auto_pause, .. } =
        serde_json::from_value(std::mem::take(&mut row.options)).map_err(ApiError::bug)?;
    Ok(SandboxDetail {
        envd_access_token: row.access_token.take(),
        allow_internet_access: row.allow_internet_access,
        domain: None,
        network,
        lifecycle: Some(Lifecycle { auto_resume, on_timeout: if auto_pause { OnTimeout::Pause } else { OnTimeout::Kill } }),
        listed: listed(row),
    })
}
