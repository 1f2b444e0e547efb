//! The rules of protobuf's JSON form that serde's own defaults do not follow. Facts: reference/envd.md §4.6.

use std::{fmt, marker::PhantomData};

use serde::{Deserialize, Deserializer, Serializer, de};

/// An enum of a contract: full names out, names or numbers in.
pub(crate) trait Enumeration {
    const NAMES: &'static [(&'static str, i32)];
}

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// `null` stands for the default.
pub(crate) fn or_default<'de, T: Deserialize<'de> + Default, D: Deserializer<'de>>(d: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

/// An integer as a number, or as text, as 64-bit integers are written.
pub(crate) fn integer<'de, T, D>(d: D) -> Result<T, D::Error>
where
    T: TryFrom<i128> + Default,
    D: Deserializer<'de>,
{
    struct Visitor<T>(PhantomData<T>);

    impl<T: TryFrom<i128> + Default> de::Visitor<'_> for Visitor<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "an integer that fits its field")
        }
        fn visit_i128<E: de::Error>(self, n: i128) -> Result<T, E> {
            T::try_from(n).map_err(|_| E::invalid_value(de::Unexpected::Other("an integer out of range"), &self))
        }
        fn visit_i64<E: de::Error>(self, n: i64) -> Result<T, E> {
            self.visit_i128(n.into())
        }
        fn visit_u64<E: de::Error>(self, n: u64) -> Result<T, E> {
            self.visit_i128(n.into())
        }
        fn visit_f64<E: de::Error>(self, n: f64) -> Result<T, E> {
            // Beyond 2^53 a float no longer says which integer it means.
            if n.fract() == 0.0 && n.abs() <= 9_007_199_254_740_992.0 {
                self.visit_i128(n as i128)
            } else {
                Err(E::invalid_value(de::Unexpected::Float(n), &self))
            }
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            let n: i128 = text.parse().map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))?;
            self.visit_i128(n)
        }
        fn visit_unit<E: de::Error>(self) -> Result<T, E> {
            Ok(T::default())
        }
    }

    d.deserialize_any(Visitor(PhantomData))
}

/// 64-bit integers travel as text.
pub(crate) fn quoted<T: fmt::Display, S: Serializer>(n: &T, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(n)
}

pub(crate) fn enum_out<E: Enumeration, S: Serializer>(number: &i32, s: S) -> Result<S::Ok, S::Error> {
    match E::NAMES.iter().find(|(_, n)| n == number) {
        Some((name, _)) => s.serialize_str(name),
        None => s.serialize_i32(*number),
    }
}

pub(crate) fn enum_in<'de, E: Enumeration, D: Deserializer<'de>>(d: D) -> Result<i32, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum NameOrNumber {
        Name(String),
        Number(i32),
        Null(()),
    }
    match NameOrNumber::deserialize(d)? {
        NameOrNumber::Number(number) => Ok(number),
        NameOrNumber::Null(()) => Ok(0),
        NameOrNumber::Name(name) => match E::NAMES.iter().find(|(n, _)| *n == name) {
            Some((_, number)) => Ok(*number),
            None => Err(de::Error::custom(format_args!("unknown enum value {name:?}"))),
        },
    }
}

/// Bytes: base64 in the standard alphabet with padding out; either alphabet, padded or not, in.
pub(crate) mod bytes {
    use base64::{
        Engine as _,
        alphabet::{STANDARD, URL_SAFE},
        engine::{DecodePaddingMode::Indifferent, GeneralPurpose, GeneralPurposeConfig, general_purpose},
    };
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new().with_decode_padding_mode(Indifferent);
    const ANY_STANDARD: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
    const ANY_URL_SAFE: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, LENIENT);

    pub(crate) fn serialize<S: Serializer>(bytes: &Bytes, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&general_purpose::STANDARD.encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Bytes, D::Error> {
        let text = Option::<String>::deserialize(d)?.unwrap_or_default();
        let engine = if text.contains(['-', '_']) { &ANY_URL_SAFE } else { &ANY_STANDARD };
        engine.decode(text).map(Bytes::from).map_err(|_| D::Error::custom("bytes that are not base64"))
    }
}
