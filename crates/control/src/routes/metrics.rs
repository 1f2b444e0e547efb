//! What sandboxes use.

use std::{collections::BTreeSet, time::Duration};

use atoll_store::SampleRow;
use atoll_types::{SandboxId, Timestamp};
use atoll_wire::{
    body::{self, Body},
    e2b::{SandboxMetric, SandboxesMetrics},
};
use http::{Response, StatusCode};

use crate::{
    auth::Actor,
    control::Control,
    error::ApiError,
    request::{Call, bad},
};

const MAX_IDS: usize = 100;
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// `GET /sandboxes/{sandboxID}/metrics`. A sandbox that nobody knows has no samples.
pub(crate) async fn of_one(_: Control, actor: Actor, call: Call) -> Result<Response<Body>, ApiError> {
    let id = call.sandbox_id()?;
    let moment = |name: &str| -> Result<Option<Timestamp>, ApiError> {
        let Some(seconds) = call.query.number(name, 0..=i64::MAX)? else { return Ok(None) };
        let at = Timestamp::from_timestamp(seconds, 0);
        at.map(Some).ok_or_else(|| bad(name, "expected seconds since 1970, within the calendar"))
    };
    let (start, end) = (moment("start")?, moment("end")?);
    if let (Some(start), Some(end)) = (start, end)
        && start > end
    {
        return Err(bad("start", "expected no later than `end`"));
    }
    let samples = match actor.tenant().sample_range(&id).await? {
        None => Vec::new(),
        Some((first, last)) => {
            let (start, end) = (start.unwrap_or(first), end.unwrap_or(last));
            let range = (end - start).to_std().unwrap_or_default();
            actor.tenant().samples(&id, start, end, step(range)).await?
        }
    };
    Ok(body::json(StatusCode::OK, &samples.into_iter().map(metric).collect::<Vec<_>>()))
}

/// `GET /sandboxes/metrics`
pub(crate) async fn of_many(_: Control, actor: Actor, call: Call) -> Result<Response<Body>, ApiError> {
    const PARAMETER: &str = "sandbox_ids";
    let items = call.query.list(PARAMETER).ok_or_else(|| bad(PARAMETER, "required"))?;
    if items.len() > MAX_IDS {
        return Err(bad(PARAMETER, format_args!("expected at most {MAX_IDS} ids, got {}", items.len())));
    }
    let ids = items.iter().map(|item| SandboxId::from_client(item)).collect::<Result<Vec<_>, _>>().map_err(|e| bad(PARAMETER, e))?;
    if ids.iter().collect::<BTreeSet<_>>().len() < ids.len() {
        return Err(bad(PARAMETER, "an id is given twice"));
    }
    let last = actor.tenant().last_samples(ids).await?;
    let sandboxes = last.into_iter().map(|(id, sample)| (id.to_string(), metric(sample))).collect();
    Ok(body::json(StatusCode::OK, &SandboxesMetrics { sandboxes }))
}

/// How much time one entry of a reply stands for.
fn step(range: Duration) -> Duration {
    let steps = [(HOUR, 5), (6 * HOUR, 30), (12 * HOUR, 60), (24 * HOUR, 120), (7 * 24 * HOUR, 300)];
    let seconds = steps.iter().find(|(below, _)| range < *below).map_or(900, |(_, seconds)| *seconds);
    SECOND * seconds
}

fn metric(row: SampleRow) -> SandboxMetric {
    let SampleRow { at, cpu_count, cpu_used_pct, mem_used, mem_total, mem_cache, disk_used, disk_total } = row;
    SandboxMetric {
        timestamp: at,
        timestamp_unix: at.timestamp(),
        cpu_count,
        cpu_used_pct: cpu_used_pct as f32,
        mem_used,
        mem_total,
        mem_cache,
        disk_used,
        disk_total,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_grow_with_the_range() {
        let seconds = |range| step(range).as_secs();
        assert_eq!((seconds(Duration::ZERO), seconds(HOUR - SECOND), seconds(HOUR)), (5, 5, 30));
        assert_eq!((seconds(24 * HOUR), seconds(7 * 24 * HOUR), seconds(Duration::MAX)), (300, 900, 900));
    }
}
