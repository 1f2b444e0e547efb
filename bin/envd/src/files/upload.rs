//! `POST /files`: files as one raw body or as the `file` parts of a form.
//!
//! The connection hands its chunks to a thread that decodes, takes the form apart and writes, each step a reader over the one below.
//! A refusal does not leave the client mid-sentence: what it still sends is read and dropped, so that it gets to read the answer.

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::fs::{OpenOptionsExt, chown, fchown},
    path::Path,
};

use atoll_sys::fs::NONBLOCK;
use atoll_wire::{
    body::{self, Body},
    envd::FileInfo,
};
use bytes::{Buf, Bytes};
use flate2::bufread::MultiGzDecoder;
use http::{HeaderMap, HeaderName, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use tokio::sync::mpsc;

use super::{
    Refusal, TRANSFERS, admit, base_name, blocking,
    metadata::{self, Metadata},
    multipart::{Multipart, MultipartError},
    parameters::Parameters,
    query::Query,
    resolve, user_of,
};
use crate::{paths, signature::Operation, state::Context, users::User};

/// How many chunks wait for a slow disk.
const QUEUE: usize = 4;
const DECODED: usize = 64 * 1024;

/// Answers the request.
pub async fn post(context: Context, request: Request<Body>) -> Response<Body> {
    let (parts, mut body) = request.into_parts();
    let query = match admit(&context, &parts, Operation::Write) {
        Ok(query) => query,
        Err(refused) => {
            while let Some(Ok(_)) = body.frame().await {}
            return refused;
        }
    };
    let _turn = TRANSFERS.acquire().await;
    let (sender, chunks) = mpsc::channel(QUEUE);
    let incoming = Incoming { chunks, current: Bytes::new(), whole: false };
    let work = blocking(move || receive(&context, &query, &parts.headers, incoming));
    let feed = async {
        let whole = loop {
            match body.frame().await {
                // When nobody takes a chunk, the rest is only read.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(chunk) => drop(sender.send(Some(chunk)).await),
                    Err(_trailers) => {}
                },
                Some(Err(_)) => break false,
                None => break true,
            }
        };
        if whole {
            drop(sender.send(None).await);
        }
        drop(sender);
    };
    let (answer, ()) = tokio::join!(work, feed);
    match answer {
        Ok(files) => body::json(StatusCode::OK, &files),
        Err(refusal) => refusal.into_response(),
    }
}

/// What every file of one request has in common.
struct Upload {
    user: User,
    metadata: Metadata,
}

fn receive(context: &Context, query: &Query, headers: &HeaderMap, incoming: Incoming) -> Result<Vec<FileInfo>, Refusal> {
    let mut body = decode(headers, incoming)?;
    let user = user_of(context, query.username.as_deref())?;
    let metadata = metadata::from_headers(headers).map_err(Refusal::bad)?;
    let media = Parameters::parse(text(headers, header::CONTENT_TYPE));
    let upload = Upload { user, metadata };
    match media.kind.as_str() {
        "application/octet-stream" => {
            let path = query.path.as_deref().ok_or_else(|| Refusal::bad("query parameter 'path' is required for a raw upload"))?;
            Ok(vec![upload.write(&resolve(context, path, &upload.user)?, &mut body)?])
        }
        "multipart/form-data" | "multipart/mixed" => upload.write_form(context, query, &media, body),
        kind if kind.starts_with("multipart/") => {
            Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, format!("error parsing multipart form: '{kind}' is no form")))
        }
        kind => Err(Refusal::bad(format!("unsupported content type '{kind}': send application/octet-stream or multipart/form-data"))),
    }
}

/// The body without its content encoding.
fn decode(headers: &HeaderMap, incoming: Incoming) -> Result<Box<dyn BufRead>, Refusal> {
    match text(headers, header::CONTENT_ENCODING).trim().to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(Box::new(incoming)),
        "gzip" => {
            let mut decoded = BufReader::with_capacity(DECODED, MultiGzDecoder::new(incoming));
            decoded.fill_buf().map_err(|error| Refusal::bad(format!("invalid gzip body: {error}")))?;
            Ok(Box::new(decoded))
        }
        other => Err(Refusal::bad(format!("unsupported content encoding '{other}'"))),
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

impl Upload {
    /// Writes the `file` parts of a form, each where the query or its own file name says. Those written before a refusal stay.
    fn write_form(&self, context: &Context, query: &Query, media: &Parameters, body: impl Read) -> Result<Vec<FileInfo>, Refusal> {
        let refuse = |error: MultipartError| match error {
            MultipartError::Boundary => Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error),
            _ => Refusal::bad(error),
        };
        let destination = query.path.as_deref().filter(|path| !path.is_empty());
        let mut form = Multipart::new(body, media.get("boundary").unwrap_or_default()).map_err(refuse)?;
        let mut files = Vec::new();
        let mut written = HashSet::new();
        while let Some(disposition) = form.next_part().map_err(refuse)? {
            if disposition.get("name") != Some("file") {
                continue;
            }
            let filename = disposition.filename().filter(|name| !name.is_empty());
            let path = match (destination, &filename) {
                (Some(_), _) if !files.is_empty() => {
                    return Err(Refusal::bad("more than one file in a request whose 'path' names one destination"));
                }
                (Some(path), _) => path,
                (None, Some(name)) => name,
                (None, None) => return Err(Refusal::bad("a part has no file name and the request has no 'path'")),
            };
            let path = resolve(context, path, &self.user)?;
            if !written.insert(path.clone()) {
                return Err(Refusal::bad(format!("more than one file for path '{}'", path.display())));
            }
            files.push(self.write(&path, &mut form)?);
        }
        Ok(files)
    }

    /// Writes one file: made or emptied first, so a failure leaves what was written until then.
    fn write(&self, path: &Path, body: &mut impl BufRead) -> Result<FileInfo, Refusal> {
        let shown = path.display();
        let refuse = |deed: &str, error: io::Error| Refusal::disk(format!("error {deed} '{shown}'"), &error);
        paths::ensure_parents(path, &self.user).map_err(|error| refuse("creating directories for", error))?;
        let exists = match fs::metadata(path) {
            Ok(found) if found.is_dir() => return Err(Refusal::bad(format!("path '{shown}' is a directory"))),
            Ok(_) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(refuse("checking", error)),
        };
        let (uid, gid) = (Some(self.user.uid), Some(self.user.gid));
        if exists {
            chown(path, uid, gid).map_err(|error| refuse("changing the owner of", error))?;
        }
        let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o666).custom_flags(NONBLOCK).open(path);
        let mut file = opened.map_err(|error| refuse("opening", error))?;
        if !exists {
            fchown(&file, uid, gid).map_err(|error| refuse("changing the owner of", error))?;
        }
        copy(body, &mut file, |error| refuse("writing", error))?;
        metadata::replace(path, &self.metadata).map_err(|error| refuse("attaching metadata to", error))?;
        Ok(file_info(path))
    }
}

/// What the client is told about a file that was written.
pub fn file_info(path: &Path) -> FileInfo {
    let text = path.to_string_lossy();
    FileInfo { name: base_name(&text).to_owned(), metadata: metadata::read(path), r#type: "file".into(), path: text.into_owned() }
}

fn copy(body: &mut impl BufRead, file: &mut File, refuse: impl Fn(io::Error) -> Refusal) -> Result<(), Refusal> {
    loop {
        let chunk = body.fill_buf().map_err(|error| Refusal::bad(format!("error reading the request body: {error}")))?;
        if chunk.is_empty() {
            return Ok(());
        }
        file.write_all(chunk).map_err(&refuse)?;
        let length = chunk.len();
        body.consume(length);
    }
}

/// The request's body as a reader. A client that breaks off is an error, not an end.
struct Incoming {
    /// The chunks, and `None` when they were all.
    chunks: mpsc::Receiver<Option<Bytes>>,
    current: Bytes,
    whole: bool,
}

impl Read for Incoming {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(out)?;
        self.consume(read);
        Ok(read)
    }
}

impl BufRead for Incoming {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() && !self.whole {
            match self.chunks.blocking_recv() {
                Some(Some(chunk)) => self.current = chunk,
                Some(None) => self.whole = true,
                None => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the client broke off")),
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, amount: usize) {
        self.current.advance(amount);
    }
}
