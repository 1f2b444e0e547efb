use std::time::Duration;

use atoll_testkit::World;
use atoll_types::EndReason;
use serde_json::json;

const BASE: &str = "base";

#[tokio::test]
async fn without_its_node_the_platform_says_so_and_recovers() {
    let mut world = World::start().await.unwrap();
    let id = world.create(json!({"templateID": BASE, "timeout": 3600})).await.unwrap();
    let path = format!("/sandboxes/{id}");
    world.stop_node().await;
    world.until("health tells", || async { (world.stranger().get("/health").await.status == 503).then_some(()) }).await.unwrap();

    let refused = world.api().post("/sandboxes", json!({"templateID": BASE})).await;
    assert_eq!((refused.status, refused.text("error_code")), (503, "sandbox_capacity_unavailable"), "{refused:?}");
    assert_eq!((refused.header("should-retry"), refused.header("retry-after")), (Some("true"), Some("1")));
    assert_eq!(world.api().get(&path).await.status, 200, "it still runs: only the node is away");
    let shortened = world.api().post(&format!("{path}/timeout"), json!({"timeout": 60})).await;
    assert_eq!(shortened.status, 503);
    assert_eq!(world.api().get(&path).await.text("endAt"), "2026-01-01T00:01:00Z", "recorded all the same");

    world.start_node().await.unwrap();
    world.control.ready().await;
    assert_eq!(world.stranger().get("/health").await.status, 200);
    world
        .until("the deadline arrived", || async { world.store.fleet().wrong_deadlines().await.unwrap().is_empty().then_some(()) })
        .await
        .unwrap();
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(world.ended(id.as_str()).await.unwrap().reason, EndReason::Timeout);
}

#[tokio::test]
async fn a_full_node_is_no_room() {
    let mut world = World::start().await.unwrap();
    world.resize_node(1).await.unwrap();
    let id = world.create(json!({"templateID": BASE, "timeout": 3600})).await.unwrap();
    let refused = world.api().post("/sandboxes", json!({"templateID": BASE})).await;
    assert_eq!((refused.status, refused.text("error_code")), (503, "sandbox_capacity_unavailable"), "{refused:?}");
    assert!(refused.text("message").contains("1 of at most 1"), "{refused:?}");
    assert_eq!(world.api().delete(&format!("/sandboxes/{id}")).await.status, 204);
    world.until("there is room again", || async { world.create(json!({"templateID": BASE})).await.ok() }).await.unwrap();
}

#[tokio::test]
async fn a_kill_that_the_node_did_not_hear_is_carried_out_later() {
    let world = World::start().await.unwrap();
    let id = world.create(json!({"templateID": BASE, "timeout": 3600})).await.unwrap();
    let path = format!("/sandboxes/{id}");
    world.link.refuse(true);
    assert_eq!(world.api().delete(&path).await.status, 503);
    assert_eq!(world.api().get(&path).await.status, 404, "for its owner it is gone");
    assert_eq!(world.sim.living().len(), 1);
    world.link.refuse(false);
    assert_eq!(world.ended(id.as_str()).await.unwrap().reason, EndReason::Killed);
    world.emptied().await.unwrap();
}

#[tokio::test]
async fn ends_that_nobody_watched_are_learnt_afterwards() {
    let mut world = World::start().await.unwrap();
    let exits = world.create(json!({"templateID": BASE, "timeout": 3600})).await.unwrap();
    let stays = world.create(json!({"templateID": BASE, "timeout": 3600})).await.unwrap();
    world.stop_node().await;
    world.sim.exit(&exits, atoll_runtime::Exit { code: Some(3), oom: false });
    world.start_node().await.unwrap();
    let ending = world.ended(exits.as_str()).await.unwrap();
    assert_eq!((ending.reason, ending.exit_code), (EndReason::Exited, None), "a new node cannot know the code");
    assert_eq!(world.api().get(&format!("/sandboxes/{stays}")).await.status, 200);
}

#[tokio::test]
async fn what_the_node_does_not_know_is_lost() {
    let mut world = World::start().await.unwrap();
    let id = world.create(json!({"templateID": BASE, "timeout": 3600})).await.unwrap();
    world.forget_node().await.unwrap();
    assert_eq!(world.ended(id.as_str()).await.unwrap().reason, EndReason::NodeLost);
}

#[tokio::test]
async fn what_nobody_wants_is_removed_from_the_node() {
    let mut world = World::start().await.unwrap();
    let id = world.create(json!({"templateID": BASE, "timeout": 3600})).await.unwrap();
    let ending = atoll_types::Ending { reason: EndReason::NodeLost, exit_code: None, at: world.now(), detail: String::new() };
    world.store.fleet().ended(&id, 1, ending).await.unwrap();
    world.restart_control().await.unwrap();
    world.emptied().await.unwrap();
}

#[tokio::test]
async fn a_crash_of_the_control_plane_leaves_nothing_half_made() {
    let mut world = World::start().await.unwrap();
    let runs = world.create(json!({"templateID": BASE, "timeout": 3600})).await.unwrap();
    world.sim.delay(Duration::from_millis(400));
    let api = world.api();
    let request = tokio::spawn(async move { api.post("/sandboxes", json!({"templateID": BASE, "timeout": 3600})).await });
    let half = world.until("it starts", || async { world.store.fleet().starting().await.unwrap().pop() }).await.unwrap();
    world.restart_control().await.unwrap();
    world.control.ready().await;
    let ending = world.ended(half.as_str()).await.unwrap();
    assert_eq!(ending.reason, EndReason::StartFailed);
    // The old one still had the request; in a crash nobody would. Either way the client is not told that it runs.
    assert_ne!(request.await.unwrap().status, 201);
    world.until("only the other is left", || async { (world.sim.living() == [runs.clone()]).then_some(()) }).await.unwrap();
    assert_eq!(world.api().get(&format!("/sandboxes/{runs}")).await.status, 200);
}

/// Deadlines are moments: they hold whatever the clock did in between, and nothing else depends on it.
#[tokio::test]
async fn a_clock_that_jumps_ends_what_is_due_and_nothing_else() {
    let mut world = World::start().await.unwrap();
    let start = world.now();
    let short = world.create(json!({"templateID": BASE, "timeout": 600})).await.unwrap();
    let long = world.create(json!({"templateID": BASE, "timeout": 7200})).await.unwrap();
    let status = async |world: &World, id: &atoll_types::SandboxId| world.api().get(&format!("/sandboxes/{id}")).await.status;

    world.clock.set(start - Duration::from_secs(86_400));
    let before = world.create(json!({"templateID": BASE, "timeout": 60})).await.unwrap();
    assert_eq!(world.api().post(&format!("/sandboxes/{short}/refreshes"), json!({"duration": 60})).await.status, 204);
    assert_eq!(world.api().get(&format!("/sandboxes/{short}")).await.text("endAt"), "2026-01-01T00:10:00Z", "not shortened");
    assert_eq!(world.api().get("/v2/sandboxes").await.body.as_array().unwrap().len(), 3);
    world.stop_node().await;
    world.start_node().await.unwrap();
    world.restart_control().await.unwrap();
    world.control.ready().await;
    for id in [&short, &long, &before] {
        assert_eq!(status(&world, id).await, 200, "a restart in the past ends nothing");
    }
    world.clock.advance(Duration::from_secs(61));
    assert_eq!(world.ended(before.as_str()).await.unwrap().reason, EndReason::Timeout);

    world.clock.set(start + Duration::from_secs(3600));
    assert_eq!(world.ended(short.as_str()).await.unwrap().reason, EndReason::Timeout);
    assert_eq!(status(&world, &long).await, 200);
    assert!(world.create(json!({"templateID": BASE, "timeout": 60})).await.is_ok());
    world.clock.set(start + Duration::from_secs(365 * 86_400));
    assert_eq!(world.ended(long.as_str()).await.unwrap().reason, EndReason::Timeout);
    world.emptied().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_leave_nothing_behind() {
    let world = World::start().await.unwrap();
    let lives: Vec<_> = (0..60)
        .map(|n| {
            let api = world.api();
            tokio::spawn(async move {
                let made = api.post("/sandboxes", json!({"templateID": BASE, "timeout": 3600, "metadata": {"n": n.to_string()}})).await;
                assert_eq!(made.status, 201, "{made:?}");
                let path = format!("/sandboxes/{}", made.text("sandboxID"));
                assert_eq!(api.post(&format!("{path}/timeout"), json!({"timeout": 100 + n})).await.status, 204);
                assert_eq!(api.get(&path).await.body["metadata"]["n"], n.to_string());
                assert_eq!(api.delete(&path).await.status, 204);
                assert_eq!(api.get(&path).await.status, 404);
            })
        })
        .collect();
    for life in lives {
        life.await.unwrap();
    }
    world.emptied().await.unwrap();
    assert_eq!(world.store.fleet().all_live().await.unwrap(), []);
}
