//! `/files` and `/files/compose`: whole files in and out of the sandbox, over plain HTTP. Facts: reference/envd.md §10 and §11.
//!
//! Everything that touches the file system runs on threads that may block; bodies travel between them and the connection in chunks
//! through short queues, so a file of any size takes little memory. All of it happens as the daemon's user: the user of a request
//! decides how paths resolve and who owns what is made, not what is allowed.

mod compose;
pub mod conditions;
mod download;
pub mod encoding;
mod gzip;
mod media;
pub mod metadata;
pub mod multipart;
pub mod parameters;
pub mod query;
mod upload;

use std::{fmt::Display, io, path::PathBuf};

use atoll_wire::body::Body;
use http::{HeaderValue, Method, Request, Response, StatusCode, request::Parts};

use tokio::sync::Semaphore;

use self::query::Query;
use crate::{
    paths, reply,
    signature::{self, Operation},
    state::Context,
    users::{self, User},
};

/// Bodies that travel at once. Each takes a thread for as long as its client likes; there are more threads than this, so that calls
/// that end by themselves always find one.
static TRANSFERS: Semaphore = Semaphore::const_new(128);

/// Answers `GET /files`, `POST /files` and `POST /files/compose`; nothing else gets here.
pub async fn handle(context: Context, request: Request<Body>) -> Response<Body> {
    match (request.uri().path(), request.method()) {
        ("/files/compose", _) => compose::post(context, request).await,
        (_, &Method::POST) => upload::post(context, request).await,
        _ => download::get(context, request).await,
    }
}

/// Why a request is refused: the status and the message that the client gets.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    message: String,
}

impl Refusal {
    fn new(status: StatusCode, message: impl Display) -> Self {
        Self { status, message: message.to_string() }
    }

    fn bad(message: impl Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// A deed that the file system refused.
    fn disk(deed: impl Display, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, format!("{deed}: not enough disk space available"))
            }
            _ => Self::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{deed}: {error}")),
        }
    }

    fn into_response(self) -> Response<Body> {
        reply::error(self.status, self.message)
    }
}

/// Reads the query and decides whether the request may do what it wants.
fn admit(context: &Context, parts: &Parts, operation: Operation) -> Result<Query, Response<Body>> {
    let query = Query::parse(parts.uri.query().unwrap_or_default()).map_err(|error| reply::text(StatusCode::BAD_REQUEST, error))?;
    let header = parts.headers.get("x-access-token").map(HeaderValue::as_bytes);
    signature::check(context.state.token().as_ref(), header, operation, query.claim(), chrono::Utc::now().timestamp())
        .map_err(|denied| reply::error(StatusCode::UNAUTHORIZED, denied))?;
    Ok(query)
}

/// The user that a request means: the one it names, else the default one.
fn user_of(context: &Context, username: Option<&str>) -> Result<User, Refusal> {
    let name = username.map_or_else(|| context.state.default_user(), str::to_owned);
    if username.is_none() && name.is_empty() {
        return Err(Refusal::bad("no user given and no default user set"));
    }
    users::find(&name).ok_or_else(|| Refusal::new(StatusCode::UNAUTHORIZED, format!("invalid username: '{name}'")))
}

fn resolve(context: &Context, path: &str, user: &User) -> Result<PathBuf, Refusal> {
    paths::resolve(path, user, context.state.default_workdir().as_deref()).map_err(Refusal::bad)
}

/// Runs `work` where it may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Refusal> + Send + 'static) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the request could not be completed")))
}

/// The last component of a path, as clients show it.
pub(crate) fn base_name(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    match trimmed.rsplit('/').next() {
        Some(name) if !name.is_empty() => name,
        _ if path.is_empty() => ".",
        _ => "/",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_names_are_last_components() {
        for (path, name) in [("/a/b.txt", "b.txt"), ("/a/b/", "b"), ("/", "/"), ("//", "/"), ("", "."), ("/a/..", ".."), ("x", "x")] {
            assert_eq!(base_name(path), name, "{path:?}");
        }
    }

    #[test]
    fn a_full_disk_has_its_own_status() {
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
            let refusal = Refusal::disk("writing '/a'", &kind.into());
            assert_eq!(refusal.status, StatusCode::INSUFFICIENT_STORAGE);
            assert!(refusal.message.ends_with("not enough disk space available"));
        }
        assert_eq!(Refusal::disk("x", &io::ErrorKind::Other.into()).status, StatusCode::INTERNAL_SERVER_ERROR);
    }
}
