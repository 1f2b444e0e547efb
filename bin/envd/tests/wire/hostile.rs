//! What no client of good will does, and what a sandbox full of strange files does. Whatever happens, others are served, and memory,
//! threads and descriptors come back.

use std::{fs, process::Command, time::Duration};

use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::{
    daemon::{Daemon, encoded, envelope, until},
    process::first_process,
    sandbox::sandbox,
};

const STREAM: (&str, &str) = ("content-type", "application/connect+json");

/// The descriptors that the daemon has for processes.
fn streams(daemon: &Daemon) -> usize {
    let fds = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().flatten();
    let target = |fd: fs::DirEntry| fs::read_link(fd.path()).unwrap_or_default().to_string_lossy().into_owned();
    fds.map(target).filter(|target| ["pipe:", "anon_inode:[pidfd]", "/dev/pt"].iter().any(|kind| target.starts_with(kind))).count()
}

/// What the daemon occupies, in KiB.
fn resident(daemon: &Daemon) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A connection on which a whole request has been sent, and nothing is read.
async fn stalled(daemon: &Daemon, request: &str, content_type: &str, body: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(daemon.address).await.unwrap();
    let head = format!("{request} HTTP/1.1\r\nhost: x\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
    stream
}

#[tokio::test]
async fn ended_processes_hold_nothing_open() {
    let daemon = Daemon::for_processes().await;
    let before = streams(&daemon);
    let terminal = json!({"process": {"cmd": "true"}, "pty": {"size": {"cols": 0, "rows": 65536}}});
    for _ in 0..20 {
        assert_eq!(daemon.run("true").await.code(), 0);
        daemon.stream("Start", &[], terminal.clone()).await.outcome().await;
    }
    until(async || streams(&daemon) == before).await;
}

#[tokio::test]
async fn broken_messages_are_errors_of_their_own_calls() {
    let daemon = Daemon::for_processes().await;
    let deep = format!("{}{}", r#"{"process":"#.repeat(100_000), "}".repeat(100_000));
    let unknown = format!(r#"{{"unknown":{}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let unary: [(&str, &[u8]); 6] = [
        ("application/json", b""),
        ("application/json", b"{"),
        ("application/json", b"\xff\xfe"),
        ("application/json", deep.as_bytes()),
        ("application/proto", b"\x0a\xff\xff\xff\xff\x0f"),
        // Groups within groups.
        ("application/proto", &[0x0b; 100_000]),
    ];
    for (kind, body) in unary {
        let response = daemon.send(Method::POST, "/process.Process/SendInput", &[("content-type", kind)], body.to_vec()).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{kind}");
    }
    let response = daemon.send(Method::POST, "/process.Process/List", &[("content-type", "application/json")], unknown).await;
    assert!([StatusCode::OK, StatusCode::BAD_REQUEST].contains(&response.status()));
    let streams: [&[u8]; 6] = [b"", b"\0", b"\0\0\0\0", b"\0\0\0\0\x09{}", b"\0\xff\xff\xff\xff{}", b"\0\0\0\0\x02{}\0\0\0\0\x02{}"];
    for body in streams {
        for method in ["Start", "Connect", "StreamInput"] {
            let path = format!("/process.Process/{method}");
            let response = daemon.send(Method::POST, &path, &[STREAM], body.to_vec()).await;
            assert_eq!(response.status(), StatusCode::OK, "{method} {body:?}");
            let reply = response.into_body().collect().await.unwrap().to_bytes();
            assert!(
                body.is_empty() && method == "StreamInput" || reply.windows(9).any(|text| text == br#""error":{"#),
                "{method} {body:?}"
            );
        }
    }
    assert_eq!(daemon.run("true").await.code(), 0);
}

#[tokio::test]
async fn an_endless_body_is_not_kept() {
    let daemon = Daemon::start();
    let mut stream = TcpStream::connect(daemon.address).await.unwrap();
    stream.write_all(b"POST /init HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
    let chunk = [&b"10000\r\n"[..], &[b' '; 0x10000], b"\r\n"].concat();
    let (mut reading, mut writing) = stream.split();
    let endless = async { while writing.write_all(&chunk).await.is_ok() {} };
    let mut answer = [0; 12];
    tokio::select! {
        () = endless => {}
        read = reading.read_exact(&mut answer) => assert_eq!((read.unwrap(), &answer), (12, b"HTTP/1.1 413")),
    }
    drop(stream);
    until(async || resident(&daemon) < 16 << 10).await;
}

#[tokio::test]
async fn input_that_nobody_reads_disturbs_nobody_and_goes_with_its_client() {
    let daemon = Daemon::for_processes().await;
    let mut events = daemon.shell("exec sleep 100").await;
    let pid = events.pid().await;
    let input = json!({"process": {"pid": pid}, "input": {"stdin": encoded(&"x".repeat(2 << 20))}}).to_string();
    let mut blocked = Vec::new();
    for _ in 0..16 {
        blocked.push(stalled(&daemon, "POST /process.Process/SendInput", "application/json", input.as_bytes()).await);
    }
    until(async || resident(&daemon) > 32 << 10).await;
    assert_eq!(daemon.run("true").await.code(), 0);
    drop(blocked);
    until(async || resident(&daemon) < 16 << 10).await;
    daemon.done("SendSignal", json!({"process": {"pid": pid}, "signal": "SIGNAL_SIGKILL"})).await;
    assert_eq!(events.outcome().await.end["status"], "signal: killed");
}

#[tokio::test]
async fn output_that_nobody_reads_takes_little_memory() {
    let daemon = Daemon::for_processes().await;
    let mut stalled_clients = Vec::new();
    for _ in 0..16 {
        let start = envelope(&json!({"process": {"cmd": "cat", "args": ["/dev/zero"]}}));
        stalled_clients.push(stalled(&daemon, "POST /process.Process/Start", STREAM.1, &start).await);
    }
    daemon.until_processes(16).await;
    // Each has filled all that is between it and its client, when none writes any more.
    let mut written = String::new();
    until(async || {
        let list = daemon.done("List", json!({})).await;
        let io = |process: &serde_json::Value| fs::read_to_string(format!("/proc/{}/io", process["pid"])).unwrap_or_default();
        let seen: String = list["processes"].as_array().unwrap().iter().map(io).collect();
        std::mem::replace(&mut written, seen.clone()) == seen
    })
    .await;
    assert!(resident(&daemon) < 64 << 10, "{} KiB", resident(&daemon));
}

#[tokio::test]
async fn a_fifo_keeps_nobody_waiting() {
    let sandbox = sandbox!("a_fifo_keeps_nobody_waiting");
    assert!(Command::new("mkfifo").arg(sandbox.home.join("fifo")).status().unwrap().success());
    let response = sandbox.daemon.get("/files?path=fifo", &[]).await;
    assert_eq!((response.status(), &response.headers()["content-length"]), (StatusCode::OK, &"0".parse().unwrap()));
    let headers = [("content-type", "application/octet-stream")];
    let response = sandbox.daemon.send(Method::POST, "/files?path=fifo", &headers, "x").await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(sandbox.done("Stat", json!({"path": "fifo"})).await["entry"].get("type"), None);
}

#[tokio::test]
async fn files_from_outside_the_calendar_are_files() {
    let sandbox = sandbox!("files_from_outside_the_calendar_are_files");
    let disk = sandbox.on_disk("");
    for (name, time) in [("far", "@9000000000000000"), ("later", "@300000000000"), ("early", "@-9000000000000000")] {
        let touched = sandbox.daemon.run(&format!("touch -d {time} {disk}{name}")).await;
        assert_eq!(touched.code(), 0, "{}", touched.stderr);
        let response =
            sandbox.daemon.get(&format!("/files?path={disk}{name}"), &[("if-modified-since", "Tue, 14 Nov 2023 22:13:20 GMT")]).await;
        assert_ne!(response.status(), StatusCode::INTERNAL_SERVER_ERROR, "{name}");
        assert_eq!(sandbox.done("Stat", json!({"path": format!("{disk}{name}")})).await["entry"].get("modifiedTime"), None, "{name}");
    }
    assert_eq!(sandbox.done("ListDir", json!({"path": disk})).await["entries"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn slow_transfers_leave_threads_to_others() {
    let sandbox = sandbox!("slow_transfers_leave_threads_to_others");
    let mut slow = Vec::new();
    for n in 0..300 {
        slow.push(stalled(&sandbox.daemon, "GET /files?path=/dev/zero", "", b"").await);
        let mut upload = TcpStream::connect(sandbox.daemon.address).await.unwrap();
        let head =
            format!("POST /files?path={n} HTTP/1.1\r\nhost: x\r\ncontent-type: application/octet-stream\r\ncontent-length: 9\r\n\r\n");
        upload.write_all(head.as_bytes()).await.unwrap();
        slow.push(upload);
    }
    sandbox.done("Stat", json!({"path": "/"})).await;
    assert!(resident(&sandbox.daemon) < 256 << 10);
    drop(slow);
    let response = sandbox.daemon.send(Method::POST, "/files?path=mine", &[("content-type", "application/octet-stream")], "x").await;
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn http2_clients_that_come_and_go_disturb_nobody() {
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let daemon = Daemon::for_processes().await;
    let before = streams(&daemon);
    for _ in 0..20 {
        let stream = TcpStream::connect(daemon.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let driver = tokio::spawn(connection);
        let uri = format!("http://{}/process.Process/Start", daemon.address);
        for patience in 0..50 {
            let start = atoll_wire::body::full(envelope(&json!({"process": {"cmd": "true"}})));
            let request = http::Request::post(&uri).header(STREAM.0, STREAM.1).body(start).unwrap();
            // Sooner or later: before it is sent, before it is answered, before the answer is read.
            let _ = timeout(Duration::from_micros(100 * patience), sender.send_request(request)).await;
        }
        driver.abort();
        let _ = driver.await;
    }
    daemon.until_processes(0).await;
    until(async || streams(&daemon) == before).await;
    let mut raw = TcpStream::connect(daemon.address).await.unwrap();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    // Headers without an end, continued for ever.
    let flood =
        [&b"\0\x40\0\x01\0\0\0\0\x01"[..], &[0; 0x4000], &[&b"\0\x40\0\x09\0\0\0\0\x01"[..], &[0; 0x4000]].concat().repeat(500)].concat();
    let _ = raw.write_all(&[&preface[..], &flood].concat()).await;
    assert_eq!(daemon.run("true").await.code(), 0);
    assert!(resident(&daemon) < 32 << 10, "{} KiB", resident(&daemon));
}

#[tokio::test]
async fn the_first_process_survives_a_storm_of_orphans() {
    let Some(daemon) = first_process() else {
        return eprintln!("SKIPPED the_first_process_survives_a_storm_of_orphans: no PID namespaces here");
    };
    let mut storm = daemon.shell("i=0; while [ $i -lt 2000 ]; do (true &); i=$((i+1)); done; echo over").await;
    storm.pid().await;
    assert_eq!(daemon.run("exit 6").await.code(), 6);
    storm.until_output("over").await;
    until(async || daemon.run("grep -l '^State:.Z' /proc/[0-9]*/status | wc -l").await.stdout.trim() == "0").await;
}
