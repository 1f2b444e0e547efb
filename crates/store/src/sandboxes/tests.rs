use std::{path::PathBuf, time::Duration};

use atoll_types::ApiKey;

use super::*;
use crate::{Level, Limits, LogQuery, LogRow, NewBuild, SampleRow, Store, Team};

struct Home(PathBuf);

impl Home {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("atoll-store-{}", SandboxId::random()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    async fn store(&self) -> Store {
        Store::open(&self.0.join("atoll.db")).await.unwrap()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_timestamp(1_700_000_000 + seconds, 0).unwrap()
}

async fn team(store: &Store, slug: &str) -> Team {
    store.ensure_team(slug, slug, Limits::default(), at(0)).await.unwrap()
}

fn new(id: &str) -> NewSandbox {
    NewSandbox {
        id: id.parse().unwrap(),
        template: "tpl".parse().unwrap(),
        build: BuildId::random(),
        alias: "base".into(),
        generation: 1,
        resources: Resources::default(),
        created_at: at(0),
        deadline: at(1000),
        metadata: None,
        access_token: None,
        allow_internet_access: None,
        options: serde_json::json!({}),
        idempotency: None,
    }
}

/// A running sandbox that came up at `second`.
async fn run(store: &Store, team: &Team, new: NewSandbox, second: i64) -> SandboxId {
    let id = new.id.clone();
    store.team(team.id.clone()).insert_sandbox(new, 100).await.unwrap();
    assert!(store.fleet().started(&id, 1, started(second)).await.unwrap().is_some());
    id
}

fn started(second: i64) -> Started {
    Started { node: "n".into(), envd_version: "0.6.13".into(), at: at(second), deadline: at(second + 1000) }
}

fn ending(reason: EndReason) -> Ending {
    Ending { reason, exit_code: Some(3), at: at(50), detail: "why".into() }
}

#[tokio::test]
async fn a_sandbox_lives_and_leaves_a_record() {
    let home = Home::new();
    let store = home.store().await;
    let team = team(&store, "a").await;
    let mine = store.team(team.id.clone());
    let sandbox = NewSandbox {
        metadata: Some([("k".into(), "v".into())].into()),
        access_token: Some(Secret::new("sesame")),
        allow_internet_access: Some(false),
        options: serde_json::json!({"x": [1]}),
        ..new("i1")
    };
    let id = sandbox.id.clone();
    mine.insert_sandbox(sandbox, 1).await.unwrap();
    assert!(mine.running(&id, at(1)).await.unwrap().is_none(), "it only starts");
    assert!(store.fleet().started(&id, 1, started(2)).await.unwrap().is_some());
    assert!(store.fleet().started(&id, 1, started(3)).await.unwrap().is_none(), "it came up already");

    let row = mine.running(&id, at(3)).await.unwrap().unwrap();
    assert_eq!((row.state, row.started_at, row.deadline, row.node.as_deref()), (SandboxState::Running, at(2), at(1002), Some("n")));
    assert_eq!((row.access_token.as_ref().unwrap().expose(), row.allow_internet_access), ("sesame", Some(false)));
    assert_eq!((row.options.clone(), row.metadata.clone().unwrap()["k"].as_str()), (serde_json::json!({"x": [1]}), "v"));
    assert!(!format!("{row:?}").contains("sesame"), "rows hide their tokens");
    assert!(mine.running(&id, at(1002)).await.unwrap().is_none(), "its time has come");

    assert_eq!(mine.stop(&id).await.unwrap(), Some(1));
    assert_eq!(mine.stop(&id).await.unwrap(), Some(1), "joining the one that ends it");
    assert!(mine.running(&id, at(3)).await.unwrap().is_none());
    assert!(!store.fleet().ended(&id, 2, ending(EndReason::Killed)).await.unwrap(), "another generation");
    assert!(store.fleet().ended(&id, 1, ending(EndReason::Killed)).await.unwrap());
    assert!(!store.fleet().ended(&id, 1, ending(EndReason::Oom)).await.unwrap(), "nothing leaves `ended`");
    assert_eq!(mine.stop(&id).await.unwrap(), None);

    drop((mine, store));
    let row = home.store().await.team(team.id).sandbox(&id).await.unwrap().unwrap();
    assert_eq!((row.state, row.ending), (SandboxState::Ended, Some(ending(EndReason::Killed))), "the record outlives the process");
}

#[tokio::test]
async fn a_team_has_as_many_live_sandboxes_as_it_may() {
    let home = Home::new();
    let store = home.store().await;
    let (a, b) = (team(&store, "a").await, team(&store, "b").await);
    let tenant = store.team(a.id);
    let attempts: Vec<_> = (0..20)
        .map(|n| {
            tokio::spawn({
                let tenant = tenant.clone();
                async move { tenant.insert_sandbox(new(&format!("i{n}")), 5).await }
            })
        })
        .collect();
    let mut admitted = 0;
    for attempt in attempts {
        match attempt.await.unwrap() {
            Ok(()) => admitted += 1,
            Err(InsertError::Full { limit }) => assert_eq!(limit, 5),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(admitted, 5);
    store.team(b.id).insert_sandbox(new("other"), 5).await.unwrap();
    let live = store.fleet().abandon_starting("gone", at(1)).await.unwrap();
    assert_eq!(live, 6);
    tenant.insert_sandbox(new("next"), 5).await.unwrap();
}

#[tokio::test]
async fn a_request_is_carried_out_once() {
    let home = Home::new();
    let store = home.store().await;
    let tenant = store.team(team(&store, "a").await.id);
    let other = store.team(team(&store, "b").await.id);
    let named = |id: &str, digest: &str, since: i64| {
        let idempotency = Some(Idempotency { key: "k".into(), digest: digest.into(), since: at(since) });
        NewSandbox { idempotency, created_at: at(since + 100), ..new(id) }
    };
    tenant.insert_sandbox(named("i1", "d", 0), 9).await.unwrap();
    for (digest, expected) in [("d", true), ("e", false)] {
        match tenant.insert_sandbox(named("i2", digest, 1), 9).await {
            Err(InsertError::Repeated { row, same }) => assert_eq!((row.id.as_str(), same), ("i1", expected)),
            other => panic!("{other:?}"),
        }
    }
    other.insert_sandbox(named("i3", "d", 0), 9).await.unwrap();
    // What never ran does not hold its key.
    store.fleet().ended(&"i1".parse().unwrap(), 1, ending(EndReason::StartFailed)).await.unwrap();
    tenant.insert_sandbox(named("i4", "e", 1), 9).await.unwrap();
    // What ran does, also after its end, until that is long ago.
    let ran: SandboxId = "i4".parse().unwrap();
    store.fleet().started(&ran, 1, started(101)).await.unwrap();
    store.fleet().ended(&ran, 1, ending(EndReason::Killed)).await.unwrap();
    assert!(matches!(tenant.insert_sandbox(named("i5", "e", 101), 9).await, Err(InsertError::Repeated { same: true, .. })));
    tenant.insert_sandbox(named("i5", "e", 102), 9).await.unwrap();
}

#[tokio::test]
async fn a_failed_write_does_not_spoil_those_it_shares_a_transaction_with() {
    let home = Home::new();
    let store = home.store().await;
    let tenant = store.team(team(&store, "a").await.id);
    let ids = ["i1", "i2", "i1", "i3"];
    let writes: Vec<_> = ids
        .iter()
        .map(|id| {
            tokio::spawn({
                let tenant = tenant.clone();
                let new = new(id);
                async move { tenant.insert_sandbox(new, 9).await.is_ok() }
            })
        })
        .collect();
    let mut done = 0;
    for write in writes {
        done += usize::from(write.await.unwrap());
    }
    assert_eq!(done, 3, "the duplicate alone fails");
}

#[tokio::test]
async fn teams_do_not_reach_each_others_rows() {
    let home = Home::new();
    let store = home.store().await;
    let (a, b) = (team(&store, "a").await, team(&store, "b").await);
    let id = run(&store, &a, new("i1"), 1).await;
    store.fleet().record_logs(vec![(id.clone(), line(1, Level::Info, "hello"))]).await.unwrap();
    store.fleet().record_samples(vec![(id.clone(), sample(1))]).await.unwrap();
    for (team, sees) in [(a.id, 1), (b.id, 0)] {
        let tenant = store.team(team);
        assert_eq!(usize::from(tenant.running(&id, at(2)).await.unwrap().is_some()), sees);
        assert_eq!(usize::from(tenant.sandbox(&id).await.unwrap().is_some()), sees);
        assert_eq!(usize::from(tenant.change_deadline(&id, at(2), |_| Ok::<_, ()>(at(2000))).await.unwrap().is_some()), sees);
        assert_eq!(tenant.list_running(SandboxQuery::default(), at(2)).await.unwrap().sandboxes.len(), sees);
        assert_eq!(tenant.logs(&id, all_logs()).await.unwrap().len(), sees);
        assert_eq!(tenant.samples(&id, at(0), at(9), Duration::from_secs(1)).await.unwrap().len(), sees);
        assert_eq!(tenant.last_samples(vec![id.clone()]).await.unwrap().len(), sees);
        assert_eq!(usize::from(tenant.sample_range(&id).await.unwrap().is_some()), sees);
        assert_eq!(usize::from(tenant.stop(&id).await.unwrap().is_some()), sees);
    }
}

#[tokio::test]
async fn pages_hold_every_row_once_in_both_orders() {
    let home = Home::new();
    let store = home.store().await;
    let team = team(&store, "a").await;
    let tenant = store.team(team.id.clone());
    for n in 0..7 {
        run(&store, &team, new(&format!("i{n}")), n / 3).await;
    }
    for (order, expected) in [(Order::Descending, "i6 i3 i4 i5 i0 i1 i2"), (Order::Ascending, "i2 i1 i0 i5 i4 i3 i6")] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let query = SandboxQuery { order, after, limit: Some(2), ..Default::default() };
            let page = tenant.list_running(query, at(10)).await.unwrap();
            assert_eq!(page.total, 7, "the total ignores pages");
            seen.extend(page.sandboxes.iter().map(|row| row.id.to_string()));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen.join(" "), expected);
    }
    let exact = tenant.list_running(SandboxQuery { limit: Some(7), ..Default::default() }, at(10)).await.unwrap();
    assert!(exact.next.is_none(), "a full last page has no next");
}

#[tokio::test]
async fn filters_match_exactly() {
    let home = Home::new();
    let store = home.store().await;
    let team = team(&store, "a").await;
    let tenant = store.team(team.id.clone());
    let tricky = [("$.a", "x"), ("k\"'\\", "ü %_&="), ("", ""), ("K", "V")];
    for (n, (name, value)) in tricky.iter().enumerate() {
        let metadata = Some([((*name).into(), (*value).into()), ("all".into(), "yes".into())].into());
        run(&store, &team, NewSandbox { metadata, ..new(&format!("i{n}")) }, n as i64).await;
    }
    run(&store, &team, NewSandbox { template: "other".parse().unwrap(), ..new("plain") }, 9).await;
    let count = async |query: SandboxQuery| tenant.list_running(query, at(20)).await.unwrap().total;
    let with = |pairs: &[(&str, &str)]| SandboxQuery {
        metadata: pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        ..Default::default()
    };
    for (name, value) in tricky {
        assert_eq!(count(with(&[(name, value), ("all", "yes")])).await, 1, "{name:?}={value:?}");
    }
    assert_eq!(count(with(&[("all", "yes")])).await, 4);
    assert_eq!(count(with(&[("k", "V")])).await, 0, "names have case");
    assert_eq!(count(with(&[("K", "V"), ("$.a", "x")])).await, 0, "all pairs must match");
    assert_eq!(count(SandboxQuery { template: Some("other".parse().unwrap()), ..Default::default() }).await, 1);
    assert_eq!(count(SandboxQuery { started_after: Some(at(3)), ..Default::default() }).await, 2, "the moment itself counts");
}

#[tokio::test]
async fn deadlines_are_intended_before_they_are_real() {
    let home = Home::new();
    let store = home.store().await;
    let team = team(&store, "a").await;
    let (tenant, fleet) = (store.team(team.id.clone()), store.fleet());
    let id = run(&store, &team, new("i1"), 0).await;
    assert!(fleet.wrong_deadlines().await.unwrap().is_empty());
    assert!(matches!(tenant.change_deadline(&id, at(1), |_| Err("no")).await.unwrap(), Some(Err("no"))));
    let row = tenant.change_deadline(&id, at(1), |row| Ok::<_, ()>(row.deadline + Duration::from_secs(5))).await.unwrap().unwrap().unwrap();
    assert_eq!(row.deadline, at(1005));
    let wrong = fleet.wrong_deadlines().await.unwrap();
    assert_eq!((wrong[0].deadline, wrong[0].node_deadline), (at(1005), at(1000)));
    fleet.saw_deadline(&id, 7, at(1005)).await.unwrap();
    assert_eq!(fleet.wrong_deadlines().await.unwrap().len(), 1, "another generation");
    fleet.saw_deadline(&id, 1, at(1005)).await.unwrap();
    assert!(fleet.wrong_deadlines().await.unwrap().is_empty());
    assert!(tenant.change_deadline(&id, at(1005), |_| Ok::<_, ()>(at(9999))).await.unwrap().is_none(), "too late");
}

fn line(second: i64, level: Level, message: &str) -> LogRow {
    LogRow { at: at(second), level, message: message.into(), fields: [("f".into(), "1".into())].into() }
}

fn all_logs() -> LogQuery {
    LogQuery { start: at(-100), end: at(100), level: Level::Debug, search: String::new(), order: Order::Ascending, limit: 100 }
}

fn sample(second: i64) -> SampleRow {
    SampleRow {
        at: at(second),
        cpu_count: 2,
        cpu_used_pct: second as f64,
        mem_used: 10,
        mem_total: u64::MAX,
        mem_cache: 1,
        disk_used: 4,
        disk_total: 9,
    }
}

#[tokio::test]
async fn logs_are_found_by_time_level_and_text() {
    let home = Home::new();
    let store = home.store().await;
    let team = team(&store, "a").await;
    let id = run(&store, &team, new("i1"), 0).await;
    let unknown: SandboxId = "nobody".parse().unwrap();
    let lines =
        [line(1, Level::Debug, "one"), line(2, Level::Warn, "Two 100%"), line(2, Level::Error, "three"), line(3, Level::Info, "two")];
    let batch = lines.iter().cloned().map(|line| (id.clone(), line)).chain([(unknown, line(1, Level::Info, "lost"))]).collect();
    store.fleet().record_logs(batch).await.unwrap();
    let tenant = store.team(team.id);
    let find = async |query: LogQuery| {
        let rows = tenant.logs(&id, query).await.unwrap();
        rows.into_iter().map(|row| row.message).collect::<Vec<_>>().join(",")
    };
    assert_eq!(tenant.logs(&id, all_logs()).await.unwrap(), lines);
    assert_eq!(find(LogQuery { order: Order::Descending, limit: 3, ..all_logs() }).await, "two,three,Two 100%");
    assert_eq!(find(LogQuery { level: Level::Warn, ..all_logs() }).await, "Two 100%,three");
    assert_eq!(find(LogQuery { search: "wo".into(), ..all_logs() }).await, "Two 100%,two");
    assert_eq!(find(LogQuery { search: "two".into(), ..all_logs() }).await, "two", "text has case");
    assert_eq!(find(LogQuery { search: "0%".into(), ..all_logs() }).await, "Two 100%");
    assert_eq!(find(LogQuery { start: at(2), end: at(2), ..all_logs() }).await, "Two 100%,three");
}

#[tokio::test]
async fn samples_are_gathered_into_steps() {
    let home = Home::new();
    let store = home.store().await;
    let team = team(&store, "a").await;
    let id = run(&store, &team, new("i1"), 0).await;
    let tenant = store.team(team.id);
    assert_eq!(tenant.sample_range(&id).await.unwrap(), None);
    let batch = (0..10).chain([9]).map(|second| (id.clone(), sample(second))).collect();
    store.fleet().record_samples(batch).await.unwrap();
    assert_eq!(tenant.sample_range(&id).await.unwrap(), Some((at(0), at(9))));
    let fine = tenant.samples(&id, at(2), at(4), Duration::from_secs(1)).await.unwrap();
    let most = SampleRow { mem_total: i64::MAX as u64, ..sample(2) };
    assert_eq!((fine.len(), &fine[0]), (3, &most));
    let coarse = tenant.samples(&id, at(0), at(9), Duration::from_secs(5)).await.unwrap();
    assert_eq!(coarse.iter().map(|row| (row.at, row.cpu_used_pct)).collect::<Vec<_>>(), [(at(4), 2.0), (at(9), 7.0)]);
    assert_eq!(tenant.last_samples(vec![id.clone(), "nobody".parse().unwrap()]).await.unwrap()[&id].at, at(9));
}

#[tokio::test]
async fn records_are_swept_when_they_are_old() {
    let home = Home::new();
    let store = home.store().await;
    let team = team(&store, "a").await;
    let (tenant, fleet) = (store.team(team.id.clone()), store.fleet());
    let (gone, alive) = (run(&store, &team, new("i1"), 0).await, run(&store, &team, new("i2"), 0).await);
    fleet.ended(&gone, 1, ending(EndReason::Exited)).await.unwrap();
    fleet.record_samples(vec![(alive.clone(), sample(0)), (alive.clone(), sample(90))]).await.unwrap();
    fleet.record_logs(vec![(gone.clone(), line(95, Level::Info, "a")), (alive.clone(), line(0, Level::Info, "b"))]).await.unwrap();
    let second = Duration::from_secs(1);
    let keep = Retention { sandboxes: second * 40, samples: second * 20, logs: second * 30 };
    assert_eq!(fleet.sweep(keep, at(80)).await.unwrap(), 2, "an old sample and an old line");
    assert!(tenant.sandbox(&gone).await.unwrap().is_some());
    fleet.sweep(keep, at(100)).await.unwrap();
    assert!(tenant.sandbox(&gone).await.unwrap().is_none(), "its row, and what hung on it");
    assert_eq!(tenant.logs(&gone, all_logs()).await.unwrap(), []);
    assert_eq!(tenant.last_samples(vec![alive.clone()]).await.unwrap()[&alive].at, at(90));
    assert!(tenant.running(&alive, at(100)).await.unwrap().is_some());
}

#[tokio::test]
async fn keys_speak_for_one_team() {
    let home = Home::new();
    let store = home.store().await;
    let (a, b) = (team(&store, "a").await, team(&store, "b").await);
    assert_eq!(team(&store, "a").await, a, "ensuring again changes nothing");
    let key = ApiKey::random();
    for _ in 0..2 {
        store.ensure_key(&a.id, &key, "k", at(0)).await.unwrap();
    }
    assert!(matches!(store.ensure_key(&b.id, &key, "k", at(0)).await, Err(crate::KeyError::Taken)));
    assert_eq!(store.team_of_key(&key.hash()).await.unwrap(), Some(a));
    assert_eq!(store.team_of_key(&ApiKey::random().hash()).await.unwrap(), None);
    let file = std::fs::read(home.0.join("atoll.db")).unwrap();
    let wal = std::fs::read(home.0.join("atoll.db-wal")).unwrap();
    for bytes in [file, wal] {
        assert!(!bytes.windows(key.expose().len()).any(|w| w == key.expose().as_bytes()), "keys are not stored");
    }
}

#[tokio::test]
async fn the_file_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Home::new();
    let store = home.store().await;
    team(&store, "a").await;
    for file in std::fs::read_dir(&home.0).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.path());
    }
}

#[tokio::test]
async fn a_reference_means_the_newest_ready_build() {
    let home = Home::new();
    let store = home.store().await;
    let (a, b) = (team(&store, "a").await, team(&store, "b").await);
    let build = |layers: &[&str]| NewBuild {
        layers: layers.iter().map(|&layer| layer.into()).collect(),
        resources: Resources::default(),
        default_user: "user".into(),
        default_workdir: None,
    };
    let first = store.ensure_public_template(&a.id, "base", build(&["l1"]), at(0)).await.unwrap();
    let again = store.ensure_public_template(&a.id, "base", build(&["l1"]), at(1)).await.unwrap();
    assert_eq!(first, again, "the same build is not made twice");
    let second = store.ensure_public_template(&a.id, "base", build(&["l1", "l2"]), at(2)).await.unwrap();
    assert_eq!(second.template, first.template);
    assert_ne!(second.id, first.id);

    let find = async |team: &Team, text: &str| store.team(team.id.clone()).build(&text.parse().unwrap()).await.unwrap().map(|b| b.id);
    for team in [&a, &b] {
        assert_eq!(find(team, "base").await, Some(second.id.clone()));
        assert_eq!(find(team, second.template.as_str()).await, Some(second.id.clone()));
        assert_eq!(find(team, &format!("base:{}", first.id)).await, Some(first.id.clone()));
        for missing in ["nope", "base:v1", "a/base", "b/base", &format!("a/{}", first.template)] {
            assert_eq!(find(team, missing).await, None, "{missing}");
        }
    }
    assert_eq!(second.alias, "base");
}
