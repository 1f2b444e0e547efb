//! `/init`.

use std::{fs, os::unix::fs::PermissionsExt as _};

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::daemon::{Daemon, json_body, text_body};

async fn envs(daemon: &Daemon) -> Value {
    json_body(daemon.get("/envs", &[("x-access-token", "T")]).await).await
}

#[tokio::test]
async fn an_empty_body_is_a_success_and_the_version_is_told() {
    let response = Daemon::start().send(Method::POST, "/init", &[], "").await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    assert_eq!(response.headers()["x-envd-version"], atoll_wire::envd::ENVD_VERSION);
    assert_eq!(response.headers()["cache-control"], "no-store");
}

#[tokio::test]
async fn bad_bodies_are_400_without_a_body() {
    let daemon = Daemon::start();
    for bad in ["{", "[1]", r#"{"accessToken":""}"#, r#"{"accessToken":"a\\b"}"#, r#"{"timestamp":"yesterday"}"#, r#"{"envVars":"A"}"#] {
        let response = daemon.send(Method::POST, "/init", &[], bad).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{bad}");
        assert!(response.headers().contains_key("x-envd-version"), "{bad}");
        assert_eq!(text_body(response).await, "", "{bad}");
    }
}

#[tokio::test]
async fn a_token_can_only_be_sent_again() {
    let daemon = Daemon::start();
    assert_eq!(daemon.init(json!({})).await, StatusCode::NO_CONTENT);
    assert_eq!(daemon.init(json!({"accessToken": "T"})).await, StatusCode::NO_CONTENT);
    assert_eq!(daemon.init(json!({"accessToken": "T", "envVars": {"A": "1"}})).await, StatusCode::NO_CONTENT);
    for refused in [json!({"envVars": {}}), json!({"accessToken": null}), json!({"accessToken": "R", "envVars": {}})] {
        assert_eq!(daemon.init(refused.clone()).await, StatusCode::UNAUTHORIZED, "{refused}");
    }
    assert_eq!(envs(&daemon).await["A"], "1", "a refused call changes nothing");
}

#[tokio::test]
async fn variables_are_replaced_as_a_set() {
    let daemon = Daemon::start();
    daemon.init(json!({"envVars": {"A": "1", "B": "2"}})).await;
    assert_eq!(envs(&daemon).await, json!({"A": "1", "B": "2", "E2B_SANDBOX": "false"}));
    daemon.init(json!({"envVars": {"B": "3"}})).await;
    assert_eq!(envs(&daemon).await, json!({"B": "3", "E2B_SANDBOX": "false"}));
    daemon.init(json!({"defaultUser": "root"})).await;
    assert_eq!(envs(&daemon).await, json!({"B": "3", "E2B_SANDBOX": "false"}));
    daemon.init(json!({"envVars": {}})).await;
    assert_eq!(envs(&daemon).await, json!({"E2B_SANDBOX": "false"}));
}

#[tokio::test]
async fn the_platforms_variables_win() {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_envd"));
    let platform = [("E2B_SANDBOX", "true"), ("E2B_SANDBOX_ID", "i1"), ("E2B_TEMPLATE_ID", "t1")];
    command.envs(platform).env("E2B_API_KEY", "not for the sandbox");
    let daemon = Daemon::launched_by(command, &[]);
    daemon.init(json!({"envVars": {"A": "1", "E2B_SANDBOX": "x", "E2B_SANDBOX_ID": "forged"}})).await;
    assert_eq!(envs(&daemon).await, json!({"A": "1", "E2B_SANDBOX": "true", "E2B_SANDBOX_ID": "i1", "E2B_TEMPLATE_ID": "t1"}));
}

#[tokio::test]
async fn an_older_call_succeeds_and_changes_nothing() {
    let daemon = Daemon::start();
    // Ours, so that the machine's clock need not be set.
    let now = chrono::Utc::now();
    let at = |seconds: i64| (now + chrono::TimeDelta::seconds(seconds)).to_rfc3339();
    assert_eq!(daemon.init(json!({"timestamp": at(0), "envVars": {"A": "new"}})).await, StatusCode::NO_CONTENT);
    assert_eq!(daemon.init(json!({"timestamp": at(-1), "envVars": {"A": "old"}, "accessToken": "T"})).await, StatusCode::NO_CONTENT);
    assert_eq!(envs(&daemon).await["A"], "new");
    assert_eq!(daemon.init(json!({"timestamp": at(0), "envVars": {"A": "same"}})).await, StatusCode::NO_CONTENT);
    assert_eq!(envs(&daemon).await["A"], "same");
    assert_eq!(daemon.init(json!({"envVars": {"A": "untimed"}})).await, StatusCode::NO_CONTENT);
    assert_eq!(envs(&daemon).await["A"], "untimed");
}

#[tokio::test]
async fn volumes_are_refused_with_a_reason() {
    let daemon = Daemon::start();
    let mounts = json!([{"nfs_target": "192.0.2.1:/v", "path": "/mnt/v"}]);
    let response = daemon.send(Method::POST, "/init", &[], json!({"volumeMounts": mounts}).to_string()).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert!(text_body(response).await.contains("volume"));
    assert_eq!(daemon.init(json!({"volumeMounts": []})).await, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_bad_events_address_is_not_fatal() {
    let daemon = Daemon::start();
    assert_eq!(daemon.init(json!({"hyperloopIP": "nowhere", "envVars": {"A": "1"}})).await, StatusCode::NO_CONTENT);
    assert_eq!(envs(&daemon).await, json!({"A": "1", "E2B_SANDBOX": "false"}));
}

#[tokio::test]
async fn programs_find_out_that_they_are_in_a_sandbox() {
    let daemon = Daemon::start();
    let read = |name: &str| fs::read_to_string(daemon.dir.join("run").join(name)).ok();
    assert_eq!(read(".E2B_SANDBOX").as_deref(), Some("false"));
    assert_eq!(fs::metadata(daemon.dir.join("run/.E2B_SANDBOX")).unwrap().permissions().mode() & 0o777, 0o444);
    assert_eq!(read(".E2B_SANDBOX_ID"), None);
    daemon.init(json!({"envVars": {"E2B_SANDBOX_ID": "i1", "E2B_TEMPLATE_ID": "t1", "E2B_SANDBOX": "true"}})).await;
    assert_eq!((read(".E2B_SANDBOX_ID").as_deref(), read(".E2B_TEMPLATE_ID").as_deref()), (Some("i1"), Some("t1")));
    assert_eq!(read(".E2B_SANDBOX").as_deref(), Some("true"));
}
