//! What the node asks of the `envd` inside a sandbox. Its answers are hostile: every one is bounded in size and time.

use std::{net::SocketAddr, time::Duration};

use atoll_types::{Clock, Secret};
use atoll_wire::{
    body,
    envd::{InitRequest, Metrics},
    transport,
};
use http::{Method, Request, StatusCode, header};

use crate::spec::Spec;

/// How long an `envd` may take from its start until it accepts its token.
pub(crate) const READY: Duration = Duration::from_secs(10);
/// Between two tries; the first ones come faster, since most sandboxes answer at once.
const PAUSE: Duration = Duration::from_millis(5);
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const FIRST_TRIES: u32 = 20;
/// What the first try may take; each try that is too slow gives the next one twice as much, up to [`LONGEST_TRY`].
const SHORTEST_TRY: Duration = Duration::from_millis(50);
const LONGEST_TRY: Duration = Duration::from_secs(2);
const METRICS: Duration = Duration::from_secs(1);
const REPLY: usize = 64 << 10;

/// Why an `envd` did not become ready.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InitError {
    #[error("envd answered {status} to its initialisation: {text}")]
    Refused { status: StatusCode, text: String },
    #[error("envd did not answer within {} s: {last}", READY.as_secs())]
    Silent { last: String },
    #[error("making the request for envd")]
    Request(#[from] http::Error),
}

/// Gives a new `envd` its token, variables and defaults, trying until it listens. Whoever calls this bounds it by the life of the
/// machine too, so that no try ever reaches a later owner of the address.
pub(crate) async fn init(guest: SocketAddr, spec: &Spec, clock: &dyn Clock) -> Result<(), InitError> {
    let mut last = String::from("it does not listen");
    let tries = async {
        let mut patience = SHORTEST_TRY;
        for number in 0u32.. {
            let request = init_request(spec, clock)?;
            let answer = async {
                let response = transport::request(guest, request).await?;
                let status = response.status();
                let text = body::collect(response.into_body(), REPLY).await.unwrap_or_default();
                Ok::<_, body::BoxError>((status, text))
            };
            match tokio::time::timeout(patience, answer).await {
                Ok(Ok((StatusCode::NO_CONTENT, _))) => return Ok(()),
                Ok(Ok((StatusCode::SERVICE_UNAVAILABLE, _))) => last = "it is busy".into(),
                Ok(Ok((status, text))) => {
                    let text = String::from_utf8_lossy(&text).trim().chars().take(200).collect();
                    return Err(InitError::Refused { status, text });
                }
                Ok(Err(error)) => last = error.to_string(),
                Err(_) => {
                    last = format!("no answer within {} ms", patience.as_millis());
                    patience = (patience * 2).min(LONGEST_TRY);
                }
            }
            tokio::time::sleep(if number < FIRST_TRIES { FIRST_PAUSE } else { PAUSE }).await;
        }
        Ok(())
    };
    match tokio::time::timeout(READY, tries).await {
        Ok(result) => result,
        Err(_) => Err(InitError::Silent { last }),
    }
}

fn init_request(spec: &Spec, clock: &dyn Clock) -> Result<Request<body::Body>, http::Error> {
    let ours = [("E2B_SANDBOX", "true"), ("E2B_SANDBOX_ID", spec.id.as_str()), ("E2B_TEMPLATE_ID", spec.template_id.as_str())];
    let mut env_vars = spec.envs.clone();
    env_vars.extend(ours.map(|(name, value)| (name.into(), value.into())));
    let token = spec.access_token.as_ref().map(|token| token.expose().to_owned());
    let init = InitRequest {
        timestamp: Some(clock.now().to_rfc3339_opts(chrono::SecondsFormat::Nanos, true)),
        env_vars: Some(env_vars),
        access_token: token.clone(),
        default_user: Some(spec.default_user.clone()),
        default_workdir: spec.default_workdir.clone(),
        ..InitRequest::default()
    };
    let text = serde_json::to_vec(&init).expect("a struct of texts has a JSON form");
    request(Method::POST, "/init", spec.access_token.as_ref(), body::full(text))
}

/// What `envd` measures inside; `None` when it does not answer in time or answers nonsense.
pub(crate) async fn metrics(guest: SocketAddr, token: Option<Secret>) -> Option<Metrics> {
    let request = request(Method::GET, "/metrics", token.as_ref(), body::empty()).ok()?;
    let answer = async {
        let response = transport::request(guest, request).await.ok()?;
        let text = body::collect(response.into_body(), REPLY).await.ok()?;
        serde_json::from_slice(&text).ok()
    };
    tokio::time::timeout(METRICS, answer).await.ok()?
}

fn request(method: Method, path: &str, token: Option<&Secret>, body: body::Body) -> Result<Request<body::Body>, http::Error> {
    let mut request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "application/json");
    if let Some(token) = token {
        request = request.header("x-access-token", token.expose());
    }
    request.body(body)
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    /// An `envd` that answers one request with these bytes, over and over, and says what it was asked.
    async fn answering(answer: &'static [u8]) -> (SocketAddr, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            while stream.write_all(answer).await.is_ok() {}
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        (address, server)
    }

    #[tokio::test]
    async fn metrics_are_asked_for_with_the_token() {
        let (guest, server) = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 33\r\n\r\n{\"disk_used\":5,\"disk_total\":1234}").await;
        let metrics = metrics(guest, Some(Secret::new("token"))).await.unwrap();
        assert_eq!((metrics.disk_used, metrics.disk_total), (5, 1234));
        let asked = server.await.unwrap();
        assert!(asked.starts_with("GET /metrics HTTP/1.1\r\n") && asked.contains("x-access-token: token\r\n"), "{asked}");
    }

    #[tokio::test]
    async fn nonsense_is_no_answer() {
        let flood = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        for answer in [b"SSH-2.0-OpenSSH\r\n".as_slice(), flood, b"HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\n{\"disk_used\":-1}"] {
            let (guest, server) = answering(answer).await;
            assert_eq!(metrics(guest, None).await, None);
            server.await.unwrap();
        }
    }

    #[tokio::test]
    async fn an_answer_without_end_is_cut() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let guest = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n").await.unwrap();
            let mut sent = 0;
            while stream.write_all(&[b' '; 4096]).await.is_ok() {
                sent += 4096;
            }
            sent
        });
        assert_eq!(metrics(guest, None).await, None);
        assert!(server.await.unwrap() < 16 << 20, "what is in the kernel's buffers, but not more");
    }
}
