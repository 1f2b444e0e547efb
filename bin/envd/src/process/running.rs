//! One process: its streams, who listens, and its end.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use atoll_sys::{
    process::{Child, ChildIo, Exit, Signal},
    pty,
    readiness::watch,
};
use atoll_wire::process::{ProcessConfig, process_event::EndEvent};
use bytes::Bytes;
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{Notify, mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout},
};

use super::exit;
use crate::log;

pub use atoll_wire::process::process_event::data_event::Output;

/// Chunks that may wait for one listener before the process waits.
const QUEUE: usize = 8;

/// The most that is read at once from a pipe, and from a terminal.
const PIPE_CHUNK: usize = 32 << 10;
const PTY_CHUNK: usize = 16 << 10;

/// How long output may still flow after the end of a process that was told to end.
const LAST_WORDS: Duration = Duration::from_millis(50);

type Pipe = AsyncFd<File>;

/// A process that was started, and what is left of it after its end.
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// What was asked for.
    pub config: ProcessConfig,
    /// Its name among clients.
    pub tag: Option<String>,
    pidfd: OwnedFd,
    input: Input,
    /// `None` after the end: who comes then gets no output.
    listeners: Mutex<Option<Vec<mpsc::Sender<Output>>>>,
    /// Someone wants it to end, so its end does not wait for its output.
    cut: Notify,
    expired: AtomicBool,
    end: watch::Sender<Option<EndEvent>>,
}

enum Input {
    /// The pipe; `None` if there was none or it was closed.
    Stdin(tokio::sync::Mutex<Option<Pipe>>),
    /// The terminal; the lock keeps what two clients type apart.
    Pty(Arc<Pipe>, tokio::sync::Mutex<()>),
}

/// Where the output of a process comes from.
pub enum Streams {
    /// Standard output and standard error.
    Pipes(Pipe, Pipe),
    /// A terminal.
    Pty(Arc<Pipe>),
}

/// Why input did not reach a process.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// Input for a terminal, and there is none.
    #[error("the process has no terminal")]
    NotPty,
    /// Input for a pipe, and there is a terminal.
    #[error("the process has a terminal: send it pty input")]
    IsPty,
    /// There was no pipe, or it was closed.
    #[error("the standard input is not enabled or was closed")]
    Closed,
    /// The process ended in the meantime.
    #[error("the process has ended")]
    Ended,
    /// The kernel refused.
    #[error("writing to the process: {0}")]
    Write(io::Error),
}

impl Process {
    /// Takes charge of a process that was just started. If that fails the process is killed.
    pub fn new(child: Child, config: ProcessConfig, tag: Option<String>) -> io::Result<(Self, Streams)> {
        let Child { pid, pidfd, io } = child;
        let (input, streams) = watched(io).inspect_err(|_| {
            // The error says more than whether there was still something to kill.
            let _ = atoll_sys::process::signal(&pidfd, Signal::Kill);
        })?;
        let process = Self {
            pid,
            config,
            tag,
            pidfd,
            input,
            listeners: Mutex::new(Some(Vec::new())),
            cut: Notify::new(),
            expired: AtomicBool::new(false),
            end: watch::Sender::new(None),
        };
        Ok((process, streams))
    }

    /// Its output from now on; the receiver is closed after the end.
    pub fn subscribe(&self) -> mpsc::Receiver<Output> {
        let (listener, output) = mpsc::channel(QUEUE);
        if let Some(listeners) = &mut *self.listeners() {
            listeners.retain(|listener| !listener.is_closed());
            listeners.push(listener);
        }
        output
    }

    /// How it ended, once it has.
    pub fn end(&self) -> Option<EndEvent> {
        self.end.borrow().clone()
    }

    /// Whether it was killed because its time was up.
    pub fn expired(&self) -> bool {
        self.expired.load(Ordering::Relaxed)
    }

    /// Sends a signal that shall end it. Its end does not wait any more for whoever else holds its output open.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let sent = atoll_sys::process::signal(&self.pidfd, signal);
        self.cut.notify_one();
        match sent {
            // Reaped already, and only its output is waited for.
            Err(_) if self.end.borrow().is_none() => Ok(()),
            sent => sent,
        }
    }

    /// Changes the size of its terminal.
    pub fn resize(&self, size: pty::Size) -> Result<(), InputError> {
        match &self.input {
            Input::Pty(terminal, _) => pty::resize(terminal.get_ref(), size).map_err(InputError::Write),
            Input::Stdin(_) => Err(InputError::NotPty),
        }
    }

    /// Writes to its standard input, waiting while the pipe is full.
    pub async fn write_stdin(&self, bytes: &[u8]) -> Result<(), InputError> {
        let Input::Stdin(stdin) = &self.input else { return Err(InputError::IsPty) };
        self.unless_ended(async {
            let stdin = stdin.lock().await;
            write_all(stdin.as_ref().ok_or(InputError::Closed)?, bytes).await
        })
        .await
    }

    /// Writes to its terminal.
    pub async fn write_pty(&self, bytes: &[u8]) -> Result<(), InputError> {
        let Input::Pty(terminal, turn) = &self.input else { return Err(InputError::NotPty) };
        self.unless_ended(async {
            let _turn = turn.lock().await;
            write_all(terminal, bytes).await
        })
        .await
    }

    /// Closes its standard input; closing again changes nothing.
    pub async fn close_stdin(&self) -> Result<(), InputError> {
        let Input::Stdin(stdin) = &self.input else { return Err(InputError::IsPty) };
        *stdin.lock().await = None;
        Ok(())
    }

    async fn unless_ended(&self, work: impl Future<Output = Result<(), InputError>>) -> Result<(), InputError> {
        let mut end = self.end.subscribe();
        tokio::select! {
            result = work => result,
            _ = end.wait_for(Option::is_some) => Err(InputError::Ended),
        }
    }

    /// Carries its output to the listeners until it has ended, and records how.
    pub async fn supervise(&self, streams: Streams, mut exited: oneshot::Receiver<Exit>, deadline: Option<Instant>) {
        let mut output = std::pin::pin!(self.carry(streams));
        let mut time_is_up = std::pin::pin!(async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        });
        let (mut drained, mut cut, mut exit) = (false, false, None);
        let exit = loop {
            tokio::select! {
                () = &mut output, if !drained => drained = true,
                () = self.cut.notified(), if !cut => cut = true,
                // The reaper keeps its end until it has reaped; were it gone, nothing could be known about the exit.
                reaped = &mut exited, if exit.is_none() => exit = Some(reaped.unwrap_or(Exit::Code(-1))),
                () = &mut time_is_up, if !self.expired() => {
                    self.expired.store(true, Ordering::Relaxed);
                    // It may have just ended by itself.
                    let _ = self.signal(Signal::Kill);
                }
            }
            if let Some(exit) = exit
                && (drained || cut)
            {
                break exit;
            }
        };
        if !drained {
            // What it wrote before it ended is worth a moment; someone else may hold the pipes open for ever.
            let _ = timeout(LAST_WORDS, output).await;
        }
        let end = exit::event(exit);
        log::info("process", "process_end", &[("pid", &self.pid), ("status", &end.status)]);
        self.end.send_replace(Some(end));
        *self.listeners() = None;
        if let Input::Stdin(stdin) = &self.input {
            *stdin.lock().await = None;
        }
    }

    async fn carry(&self, streams: Streams) {
        match streams {
            Streams::Pipes(stdout, stderr) => {
                tokio::join!(self.pump(&stdout, PIPE_CHUNK, Output::Stdout), self.pump(&stderr, PIPE_CHUNK, Output::Stderr));
            }
            Streams::Pty(terminal) => self.pump(&terminal, PTY_CHUNK, Output::Pty).await,
        }
    }

    /// Any error is the end of the stream: a terminal whose last program left reads as EIO.
    async fn pump(&self, source: &Pipe, chunk: usize, wrap: fn(Bytes) -> Output) {
        let read = |mut file: &File| {
            let mut buffer = [0; PIPE_CHUNK];
            let length = file.read(&mut buffer[..chunk])?;
            Ok(Bytes::copy_from_slice(&buffer[..length]))
        };
        while let Ok(bytes) = source.async_io(Interest::READABLE, |file| read(file)).await {
            if bytes.is_empty() {
                return;
            }
            self.publish(wrap(bytes)).await;
        }
    }

    /// Hands a chunk to every listener, waiting for the slowest; without listeners it is dropped.
    async fn publish(&self, output: Output) {
        let listeners = self.listeners().clone().unwrap_or_default();
        for listener in listeners {
            // Whoever has left needs none.
            let _ = listener.send(output.clone()).await;
        }
    }

    fn listeners(&self) -> MutexGuard<'_, Option<Vec<mpsc::Sender<Output>>>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn watched(io: ChildIo) -> io::Result<(Input, Streams)> {
    Ok(match io {
        ChildIo::Pipes { stdin, stdout, stderr } => {
            let stdin = stdin.map(|fd| watch(fd, Interest::WRITABLE)).transpose()?;
            let output = Streams::Pipes(watch(stdout, Interest::READABLE)?, watch(stderr, Interest::READABLE)?);
            (Input::Stdin(tokio::sync::Mutex::new(stdin)), output)
        }
        ChildIo::Pty(master) => {
            let terminal = Arc::new(watch(master, Interest::READABLE | Interest::WRITABLE)?);
            (Input::Pty(terminal.clone(), tokio::sync::Mutex::default()), Streams::Pty(terminal))
        }
    })
}

async fn write_all(pipe: &Pipe, mut bytes: &[u8]) -> Result<(), InputError> {
    while !bytes.is_empty() {
        let written = pipe.async_io(Interest::WRITABLE, |mut file| file.write(bytes)).await.map_err(InputError::Write)?;
        bytes = &bytes[written..];
    }
    Ok(())
}
