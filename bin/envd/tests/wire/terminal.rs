//! Pseudo-terminals.

use serde_json::{Value, json};

use crate::daemon::{Daemon, Events, encoded};

async fn open(daemon: &Daemon, script: &str) -> Option<Events> {
    if atoll_sys::pty::open(atoll_sys::pty::Size { cols: 1, rows: 1 }).is_err() {
        eprintln!("SKIPPED: no pseudo-terminals here");
        return None;
    }
    let config = json!({"cmd": "sh", "args": ["-c", script]});
    let request = json!({"process": config, "pty": {"size": {"cols": 80, "rows": 24}}});
    Some(daemon.stream("Start", &[], request).await)
}

async fn type_in(daemon: &Daemon, pid: u32, text: &str) -> Value {
    daemon.done("SendInput", json!({"process": {"pid": pid}, "input": {"pty": encoded(text)}})).await
}

#[tokio::test]
async fn a_terminal_has_the_size_it_was_given_last() {
    let daemon = Daemon::for_processes().await;
    let Some(mut events) = open(&daemon, "stty -echo; stty size; read x; stty size; tty; exit 0").await else { return };
    let pid = events.pid().await;
    events.until_output("24 80\r\n").await;
    daemon.done("Update", json!({"process": {"pid": pid}, "pty": {"size": {"cols": 132, "rows": 0}}})).await;
    type_in(&daemon, pid, "\n").await;
    let outcome = events.outcome().await;
    assert!(outcome.pty.contains("0 132") && outcome.pty.contains("/dev/pts/"), "{outcome:?}");
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (0, ""));
}

#[tokio::test]
async fn who_comes_back_sees_only_what_is_new() {
    let daemon = Daemon::for_processes().await;
    let Some(mut events) = open(&daemon, "stty -echo; echo old; while read x; do echo \"got $x\"; done").await else { return };
    let pid = events.pid().await;
    events.until_output("old").await;
    drop(events);
    let mut events = daemon.stream("Connect", &[], json!({"process": {"pid": pid}})).await;
    events.pid().await;
    type_in(&daemon, pid, "new\n").await;
    assert!(!events.until_output("got new").await.contains("old"));
    daemon.done("SendSignal", json!({"process": {"pid": pid}, "signal": "SIGNAL_SIGKILL"})).await;
    assert_eq!(events.outcome().await.end["status"], "signal: killed");
}

#[tokio::test]
async fn a_terminal_is_no_pipe() {
    let daemon = Daemon::for_processes().await;
    let Some(mut events) = open(&daemon, "cat; exit 9").await else { return };
    let pid = events.pid().await;
    assert_eq!(daemon.fails("CloseStdin", json!({"process": {"pid": pid}})).await.0, "unknown");
    let request = json!({"process": {"pid": pid}, "input": {"stdin": encoded("x")}});
    assert_eq!(daemon.fails("SendInput", request).await.0, "internal");
    type_in(&daemon, pid, "\x04").await;
    assert_eq!(events.outcome().await.code(), 9);
}

#[tokio::test]
async fn an_interrupt_is_typed() {
    let daemon = Daemon::for_processes().await;
    let Some(mut events) = open(&daemon, "trap 'exit 33' INT; echo ready; while :; do sleep 0.01; done").await else { return };
    let pid = events.pid().await;
    events.until_output("ready").await;
    type_in(&daemon, pid, "\x03").await;
    assert_eq!(events.outcome().await.code(), 33);
}
