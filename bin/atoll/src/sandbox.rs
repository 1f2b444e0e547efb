//! `atoll sandbox …`.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use atoll_types::{Clock, ENVD_PORT, SandboxId, Secret, SystemClock, Timestamp};
use atoll_wire::e2b::{ListedSandbox, NewSandbox, Sandbox, SandboxDetail, SandboxLogEntry, SandboxMetric, SandboxState};
use serde_json::json;

use crate::{
    api::{Api, LOG_PAGE},
    cli::{New, Process, Run, SandboxCommand},
    copy::{Copy, End},
    exec::{self, Ends, Envd, Task},
    failure::{self, NoSandbox, TIMED_OUT},
    forward::{self, Ports},
    link::Link,
    print,
    progress::size,
    settings::Settings,
    signals::Signals,
    table::{self, visible},
    to_json,
    traffic::Traffic,
};

const POLL_EVERY: Duration = Duration::from_secs(1);
/// How many samples `metrics` shows.
const SAMPLES: usize = 10;

/// What `connect` runs: the best shell there is.
const SHELL: &str = "if command -v bash >/dev/null; then exec bash -il; fi; exec sh -i";

/// A host: its API, and the way into its sandboxes.
pub struct Host {
    pub api: Api,
    trusted: Option<PathBuf>,
    traffic: Traffic,
}

impl Host {
    /// The one that the settings lead to.
    pub fn new(Settings { api, key, trusted, traffic }: Settings) -> Result<Self> {
        Ok(Self { api: Api::new(Link::to(api, trusted.as_deref())?, key), trusted, traffic })
    }

    /// The way to a port of a sandbox; `domain` is what the API says about it.
    pub fn link(&self, id: &SandboxId, port: u16, domain: Option<&str>) -> Result<Link> {
        Link::to(self.traffic.base(id, port, domain)?, self.trusted.as_deref())
    }

    /// The `envd` of a sandbox.
    pub fn envd(&self, id: &SandboxId, domain: Option<&str>, token: Option<Secret>) -> Result<Envd> {
        Envd::new(self.link(id, ENVD_PORT, domain)?, id, token)
    }

    /// The `envd` of a sandbox that is there.
    async fn reach(&self, id: &SandboxId) -> Result<Envd> {
        let found = self.api.get(id).await?;
        self.envd(id, found.domain.as_deref(), found.envd_access_token)
    }
}

/// Does what was asked; the result is the exit code.
pub async fn run(settings: Settings, command: SandboxCommand) -> Result<u8> {
    let host = Host::new(settings)?;
    let api = &host.api;
    match command {
        SandboxCommand::Create { template, new, json } => {
            let made = api.create(&request(template, new)).await?;
            print(&if json { to_json(&made)? } else { made.sandbox_id + "\n" })?;
        }
        SandboxCommand::Run(run) => return run_once(&host, run).await,
        SandboxCommand::Exec { id, process, env, timeout } => {
            let ends = Ends::ours(process.interactive || process.tty);
            let task = task(process, env, timeout.map(Duration::from_secs));
            return exec::run(&host.reach(&id).await?, task, ends, &mut Signals::listen()?).await;
        }
        SandboxCommand::Connect { id, user } => {
            let command = ["/bin/sh", "-c", SHELL].map(String::from).into();
            let task = Task { tty: true, user, command, ..Task::default() };
            return exec::run(&host.reach(&id).await?, task, Ends::ours(true), &mut Signals::listen()?).await;
        }
        SandboxCommand::Cp { from, to, user, quiet } => {
            let user = user.as_deref();
            return match (&from, &to) {
                (End::There(..), End::There(..)) => bail!("one side of a copy must be here"),
                (End::There(id, from), to) => Copy { envd: &host.reach(id).await?, user, quiet }.download(from, to).await,
                (from, End::There(id, to)) => Copy { envd: &host.reach(id).await?, user, quiet }.upload(from, to).await,
                _ => bail!("one side of a copy must be in a sandbox: SANDBOX:PATH"),
            };
        }
        SandboxCommand::Ls { state, metadata, quiet, json } => {
            let found = api.list(&state, &metadata).await?;
            print(&match (json, quiet) {
                (true, _) => to_json(&found)?,
                (_, true) => found.iter().map(|sandbox| format!("{}\n", visible(&sandbox.sandbox_id))).collect(),
                _ => list(&found, SystemClock.now()),
            })?;
        }
        SandboxCommand::Info { id, json } => {
            let detail = api.get(&id).await?;
            print(&if json { to_json(&detail)? } else { info(&detail, SystemClock.now()) })?;
        }
        SandboxCommand::Logs { id, follow, json } => logs(api, &id, follow, json).await?,
        SandboxCommand::Metrics { id, json } => {
            api.get(&id).await?;
            let found = api.metrics(&id).await?;
            print(&if json { to_json(&found)? } else { samples(&found) })?;
        }
        SandboxCommand::Url { id, port } => {
            let found = api.get(&id).await?;
            print(&(host.traffic.url(&id, port, found.domain.as_deref())? + "\n"))?;
        }
        SandboxCommand::Forward { id, ports, address } => {
            let found = api.get(&id).await?;
            let token = found.envd_access_token.map(|token| exec::sensitive(&token)).transpose()?;
            let way = |Ports { here, there: port }| {
                let link = host.link(&id, port, found.domain.as_deref())?;
                Ok((here, forward::Target { id: id.clone(), port, link, token: token.clone() }))
            };
            return forward::run(address, ports.into_iter().map(way).collect::<Result<_>>()?).await;
        }
        SandboxCommand::Timeout { id, seconds } => api.set_timeout(&id, seconds).await?,
        SandboxCommand::Wait { id, timeout } => return wait(api, &id, timeout.map(Duration::from_secs)).await,
        SandboxCommand::Kill { id, all } => return kill(api, id, all).await,
    }
    Ok(0)
}

/// Creates, executes, ends. Whatever happens after the request to create, the sandbox does not stay without being wanted.
async fn run_once(host: &Host, Run { template, new, process, keep, rm: _, json }: Run) -> Result<u8> {
    let mut signals = Signals::listen()?;
    let limit = Duration::from_secs(new.timeout.unsigned_abs().into());
    let new = request(template, new);
    let mut creating = std::pin::pin!(host.api.create(&new));
    let (made, stopped) = tokio::select! {
        made = &mut creating => (made?, None),
        code = signals.next() => (creating.await?, Some(code)),
    };
    let started = Instant::now();
    let id = SandboxId::from_client(&made.sandbox_id)?;
    if keep && stopped.is_none() {
        eprintln!("{id}");
    }
    let result = match stopped {
        Some(code) => Ok(code),
        None => execute(host, &made, &id, process, json, &mut signals).await,
    };
    if !keep || stopped.is_some() {
        match host.api.kill(&id).await {
            Err(error) if !is_missing(&error) => eprintln!("atoll: sandbox {id} could not be ended: {error:#}"),
            _ => {}
        }
    }
    match result {
        Err(_) if started.elapsed() >= limit => {
            eprintln!("atoll: the sandbox reached its timeout of {} s, and the command ended with it", limit.as_secs());
            Ok(TIMED_OUT)
        }
        result => result,
    }
}

async fn execute(host: &Host, made: &Sandbox, id: &SandboxId, process: Process, json: bool, signals: &mut Signals) -> Result<u8> {
    let envd = host.envd(id, made.domain.as_deref(), made.envd_access_token.clone())?;
    let ends = Ends::ours(process.interactive || process.tty);
    let task = task(process, Vec::new(), None);
    if !json {
        return exec::run(&envd, task, ends, signals).await;
    }
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let code = exec::run(&envd, task, Ends { stdout: Box::new(&mut stdout), stderr: Box::new(&mut stderr), ..ends }, signals).await?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    print(&to_json(&json!({ "sandboxID": id.as_str(), "exitCode": code, "stdout": text(&stdout), "stderr": text(&stderr) }))?)?;
    Ok(code)
}

fn request(template: String, new: New) -> NewSandbox {
    NewSandbox {
        template_id: template,
        timeout: Some(new.timeout),
        secure: Some(true),
        metadata: Some(new.metadata.into_iter().collect()),
        env_vars: Some(new.env.into_iter().map(|(name, value)| (name, Secret::new(value))).collect()),
        ..NewSandbox::default()
    }
}

fn task(process: Process, envs: Vec<(String, String)>, timeout: Option<Duration>) -> Task {
    let Process { interactive: _, tty, user, cwd, command } = process;
    Task { tty, user, cwd, command, envs: envs.into_iter().collect(), timeout }
}

fn is_missing(error: &anyhow::Error) -> bool {
    error.is::<NoSandbox>()
}

fn state(sandbox: &ListedSandbox) -> &'static str {
    match sandbox.state {
        SandboxState::Running => "running",
        SandboxState::Paused => "paused",
    }
}

fn metadata(sandbox: &ListedSandbox) -> String {
    let pairs: Vec<String> = sandbox.metadata.iter().flatten().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join(" ")
}

fn list(sandboxes: &[ListedSandbox], now: Timestamp) -> String {
    let row = |sandbox: &ListedSandbox| {
        vec![
            sandbox.sandbox_id.clone(),
            sandbox.alias.clone().filter(|alias| !alias.is_empty()).unwrap_or_else(|| sandbox.template_id.clone()),
            state(sandbox).into(),
            table::span(sandbox.started_at, now) + " ago",
            match sandbox.state {
                SandboxState::Running => format!("in {}", table::span(now, sandbox.end_at)),
                SandboxState::Paused => "-".into(),
            },
            sandbox.cpu_count.to_string(),
            format!("{} MiB", sandbox.memory_mb),
            metadata(sandbox),
        ]
    };
    let rows: Vec<_> = sandboxes.iter().map(row).collect();
    let head = ["SANDBOX", "TEMPLATE", "STATE", "STARTED", "ENDS", "CPUS", "MEMORY", "METADATA"];
    let shown = if sandboxes.iter().all(|sandbox| metadata(sandbox).is_empty()) { head.len() - 1 } else { head.len() };
    table::render(&head[..shown], &rows)
}

fn info(detail: &SandboxDetail, now: Timestamp) -> String {
    let sandbox = &detail.listed;
    let when = |moment: Timestamp| moment.format("%Y-%m-%d %H:%M:%S UTC").to_string();
    let mut rows = vec![
        ("Sandbox", sandbox.sandbox_id.clone()),
        ("State", state(sandbox).into()),
        (
            "Template",
            sandbox.alias.iter().filter(|a| !a.is_empty()).cloned().chain([sandbox.template_id.clone()]).collect::<Vec<_>>().join(", "),
        ),
        ("Started", format!("{} ({} ago)", when(sandbox.started_at), table::span(sandbox.started_at, now))),
    ];
    if sandbox.state == SandboxState::Running {
        rows.push(("Ends", format!("{} (in {})", when(sandbox.end_at), table::span(now, sandbox.end_at))));
    }
    rows.push(("CPUs", sandbox.cpu_count.to_string()));
    rows.push(("Memory", format!("{} MiB", sandbox.memory_mb)));
    rows.push(("Disk", format!("{} MiB", sandbox.disk_size_mb)));
    rows.push(("Agent", format!("envd {}", sandbox.envd_version)));
    if sandbox.metadata.as_ref().is_some_and(|metadata| !metadata.is_empty()) {
        rows.push(("Metadata", metadata(sandbox)));
    }
    rows.iter().map(|(name, value)| format!("{name:<10}{}\n", visible(value))).collect()
}

fn samples(samples: &[SandboxMetric]) -> String {
    let of = |used: u64, total: u64| format!("{} of {}", size(used), size(total));
    let row = |sample: &SandboxMetric| {
        vec![
            sample.timestamp.format("%H:%M:%S").to_string(),
            format!("{:.1}% of {}", sample.cpu_used_pct, sample.cpu_count),
            of(sample.mem_used, sample.mem_total),
            of(sample.disk_used, sample.disk_total),
        ]
    };
    let rows: Vec<_> = samples[samples.len().saturating_sub(SAMPLES)..].iter().map(row).collect();
    table::render(&["UTC", "CPUS", "MEMORY", "DISK"], &rows)
}

async fn wait(api: &Api, id: &SandboxId, limit: Option<Duration>) -> Result<u8> {
    let started = Instant::now();
    api.get(id).await?;
    loop {
        match api.get(id).await {
            Err(error) if is_missing(&error) => return Ok(0),
            Err(error) => return Err(error),
            Ok(_) if limit.is_some_and(|limit| started.elapsed() >= limit) => {
                eprintln!("atoll: {id} still runs");
                return Ok(TIMED_OUT);
            }
            Ok(_) => tokio::time::sleep(limit.map_or(POLL_EVERY, |limit| limit.saturating_sub(started.elapsed()).min(POLL_EVERY))).await,
        }
    }
}

async fn kill(api: &Api, ids: Vec<SandboxId>, all: bool) -> Result<u8> {
    let ids = if all {
        let found = api.list(&[], &[]).await?;
        found.iter().map(|sandbox| SandboxId::from_client(&sandbox.sandbox_id)).collect::<Result<_, _>>()?
    } else {
        ids
    };
    let mut code = 0;
    for id in ids {
        match api.kill(&id).await {
            Ok(()) => print(&format!("{id}\n"))?,
            // Another hand was quicker.
            Err(error) if all && is_missing(&error) => {}
            Err(error) => {
                eprintln!("atoll: {error:#}");
                code = code.max(failure::exit_code(&error));
            }
        }
    }
    Ok(code)
}

/// Prints a sandbox's log from its beginning, and with `follow` what is added until it ends.
async fn logs(api: &Api, id: &SandboxId, follow: bool, json: bool) -> Result<()> {
    let mut cursor = api.get(id).await.map(|detail| detail.listed.started_at.timestamp_millis()).or_else(|e| {
        // The log outlives the sandbox, for a week.
        if is_missing(&e) && !follow { Ok((SystemClock.now() - Duration::from_secs(7 * 86_400)).timestamp_millis()) } else { Err(e) }
    })?;
    // What was printed of the cursor's millisecond, which the next page begins with.
    let mut printed: Vec<SandboxLogEntry> = Vec::new();
    loop {
        // Asked before the page is: what was logged last is on it.
        let ended = follow && matches!(api.get(id).await, Err(e) if is_missing(&e));
        let page = api.logs(id, cursor).await?;
        let fresh: Vec<&SandboxLogEntry> = page.iter().filter(|entry| !printed.contains(entry)).collect();
        for entry in &fresh {
            print(&if json { serde_json::to_string(entry)? + "\n" } else { line(entry) })?;
        }
        let full = page.len() >= LOG_PAGE && !fresh.is_empty();
        if let Some(last) = page.last() {
            cursor = last.timestamp.timestamp_millis();
            printed = page.into_iter().filter(|entry| entry.timestamp.timestamp_millis() >= cursor).collect();
        }
        if full {
            continue;
        }
        if !follow || ended {
            return Ok(());
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
}

fn line(entry: &SandboxLogEntry) -> String {
    let level = format!("{:?}", entry.level).to_lowercase();
    let fields: String = entry.fields.iter().map(|(name, value)| format!(" {name}={value}")).collect();
    format!("{} {level:<5} {}\n", entry.timestamp.format("%Y-%m-%d %H:%M:%S%.3f"), visible(&format!("{}{fields}", entry.message)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DETAIL: &str = r#"{"templateID":"t1","alias":"base","sandboxID":"abc1","clientID":"6532622b","startedAt":"2026-01-01T00:00:00Z",
        "endAt":"2026-01-01T00:10:00Z","cpuCount":2,"memoryMB":512,"diskSizeMB":1024,"state":"running","envdVersion":"0.6.13",
        "metadata":{"user":"ann","x":"\u001b[0m"}}"#;

    #[test]
    fn sandboxes_are_shown_to_people() {
        let detail: SandboxDetail = serde_json::from_str(DETAIL).unwrap();
        let now = detail.listed.started_at + Duration::from_secs(300);
        let text = list(std::slice::from_ref(&detail.listed), now);
        let row: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row, ["abc1", "base", "running", "5m", "ago", "in", "5m", "2", "512", "MiB", "user=ann", "x=\\u{1b}[0m"]);
        let text = info(&detail, now);
        assert!(text.contains("Template  base, t1\n") && text.contains("Ends      2026-01-01 00:10:00 UTC (in 5m)\n"), "{text}");
    }
}
