//! Uploads as forms.

use std::io::{self, Read};

use envd::files::{
    multipart::{Multipart, MultipartError},
    parameters::Parameters,
};
use http::HeaderValue;

use crate::input::Input;

/// The name, the file name and the body of each part.
type Parts = Vec<(Option<String>, Option<String>, Vec<u8>)>;

/// Line 1: the boundary. Line 2: pieces of the rest, the body.
///
/// However it is cut, the parts are those that the grammar says, found here by looking at the whole.
pub fn files_multipart(bytes: &[u8]) {
    let mut input = Input(bytes);
    let boundary = input.text();
    // It comes out of a header.
    if HeaderValue::from_str(&boundary).is_err() {
        return;
    }
    let pieces = input.pieces();
    let whole = pieces.concat();
    let parsed = parse(pieces, &boundary);
    assert_eq!(parsed.as_ref().ok(), parse(vec![&whole], &boundary).ok().as_ref());
    if (1..=200).contains(&boundary.len()) {
        assert_eq!(parsed.ok(), by_grammar(&whole, &boundary));
    } else {
        assert!(matches!(parsed, Err(MultipartError::Boundary)));
    }
}

/// Line 1: the boundary. Then parts, divided by `|`: a line with the name, one with the file name, the body.
///
/// A form that is made of them is taken apart into the same.
pub fn files_form(bytes: &[u8]) {
    let mut input = Input(bytes);
    let boundary: String = input.text().chars().filter(char::is_ascii_alphanumeric).take(70).collect();
    let delimiter = format!("\r\n--{boundary}").into_bytes();
    let (mut form, mut parts) = (Vec::new(), Parts::new());
    for part in input.0.split(|byte| *byte == b'|') {
        let mut part = Input(part);
        // What quoting and escapes make of other characters is the business of `files_headers`.
        let mut name = || part.text().chars().filter(|c| !c.is_control() && !matches!(c, '"' | '\\' | '%')).collect::<String>();
        let (name, filename) = (name(), name());
        let framed = [b"\r\n", part.0, b"\r\n--"].concat();
        if boundary.is_empty() || framed.windows(delimiter.len()).any(|window| window == delimiter) {
            return;
        }
        let head = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{filename}\"\r\n\r\n");
        form.extend([head.as_bytes(), part.0, b"\r\n"].concat());
        parts.push((Some(name), Some(filename), part.0.to_vec()));
    }
    form.extend(format!("--{boundary}--\r\n").as_bytes());
    assert_eq!(parse(form.chunks(7).collect(), &boundary).expect("a form"), parts);
    assert_eq!(parse(vec![&form], &boundary).expect("a form"), parts);
}

/// A reader that yields one piece after the other.
struct Pieces<'a>(Vec<&'a [u8]>);

impl Read for Pieces<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let Some(piece) = self.0.last_mut() else { return Ok(0) };
        let read = piece.read(out)?;
        if piece.is_empty() {
            self.0.pop();
        }
        Ok(read)
    }
}

fn parse(mut pieces: Vec<&[u8]>, boundary: &str) -> Result<Parts, MultipartError> {
    pieces.retain(|piece| !piece.is_empty());
    pieces.reverse();
    let mut form = Multipart::new(Pieces(pieces), boundary)?;
    let mut parts = Parts::new();
    while let Some(disposition) = form.next_part()? {
        let mut body = Vec::new();
        form.read_to_end(&mut body).map_err(MultipartError::Read)?;
        parts.push((disposition.get("name").map(str::to_owned), disposition.filename(), body));
    }
    Ok(parts)
}

/// The parts of a body; nothing if it is no form.
fn by_grammar(body: &[u8], boundary: &str) -> Option<Parts> {
    let text = [b"\r\n", body].concat();
    let delimiter = format!("\r\n--{boundary}").into_bytes();
    let find = |from: usize, what: &[u8]| text[from..].windows(what.len()).position(|window| window == what).map(|at| from + at);
    let next = |mut from: usize| loop {
        let at = find(from, &delimiter)?;
        match text.get(at + delimiter.len()..at + delimiter.len() + 2)? {
            b"--" | b"\r\n" | [b' ' | b'\t', _] => return Some(at),
            _ => from = at + 1,
        }
    };
    let mut parts = Parts::new();
    let mut at = next(0)?;
    loop {
        at += delimiter.len();
        at += text[at..].iter().position(|byte| !matches!(byte, b' ' | b'\t'))?;
        match text.get(at..at + 2)? {
            b"--" => return Some(parts),
            b"\r\n" => {}
            _ => return None,
        }
        let end = find(at, b"\r\n\r\n")?;
        let mut disposition = Parameters::parse("");
        for line in std::str::from_utf8(&text[at..end]).ok()?.split("\r\n").filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':')?;
            if name.trim().eq_ignore_ascii_case("content-disposition") {
                disposition = Parameters::parse(value);
            }
        }
        at = next(end + 4)?;
        parts.push((disposition.get("name").map(str::to_owned), disposition.filename(), text[end + 4..at].to_vec()));
    }
}
