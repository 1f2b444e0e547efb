use serde_json::{Value, json};

use super::*;

#[test]
fn what_the_python_client_sends_is_read() {
    let sent = json!({
        "templateID": "base", "timeout": 300, "secure": true, "allow_internet_access": true, "metadata": {}, "envVars": {"A": "s3cret"},
        "autoResume": {"enabled": true}, "mcp": null, "volumeMounts": [{"name": "v", "path": "/v"}], "somethingNew": [1, 2],
        "network": {"denyOut": ["0.0.0.0/0"], "egressProxy": null, "rules": {"a.b": [{"transform": {"headers": {"X": "hunter2"}}}]}}
    });
    let body: NewSandbox = serde_json::from_value(sent).unwrap();
    assert_eq!((body.timeout, body.secure, body.allow_internet_access), (Some(300), Some(true), Some(true)));
    assert_eq!(body.env_vars.as_ref().unwrap()["A"].expose(), "s3cret");
    let shown = format!("{body:?}");
    assert!(!shown.contains("s3cret") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn null_is_refused_where_it_means_nothing() {
    for field in [
        "timeout",
        "autoPause",
        "autoPauseMemory",
        "autoResume",
        "secure",
        "allow_internet_access",
        "network",
        "metadata",
        "envVars",
        "iam",
        "volumeMounts",
    ] {
        let sent = json!({"templateID": "base", field: null});
        assert!(serde_json::from_value::<NewSandbox>(sent).is_err(), "{field}");
    }
    assert!(serde_json::from_str::<NewSandbox>(r#"{"templateID": null}"#).is_err());
    assert!(serde_json::from_str::<NewSandbox>(r#"{"templateID": "a", "metadata": {"k": 1}}"#).is_err(), "metadata holds text only");
    assert!(serde_json::from_str::<Refresh>(r#"{"duration": null}"#).is_err());
    assert_eq!(serde_json::from_str::<Refresh>("{}").unwrap().duration, None);
}

#[test]
fn what_is_absent_is_left_out() {
    let sandbox = Sandbox {
        template_id: "t".into(),
        sandbox_id: "i".into(),
        client_id: CLIENT_ID.into(),
        envd_version: "0.6.13".into(),
        alias: None,
        envd_access_token: None,
        traffic_access_token: None,
        domain: None,
    };
    let written = serde_json::to_value(&sandbox).unwrap();
    assert_eq!(written, json!({"templateID": "t", "sandboxID": "i", "clientID": "6532622b", "envdVersion": "0.6.13"}));

    let at = "2025-01-01T00:00:00.123456Z".parse().unwrap();
    let detail = SandboxDetail {
        listed: ListedSandbox {
            template_id: "t".into(),
            alias: Some("base".into()),
            sandbox_id: "i".into(),
            client_id: CLIENT_ID.into(),
            started_at: at,
            end_at: at,
            cpu_count: 2,
            memory_mb: 1024,
            disk_size_mb: 10240,
            state: SandboxState::Running,
            envd_version: "0.6.13".into(),
            metadata: None,
            volume_mounts: Some(Vec::new()),
        },
        envd_access_token: None,
        allow_internet_access: Some(false),
        domain: None,
        network: Some(NetworkConfig {
            egress_proxy: Some(EgressProxy { address: "h:1".into(), username: None, password: Some(atoll_types::Secret::new("p")) }),
            ..Default::default()
        }),
        lifecycle: Some(Lifecycle { auto_resume: false, on_timeout: OnTimeout::Kill }),
    };
    let written = serde_json::to_value(&detail).unwrap();
    let expected = json!({
        "templateID": "t", "alias": "base", "sandboxID": "i", "clientID": "6532622b",
        "startedAt": "2025-01-01T00:00:00.123456Z", "endAt": "2025-01-01T00:00:00.123456Z",
        "cpuCount": 2, "memoryMB": 1024, "diskSizeMB": 10240, "state": "running", "envdVersion": "0.6.13", "volumeMounts": [],
        "allowInternetAccess": false, "network": {"egressProxy": {"address": "h:1"}},
        "lifecycle": {"autoResume": false, "onTimeout": "kill"}
    });
    assert_eq!(written, expected);
    assert_eq!(
        serde_json::to_value(Error { code: 404, message: "m".into(), error_code: None }).unwrap(),
        json!({"code": 404, "message": "m"})
    );
    assert!(!written.as_object().unwrap().values().any(Value::is_null));
}
