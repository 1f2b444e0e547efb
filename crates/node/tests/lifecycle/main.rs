//! The life of sandboxes on a node, seen from outside: through the node service, the routes and the files.

#![allow(clippy::unwrap_used)]

mod stillborn;
mod world;

use std::{
    fs,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use atoll_node::StartError;
use atoll_runtime::{Exit, Usage};
use atoll_types::{ENVD_PORT, SandboxId};
use atoll_wire::{
    body,
    connect::Code,
    node::{self as wire, SandboxState, rpc, watch_response::Event},
};
use stillborn::Stillborn;
use tokio::task::JoinSet;
use world::World;

fn id(text: &str) -> SandboxId {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_sandbox_comes_up_and_is_removed() {
    let world = World::new();
    let node = world.node().await;
    let mut watch = node.watch().await;
    assert!(watch.snapshot().await.is_empty());

    let sandbox = node.ensure("i1", 1).await.unwrap();
    assert_eq!((sandbox.state(), sandbox.generation), (SandboxState::Running, 1));
    assert!(sandbox.started_at.is_some());
    assert_eq!(node.list().await, ["i1"]);

    let init = world.engine.inits(&id("i1")).pop().unwrap();
    let envs = serde_json::json!({"E2B_SANDBOX": "true", "E2B_SANDBOX_ID": "i1", "E2B_TEMPLATE_ID": "base", "NAME": "value"});
    assert_eq!(init["envVars"], envs);
    assert_eq!(
        (&init["accessToken"], &init["defaultUser"], &init["defaultWorkdir"]),
        (&"token".into(), &"user".into(), &"/home/user".into())
    );
    assert_eq!(init["timestamp"], "2026-01-01T00:00:00.000000000Z");
    assert_eq!(world.engine.dirs(), [world.home("i1").join("machine")]);

    let route = node.node.route(&id("i1")).unwrap();
    assert_eq!((route.generation, route.address(80).ip(), route.address(80).port()), (1, route.guest.ip(), 80));
    assert_eq!(route.address(ENVD_PORT), route.guest);

    assert!(node.remove("i1", 1).await);
    assert!(route.ended.is_cancelled() && node.node.route(&id("i1")).is_none(), "unreachable before the answer");
    let mut states = Vec::new();
    let ending = watch
        .find(|event| match event {
            Event::Changed(sandbox) => {
                states.push(sandbox.state());
                sandbox.ending
            }
            _ => None,
        })
        .await;
    assert_eq!(states, [SandboxState::Starting, SandboxState::Running, SandboxState::Stopping, SandboxState::Ended]);
    assert_eq!((ending.reason.as_str(), ending.detail.as_str()), ("killed", ""));
    assert!(world.homes().is_empty() && world.engine.living().is_empty() && node.list().await.is_empty());
    assert!(!node.remove("i1", 1).await);
    node.stop().await;
}

#[tokio::test]
async fn callers_at_the_same_time_join() {
    let world = World::new();
    let node = world.node().await;
    let (a, b, c) = tokio::join!(node.ensure("i1", 1), node.ensure("i1", 1), node.ensure("i1", 1));
    for sandbox in [a, b, c] {
        assert_eq!(sandbox.unwrap().state(), SandboxState::Running);
    }
    node.ensure("i1", 1).await.unwrap();
    assert_eq!(world.engine.living().len(), 1);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_come_and_go() {
    let world = World::new();
    let node = Arc::new(world.node().await);
    let each = (0..100).map(|n| {
        let node = node.clone();
        async move {
            let name = format!("i{n}");
            let generation = node.ensure(&name, 1).await.unwrap().generation;
            assert!(node.remove(&name, generation).await);
        }
    });
    let mut all: JoinSet<()> = each.collect();
    while let Some(done) = all.join_next().await {
        done.unwrap();
    }
    for n in 0..100 {
        node.ended(&format!("i{n}")).await;
    }
    assert!(world.homes().is_empty() && world.engine.living().is_empty());
    Arc::into_inner(node).unwrap().stop().await;
}

#[tokio::test]
async fn generations_are_kept_apart() {
    let world = World::new();
    let node = world.node().await;
    node.ensure("i1", 2).await.unwrap();
    // Late messages about an older run change nothing.
    assert_eq!(node.ensure("i1", 1).await.unwrap_err().code, Code::FailedPrecondition);
    assert!(!node.remove("i1", 1).await);
    assert_eq!(node.set_deadline("i1", 1, 5).await.unwrap_err().code, Code::NotFound);
    assert_eq!(node.set_deadline("i1", 3, 5).await.unwrap_err().code, Code::NotFound);
    assert_eq!(node.node.route(&id("i1")).unwrap().generation, 2);
    // A newer one takes the place of the older.
    let old = node.node.route(&id("i1")).unwrap();
    assert_eq!(node.ensure("i1", 3).await.unwrap().generation, 3);
    assert!(old.ended.is_cancelled());
    assert_eq!(world.engine.living().len(), 1);
    // A run that has ended does not come back, whoever asks again.
    assert!(node.remove("i1", 4).await);
    node.ended("i1").await;
    let again = node.ensure("i1", 3).await.unwrap_err();
    assert!(again.code == Code::FailedPrecondition && again.message.contains("killed"), "{again}");
    assert_eq!(node.ensure("i1", 2).await.unwrap_err().code, Code::FailedPrecondition);
    node.ensure("i1", 5).await.unwrap();
    node.stop().await;
}

#[tokio::test]
async fn the_deadline_ends_a_sandbox() {
    let world = World::new();
    let node = world.node().await;
    for name in ["i1", "i2", "i3"] {
        node.ensure(name, 1).await.unwrap();
    }
    node.set_deadline("i2", 1, 1000).await.unwrap();
    world.clock.advance(100);
    assert_eq!(node.ended("i1").await.reason, "timeout");
    assert_eq!(node.ended("i3").await.reason, "timeout");
    assert_eq!(node.list().await, ["i2"]);
    node.set_deadline("i2", 1, -1).await.unwrap();
    assert_eq!(node.ended("i2").await.reason, "timeout");
    assert_eq!(node.set_deadline("i2", 1, 1000).await.unwrap_err().code, Code::NotFound);
    assert!(node.node.route(&id("i2")).is_none());
    node.stop().await;
}

#[tokio::test]
async fn a_machine_that_ends_says_how() {
    let world = World::new();
    let node = world.node().await;
    node.ensure("i1", 1).await.unwrap();
    node.ensure("i2", 1).await.unwrap();
    assert!(world.engine.exit(&id("i1"), Exit { code: Some(7), oom: false }) && world.engine.oom(&id("i2")));
    let exited = node.ended("i1").await;
    assert_eq!((exited.reason.as_str(), exited.exit_code), ("exited", Some(7)));
    assert_eq!(node.ended("i2").await.reason, "oom");
    assert!(node.node.route(&id("i1")).is_none() && world.homes().is_empty());
    node.stop().await;
}

#[tokio::test]
async fn a_boot_that_fails_leaves_nothing_and_says_why() {
    let world = World::new();
    let node = world.node().await;
    let mut missing = node.spec("i1", 1);
    missing.layers.push("elsewhere".into());
    let error = node.ensure_spec(missing).await.unwrap_err();
    assert_eq!(error.code, Code::FailedPrecondition);
    assert!(error.message.contains("layer `elsewhere` is not on this node"), "{error}");

    world.engine.refuse(Some("mounting the root"));
    let error = node.ensure("i2", 1).await.unwrap_err();
    assert_eq!(error.code, Code::Internal);
    assert_eq!(error.message, "the sandbox has ended: start_failed: starting the machine: mounting the root: refused by the test");
    assert_eq!(node.ended("i2").await.reason, "start_failed");
    // Whoever lost the answer and asks again gets it again.
    assert_eq!(node.ensure("i2", 1).await.unwrap_err().message, error.message);

    world.engine.refuse(None);
    let mut unusable = node.spec("i3", 1);
    unusable.access_token = Some("\\".into());
    let error = node.ensure_spec(unusable).await.unwrap_err();
    assert!(error.message.ends_with("envd answered 400 Bad Request to its initialisation: "), "{error}");
    assert!(node.node.route(&id("i3")).is_none());
    assert!(world.homes().is_empty() && world.engine.living().is_empty() && node.list().await.is_empty());
    node.stop().await;

    let node = world.node_on(Arc::new(Stillborn::default()), |_| {}).await.unwrap();
    let error = node.ensure("i4", 1).await.unwrap_err();
    let why = "the first process ended during the start (exit code 3); its last words: cannot find init";
    assert_eq!(error.message, format!("the sandbox has ended: start_failed: {why}"));
    assert!(world.homes().is_empty());
    node.stop().await;
}

#[tokio::test]
async fn a_boot_can_be_stopped() {
    let world = World::new();
    let node = world.node().await;
    world.engine.delay(Duration::from_millis(500));
    let mut watch = node.watch().await;
    watch.snapshot().await;
    let (started, ()) = tokio::join!(node.ensure("i1", 1), async {
        watch.find(|event| matches!(event, Event::Changed(_)).then_some(())).await;
        assert!(node.remove("i1", 1).await);
    });
    assert_eq!(started.unwrap_err().code, Code::Aborted);
    assert_eq!(watch.ended("i1").await.reason, "killed");
    let (late, ()) = tokio::join!(node.ensure("i2", 1), async {
        watch.find(|event| matches!(event, Event::Changed(s) if s.sandbox_id == "i2").then_some(())).await;
        world.clock.advance(100);
    });
    assert!(late.is_err());
    assert_eq!(watch.ended("i2").await.reason, "timeout");
    assert!(world.homes().is_empty());
    node.stop().await;
}

#[tokio::test]
async fn what_an_engine_still_works_on_is_not_removed() {
    let world = World::new();
    let engine = Stillborn { delay: Duration::from_millis(1500), ..Stillborn::default() };
    let node = world.node_on(Arc::new(engine.clone()), |_| {}).await.unwrap();
    let mut watch = node.watch().await;
    watch.snapshot().await;
    let (started, ()) = tokio::join!(node.ensure("i1", 1), async {
        engine.begun.notified().await;
        assert!(node.remove("i1", 1).await);
    });
    assert_eq!(started.unwrap_err().code, Code::Aborted, "nobody waits for the engine");
    assert_eq!(watch.ended("i1").await.reason, "killed");
    assert_eq!(engine.stopped.load(Ordering::Relaxed), 1, "the end came before the engine was done");
    assert!(world.homes().is_empty());
    node.stop().await;
}

#[tokio::test]
async fn sandboxes_outlive_their_node() {
    let world = World::new();
    let node = world.node().await;
    for name in ["i1", "i2", "i3", "i4"] {
        node.ensure(name, 1).await.unwrap();
    }
    node.set_deadline("i2", 1, 10).await.unwrap();
    node.set_deadline("i4", 1, 1000).await.unwrap();
    assert!(matches!(world.try_node(|_| {}).await, Err(StartError::InUse(_))));
    node.stop().await;
    assert_eq!(world.engine.living().len(), 4);

    // While nobody looks: one deadline passes, one machine ends, one sandbox was being stopped, one start was not complete.
    world.clock.advance(20);
    world.engine.exit(&id("i3"), Exit { code: Some(0), oom: false });
    let state = world.home("i4").join("state.json");
    let stopping = fs::read_to_string(&state).unwrap().replacen('{', r#"{"ending":"killed","#, 1);
    fs::write(state, stopping).unwrap();
    fs::create_dir(world.home("i5")).unwrap();
    fs::create_dir(world.home("i5").join("machine")).unwrap();
    let half = fs::read_to_string(world.home("i1").join("state.json")).unwrap().replace("\"i1\"", "\"i5\"");
    let mut half: serde_json::Value = serde_json::from_str(&half).unwrap();
    half.as_object_mut().unwrap().retain(|key, _| key != "machine" && key != "started_at");
    fs::write(world.home("i5").join("state.json"), half.to_string()).unwrap();
    fs::create_dir_all(world.home("i6").join("machine/upper/rest")).unwrap();

    let node = world.node().await;
    assert_eq!(node.ended("i2").await.reason, "timeout");
    assert_eq!(node.ended("i3").await.reason, "exited");
    assert_eq!(node.ended("i4").await.reason, "killed");
    assert_eq!(node.ended("i5").await.reason, "start_failed");
    assert_eq!(node.list().await, ["i1"]);
    assert_eq!((world.homes(), world.engine.living().len()), (vec!["i1".to_owned()], 1));
    assert_eq!(node.node.route(&id("i1")).unwrap().generation, 1);
    assert_eq!(node.ensure("i1", 1).await.unwrap().state(), SandboxState::Running);
    assert_eq!(world.engine.living(), [id("i1")]);
    assert!(node.remove("i1", 1).await);
    assert_eq!(node.ended("i1").await.reason, "killed");
    assert!(world.homes().is_empty());
    node.stop().await;
}

#[tokio::test]
async fn a_state_that_is_not_understood_is_moved_aside() {
    let world = World::new();
    let node = world.node().await;
    node.ensure("i1", 1).await.unwrap();
    node.ensure("i2", 1).await.unwrap();
    node.stop().await;
    for (name, text) in [("i2", "{"), ("i3", r#"{"version":99}"#)] {
        fs::create_dir_all(world.home(name)).unwrap();
        fs::write(world.home(name).join("state.json"), text).unwrap();
    }
    fs::write(world.home("README.txt"), "a stranger's").unwrap();
    let node = world.node().await;
    assert_eq!(node.list().await, ["i1"]);
    let aside: Vec<_> = fs::read_dir(world.dir().join("aside")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(aside.len(), 2);
    assert!(aside.iter().all(|dir| dir.join("state.json").exists()));
    assert_eq!(world.engine.living(), [id("i1")], "a machine that no state file names is ended");
    node.ensure("i2", 1).await.unwrap();
    node.stop().await;
}

#[tokio::test]
async fn sandboxes_end_with_the_daemon_if_it_is_told_so() {
    let world = World::new();
    let node = world.node_with(|config| config.end_with_daemon = true).await;
    node.ensure("i1", 1).await.unwrap();
    let mut watch = node.watch().await;
    node.stop.cancel();
    assert_eq!(watch.ended("i1").await.reason, "shutdown");
    while watch.next().await.is_some() {}
    assert_eq!(node.ensure("i2", 1).await.unwrap_err().code, Code::Unavailable);
    node.stop().await;
    assert!(world.engine.living().is_empty() && world.homes().is_empty());
}

#[tokio::test]
async fn a_full_node_says_so() {
    let world = World::new();
    let node = world.node_with(|config| config.max_sandboxes = 1).await;
    node.ensure("i1", 1).await.unwrap();
    let error = node.ensure("i2", 1).await.unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (Code::ResourceExhausted, "node `n1` holds 1 of at most 1 sandboxes"));
    assert!(node.remove("i1", 1).await);
    node.ended("i1").await;
    node.ensure("i2", 1).await.unwrap();
    node.stop().await;
}

#[tokio::test]
async fn watchers_get_samples_and_logs() {
    let world = World::new();
    let node = world.node().await;
    let mut watch = node.watch().await;
    node.ensure("i1", 1).await.unwrap();
    let usage = Usage { cpu_usec: 1, memory_bytes: 30 << 20, cache_bytes: 10 << 20, oom_kills: 2, ..Usage::default() };
    assert!(world.engine.set_usage(&id("i1"), usage));
    let log = world.home("i1").join("machine/envd.log");
    fs::write(log, b"{\"level\":\"warn\",\"message\":\"hello\",\"user\":\"root\"}\n\xff\xfe\n").unwrap();
    let (mut sample, mut lines) = (None, Vec::new());
    let sample = watch
        .find(|event| {
            match event {
                Event::Sample(taken) => sample = Some(taken),
                Event::Log(line) => lines.push(line),
                _ => {}
            }
            sample.take_if(|_| lines.len() >= 4)
        })
        .await;
    assert_eq!((sample.sandbox_id.as_str(), sample.cpu_count, sample.cpu_used_pct), ("i1", 2, 0.0));
    assert_eq!((sample.mem_used, sample.mem_total, sample.mem_cache), (20 << 20, 512 << 20, 10 << 20));
    assert_eq!((sample.disk_used, sample.disk_total), (0, 1 << 30));

    let messages: Vec<_> = lines.iter().map(|line| line.message.as_str()).collect();
    assert_eq!(messages, ["sandbox created", "sandbox ready", "hello", "\u{fffd}\u{fffd}"]);
    assert!(lines[1].fields.contains_key("duration_ms"));
    assert_eq!((lines[2].level.as_str(), lines[2].fields["user"].as_str()), ("warn", "root"));

    assert!(node.remove("i1", 1).await);
    let mut next_line = async || watch.find(|event| if let Event::Log(line) = event { Some(line) } else { None }).await;
    let (hit, ended) = (next_line().await, next_line().await);
    assert_eq!((hit.level.as_str(), hit.message.as_str()), ("warn", "the kernel ended 2 processes for want of memory"));
    assert_eq!((ended.message.as_str(), ended.fields["reason"].as_str()), ("sandbox ended", "killed"));
    node.stop().await;
}

#[tokio::test]
async fn requests_are_checked() {
    let world = World::new();
    let node = world.node().await;
    let mut spec = node.spec("i1", 1);
    spec.layers = vec!["../../etc".into()];
    let error = node.ensure_spec(spec).await.unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (Code::InvalidArgument, "layers: \"../../etc\" is not the name of a layer"));
    assert_eq!(node.ensure("../i1", 1).await.unwrap_err().code, Code::InvalidArgument);
    assert_eq!(node.set_deadline("i1", 1, 5).await.unwrap_err().code, Code::NotFound);
    let request = wire::RemoveSandboxRequest { sandbox_id: "i1".into(), generation: 1, reason: "whim".into() };
    let error = node.client.unary::<_, wire::RemoveSandboxResponse>(rpc::REMOVE_SANDBOX, &request).await.unwrap_err();
    assert_eq!(error.code, Code::InvalidArgument);

    let described: wire::DescribeResponse = node.client.unary(rpc::DESCRIBE, &wire::DescribeRequest {}).await.unwrap();
    assert_eq!((described.node_id.as_str(), described.runtime.as_str(), described.abilities), ("n1", "sim", vec![]));
    assert_eq!((described.sandboxes, described.max_sandboxes), (0, 1000));
    let unknown = http::Request::post("/atoll.node.v1.Node/Format").body(body::empty()).unwrap();
    assert_eq!(node.node.serve(unknown).await.status(), 404);
    assert!(world.homes().is_empty());
    node.stop().await;
}
