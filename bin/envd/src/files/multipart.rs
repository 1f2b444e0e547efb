//! The parts of a `multipart/form-data` body, as they arrive.
//!
//! One fixed buffer holds what was read and not yet handed out, so memory does not depend on what is sent. The body of a part ends at
//! the delimiter, `CRLF--boundary` with `--`, a line end or blanks behind it; the text before the first delimiter is treated as
//! a part that nobody wants.
//!
//! ```text
//! buffer  ...| body | body or delimiter? |...
//!            ^start ^start+clear         ^end
//! ```

use std::io::{self, BufRead, Read};

use super::parameters::Parameters;

/// The longest boundary. The standard allows 70.
const LONGEST_BOUNDARY: usize = 200;
/// The most bytes that the headers of one part may have.
const LONGEST_HEAD: usize = 16 * 1024;
const BUFFER: usize = 64 * 1024;

/// Why a body is not a form.
#[derive(Debug, thiserror::Error)]
pub enum MultipartError {
    /// The boundary is empty or absurdly long.
    #[error("the multipart boundary must have 1 to {LONGEST_BOUNDARY} bytes")]
    Boundary,
    /// What follows a delimiter is neither a line end nor the end.
    #[error("malformed multipart delimiter")]
    Delimiter,
    /// A header line without a colon, or not UTF-8.
    #[error("malformed headers of a multipart part")]
    Head,
    /// More headers than anyone needs.
    #[error("the headers of a multipart part exceed {LONGEST_HEAD} bytes")]
    HeadTooLong,
    /// It broke off.
    #[error("reading the multipart body: {0}")]
    Read(io::Error),
}

/// A body that is being taken apart. As a reader it yields the body of the current part.
pub struct Multipart<R> {
    source: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// So many bytes from `start` on belong to the part for sure.
    clear: usize,
    delimiter: Vec<u8>,
    /// By its last byte, how far a window of the delimiter's length may move on.
    skips: [u8; 256],
    place: Place,
}

#[derive(PartialEq)]
enum Place {
    Body,
    Delimiter,
    End,
}

impl<R: Read> Multipart<R> {
    /// Takes `source` apart at `boundary`.
    pub fn new(source: R, boundary: &str) -> Result<Self, MultipartError> {
        if !(1..=LONGEST_BOUNDARY).contains(&boundary.len()) {
            return Err(MultipartError::Boundary);
        }
        let delimiter = format!("\r\n--{boundary}").into_bytes();
        let length = delimiter.len() as u8;
        let mut skips = [length; 256];
        for (at, byte) in (1..).zip(&delimiter[..delimiter.len() - 1]) {
            skips[usize::from(*byte)] = length - at;
        }
        let mut buffer = vec![0; BUFFER].into_boxed_slice();
        // As if a line ended there: then the first delimiter is like all others.
        buffer[..2].copy_from_slice(b"\r\n");
        Ok(Self { source, buffer, start: 0, end: 2, clear: 0, delimiter, skips, place: Place::Body })
    }

    /// Goes on to the next part, past what is left of the current one, and returns its `Content-Disposition`.
    pub fn next_part(&mut self) -> Result<Option<Parameters>, MultipartError> {
        loop {
            let left = self.fill_buf().map_err(MultipartError::Read)?.len();
            if left == 0 {
                break;
            }
            self.consume(left);
        }
        if self.place == Place::End {
            return Ok(None);
        }
        self.start += self.delimiter.len();
        let padding = self.head(|window| window.iter().position(|byte| !matches!(byte, b' ' | b'\t')))?;
        self.start += padding;
        let line = self.head(|window| (window.len() >= 2).then_some(*window.first_chunk()?))?;
        match &line {
            b"--" => {
                self.place = Place::End;
                return Ok(None);
            }
            b"\r\n" => {}
            _ => return Err(MultipartError::Delimiter),
        }
        // The line end of the delimiter also serves as the one before an empty head.
        let length = self.head(|window| window.windows(4).position(|bytes| bytes == b"\r\n\r\n"))?;
        let head = std::str::from_utf8(&self.buffer[self.start..self.start + length]).map_err(|_| MultipartError::Head)?;
        let mut disposition = Parameters::parse("");
        for line in head.split("\r\n").filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').ok_or(MultipartError::Head)?;
            if name.trim().eq_ignore_ascii_case("content-disposition") {
                disposition = Parameters::parse(value);
            }
        }
        self.start += length + 4;
        self.place = Place::Body;
        Ok(Some(disposition))
    }

    /// Reads on until `find` finds something in what is unread, which must be soon.
    fn head<T>(&mut self, find: impl Fn(&[u8]) -> Option<T>) -> Result<T, MultipartError> {
        loop {
            // What is there beyond the limit does not count: an answer must not depend on how much arrived at once.
            let window = &self.buffer[self.start..self.end.min(self.start + LONGEST_HEAD)];
            if let Some(found) = find(window) {
                return Ok(found);
            }
            if window.len() == LONGEST_HEAD {
                return Err(MultipartError::HeadTooLong);
            }
            self.fill().map_err(MultipartError::Read)?;
        }
    }

    /// Reads more behind what is unread. The end of the source is an error: a form says itself where it ends.
    fn fill(&mut self) -> io::Result<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        match self.source.read(&mut self.buffer[self.end..]) {
            Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ends before its last delimiter")),
            Ok(read) => {
                self.end += read;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Where the delimiter is in what is unread, or where it could begin with its end still to come.
    fn search(&self) -> usize {
        let window = &self.buffer[self.start..self.end];
        let length = self.delimiter.len();
        let mut at = 0;
        while let Some(here) = window.get(at..at + length) {
            if here == self.delimiter {
                return at;
            }
            at += usize::from(self.skips[usize::from(here[length - 1])]);
        }
        // Nothing before `at` begins a delimiter: so says the last skip.
        (at..window.len()).find(|at| self.delimiter.starts_with(&window[*at..])).unwrap_or(window.len())
    }
}

impl<R: Read> Read for Multipart<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(out)?;
        self.consume(read);
        Ok(read)
    }
}

impl<R: Read> BufRead for Multipart<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.place == Place::Body && self.clear == 0 {
            self.clear = self.search();
            if self.clear > 0 {
                break;
            }
            // The two bytes behind the delimiter tell whether it is one.
            match self.buffer[self.start..self.end].get(self.delimiter.len()..self.delimiter.len() + 2) {
                None => self.fill()?,
                Some(b"--" | b"\r\n" | [b' ' | b'\t', _]) => self.place = Place::Delimiter,
                // It is a line of the part, and no delimiter begins within it.
                Some(_) => self.clear = self.delimiter.len(),
            }
        }
        Ok(&self.buffer[self.start..self.start + self.clear])
    }

    fn consume(&mut self, amount: usize) {
        let amount = amount.min(self.clear);
        self.start += amount;
        self.clear -= amount;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A reader that yields its bytes in pieces of the given sizes, over and over.
    struct Pieces<'a> {
        bytes: &'a [u8],
        sizes: std::iter::Cycle<std::vec::IntoIter<usize>>,
    }

    impl Read for Pieces<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let size = self.sizes.next().unwrap_or(1).min(out.len()).min(self.bytes.len());
            out[..size].copy_from_slice(&self.bytes[..size]);
            self.bytes = &self.bytes[size..];
            Ok(size)
        }
    }

    type Parts = Vec<(Option<String>, Vec<u8>)>;

    fn parse(bytes: &[u8], boundary: &str, sizes: Vec<usize>) -> Result<Parts, MultipartError> {
        let mut form = Multipart::new(Pieces { bytes, sizes: sizes.into_iter().cycle() }, boundary)?;
        let mut parts = Vec::new();
        while let Some(disposition) = form.next_part()? {
            let mut body = Vec::new();
            form.read_to_end(&mut body).map_err(MultipartError::Read)?;
            parts.push((disposition.get("name").map(str::to_owned), body));
        }
        Ok(parts)
    }

    fn write(parts: &[(&str, Vec<u8>)], boundary: &str) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, body) in parts {
            out.extend(format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n").into_bytes());
            out.extend(body);
            out.extend(b"\r\n");
        }
        out.extend(format!("--{boundary}--\r\n").into_bytes());
        out
    }

    #[test]
    fn parts_come_in_order_with_their_bytes() {
        let body =
            b"preamble\r\n--b \t\r\ncontent-disposition: form-data; name=\"one\"\r\nX: y\r\n\r\nfirst\r\n\r\n--b\r\n\r\nbare\r\n--b\r\n\
            Content-Disposition: form-data; name=two\r\n\r\n\r\n--b-- epilogue";
        let parts = parse(body, "b", vec![1]).unwrap();
        let expected = [(Some("one".into()), b"first\r\n".to_vec()), (None, b"bare".to_vec()), (Some("two".into()), Vec::new())];
        assert_eq!(parts, expected);
        assert_eq!(parse(b"--b--", "b", vec![9]).unwrap(), []);
    }

    #[test]
    fn what_only_looks_like_a_delimiter_is_content() {
        let tricky = b"\r\n--bound\r\n-boundary\r\n--boundaryX\r\n--boundary-\r\r\n\r\r\n--boundar\r\n--boundary\r\r\n-".to_vec();
        for sizes in [vec![1], vec![2, 3], vec![1000]] {
            let parts = parse(&write(&[("file", tricky.clone())], "boundary"), "boundary", sizes).unwrap();
            assert_eq!(parts, [(Some("file".into()), tricky.clone())]);
        }
    }

    #[test]
    fn unread_parts_are_passed_over() {
        let bytes = write(&[("a", vec![b'a'; 3 * BUFFER]), ("b", b"end".to_vec())], "xyz");
        let mut form = Multipart::new(&bytes[..], "xyz").unwrap();
        assert_eq!(form.next_part().unwrap().unwrap().get("name"), Some("a"));
        assert_eq!(form.next_part().unwrap().unwrap().get("name"), Some("b"));
        assert!(form.next_part().unwrap().is_none());
        assert!(form.next_part().unwrap().is_none());
    }

    #[test]
    fn broken_forms_are_refused_whole() {
        let error = |bytes: &[u8]| parse(bytes, "b", vec![7]).unwrap_err();
        for short in
            ["", "--", "--b", "--b-", "--b\r\n", "--b\r\nA: b", "--b\r\nA: b\r\n\r\nbody", "--b\r\nA: b\r\n\r\nbody\r\n--b", "no delimiter"]
        {
            assert!(matches!(error(short.as_bytes()), MultipartError::Read(_)), "{short:?}");
        }
        assert!(matches!(error(b"--b x\r\n"), MultipartError::Delimiter));
        assert!(matches!(error(b"--b\r\nno colon\r\n\r\n"), MultipartError::Head));
        assert!(matches!(error(b"--b\r\nA: \xff\r\n\r\n"), MultipartError::Head));
        let long = format!("--b\r\nA: {}\r\n\r\n", "x".repeat(2 * LONGEST_HEAD));
        assert!(matches!(error(long.as_bytes()), MultipartError::HeadTooLong));
        let whole = parse(long.as_bytes(), "b", vec![long.len()]).unwrap_err();
        assert!(matches!(whole, MultipartError::HeadTooLong), "however much arrives at once");
        let padded = format!("--b{}\r\n\r\n", " ".repeat(2 * LONGEST_HEAD));
        assert!(matches!(error(padded.as_bytes()), MultipartError::HeadTooLong));
        for boundary in [String::new(), "b".repeat(LONGEST_BOUNDARY + 1)] {
            assert!(matches!(parse(b"", &boundary, vec![1]), Err(MultipartError::Boundary)));
        }
    }

    proptest! {
        /// Bodies of the characters that delimiters are made of, in every split.
        #[test]
        fn any_split_gives_the_same_parts(
            bodies in prop::collection::vec("(\r\n|\r|\n|-|--|a|ab|\r\n--a|\r\n--ab){0,12}", 0..5),
            sizes in prop::collection::vec(1_usize..20, 1..8),
        ) {
            let boundary = "abab";
            // No content may hold the delimiter itself; that is what a boundary is chosen for.
            let bodies: Vec<_> = bodies.into_iter().map(|body| body.replace("--abab", "--aba").into_bytes()).collect();
            let parts: Vec<_> = bodies.into_iter().map(|body| ("n", body)).collect();
            let expected: Parts = parts.iter().map(|(name, body)| (Some((*name).to_owned()), body.clone())).collect();
            prop_assert_eq!(parse(&write(&parts, boundary), boundary, sizes).unwrap(), expected);
        }

        /// Whatever arrives, it is parsed or refused, the same in every split.
        #[test]
        fn hostile_bytes_never_panic(
            text in "(\r\n|--b|b|-| |:|content-disposition|name=|\"|x){0,40}",
            sizes in prop::collection::vec(1_usize..9, 1..4),
        ) {
            let whole = parse(text.as_bytes(), "b", vec![usize::MAX]).map_err(|error| error.to_string());
            prop_assert_eq!(parse(text.as_bytes(), "b", sizes).map_err(|error| error.to_string()), whole);
        }
    }
}
