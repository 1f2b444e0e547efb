//! Files through the API: small ones by their latency, a large one by its rate, and how much of the rate the proxy costs.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Failures, timed};
use crate::{
    Bench,
    client::{Client, Sandbox},
    daemon::kill_all,
    report::{Row, Unit},
};

/// What the SDKs accept.
const COMPRESSED: &str = "gzip, deflate";
const PLAIN: &str = "identity";
const SMALL: &str = "/home/user/small";
const LARGE: &str = "/home/user/large";

pub async fn measure(bench: &mut Bench) -> Result<()> {
    let place = bench.daemon()?.place();
    let mut client = Client::connect(&place).await?;
    let sandbox = client.create().await?;
    let mut direct = Client::directly(&place, bench.daemon()?.envd(&sandbox)?.1).await?;
    let content = [b'y'; 1024];
    let (mut up, mut down, mut failures) = (Vec::new(), Vec::new(), Failures::default());
    client.upload(&sandbox, SMALL, &content).await?;
    for _ in 0..bench.rounds(500, 50) {
        let (sent, time) = timed(client.upload(&sandbox, SMALL, &content)).await;
        up.extend(failures.sift(sent).map(|()| time));
        let (read, time) = timed(client.download(&sandbox, SMALL, COMPRESSED)).await;
        down.extend(failures.sift(read).map(|_| time));
    }
    bench.add(Row::new("files.up.small", "1 KB up", Unit::Millis).times(up).failures(failures.0));
    bench.add(Row::new("files.down.small", "1 KB down", Unit::Millis).times(down));

    let length: u64 = if bench.quick() { 128 << 20 } else { 1 << 30 };
    let size = if bench.quick() { "128 MiB" } else { "1 GiB" };
    let rate = |time: Duration| length as f64 / 1e6 / time.as_secs_f64();
    let mut rates: [Vec<f64>; 5] = Default::default();
    for _ in 0..bench.rounds(5, 1) {
        rates[1].push(rate(up_large(&mut direct, &sandbox, length).await?));
        rates[0].push(rate(up_large(&mut client, &sandbox, length).await?));
        // The first time brings what the disk has into memory, as far as the sandbox may have it.
        down_large(&mut direct, &sandbox, PLAIN).await?;
        rates[3].push(rate(down_large(&mut direct, &sandbox, PLAIN).await?));
        rates[2].push(rate(down_large(&mut client, &sandbox, PLAIN).await?));
        rates[4].push(rate(down_large(&mut client, &sandbox, COMPRESSED).await?));
        client.start(&sandbox, "rm", &[LARGE]).await?;
    }
    let share = |of: &[f64], by: &[f64]| of.iter().zip(by).map(|(of, by)| of / by).collect::<Vec<_>>();
    let shares = [share(&rates[0], &rates[1]), share(&rates[2], &rates[3])];
    let [up, up_direct, down, down_direct, down_compressed] = rates;
    let row = |name: &str, what: String| Row::new(name, what, Unit::MegabytesPerSecond);
    bench.add(row("files.up", format!("{size} up")).samples(up).target(&[500.0]));
    bench.add(row("files.up.direct", "the same past the proxy".into()).samples(up_direct));
    bench.add(row("files.down", format!("{size} down")).samples(down).target(&[500.0]));
    bench.add(row("files.down.direct", "the same past the proxy".into()).samples(down_direct));
    bench.add(row("files.down.gzip", format!("{size} down, compressed as the SDKs ask for it")).samples(down_compressed));
    let [up, down] = shares;
    bench.add(Row::new("files.up.share", "up: through the proxy, of the direct rate", Unit::Share).samples(up));
    bench.add(Row::new("files.down.share", "down: through the proxy, of the direct rate", Unit::Share).samples(down));
    kill_all(&place, [sandbox]).await
}

async fn up_large(client: &mut Client, sandbox: &Sandbox, length: u64) -> Result<Duration> {
    let (sent, time) = timed(client.upload_stream(sandbox, LARGE, length)).await;
    sent.map(|()| time)
}

async fn down_large(client: &mut Client, sandbox: &Sandbox, accept: &str) -> Result<Duration> {
    let (read, time) = timed(client.download(sandbox, LARGE, accept)).await;
    ensure!(read? > 0, "the file is empty");
    Ok(time)
}
