//! `process.Process`: the service.

use std::{path::Path, sync::Arc, time::Duration};

use atoll_sys::{
    process::{DEFAULT_PATH, Signal, Spawn, SpawnError, Stdio},
    pty,
};
use atoll_wire::{
    body::Body,
    connect::{self, Call, Message, Messages, RpcError, Sink},
    process::{
        CloseStdinRequest, CloseStdinResponse, ConnectRequest, ConnectResponse, ListRequest, ListResponse, ProcessConfig, ProcessEvent,
        ProcessInfo, ProcessInput, ProcessSelector, SendInputRequest, SendInputResponse, SendSignalRequest, SendSignalResponse,
        StartRequest, StartResponse, StreamInputRequest, StreamInputResponse, UpdateRequest, UpdateResponse,
        process_event::{DataEvent, EndEvent, Event, KeepAlive, StartEvent},
        process_input::Input,
        process_selector::Selector,
        stream_input_request,
    },
};
use http::Response;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

use super::{
    Ended, Known, Processes, StartError,
    running::{InputError, Output, Process},
};
use crate::{paths, state::Context, users::User};

/// Answers a call of `method`; `None` when there is no such method. `keepalive` is how often a quiet stream says that it lives.
pub async fn handle(context: Context, call: Call, keepalive: Duration, method: &str, body: Body) -> Option<Response<Body>> {
    let processes = context.state.processes.clone();
    Some(match method {
        "Start" => {
            let deadline = call.timeout().map(|limit| Instant::now() + limit);
            let start = |request, mut sink| async move {
                let (process, output) = start(&context, request, deadline)?;
                let wrap = |event| StartResponse { event: Some(ProcessEvent { event: Some(event) }) };
                narrate(&process, output, keepalive, &mut sink, wrap).await;
                // Whoever asked for the deadline hears of it, and not of the kill that it meant.
                if process.expired() {
                    return Err(RpcError::deadline_exceeded());
                }
                tell_end(process.end(), &mut sink, wrap).await;
                Ok(())
            };
            connect::server_stream(&call, body, start).await
        }
        "Connect" => {
            let attach = |ConnectRequest { process }, mut sink| async move {
                let wrap = |event| ConnectResponse { event: Some(ProcessEvent { event: Some(event) }) };
                let end = match known(&processes, process, Processes::find)? {
                    Known::Live(process) => {
                        narrate(&process, process.subscribe(), keepalive, &mut sink, wrap).await;
                        process.end()
                    }
                    Known::Ended(Ended { pid, end, .. }) => {
                        sink.send(wrap(Event::Start(StartEvent { pid }))).await;
                        Some(end)
                    }
                };
                tell_end(end, &mut sink, wrap).await;
                Ok(())
            };
            connect::server_stream(&call, body, attach).await
        }
        "List" => connect::unary(&call, body, |_: ListRequest| async { Ok(list(&processes)) }).await,
        "Update" => connect::unary(&call, body, |request| async { update(&processes, request) }).await,
        "SendInput" => {
            let send = |SendInputRequest { process, input }| async {
                write(&*live(&processes, process)?, input).await?;
                Ok(SendInputResponse {})
            };
            connect::unary(&call, body, send).await
        }
        "StreamInput" => connect::client_stream(&call, body, |messages| stream_input(&processes, messages)).await,
        "SendSignal" => connect::unary(&call, body, |request| async { send_signal(&processes, request) }).await,
        "CloseStdin" => {
            let close = |CloseStdinRequest { process }| async {
                let closed = live(&processes, process)?.close_stdin().await;
                closed.map(|()| CloseStdinResponse {}).map_err(|error| RpcError::unknown(error.to_string()))
            };
            connect::unary(&call, body, close).await
        }
        _ => return None,
    })
}

fn start(context: &Context, request: StartRequest, deadline: Option<Instant>) -> Result<(Arc<Process>, mpsc::Receiver<Output>), RpcError> {
    let StartRequest { process, pty, tag, stdin } = request;
    let config = process.ok_or_else(|| RpcError::invalid_argument("there is no process to start"))?;
    let user = context.user()?;
    let asked = config.cwd.as_deref().unwrap_or_default();
    let cwd = paths::resolve(asked, &user, context.state.default_workdir().as_deref())
        .map_err(|error| RpcError::invalid_argument(error.to_string()))?;
    let stdio = match pty {
        Some(pty) => Stdio::Pty(size(pty.size.unwrap_or_default())),
        None => Stdio::Pipes { stdin: stdin.unwrap_or(true) },
    };
    let env = environment(context, &user, &config);
    let spawn = Spawn {
        program: &config.cmd.clone(),
        args: &config.args.clone(),
        env: &env,
        cwd: &cwd,
        uid: user.uid,
        gid: user.gid,
        groups: &user.groups,
        stdio,
    };
    context.state.processes.start(&spawn, config, tag, deadline).map_err(|error| refusal(error, &cwd))
}

/// Later entries win: the daemon's `PATH`, the account, the sandbox's variables, the request's.
fn environment(context: &Context, user: &User, config: &ProcessConfig) -> std::collections::BTreeMap<String, String> {
    let path = std::env::var("PATH").ok().filter(|path| !path.is_empty()).unwrap_or_else(|| DEFAULT_PATH.into());
    let home = user.home.to_string_lossy().into_owned();
    let account = [("PATH", path), ("HOME", home), ("USER", user.name.clone()), ("LOGNAME", user.name.clone())];
    let account = account.into_iter().map(|(name, value)| (name.to_owned(), value));
    account.chain(context.state.global_env()).chain(config.envs.clone()).collect()
}

fn refusal(error: StartError, cwd: &Path) -> RpcError {
    let text = chain(&error);
    match error {
        StartError::Spawn(SpawnError::Cwd { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            RpcError::invalid_argument(format!("cwd '{}' does not exist", cwd.display()))
        }
        StartError::Spawn(SpawnError::Streams(_) | SpawnError::User { .. }) | StartError::Watch(_) => RpcError::internal(text),
        StartError::Spawn(_) => RpcError::invalid_argument(text),
    }
}

/// An error and what caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Tells a stream about a process, from its start to the end of its output.
async fn narrate<M: Message>(
    process: &Process,
    mut output: mpsc::Receiver<Output>,
    keepalive: Duration,
    sink: &mut Sink<M>,
    wrap: fn(Event) -> M,
) {
    sink.send(wrap(Event::Start(StartEvent { pid: process.pid }))).await;
    loop {
        let event = match timeout(keepalive, output.recv()).await {
            Ok(Some(output)) => Event::Data(DataEvent { output: Some(output) }),
            Ok(None) => break,
            Err(_) => Event::Keepalive(KeepAlive {}),
        };
        sink.send(wrap(event)).await;
    }
}

async fn tell_end<M: Message>(end: Option<EndEvent>, sink: &mut Sink<M>, wrap: fn(Event) -> M) {
    if let Some(end) = end {
        sink.send(wrap(Event::End(end))).await;
    }
}

fn list(processes: &Processes) -> ListResponse {
    let info = |process: Arc<Process>| ProcessInfo { config: Some(process.config.clone()), pid: process.pid, tag: process.tag.clone() };
    ListResponse { processes: processes.live().into_iter().map(info).collect() }
}

fn update(processes: &Processes, UpdateRequest { process, pty }: UpdateRequest) -> Result<UpdateResponse, RpcError> {
    let process = live(processes, process)?;
    if let Some(pty) = pty {
        process.resize(size(pty.size.unwrap_or_default())).map_err(internal)?;
    }
    Ok(UpdateResponse {})
}

fn send_signal(processes: &Processes, SendSignalRequest { process, signal }: SendSignalRequest) -> Result<SendSignalResponse, RpcError> {
    use atoll_wire::process::Signal as Wire;
    let process = live(processes, process)?;
    let signal = match Wire::try_from(signal) {
        Ok(Wire::Sigkill) => Signal::Kill,
        Ok(Wire::Sigterm) => Signal::Term,
        Ok(Wire::Unspecified) | Err(_) => return Err(RpcError::unimplemented(format!("signal {signal} is not supported"))),
    };
    process.signal(signal).map_err(|error| RpcError::internal(format!("sending the signal: {error}")))?;
    Ok(SendSignalResponse {})
}

async fn stream_input(processes: &Processes, mut messages: Messages<StreamInputRequest>) -> Result<StreamInputResponse, RpcError> {
    use stream_input_request::{DataEvent, Event, KeepAlive, StartEvent};
    let mut target = None;
    while let Some(StreamInputRequest { event }) = messages.next().await? {
        match event {
            Some(Event::Start(StartEvent { process })) => target = Some(live(processes, process)?),
            Some(Event::Data(DataEvent { input })) => {
                let process = target.as_ref().ok_or_else(|| RpcError::invalid_argument("data came before start"))?;
                write(process, input).await?;
            }
            Some(Event::Keepalive(KeepAlive {})) => {}
            None => return Err(RpcError::unimplemented("unknown event")),
        }
    }
    Ok(StreamInputResponse {})
}

async fn write(process: &Process, input: Option<ProcessInput>) -> Result<(), RpcError> {
    match input.and_then(|input| input.input) {
        Some(Input::Stdin(bytes)) => process.write_stdin(&bytes).await,
        Some(Input::Pty(bytes)) => process.write_pty(&bytes).await,
        None => return Err(RpcError::unimplemented("the input is neither stdin nor pty")),
    }
    .map_err(internal)
}

fn live(processes: &Processes, selector: Option<ProcessSelector>) -> Result<Arc<Process>, RpcError> {
    known(processes, selector, Processes::find_live)
}

fn known<P>(processes: &Processes, selector: Option<ProcessSelector>, find: fn(&Processes, &Selector) -> Option<P>) -> Result<P, RpcError> {
    let selector = selector.and_then(|s| s.selector).ok_or_else(|| RpcError::unimplemented("no process was selected"))?;
    find(processes, &selector).ok_or_else(|| {
        RpcError::not_found(match selector {
            Selector::Pid(pid) => format!("process with pid {pid} not found"),
            Selector::Tag(tag) => format!("process with tag {tag} not found"),
        })
    })
}

fn internal(error: InputError) -> RpcError {
    RpcError::internal(error.to_string())
}

/// The kernel counts in 16 bits.
fn size(size: atoll_wire::process::pty::Size) -> pty::Size {
    pty::Size { cols: size.cols as u16, rows: size.rows as u16 }
}
