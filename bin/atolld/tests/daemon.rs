//! The program as its user sees it, with the runtime that needs nothing.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

#[path = "daemon/tls.rs"]
mod tls;

use rustix::process::{Pid, Signal, kill_process};

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("atolld-daemon-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn atolld(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_atolld"));
    command.args(arguments).env_clear().env("ATOLL_DATA_DIR", data).env("ATOLL_CACHE_DIR", data.join("cache"));
    command.env("ATOLL_NODE_RUNTIME", "sim").env("ATOLL_API_LISTEN", "127.0.0.1:0").env("ATOLL_PROXY_LISTEN", "127.0.0.1:0");
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A daemon that is ready; it is killed if the test forgets to stop it.
struct Daemon {
    child: Child,
    exports: String,
}

impl Daemon {
    fn start(data: &Path) -> Self {
        Self::spawn(atolld(data, &["all"]))
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut exports = String::new();
        while !exports.ends_with("atoll ready\n") {
            assert!(lines.read_line(&mut exports).unwrap() > 0, "it ended after {exports:?}");
        }
        Self { child, exports }
    }

    fn export(&self, name: &str) -> &str {
        let start = format!("export {name}=");
        self.exports.lines().find_map(|line| line.strip_prefix(&start)).unwrap()
    }

    fn get(&self, path: &str, key: &str) -> String {
        let address = self.export("E2B_API_URL").strip_prefix("http://localhost:").unwrap();
        let mut stream = TcpStream::connect(("127.0.0.1", address.parse().unwrap())).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nx-api-key: {key}\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.lines().next().unwrap().to_owned()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn stop(mut self) {
        self.signal(Signal::TERM);
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn starts_answers_stops_and_remembers() {
    let scratch = Scratch::new("life");
    let data = scratch.0.join("data");
    let daemon = Daemon::start(&data);
    let key = daemon.export("E2B_API_KEY").to_owned();
    assert_eq!(fs::read_to_string(data.join("env")).unwrap() + "atoll ready\n", daemon.exports);
    daemon.signal(Signal::HUP);
    assert_eq!(daemon.get("/health", ""), "HTTP/1.1 200 OK");
    assert_eq!(daemon.get("/v2/sandboxes", &key), "HTTP/1.1 200 OK");
    assert_eq!(daemon.get("/v2/sandboxes", "e2b_00"), "HTTP/1.1 401 Unauthorized");

    let second = atolld(&data, &["all"]).output().unwrap();
    assert!(!second.status.success() && stderr(&second).contains("another atolld is using the data directory"), "{}", stderr(&second));

    let team = atolld(&data, &["team", "create", "acme"]).output().unwrap();
    let printed = String::from_utf8(team.stdout).unwrap();
    let theirs = printed.split_whitespace().find(|word| word.starts_with("e2b_")).unwrap();
    assert_eq!(daemon.get("/v2/sandboxes", theirs), "HTTP/1.1 200 OK");
    let again = atolld(&data, &["team", "create", "acme"]).output().unwrap();
    assert!(!again.status.success() && stderr(&again).contains("there is a team `acme` already"));
    daemon.stop();

    let daemon = Daemon::start(&data);
    assert_eq!(daemon.export("E2B_API_KEY"), key);
    assert_eq!(daemon.get("/v2/sandboxes", &key), "HTTP/1.1 200 OK");
    daemon.stop();
}

#[test]
fn it_takes_the_room_for_open_files_that_it_may_have() {
    let scratch = Scratch::new("files");
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -S -n 256; exec \"$0\" all", env!("CARGO_BIN_EXE_atolld")]);
    let of_atolld = atolld(&scratch.0.join("data"), &[]);
    command.envs(of_atolld.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let daemon = Daemon::spawn(command);
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.child.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let numbers: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert_eq!(numbers[0], numbers[1].min(1 << 18), "{line}");
    daemon.stop();
}

#[test]
fn what_is_wrong_is_one_sentence() {
    let scratch = Scratch::new("wrong");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let file = scratch.0.join("atoll.toml");
    fs::write(&file, "[api]\nlisten_on = 1\n").unwrap();
    let file = file.display().to_string();
    let cases = [
        ("ATOLL_API_LISTEN", address.as_str(), "another program listens on"),
        ("ATOLL_CONFIG", &file, "line 2: there is no setting `api.listen_on`"),
        ("ATOLL_CONFIG", "/no/such/file", "/no/such/file"),
        ("ATOLL_API_KEY", "secret", "api.key: invalid API key"),
        ("ATOLL_TLS_DOMAIN", "localhost:443", "tls.domain must be a name of two or more labels"),
        ("ATOLL_TLS_KEY", "/no/such/key", "tls.certificate and tls.key belong together"),
        ("ATOLL_LOG", "noisy", "log.level `noisy`"),
        ("ATOLL_DATA_DIR", "/proc/none", "data directory /proc/none"),
    ];
    for (variable, value, expected) in cases {
        let output = atolld(&scratch.0.join("data"), &["all"]).env(variable, value).output().unwrap();
        let text = stderr(&output);
        assert!(!output.status.success() && text.contains(expected) && !text.contains("secret"), "{variable}: {text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}

#[test]
fn the_printed_settings_are_settings() {
    let scratch = Scratch::new("config");
    let printed = atolld(&scratch.0, &["config"]).output().unwrap().stdout;
    let file = scratch.0.join("atoll.toml");
    fs::write(&file, printed).unwrap();
    let doctor = atolld(&scratch.0, &["doctor", "--json", "--config", &file.display().to_string()]).output().unwrap();
    assert!(doctor.status.success(), "{}", stderr(&doctor));
    assert!(String::from_utf8(doctor.stdout).unwrap().contains("\"required\""));
}

#[test]
fn a_reader_that_left_is_no_failure() {
    let scratch = Scratch::new("reader");
    for arguments in [&["config"][..], &["completion", "bash"], &["man"], &["doctor", "--json"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = atolld(&scratch.0, arguments).stdout(writer).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    }
}
