//! `atoll doctor --attack`: the escape harness, from outside. The attempts are those of the program `attack`, which runs here, in a
//! sandbox that attacks and in one that is its neighbour.

mod host;
mod report;

use std::{
    collections::BTreeMap,
    io, iter,
    net::{SocketAddr, TcpListener, ToSocketAddrs as _},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use atoll_types::{ENVD_PORT, SandboxId, Secret};
use atoll_wire::{
    body::{self, collect},
    connect::Transport as _,
    e2b::NewSandbox,
};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Value, json};

use self::{
    host::Host,
    report::{Attempt, Outcome, Report},
};
use crate::{
    api,
    exec::{self, Ends, Task},
    print, sandbox,
    settings::Settings,
    signals::Signals,
    to_json,
};

include!(concat!(env!("OUT_DIR"), "/attack.rs"));

/// Where the program and what it is told are put, here and there.
const PROGRAM_PATH: &str = "/opt/atoll-attack/attack";
const SPEC_PATH: &str = "/opt/atoll-attack/spec";
/// Where the neighbour answers.
const NEIGHBOUR_PORT: u16 = 8080;
const ANSWER_LIMIT: usize = 1 << 20;
/// How long the sandboxes live if nobody ends them.
const LIFE_S: i32 = 900;
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);

/// Makes all attempts and prints what became of them; the result is the exit code.
pub async fn run(settings: Settings, json: bool) -> Result<u8> {
    let program = PROGRAM.context("this atoll was built without the escape harness; build it with: cargo xtask build")?;
    let spec = Spec::new(iter::once(&settings.api).chain(settings.traffic.shared()))?;
    let there = sandbox::Host::new(settings)?;
    let (mut made, mut signals) = (Vec::new(), Signals::listen()?);
    let report = tokio::select! {
        report = attack(&there, program, spec, &mut made) => report,
        code = signals.next() => Err(anyhow!("ended by signal {}", code - 128)),
    };
    for sandbox in &made {
        if let Err(error) = there.api.kill(&sandbox.id).await {
            eprintln!("atoll: sandbox {} could not be ended: {error:#}", sandbox.id);
        }
    }
    let report = report?;
    print(&if json { to_json(&report)? } else { report.table() })?;
    Ok(u8::from(!report.all_held()))
}

/// What the parts of the harness are told; see `Spec` there.
struct Spec {
    nonce: String,
    secret: String,
    daemon: Vec<SocketAddr>,
    /// The daemon is on this machine.
    is_here: bool,
}

impl Spec {
    fn new<'a>(urls: impl Iterator<Item = &'a Uri>) -> Result<Self> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let nonce = format!("{:x}{:x}", std::process::id(), since.as_nanos());
        let mut daemon = Vec::new();
        for url in urls {
            let port = url.port_u16().unwrap_or(if url.scheme_str() == Some("https") { 443 } else { 80 });
            let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
            let host = if host == "localhost" || host.ends_with(".localhost") { "127.0.0.1" } else { host };
            daemon.extend((host, port).to_socket_addrs().with_context(|| format!("looking for {host}"))?);
        }
        // Nobody listens at an address of another machine.
        let is_here = daemon.first().is_some_and(|address| TcpListener::bind((address.ip(), 0)).is_ok());
        // Not to be found by looking for the nonce.
        let secret = format!("canary-{}", nonce.chars().rev().collect::<String>());
        Ok(Self { nonce, secret, daemon, is_here })
    }

    fn json(&self, host: Option<&Value>, neighbour: Option<&str>) -> Value {
        let Self { nonce, secret, daemon, is_here: _ } = self;
        json!({ "nonce": nonce, "secret": secret, "daemon": daemon, "host": host, "neighbour": neighbour })
    }
}

/// What the neighbour says of itself.
#[derive(Deserialize)]
struct Neighbour {
    address: String,
    heard: Vec<String>,
}

async fn attack<'a>(there: &'a sandbox::Host, program: &'static [u8], spec: Spec, made: &mut Vec<Sandbox<'a>>) -> Result<Report> {
    let mut host = if spec.is_here { Some(Host::start(program, &spec.json(None, None))?) } else { None };
    for _ in ["attacker", "neighbour"] {
        let new = NewSandbox { template_id: "base".into(), timeout: Some(LIFE_S), secure: Some(true), ..NewSandbox::default() };
        let sandbox = there.api.create(&new).await?;
        let id = SandboxId::from_client(&sandbox.sandbox_id)?;
        made.push(Sandbox { there, id, domain: sandbox.domain, token: sandbox.envd_access_token });
    }
    let [attacker, neighbour] = &made[..] else { bail!("two sandboxes were to be made") };
    for (sandbox, told) in [(attacker, json!({})), (neighbour, spec.json(None, None))] {
        sandbox.upload(PROGRAM_PATH, Bytes::from_static(program)).await?;
        sandbox.upload(SPEC_PATH, told.to_string().into()).await?;
        sandbox.shell("root", &format!("chmod 755 {PROGRAM_PATH}")).await?;
    }
    neighbour.shell("root", &format!("setsid {PROGRAM_PATH} neighbour {SPEC_PATH} >/tmp/log 2>&1 </dev/null &")).await?;
    let address = neighbour.until_it_answers().await?.address;
    if let Some(host) = &mut host {
        host.talk(&address)?;
    }
    let told = spec.json(host.as_ref().map(|host| &host.canaries), Some(&address));
    attacker.upload(SPEC_PATH, told.to_string().into()).await?;

    let mut attempts = Vec::new();
    for user in ["root", "user"] {
        eprintln!("atoll: attacking as {user}");
        let written = attacker.shell(user, &format!("exec {PROGRAM_PATH} run {SPEC_PATH}")).await?;
        for line in written.lines() {
            let attempt: Attempt = serde_json::from_str(line).with_context(|| format!("reading the harness's report: {line}"))?;
            attempts.push(Attempt { user: user.into(), ..attempt });
        }
    }
    ensure!(!attempts.is_empty(), "the harness made no attempt");
    if let Some(host) = &host {
        attempts.push(attacker.link_through_the_api(host.file()?, &spec.secret).await?);
    }
    attempts.push(shared_template(attacker, neighbour, &spec.secret).await?);

    let mut heard: BTreeMap<String, &str> = BTreeMap::new();
    heard.extend(neighbour.ask("/heard").await?.heard.into_iter().map(|label| (label, "the neighbour")));
    let mut changed = Vec::new();
    if let Some(host) = host {
        let told = host.report()?;
        heard.extend(told.heard.into_iter().map(|label| (label, "the host")));
        changed = told.changed;
    }
    for attempt in &mut attempts {
        if let Some(whom) = heard.get(&attempt.label) {
            attempt.outcome = Outcome::Breached;
            attempt.how = format!("{whom} received it");
        }
    }
    Ok(Report { attempts, changed, on_host: spec.is_here })
}

/// What one sandbox writes over the files of the template must be its own.
async fn shared_template(attacker: &Sandbox<'_>, neighbour: &Sandbox<'_>, secret: &str) -> Result<Attempt> {
    let (mark, file) = ("/usr/lib/atoll-attack", "/etc/profile");
    attacker.shell("root", &format!("echo {secret} > {mark}; chmod 4755 {mark}; echo '# {secret}' >> {file}")).await?;
    let seen = neighbour.shell("root", &format!("cat {mark} {file} 2>/dev/null || true")).await?;
    let (outcome, how) = match seen.contains(secret) {
        true => (Outcome::Breached, "the neighbour has what was written"),
        false => (Outcome::Held, "the neighbour has none of what was written"),
    };
    Ok(Attempt::outside("files", "shared-template", outcome, how))
}

/// One of our sandboxes.
struct Sandbox<'a> {
    there: &'a sandbox::Host,
    id: SandboxId,
    domain: Option<String>,
    token: Option<Secret>,
}

impl Sandbox<'_> {
    async fn request(&self, port: u16, method: Method, path: &str, content: Bytes) -> Result<(StatusCode, Bytes)> {
        let mut request = Request::new(body::full(content));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().with_context(|| format!("the path {path}"))?;
        let headers = request.headers_mut();
        headers.insert("e2b-sandbox-id", HeaderValue::from_str(self.id.as_str())?);
        headers.insert("e2b-sandbox-port", HeaderValue::from(port));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        if let Some(token) = self.token.as_ref().filter(|_| port == ENVD_PORT) {
            headers.insert("x-access-token", exec::sensitive(token)?);
        }
        let link = self.there.link(&self.id, port, self.domain.as_deref())?;
        let response = link.send(request).await.map_err(|e| api::unreachable(link.base(), e))?;
        let (head, incoming) = response.into_parts();
        Ok((head.status, collect(incoming, ANSWER_LIMIT).await?))
    }

    async fn upload(&self, path: &str, content: Bytes) -> Result<()> {
        let target = format!("/files?username=root&path={}", utf8_percent_encode(path, NON_ALPHANUMERIC));
        let (status, answer) = self.request(ENVD_PORT, Method::POST, &target, content).await?;
        ensure!(status.is_success(), "uploading {path}: {status}: {}", String::from_utf8_lossy(&answer));
        Ok(())
    }

    /// What a line of shell prints; it must succeed.
    async fn shell(&self, user: &str, line: &str) -> Result<String> {
        let envd = self.there.envd(&self.id, self.domain.as_deref(), self.token.clone())?;
        let command = ["/bin/sh", "-c", line].map(String::from).into();
        let task = Task { user: Some(user.into()), cwd: Some("/".into()), command, ..Task::default() };
        let mut written = Vec::new();
        let ends = Ends { input: None, stdout: Box::new(&mut written), stderr: Box::new(io::stderr()) };
        let code = exec::run(&envd, task, ends, &mut Signals::listen()?).await?;
        ensure!(code == 0, "`{line}` ended with {code} in sandbox {}", self.id);
        Ok(String::from_utf8(written)?)
    }

    async fn ask(&self, path: &str) -> Result<Neighbour> {
        let (status, answer) = self.request(NEIGHBOUR_PORT, Method::GET, path, Bytes::new()).await?;
        ensure!(status.is_success(), "the neighbour answers {status}");
        Ok(serde_json::from_slice(&answer)?)
    }

    async fn until_it_answers(&self) -> Result<Neighbour> {
        let trying = async {
            loop {
                match self.ask("/heard").await {
                    Ok(neighbour) => return neighbour,
                    Err(_) => tokio::time::sleep(PAUSE).await,
                }
            }
        };
        tokio::time::timeout(PATIENCE, trying).await.map_err(|_| anyhow!("the neighbour did not start"))
    }

    /// Files are read by a program inside, so a link leads to what is inside.
    async fn link_through_the_api(&self, file: &str, secret: &str) -> Result<Attempt> {
        let links = "/opt/atoll-attack/links";
        let make = format!("mkdir -p {links}; ln -sfn {file} {links}/a; ln -sfn /proc/1/root{file} {links}/b; ln -sfn / {links}/c");
        self.shell("root", &make).await?;
        for path in [format!("{links}/a"), format!("{links}/b"), format!("{links}/c{file}"), format!("{links}/../../../../../..{file}")] {
            let target = format!("/files?username=root&path={}", utf8_percent_encode(&path, NON_ALPHANUMERIC));
            let (_, answer) = self.request(ENVD_PORT, Method::GET, &target, Bytes::new()).await?;
            if String::from_utf8_lossy(&answer).contains(secret) {
                return Ok(Attempt::outside(
                    "files",
                    "link-through-the-api",
                    Outcome::Breached,
                    &format!("the canary's secret, by {path}"),
                ));
            }
        }
        Ok(Attempt::outside("files", "link-through-the-api", Outcome::Held, "a link leads to what is in the sandbox"))
    }
}
