//! The filesystem service: what is where.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown, symlink},
};

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    daemon::{Daemon, basic, json_body, me},
    sandbox::{GID, UID, sandbox},
};

fn names(list: &Value) -> Vec<&str> {
    list["entries"].as_array().map_or(&[][..], Vec::as_slice).iter().map(|entry| entry["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn stat_tells_everything_in_protobuf_json() {
    let sandbox = sandbox!("stat_tells_everything_in_protobuf_json");
    sandbox.write("file", "12345");
    fs::set_permissions(sandbox.home.join("file"), fs::Permissions::from_mode(0o644)).unwrap();
    chown(sandbox.home.join("file"), Some(UID), Some(GID)).unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(1_700_000_000_250);
    fs::File::options().write(true).open(sandbox.home.join("file")).unwrap().set_modified(time).unwrap();
    let expected = json!({"entry": {
        "name": "file", "type": "FILE_TYPE_FILE", "path": sandbox.path("file"), "size": "5", "mode": 420, "permissions": "-rw-r--r--",
        "owner": "user", "group": "group-of-user", "modifiedTime": "2023-11-14T22:13:20.250Z",
    }});
    assert_eq!(sandbox.done("Stat", json!({"path": "file"})).await, expected);

    let home = sandbox.done("Stat", json!({})).await;
    assert_eq!((&home["entry"]["path"], &home["entry"]["type"]), (&json!(sandbox.home), &json!("FILE_TYPE_DIRECTORY")));
    let null = sandbox.done("Stat", json!({"path": "/dev/null"})).await["entry"].clone();
    assert_eq!((null.get("type"), null.get("size"), &null["permissions"]), (None, None, &json!("Dcrw-rw-rw-")));
}

#[tokio::test]
async fn a_link_has_the_type_of_its_target_and_its_absolute_path() {
    let sandbox = sandbox!("a_link_has_the_type_of_its_target_and_its_absolute_path");
    sandbox.write("file", "");
    symlink("file", sandbox.home.join("link")).unwrap();
    symlink("nowhere", sandbox.home.join("broken")).unwrap();
    let link = sandbox.done("Stat", json!({"path": "link"})).await["entry"].clone();
    let target = sandbox.home.join("file").canonicalize().unwrap();
    assert_eq!((&link["type"], &link["symlinkTarget"], &link["size"]), (&json!("FILE_TYPE_FILE"), &json!(target), &json!("4")));
    assert!(link["permissions"].as_str().unwrap().starts_with('L'));
    let broken = sandbox.done("Stat", json!({"path": "broken"})).await["entry"].clone();
    assert_eq!((broken.get("type"), broken.get("mode"), &broken["symlinkTarget"]), (None, None, &json!(sandbox.path("broken"))));
}

#[tokio::test]
async fn errors_have_the_codes_that_clients_act_on() {
    let sandbox = sandbox!("errors_have_the_codes_that_clients_act_on");
    sandbox.write("file", "");
    symlink("loop", sandbox.home.join("loop")).unwrap();
    fs::create_dir(sandbox.home.join("dir")).unwrap();
    let table = [
        ("Stat", json!({"path": "missing"}), "not_found"),
        ("Stat", json!({"path": "file/child"}), "internal"),
        ("Stat", json!({"path": "~other"}), "invalid_argument"),
        ("Stat", json!({"path": "nul\0"}), "invalid_argument"),
        ("Stat", json!({"path": 5}), "invalid_argument"),
        ("MakeDir", json!({"path": "dir"}), "already_exists"),
        ("MakeDir", json!({"path": "file"}), "invalid_argument"),
        ("MakeDir", json!({"path": "file/child"}), "internal"),
        ("Move", json!({"source": "missing", "destination": "x"}), "not_found"),
        ("Move", json!({"source": "file", "destination": "dir"}), "internal"),
        ("Move", json!({"source": "dir", "destination": "file"}), "internal"),
        ("ListDir", json!({"path": "missing"}), "not_found"),
        ("ListDir", json!({"path": "file"}), "invalid_argument"),
        ("ListDir", json!({"path": "loop"}), "failed_precondition"),
        ("GetWatcherEvents", json!({"watcherId": "none"}), "not_found"),
        ("RemoveWatcher", json!({"watcherId": "none"}), "not_found"),
        ("CreateWatcher", json!({"path": "missing"}), "not_found"),
        ("CreateWatcher", json!({"path": "file"}), "invalid_argument"),
    ];
    for (method, request, code) in table {
        assert_eq!(sandbox.fails(method, request.clone()).await, code, "{method} {request}");
    }
}

#[tokio::test]
async fn directories_are_made_for_the_user_and_only_once() {
    let sandbox = sandbox!("directories_are_made_for_the_user_and_only_once");
    let made = sandbox.done("MakeDir", json!({"path": "a/b"})).await["entry"].clone();
    assert_eq!((&made["path"], &made["permissions"], &made["owner"]), (&json!(sandbox.path("a/b")), &json!("drwxr-xr-x"), &json!("user")));
    assert_eq!(sandbox.ownership("a"), (UID, GID, 0o755));
    let (status, error) = sandbox.call("MakeDir", json!({"path": "a/b"})).await;
    assert_eq!((status, &error["code"]), (StatusCode::CONFLICT, &json!("already_exists")));
}

#[tokio::test]
async fn the_basic_user_decides_paths_and_owners_but_not_rights() {
    let sandbox = sandbox!("the_basic_user_decides_paths_and_owners_but_not_rights");
    sandbox.daemon.init(json!({"defaultUser": "root"})).await;
    fs::set_permissions(&sandbox.home, fs::Permissions::from_mode(0o000)).unwrap();
    chown(&sandbox.home, Some(0), Some(0)).unwrap();
    let user = basic("user");
    let headers = [("content-type", "application/json"), ("authorization", user.as_str())];
    let made = sandbox.daemon.send(Method::POST, "/filesystem.Filesystem/MakeDir", &headers, r#"{"path": "mine"}"#).await;
    assert_eq!(json_body(made).await["entry"]["path"], json!(sandbox.path("mine")));
    assert_eq!(sandbox.ownership("mine"), (UID, GID, 0o755));
}

#[tokio::test]
async fn without_a_default_user_calls_are_unauthenticated() {
    let daemon = Daemon::start();
    daemon.init(json!({"defaultUser": "no-such-user"})).await;
    let headers = [("content-type", "application/json")];
    let response = daemon.send(Method::POST, "/filesystem.Filesystem/Stat", &headers, r#"{"path": "/"}"#).await;
    assert_eq!((response.status(), json_body(response).await["code"].clone()), (StatusCode::UNAUTHORIZED, json!("unauthenticated")));
    let me = basic(&me());
    let response =
        daemon.send(Method::POST, "/filesystem.Filesystem/Stat", &[headers[0], ("authorization", &me)], r#"{"path": "/"}"#).await;
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn until_it_is_told_otherwise_the_daemon_means_root() {
    let headers = [("content-type", "application/json")];
    let response = Daemon::start().send(Method::POST, "/filesystem.Filesystem/Stat", &headers, "{}").await;
    let home = envd::users::find("root").unwrap().home;
    assert_eq!(json_body(response).await["entry"]["path"], json!(home));
}

#[tokio::test]
async fn removing_what_is_missing_succeeds() {
    let sandbox = sandbox!("removing_what_is_missing_succeeds");
    fs::create_dir_all(sandbox.home.join("dir/deep")).unwrap();
    sandbox.write("dir/deep/file", "");
    for path in ["dir", "dir", "missing"] {
        assert_eq!(sandbox.done("Remove", json!({"path": path})).await, json!({}));
    }
    assert!(!sandbox.home.join("dir").exists());
}

#[tokio::test]
async fn a_list_is_in_the_order_of_bytes_with_contents_after_their_directory() {
    let sandbox = sandbox!("a_list_is_in_the_order_of_bytes_with_contents_after_their_directory");
    for directory in ["b/c/d", "B"] {
        fs::create_dir_all(sandbox.home.join(directory)).unwrap();
    }
    for file in [".hidden", "a", "b.txt", "b/z", "b/c/1", "b/c/d/2"] {
        sandbox.write(file, "");
    }
    symlink("b", sandbox.home.join("link")).unwrap();
    let list = async |request: Value| sandbox.done("ListDir", request).await;
    let top = [".hidden", "B", "a", "b", "b.txt", "link"];
    for request in [json!({"path": "."}), json!({}), json!({"depth": 1}), json!({"depth": 0})] {
        assert_eq!(names(&list(request.clone()).await), top, "{request}");
    }
    assert_eq!(names(&list(json!({"depth": 2})).await), [".hidden", "B", "a", "b", "c", "z", "b.txt", "link"]);
    assert_eq!(names(&list(json!({"depth": 9})).await), [".hidden", "B", "a", "b", "c", "1", "d", "2", "z", "b.txt", "link"]);
    let through = list(json!({"path": "link"})).await;
    assert_eq!(through["entries"][1]["path"], json!(sandbox.path("link/z")), "shown under the path that was asked for");
    assert_eq!(names(&list(json!({"path": "B"})).await), [""; 0]);
}
