//! `POST /init`: whoever runs the sandbox tells the daemon whose it is, and what its processes shall find.

use std::{
    net::IpAddr,
    sync::{Arc, PoisonError},
};

use atoll_wire::{
    body::{self, Body, CollectError},
    envd::{ENVD_VERSION, InitRequest},
};
use chrono::{DateTime, TimeDelta, Utc};
use http::{HeaderName, HeaderValue, Response, StatusCode};

use crate::{
    boot, certificates, hosts, log, reply,
    state::{Context, State, Token},
};

/// The longest body that is read.
const BODY_LIMIT: usize = 16 << 20;

/// Why a call was refused.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("access token validation failed: the token does not match")]
    WrongToken,
    #[error("access token validation failed: resetting the token is not authorized")]
    Reset,
    #[error("volume mounts are not supported by this runtime yet")]
    Volumes,
    #[error("cannot install the CA bundle: {0}")]
    Certificates(std::io::Error),
}

/// Answers a call.
pub async fn handle(context: Context, body: Body) -> Response<Body> {
    let mut response = answer(context.state, body).await;
    response.headers_mut().insert(HeaderName::from_static("x-envd-version"), HeaderValue::from_static(ENVD_VERSION));
    response
}

async fn answer(state: Arc<State>, body: Body) -> Response<Body> {
    let bytes = match body::collect(body, BODY_LIMIT).await {
        Ok(bytes) => bytes,
        Err(CollectError::TooLarge { .. }) => return body::status(StatusCode::PAYLOAD_TOO_LARGE),
        Err(CollectError::Broken(_)) => return body::status(StatusCode::BAD_REQUEST),
    };
    let Some((request, timestamp)) = parse(&bytes) else { return body::status(StatusCode::BAD_REQUEST) };
    // Where it may block: the files it writes belong to the sandbox, and may be anything there.
    let applied = tokio::task::spawn_blocking(move || {
        let _one_at_a_time = state.init.lock().unwrap_or_else(PoisonError::into_inner);
        apply(&state, request, timestamp)
    });
    match applied.await {
        Err(_) => body::status(StatusCode::INTERNAL_SERVER_ERROR),
        Ok(Ok(())) => reply::no_store(body::status(StatusCode::NO_CONTENT)),
        Ok(Err(refusal)) => {
            log::warn("envd", "init refused", &[("error", &refusal)]);
            let status = match refusal {
                Refusal::WrongToken | Refusal::Reset => StatusCode::UNAUTHORIZED,
                Refusal::Volumes | Refusal::Certificates(_) => StatusCode::BAD_REQUEST,
            };
            reply::text(status, refusal)
        }
    }
}

/// Reads the body of a call and when it was sent; `None` for whatever is no valid request.
pub fn parse(bytes: &[u8]) -> Option<(InitRequest, Option<DateTime<Utc>>)> {
    if bytes.is_empty() {
        return Some((InitRequest::default(), None));
    }
    // An array would pass for an object whose fields it lists.
    let request: InitRequest = serde_json::from_slice(bytes).ok().filter(|_| bytes.trim_ascii_start().starts_with(b"{"))?;
    if request.access_token.as_deref().is_some_and(|token| token.is_empty() || token.contains('\\')) {
        return None;
    }
    let timestamp = match &request.timestamp {
        Some(text) => Some(DateTime::parse_from_rfc3339(text).ok()?.to_utc()),
        None => None,
    };
    Some((request, timestamp))
}

/// What a call does to the access token. There is no metadata service that could authorise more: a token, once set, can be sent again
/// and nothing else.
fn admit(stored: Option<&Token>, sent: Option<&str>) -> Result<(), Refusal> {
    match (stored, sent) {
        (None, _) => Ok(()),
        (Some(token), Some(sent)) if token.matches(sent.as_bytes()) => Ok(()),
        (Some(_), Some(_)) => Err(Refusal::WrongToken),
        (Some(_), None) => Err(Refusal::Reset),
    }
}

fn apply(state: &State, request: InitRequest, timestamp: Option<DateTime<Utc>>) -> Result<(), Refusal> {
    let InitRequest {
        timestamp: _,
        env_vars,
        access_token,
        hyperloop_ip,
        default_user,
        default_workdir,
        lifecycle_id: _,
        volume_mounts,
        ca_bundle,
    } = request;
    admit(state.token().as_ref(), access_token.as_deref())?;
    if volume_mounts.is_some_and(|mounts| !mounts.is_empty()) {
        return Err(Refusal::Volumes);
    }
    if let Some(timestamp) = timestamp {
        let mut settings = state.settings();
        if settings.applied.is_some_and(|applied| timestamp < applied) {
            return Ok(());
        }
        settings.applied = Some(timestamp);
        drop(settings);
        if state.in_vm {
            sync_clock(timestamp);
        }
    }
    if let Some(env) = env_vars {
        state.settings().user_env = env;
        boot::write_run_files(&state.run_dir, &state.global_env());
    }
    let mut settings = state.settings();
    settings.token = access_token.as_deref().map(Token::new);
    if let Some(user) = default_user.filter(|user| !user.is_empty()) {
        settings.default_user = user;
    }
    if let Some(workdir) = default_workdir.filter(|workdir| !workdir.is_empty()) {
        settings.default_workdir = Some(workdir);
    }
    drop(settings);
    if let Some(address) = hyperloop_ip {
        set_events_address(state, &address);
    }
    ca_bundle.map_or(Ok(()), |pem| install(state, pem).map_err(Refusal::Certificates))
}

/// Follows the caller's clock where ours is off by more than the call may have taken.
fn sync_clock(timestamp: DateTime<Utc>) {
    let behind = timestamp - Utc::now();
    if behind <= TimeDelta::milliseconds(50) && behind >= TimeDelta::seconds(-5) {
        return;
    }
    let Ok(since_epoch) = (timestamp - DateTime::UNIX_EPOCH).to_std() else { return };
    if let Err(error) = atoll_sys::machine::set_clock(since_epoch) {
        log::warn("envd", "cannot set the clock", &[("behind_ms", &behind.num_milliseconds()), ("error", &error)]);
    }
}

fn set_events_address(state: &State, address: &str) {
    let set = address.parse::<IpAddr>().map_err(std::io::Error::other).and_then(|ip| hosts::set_events_address(ip).map(|()| ip));
    match set {
        Ok(ip) => drop(state.settings().internal_env.insert("E2B_EVENTS_ADDRESS".into(), format!("http://{ip}"))),
        Err(error) => log::warn("envd", "cannot set the address of the event service", &[("error", &error)]),
    }
}

fn install(state: &State, pem: String) -> std::io::Result<()> {
    let previous = state.settings().certificates.clone();
    if previous.as_ref() == Some(&pem) {
        return Ok(());
    }
    let store = certificates::Store::system();
    store.add(&pem)?;
    if let Err(error) = store.settle(&pem, previous.as_deref()) {
        log::warn("envd", "cannot settle the CA bundle", &[("error", &error)]);
    }
    state.settings().certificates = Some(pem);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_can_be_set_and_repeated_but_not_replaced_or_cleared() {
        let token = Token::new("T");
        assert!(admit(None, None).is_ok() && admit(None, Some("T")).is_ok());
        assert!(admit(Some(&token), Some("T")).is_ok());
        assert!(matches!(admit(Some(&token), Some("R")), Err(Refusal::WrongToken)));
        assert!(matches!(admit(Some(&token), None), Err(Refusal::Reset)));
    }

    #[test]
    fn only_valid_requests_are_parsed() {
        assert!(parse(b"").is_some() && parse(b"{}").is_some() && parse(br#"{"accessToken":null,"unknown":1}"#).is_some());
        for bad in
            ["{", "[]", "null", r#"{"accessToken":""}"#, r#"{"accessToken":"a\\b"}"#, r#"{"timestamp":"today"}"#, r#"{"envVars":[]}"#]
        {
            assert!(parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
