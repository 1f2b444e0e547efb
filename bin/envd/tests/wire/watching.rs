//! The filesystem service: what changes.

use std::{fs, sync::Arc, time::Duration};

use atoll_wire::{
    connect::{Client, Code, Messages, RpcError},
    filesystem::{EventType, FilesystemEvent, WatchDirRequest, WatchDirResponse, rpc, watch_dir_response::Event},
    transport::Http,
};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    daemon::{PATIENCE, envelope, until},
    sandbox::{Sandbox, sandbox},
};

fn client(sandbox: &Sandbox) -> Client {
    Client::new(Arc::new(Http::new(format!("http://{}", sandbox.daemon.address).parse().unwrap()).unwrap()))
}

/// A watch of which the start has arrived.
struct Watched(Messages<WatchDirResponse>);

impl Watched {
    async fn start(client: &Client, request: WatchDirRequest) -> Result<Self, RpcError> {
        let mut watched = Self(client.server_stream(rpc::WATCH_DIR, &request).await?);
        assert!(matches!(watched.message().await?, Some(Event::Start(_))), "the first message is the start");
        Ok(watched)
    }

    async fn message(&mut self) -> Result<Option<Event>, RpcError> {
        let message = timeout(PATIENCE, self.0.next()).await.expect("the stream stays silent")?;
        Ok(message.map(|message| message.event.expect("a message holds an event")))
    }

    /// The next event.
    async fn event(&mut self) -> FilesystemEvent {
        match self.message().await.unwrap() {
            Some(Event::Filesystem(event)) => event,
            other => panic!("not an event: {other:?}"),
        }
    }

    /// Reads until there is such an event.
    async fn until(&mut self, name: &str, kind: EventType) -> FilesystemEvent {
        loop {
            let event = self.event().await;
            if event.name == name && event.r#type == i32::from(kind) {
                return event;
            }
        }
    }
}

fn watch(path: &str) -> WatchDirRequest {
    WatchDirRequest { path: path.into(), ..Default::default() }
}

#[tokio::test]
async fn an_upload_over_a_file_is_a_write_with_its_name() {
    let sandbox = sandbox!("an_upload_over_a_file_is_a_write_with_its_name");
    sandbox.write("file", "old");
    let mut watched = Watched::start(&client(&sandbox), watch("")).await.unwrap();
    let headers = [("content-type", "application/octet-stream")];
    let response = sandbox.daemon.send(Method::POST, "/files?path=file", &headers, "new").await;
    assert_eq!(response.status(), StatusCode::OK);
    let first = watched.event().await;
    assert_eq!((first.name.as_str(), first.r#type), ("file", i32::from(EventType::Chmod)), "the owner comes before the content");
    assert_eq!(watched.until("file", EventType::Write).await.entry, None);
    fs::rename(sandbox.home.join("file"), sandbox.home.join("moved")).unwrap();
    watched.until("file", EventType::Rename).await;
    watched.until("moved", EventType::Create).await;
    fs::remove_file(sandbox.home.join("moved")).unwrap();
    watched.until("moved", EventType::Remove).await;
}

#[tokio::test]
async fn every_write_call_counts_while_a_file_is_open() {
    use std::io::Write as _;
    let sandbox = sandbox!("every_write_call_counts_while_a_file_is_open");
    let mut file = fs::File::create(sandbox.home.join("log")).unwrap();
    let mut watched = Watched::start(&client(&sandbox), watch("")).await.unwrap();
    for _ in 0..3 {
        file.write_all(b"line\n").unwrap();
        watched.until("log", EventType::Write).await;
    }
}

#[tokio::test]
async fn a_recursive_watch_follows_new_directories_with_relative_names() {
    let sandbox = sandbox!("a_recursive_watch_follows_new_directories_with_relative_names");
    let mut watched = Watched::start(&client(&sandbox), WatchDirRequest { recursive: true, ..watch("") }).await.unwrap();
    fs::create_dir_all(sandbox.home.join("new/deep")).unwrap();
    watched.until("new/deep", EventType::Create).await;
    sandbox.write("new/deep/file", "text");
    watched.until("new/deep/file", EventType::Write).await;
    fs::rename(sandbox.home.join("new"), sandbox.home.join("newer")).unwrap();
    watched.until("newer", EventType::Create).await;
    sandbox.write("newer/deep/file", "again");
    watched.until("newer/deep/file", EventType::Write).await;
}

#[tokio::test]
async fn entries_come_when_asked_for_and_only_for_what_is_there() {
    let sandbox = sandbox!("entries_come_when_asked_for_and_only_for_what_is_there");
    let mut watched = Watched::start(&client(&sandbox), WatchDirRequest { include_entry: true, ..watch("") }).await.unwrap();
    sandbox.write("file", "12345");
    let entry = watched.until("file", EventType::Write).await.entry.unwrap();
    assert_eq!((entry.path, entry.size, entry.permissions.as_str()), (sandbox.path("file"), 5, "-rw-r--r--"));
    fs::remove_file(sandbox.home.join("file")).unwrap();
    assert_eq!(watched.until("file", EventType::Remove).await.entry, None);
}

#[tokio::test]
async fn the_root_is_a_dot_and_its_end_leaves_the_stream_open() {
    let sandbox = sandbox!("the_root_is_a_dot_and_its_end_leaves_the_stream_open");
    fs::create_dir(sandbox.home.join("dir")).unwrap();
    let keepalive = client(&sandbox).with_header(HeaderName::from_static("keepalive-ping-interval"), HeaderValue::from_static("1"));
    let mut watched = Watched::start(&keepalive, watch("dir")).await.unwrap();
    fs::remove_dir(sandbox.home.join("dir")).unwrap();
    watched.until(".", EventType::Remove).await;
    for _ in 0..2 {
        assert!(matches!(watched.message().await.unwrap(), Some(Event::Keepalive(_))));
    }
}

#[tokio::test]
async fn what_cannot_be_watched_ends_a_stream_of_status_200() {
    let sandbox = sandbox!("what_cannot_be_watched_ends_a_stream_of_status_200");
    sandbox.write("file", "");
    for (path, code) in [("missing", "not_found"), ("file", "invalid_argument"), ("~other", "invalid_argument")] {
        let headers = [("content-type", "application/connect+json"), ("connect-timeout-ms", "60000")];
        let response = sandbox.daemon.send(Method::POST, rpc::WATCH_DIR, &headers, envelope(&json!({"path": path}))).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        let body = atoll_wire::body::collect(response.into_body(), 1 << 16).await.unwrap();
        let end: Value = serde_json::from_slice(&body[5..]).unwrap();
        assert_eq!((body[0], &end["error"]["code"]), (2, &json!(code)), "{path}");
    }
}

#[tokio::test]
async fn a_deadline_ends_the_stream_with_deadline_exceeded() {
    let sandbox = sandbox!("a_deadline_ends_the_stream_with_deadline_exceeded");
    let limited = client(&sandbox).with_timeout(Duration::from_millis(300));
    let mut watched = Watched::start(&limited, watch("")).await.unwrap();
    assert_eq!(watched.message().await.unwrap_err().code, Code::DeadlineExceeded);
}

/// How many directories the daemon watches.
fn watches(sandbox: &Sandbox) -> usize {
    let infos = fs::read_dir(format!("/proc/{}/fdinfo", sandbox.daemon.pid())).unwrap().flatten();
    infos.map(|info| fs::read_to_string(info.path()).unwrap_or_default().matches("inotify wd:").count()).sum()
}

#[tokio::test]
async fn a_stream_watches_for_as_long_as_its_client_listens() {
    let sandbox = sandbox!("a_stream_watches_for_as_long_as_its_client_listens");
    fs::create_dir(sandbox.home.join("sub")).unwrap();
    let watched = Watched::start(&client(&sandbox), WatchDirRequest { recursive: true, ..watch("") }).await.unwrap();
    assert_eq!(watches(&sandbox), 2);
    drop(watched);
    until(async || watches(&sandbox) == 0).await;
}

/// All that a watcher has, once there is such an event.
async fn collect(sandbox: &Sandbox, id: &Value, name: &str, kind: &str) -> Vec<Value> {
    let mut events = Vec::new();
    until(async || {
        let reply = sandbox.done("GetWatcherEvents", json!({"watcherId": id})).await;
        events.extend(reply["events"].as_array().cloned().unwrap_or_default());
        events.iter().any(|event| event["name"] == name && event["type"] == kind)
    })
    .await;
    events
}

#[tokio::test]
async fn a_watcher_keeps_events_until_they_are_asked_for_and_then_forgets_them() {
    let sandbox = sandbox!("a_watcher_keeps_events_until_they_are_asked_for_and_then_forgets_them");
    let id = sandbox.done("CreateWatcher", json!({"path": "", "recursive": true})).await["watcherId"].clone();
    let text = id.as_str().unwrap();
    assert!(
        text.len() == 21 && text.starts_with('w') && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()),
        "{text}"
    );
    fs::create_dir(sandbox.home.join("sub")).unwrap();
    let events = collect(&sandbox, &id, "sub", "EVENT_TYPE_CREATE").await;
    assert_eq!(events, [json!({"name": "sub", "type": "EVENT_TYPE_CREATE"})]);
    sandbox.write("sub/file", "text");
    let events = collect(&sandbox, &id, "sub/file", "EVENT_TYPE_WRITE").await;
    assert!(events.iter().all(|event| event["name"] == "sub/file"), "{events:?}");
    assert_eq!(sandbox.done("GetWatcherEvents", json!({"watcherId": id})).await, json!({}));
    assert_eq!(sandbox.done("RemoveWatcher", json!({"watcherId": id})).await, json!({}));
    for method in ["GetWatcherEvents", "RemoveWatcher"] {
        assert_eq!(sandbox.fails(method, json!({"watcherId": id})).await, "not_found");
    }
    until(async || watches(&sandbox) == 0).await;
}

#[tokio::test]
async fn a_watcher_that_broke_says_so_every_time() {
    let sandbox = sandbox!("a_watcher_that_broke_says_so_every_time");
    let id = sandbox.done("CreateWatcher", json!({"path": ""})).await["watcherId"].clone();
    // Long names fill what a watcher may keep before they fill the kernel's queue.
    let names = [0, 1].map(|at| sandbox.home.join(format!("{}{at}", "n".repeat(250))));
    fs::write(&names[0], "").unwrap();
    let broken = async || sandbox.call("GetWatcherEvents", json!({"watcherId": id})).await.0 == StatusCode::INTERNAL_SERVER_ERROR;
    for _ in 0..30_000 {
        fs::rename(&names[0], &names[1]).unwrap();
        fs::rename(&names[1], &names[0]).unwrap();
    }
    until(broken).await;
    assert!(broken().await);
}
