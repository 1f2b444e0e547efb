//! Requests that do not reach a guest, and what their clients are told.

use atoll_types::SandboxId;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use crate::{body::ResponseBody, host::BadHost, page};

/// Why a request was not relayed. E2B's clients depend on the statuses: 502 means to them that the sandbox is gone.
#[derive(Debug)]
pub enum Refusal {
    /// It is for no sandbox.
    BadHost(BadHost),
    /// It came over a connection to another host.
    Misdirected { name: String },
    /// It is for the platform only.
    ControlRoute { path: String },
    /// No such sandbox runs.
    NotFound { sandbox: SandboxId },
    /// Nothing listens there.
    PortClosed { sandbox: SandboxId, port: u16 },
    /// The server there did not answer with HTTP.
    NoAnswer { sandbox: SandboxId, port: u16 },
    /// The sandbox has too many requests open.
    TooMany { sandbox: SandboxId, limit: usize },
}

/// The body of a refusal. `reason` is ours, for programs; the other fields are E2B's.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    sandbox_id: Option<&'a SandboxId>,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection_limit: Option<usize>,
    reason: &'static str,
    code: u16,
}

impl Refusal {
    /// The reply: a page for people, JSON for programs.
    pub fn into_response(self, person: bool) -> Response<ResponseBody> {
        let told = match &self {
            Refusal::BadHost(bad) => return reply(StatusCode::BAD_REQUEST, "text/plain; charset=utf-8", format!("{bad}\n")),
            Refusal::Misdirected { name } => {
                let told = format!("this connection is for {name} alone\n");
                return reply(StatusCode::MISDIRECTED_REQUEST, "text/plain; charset=utf-8", told);
            }
            Refusal::ControlRoute { path } => Told {
                path: Some(path),
                ..Told::new(404, "control_route", "This path of the sandbox's daemon is only open to the platform")
            },
            Refusal::NotFound { sandbox } => {
                Told { sandbox_id: Some(sandbox), ..Told::new(502, "sandbox_not_found", "The sandbox was not found") }
            }
            Refusal::PortClosed { sandbox, port } => Told {
                sandbox_id: Some(sandbox),
                port: Some(*port),
                ..Told::new(502, "port_closed", "The sandbox is running but port is not open")
            },
            Refusal::NoAnswer { sandbox, port } => Told {
                sandbox_id: Some(sandbox),
                port: Some(*port),
                ..Told::new(
                    502,
                    "no_answer",
                    "The sandbox is running but the server on this port closed the connection without a valid answer",
                )
            },
            Refusal::TooMany { sandbox, limit } => Told {
                sandbox_id: Some(sandbox),
                connection_limit: Some(*limit),
                ..Told::new(429, "too_many_connections", "The sandbox has too many connections open")
            },
        };
        let status = StatusCode::from_u16(told.code).expect("the codes above are valid");
        if person {
            let page = page::render(status, told.message, told.sandbox_id.map(SandboxId::as_str), told.port);
            return reply(status, "text/html; charset=utf-8", page);
        }
        reply(status, "application/json; charset=utf-8", serde_json::to_vec(&told).expect("strings and numbers always serialise"))
    }
}

impl<'a> Told<'a> {
    fn new(code: u16, reason: &'static str, message: &'a str) -> Self {
        Self { code, reason, message, sandbox_id: None, path: None, port: None, connection_limit: None }
    }
}

fn reply(status: StatusCode, kind: &'static str, body: impl Into<bytes::Bytes>) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::own(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Whether a person's browser is going to show the reply: a browser that navigates, not a script in one. Browsers tell which only to
/// trustworthy origins (`Sec-Fetch-Mode`); elsewhere, asking for HTML by name tells.
pub fn is_navigation(headers: &HeaderMap) -> bool {
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let html = text(header::ACCEPT).map(|accept| accept.contains("text/html"));
    let navigates = match text(header::HeaderName::from_static("sec-fetch-mode")) {
        Some(mode) => mode == "navigate" && (html == Some(true) || !text(header::ACCEPT).is_some_and(|a| a.contains("application/json"))),
        None => html == Some(true),
    };
    navigates && !headers.contains_key(header::UPGRADE) && text(header::USER_AGENT).is_some_and(|agent| agent.starts_with("Mozilla/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_people_get_pages() {
        let navigation = |pairs: &[(&'static str, &str)]| {
            is_navigation(&pairs.iter().map(|(n, v)| (header::HeaderName::from_static(n), v.parse().unwrap())).collect())
        };
        let agent = ("user-agent", "Mozilla/5.0 (X11; Linux x86_64)");
        let html = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
        assert!(navigation(&[agent, ("sec-fetch-mode", "navigate"), html]));
        assert!(navigation(&[agent, ("sec-fetch-mode", "navigate")]));
        assert!(navigation(&[agent, html]));
        assert!(!navigation(&[agent]));
        assert!(!navigation(&[html]));
        assert!(!navigation(&[agent, html, ("sec-fetch-mode", "cors")]));
        assert!(!navigation(&[agent, html, ("sec-fetch-mode", "websocket"), ("upgrade", "websocket")]));
        assert!(!navigation(&[agent, ("accept", "application/json"), ("sec-fetch-mode", "navigate")]));
        assert!(!navigation(&[("user-agent", "e2b-python-sdk/2.63.0"), html, ("sec-fetch-mode", "navigate")]));
    }
}
