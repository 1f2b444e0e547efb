//! Making the attempts, each in a process of its own.

use std::{
    env,
    io::{Read as _, Write as _},
    os::unix::process::ExitStatusExt as _,
    panic::resume_unwind,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::{
    attempts::{ATTEMPTS, Attempt, Way, World},
    outcome::Outcome,
    spec::Spec,
};

/// What one attempt may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// One line of the report.
#[derive(Serialize)]
struct Line {
    name: &'static str,
    group: &'static str,
    /// What a packet of this attempt carries.
    label: String,
    #[serde(flatten)]
    outcome: Outcome,
}

/// Makes all attempts, those of a group at the same time.
pub fn all(spec: &str) -> Result<()> {
    let nonce = Spec::read(spec)?.nonce;
    let make = |Attempt { name, group, .. }: &Attempt| -> Result<Line> {
        Ok(Line { name, group, label: label(&nonce, name), outcome: in_process(name, spec)? })
    };
    for group in ATTEMPTS.chunk_by(|a, b| a.group == b.group) {
        let lines: Vec<Result<Line>> = thread::scope(|scope| {
            let made: Vec<_> = group.iter().map(|attempt| scope.spawn(|| make(attempt))).collect();
            made.into_iter().map(|thread| thread.join().unwrap_or_else(|panicked| resume_unwind(panicked))).collect()
        });
        let mut out = std::io::stdout().lock();
        for line in lines {
            serde_json::to_writer(&mut out, &line?)?;
            writeln!(out)?;
        }
    }
    Ok(())
}

/// Makes one attempt in this process.
pub fn one(name: &str, spec: Spec) -> Result<()> {
    let attempt = ATTEMPTS.iter().find(|attempt| attempt.name == name).with_context(|| format!("there is no attempt `{name}`"))?;
    let world = World { label: label(&spec.nonce, name), spec };
    let outcome = match (&attempt.way, &world.spec.host, world.spec.neighbour) {
        (Way::Alone(run), _, _) => run(&world),
        (Way::Host(run), Some(host), _) => run(&world, host),
        (Way::Neighbour(run), _, Some(neighbour)) => run(&world, neighbour),
        (Way::Host(_), None, _) => Outcome::NotApplicable("the harness does not run on the host, so it has no canary there".into()),
        (Way::Neighbour(_), _, None) => Outcome::NotApplicable("there is no neighbour".into()),
    };
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}

fn label(nonce: &str, name: &str) -> String {
    format!("<{nonce} {name} {}>", rustix::process::getuid().as_raw())
}

fn in_process(name: &str, spec: &str) -> Result<Outcome> {
    let me = env::current_exe().context("finding this program")?;
    let mut child = Command::new(me)
        .args(["try", name, spec])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting an attempt")?;
    let (sender, receiver) = mpsc::channel();
    let pipes = (child.stdout.take(), child.stderr.take());
    thread::spawn(move || {
        let (mut said, mut complaint) = (String::new(), String::new());
        // What cannot be read is missing below.
        let _ = pipes.0.map(|mut out| out.read_to_string(&mut said));
        let _ = pipes.1.map(|mut err| err.read_to_string(&mut complaint));
        sender.send((said, complaint))
    });
    let Ok((said, complaint)) = receiver.recv_timeout(PATIENCE) else {
        child.kill().context("ending an attempt")?;
        child.wait().context("ending an attempt")?;
        return Ok(Outcome::Inconclusive(format!("no result within {} s", PATIENCE.as_secs())));
    };
    let status = child.wait().context("waiting for an attempt")?;
    Ok(match (serde_json::from_str(&said), status.signal()) {
        (Ok(outcome), None) => outcome,
        (_, Some(libc::SIGSYS)) => Outcome::Held("ended by the system call filter".into()),
        _ => Outcome::Inconclusive(format!("{status}: {}", complaint.trim())),
    })
}
