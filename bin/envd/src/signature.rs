//! Who may use `/files`: the holder of the access token, or of a URL signed with it.

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use sha2::{Digest, Sha256};

use crate::state::{Token, same};

/// What a signed URL allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `GET /files`.
    Read,
    /// `POST /files`.
    Write,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// What a request to `/files` says about itself: the decoded query values exactly as sent, empty where absent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Claim<'a> {
    /// `path`, not resolved.
    pub path: &'a str,
    /// `username`.
    pub username: &'a str,
    /// `signature`, if there is one.
    pub signature: Option<&'a str>,
    /// `signature_expiration`, in Unix seconds, if there is one.
    pub expiration: Option<i64>,
}

/// Why a request to `/files` is refused; the answer is 401 with this text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The header holds another token. A good signature does not help.
    #[error("access token present in header but does not match")]
    WrongToken,
    /// Neither a token nor a signature.
    #[error("missing signature query parameter")]
    Unsigned,
    /// The signature is not one of this request.
    #[error("invalid signature")]
    WrongSignature,
    /// The signature was good once.
    #[error("signature is already expired")]
    Expired,
}

/// Decides on a request to `/files`: `header` is its `X-Access-Token`, `now` the time in Unix seconds.
pub fn check(token: Option<&Token>, header: Option<&[u8]>, operation: Operation, claim: Claim<'_>, now: i64) -> Result<(), Denied> {
    let Some(token) = token else { return Ok(()) };
    if let Some(header) = header {
        return if token.matches(header) { Ok(()) } else { Err(Denied::WrongToken) };
    }
    let presented = claim.signature.ok_or(Denied::Unsigned)?;
    if !same(sign(token, operation, claim).as_bytes(), presented.as_bytes()) {
        return Err(Denied::WrongSignature);
    }
    match claim.expiration {
        Some(expiration) if expiration < now => Err(Denied::Expired),
        _ => Ok(()),
    }
}

fn sign(token: &Token, operation: Operation, claim: Claim<'_>) -> String {
    let mut hash = Sha256::new();
    for part in [claim.path.as_bytes(), b":", operation.as_str().as_bytes(), b":", claim.username.as_bytes(), b":", token.expose()] {
        hash.update(part);
    }
    if let Some(expiration) = claim.expiration {
        hash.update(format!(":{expiration}"));
    }
    format!("v1_{}", STANDARD_NO_PAD.encode(hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0tQG31xiMp0IOQfaz9dcwi72L1CPo8e0";
    const READ: Claim<'_> =
        Claim { path: "hello.txt", username: "user", signature: Some("v1_gUtH/s9YCJWgCizjfUxuWfhFE4QSydOWEIIvfLwDr6E"), expiration: None };
    const WRITE: Claim<'_> = Claim {
        path: "hello.txt",
        username: "",
        signature: Some("v1_kfu+Ro1OO8SCAT1YWfxf4uTxuCiKCVxDOdr0s7hbyS4"),
        expiration: Some(1_700_000_000),
    };

    fn decide(operation: Operation, claim: Claim<'_>, now: i64) -> Result<(), Denied> {
        check(Some(&Token::new(TOKEN)), None, operation, claim, now)
    }

    #[test]
    fn known_signatures_are_accepted() {
        assert_eq!(decide(Operation::Read, READ, i64::MAX), Ok(()));
        assert_eq!(decide(Operation::Write, WRITE, 1_700_000_000), Ok(()));
    }

    #[test]
    fn the_signature_is_verified_before_its_expiry() {
        assert_eq!(decide(Operation::Write, WRITE, 1_700_000_001), Err(Denied::Expired));
        assert_eq!(
            decide(Operation::Write, Claim { expiration: Some(1_600_000_000), ..WRITE }, 1_700_000_001),
            Err(Denied::WrongSignature)
        );
        assert_eq!(Denied::Expired.to_string(), "signature is already expired");
        assert_eq!(Denied::WrongSignature.to_string(), "invalid signature");
    }

    #[test]
    fn a_signature_fits_one_path_one_user_and_one_operation() {
        assert_eq!(decide(Operation::Write, READ, 0), Err(Denied::WrongSignature));
        assert_eq!(decide(Operation::Read, Claim { path: "./hello.txt", ..READ }, 0), Err(Denied::WrongSignature));
        assert_eq!(decide(Operation::Read, Claim { username: "root", ..READ }, 0), Err(Denied::WrongSignature));
        assert_eq!(decide(Operation::Read, Claim { signature: None, ..READ }, 0), Err(Denied::Unsigned));
    }

    #[test]
    fn the_header_decides_alone_when_it_is_there() {
        let token = Token::new(TOKEN);
        assert_eq!(check(Some(&token), Some(b"wrong"), Operation::Read, READ, 0), Err(Denied::WrongToken));
        assert_eq!(check(Some(&token), Some(TOKEN.as_bytes()), Operation::Read, Claim::default(), 0), Ok(()));
        assert_eq!(check(None, Some(b"anything"), Operation::Read, Claim::default(), 0), Ok(()));
    }
}
