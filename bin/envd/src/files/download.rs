//! `GET /files`: one file, whole or a part of it, as it is or compressed on the way.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::UNIX_EPOCH,
};

use atoll_sys::fs::NONBLOCK;
use atoll_wire::body::{self, Body, Sender};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header, request::Parts};

use super::{
    Refusal, TRANSFERS, admit, base_name, blocking,
    conditions::{self, Wanted},
    encoding::{self, Encoding},
    gzip::Gzip,
    media, parameters, resolve, user_of,
};
use crate::{signature::Operation, state::Context};

/// How much is read at once.
const CHUNK: usize = 64 * 1024;
/// How many chunks wait for a slow client.
const QUEUE: usize = 4;
/// How much is compressed for every client that takes it. Of what follows, only what a client is too slow for as it is: buffers on the
/// way make every network look fast in the beginning.
const SQUEEZED: usize = 4 << 20;

/// Answers the request.
pub async fn get(context: Context, request: Request<Body>) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let query = match admit(&context, &parts, Operation::Read) {
        Ok(query) => query,
        Err(refused) => return refused,
    };
    let answer = blocking(move || {
        let user = user_of(&context, query.username.as_deref())?;
        let path = resolve(&context, query.path.as_deref().unwrap_or_default(), &user)?;
        open(&path, &parts)
    });
    answer.await.unwrap_or_else(Refusal::into_response)
}

/// Opens the file and answers with it; what does not fit the first chunk is read by a thread of its own.
fn open(path: &Path, parts: &Parts) -> Result<Response<Body>, Refusal> {
    let shown = path.display();
    let found = fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Refusal::new(StatusCode::NOT_FOUND, format!("path '{shown}' does not exist")),
        _ => Refusal::disk(format!("error checking path '{shown}'"), &error),
    })?;
    if found.is_dir() {
        return Err(Refusal::bad(format!("path '{shown}' is a directory")));
    }
    let encoding = encoding::negotiate(&parts.headers, conditions::needs_identity(&parts.headers))
        .ok_or_else(|| Refusal::new(StatusCode::NOT_ACCEPTABLE, "none of the accepted encodings is available"))?;
    let file = File::options()
        .read(true)
        .custom_flags(NONBLOCK)
        .open(path)
        .map_err(|error| Refusal::disk(format!("error opening file '{shown}'"), &error))?;
    let name = path.to_string_lossy();
    let name = base_name(&name);
    let mut response = match encoding {
        Encoding::Gzip => compressed(file, name),
        Encoding::Identity => {
            plain(file, &found, name, &parts.headers).map_err(|error| Refusal::disk(format!("error reading file '{shown}'"), &error))?
        }
    };
    set(&mut response, header::VARY, "Accept-Encoding");
    set(&mut response, header::CONTENT_DISPOSITION, &parameters::inline(name));
    Ok(response)
}

fn compressed(mut file: File, name: &str) -> Response<Body> {
    let mut response = stream(move |mut out| {
        let (mut gzip, head) = Gzip::new();
        out.send(head)?;
        let mut read = 0;
        let mut outrun = false;
        loop {
            let chunk = next_chunk(&mut file, u64::MAX)?;
            if chunk.is_empty() {
                return out.send(gzip.end());
            }
            read += chunk.len();
            let bytes = gzip.chunk(&chunk, read <= SQUEEZED || !outrun)?;
            outrun = out.is_idle();
            out.send(bytes)?;
        }
    });
    set(&mut response, header::CONTENT_ENCODING, "gzip");
    set(&mut response, header::CONTENT_TYPE, media::by_extension(name).unwrap_or(media::UNKNOWN));
    response
}

fn plain(mut file: File, found: &Metadata, name: &str, headers: &HeaderMap) -> io::Result<Response<Body>> {
    let size = found.len();
    let modified = found.modified().unwrap_or(UNIX_EPOCH);
    let mut response = match conditions::decide(headers, modified, size) {
        Wanted::Unchanged => body::status(StatusCode::NOT_MODIFIED),
        Wanted::Failed => body::status(StatusCode::PRECONDITION_FAILED),
        Wanted::Unsatisfiable => {
            let mut response = Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, "invalid range").into_response();
            set(&mut response, header::CONTENT_RANGE, &format!("bytes */{size}"));
            response
        }
        Wanted::Part { start, length } => {
            let media = match media::by_extension(name) {
                Some(media) => media,
                None => media::sniff(&next_chunk(&mut file, media::SNIFFED as u64)?),
            };
            file.seek(SeekFrom::Start(start))?;
            let first = next_chunk(&mut file, length)?;
            let mut response = rest_of(file, first, Some(length));
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            set(&mut response, header::CONTENT_RANGE, &format!("bytes {start}-{}/{size}", start + length - 1));
            set(&mut response, header::CONTENT_TYPE, media);
            response
        }
        Wanted::Whole => {
            // Files of /proc say that they are empty, and are not; those of /sys say that they are a page. Only reading tells.
            let first = next_chunk(&mut file, if size == 0 { u64::MAX } else { size })?;
            let media = media::by_extension(name).unwrap_or_else(|| media::sniff(&first));
            let read = first.len() as u64;
            let length = if read < CHUNK as u64 { Some(read) } else { Some(size).filter(|size| *size > 0) };
            let mut response = rest_of(file, first, length);
            set(&mut response, header::CONTENT_TYPE, media);
            response
        }
    };
    set(&mut response, header::ACCEPT_RANGES, "bytes");
    if let Some(date) = conditions::http_date(modified) {
        set(&mut response, header::LAST_MODIFIED, &date);
    }
    Ok(response)
}

/// Reads up to a chunk: less only at the end of the file or at `limit`.
fn next_chunk(file: &mut File, limit: u64) -> io::Result<Vec<u8>> {
    let limit = limit.min(CHUNK as u64);
    let mut chunk = Vec::with_capacity(limit as usize);
    file.take(limit).read_to_end(&mut chunk)?;
    Ok(chunk)
}

/// A response of `length` bytes, `first` and what follows it in the file; without a length, up to the end.
fn rest_of(mut file: File, first: Vec<u8>, length: Option<u64>) -> Response<Body> {
    let mut left = length.map_or(u64::MAX, |length| length.saturating_sub(first.len() as u64));
    let mut response = if left == 0 {
        Response::new(body::full(first))
    } else {
        stream(move |mut out| {
            let mut chunk = first;
            while !chunk.is_empty() {
                out.send(chunk)?;
                chunk = next_chunk(&mut file, left)?;
                left -= chunk.len() as u64;
            }
            // Shorter than promised: the client must not take it for complete.
            if length.is_some() && left > 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
        })
    };
    if let Some(length) = length {
        set(&mut response, header::CONTENT_LENGTH, &length.to_string());
    }
    response
}

/// A response whose body a thread writes. It ends when the client goes, for then nobody takes the next chunk.
fn stream(write: impl FnOnce(Chunks) -> io::Result<()> + Send + 'static) -> Response<Body> {
    let (sender, body) = body::channel(QUEUE);
    tokio::spawn(async move {
        let _turn = TRANSFERS.acquire().await;
        let work = move || {
            if let Err(error) = write(Chunks(sender.clone())) {
                sender.blocking_fail(error.into());
            }
        };
        // Were the thread to die, the body would break off, and that is what the client must see.
        let _ = tokio::task::spawn_blocking(work).await;
    });
    Response::new(body)
}

/// The body as its writer sees it.
struct Chunks(Sender);

impl Chunks {
    fn send(&mut self, chunk: Vec<u8>) -> io::Result<()> {
        self.0.blocking_send(chunk.into()).map_err(|closed| io::Error::new(io::ErrorKind::BrokenPipe, closed))
    }

    /// Whether the client has taken everything, and waits.
    fn is_idle(&self) -> bool {
        self.0.is_idle()
    }
}

fn set(response: &mut Response<Body>, name: HeaderName, value: &str) {
    let value = HeaderValue::from_str(value).expect("media types, dates, numbers and encoded names are ASCII without controls");
    response.headers_mut().insert(name, value);
}
