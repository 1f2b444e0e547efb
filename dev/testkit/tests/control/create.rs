use std::time::Duration;

use atoll_control::ControlConfig;
use atoll_testkit::World;
use atoll_types::{EndReason, SandboxId};
use http::{Request, header};
use serde_json::{Value, json};

#[tokio::test]
async fn what_the_sdks_send_makes_a_sandbox() {
    let world = World::start().await.unwrap();
    let body = json!({
        "templateID": "base", "timeout": 300, "secure": true, "allow_internet_access": true, "metadata": {"user": "abc"},
        "envVars": {"TOKEN": "s3cret"}, "mcp": {"github": {"apiKey": "hunter2"}}, "forwardCompatible": {"x": 1}
    });
    let made = world.api().post("/sandboxes", body).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(made.header("content-type"), Some("application/json; charset=utf-8"));
    assert_eq!(made.header("access-control-allow-origin"), Some("*"));
    let row = world.row(made.text("sandboxID")).await.unwrap();
    let token = row.access_token.as_ref().unwrap().expose();
    let expected = json!({
        "templateID": row.template, "sandboxID": row.id, "clientID": "6532622b", "envdVersion": "0.6.13", "alias": "base",
        "envdAccessToken": token
    });
    assert_eq!(made.body, expected);
    assert_ne!(made.text("templateID"), "base");
    assert!(made.text("sandboxID").len() == 21 && token.len() == 64);

    let id: SandboxId = made.text("sandboxID").parse().unwrap();
    let init = world.sim.inits(&id).pop().unwrap();
    assert_eq!((&init["envVars"]["TOKEN"], &init["accessToken"]), (&"s3cret".into(), &token.into()));
    let kept = row.options.to_string();
    assert!(kept.contains("TOKEN") && kept.contains("github") && !kept.contains("s3cret") && !kept.contains("hunter2"), "{kept}");

    let detail = world.api().get(&format!("/sandboxes/{id}")).await;
    let expected = json!({
        "templateID": row.template, "alias": "base", "sandboxID": id, "clientID": "6532622b",
        "startedAt": "2026-01-01T00:00:00Z", "endAt": "2026-01-01T00:05:00Z", "cpuCount": 2, "memoryMB": 1024, "diskSizeMB": 10240,
        "state": "running", "envdVersion": "0.6.13", "metadata": {"user": "abc"}, "volumeMounts": [], "envdAccessToken": token,
        "allowInternetAccess": true, "lifecycle": {"autoResume": false, "onTimeout": "kill"}
    });
    assert_eq!((detail.status, detail.body), (200, expected));
}

#[tokio::test]
async fn what_is_left_out_gets_its_default() {
    let world = World::start().await.unwrap();
    let made = world.api().post("/sandboxes", json!({"templateID": " BASE:default ", "network": {}})).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert!(made.body.get("envdAccessToken").is_none() && made.body.get("domain").is_none());
    let detail = world.api().get(&format!("/sandboxes/{}", made.text("sandboxID"))).await;
    assert_eq!(detail.text("endAt"), "2026-01-01T00:00:15Z");
    assert_eq!(detail.body["network"], json!({"allowPublicTraffic": true}), "defaults of what was given are shown");
    for absent in ["envdAccessToken", "allowInternetAccess", "metadata", "domain"] {
        assert!(detail.body.get(absent).is_none(), "{absent}");
    }
    // By id, with the suffix of old clients.
    let template = made.text("templateID");
    let again = world.api().post("/sandboxes", json!({"templateID": template})).await;
    let old = world.api().get(&format!("/sandboxes/{}-6532622b", again.text("sandboxID"))).await;
    assert_eq!((old.status, old.text("sandboxID")), (200, again.text("sandboxID")));
}

#[tokio::test]
async fn the_second_version_is_always_secure_and_lives_longer() {
    let world = World::start().await.unwrap();
    let made = world.api().post("/v2/sandboxes", json!({"templateID": "base", "metadata": {}, "envVars": {}, "secure": false})).await;
    assert_eq!((made.status, made.text("envdAccessToken").len()), (201, 64), "{made:?}");
    let path = format!("/sandboxes/{}", made.text("sandboxID"));
    assert_eq!(world.api().get(&path).await.text("endAt"), "2026-01-01T00:05:00Z");
    world.clock.advance(Duration::from_secs(60));
    let reached = world.api().send(http::Method::POST, &format!("/v2{path}/connect"), None).await;
    assert_eq!((reached.status, &reached.body), (200, &made.body));
    assert_eq!(world.api().get(&path).await.text("endAt"), "2026-01-01T00:06:00Z");
    let longer = world.api().post(&format!("/v2{path}/connect"), json!({"timeout": 600, "memory": true})).await;
    assert_eq!(longer.status, 200);
    assert_eq!(world.api().get(&path).await.text("endAt"), "2026-01-01T00:11:00Z");
    assert_eq!(world.api().post(&format!("/v2{path}/connect"), json!({"timeout": null})).await.status, 400);
}

#[tokio::test]
async fn a_named_request_makes_one_sandbox() {
    let world = World::start().await.unwrap();
    let other = world.another_team("other").await.unwrap();
    let send = async |api: &atoll_testkit::Api, key: &str, body: Value| {
        let request = Request::post("/v2/sandboxes").header(header::CONTENT_TYPE, "application/json").header("idempotency-key", key);
        api.send_request(request, body.to_string()).await
    };
    let body = json!({"templateID": "base", "timeout": 3600, "envVars": {"A": "b", "C": "d"}});
    let first = send(&world.api(), "k-1", body.clone()).await;
    assert_eq!(first.status, 201);
    let again = send(&world.api(), "k-1", body.clone()).await;
    assert_eq!((again.status, &again.body), (201, &first.body));
    let changed = send(&world.api(), "k-1", json!({"templateID": "base", "timeout": 3600, "envVars": {"A": "b", "C": "e"}})).await;
    assert_eq!((changed.status, changed.text("error_code")), (422, "idempotency_request_mismatch"), "{changed:?}");
    for (api, key) in [(world.api(), "k-2"), (other, "k-1")] {
        let fresh = send(&api, key, body.clone()).await;
        assert!(fresh.status == 201 && fresh.text("sandboxID") != first.text("sandboxID"), "{fresh:?}");
    }
    for bad in ["", "A", "a_b", &"a".repeat(256)] {
        assert_eq!(send(&world.api(), bad, body.clone()).await.status, 400, "{bad:?}");
    }

    // While it starts, the second is told to wait; when it fails, the name is free again.
    world.sim.delay(Duration::from_millis(300));
    world.sim.refuse(Some("not today"));
    let (api, slow) = (world.api(), body.clone());
    let request = tokio::spawn(async move {
        let request = Request::post("/v2/sandboxes").header(header::CONTENT_TYPE, "application/json").header("idempotency-key", "k-3");
        api.send_request(request, slow.to_string()).await
    });
    world.until("it starts", || async { world.store.fleet().starting().await.unwrap().pop() }).await.unwrap();
    let early = send(&world.api(), "k-3", body.clone()).await;
    assert_eq!((early.status, early.text("error_code")), (409, "idempotency_in_progress"), "{early:?}");
    assert_eq!((early.header("should-retry"), early.header("retry-after")), (Some("true"), Some("1")));
    assert_eq!(request.await.unwrap().status, 500);
    world.sim.refuse(None);
    assert_eq!(send(&world.api(), "k-3", body.clone()).await.status, 201);

    // After a day a name means nothing any more.
    world.clock.advance(Duration::from_secs(24 * 3600 + 1));
    let next_day = send(&world.api(), "k-1", body).await;
    assert!(next_day.status == 201 && next_day.text("sandboxID") != first.text("sandboxID"), "{next_day:?}");
}

#[tokio::test]
async fn wrong_requests_are_told_what_is_wrong() {
    let world = World::start().await.unwrap();
    let base = |more: Value| {
        let mut body = json!({"templateID": "base"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let wrong = [
        (400, json!({})),
        (400, json!({"templateID": 5})),
        (400, json!({"templateID": null})),
        (400, json!({"templateID": "a b"})),
        (400, json!({"templateID": "a:"})),
        (404, json!({"templateID": "nope"})),
        (404, json!({"templateID": "base:v9"})),
        (404, json!({"templateID": "default/nope"})),
        (400, base(json!({"timeout": 0}))),
        (400, base(json!({"timeout": -1}))),
        (400, base(json!({"timeout": 86401}))),
        (400, base(json!({"timeout": 99999999999i64}))),
        (400, base(json!({"timeout": null}))),
        (400, base(json!({"timeout": "5"}))),
        (400, base(json!({"metadata": {"a": 1}}))),
        (400, base(json!({"metadata": null}))),
        (400, base(json!({"envVars": {"a": null}}))),
        (400, base(json!({"envVars": {"A=B": "c"}}))),
        (400, base(json!({"envVars": {"A": "\u{0}"}}))),
        (400, base(json!({"autoPauseMemory": false}))),
        (400, base(json!({"autoPause": true, "autoPauseMemory": false, "autoResume": {"enabled": true}}))),
        (400, base(json!({"autoResume": {}}))),
        (400, base(json!({"network": {"allowPublicTraffic": false}}))),
        (400, base(json!({"network": {"denyOut": ["x.com"]}}))),
        (403, base(json!({"network": {"egressProxy": {"address": "a:1"}}}))),
        (400, base(json!({"iam": {"tokens": {"a": {"audience": "b", "tokenType": "JWT-SVID"}}}}))),
        (400, base(json!({"volumeMounts": [{"name": "v", "path": "/v"}]}))),
        (501, base(json!({"secure": true, "network": {"allowPublicTraffic": false}}))),
    ];
    for (status, body) in wrong {
        let reply = world.api().post("/sandboxes", body.clone()).await;
        assert_eq!((reply.status, &reply.body["code"]), (status, &status.into()), "{body}: {reply:?}");
        assert!(reply.text("message").len() > 10, "{reply:?}");
        if status == 400 {
            assert!(reply.text("message").starts_with("validation error: "), "{body}: {reply:?}");
        }
    }
    for harmless in [
        json!({"autoPause": false}),
        json!({"autoPause": true, "autoResume": {"enabled": true}}),
        json!({"network": {"maskRequestHost": "localhost:${PORT}"}}),
        json!({"iam": {}}),
        json!({"volumeMounts": []}),
        json!({"mcp": null}),
        json!({"autoPauseMemory": true, "autoPause": false}),
    ] {
        assert_eq!(world.api().post("/sandboxes", base(harmless)).await.status, 201);
    }
    assert_eq!(world.sim.living().len(), 7, "nothing was started for the wrong ones");
}

#[tokio::test]
async fn bodies_must_be_json_and_not_endless() {
    let world = World::start().await.unwrap();
    let api = world.api();
    let send = async |media_type: Option<&str>, body: String| {
        let mut request = Request::post("/sandboxes");
        if let Some(media_type) = media_type {
            request = request.header(header::CONTENT_TYPE, media_type);
        }
        api.send_request(request, body).await
    };
    let good = json!({"templateID": "base"}).to_string();
    assert_eq!(send(Some("application/json; charset=utf-8"), good.clone()).await.status, 201);
    for (media_type, body) in [
        (None, good.clone()),
        (Some("text/plain"), good.clone()),
        (Some("application/x-www-form-urlencoded"), good.clone()),
        (Some("application/json"), String::new()),
        (Some("application/json"), "{".into()),
        (Some("application/json"), "[]".into()),
        (Some("application/json"), format!("{good}{good}")),
        (Some("application/json"), "[".repeat(100_000)),
        (Some("application/json"), "{\"templateID\": \"\\ud800\"}".into()),
    ] {
        let reply = send(media_type, body).await;
        assert_eq!((reply.status, reply.body["code"].as_u64()), (400, Some(400)), "{media_type:?}: {reply:?}");
    }
    let large = json!({"templateID": "base", "metadata": {"a": "x".repeat(16 << 20)}}).to_string();
    let reply = send(Some("application/json"), large).await;
    assert_eq!((reply.status, reply.body["code"].as_u64()), (413, Some(413)));
}

#[tokio::test]
async fn the_limit_of_a_team_is_its_own() {
    let config = ControlConfig { sandboxes_per_team: 3, ..Default::default() };
    let world = World::start_with(config).await.unwrap();
    let other = world.another_team("other").await.unwrap();
    let body = json!({"templateID": "base"});
    let attempts: Vec<_> = (0..8)
        .map(|_| {
            let (api, body) = (world.api(), body.clone());
            tokio::spawn(async move { api.post("/sandboxes", body).await })
        })
        .collect();
    let mut made = Vec::new();
    for attempt in attempts {
        let reply = attempt.await.unwrap();
        match reply.status {
            201 => made.push(reply.text("sandboxID").to_owned()),
            429 => {
                assert!(reply.body["code"] == 429 && reply.text("message").contains("(3)"), "{reply:?}");
                assert_eq!(reply.header("should-retry"), Some("false"), "or SDKs would wait for nothing");
            }
            _ => panic!("{reply:?}"),
        }
    }
    assert_eq!((made.len(), world.sim.living().len()), (3, 3));
    assert_eq!(other.post("/sandboxes", body.clone()).await.status, 201);
    // A killed one makes room at once.
    assert_eq!(world.api().delete(&format!("/sandboxes/{}", made[0])).await.status, 204);
    assert_eq!(world.api().post("/sandboxes", body).await.status, 201);
}

#[tokio::test]
async fn a_failed_start_says_why_and_leaves_a_record() {
    let world = World::start().await.unwrap();
    world.sim.refuse(Some("no space on the disk"));
    let reply = world.api().post("/sandboxes", json!({"templateID": "base"})).await;
    assert_eq!((reply.status, reply.text("error_code")), (500, "sandbox_create_failed"), "{reply:?}");
    assert!(reply.text("message").starts_with("Failed to place sandbox: ") && reply.text("message").contains("no space"), "{reply:?}");
    let list = world.api().get("/v2/sandboxes").await;
    assert_eq!((list.body, list.headers["x-total-running"].to_str().unwrap()), (json!([]), "0"));
    world.sim.refuse(None);
    world.create(json!({"templateID": "base"})).await.unwrap();
}

#[tokio::test]
async fn a_start_that_takes_too_long_is_given_up_and_cleaned_up() {
    let world = World::start_with(ControlConfig { start_timeout_s: 1, ..Default::default() }).await.unwrap();
    world.sim.delay(Duration::from_millis(1500));
    let api = world.api();
    let request = tokio::spawn(async move { api.post("/sandboxes", json!({"templateID": "base", "timeout": 3600})).await });
    let id = world.until("it starts", || async { world.store.fleet().starting().await.unwrap().pop() }).await.unwrap();
    let reply = request.await.unwrap();
    assert_eq!((reply.status, reply.text("error_code")), (504, "sandbox_placement_timeout"), "{reply:?}");
    assert_eq!(world.ended(id.as_str()).await.unwrap().reason, EndReason::StartFailed);
    // The node carries on; what comes up late is nobody's and goes.
    let path = format!("/v2/sandboxes/{id}/logs?search=ended");
    let ended = || async { (world.api().get(&path).await.body["logs"] != json!([])).then_some(()) };
    world.until("the node ended it", ended).await.unwrap();
    world.emptied().await.unwrap();
}

#[tokio::test]
async fn a_client_that_leaves_during_the_start_leaves_a_whole_sandbox() {
    let world = World::start().await.unwrap();
    world.sim.delay(Duration::from_millis(300));
    let api = world.api();
    let request = tokio::spawn(async move { api.post("/sandboxes", json!({"templateID": "base"})).await });
    let id = world.until("the sandbox starts", || async { world.store.fleet().starting().await.unwrap().pop() }).await.unwrap();
    request.abort();
    let path = format!("/sandboxes/{id}");
    world.until("it runs", || async { (world.api().get(&path).await.status == 200).then_some(()) }).await.unwrap();
    assert_eq!(world.sim.living(), std::slice::from_ref(&id));
    assert_eq!(world.api().delete(&path).await.status, 204);
    assert_eq!(world.ended(id.as_str()).await.unwrap().reason, EndReason::Killed);
}
