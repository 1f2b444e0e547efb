use std::collections::BTreeMap;

use atoll_control::operations;
use atoll_testkit::World;
use http::Method;
use serde_json::{Value, json};

/// What in `value` is not as `schema` says; the few words of JSON Schema that the page uses.
fn check(page: &Value, schema: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) {
    if let Some(target) = schema["$ref"].as_str() {
        return check(page, page.pointer(&target[1..]).unwrap(), value, at, wrong);
    }
    let fits = match schema["type"].as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        other => panic!("the checker does not know {other}"),
    };
    if !fits || schema["enum"].as_array().is_some_and(|values| !values.contains(value)) {
        wrong.push(format!("{at}: {value}"));
    }
    for item in value.as_array().into_iter().flatten() {
        check(page, &schema["items"], item, &format!("{at}[]"), wrong);
    }
    for (name, member) in value.as_object().into_iter().flatten() {
        match schema["properties"].get(name).or(schema.get("additionalProperties")) {
            Some(schema) => check(page, schema, member, &format!("{at}.{name}"), wrong),
            None if schema.get("properties").is_none() => {}
            None => wrong.push(format!("{at}.{name} is not described")),
        }
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        if value.get(name.as_str().unwrap()).is_none() {
            wrong.push(format!("{at}.{name} is missing"));
        }
    }
}

#[tokio::test]
async fn every_reply_is_as_the_page_describes_it() {
    let world = World::start().await.unwrap();
    let page = world.stranger().get("/openapi.json").await.body;
    let full = json!({"templateID": "base", "timeout": 600, "secure": true, "allow_internet_access": false, "network": {"denyOut": ["0.0.0.0/0"]}, "metadata": {"a": "b"}});
    let id = world.create(full.clone()).await.unwrap().to_string();
    let described = world.until("it has logged and was measured", || async {
        world.clock.advance(std::time::Duration::from_millis(100));
        let logs = world.api().get(&format!("/sandboxes/{id}/logs")).await.body["logs"] != json!([]);
        (logs && world.api().get(&format!("/sandboxes/{id}/metrics")).await.body != json!([])).then_some(())
    });
    described.await.unwrap();

    let requests = BTreeMap::from([
        ("/sandboxes/metrics", (format!("/sandboxes/metrics?sandbox_ids={id}"), json!(null))),
        ("/sandboxes", ("/sandboxes".into(), full.clone())),
        ("/v2/sandboxes", ("/v2/sandboxes".into(), full)),
        ("/sandboxes/{sandboxID}/refreshes", (format!("/sandboxes/{id}/refreshes"), json!({"duration": 20}))),
    ]);
    // The one that ends the sandbox comes last.
    let mut served: Vec<_> = operations().filter(|(_, _, served, _)| *served).collect();
    served.sort_by_key(|(method, ..)| *method == Method::DELETE);
    for (method, path, ..) in served {
        let usual = (path.replace("{sandboxID}", &id), json!({"timeout": 700}));
        let (target, body) = requests.get(path).unwrap_or(&usual);
        let body = (*method == Method::POST).then(|| body.to_string());
        for (status, reply) in [
            (None, world.api().send(method.clone(), target, body).await),
            (Some("4XX"), world.stranger().send(method.clone(), target, None).await),
        ] {
            let responses = &page["paths"][path][method.as_str().to_lowercase()]["responses"];
            let response = match status {
                Some(class) if reply.status >= 400 => &responses[class],
                _ => &responses[reply.status.to_string()],
            };
            let response = response["$ref"].as_str().map_or(response, |target| page.pointer(&target[1..]).unwrap());
            assert!(response.is_object(), "{method} {path}: {} is not described", reply.status);
            let mut wrong = Vec::new();
            match response["content"]["application/json"].get("schema") {
                Some(schema) => check(&page, schema, &reply.body, "", &mut wrong),
                None => assert!(reply.body.is_null() || reply.body.is_string(), "{method} {path}: {reply:?}"),
            }
            assert!(wrong.is_empty(), "{method} {path}: {wrong:#?}");
        }
    }
}
