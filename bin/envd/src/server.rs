//! The daemon's life: it boots, listens, serves until it is told to stop, and takes its processes along.

use std::{convert::Infallible, future::pending, io, net::Ipv4Addr, sync::Arc, time::Duration};

use atoll_wire::body::from_incoming;
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep, timeout},
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
    // One thread serves everything: an idle sandbox costs as little memory as possible. Work that blocks gets threads, briefly.
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(512)
        .thread_keep_alive(Duration::from_secs(1))
        .thread_stack_size(512 << 10)
        .build()?
        .block_on(serve(flags))
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

    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, flags.port)).await?;
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
            Ok((stream, _)) => drop(tokio::spawn(connection(stream, state.clone()))),
            Err(error) => {
                log::warn("envd", "cannot accept a connection", &[("error", &error)]);
                // Out of descriptors, most likely: others will be closed.
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, state: Arc<State>) {
    // Small messages must not wait for each other; a socket that cannot be told so works nevertheless.
    let _ = stream.set_nodelay(true);
    if !timeout(IDLE, stream.peek(&mut [0])).await.is_ok_and(|first| first.is_ok()) {
        return;
    }
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = router::answer(state.clone(), request.map(from_incoming));
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(HEAD_BYTES).max_headers(HEAD_LINES);
    server.http2().timer(TokioTimer::new()).max_header_list_size(HEAD_BYTES as u32);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        log::debug("envd", "connection broke", &[("error", &error)]);
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
