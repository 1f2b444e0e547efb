use std::{collections::BTreeMap, time::Duration};

use atoll_store::{Level, LogRow, SampleRow};
use atoll_testkit::World;
use atoll_types::{SandboxId, Timestamp};
use serde_json::{Value, json};

fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

async fn log(world: &World, id: &SandboxId, second: u64, level: Level, message: &str, fields: &[(&str, &str)]) {
    let fields: BTreeMap<_, _> = fields.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let row = LogRow { at: start() + Duration::from_secs(second), level, message: message.into(), fields };
    world.store.fleet().record_logs(vec![(id.clone(), row)]).await.unwrap();
}

fn messages(body: &Value) -> String {
    body["logs"].as_array().unwrap().iter().map(|line| line["message"].as_str().unwrap()).collect::<Vec<_>>().join(",")
}

#[tokio::test]
async fn log_lines_come_in_both_forms() {
    let world = World::start().await.unwrap();
    let id = world.create(json!({"templateID": "base"})).await.unwrap();
    let path = format!("/sandboxes/{id}/logs");
    // The node itself logs the life of a sandbox.
    world.until("the node has logged", || async { (world.api().get(&path).await.body["logs"] != json!([])).then_some(()) }).await.unwrap();
    log(&world, &id, 10, Level::Warn, "careful", &[("level", "lies"), ("pid", "7")]).await;
    let now = start().timestamp_millis();
    let reply = world.api().get(&format!("{path}?start={}", now + 10_000)).await;
    let entry =
        json!({"timestamp": "2026-01-01T00:00:10Z", "level": "warn", "message": "careful", "fields": {"level": "lies", "pid": "7"}});
    assert_eq!(reply.body["logEntries"], json!([entry]));
    assert_eq!(reply.body["logs"].as_array().unwrap().len(), 1);
    let line: Value = serde_json::from_str(reply.body["logs"][0]["line"].as_str().unwrap()).unwrap();
    assert_eq!(line, json!({"level": "warn", "message": "careful", "pid": "7"}));
    assert_eq!(
        world.api().get(&format!("{path}?start={}", now + 10_001)).await.body,
        json!({"logs": [], "logEntries": []}),
        "the CLI asks from the last + 1 ms"
    );
    assert_eq!(world.api().get("/sandboxes/iabsent/logs").await.body, json!({"logs": [], "logEntries": []}));
    for bad in ["limit=-1", "limit=x", "start=x", "start=9223372036854775807"] {
        assert_eq!(world.api().get(&format!("{path}?{bad}")).await.status, 400, "{bad}");
    }
    // An ended sandbox keeps its lines.
    world.api().delete(&format!("/sandboxes/{id}")).await;
    assert_ne!(world.api().get(&path).await.body["logs"], json!([]));
}

#[tokio::test]
async fn log_lines_are_paged_from_either_end() {
    let world = World::start().await.unwrap();
    let id = world.create(json!({"templateID": "base", "timeout": 3600})).await.unwrap();
    for (second, level, message) in [(10, Level::Debug, "a"), (20, Level::Info, "b"), (30, Level::Error, "c"), (40, Level::Warn, "aB")] {
        log(&world, &id, second, level, message, &[]).await;
    }
    world.clock.advance(Duration::from_secs(100));
    let from = (start() + Duration::from_secs(5)).timestamp_millis();
    let get = async |query: &str| world.api().get(&format!("/v2/sandboxes/{id}/logs?{query}")).await;
    let find = async |query: String| messages(&get(&query).await.body);
    assert!(find(String::new()).await.starts_with("aB,c,b,a"), "the newest first");
    assert_eq!(find(format!("direction=forward&cursor={from}")).await, "a,b,c,aB");
    assert_eq!(find(format!("direction=forward&cursor={from}&limit=2")).await, "a,b");
    assert_eq!(find(format!("direction=forward&cursor={from}&level=warn")).await, "c,aB");
    assert_eq!(find(format!("direction=forward&cursor={from}&search=a")).await, "a,aB");
    assert_eq!(find(format!("direction=backward&cursor={}&limit=2", from + 25_000)).await, "c,b");
    assert_eq!(find(format!("cursor={from}&direction=forward&limit=0")).await, "");
    for bad in ["limit=1001", "limit=-1", "direction=up", "level=loud", "cursor=x", &format!("search={}", "é".repeat(257))] {
        assert_eq!(get(bad).await.status, 400, "{bad}");
    }
    assert_eq!(get(&format!("search={}", "%C3%A9".repeat(256))).await.status, 200);
    assert_eq!(world.api().get("/v2/sandboxes/iabsent/logs").await.body, json!({"logs": []}));
}

#[tokio::test]
async fn metrics_are_shown_with_both_timestamps() {
    let world = World::start().await.unwrap();
    let id = world.create(json!({"templateID": "base"})).await.unwrap();
    let path = format!("/sandboxes/{id}/metrics");
    assert_eq!(world.api().get("/sandboxes/iabsent/metrics").await.body, json!([]));
    // The node samples by itself at its own pace; these are far from those.
    let base = start() + Duration::from_secs(10_000);
    let rows = (0..3).map(|n| {
        let at = base + Duration::from_secs(5 * n);
        let row = SampleRow {
            at,
            cpu_count: 2,
            cpu_used_pct: 12.5,
            mem_used: 1 << 40,
            mem_total: 2,
            mem_cache: 3,
            disk_used: 4 + n,
            disk_total: 9,
        };
        (id.clone(), row)
    });
    world.store.fleet().record_samples(rows.collect()).await.unwrap();
    let (from, to) = (base.timestamp(), base.timestamp() + 10);
    let reply = world.api().get(&format!("{path}?start={from}&end={to}")).await;
    let samples = reply.body.as_array().unwrap();
    let expected = json!({
        "timestamp": "2026-01-01T02:46:40Z", "timestampUnix": from, "cpuCount": 2, "cpuUsedPct": 12.5,
        "memUsed": 1u64 << 40, "memTotal": 2, "memCache": 3, "diskUsed": 4, "diskTotal": 9
    });
    assert_eq!((samples.len(), &samples[0]), (3, &expected));
    assert!(samples.is_sorted_by_key(|sample| sample["timestampUnix"].as_i64()));
    assert_eq!(world.api().get(&format!("{path}?start={from}&end={}", to - 1)).await.body.as_array().unwrap().len(), 2);
    for bad in [format!("start={to}&end={from}"), "start=-1".into(), "end=x".into(), "start=9223372036854775807".into()] {
        assert_eq!(world.api().get(&format!("{path}?{bad}")).await.status, 400, "{bad}");
    }

    let many = world.api().get(&format!("/sandboxes/metrics?sandbox_ids={id},iabsent")).await;
    assert_eq!(many.body["sandboxes"].as_object().unwrap().len(), 1);
    assert_eq!(many.body["sandboxes"][id.as_str()]["diskUsed"], 6);
    let ids = |count: usize| (0..count).map(|n| format!("i{n}")).collect::<Vec<_>>().join(",");
    for bad in [
        String::new(),
        "?sandbox_ids=".into(),
        format!("?sandbox_ids={id}%2C{id}"),
        "?sandbox_ids=A".into(),
        format!("?sandbox_ids={}", ids(101)),
    ] {
        assert_eq!(world.api().get(&format!("/sandboxes/metrics{bad}")).await.status, 400, "{bad}");
    }
    assert_eq!(world.api().get(&format!("/sandboxes/metrics?sandbox_ids={}", ids(100))).await.status, 200);
}

#[tokio::test]
async fn the_node_samples_running_sandboxes() {
    let world = World::start().await.unwrap();
    let id = world.create(json!({"templateID": "base", "timeout": 3600})).await.unwrap();
    let path = format!("/sandboxes/{id}/metrics");
    let sampled = || async {
        world.clock.advance(Duration::from_millis(100));
        (world.api().get(&path).await.body != json!([])).then_some(())
    };
    world.until("a sample arrived", sampled).await.unwrap();
}
