//! The proxy: the same small server inside a sandbox, reached directly, through the proxy, and through nginx.
//!
//! The ways take turns within every round, so that a machine that becomes slower does so for all.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tokio::{process::Command, task::JoinSet, time::sleep};

use super::timed;
use crate::{
    Bench,
    client::Client,
    daemon::kill_all,
    http::Connection,
    nginx::Nginx,
    report::{Row, Unit},
};

const PORT: u16 = 8080;
const PROGRAM: &str = "/home/user/server";
/// Connections under load.
const CONNECTIONS: usize = 32;
/// Requests on one connection in a round.
const IN_A_ROW: usize = 500;
/// How long the server may take to listen.
const START: Duration = Duration::from_secs(10);

/// A way to the server.
struct Way {
    name: &'static str,
    what: &'static str,
    address: SocketAddr,
    host: String,
}

impl Way {
    fn request(&self) -> Vec<u8> {
        format!("GET / HTTP/1.1\r\nhost: {}\r\nuser-agent: bench\r\naccept: */*\r\n\r\n", self.host).into_bytes()
    }
}

pub async fn measure(bench: &mut Bench) -> Result<()> {
    let place = bench.daemon()?.place();
    let mut client = Client::connect(&place).await?;
    let sandbox = client.create().await?;
    let guest = SocketAddr::new(bench.daemon()?.envd(&sandbox)?.1.ip(), PORT);
    client.upload(&sandbox, PROGRAM, &std::fs::read(&bench.ours)?).await?;
    client.start(&sandbox, "chmod", &["+x", PROGRAM]).await?;
    client.begin(&sandbox, PROGRAM, &["serve", &PORT.to_string()]).await?;
    let deadline = Instant::now() + START;
    while Connection::open(guest).await.is_err() {
        ensure!(Instant::now() < deadline, "the server in the sandbox does not listen");
        sleep(Duration::from_millis(20)).await;
    }

    let host = format!("{PORT}-{}.localhost", sandbox.id);
    let mut ways = vec![
        Way { name: "direct", what: "reached directly", address: guest, host: guest.to_string() },
        Way { name: "atoll", what: "through the proxy", address: place.proxy, host: host.clone() },
    ];
    let nginx = bench.tool("nginx", "nginx-light", "the comparison of the proxy with nginx").then(|| Nginx::start(guest)).transpose()?;
    ways.extend(nginx.as_ref().map(|nginx| Way { name: "nginx", what: "through nginx", address: nginx.address, host }));

    latency(bench, &ways).await?;
    rate(bench, &ways).await?;
    if bench.tool("wrk", "wrk", "the second opinion on requests per second") {
        second_opinion(bench, &ways).await?;
    }
    drop(nginx);
    kill_all(&place, [sandbox]).await
}

/// One request at a time, and how much later the median answer comes by each detour.
async fn latency(bench: &mut Bench, ways: &[Way]) -> Result<()> {
    let mut connections = Vec::new();
    for way in ways {
        let mut connection = Connection::open(way.address).await?;
        in_a_row(&mut connection, &way.request(), 100).await?;
        connections.push(connection);
    }
    let mut times = vec![Vec::new(); ways.len()];
    let mut medians = vec![Vec::new(); ways.len()];
    for _ in 0..bench.rounds(30, 5) {
        for (n, (way, connection)) in ways.iter().zip(&mut connections).enumerate() {
            let mut round = in_a_row(connection, &way.request(), IN_A_ROW).await?;
            times[n].extend_from_slice(&round);
            round.sort();
            medians[n].push(round[round.len() / 2]);
        }
    }
    for (way, times) in ways.iter().zip(times) {
        bench.add(Row::new(format!("proxy.latency.{}", way.name), format!("request, {}", way.what), Unit::Micros).times(times));
    }
    for (n, way) in ways.iter().enumerate().skip(1) {
        let added = medians[n].iter().zip(&medians[0]).map(|(detour, direct)| (detour.as_secs_f64() - direct.as_secs_f64()) * 1e6);
        let bounds: &[f64] = if way.name == "atoll" { &[150.0] } else { &[] };
        let row = Row::new(format!("proxy.added.{}", way.name), format!("added {}, median of each round", way.what), Unit::Micros);
        bench.add(row.samples(added).target(bounds));
    }
    Ok(())
}

async fn in_a_row(connection: &mut Connection, request: &[u8], count: usize) -> Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let (answered, time) = timed(async {
            let status = connection.ask(request).await?.status;
            anyhow::Ok((status, connection.drain().await?))
        })
        .await;
        let (status, length) = answered?;
        ensure!((status, length) == (200, 6), "a request was answered with {status}");
        times.push(time);
    }
    Ok(times)
}

/// As many requests as the machine can do, which also has to make them.
async fn rate(bench: &mut Bench, ways: &[Way]) -> Result<()> {
    let time = Duration::from_secs(bench.rounds(4, 1) as u64);
    let mut rates = vec![Vec::new(); ways.len()];
    for _ in 0..bench.rounds(5, 2) {
        for (way, rates) in ways.iter().zip(&mut rates) {
            let mut running = JoinSet::new();
            for _ in 0..CONNECTIONS {
                let (mut connection, request) = (Connection::open(way.address).await?, way.request());
                running.spawn(async move {
                    let begun = Instant::now();
                    let mut count = 0;
                    while begun.elapsed() < time {
                        count += in_a_row(&mut connection, &request, 10).await?.len();
                    }
                    anyhow::Ok(count as f64 / begun.elapsed().as_secs_f64())
                });
            }
            let mut sum = 0.0;
            while let Some(done) = running.join_next().await {
                sum += done??;
            }
            rates.push(sum);
        }
    }
    add_rates(bench, ways, "proxy.rate", &format!("requests, {CONNECTIONS} connections"), rates);
    Ok(())
}

/// The same by a load generator that is not ours.
async fn second_opinion(bench: &mut Bench, ways: &[Way]) -> Result<()> {
    let seconds = bench.rounds(4, 1);
    let mut rates = vec![Vec::new(); ways.len()];
    for _ in 0..bench.rounds(5, 2) {
        for (way, rates) in ways.iter().zip(&mut rates) {
            let mut command = Command::new("wrk");
            command.args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{seconds}s"), "-H", &format!("Host: {}", way.host)]);
            let output = command.arg(format!("http://{}/", way.address)).kill_on_drop(true).output().await.context("starting wrk")?;
            let text = String::from_utf8_lossy(&output.stdout);
            ensure!(!text.contains("Non-2xx"), "wrk: {text}");
            let rate = text.lines().find_map(|line| line.strip_prefix("Requests/sec:")?.trim().parse().ok());
            rates.push(rate.with_context(|| format!("wrk: {text}{}", String::from_utf8_lossy(&output.stderr)))?);
        }
    }
    add_rates(bench, ways, "proxy.wrk", &format!("requests by wrk, {CONNECTIONS} connections"), rates);
    Ok(())
}

fn add_rates(bench: &mut Bench, ways: &[Way], name: &str, what: &str, rates: Vec<Vec<f64>>) {
    let position = |wanted: &str| ways.iter().position(|way| way.name == wanted);
    if let Some((atoll, nginx)) = position("atoll").zip(position("nginx")) {
        let shares = rates[atoll].iter().zip(&rates[nginx]).map(|(atoll, nginx)| atoll / nginx);
        bench.add(Row::new(format!("{name}.share"), format!("{what}: the proxy's, of nginx's"), Unit::Share).samples(shares));
    }
    for (way, rates) in ways.iter().zip(rates) {
        let bounds: &[f64] = if way.name == "atoll" { &[15_000.0] } else { &[] };
        let row = Row::new(format!("{name}.{}", way.name), format!("{what}, {}", way.what), Unit::PerSecond);
        bench.add(row.samples(rates).target(bounds));
    }
}
