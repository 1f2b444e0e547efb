//! The smallest `envd`. Facts: reference/envd.md §2, §8, §9.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use atoll_types::Resources;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};

/// More than any honest caller of `/init` sends.
const BODY_LIMIT: usize = 1 << 20;

/// What a guest knows.
#[derive(Debug)]
pub(super) struct Guest {
    resources: Resources,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    token: Option<String>,
    inits: Vec<Value>,
}

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Told").field("inits", &self.inits.len()).finish_non_exhaustive()
    }
}

impl Guest {
    pub(super) fn new(resources: Resources) -> Self {
        Self { resources, told: Mutex::default() }
    }

    pub(super) fn inits(&self) -> Vec<Value> {
        self.told().inits.clone()
    }

    /// Answers until dropped, and then no more on any connection.
    pub(super) async fn serve(self: Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let guest = self.clone();
                        let service = service_fn(move |request| {
                            let guest = guest.clone();
                            async move { Ok::<_, Infallible>(guest.answer(request).await) }
                        });
                        connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
                    }
                    Err(error) => tracing::warn!(%error, "a simulated guest cannot accept"),
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        match (&method, path.as_str()) {
            (&Method::GET, "/health") => return plain(StatusCode::NO_CONTENT, ""),
            (&Method::POST, "/init") => return self.init(request).await,
            _ => {}
        }
        let token = request.headers().get("x-access-token").and_then(|value| value.to_str().ok());
        if self.told().token.as_deref().is_some_and(|known| token != Some(known)) {
            let refusal =
                json!({"code": 401, "message": "unauthorized access, please provide a valid access token or method signing if supported"});
            return json_body(StatusCode::UNAUTHORIZED, &refusal);
        }
        match (&method, path.as_str()) {
            (&Method::GET, "/metrics") => json_body(StatusCode::OK, &self.metrics()),
            (&Method::GET, "/envs") => {
                let envs = self.told().inits.iter().rev().find_map(|init| init.get("envVars").filter(|envs| envs.is_object()).cloned());
                json_body(StatusCode::OK, &envs.unwrap_or(json!({})))
            }
            _ => plain(StatusCode::NOT_FOUND, "404 page not found\n"),
        }
    }

    async fn init(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let Ok(body) = Limited::new(request.into_body(), BODY_LIMIT).collect().await else {
            return plain(StatusCode::BAD_REQUEST, "");
        };
        let body = body.to_bytes();
        let body = if body.is_empty() { Ok(json!({})) } else { serde_json::from_slice::<Value>(&body) };
        let Ok(body @ Value::Object(_)) = body else { return plain(StatusCode::BAD_REQUEST, "") };
        let token = match &body["accessToken"] {
            Value::Null => None,
            Value::String(token) if !token.is_empty() && !token.contains('\\') => Some(token.clone()),
            _ => return plain(StatusCode::BAD_REQUEST, ""),
        };
        let mut told = self.told();
        match (&told.token, &token) {
            (Some(_), None) => plain(StatusCode::UNAUTHORIZED, "access token reset not authorized"),
            (Some(known), Some(new)) if known != new => plain(StatusCode::UNAUTHORIZED, "access token validation failed"),
            _ => {
                told.token = token;
                told.inits.push(body);
                plain(StatusCode::NO_CONTENT, "")
            }
        }
    }

    fn metrics(&self) -> Value {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let Resources { cpu_count, memory_mib, disk_mib, pids: _ } = self.resources;
        json!({
            "ts": now, "cpu_count": cpu_count, "cpu_used_pct": 0.0,
            "mem_total": u64::from(memory_mib) << 20, "mem_used": 0, "mem_cache": 0, "mem_total_mib": memory_mib, "mem_used_mib": 0,
            "disk_total": u64::from(disk_mib) << 20, "disk_used": 0,
        })
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        // No code that holds it can leave it half-changed.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", Bytes::from_static(text.as_bytes()))
}

fn json_body(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    respond(status, "application/json; charset=utf-8", value.to_string().into())
}

fn respond(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    if status != StatusCode::NO_CONTENT {
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    }
    response
}
