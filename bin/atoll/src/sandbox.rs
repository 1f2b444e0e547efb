//! `atoll sandbox …`.

use std::time::Duration;

use anyhow::{Context, Result};
use atoll_types::{Clock, SandboxId, Secret, SystemClock, Timestamp};
use atoll_wire::e2b::{ListedSandbox, NewSandbox, SandboxDetail, SandboxLogEntry, SandboxState};
use http::StatusCode;

use crate::{
    api::{Api, LOG_PAGE, Refused},
    cli::{New, Process, SandboxCommand},
    exec::{self, Envd, Task},
    print,
    settings::Settings,
    table::{self, visible},
    to_json,
};

const POLL_EVERY: Duration = Duration::from_secs(1);

/// What `connect` runs: the best shell there is.
const SHELL: &str = "if command -v bash >/dev/null; then exec bash -il; fi; exec sh -i";

/// Does what was asked; the result is the exit code.
pub async fn run(settings: Settings, command: SandboxCommand) -> Result<u8> {
    let api = Api::new(settings.api, settings.key)?;
    let envd = |id: &SandboxId, token: Option<Secret>| {
        let base = settings
            .sandboxes
            .clone()
            .context("where the traffic of sandboxes goes is not known: set E2B_SANDBOX_URL or give --sandbox-url")?;
        Envd::new(base, id, token)
    };
    match command {
        SandboxCommand::Create { new, json } => {
            let made = api.create(&request(new)).await?;
            print(&if json { to_json(&made)? } else { made.sandbox_id + "\n" })?;
        }
        SandboxCommand::Run { new, process } => {
            let made = api.create(&request(new)).await?;
            let id = SandboxId::from_client(&made.sandbox_id)?;
            let result = match envd(&id, made.envd_access_token) {
                Ok(envd) => exec::run(envd, task(process, Vec::new(), None)).await,
                Err(error) => Err(error),
            };
            match api.kill(&id).await {
                Err(error) if !is_missing(&error) => eprintln!("atoll: sandbox {id} could not be ended: {error:#}"),
                _ => {}
            }
            return result;
        }
        SandboxCommand::Exec { id, process, env, timeout } => {
            let token = api.get(&id).await?.envd_access_token;
            return exec::run(envd(&id, token)?, task(process, env, timeout.map(Duration::from_secs))).await;
        }
        SandboxCommand::Connect { id, user } => {
            let token = api.get(&id).await?.envd_access_token;
            let command = ["/bin/sh", "-c", SHELL].map(String::from).into();
            let process = Process { interactive: true, tty: true, user, cwd: None, command };
            return exec::run(envd(&id, token)?, task(process, Vec::new(), None)).await;
        }
        SandboxCommand::Ls { state, metadata, json } => {
            let found = api.list(&state, &metadata).await?;
            print(&if json { to_json(&found)? } else { list(&found, SystemClock.now()) })?;
        }
        SandboxCommand::Info { id, json } => {
            let detail = api.get(&id).await?;
            print(&if json { to_json(&detail)? } else { info(&detail, SystemClock.now()) })?;
        }
        SandboxCommand::Logs { id, follow, json } => logs(&api, &id, follow, json).await?,
        SandboxCommand::Kill { ids, all } => return kill(&api, ids, all).await,
    }
    Ok(0)
}

fn request(new: New) -> NewSandbox {
    NewSandbox {
        template_id: new.template,
        timeout: Some(new.timeout),
        secure: Some(true),
        metadata: Some(new.metadata.into_iter().collect()),
        env_vars: Some(new.env.into_iter().map(|(name, value)| (name, Secret::new(value))).collect()),
        ..NewSandbox::default()
    }
}

fn task(process: Process, envs: Vec<(String, String)>, timeout: Option<Duration>) -> Task {
    let Process { interactive, tty, user, cwd, command } = process;
    Task { interactive, tty, user, cwd, command, envs: envs.into_iter().collect(), timeout }
}

fn is_missing(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| refused.status == StatusCode::NOT_FOUND)
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
    table::render(&["SANDBOX", "TEMPLATE", "STATE", "STARTED", "ENDS", "CPUS", "MEMORY", "METADATA"], &rows)
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
                code = 1;
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
