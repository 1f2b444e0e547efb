//! One client, sending byte for byte what the Python SDK 2.63 sends, over connections that it keeps open.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::http::Connection;

const ENVD_PORT: u16 = 49983;
/// Marks the last message of a stream.
const END_OF_STREAM: u8 = 2;
/// What an upload sends at a time, as the SDKs do.
const UPLOAD_PIECE: usize = 64 << 10;
const BOUNDARY: &str = "8406f49e8618204e904356b7c876f526";

/// Where a daemon answers.
#[derive(Debug, Clone)]
pub struct Place {
    pub api: SocketAddr,
    pub proxy: SocketAddr,
    pub key: Arc<str>,
}

/// A sandbox that was created.
#[derive(Debug, Clone)]
pub struct Sandbox {
    pub id: String,
    pub token: String,
}

/// A client with a connection to the API and one to the sandboxes.
pub struct Client {
    place: Place,
    api: Connection,
    sandboxes: Connection,
}

/// What a command did.
pub struct Ran {
    /// From the request to the first byte of output, if there was any.
    pub first_output: Option<Duration>,
    /// From the request to the end.
    pub whole: Duration,
    /// What it wrote to standard output.
    pub output: Vec<u8>,
}

impl Client {
    /// Connects to both.
    pub async fn connect(place: &Place) -> Result<Self> {
        let (api, sandboxes) = (Connection::open(place.api).await?, Connection::open(place.proxy).await?);
        Ok(Self { place: place.clone(), api, sandboxes })
    }

    /// The same client, but with `address` in place of the proxy: an `envd` that is reached directly.
    pub async fn directly(place: &Place, address: SocketAddr) -> Result<Self> {
        Self::connect(&Place { proxy: address, ..place.clone() }).await
    }

    /// What it talks to.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Creates a sandbox.
    pub async fn create(&mut self) -> Result<Sandbox> {
        let answer = self.call("POST", "/v2/sandboxes", r#"{"templateID":"base","metadata":{},"envVars":{}}"#, 201).await?;
        let text = |name: &str| answer[name].as_str().map(str::to_owned).with_context(|| format!("the answer has no `{name}`"));
        Ok(Sandbox { id: text("sandboxID")?, token: text("envdAccessToken")? })
    }

    /// Kills a sandbox.
    pub async fn kill(&mut self, sandbox: &Sandbox) -> Result<()> {
        self.call("DELETE", &format!("/sandboxes/{}", sandbox.id), "", 204).await.map(drop)
    }

    /// The IDs of the running sandboxes.
    pub async fn list(&mut self) -> Result<Vec<String>> {
        let (mut ids, mut next) = (Vec::new(), String::new());
        loop {
            let head = self.api_head("GET", &format!("/v2/sandboxes?limit=100{next}"), "");
            let answer = self.api.ask(head.as_bytes()).await?;
            ensure!(answer.status == 200, "the list was answered with {}", answer.status);
            let page: Vec<Value> = serde_json::from_slice(&self.api.body().await?)?;
            ids.extend(page.iter().filter_map(|sandbox| sandbox["sandboxID"].as_str()).map(str::to_owned));
            match answer.next_token {
                Some(token) => next = format!("&nextToken={token}"),
                None => return Ok(ids),
            }
        }
    }

    fn api_head(&self, method: &str, path: &str, body: &str) -> String {
        let kind = match body {
            "" => String::new(),
            body => format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len()),
        };
        format!(
            "{method} {path} HTTP/1.1\r\naccept: */*\r\naccept-encoding: gzip, deflate\r\nlang: python\r\nlang_version: 3.11.7\r\n\
             package_version: 2.63.0\r\npublisher: e2b\r\nsdk_runtime: python\r\nsystem: Linux\r\nuser-agent: e2b-python-sdk/2.63.0\r\n\
             x-api-key: {}\r\n{kind}host: {}\r\n\r\n{body}",
            self.place.key, self.place.api
        )
    }

    async fn call(&mut self, method: &str, path: &str, body: &str, expected: u16) -> Result<Value> {
        let request = self.api_head(method, path, body);
        let answer = self.api.ask(request.as_bytes()).await?;
        let text = self.api.body().await?;
        if answer.status != expected {
            bail!("{method} {path} was answered with {}: {}", answer.status, String::from_utf8_lossy(&text));
        }
        Ok(if text.is_empty() { Value::Null } else { serde_json::from_slice(&text)? })
    }

    /// The headers by which the proxy finds the sandbox, and the sandbox knows us.
    fn to_envd(&self, sandbox: &Sandbox) -> String {
        format!(
            "x-access-token: {}\r\ne2b-sandbox-id: {}\r\ne2b-sandbox-port: {ENVD_PORT}\r\nhost: {}\r\n",
            sandbox.token, sandbox.id, self.place.proxy
        )
    }

    /// Runs a line of shell as the SDKs do, in a login shell, to its end.
    pub async fn run(&mut self, sandbox: &Sandbox, line: &str) -> Result<Ran> {
        self.start(sandbox, "/bin/bash", &["-l", "-c", line]).await
    }

    /// Runs a program to its end.
    pub async fn start(&mut self, sandbox: &Sandbox, program: &str, arguments: &[&str]) -> Result<Ran> {
        let begun = Instant::now();
        self.begin(sandbox, program, arguments).await?;
        let mut ran = Ran { first_output: None, whole: Duration::ZERO, output: Vec::new() };
        let mut exit = None;
        let mut unread = Vec::new();
        while let Some(piece) = self.sandboxes.piece().await? {
            unread.extend_from_slice(piece);
            while let Some((last, message)) = take_message(&mut unread)? {
                if last {
                    ensure!(message.get("error").is_none(), "the command failed: {message}");
                    continue;
                }
                let event = &message["event"];
                if let Some(data) = event["data"]["stdout"].as_str() {
                    ran.first_output.get_or_insert_with(|| begun.elapsed());
                    ran.output.extend(BASE64_STANDARD.decode(data)?);
                } else if let Some(end) = event.get("end") {
                    exit = Some(end["exitCode"].as_i64().unwrap_or_default());
                    ran.whole = begun.elapsed();
                }
            }
        }
        match exit {
            Some(0) => Ok(ran),
            Some(code) => bail!("`{program}` ended with {code}"),
            None => bail!("`{program}` did not end"),
        }
    }

    /// Starts a program and leaves its stream open; this client is good for nothing else as long as the program runs.
    pub async fn begin(&mut self, sandbox: &Sandbox, program: &str, arguments: &[&str]) -> Result<()> {
        let message = json!({"process": {"cmd": program, "args": arguments}, "stdin": false}).to_string();
        let request = format!(
            "POST /process.Process/Start HTTP/1.1\r\nkeepalive-ping-interval: 50\r\nuser-agent: connectrpc/0.12.1\r\n\
             connect-protocol-version: 1\r\nconnect-accept-encoding: identity\r\nconnect-content-encoding: identity\r\n\
             content-type: application/connect+json\r\naccept: */*\r\naccept-encoding: zstd,gzip,br\r\n{}\
             transfer-encoding: chunked\r\n\r\n{:X}\r\n",
            self.to_envd(sandbox),
            message.len() + 5
        );
        let mut request = request.into_bytes();
        request.push(0);
        request.extend((message.len() as u32).to_be_bytes());
        request.extend(message.bytes());
        request.extend(b"\r\n0\r\n\r\n");
        let answer = self.sandboxes.ask(&request).await?;
        if answer.status != 200 {
            bail!("starting `{program}` was answered with {}: {}", answer.status, String::from_utf8_lossy(&self.sandboxes.body().await?));
        }
        Ok(())
    }

    /// Writes a file as the SDKs do by default, as a form.
    pub async fn upload(&mut self, sandbox: &Sandbox, path: &str, content: &[u8]) -> Result<()> {
        let opening = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{path}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        let closing = format!("\r\n--{BOUNDARY}--\r\n");
        let kind = format!("multipart/form-data; boundary={BOUNDARY}");
        let length = (opening.len() + content.len() + closing.len()) as u64;
        let mut begun = self.upload_head(sandbox, path, &kind, length).into_bytes();
        begun.extend(opening.bytes());
        if content.len() <= UPLOAD_PIECE {
            begun.extend(content);
            begun.extend(closing.bytes());
            self.sandboxes.write(&begun).await?;
        } else {
            self.sandboxes.write(&begun).await?;
            for piece in content.chunks(UPLOAD_PIECE) {
                self.sandboxes.write(piece).await?;
            }
            self.sandboxes.write(closing.as_bytes()).await?;
        }
        self.uploaded().await
    }

    /// Writes a file of that many bytes as the SDKs do with a stream.
    pub async fn upload_stream(&mut self, sandbox: &Sandbox, path: &str, length: u64) -> Result<()> {
        let head = self.upload_head(sandbox, path, "application/octet-stream", length);
        self.sandboxes.write(head.as_bytes()).await?;
        let piece: Vec<u8> = (0..UPLOAD_PIECE as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let mut left = length;
        while left > 0 {
            let now = left.min(UPLOAD_PIECE as u64);
            self.sandboxes.write(&piece[..now as usize]).await?;
            left -= now;
        }
        self.uploaded().await
    }

    fn upload_head(&self, sandbox: &Sandbox, path: &str, kind: &str, length: u64) -> String {
        format!(
            "POST /files?path={} HTTP/1.1\r\naccept: */*\r\naccept-encoding: gzip, deflate\r\nuser-agent: e2b-python-sdk/2.63.0\r\n{}\
             content-length: {length}\r\ncontent-type: {kind}\r\n\r\n",
            path.replace('/', "%2F"),
            self.to_envd(sandbox)
        )
    }

    async fn uploaded(&mut self) -> Result<()> {
        let status = self.sandboxes.answer().await?.status;
        let text = self.sandboxes.body().await?;
        ensure!(status == 200, "an upload was answered with {status}: {}", String::from_utf8_lossy(&text));
        Ok(())
    }

    /// Reads a file; the number of bytes that came. The SDKs accept `gzip, deflate`.
    pub async fn download(&mut self, sandbox: &Sandbox, path: &str, accept: &str) -> Result<u64> {
        let request = format!(
            "GET /files?path={} HTTP/1.1\r\naccept: */*\r\naccept-encoding: {accept}\r\nuser-agent: e2b-python-sdk/2.63.0\r\n{}\r\n",
            path.replace('/', "%2F"),
            self.to_envd(sandbox)
        );
        let status = self.sandboxes.ask(request.as_bytes()).await?.status;
        let length = self.sandboxes.drain().await?;
        ensure!(status == 200, "a download was answered with {status}");
        Ok(length)
    }
}

/// The first whole message of a stream, and whether it is the last one.
fn take_message(unread: &mut Vec<u8>) -> Result<Option<(bool, Value)>> {
    let Some((&[flags, a, b, c, d], rest)) = unread.split_first_chunk() else { return Ok(None) };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    let Some(message) = rest.get(..length) else { return Ok(None) };
    let message = serde_json::from_slice(message).context("a message is not JSON")?;
    unread.drain(..5 + length);
    Ok(Some((flags & END_OF_STREAM != 0, message)))
}
