//! The query of `/files`.

use percent_encoding::percent_decode_str;

use crate::signature::Claim;

/// The decoded parameters. Absent and empty are different things: an empty `username` is a user that does not exist.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Query {
    /// Which file, not resolved.
    pub path: Option<String>,
    /// Whose home and ownership.
    pub username: Option<String>,
    /// What a signed URL carries.
    pub signature: Option<String>,
    /// Until when the signature counts, in Unix seconds.
    pub expiration: Option<i64>,
}

/// Why a query is not one of ours.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// It would be anyone's guess which one counts.
    #[error("query parameter '{0}' is given more than once")]
    Repeated(&'static str),
    /// Broken percent-encoding, or bytes that are no UTF-8.
    #[error("query parameter '{0}' cannot be decoded")]
    Undecodable(&'static str),
    /// `signature_expiration` is no integer.
    #[error("invalid format for parameter signature_expiration: '{0}' is not an integer")]
    Expiration(String),
}

impl Query {
    /// Reads the text after the `?`. Parameters of other names are ignored.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        let mut query = Self::default();
        let mut expiration = None;
        for pair in text.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, slot) = match decode(name).as_deref() {
                Some("path") => ("path", &mut query.path),
                Some("username") => ("username", &mut query.username),
                Some("signature") => ("signature", &mut query.signature),
                Some("signature_expiration") => ("signature_expiration", &mut expiration),
                _ => continue,
            };
            if slot.replace(decode(value).ok_or(QueryError::Undecodable(name))?).is_some() {
                return Err(QueryError::Repeated(name));
            }
        }
        query.expiration = expiration.map(|text| text.parse().map_err(|_| QueryError::Expiration(text))).transpose()?;
        Ok(query)
    }

    /// What the signature must fit.
    pub fn claim(&self) -> Claim<'_> {
        Claim {
            path: self.path.as_deref().unwrap_or_default(),
            username: self.username.as_deref().unwrap_or_default(),
            signature: self.signature.as_deref(),
            expiration: self.expiration,
        }
    }
}

fn decode(text: &str) -> Option<String> {
    let broken = |at: usize| !text.get(at + 1..at + 3).is_some_and(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
    if text.match_indices('%').any(|(at, _)| broken(at)) {
        return None;
    }
    Some(percent_decode_str(&text.replace('+', " ")).decode_utf8().ok()?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_as_forms_are() {
        let query = Query::parse("path=a+b%2Bc%20%C3%A9&username=&signature=v1_%2F%2B&signature_expiration=-5&other=%zz").unwrap();
        let expected =
            Query { path: Some("a b+c é".into()), username: Some("".into()), signature: Some("v1_/+".into()), expiration: Some(-5) };
        assert_eq!(query, expected);
        assert_eq!(Query::parse(""), Ok(Query::default()));
        assert_eq!(Query::parse("path").unwrap().path.as_deref(), Some(""));
    }

    #[test]
    fn repeated_or_broken_parameters_are_refused() {
        assert_eq!(Query::parse("path=a&path=a"), Err(QueryError::Repeated("path")));
        assert_eq!(Query::parse("path=a&p%61th=b"), Err(QueryError::Repeated("path")));
        for broken in ["path=%", "path=%4", "path=%4g", "path=%ff", "path=%+1"] {
            assert_eq!(Query::parse(broken), Err(QueryError::Undecodable("path")), "{broken}");
        }
        for broken in ["", "soon", "1.5", "99999999999999999999"] {
            assert_eq!(Query::parse(&format!("signature_expiration={broken}")), Err(QueryError::Expiration(broken.into())));
        }
    }
}
