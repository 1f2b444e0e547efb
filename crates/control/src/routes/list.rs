//! Lists of sandboxes.

use std::collections::BTreeMap;

use atoll_store::{Order, SandboxQuery};
use atoll_types::{TemplateRef, TemplateRefError};
use atoll_wire::{
    body::{self, Body},
    e2b::{ListedSandbox, SandboxState},
};
use chrono::{DateTime, SubsecRound as _};
use http::{HeaderValue, Response, StatusCode};

use crate::{
    auth::Actor,
    control::Control,
    cursor,
    error::ApiError,
    request::{Call, Query, bad, unescape},
    routes::sandboxes::listed,
};

/// `GET /sandboxes`
pub(crate) async fn all(control: Control, actor: Actor, call: Call) -> Result<Response<Body>, ApiError> {
    let query = SandboxQuery { metadata: metadata(&call.query)?, ..Default::default() };
    let page = actor.tenant().list_running(query, control.now()).await?;
    Ok(body::json(StatusCode::OK, &page.sandboxes.into_iter().map(listed).collect::<Vec<_>>()))
}

/// `GET /v2/sandboxes`
pub(crate) async fn page(control: Control, actor: Actor, call: Call) -> Result<Response<Body>, ApiError> {
    let query = &call.query;
    let running = states(query)?.contains(&SandboxState::Running);
    let order = match query.text("order") {
        None | Some("desc") => Order::Descending,
        Some("asc") => Order::Ascending,
        Some(other) => return Err(bad("order", format_args!("expected asc or desc, got `{other}`"))),
    };
    let after = match query.text("nextToken").filter(|token| !token.is_empty()) {
        None => None,
        Some(token) => Some(cursor::parse(token, order).ok_or_else(|| bad("nextToken", "Invalid next token"))?),
    };
    let started_after = match query.text("startedAfter") {
        None => None,
        Some(text) => Some(DateTime::parse_from_rfc3339(text).map_err(|e| bad("startedAfter", e))?.to_utc().trunc_subsecs(6)),
    };
    let mut asked = SandboxQuery {
        metadata: metadata(query)?,
        template: None,
        started_after,
        order,
        after,
        limit: Some(query.number("limit", 1..=100)?.unwrap_or(100)),
    };
    let mut known = true;
    if let Some(text) = query.text("template") {
        let reference: TemplateRef = text.parse().map_err(|e: TemplateRefError| bad("template", e))?;
        if text.contains(':') {
            return Err(bad("template", "a tag is not accepted here"));
        }
        asked.template = actor.tenant().template(&reference).await?;
        known = asked.template.is_some();
    }
    if !running || !known {
        return reply(&[], running.then_some(0), None);
    }
    let page = actor.tenant().list_running(asked, control.now()).await?;
    let next = page.next.map(|last| cursor::token(&last, order));
    reply(&page.sandboxes.into_iter().map(listed).collect::<Vec<_>>(), Some(page.total), next)
}

fn reply(sandboxes: &[ListedSandbox], total_running: Option<u64>, next: Option<String>) -> Result<Response<Body>, ApiError> {
    let mut response = body::json(StatusCode::OK, &sandboxes);
    let headers = response.headers_mut();
    if let Some(total) = total_running {
        headers.insert("x-total-running", HeaderValue::from(total));
    }
    if let Some(token) = next {
        headers.insert("x-next-token", token.parse().map_err(ApiError::bug)?);
    }
    Ok(response)
}

fn states(query: &Query) -> Result<Vec<SandboxState>, ApiError> {
    let Some(items) = query.list("state") else { return Ok(vec![SandboxState::Running, SandboxState::Paused]) };
    let state = |item: &str| match item {
        "running" => Ok(SandboxState::Running),
        "paused" => Ok(SandboxState::Paused),
        other => Err(bad("state", format_args!("expected running or paused, got `{other}`"))),
    };
    items.into_iter().map(state).collect()
}

/// The pairs that a sandbox must have. SDKs escape each name and value, then the whole, then the HTTP client escapes the parameter.
fn metadata(query: &Query) -> Result<BTreeMap<String, String>, ApiError> {
    let Some(text) = query.text("metadata") else { return Ok(BTreeMap::new()) };
    let pairs = || -> Option<_> {
        unescape(text)?
            .split('&')
            .map(|pair| {
                let (name, value) = pair.split_once('=').filter(|(_, value)| !value.contains('='))?;
                Some((unescape(name)?, unescape(value)?))
            })
            .collect()
    };
    pairs().ok_or_else(|| bad("metadata", "expected `name=value` pairs joined by `&`, percent-encoded"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata_of(wire: &str) -> Result<Vec<(String, String)>, ApiError> {
        let head = http::Request::get(format!("/v2/sandboxes?metadata={wire}")).body(()).unwrap().into_parts().0;
        let call = Call::new(&head, Vec::new(), body::empty())?;
        metadata(&call.query).map(|map| map.into_iter().collect())
    }

    #[test]
    fn metadata_is_unescaped_layer_by_layer() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(metadata_of("user%3Dabc").unwrap(), [pair("user", "abc")]);
        assert_eq!(metadata_of("k%3Da%252520b").unwrap(), [pair("k", "a b")]);
        assert_eq!(metadata_of("k%3Da%252526b%26l%3D%25253D").unwrap(), [pair("k", "a&b"), pair("l", "=")]);
        assert_eq!(metadata_of("k%3D").unwrap(), [pair("k", "")]);
        for bad in ["", "k", "k%3Da%3Db", "k%3Da%26", "k%3D%25zz"] {
            assert!(metadata_of(bad).is_err(), "{bad:?}");
        }
    }
}
