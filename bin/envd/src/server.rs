//! The daemon's life: it boots, listens, serves until it is told to stop, and takes its processes along.

use std::{
    convert::Infallible,
    future::pending,
    io,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use atoll_wire::body::from_incoming;
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep},
};

use crate::{
    boot,
    flags::Flags,
    forwarder, log,
    process::{Processes, Reaper},
    router,
    state::State,
};

/// How long a connection may stay without a request; longer than any proxy in front keeps it.
const IDLE: Duration = Duration::from_secs(640);

/// The most a request's head may have, in bytes and in lines.
const HEAD_BYTES: usize = 1 << 20;
const HEAD_LINES: usize = 512;

/// How long processes have to leave when the daemon is told to stop.
const GRACE: Duration = Duration::from_secs(2);

/// Runs the daemon until SIGTERM.
pub fn run(flags: Flags) -> io::Result<()> {
    atoll_sys::memory::return_when_freed();
    // One thread serves everything: an idle sandbox costs as little memory as possible. Work that blocks gets threads, briefly.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(512)
        .thread_keep_alive(Duration::from_secs(1))
        .thread_stack_size(512 << 10)
        .build()?;
    let ended = runtime.block_on(serve(flags));
    // Whatever still blocks, perhaps for ever, must not keep the daemon.
    runtime.shutdown_background();
    ended
}

async fn serve(flags: Flags) -> io::Result<()> {
    if flags.verbose {
        log::set_verbose();
    }
    let first_process = std::process::id() == 1;
    if first_process {
        boot::prepare_machine();
    }
    let mut stop = signal(SignalKind::terminate())?;
    let in_vm = !flags.isnotfc;
    let state = State::new(flags.run_dir, in_vm, boot::internal_env(in_vm), Processes::new(Reaper::new(first_process)));
    boot::write_run_files(&state.run_dir, &state.global_env());

    let listener = match atoll_sys::listeners::inherited() {
        Some(socket) => socket.set_nonblocking(true).and_then(|()| TcpListener::from_std(socket))?,
        None => TcpListener::bind((Ipv4Addr::UNSPECIFIED, flags.port)).await?,
    };
    let port = listener.local_addr()?.port();
    log::info("envd", "listening", &[("port", &port), ("version", &atoll_wire::envd::ENVD_VERSION)]);
    tokio::select! {
        result = state.processes.reaper().run() => result,
        () = accept(listener, state.clone()) => Ok(()),
        () = forwarder::run(port, flags.forward_address) => Ok(()),
        _ = stop.recv() => {
            log::info("envd", "stopping", &[]);
            stop_processes(&state.processes, first_process).await;
            Ok(())
        }
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(connection(stream, state.clone(), IDLE))),
            Err(error) => {
                log::warn("envd", "cannot accept a connection", &[("error", &error)]);
                // Out of descriptors, most likely: others will be closed.
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Serves one connection. It may be without a request for as long as `idle`; streams may be quiet for ever.
async fn connection(stream: TcpStream, state: Arc<State>, idle: Duration) {
    // Small messages must not wait for each other; a socket that cannot be told so works nevertheless.
    let _ = stream.set_nodelay(true);
    let asked = AtomicBool::new(false);
    let service = service_fn(|request: Request<Incoming>| {
        asked.store(true, Ordering::Relaxed);
        let answer = router::answer(state.clone(), request.map(from_incoming));
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(idle).max_buf_size(HEAD_BYTES).max_headers(HEAD_LINES);
    server.http2().timer(TokioTimer::new()).max_header_list_size(HEAD_BYTES as u32);
    tokio::select! {
        served = server.serve_connection(TokioIo::new(stream), service) => {
            if let Err(error) = served {
                log::debug("envd", "connection broke", &[("error", &error)]);
            }
        }
        // Until it is known which HTTP a client speaks, and whether it speaks at all, no limit of the server's counts.
        () = async {
            sleep(idle).await;
            if asked.load(Ordering::Relaxed) {
                pending().await
            }
        } => {}
    }
}

/// Forwards the order to stop and waits a little for those who obey; the first process of a PID namespace takes the rest along when it
/// leaves.
async fn stop_processes(processes: &Processes, first_process: bool) {
    if first_process {
        atoll_sys::process::terminate_all();
    } else {
        processes.terminate();
    }
    let given_up = Instant::now() + GRACE;
    let reaping = async {
        while atoll_sys::process::has_children() && Instant::now() < given_up {
            sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = reaping => {}
        _ = processes.reaper().run() => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        time::timeout,
    };

    use super::*;

    const SHORT: Duration = Duration::from_millis(300);
    const PATIENCE: Duration = Duration::from_secs(30);

    async fn connect() -> TcpStream {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let state = State::new("/nowhere".into(), false, BTreeMap::new(), Processes::new(Reaper::new(false)));
        tokio::spawn(connection(listener.accept().await.unwrap().0, state, SHORT));
        client
    }

    #[tokio::test]
    async fn a_connection_without_a_whole_request_is_closed_after_a_while() {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        let heads: [&[u8]; 5] = [b"", b"P", &preface[..20], preface, b"GET /health HTTP/1.1\r\nhost: "];
        for head in heads {
            let mut client = connect().await;
            client.write_all(head).await.unwrap();
            // Whatever is said before it is closed is fine.
            let closed = timeout(PATIENCE, client.read_to_end(&mut Vec::new())).await;
            assert!(closed.is_ok(), "{:?} keeps a connection", String::from_utf8_lossy(head));
        }
    }

    #[tokio::test]
    async fn a_stream_may_last_longer_than_idleness() {
        let mut client = connect().await;
        client.write_all(b"GET /files?path=/dev/zero HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let begun = Instant::now();
        let mut buffer = vec![0; 1 << 16];
        while begun.elapsed() < 3 * SHORT {
            assert!(client.read(&mut buffer).await.unwrap() > 0);
        }
    }
}
