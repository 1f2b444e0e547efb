//! Header values with parameters: `Content-Type` and `Content-Disposition`, read and written.

use std::fmt::Write;

use percent_encoding::percent_decode_str;

/// A value such as `form-data; name="file"; filename="a b"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    /// What stands first, in lower case.
    pub kind: String,
    /// Names in lower case, values without quotes, in order.
    list: Vec<(String, String)>,
}

impl Parameters {
    /// Reads a value. What makes no sense ends it; what was read until then counts.
    pub fn parse(text: &str) -> Self {
        let (kind, mut rest) = text.split_once(';').unwrap_or((text, ""));
        let mut list = Vec::new();
        while let Some((name, after)) = rest.split_once('=') {
            let name = name.trim_matches([' ', '\t', ';']).to_ascii_lowercase();
            let value;
            (value, rest) = match after.trim_start().strip_prefix('"') {
                Some(quoted) => unquote(quoted),
                None => after.split_once(';').map_or((after.trim().to_owned(), ""), |(value, rest)| (value.trim().to_owned(), rest)),
            };
            list.push((name, value));
        }
        Self { kind: kind.trim().to_ascii_lowercase(), list }
    }

    /// The first parameter of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.list.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The file name of a part of a form: `filename*` where it can be decoded, else `filename`, in which browsers and HTTP libraries
    /// write quotes and control characters in percent-encoding, and nothing else.
    pub fn filename(&self) -> Option<String> {
        self.get("filename*").and_then(extended).or_else(|| self.get("filename").map(unescape))
    }
}

/// The text up to the closing quote, and what follows. A backslash only escapes the characters that need it: file names of Windows
/// are sent with plain ones.
fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.push(chars.next_if(|(_, next)| is_special(*next)).map_or(c, |(_, escaped)| escaped)),
            _ => value.push(c),
        }
    }
    (value, "")
}

fn is_special(c: char) -> bool {
    matches!(c, '(' | ')' | '<' | '>' | '@' | ',' | ';' | ':' | '\\' | '"' | '/' | '[' | ']' | '?' | '=')
}

fn extended(value: &str) -> Option<String> {
    let (charset, rest) = value.split_once('\'')?;
    let (_language, text) = rest.split_once('\'')?;
    if !charset.eq_ignore_ascii_case("utf-8") {
        return None;
    }
    Some(percent_decode_str(text).decode_utf8().ok()?.into_owned())
}

fn unescape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = rest.find('%') {
        let digits = rest.get(at + 1..at + 3).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let code = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let escaped = code.filter(|code| *code == b'"' || code.is_ascii_control()).map(char::from);
        out.push_str(&rest[..at]);
        out.push(escaped.unwrap_or('%'));
        rest = &rest[at + if escaped.is_some() { 3 } else { 1 }..];
    }
    out + rest
}

/// The `Content-Disposition` of a download: the name plain where it is a token, quoted where it is ASCII, else percent-encoded.
pub fn inline(name: &str) -> String {
    if name.bytes().any(|byte| !matches!(byte, b' '..=b'~' | b'\t')) {
        let mut value = String::from("inline; filename*=utf-8''");
        for byte in name.bytes() {
            if byte.is_ascii_graphic() && !is_special(char::from(byte)) && !matches!(byte, b'*' | b'\'' | b'%') {
                value.push(char::from(byte));
            } else {
                // Writing to a string cannot fail.
                let _ = write!(value, "%{byte:02X}");
            }
        }
        value
    } else if !name.is_empty() && name.chars().all(|c| c.is_ascii_graphic() && !is_special(c)) {
        format!("inline; filename={name}")
    } else {
        format!("inline; filename=\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_come_out_as_clients_mean_them() {
        let table = [
            (r#"form-data; name="file"; filename="/dir/a b.txt""#, Some("/dir/a b.txt")),
            (r#"form-data; name="file"; filename="a%22b%0A%0d.txt""#, Some("a\"b\n\r.txt")),
            (r#"form-data; name="file"; filename="100%25%zz%+1%""#, Some("100%25%zz%+1%")),
            (r#"form-data; name="file"; filename="a\"b\\c""#, Some(r#"a"b\c"#)),
            (r#"form-data; name="file"; filename="C:\dir\f""#, Some(r"C:\dir\f")),
            (r#"form-data; name="file"; filename="ünï.txt""#, Some("ünï.txt")),
            (r#"form-data; name="file"; filename="a;b=c""#, Some("a;b=c")),
            ("Form-Data ; NAME=file;FILENAME=plain", Some("plain")),
            ("form-data; name=file; filename=fallback; filename*=UTF-8''%e2%82%ac%20.txt", Some("€ .txt")),
            ("form-data; name=file; filename=fallback; filename*=latin1''%e4", Some("fallback")),
            ("form-data; name=file; filename=fallback; filename*=utf-8''%ff", Some("fallback")),
            (r#"form-data; name="file""#, None),
            (r#"form-data; name="file"; filename="""#, Some("")),
            (r#"form-data; name="file"; filename="open"#, Some("open")),
        ];
        for (value, expected) in table {
            let parameters = Parameters::parse(value);
            assert_eq!(parameters.kind, "form-data", "{value}");
            assert_eq!(parameters.get("name"), Some("file"), "{value}");
            assert_eq!(parameters.filename().as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn downloads_are_named_in_three_ways() {
        let table = [
            ("hello.txt", "inline; filename=hello.txt"),
            ("it's_100%*", "inline; filename=it's_100%*"),
            ("a b.txt", r#"inline; filename="a b.txt""#),
            (r#"a"b\c"#, r#"inline; filename="a\"b\\c""#),
            ("a=b", r#"inline; filename="a=b""#),
            ("naïve €.txt", "inline; filename*=utf-8''na%C3%AFve%20%E2%82%AC.txt"),
            ("line\nbreak", "inline; filename*=utf-8''line%0Abreak"),
            ("ü'*%(", "inline; filename*=utf-8''%C3%BC%27%2A%25%28"),
        ];
        for (name, expected) in table {
            assert_eq!(inline(name), expected);
        }
    }

    proptest! {
        #[test]
        fn any_name_survives_the_way_out_and_in(name in "\\PC{1,40}") {
            let value = inline(&name);
            prop_assert!(http::HeaderValue::from_str(&value).is_ok());
            // What is quoted or plain has no percent-encoding to undo.
            let parsed = Parameters::parse(&value);
            let read = parsed.get("filename*").and_then(extended).or_else(|| parsed.get("filename").map(str::to_owned));
            prop_assert_eq!(read, Some(name));
        }

        #[test]
        fn no_text_is_too_strange(text in "\\PC*", escapes in "[%\\\\\";=' a-f0-9*]*") {
            Parameters::parse(&text).filename();
            Parameters::parse(&format!("form-data; filename=\"{escapes}\"; filename*={escapes}")).filename();
        }
    }
}
