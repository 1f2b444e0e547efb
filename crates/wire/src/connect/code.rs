//! Error codes, their names and their HTTP statuses. Facts: reference/envd.md §5.1.

use std::fmt;

use http::StatusCode;

/// Why a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Code {
    Canceled,
    Unknown,
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Aborted,
    OutOfRange,
    Unimplemented,
    Internal,
    Unavailable,
    DataLoss,
    Unauthenticated,
}

impl Code {
    const ALL: [(Code, &'static str, u16); 16] = [
        (Code::Canceled, "canceled", 499),
        (Code::Unknown, "unknown", 500),
        (Code::InvalidArgument, "invalid_argument", 400),
        (Code::DeadlineExceeded, "deadline_exceeded", 504),
        (Code::NotFound, "not_found", 404),
        (Code::AlreadyExists, "already_exists", 409),
        (Code::PermissionDenied, "permission_denied", 403),
        (Code::ResourceExhausted, "resource_exhausted", 429),
        (Code::FailedPrecondition, "failed_precondition", 400),
        (Code::Aborted, "aborted", 409),
        (Code::OutOfRange, "out_of_range", 400),
        (Code::Unimplemented, "unimplemented", 501),
        (Code::Internal, "internal", 500),
        (Code::Unavailable, "unavailable", 503),
        (Code::DataLoss, "data_loss", 500),
        (Code::Unauthenticated, "unauthenticated", 401),
    ];

    fn row(self) -> (Code, &'static str, u16) {
        Self::ALL.into_iter().find(|row| row.0 == self).expect("ALL lists every variant")
    }

    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        self.row().1
    }

    /// The status of a unary reply with this code.
    pub fn http_status(self) -> StatusCode {
        StatusCode::from_u16(self.row().2).expect("every listed status is valid")
    }

    pub(crate) fn from_name(name: &str) -> Option<Code> {
        Self::ALL.into_iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// What a reply that is not Connect's own means, by its status.
    pub(crate) fn from_http(status: StatusCode) -> Code {
        match status.as_u16() {
            400 => Code::Internal,
            401 => Code::Unauthenticated,
            403 => Code::PermissionDenied,
            404 => Code::Unimplemented,
            429 | 502 | 503 | 504 => Code::Unavailable,
            _ => Code::Unknown,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A call's failure, as the caller sees it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct RpcError {
    /// What kind.
    pub code: Code,
    /// For a person; the peer may read it.
    pub message: String,
}

macro_rules! constructors {
    ($($name:ident: $code:ident),* $(,)?) => {
        $(
            #[doc = concat!("An error of code [`Code::", stringify!($code), "`].")]
            pub fn $name(message: impl Into<String>) -> Self {
                Self::new(Code::$code, message)
            }
        )*
    };
}

impl RpcError {
    /// An error of any code.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    constructors! {
        not_found: NotFound,
        invalid_argument: InvalidArgument,
        internal: Internal,
        already_exists: AlreadyExists,
        failed_precondition: FailedPrecondition,
        unimplemented: Unimplemented,
        unauthenticated: Unauthenticated,
        unavailable: Unavailable,
        unknown: Unknown,
        resource_exhausted: ResourceExhausted,
    }

    /// The call's time is up.
    pub fn deadline_exceeded() -> Self {
        Self::new(Code::DeadlineExceeded, "context deadline exceeded")
    }
}

/// [`RpcError`] as JSON: the body of a failed unary call and the `error` of an end of stream.
#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) struct ErrorBody {
    pub(crate) code: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) message: String,
}

impl From<RpcError> for ErrorBody {
    fn from(error: RpcError) -> Self {
        Self { code: error.code.as_str().into(), message: error.message }
    }
}

impl From<ErrorBody> for RpcError {
    fn from(body: ErrorBody) -> Self {
        Self { code: Code::from_name(&body.code).unwrap_or(Code::Unknown), message: body.message }
    }
}
