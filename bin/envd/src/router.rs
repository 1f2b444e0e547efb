//! What every request passes, outermost first: cross-origin rules, the access token, the Basic user, the routes.

use std::sync::Arc;

use atoll_wire::{
    body::{self, Body},
    connect::{Call, RpcError},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};

use crate::{
    cors, files, filesystem, init, keepalive, log, metrics, process, reply,
    state::{Context, State, unknown_user},
    users::{self, User},
};

/// Requests that pass without the token, or that look at it themselves.
const OPEN: [(Method, &str); 4] = [(Method::GET, "/health"), (Method::GET, "/files"), (Method::POST, "/files"), (Method::POST, "/init")];

/// Answers a request.
pub async fn answer(state: Arc<State>, request: Request<Body>) -> Response<Body> {
    let (head, body) = request.into_parts();
    if let Some(response) = cors::preflight(&head) {
        return response;
    }
    let from_page = head.headers.contains_key(header::ORIGIN);
    let (method, path) = (head.method.clone(), head.uri.path().to_owned());
    let mut response = admit(state, head, body).await;
    cors::expose(response.headers_mut(), from_page);
    log::debug("envd", "request", &[("method", &method), ("path", &path), ("status", &response.status().as_u16())]);
    response
}

async fn admit(state: Arc<State>, head: Parts, body: Body) -> Response<Body> {
    let open = OPEN.iter().any(|(method, path)| head.method == *method && head.uri.path() == *path);
    let known = |token: crate::state::Token| head.headers.get("x-access-token").is_some_and(|sent| token.matches(sent.as_bytes()));
    if !open && !state.token().is_none_or(known) {
        return reply::error(
            StatusCode::UNAUTHORIZED,
            "unauthorized access, please provide a valid access token or method signing if supported",
        );
    }
    match basic(&head.headers) {
        Ok(basic) => route(Context { state, basic }, head, body).await,
        Err(error) => match Call::parse(&head) {
            Ok(call) => call.error(error),
            Err(_) => body::json(StatusCode::UNAUTHORIZED, &serde_json::json!({"code": error.code.as_str(), "message": error.message})),
        },
    }
}

/// The user that Basic credentials name. Other schemes and what cannot be decoded count as absent.
fn basic(headers: &HeaderMap) -> Result<Option<User>, RpcError> {
    let Some(name) = headers.get(header::AUTHORIZATION).and_then(basic_name) else { return Ok(None) };
    users::find(&name).map(Some).ok_or_else(|| unknown_user(&name))
}

fn basic_name(value: &HeaderValue) -> Option<String> {
    let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
    let decoded = STANDARD.decode(encoded).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let colon = decoded.iter().position(|b| *b == b':')?;
    Some(String::from_utf8_lossy(&decoded[..colon]).into_owned())
}

async fn route(context: Context, head: Parts, body: Body) -> Response<Body> {
    let path = head.uri.path();
    if let Some((service @ ("process.Process" | "filesystem.Filesystem"), method)) =
        path.strip_prefix('/').and_then(|path| path.split_once('/'))
    {
        let call = match Call::parse(&head) {
            Ok(call) => call,
            Err(response) => return response,
        };
        let keepalive = keepalive::interval(&head.headers);
        let answer = match service {
            "process.Process" => process::handle(context, call, keepalive, method, body).await,
            _ => filesystem::handle(context, call, keepalive, method, body).await,
        };
        return answer.unwrap_or_else(not_found);
    }
    let allowed: &[Method] = match path {
        "/health" | "/metrics" | "/envs" => &[Method::GET],
        "/files" => &[Method::GET, Method::POST],
        "/init" | "/files/compose" | "/freeze" | "/unfreeze" | "/collapse" | "/fsfreeze" | "/fsthaw" | "/upgrade" => &[Method::POST],
        _ => return not_found(),
    };
    if !allowed.contains(&head.method) {
        let mut response = body::status(StatusCode::METHOD_NOT_ALLOWED);
        for method in allowed {
            response.headers_mut().append(header::ALLOW, HeaderValue::from_static(if *method == Method::GET { "GET" } else { "POST" }));
        }
        return response;
    }
    match path {
        "/health" => reply::no_store(body::status(StatusCode::NO_CONTENT)),
        "/metrics" => reply::no_store(metrics::answer(&context.state)),
        "/envs" => reply::no_store(body::json(StatusCode::OK, &context.state.global_env())),
        "/init" => init::handle(context, body).await,
        "/files" | "/files/compose" => files::handle(context, Request::from_parts(head, body)).await,
        _ => reply::error(StatusCode::NOT_IMPLEMENTED, format!("{path} is not supported by this runtime")),
    }
}

fn not_found() -> Response<Body> {
    reply::text(StatusCode::NOT_FOUND, "404 page not found")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_credentials_are_a_name_before_a_colon() {
        let name = |value: &str| basic_name(&HeaderValue::from_str(value).unwrap());
        assert_eq!(name(&format!("Basic {}", STANDARD.encode("user:"))).as_deref(), Some("user"));
        assert_eq!(name(&format!("basic {}", STANDARD.encode("user:pass:word"))).as_deref(), Some("user"));
        assert_eq!(name(&format!("Basic {}", STANDARD.encode(":x"))).as_deref(), Some(""));
        for absent in ["", "Basic", "Basic ", "Basic %%%", "Bearer dXNlcjo=", &format!("Basic {}", STANDARD.encode("no colon"))] {
            assert_eq!(name(absent), None, "{absent:?}");
        }
    }
}
