//! Starting, watching and ending processes.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use atoll_wire::{
    connect::Client,
    process::{ProcessConfig, StartRequest, StartResponse, process_event},
    service,
    transport::Http,
};
use serde_json::json;

use crate::daemon::{Daemon, Event, Outcome, basic, encoded, me, shell, until};

/// A pipe with a name: whoever reads it waits until the test lets go.
fn fifo(daemon: &Daemon) -> PathBuf {
    let path = daemon.dir.join("fifo");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

fn let_go(fifo: &Path) {
    File::options().write(true).open(fifo).unwrap().write_all(b"\n").unwrap();
}

fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[tokio::test]
async fn a_run_is_start_then_data_then_end_then_end_of_stream() {
    let daemon = Daemon::for_processes().await;
    let mut events = daemon.shell("echo out").await;
    events.pid().await;
    assert_eq!(events.next().await, Event::Stdout(b"out\n".into()));
    // What is zero or false is absent, and so is `error`.
    assert_eq!(events.next().await, Event::End(json!({"exited": true, "status": "exit status 0"})));
    assert_eq!(events.next().await, Event::Eos(json!({})));
}

#[tokio::test]
async fn start_does_not_wait_for_output() {
    let daemon = Daemon::for_processes().await;
    let pid = daemon.shell("exec sleep 100").await.pid().await;
    assert!(exists(pid));
}

#[tokio::test]
async fn a_failure_has_its_code_and_an_error() {
    let outcome = Daemon::for_processes().await.run("echo no >&2; exit 7").await;
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", "no\n"));
    assert_eq!(outcome.end, json!({"exitCode": 7, "exited": true, "status": "exit status 7", "error": "exit status 7"}));
}

#[tokio::test]
async fn a_signal_is_minus_one_with_gos_name() {
    let outcome = Daemon::for_processes().await.run("kill -HUP $$").await;
    assert_eq!(outcome.end, json!({"exitCode": -1, "status": "signal: hangup", "error": "signal: hangup"}));
}

#[tokio::test]
async fn a_missing_command_is_no_rpc_error() {
    let daemon = Daemon::for_processes().await;
    for (cmd, code) in [("no-such-command", 127), ("/no/such/command", 127), ("", 127), ("/etc/passwd", 126), ("/", 126)] {
        let outcome = daemon.stream("Start", &[], json!({"process": {"cmd": cmd}})).await.outcome().await;
        assert_eq!(outcome.code(), code, "{cmd:?}");
        assert!(!outcome.stderr.is_empty() && outcome.pid > 0, "{cmd:?}");
    }
}

#[tokio::test]
async fn a_bad_cwd_is_an_rpc_error_before_start() {
    let daemon = Daemon::for_processes().await;
    for cwd in ["/no/such/directory", "/etc/passwd", "~nobody", "a\0b"] {
        let request = json!({"process": {"cmd": "true", "cwd": cwd}});
        let outcome = daemon.stream("Start", &[], request).await.outcome().await;
        assert_eq!((outcome.error(), outcome.pid), ("invalid_argument", 0), "{cwd:?}");
    }
    let request = json!({"process": {"cmd": "true", "cwd": "/no/such/directory"}});
    let outcome = daemon.stream("Start", &[], request).await.outcome().await;
    assert!(outcome.eos["error"]["message"].as_str().unwrap().contains("cwd '/no/such/directory'"));
}

#[tokio::test]
async fn bad_requests_to_start_are_errors_in_the_stream() {
    let daemon = Daemon::for_processes().await;
    for request in [json!({}), json!({"process": {"cmd": "a\0b"}}), json!({"process": {"cmd": "true", "envs": {"A\0": ""}}})] {
        assert_eq!(daemon.stream("Start", &[], request.clone()).await.outcome().await.error(), "invalid_argument", "{request}");
    }
    let timeout = [("connect-timeout-ms", "soon")];
    assert_eq!(daemon.stream("Start", &timeout, shell("true")).await.outcome().await.error(), "invalid_argument");
    let nobody = [("authorization", &*basic("no-such-user"))];
    assert_eq!(daemon.stream("Start", &nobody, shell("true")).await.outcome().await.error(), "unauthenticated");
}

#[tokio::test]
async fn an_unknown_default_user_is_unauthenticated() {
    let daemon = Daemon::start();
    daemon.init(json!({"defaultUser": "no-such-user"})).await;
    assert_eq!(daemon.run("true").await.error(), "unauthenticated");
    let named = [("authorization", &*basic(&me()))];
    assert_eq!(daemon.stream("Start", &named, shell("true")).await.outcome().await.code(), 0);
}

#[tokio::test]
async fn the_environment_is_path_account_sandbox_and_request() {
    let daemon = Daemon::for_processes().await;
    daemon.init(json!({"envVars": {"A": "init", "B": "init"}})).await;
    let request = json!({"process": {"cmd": "env", "envs": {"B": "request"}}});
    let outcome = daemon.stream("Start", &[], request).await.outcome().await;
    let mut lines: Vec<_> = outcome.stdout.lines().filter(|line| !line.starts_with("HOME=")).collect();
    lines.sort_unstable();
    let path = format!("PATH={}", std::env::var("PATH").unwrap());
    let (user, logname) = (format!("USER={}", me()), format!("LOGNAME={}", me()));
    assert_eq!(lines, ["A=init", "B=request", "E2B_SANDBOX=false", &logname, &path, &user]);

    let request = json!({"process": {"cmd": "sh", "args": ["-c", "echo $E2B_SANDBOX"], "envs": {"E2B_SANDBOX": "request"}}});
    assert_eq!(daemon.stream("Start", &[], request).await.outcome().await.stdout, "request\n");
}

#[tokio::test]
async fn the_default_workdir_replaces_only_an_empty_cwd() {
    let daemon = Daemon::for_processes().await;
    let pwd = async |cwd: Option<&str>| {
        let mut request = json!({"process": {"cmd": "pwd"}});
        if let Some(cwd) = cwd {
            request["process"]["cwd"] = cwd.into();
        }
        daemon.stream("Start", &[], request).await.outcome().await.stdout
    };
    let home = pwd(None).await;
    assert_eq!(pwd(Some("~")).await, home);
    daemon.init(json!({"defaultWorkdir": "/usr"})).await;
    assert_eq!((pwd(None).await.as_str(), pwd(Some("")).await.as_str()), ("/usr\n", "/usr\n"));
    assert_eq!(pwd(Some(".")).await, home);
    assert_eq!(pwd(Some("/proc/..")).await, "/\n");
}

#[tokio::test]
async fn a_process_leads_a_session_without_a_terminal() {
    let outcome = Daemon::for_processes().await.run("cut -d' ' -f1,6,7 /proc/$$/stat; cat /proc/$$/oom_score_adj").await;
    let fields: Vec<_> = outcome.stdout.split_whitespace().collect();
    let pid = outcome.pid.to_string();
    assert_eq!(fields, [&pid, &pid, "0", "100"]);
}

#[tokio::test]
async fn a_process_is_the_user_of_the_basic_credentials() {
    let accounts = envd::users::Accounts::read();
    let Some(user) = accounts.user("nobody").filter(|_| me() == "root") else {
        return eprintln!("SKIPPED a_process_is_the_user_of_the_basic_credentials: needs root and an account `nobody`");
    };
    let daemon = Daemon::start();
    let request = json!({"process": {"cmd": "sh", "args": ["-c", "id -u; id -g; echo $USER; cat /proc/$$/oom_score_adj"], "cwd": "/"}});
    let nobody = [("authorization", &*basic("nobody"))];
    let outcome = daemon.stream("Start", &nobody, request).await.outcome().await;
    assert_eq!(outcome.stdout, format!("{}\n{}\nnobody\n100\n", user.uid, user.gid));
    let hidden = daemon.dir.join("hidden");
    fs::create_dir(&hidden).unwrap();
    fs::set_permissions(&hidden, fs::Permissions::from_mode(0o700)).unwrap();
    let request = json!({"process": {"cmd": "true", "cwd": hidden}});
    assert_eq!(daemon.stream("Start", &nobody, request).await.outcome().await.error(), "invalid_argument", "it may not enter");
}

#[tokio::test]
async fn a_quiet_stream_is_kept_alive_after_start() {
    let daemon = Daemon::for_processes().await;
    let fifo = fifo(&daemon);
    let mut events = daemon.stream("Start", &[("keepalive-ping-interval", "1")], shell(&format!("cat {}", fifo.display()))).await;
    events.pid().await;
    assert_eq!((events.next().await, events.next().await), (Event::Keepalive, Event::Keepalive));
    let_go(&fifo);
    assert_eq!(events.outcome().await.code(), 0);
}

#[tokio::test]
async fn the_deadline_ends_the_stream_and_not_with_the_kill_it_means() {
    let daemon = Daemon::for_processes().await;
    let outcome = daemon.stream("Start", &[("connect-timeout-ms", "200")], shell("echo early; exec sleep 100")).await.outcome().await;
    assert_eq!((outcome.error(), outcome.stdout.as_str()), ("deadline_exceeded", "early\n"));
    daemon.until_processes(0).await;
    assert!(!exists(outcome.pid));
}

#[tokio::test]
async fn the_deadline_kills_whether_or_not_someone_watches_and_whoever_holds_the_pipes() {
    let daemon = Daemon::for_processes().await;
    let fifo = fifo(&daemon);
    let script = format!("cat {} & wait", fifo.display());
    let pid = daemon.stream("Start", &[("connect-timeout-ms", "200")], shell(&script)).await.pid().await;
    let watched = daemon.stream("Connect", &[], json!({"process": {"pid": pid}})).await.outcome().await;
    assert_eq!(watched.end["status"], "signal: killed");
    daemon.until_processes(0).await;
    assert!(!exists(pid));
    let_go(&fifo);
}

#[tokio::test]
async fn a_deadline_on_connect_bounds_only_the_stream() {
    let daemon = Daemon::for_processes().await;
    let pid = daemon.shell("exec sleep 100").await.pid().await;
    let outcome = daemon.stream("Connect", &[("connect-timeout-ms", "50")], json!({"process": {"pid": pid}})).await.outcome().await;
    assert_eq!((outcome.error(), outcome.pid), ("deadline_exceeded", pid));
    daemon.until_processes(1).await;
}

#[tokio::test]
async fn the_end_waits_for_the_end_of_output() {
    let daemon = Daemon::for_processes().await;
    let fifo = fifo(&daemon);
    let mut events = daemon.shell(&format!("cat {} & exit 3", fifo.display())).await;
    let pid = events.pid().await;
    // It is reaped at once, and yet its end is not told.
    until(async || !exists(pid)).await;
    daemon.until_processes(1).await;
    let_go(&fifo);
    let outcome = events.outcome().await;
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (3, "\n"));
}

#[tokio::test]
async fn a_kill_does_not_wait_for_the_end_of_output() {
    let daemon = Daemon::for_processes().await;
    let fifo = fifo(&daemon);
    for signal in [json!("SIGNAL_SIGKILL"), json!(15)] {
        let mut events = daemon.shell(&format!("cat {} & echo ready; wait", fifo.display())).await;
        let pid = events.pid().await;
        events.until_output("ready").await;
        daemon.done("SendSignal", json!({"process": {"pid": pid}, "signal": signal})).await;
        let outcome = events.outcome().await;
        assert_eq!((outcome.code(), outcome.end["exited"].is_null()), (-1, true));
        assert!(!exists(pid), "a zombie would answer `kill -0`");
        let_go(&fifo);
    }
}

#[tokio::test]
async fn a_kill_cuts_the_wait_of_a_process_that_has_exited() {
    let daemon = Daemon::for_processes().await;
    let fifo = fifo(&daemon);
    let mut events = daemon.shell(&format!("cat {} & exit 0", fifo.display())).await;
    let pid = events.pid().await;
    until(async || !exists(pid)).await;
    daemon.done("SendSignal", json!({"process": {"pid": pid}, "signal": "SIGNAL_SIGKILL"})).await;
    assert_eq!(events.outcome().await.end["status"], "exit status 0");
    let_go(&fifo);
}

#[tokio::test]
async fn what_a_process_says_on_sigterm_is_heard() {
    let daemon = Daemon::for_processes().await;
    let mut events = daemon.shell("trap 'echo bye; exit 4' TERM; echo ready; while :; do sleep 0.01; done").await;
    let pid = events.pid().await;
    events.until_output("ready").await;
    daemon.done("SendSignal", json!({"process": {"pid": pid}, "signal": "SIGNAL_SIGTERM"})).await;
    let outcome = events.outcome().await;
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (4, "bye\n"));
}

#[tokio::test]
async fn other_signals_are_unimplemented_and_unknown_processes_not_found() {
    let daemon = Daemon::for_processes().await;
    let pid = daemon.shell("exec sleep 100").await.pid().await;
    for signal in [json!(0), json!(2), json!("SIGNAL_UNSPECIFIED")] {
        let request = json!({"process": {"pid": pid}, "signal": signal});
        assert_eq!(daemon.fails("SendSignal", request).await.0, "unimplemented");
    }
    for method in ["SendSignal", "SendInput", "CloseStdin", "Update"] {
        let (code, message) = daemon.fails(method, json!({"process": {"pid": 999_999}, "signal": 9, "input": {"stdin": ""}})).await;
        assert_eq!(code, "not_found", "{method}");
        assert!(message.contains("999999"), "{message}");
        assert_eq!(daemon.fails(method, json!({"process": {"tag": "none"}, "signal": 9})).await.0, "not_found", "{method}");
        assert_eq!(daemon.fails(method, json!({"signal": 9})).await.0, "unimplemented", "{method}");
    }
    for (selector, code) in [(json!({"pid": 999_999}), "not_found"), (json!({}), "unimplemented")] {
        assert_eq!(daemon.stream("Connect", &[], json!({"process": selector})).await.outcome().await.error(), code);
    }
}

#[tokio::test]
async fn without_a_listener_output_is_drained_and_not_replayed() {
    let daemon = Daemon::for_processes().await;
    let done = daemon.dir.join("done");
    let pid = daemon.shell(&format!("head -c 1000000 /dev/zero; touch {}; cat", done.display())).await.pid().await;
    // More than a pipe holds was written, so someone read it.
    until(async || done.exists()).await;
    let mut events = daemon.stream("Connect", &[], json!({"process": {"pid": pid}})).await;
    assert_eq!(events.pid().await, pid);
    daemon.done("SendInput", json!({"process": {"pid": pid}, "input": {"stdin": encoded("new")}})).await;
    assert_eq!(events.until_output("new").await, "new");
}

#[tokio::test]
async fn every_subscriber_gets_every_chunk() {
    let daemon = Daemon::for_processes().await;
    let mut first = daemon.shell("cat").await;
    let pid = first.pid().await;
    let connect = json!({"process": {"pid": pid}});
    let mut second = daemon.stream("Connect", &[], connect.clone()).await;
    let mut third = daemon.stream("Connect", &[], connect.clone()).await;
    second.pid().await;
    third.pid().await;
    daemon.done("SendInput", json!({"process": {"pid": pid}, "input": {"stdin": encoded("to all")}})).await;
    drop(third);
    for events in [&mut first, &mut second] {
        assert_eq!(events.until_output("to all").await, "to all");
    }
    daemon.done("CloseStdin", connect).await;
    assert_eq!((first.outcome().await.code(), second.outcome().await.code()), (0, 0));
}

#[tokio::test]
async fn an_attached_client_loses_nothing() {
    let daemon = Daemon::for_processes().await;
    let mut events = daemon.shell("head -c 20000000 /dev/zero").await;
    events.pid().await;
    let mut received = 0;
    loop {
        match events.next().await {
            Event::Stdout(bytes) => {
                assert!(bytes.len() <= 32 << 10);
                received += bytes.len();
            }
            Event::End(_) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(received, 20_000_000);
}

#[tokio::test]
async fn a_client_that_does_not_read_cannot_prevent_a_kill() {
    let daemon = Daemon::for_processes().await;
    let mut stalled = daemon.shell("exec cat /dev/zero").await;
    let pid = stalled.pid().await;
    // It has filled everything between it and the client, and waits.
    let mut written = String::new();
    until(async || {
        let before = std::mem::replace(&mut written, fs::read_to_string(format!("/proc/{pid}/io")).unwrap());
        fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") S ") && written == before
    })
    .await;
    let watching = daemon.stream("Connect", &[], json!({"process": {"pid": pid}})).await;
    daemon.done("SendSignal", json!({"process": {"pid": pid}, "signal": "SIGNAL_SIGKILL"})).await;
    assert_eq!(watching.outcome().await.end["status"], "signal: killed");
    assert_eq!(stalled.outcome().await.end["status"], "signal: killed");
}

#[tokio::test]
async fn the_end_can_be_asked_for_afterwards() {
    let daemon = Daemon::for_processes().await;
    let request = json!({"process": {"cmd": "sh", "args": ["-c", "echo x; exit 5"]}, "tag": "t"});
    let ran = daemon.stream("Start", &[], request).await.outcome().await;
    assert_eq!(daemon.done("List", json!({})).await, json!({}));
    for selector in [json!({"pid": ran.pid}), json!({"tag": "t"})] {
        let outcome = daemon.stream("Connect", &[], json!({"process": selector})).await.outcome().await;
        assert_eq!((outcome.pid, outcome.end, outcome.stdout.as_str()), (ran.pid, ran.end.clone(), ""));
    }
    // Whoever has the tag now is meant by it.
    let request = json!({"process": {"cmd": "sleep", "args": ["100"]}, "tag": "t"});
    let pid = daemon.stream("Start", &[], request).await.pid().await;
    assert_eq!(daemon.stream("Connect", &[], json!({"process": {"tag": "t"}})).await.pid().await, pid);
    daemon.done("SendSignal", json!({"process": {"tag": "t"}, "signal": "SIGNAL_SIGKILL"})).await;
    daemon.until_processes(0).await;
    assert_eq!(daemon.fails("SendSignal", json!({"process": {"tag": "t"}, "signal": "SIGNAL_SIGKILL"})).await.0, "not_found");
}

#[tokio::test]
async fn each_of_several_tags_finds_its_process() {
    let daemon = Daemon::for_processes().await;
    let mut pids = Vec::new();
    for tag in ["a", "b", "c"] {
        let config = json!({"cmd": "sleep", "args": ["100"], "envs": {"X": "y"}, "cwd": "/"});
        pids.push(daemon.stream("Start", &[], json!({"process": config, "tag": tag})).await.pid().await);
    }
    let untagged = daemon.shell("exec sleep 100").await.pid().await;
    for (tag, pid) in ["a", "b", "c"].into_iter().zip(&pids) {
        assert_eq!(daemon.stream("Connect", &[], json!({"process": {"tag": tag}})).await.pid().await, *pid);
    }
    let list = daemon.done("List", json!({})).await;
    let expected = json!({"config": {"cmd": "sleep", "args": ["100"], "envs": {"X": "y"}, "cwd": "/"}, "pid": pids[1], "tag": "b"});
    assert_eq!(list["processes"][1], expected);
    let expected = json!({"config": {"cmd": "sh", "args": ["-c", "exec sleep 100"]}, "pid": untagged});
    assert_eq!(list["processes"][3], expected);
}

#[tokio::test]
async fn binary_protobuf_works_like_json() {
    let daemon = Daemon::for_processes().await;
    let transport = Http::new(format!("http://{}", daemon.address).parse().unwrap()).unwrap();
    let client = Client::new(Arc::new(transport));
    let config = ProcessConfig { cmd: "sh".into(), args: vec!["-c".into(), "printf x; kill -KILL $$".into()], ..Default::default() };
    let request = StartRequest { process: Some(config), ..Default::default() };
    let mut messages = client.server_stream::<_, StartResponse>(service::process::START, &request).await.unwrap();
    let mut events = Vec::new();
    while let Some(StartResponse { event }) = messages.next().await.unwrap() {
        events.push(event.unwrap().event.unwrap());
    }
    assert!(matches!(events[0], process_event::Event::Start(_)));
    let Some(process_event::Event::End(end)) = events.last() else { panic!("{events:?}") };
    assert_eq!((end.exit_code, end.status.as_str()), (-1, "signal: killed"));
}

#[tokio::test]
async fn many_runs_at_once_all_end() {
    let daemon = Daemon::for_processes().await;
    let started = Instant::now();
    let mut streams = Vec::new();
    for n in 0..40 {
        streams.push((n, daemon.shell(&format!("echo {n}; exit {n}")).await));
    }
    for (n, events) in streams {
        let outcome: Outcome = events.outcome().await;
        assert_eq!((outcome.code(), outcome.stdout), (n, format!("{n}\n")));
    }
    daemon.until_processes(0).await;
    assert!(started.elapsed() < Duration::from_secs(30));
}

/// The daemon as the first process of a PID namespace.
pub fn first_process() -> Option<Daemon> {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", env!("CARGO_BIN_EXE_envd")]);
    let possible = Command::new("unshare").args(["--pid", "--fork", "--mount-proc", "true"]).output();
    if !possible.is_ok_and(|output| output.status.success()) {
        return None;
    }
    let mut daemon = Daemon::launched_by(command, &[]);
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", daemon.pid())).unwrap();
    daemon.terminated_by(children.trim().parse().unwrap());
    Some(daemon)
}

#[tokio::test]
async fn the_first_process_reaps_orphans() {
    let Some(daemon) = first_process() else {
        return eprintln!("SKIPPED the_first_process_reaps_orphans: no PID namespaces here");
    };
    for _ in 0..20 {
        assert_eq!(daemon.run("(true & true &) ; sh -c 'true &'; exit 6").await.code(), 6);
    }
    let zombies = "grep -l '^State:.Z' /proc/[0-9]*/status | wc -l";
    until(async || daemon.run(zombies).await.stdout.trim() == "0").await;
}

#[tokio::test]
async fn sigterm_to_the_first_process_is_told_to_all_and_ends_it() {
    let Some(mut daemon) = first_process() else {
        return eprintln!("SKIPPED sigterm_to_the_first_process_is_told_to_all_and_ends_it: no PID namespaces here");
    };
    let told = daemon.dir.join("told");
    let grandchild = format!("trap 'touch {}; exit' TERM; echo ready; while :; do sleep 0.01; done", told.display());
    let mut events = daemon.shell(&format!("sh -c \"{grandchild}\" & trap '' TERM; wait")).await;
    events.until_output("ready").await;
    daemon.terminate();
    assert!(daemon.wait().success());
    assert!(told.exists());
}

#[tokio::test]
async fn sigterm_is_told_to_processes() {
    let mut daemon = Daemon::for_processes().await;
    let pid = daemon.shell("exec sleep 100").await.pid().await;
    daemon.terminate();
    assert!(daemon.wait().success());
    assert!(!exists(pid));
}
