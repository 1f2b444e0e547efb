//! An input, read field by field.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};

/// What is not read yet.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// The next line, without its end.
    pub fn line(&mut self) -> &'a [u8] {
        let end = self.0.iter().position(|byte| *byte == b'\n').unwrap_or(self.0.len());
        let line = &self.0[..end];
        self.0 = self.0.get(end + 1..).unwrap_or_default();
        line
    }

    /// The next line as text.
    pub fn text(&mut self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.line())
    }

    /// Lines of the form `name: value` up to an empty one. What cannot be a header is passed over, as no server lets it through.
    pub fn headers(&mut self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        while !self.0.is_empty() {
            let line = self.line();
            if line.is_empty() {
                break;
            }
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
            let name = HeaderName::from_bytes(line[..colon].trim_ascii());
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii())) {
                headers.append(name, value);
            }
        }
        headers
    }

    /// The next line says how the rest arrives: each letter is a piece of so many bytes, `a` of one, over and over; nothing means whole.
    pub fn pieces(mut self) -> Vec<&'a [u8]> {
        let sizes = self.line();
        let Self(mut rest) = self;
        let mut pieces = Vec::new();
        let mut sizes = sizes.iter().map(|letter| usize::from(letter & 31).max(1)).cycle();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(sizes.next().unwrap_or(rest.len()).min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        pieces
    }
}
