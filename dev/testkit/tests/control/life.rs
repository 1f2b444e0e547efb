use std::time::Duration;

use atoll_control::ControlConfig;
use atoll_runtime::Exit;
use atoll_testkit::World;
use atoll_types::EndReason;
use serde_json::json;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_sandbox_is_killed_once() {
    let world = World::start().await.unwrap();
    let id = world.create(json!({"templateID": "base"})).await.unwrap();
    let path = format!("/sandboxes/{id}");
    let killed = world.api().delete(&path).await;
    assert_eq!((killed.status, killed.body), (204, json!(null)));
    world.emptied().await.unwrap();
    for reply in [world.api().delete(&path).await, world.api().get(&path).await] {
        assert_eq!((reply.status, &reply.body["code"]), (404, &json!(404)));
    }
    assert_eq!(world.ended(id.as_str()).await.unwrap().reason, EndReason::Killed);
    assert_eq!(world.api().get("/v2/sandboxes").await.body, json!([]));
}

#[tokio::test]
async fn its_time_comes() {
    let world = World::start().await.unwrap();
    let id = world.create(json!({"templateID": "base", "timeout": 60})).await.unwrap();
    let path = format!("/sandboxes/{id}");
    world.clock.advance(59 * SECOND);
    assert_eq!(world.api().get(&path).await.status, 200);
    world.clock.advance(SECOND);
    assert_eq!(world.api().get(&path).await.status, 404, "from that moment, whatever the node is doing");
    assert_eq!(world.api().post(&format!("{path}/connect"), json!({"timeout": 60})).await.status, 404);
    assert_eq!(world.ended(id.as_str()).await.unwrap().reason, EndReason::Timeout);
    world.emptied().await.unwrap();
}

#[tokio::test]
async fn timeout_sets_and_the_others_only_extend() {
    let world = World::start().await.unwrap();
    let id = world.create(json!({"templateID": "base", "timeout": 600})).await.unwrap();
    let path = format!("/sandboxes/{id}");
    let end = async || world.api().get(&path).await.text("endAt").to_owned();
    let post = async |verb: &str, body: serde_json::Value| world.api().post(&format!("{path}/{verb}"), body).await.status;

    assert_eq!(post("timeout", json!({"timeout": 100})).await, 204);
    assert_eq!(end().await, "2026-01-01T00:01:40Z", "shorter");
    assert_eq!(post("connect", json!({"timeout": 50})).await, 200);
    assert_eq!(end().await, "2026-01-01T00:01:40Z", "connect does not shorten");
    assert_eq!(post("refreshes", json!({"duration": 0})).await, 204);
    assert_eq!(end().await, "2026-01-01T00:01:40Z", "nor does a refresh");
    assert_eq!(post("connect", json!({"timeout": 200})).await, 200);
    assert_eq!(end().await, "2026-01-01T00:03:20Z");
    assert_eq!(post("refreshes", json!({"duration": 3600})).await, 204);
    assert_eq!(end().await, "2026-01-01T01:00:00Z");
    assert_eq!(post("timeout", json!({"timeout": 20})).await, 204);
    world.clock.advance(10 * SECOND);
    assert_eq!(post("refreshes", json!({})).await, 204);
    assert_eq!(end().await, "2026-01-01T00:00:25Z", "a refresh is 15 s at least");

    // The node has the same end: it is the node that ends it.
    world.clock.advance(14 * SECOND);
    assert_eq!(world.sim.living().len(), 1);
    world.clock.advance(SECOND);
    assert_eq!(world.ended(id.as_str()).await.unwrap().reason, EndReason::Timeout);
}

#[tokio::test]
async fn wrong_times_are_refused() {
    let world = World::start().await.unwrap();
    let id = world.create(json!({"templateID": "base", "timeout": 600})).await.unwrap();
    for (verb, body) in [
        ("timeout", json!({})),
        ("timeout", json!({"timeout": -1})),
        ("timeout", json!({"timeout": null})),
        ("connect", json!({})),
        ("connect", json!({"timeout": -1})),
        ("connect", json!({"timeout": 86401})),
        ("connect", json!({"timeout": 1, "memory": null})),
        ("refreshes", json!({"duration": -1})),
        ("refreshes", json!({"duration": 3601})),
        ("refreshes", json!({"duration": null})),
    ] {
        let reply = world.api().post(&format!("/sandboxes/{id}/{verb}"), body.clone()).await;
        assert_eq!((reply.status, &reply.body["code"]), (400, &json!(400)), "{verb} {body}");
    }
    for verb in ["timeout", "connect", "refreshes"] {
        let empty = world.api().send(http::Method::POST, &format!("/sandboxes/{id}/{verb}"), None).await;
        assert_eq!(empty.status, 400, "{verb} without a body");
        let absent = world.api().post(&format!("/sandboxes/iabsent/{verb}"), json!({"timeout": 1})).await;
        assert_eq!((absent.status, &absent.body["code"]), (404, &json!(404)), "{verb}");
    }
    assert_eq!(world.api().get(&format!("/sandboxes/{id}")).await.text("endAt"), "2026-01-01T00:10:00Z", "nothing changed");
}

#[tokio::test]
async fn a_timeout_of_zero_ends_it_now() {
    let world = World::start().await.unwrap();
    let id = world.create(json!({"templateID": "base", "timeout": 600})).await.unwrap();
    assert_eq!(world.api().post(&format!("/sandboxes/{id}/timeout"), json!({"timeout": 0})).await.status, 204);
    assert_eq!(world.api().get(&format!("/sandboxes/{id}")).await.status, 404);
    assert_eq!(world.ended(id.as_str()).await.unwrap().reason, EndReason::Timeout);
}

#[tokio::test]
async fn the_longest_run_is_never_exceeded() {
    let world = World::start_with(ControlConfig { max_length_s: 100, ..Default::default() }).await.unwrap();
    let too_long = world.api().post("/sandboxes", json!({"templateID": "base", "timeout": 101})).await;
    assert_eq!(too_long.status, 400);
    let id = world.create(json!({"templateID": "base", "timeout": 100})).await.unwrap();
    let path = format!("/sandboxes/{id}");
    world.clock.advance(90 * SECOND);
    for (verb, body, status) in [
        ("timeout", json!({"timeout": 1_000_000}), 204),
        ("connect", json!({"timeout": 100}), 200),
        ("connect", json!({"timeout": 101}), 400),
        ("refreshes", json!({"duration": 3600}), 204),
    ] {
        assert_eq!(world.api().post(&format!("{path}/{verb}"), body).await.status, status);
        assert_eq!(world.api().get(&path).await.text("endAt"), "2026-01-01T00:01:40Z", "{verb}");
    }
}

#[tokio::test]
async fn connect_returns_what_create_did() {
    let world = World::start().await.unwrap();
    for secure in [true, false] {
        let made = world.api().post("/sandboxes", json!({"templateID": "base", "secure": secure})).await;
        let reached = world.api().post(&format!("/sandboxes/{}/connect", made.text("sandboxID")), json!({"timeout": 20})).await;
        assert_eq!((reached.status, &reached.body), (200, &made.body));
        assert_eq!(reached.body.get("envdAccessToken").is_some(), secure);
    }
}

#[tokio::test]
async fn what_ends_by_itself_is_recorded() {
    let world = World::start().await.unwrap();
    let exits = world.create(json!({"templateID": "base"})).await.unwrap();
    let starves = world.create(json!({"templateID": "base"})).await.unwrap();
    assert!(world.sim.exit(&exits, Exit { code: Some(7), oom: false }) && world.sim.oom(&starves));
    let exited = world.ended(exits.as_str()).await.unwrap();
    assert_eq!((exited.reason, exited.exit_code), (EndReason::Exited, Some(7)));
    assert_eq!(world.ended(starves.as_str()).await.unwrap().reason, EndReason::Oom);
    for id in [exits, starves] {
        assert_eq!(world.api().get(&format!("/sandboxes/{id}")).await.status, 404);
        assert_eq!(world.api().delete(&format!("/sandboxes/{id}")).await.status, 404);
    }
}
