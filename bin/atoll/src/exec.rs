//! A command in a sandbox, with its input and output here.

use std::{
    collections::BTreeMap,
    future::pending,
    io::{self, IsTerminal, Write},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use atoll_types::{ENVD_PORT, SandboxId, Secret};
use atoll_wire::{
    connect::{Client, Code, Messages, RpcError},
    process::{
        CloseStdinRequest, CloseStdinResponse, ProcessConfig, ProcessInput, ProcessSelector, SendInputRequest, SendInputResponse,
        SendSignalRequest, SendSignalResponse, Signal, StartRequest, StartResponse, UpdateRequest, UpdateResponse,
        process_event::{EndEvent, Event, data_event::Output},
        process_input::Input,
        process_selector::Selector,
    },
    service,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    signal::unix::{SignalKind, signal},
};

use crate::{
    failure::{NotStarted, TIMED_OUT},
    link::Link,
    signals::Signals,
    terminal::{self, Raw},
};

/// How long a command's end may hold up ours.
const FAREWELL: Duration = Duration::from_secs(5);
/// Bytes of input sent at a time.
const INPUT_CHUNK: usize = 256 << 10;

/// The process service of one sandbox.
pub struct Envd(Client);

/// What to run, and how.
#[derive(Default)]
pub struct Task {
    pub tty: bool,
    pub user: Option<String>,
    pub cwd: Option<String>,
    pub command: Vec<String>,
    pub envs: BTreeMap<String, String>,
    pub timeout: Option<Duration>,
}

/// Where a command's input comes from and where its output goes.
pub struct Ends<'a> {
    pub input: Option<Box<dyn AsyncRead + Unpin + 'a>>,
    pub stdout: Box<dyn Write + 'a>,
    pub stderr: Box<dyn Write + 'a>,
}

impl Ends<'_> {
    /// Ours; a terminal's input only if it is `wanted`.
    pub fn ours(wanted: bool) -> Self {
        let input = (wanted || !io::stdin().is_terminal()).then(|| Box::new(tokio::io::stdin()) as _);
        Self { input, stdout: Box::new(io::stdout()), stderr: Box::new(io::stderr()) }
    }
}

impl Envd {
    /// The one that `link` leads to.
    pub fn new(link: Link, id: &SandboxId, token: Option<Secret>) -> Result<Self> {
        let client = Client::new(Arc::new(link))
            .with_header(HeaderName::from_static("e2b-sandbox-id"), HeaderValue::from_str(id.as_str())?)
            .with_header(HeaderName::from_static("e2b-sandbox-port"), HeaderValue::from(ENVD_PORT))
            .with_header(HeaderName::from_static("keepalive-ping-interval"), HeaderValue::from_static("50"));
        let Some(token) = token else { return Ok(Self(client)) };
        Ok(Self(client.with_header(HeaderName::from_static("x-access-token"), sensitive(&token)?)))
    }

    /// What calls it.
    pub fn client(&self) -> &Client {
        &self.0
    }

    /// What calls it as a user of the sandbox.
    pub fn client_of(&self, user: Option<&str>) -> Result<Client> {
        let Some(user) = user else { return Ok(self.0.clone()) };
        let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:")));
        Ok(self.0.clone().with_header(header::AUTHORIZATION, HeaderValue::from_str(&basic)?))
    }
}

/// A sandbox's token as a header's value that is not shown.
pub fn sensitive(token: &Secret) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(token.expose()).context("the sandbox's token cannot be sent")?;
    value.set_sensitive(true);
    Ok(value)
}

/// Runs the task to its end; the result is the exit code for a shell.
pub async fn run(envd: &Envd, task: Task, ends: Ends<'_>, signals: &mut Signals) -> Result<u8> {
    let client = envd.client_of(task.user.as_deref())?;
    let _raw = task.tty.then(Raw::enter).transpose()?;
    let Ends { input, mut stdout, mut stderr } = ends;
    let starter = task.timeout.into_iter().fold(client.clone(), Client::with_timeout);
    let started = async {
        let mut events = starter.server_stream(service::process::START, &start(&task, input.is_some())).await?;
        match next(&mut events).await? {
            Some(Event::Start(start)) => Ok((events, start.pid)),
            _ => Err(RpcError::internal("the sandbox did not start the command")),
        }
    };
    let (mut events, pid) = started.await.map_err(|error: RpcError| match error.code {
        Code::InvalidArgument => NotStarted(error.message).into(),
        _ => told(error),
    })?;
    let process = Process { client, selector: ProcessSelector { selector: Some(Selector::Pid(pid)) } };

    let aside = async {
        let input = async {
            if let Some(input) = input {
                process.feed(input, task.tty).await
            }
        };
        let size = async {
            if task.tty {
                process.follow_size().await
            }
        };
        tokio::join!(input, size);
        pending().await
    };
    let (result, over) = tokio::select! {
        result = relay(&mut events, &mut *stdout, &mut *stderr) => { let over = result.is_ok(); (result, over) }
        never = aside => never,
        code = signals.next() => (Ok(code), false),
    };
    if !over {
        process.terminate().await;
    }
    result
}

fn start(task: &Task, feeds: bool) -> StartRequest {
    let mut envs = task.envs.clone();
    if task.tty {
        let term = std::env::var("TERM").unwrap_or_else(|_| "xterm-256color".into());
        for (name, value) in [("TERM", term.as_str()), ("LANG", "C.UTF-8"), ("LC_ALL", "C.UTF-8")] {
            envs.entry(name.into()).or_insert_with(|| value.into());
        }
    }
    let (cmd, args) = task.command.split_first().map(|(cmd, args)| (cmd.clone(), args.to_vec())).unwrap_or_default();
    StartRequest {
        process: Some(ProcessConfig { cmd, args, envs, cwd: task.cwd.clone() }),
        pty: task.tty.then(terminal::size),
        tag: None,
        stdin: Some(feeds),
    }
}

async fn next(events: &mut Messages<StartResponse>) -> Result<Option<Event>, RpcError> {
    loop {
        match events.next().await?.map(|response| response.event.and_then(|event| event.event)) {
            None => return Ok(None),
            Some(None | Some(Event::Keepalive(_))) => {}
            Some(event) => return Ok(event),
        }
    }
}

/// Writes what the command writes, until it ends.
async fn relay(events: &mut Messages<StartResponse>, mut stdout: &mut dyn Write, mut stderr: &mut dyn Write) -> Result<u8> {
    loop {
        match next(events).await {
            Ok(Some(Event::Data(data))) => match data.output {
                Some(Output::Stdout(bytes) | Output::Pty(bytes)) => write(&mut stdout, &bytes)?,
                Some(Output::Stderr(bytes)) => write(&mut stderr, &bytes)?,
                None => {}
            },
            Ok(Some(Event::End(end))) => return Ok(exit_code(&end)),
            Ok(Some(_)) => {}
            Ok(None) => return Err(anyhow!("the command's output ended without its exit code: did the sandbox end?")),
            Err(error) if error.code == Code::DeadlineExceeded => {
                eprintln!("atoll: the command ran out of time and was killed");
                return Ok(TIMED_OUT);
            }
            Err(error) => return Err(told(error)),
        }
    }
}

fn write(mut to: impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}

/// As a shell would report it: a signal is 128 and its number.
fn exit_code(end: &EndEvent) -> u8 {
    if let Ok(code) = u8::try_from(end.exit_code) {
        return code;
    }
    let signal = end.status.strip_prefix("signal: ").unwrap_or_default().trim_end_matches(" (core dumped)");
    let number = match signal {
        "hangup" => 1,
        "interrupt" => 2,
        "quit" => 3,
        "illegal instruction" => 4,
        "aborted" => 6,
        "bus error" => 7,
        "floating point exception" => 8,
        "killed" => 9,
        "segmentation fault" => 11,
        "broken pipe" => 13,
        "alarm clock" => 14,
        "terminated" => 15,
        _ => return 255,
    };
    128 + number
}

/// The failure in words for a person.
pub fn told(error: RpcError) -> anyhow::Error {
    let hint = match error.code {
        Code::Unavailable => "the sandbox cannot be reached (are E2B_SANDBOX_URL and E2B_DOMAIN right?)",
        Code::Unauthenticated => "the sandbox refused access",
        _ => return anyhow!("{}", error.message),
    };
    anyhow!("{hint}: {}", error.message)
}

/// A command that runs.
struct Process {
    client: Client,
    selector: ProcessSelector,
}

impl Process {
    /// Passes on the input to its end, or until the command no longer takes any.
    async fn feed(&self, mut input: impl AsyncRead + Unpin, tty: bool) {
        let mut buffer = vec![0; INPUT_CHUNK];
        while let Ok(count @ 1..) = input.read(&mut buffer).await {
            let bytes = Bytes::copy_from_slice(&buffer[..count]);
            let input = Some(if tty { Input::Pty(bytes) } else { Input::Stdin(bytes) });
            let request = SendInputRequest { process: Some(self.selector.clone()), input: Some(ProcessInput { input }) };
            if self.client.unary::<_, SendInputResponse>(service::process::SEND_INPUT, &request).await.is_err() {
                return;
            }
        }
        if !tty {
            let request = CloseStdinRequest { process: Some(self.selector.clone()) };
            // A command that ended meanwhile needs no end of input.
            let _ = self.client.unary::<_, CloseStdinResponse>(service::process::CLOSE_STDIN, &request).await;
        }
    }

    /// Keeps its terminal as large as ours.
    async fn follow_size(&self) {
        let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
        while changes.recv().await.is_some() {
            let request = UpdateRequest { process: Some(self.selector.clone()), pty: Some(terminal::size()) };
            // The next change tries again.
            let _ = self.client.unary::<_, UpdateResponse>(service::process::UPDATE, &request).await;
        }
    }

    /// Asks it to end: we are about to.
    async fn terminate(&self) {
        let request = SendSignalRequest { process: Some(self.selector.clone()), signal: Signal::Sigterm.into() };
        // Either it is gone already or the sandbox is.
        let _ = self.client.clone().with_timeout(FAREWELL).unary::<_, SendSignalResponse>(service::process::SEND_SIGNAL, &request).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_a_shells() {
        let code = |exit_code, status: &str| super::exit_code(&EndEvent { exit_code, status: status.into(), ..EndEvent::default() });
        assert_eq!([code(0, "exit status 0"), code(3, "exit status 3"), code(255, "")], [0, 3, 255]);
        assert_eq!([code(-1, "signal: killed"), code(-1, "signal: segmentation fault (core dumped)"), code(-1, "?")], [137, 139, 255]);
    }
}
