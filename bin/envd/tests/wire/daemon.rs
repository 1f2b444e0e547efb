//! A daemon for one test, and a client that speaks JSON to it.

use std::{
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use atoll_wire::body::{self, Body};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{Buf, BytesMut};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

/// Longer than anything takes on the slowest machine; only a failing test waits for it.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Daemon {
    child: Child,
    pub address: SocketAddr,
    /// A directory of this test's own; the daemon's run files are in `run` in it.
    pub dir: PathBuf,
    killer: Option<u32>,
}

impl Daemon {
    pub fn start() -> Self {
        Self::with_flags(&[])
    }

    pub fn with_flags(flags: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_envd"));
        for identity in ["E2B_SANDBOX", "E2B_SANDBOX_ID", "E2B_TEMPLATE_ID"] {
            command.env_remove(identity);
        }
        Self::launched_by(command, flags)
    }

    /// `command` ends with the daemon's program: a wrapper may come before it.
    pub fn launched_by(mut command: Command, flags: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let dir = std::env::temp_dir().join(format!("envd-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir_all(&dir).unwrap();
        command.args(["-isnotfc", "-port", "0", "-run-dir"]).arg(dir.join("run")).args(flags);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
            (line["message"] == "listening").then(|| line["port"].as_str().unwrap().parse().unwrap())
        });
        Self { child, address: (Ipv4Addr::LOCALHOST, port.unwrap()).into(), dir, killer: None }
    }

    /// A daemon whose default user is the one who runs the tests, so that processes start without privileges too.
    pub async fn for_processes() -> Self {
        let daemon = Self::start();
        daemon.init(json!({"defaultUser": me()})).await;
        daemon
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Which process SIGTERM goes to in the end, where it is not the one that was launched.
    pub fn terminated_by(&mut self, pid: u32) {
        self.killer = Some(pid);
    }

    pub fn wait(&mut self) -> std::process::ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the daemon does not end");
    }

    pub fn terminate(&self) {
        Command::new("kill").arg(self.killer.unwrap_or(self.child.id()).to_string()).status().unwrap();
    }

    pub async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<bytes::Bytes>) -> Response<Body> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        atoll_wire::transport::request(self.address, request.body(body::full(body)).unwrap()).await.unwrap()
    }

    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Response<Body> {
        self.send(Method::GET, path, headers, "").await
    }

    pub async fn init(&self, request: Value) -> StatusCode {
        self.send(Method::POST, "/init", &[], request.to_string()).await.status()
    }

    /// A unary call.
    pub async fn call(&self, method: &str, request: Value) -> (StatusCode, Value) {
        let path = format!("/process.Process/{method}");
        let response = self.send(Method::POST, &path, &[("content-type", "application/json")], request.to_string()).await;
        (response.status(), json_body(response).await)
    }

    /// A call that must succeed.
    pub async fn done(&self, method: &str, request: Value) -> Value {
        let (status, reply) = self.call(method, request).await;
        assert_eq!(status, StatusCode::OK, "{method}: {reply}");
        reply
    }

    /// A call that must fail, and its code and message.
    pub async fn fails(&self, method: &str, request: Value) -> (String, String) {
        let (status, reply) = self.call(method, request).await;
        assert!(status.is_client_error() || status.is_server_error(), "{method}: {reply}");
        (reply["code"].as_str().unwrap().into(), reply["message"].as_str().unwrap().into())
    }

    /// A stream of one request.
    pub async fn stream(&self, method: &str, headers: &[(&str, &str)], request: Value) -> Events {
        let path = format!("/process.Process/{method}");
        let headers = [&[("content-type", "application/connect+json")], headers].concat();
        let response = self.send(Method::POST, &path, &headers, envelope(&request)).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "application/connect+json");
        Events { body: response.into_body(), buffer: BytesMut::new() }
    }

    /// Starts `sh -c script`.
    pub async fn shell(&self, script: &str) -> Events {
        self.stream("Start", &[], shell(script)).await
    }

    /// Runs `sh -c script` to its end.
    pub async fn run(&self, script: &str) -> Outcome {
        self.shell(script).await.outcome().await
    }

    /// Waits until the daemon knows of exactly so many processes.
    pub async fn until_processes(&self, count: usize) {
        until(async || {
            let reply = self.done("List", json!({})).await;
            reply["processes"].as_array().map_or(0, Vec::len) == count
        })
        .await;
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            self.terminate();
            let deadline = Instant::now() + PATIENCE;
            while self.child.try_wait().unwrap().is_none() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        let _ = self.child.kill();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// The request that starts `sh -c script`.
pub fn shell(script: &str) -> Value {
    json!({"process": {"cmd": "sh", "args": ["-c", script]}})
}

/// The name of the user who runs the tests.
pub fn me() -> String {
    envd::users::Accounts::read().user_name(std::fs::metadata("/proc/self").unwrap().uid())
}

pub fn basic(name: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:")))
}

pub fn encoded(text: &str) -> String {
    STANDARD.encode(text)
}

pub fn envelope(message: &Value) -> Vec<u8> {
    let text = message.to_string();
    [&[0], &(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat()
}

pub async fn json_body(response: Response<Body>) -> Value {
    serde_json::from_slice(&body::collect(response.into_body(), 1 << 20).await.unwrap()).unwrap()
}

pub async fn text_body(response: Response<Body>) -> String {
    String::from_utf8(body::collect(response.into_body(), 1 << 20).await.unwrap().to_vec()).unwrap()
}

/// Waits for a condition.
pub async fn until(mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "the condition does not come true");
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

/// A stream's messages as they arrive.
pub struct Events {
    body: Body,
    buffer: BytesMut,
}

#[derive(Debug, PartialEq)]
pub enum Event {
    Start(u32),
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    Pty(Vec<u8>),
    Keepalive,
    /// As it is on the wire.
    End(Value),
    /// The end of the stream, as it is on the wire.
    Eos(Value),
}

impl Events {
    /// The next message; the last is [`Event::Eos`].
    pub async fn next(&mut self) -> Event {
        tokio::time::timeout(PATIENCE, self.read()).await.expect("the stream stays silent")
    }

    async fn read(&mut self) -> Event {
        loop {
            if let Some((head, rest)) = self.buffer.split_at_checked(5) {
                let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
                if rest.len() >= length {
                    let value: Value = serde_json::from_slice(&rest[..length]).unwrap();
                    let flag = head[0];
                    self.buffer.advance(5 + length);
                    return if flag == 2 { Event::Eos(value) } else { event(&value["event"]) };
                }
            }
            let frame = self.body.frame().await.expect("the stream ended without saying so").unwrap();
            self.buffer.extend_from_slice(&frame.into_data().unwrap());
        }
    }

    /// The pid that the first message must tell.
    pub async fn pid(&mut self) -> u32 {
        match self.next().await {
            Event::Start(pid) => pid,
            other => panic!("not a start: {other:?}"),
        }
    }

    /// Reads until `text` has appeared in the output, of whatever kind.
    pub async fn until_output(&mut self, text: &str) -> String {
        let mut seen = String::new();
        while !seen.contains(text) {
            match self.next().await {
                Event::Stdout(bytes) | Event::Stderr(bytes) | Event::Pty(bytes) => seen += &String::from_utf8_lossy(&bytes),
                Event::Start(_) | Event::Keepalive => {}
                other => panic!("{text:?} did not appear in {seen:?} before {other:?}"),
            }
        }
        seen
    }

    /// Everything to the end.
    pub async fn outcome(mut self) -> Outcome {
        let mut outcome = Outcome::default();
        loop {
            match self.next().await {
                Event::Start(pid) => outcome.pid = pid,
                Event::Stdout(bytes) => outcome.stdout += &String::from_utf8_lossy(&bytes),
                Event::Stderr(bytes) => outcome.stderr += &String::from_utf8_lossy(&bytes),
                Event::Pty(bytes) => outcome.pty += &String::from_utf8_lossy(&bytes),
                Event::Keepalive => outcome.keepalives += 1,
                Event::End(end) => outcome.end = end,
                Event::Eos(eos) => {
                    outcome.eos = eos;
                    return outcome;
                }
            }
        }
    }
}

#[derive(Debug, Default)]
pub struct Outcome {
    pub pid: u32,
    pub stdout: String,
    pub stderr: String,
    pub pty: String,
    pub keepalives: u32,
    /// `Null` when there was no end event.
    pub end: Value,
    pub eos: Value,
}

impl Outcome {
    pub fn code(&self) -> i64 {
        assert_eq!(self.eos, json!({}));
        assert!(self.end.is_object(), "there was no end event: {self:?}");
        self.end["exitCode"].as_i64().unwrap_or_default()
    }

    pub fn error(&self) -> &str {
        assert!(self.end.is_null(), "{self:?}");
        self.eos["error"]["code"].as_str().unwrap_or_default()
    }
}

fn event(event: &Value) -> Event {
    let bytes = |value: &Value| STANDARD.decode(value.as_str().unwrap()).unwrap();
    let (name, value) = event.as_object().unwrap().iter().next().unwrap();
    match name.as_str() {
        "start" => Event::Start(value["pid"].as_u64().unwrap() as u32),
        "keepalive" => Event::Keepalive,
        "end" => Event::End(value.clone()),
        "data" => {
            let (name, value) = value.as_object().unwrap().iter().next().unwrap();
            match name.as_str() {
                "stdout" => Event::Stdout(bytes(value)),
                "stderr" => Event::Stderr(bytes(value)),
                _ => Event::Pty(bytes(value)),
            }
        }
        other => panic!("unknown event {other}"),
    }
}
