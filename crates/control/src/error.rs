//! The one error of the REST edge: what a stranger may read, and what only the log gets.

use atoll_store::StoreError;
use atoll_wire::{
    body::{self, Body, BoxError},
    e2b,
};
use http::{HeaderValue, Response, StatusCode, header};
use tracing::{error, warn};

/// What an error means to whoever gets it. docs/api.md says it in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The request is wrong; repeating it is useless.
    Invalid,
    /// No valid credential came with it.
    Unauthenticated,
    /// It may not do this.
    Forbidden,
    /// What it names is not there, or is another team's.
    Missing,
    /// The path exists, for other methods.
    WrongMethod,
    /// It cannot be now, and perhaps later.
    Conflict,
    /// It contradicts an earlier request.
    Contradiction,
    /// The body took too long to arrive.
    Slow,
    /// The body is too large.
    TooLarge,
    /// A limit of the team is reached.
    Limited,
    /// The operation or option exists in E2B's API and is not served here.
    NotServed,
    /// Our fault.
    Bug,
    /// What is needed does not answer or has no room; repeating it later may help.
    Unavailable,
    /// It took too long.
    Late,
}

/// Why a request failed.
#[derive(Debug)]
pub struct ApiError {
    kind: Kind,
    public: String,
    error_code: Option<&'static str>,
    source: Option<BoxError>,
}

impl ApiError {
    pub(crate) fn new(kind: Kind, public: impl Into<String>) -> Self {
        Self { kind, public: public.into(), error_code: None, source: None }
    }

    /// A request that does not fit the schema.
    pub(crate) fn invalid(what: impl std::fmt::Display) -> Self {
        Self::new(Kind::Invalid, format!("validation error: {what}"))
    }

    /// Something on our side failed; the cause is for the log.
    pub(crate) fn bug(source: impl Into<BoxError>) -> Self {
        let error = Self::new(Kind::Bug, "internal error; the server's log has the details");
        Self { source: Some(source.into()), ..error }
    }

    /// What went wrong, for machines.
    pub(crate) fn with_code(self, error_code: &'static str) -> Self {
        Self { error_code: Some(error_code), ..self }
    }

    /// What went wrong, for the log.
    pub(crate) fn with_source(self, source: impl Into<BoxError>) -> Self {
        Self { source: Some(source.into()), ..self }
    }

    #[cfg(test)]
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    #[cfg(test)]
    pub(crate) fn public(&self) -> &str {
        &self.public
    }

    fn status(&self) -> StatusCode {
        match self.kind {
            Kind::Invalid => StatusCode::BAD_REQUEST,
            Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
            Kind::Forbidden => StatusCode::FORBIDDEN,
            Kind::Missing => StatusCode::NOT_FOUND,
            Kind::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
            Kind::Conflict => StatusCode::CONFLICT,
            Kind::Contradiction => StatusCode::UNPROCESSABLE_ENTITY,
            Kind::Slow => StatusCode::REQUEST_TIMEOUT,
            Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Kind::Limited => StatusCode::TOO_MANY_REQUESTS,
            Kind::NotServed => StatusCode::NOT_IMPLEMENTED,
            Kind::Bug => StatusCode::INTERNAL_SERVER_ERROR,
            Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Late => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// What SDKs are told who repeat some requests by themselves: whether to, and after how many seconds.
    fn repeat(&self) -> Option<(&'static str, Option<u16>)> {
        match self.kind {
            // Trying again at once does not end other sandboxes, and would only keep the caller waiting.
            Kind::Limited => Some(("false", None)),
            Kind::Conflict | Kind::Unavailable | Kind::Late => Some(("true", Some(1))),
            _ => None,
        }
    }

    /// The reply. The cause is logged here and nowhere else.
    pub(crate) fn into_response(self, request: &http::request::Parts) -> Response<Body> {
        let status = self.status();
        if let Some(source) = &self.source {
            let (method, path, error) = (&request.method, request.uri.path(), chain(source.as_ref()));
            if self.kind == Kind::Bug {
                error!(http.status = status.as_u16(), error, "{method} {path} failed: {}", self.public);
            } else {
                warn!(http.status = status.as_u16(), error, "{method} {path} failed: {}", self.public);
            }
        }
        let repeat = self.repeat();
        let error_code = self.error_code.map(str::to_owned);
        let mut response = body::json(status, &e2b::Error { code: status.as_u16(), message: self.public, error_code });
        if let Some((whether, when)) = repeat {
            response.headers_mut().insert("should-retry", HeaderValue::from_static(whether));
            when.map(|seconds| response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds)));
        }
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        if !error.is_temporary() {
            return Self::bug(error);
        }
        let what = "the database takes no changes at the moment (locked, or its disk full); try again, and see the server's log";
        Self::new(Kind::Unavailable, what).with_code("database_unavailable").with_source(error)
    }
}

/// An error with all its causes, on one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    match error.source() {
        None => error.to_string(),
        Some(cause) => format!("{error}: {}", chain(cause)),
    }
}
