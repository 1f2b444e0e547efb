use std::time::Duration;

use atoll_testkit::World;
use serde_json::{Value, json};

fn ids(body: &Value) -> Vec<String> {
    body.as_array().unwrap().iter().map(|item| item["sandboxID"].as_str().unwrap().to_owned()).collect()
}

/// As the SDKs do it: names and values, then the whole, then the parameter.
fn metadata(pairs: &[(&str, &str)]) -> String {
    let escape = |text: &str| {
        text.bytes().map(|b| if b.is_ascii_alphanumeric() { (b as char).to_string() } else { format!("%{b:02X}") }).collect::<String>()
    };
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
    let form = pairs.join("&").replace('%', "%25");
    escape(&form)
}

#[tokio::test]
async fn pages_follow_each_other_in_both_orders() {
    let world = World::start().await.unwrap();
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(world.create(json!({"templateID": "base", "timeout": 3600})).await.unwrap().to_string());
        world.clock.advance(Duration::from_secs(1));
    }
    for (order, expected) in [("", made.iter().rev().cloned().collect::<Vec<_>>()), ("&order=asc", made.clone())] {
        let (mut seen, mut token) = (Vec::new(), String::new());
        for page in 0..3 {
            let next = if token.is_empty() { String::new() } else { format!("&nextToken={token}") };
            let reply = world.api().get(&format!("/v2/sandboxes?limit=2{order}{next}")).await;
            assert_eq!((reply.status, reply.header("x-total-running")), (200, Some("5")));
            seen.extend(ids(&reply.body));
            match reply.header("x-next-token") {
                Some(next) => {
                    assert!(page < 2 && !next.is_empty(), "three pages hold all");
                    token = next.replace('=', "%3D");
                }
                None => assert_eq!(page, 2),
            }
        }
        assert_eq!(seen, expected);
        let other = if order.is_empty() { "&order=asc" } else { "" };
        let replayed = world.api().get(&format!("/v2/sandboxes?nextToken={token}{other}")).await;
        assert_eq!(replayed.status, 400, "a token of the other order");
    }
    assert_eq!(ids(&world.api().get("/sandboxes").await.body), made.into_iter().rev().collect::<Vec<_>>());
}

#[tokio::test]
async fn metadata_survives_its_three_layers() {
    let world = World::start().await.unwrap();
    let tricky = [("user", "abc"), ("k", "a b"), ("k", "a&b=c"), ("k+", "+%2B"), ("ключ", "знач%"), ("q\"", "'"), ("empty", "")];
    for (name, value) in tricky {
        world.create(json!({"templateID": "base", "timeout": 3600, "metadata": {name: value, "all": "yes"}})).await.unwrap();
    }
    for path in ["/sandboxes", "/v2/sandboxes"] {
        for (name, value) in tricky {
            let query = metadata(&[("all", "yes"), (name, value)]);
            let found = world.api().get(&format!("{path}?metadata={query}")).await;
            assert_eq!(found.body.as_array().unwrap().len(), 1, "{path} {name}={value}: {query}");
            assert_eq!(found.body[0]["metadata"][name], value);
        }
        assert_eq!(world.api().get(&format!("{path}?metadata={}", metadata(&[("all", "yes")]))).await.body.as_array().unwrap().len(), 7);
        assert_eq!(world.api().get(&format!("{path}?metadata={}", metadata(&[("all", "no")]))).await.body, json!([]));
        for bad in ["", "x", "a%3Db%3Dc", "a%3D%25z"] {
            let reply = world.api().get(&format!("{path}?metadata={bad}")).await;
            assert_eq!((reply.status, reply.body["code"].as_u64()), (400, Some(400)), "{bad:?}");
        }
    }
}

#[tokio::test]
async fn filters_and_their_headers() {
    let world = World::start().await.unwrap();
    let first = world.create(json!({"templateID": "base", "timeout": 3600})).await.unwrap().to_string();
    world.clock.advance(Duration::from_micros(1_000_001));
    let second = world.create(json!({"templateID": "base", "timeout": 3600})).await.unwrap().to_string();
    let template = world.row(&first).await.unwrap().template.to_string();
    let list = async |query: &str| world.api().get(&format!("/v2/sandboxes?{query}")).await;

    let both = [second.clone(), first.clone()];
    for query in
        ["", "state=running", "state=running,paused", "state=paused%2Crunning", "state=running&state=paused", "template=base", "unknown=1"]
    {
        assert_eq!(ids(&list(query).await.body), both, "{query}");
    }
    assert_eq!(ids(&list(&format!("template={template}")).await.body), both);
    for query in ["state=paused", "template=nope", "template=acme%2Fbase"] {
        assert_eq!(list(query).await.body, json!([]), "{query}");
    }
    assert_eq!(list("state=paused").await.header("x-total-running"), None);
    assert_eq!(list("template=nope").await.header("x-total-running"), Some("0"));
    // What Python writes, and what JS writes. The moment itself counts.
    for (after, expected) in [
        ("2026-01-01T00%3A00%3A01.000001%2B00%3A00", 1),
        ("2026-01-01T00:00:01.000Z", 1),
        ("2026-01-01T00:00:01.000002Z", 0),
        ("2026-01-01T00:00:01.0000019Z", 1),
        ("2026-01-01T01%3A00%3A00%2B01%3A00", 2),
    ] {
        assert_eq!(ids(&list(&format!("startedAfter={after}")).await.body).len(), expected, "{after}");
    }
    for bad in [
        "limit=0",
        "limit=101",
        "limit=x",
        "limit=",
        "order=up",
        "state=dead",
        "state=",
        "startedAfter=yesterday",
        "nextToken=abc",
        "template=base:v1",
        "template=base:default",
        "template=a%20b",
        "metadata=%",
    ] {
        let reply = list(bad).await;
        assert_eq!((reply.status, reply.body["code"].as_u64()), (400, Some(400)), "{bad}");
    }
}
