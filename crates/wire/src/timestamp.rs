//! `google.protobuf.Timestamp`.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A moment as protobuf writes it: seconds and nanoseconds in the binary form, RFC 3339 with a `Z` in JSON.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, prost::Message)]
pub struct Timestamp {
    /// Seconds since 1970, negative before.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// Nanoseconds within the second, always counted forward.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

impl Timestamp {
    /// The moment; `None` when a peer sent one outside the calendar.
    pub fn to_utc(self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp(self.seconds, u32::try_from(self.nanos).ok()?)
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(at: DateTime<Utc>) -> Self {
        // A leap second is written as more than 10^9 nanoseconds in chrono and not at all in protobuf.
        let nanos = at.timestamp_subsec_nanos().min(999_999_999);
        Self { seconds: at.timestamp(), nanos: nanos as i32 }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let at = self.to_utc().ok_or_else(|| serde::ser::Error::custom("a moment outside the calendar"))?;
        s.serialize_str(&at.to_rfc3339_opts(SecondsFormat::AutoSi, true))
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let at = DateTime::parse_from_rfc3339(&text).map_err(|_| de::Error::custom("a timestamp that is not RFC 3339"))?;
        Ok(at.to_utc().into())
    }
}
