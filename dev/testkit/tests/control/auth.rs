use atoll_control::operations;
use atoll_testkit::World;
use http::{Method, Request};
use serde_json::json;

/// A path of the operation, with ids that could be real.
fn filled(path: &str, sandbox: &str) -> String {
    let segments = path.split('/').map(|segment| match segment {
        "{sandboxID}" => sandbox,
        "{buildID}" | "{teamID}" | "{volumeID}" => "00000000-0000-4000-8000-000000000000",
        parameter if parameter.starts_with('{') => "x",
        fixed => fixed,
    });
    segments.collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn every_route_refuses_those_without_a_valid_key() {
    let world = World::start().await.unwrap();
    let id = world.create(json!({"templateID": "base", "timeout": 3600})).await.unwrap();
    let wrong = ["", "x", "e2b_", "e2b_XYZ", "e2b_0", "E2B_00", "sk_e2b_00112233", "e2b_00112233445566778899aabbccddeeff00112233", "e2b_é"];
    let mut walked = 0;
    for (method, path, served, takes_key) in operations() {
        let path = filled(path, id.as_str());
        let body = (*method != Method::GET).then(|| json!({"templateID": "base", "timeout": 0}).to_string());
        let strangers = wrong.iter().map(|key| world.stranger().with_key(key)).chain([world.stranger()]);
        for stranger in strangers {
            let reply = stranger.send(method.clone(), &path, body.clone()).await;
            let expected = match (takes_key, served) {
                (true, _) => 401,
                (false, true) => 200,
                (false, false) => 501,
            };
            assert_eq!(reply.status, expected, "{method} {path}: {reply:?}");
            if expected != 200 {
                assert_eq!(reply.body["code"], expected, "{method} {path}");
            }
            walked += 1;
        }
    }
    assert!(walked > 700);
    let detail = world.api().get(&format!("/sandboxes/{id}")).await;
    assert_eq!((detail.status, detail.text("endAt")), (200, "2026-01-01T01:00:00Z"), "nobody touched it");
}

#[tokio::test]
async fn every_unserved_operation_says_so() {
    let world = World::start().await.unwrap();
    for (method, path, served, _) in operations() {
        let reply = world.api().send(method.clone(), &filled(path, "iabc"), None).await;
        if served {
            assert_ne!(reply.status, 501, "{method} {path}");
        } else {
            assert_eq!((reply.status, reply.body["code"].as_u64()), (501, Some(501)), "{method} {path}");
            assert!(reply.text("message").contains(path), "{reply:?}");
        }
    }
}

#[tokio::test]
async fn another_teams_sandbox_is_not_there_on_any_route() {
    let world = World::start().await.unwrap();
    let other = world.another_team("other").await.unwrap();
    let id = world.create(json!({"templateID": "base", "timeout": 3600, "metadata": {"a": "b"}})).await.unwrap();
    world.until("it has logged", || async { (logged(&world, id.as_str()).await > 0).then_some(()) }).await.unwrap();
    let mut seen = 0;
    for (method, path, _, takes_key) in operations().filter(|(_, path, served, _)| *served && path.contains("{sandboxID}")) {
        assert!(takes_key);
        let target = filled(path, id.as_str());
        let body = (*method == Method::POST).then(|| json!({"timeout": 0, "duration": 0}).to_string());
        let (theirs, nobodys) = (
            other.send(method.clone(), &target, body.clone()).await,
            other.send(method.clone(), &filled(path, "iabsent"), body.clone()).await,
        );
        let anonymous = |reply: &atoll_testkit::Reply, id: &str| (reply.status, reply.body.to_string().replace(id, "ID"));
        assert_eq!(anonymous(&theirs, id.as_str()), anonymous(&nobodys, "iabsent"), "{method} {path} tells them apart");
        if path.ends_with("/metrics") || path.ends_with("/logs") {
            assert!(!theirs.body.to_string().contains("message"), "{theirs:?}");
        } else {
            assert_eq!(theirs.status, 404, "{method} {path}");
        }
        seen += 1;
    }
    assert_eq!(seen, 9);
    assert_eq!(other.get("/sandboxes").await.body, json!([]));
    assert_eq!(other.get("/v2/sandboxes?metadata=a%3Db").await.headers["x-total-running"], "0");
    assert_eq!(other.get(&format!("/sandboxes/metrics?sandbox_ids={id}")).await.body, json!({"sandboxes": {}}));
    let detail = world.api().get(&format!("/sandboxes/{id}")).await;
    assert_eq!((detail.status, detail.text("endAt")), (200, "2026-01-01T01:00:00Z"), "nobody touched it");
}

async fn logged(world: &World, id: &str) -> usize {
    world.api().get(&format!("/v2/sandboxes/{id}/logs")).await.body["logs"].as_array().unwrap().len()
}

#[tokio::test]
async fn unknown_routes_methods_and_browsers() {
    let world = World::start().await.unwrap();
    let api = world.stranger();
    for path in ["/", "/nope", "/sandboxes/", "/instances", "/envs/x", "/v2/sandboxes/x"] {
        let reply = api.get(path).await;
        assert_eq!((reply.status, reply.body["code"].as_u64()), (404, Some(404)), "{path}");
    }
    let reply = api.send(Method::PUT, "/sandboxes", None).await;
    assert_eq!((reply.status, reply.header("allow"), reply.body["code"].as_u64()), (405, Some("POST, GET"), Some(405)));
    for method in [Method::HEAD, Method::TRACE, Method::from_bytes(b"BREW").unwrap()] {
        assert_eq!(api.send(method, "/sandboxes", None).await.status, 405);
    }
    let preflight = api.send_request(Request::options("/sandboxes").header("origin", "https://x"), "").await;
    assert_eq!((preflight.status, preflight.header("access-control-max-age")), (204, Some("43200")));
    assert!(preflight.header("access-control-allow-headers").unwrap().contains("X-API-Key"));
    assert!(api.get("/nope").await.header("access-control-expose-headers").unwrap().contains("X-Next-Token"), "errors are readable");
    assert_eq!(api.get("/health").await.body, json!("Health check successful"));
    let page = api.get("/openapi.json").await;
    assert_eq!((page.status, page.text("openapi")), (200, "3.1.0"));
}

#[tokio::test]
async fn impossible_ids_are_wrong_not_missing() {
    let world = World::start().await.unwrap();
    for id in ["A", "a-b-c", "a%2Fb", "a.b", "%C3%A9", "..", &"a".repeat(64)] {
        for path in [format!("/sandboxes/{id}"), format!("/sandboxes/{id}/logs"), format!("/sandboxes/{id}/metrics")] {
            let reply = world.api().get(&path).await;
            assert_eq!((reply.status, reply.body["code"].as_u64()), (400, Some(400)), "{path}");
        }
    }
}

#[tokio::test]
async fn teams_are_made_once_and_keys_speak_for_one() {
    let world = World::start().await.unwrap();
    world.another_team("acme").await.unwrap();
    assert!(world.another_team("acme").await.is_err_and(|error| error.to_string().contains("already")));
    for bad in ["", "A", "a b", "a/b", &"a".repeat(64)] {
        assert!(world.another_team(bad).await.is_err(), "{bad:?}");
    }
    let key = world.control.ensure_default_team(None).await.unwrap();
    let same = world.control.ensure_default_team(Some(key.clone())).await.unwrap();
    assert_eq!(same.expose(), key.expose());
    assert!(world.control.create_team("thief", Some(key.clone())).await.is_err());
    assert_eq!(world.stranger().with_key(key.expose()).get("/sandboxes").await.status, 200);
}
