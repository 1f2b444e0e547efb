//! The platform's REST API, as far as this command needs it.

use std::{fmt, io, time::Duration};

use anyhow::{Context, Error, Result, anyhow};
use atoll_types::{SandboxId, Secret};
use atoll_wire::{
    body::{self, BoxError, collect},
    connect::Transport,
    e2b::{self, ListedSandbox, NewSandbox, Sandbox, SandboxDetail, SandboxLogEntries, SandboxLogEntry, SandboxMetric, Timeout},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;

use crate::{
    failure::{NoSandbox, Unreachable, nearest},
    link::Link,
};

const ANSWER_LIMIT: usize = 64 << 20;
const PATIENCE: Duration = Duration::from_secs(120);

/// The most entries of one page of logs.
pub const LOG_PAGE: usize = 1000;

/// A host and a key.
pub struct Api {
    link: Link,
    key: Secret,
}

/// The API's refusal.
#[derive(Debug)]
pub struct Refused {
    pub status: StatusCode,
    message: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            StatusCode::UNAUTHORIZED => write!(
                f,
                "the API key was refused ({}): check E2B_API_KEY, or take the host's own with `source <(sudo atoll env)` there",
                self.message
            ),
            status => write!(f, "{} ({})", self.message, status.as_u16()),
        }
    }
}

impl std::error::Error for Refused {}

impl Api {
    pub fn new(link: Link, key: Secret) -> Self {
        Self { link, key }
    }

    /// Creates a sandbox.
    pub async fn create(&self, new: &NewSandbox) -> Result<Sandbox> {
        let (_, answer) = self.call(Method::POST, "/sandboxes", serde_json::to_vec(new)?.into()).await?;
        read(&answer)
    }

    /// One sandbox.
    pub async fn get(&self, id: &SandboxId) -> Result<SandboxDetail> {
        read(&self.of(id, Method::GET, &format!("/sandboxes/{id}"), Bytes::new()).await?)
    }

    /// Ends a sandbox.
    pub async fn kill(&self, id: &SandboxId) -> Result<()> {
        self.of(id, Method::DELETE, &format!("/sandboxes/{id}"), Bytes::new()).await?;
        Ok(())
    }

    /// Lets a sandbox run for so many seconds from now.
    pub async fn set_timeout(&self, id: &SandboxId, timeout: i32) -> Result<()> {
        let content = serde_json::to_vec(&Timeout { timeout })?.into();
        self.of(id, Method::POST, &format!("/sandboxes/{id}/timeout"), content).await?;
        Ok(())
    }

    /// What a sandbox used, oldest first.
    pub async fn metrics(&self, id: &SandboxId) -> Result<Vec<SandboxMetric>> {
        read(&self.of(id, Method::GET, &format!("/sandboxes/{id}/metrics"), Bytes::new()).await?)
    }

    /// All sandboxes in these states (none given: any) with this metadata.
    pub async fn list(&self, states: &[String], metadata: &[(String, String)]) -> Result<Vec<ListedSandbox>> {
        let mut filter = String::from("/v2/sandboxes?limit=100");
        if !states.is_empty() {
            filter += &format!("&state={}", encode(&states.join(",")));
        }
        if !metadata.is_empty() {
            filter += &format!("&metadata={}", metadata_filter(metadata));
        }
        let (mut found, mut page) = (Vec::new(), filter.clone());
        loop {
            let (headers, answer) = self.call(Method::GET, &page, Bytes::new()).await?;
            found.append(&mut read(&answer)?);
            match headers.get("x-next-token").and_then(|token| token.to_str().ok()).filter(|token| !token.is_empty()) {
                Some(token) => page = format!("{filter}&nextToken={}", encode(token)),
                None => return Ok(found),
            }
        }
    }

    /// What a sandbox logged since `cursor` (milliseconds since 1970), oldest first, at most [`LOG_PAGE`] entries.
    pub async fn logs(&self, id: &SandboxId, cursor: i64) -> Result<Vec<SandboxLogEntry>> {
        let path = format!("/v2/sandboxes/{id}/logs?direction=forward&limit={LOG_PAGE}&cursor={cursor}");
        Ok(read::<SandboxLogEntries>(&self.of(id, Method::GET, &path, Bytes::new()).await?)?.logs)
    }

    /// The answer to a request about one sandbox.
    async fn of(&self, id: &SandboxId, method: Method, path: &str, content: Bytes) -> Result<Bytes> {
        let error = match self.call(method, path, content).await {
            Ok((_, answer)) => return Ok(answer),
            Err(error) => error,
        };
        if !matches!(error.downcast_ref::<Refused>(), Some(Refused { status: StatusCode::NOT_FOUND, .. })) {
            return Err(error);
        }
        // Only to help: a failure here is not the one to report.
        let there = self.list(&[], &[]).await.unwrap_or_default();
        let nearest = nearest(id.as_str(), there.iter().map(|sandbox| sandbox.sandbox_id.as_str())).map(str::to_owned);
        Err(NoSandbox { id: id.clone(), nearest }.into())
    }

    async fn call(&self, method: Method, path: &str, content: Bytes) -> Result<(HeaderMap, Bytes)> {
        let mut request = Request::new(body::full(content.clone()));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().with_context(|| format!("the path {path}"))?;
        let mut key = HeaderValue::from_str(self.key.expose()).map_err(|_| anyhow!("the API key holds characters that no key has"))?;
        key.set_sensitive(true);
        request.headers_mut().insert("x-api-key", key);
        request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static(concat!("atoll/", env!("CARGO_PKG_VERSION"))));
        if !content.is_empty() {
            request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let exchange = async {
            let response = self.link.send(request).await.map_err(|e| unreachable(self.link.base(), e))?;
            let (head, incoming) = response.into_parts();
            Ok::<_, Error>((head, collect(incoming, ANSWER_LIMIT).await?))
        };
        let (head, answer) = tokio::time::timeout(PATIENCE, exchange)
            .await
            .map_err(|_| anyhow!("no answer from {} within {} s", self.link.base(), PATIENCE.as_secs()))??;
        if head.status.is_success() {
            return Ok((head.headers, answer));
        }
        let message = serde_json::from_slice::<e2b::Error>(&answer).map(|e| e.message);
        let message = message.unwrap_or_else(|_| head.status.canonical_reason().unwrap_or("the request failed").into());
        Err(Refused { status: head.status, message }.into())
    }
}

/// Says what to do when there is no connection, which is an error of input and output.
pub fn unreachable(base: &Uri, error: BoxError) -> Error {
    match error.downcast::<io::Error>() {
        Ok(why) => Unreachable { base: base.clone(), why: *why }.into(),
        Err(error) => Error::from_boxed(error).context(format!("talking to {base}")),
    }
}

fn read<T: DeserializeOwned>(answer: &[u8]) -> Result<T> {
    serde_json::from_slice(answer).context("the answer is not what the API promises; is this an Atoll or E2B host?")
}

fn encode(text: &str) -> impl fmt::Display + '_ {
    utf8_percent_encode(text, NON_ALPHANUMERIC)
}

/// `k=v&…` with keys and values encoded twice, and all of it once more: so the SDKs send it, and so the API reads it.
fn metadata_filter(metadata: &[(String, String)]) -> String {
    let twice = |text: &str| encode(&encode(text).to_string()).to_string();
    let pairs: Vec<String> = metadata.iter().map(|(name, value)| format!("{}={}", twice(name), twice(value))).collect();
    encode(&pairs.join("&")).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_encoded_as_the_sdks_do() {
        let filter = |name: &str, value: &str| metadata_filter(&[(name.into(), value.into())]);
        assert_eq!(filter("user", "abc"), "user%3Dabc");
        assert_eq!(filter("k", "a b"), "k%3Da%252520b");
        assert_eq!(filter("k", "a&b"), "k%3Da%252526b");
    }
}
