//! Commands in a sandbox that is there.

use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;

use super::Failures;
use crate::{
    Bench,
    client::{Client, Place, Sandbox},
    daemon::kill_all,
    report::{Row, Unit},
};

/// A program with its arguments.
type Command = (&'static str, &'static [&'static str]);

const TRUE: Command = ("true", &[]);
/// The same as an SDK asks for it.
const IN_SHELL: Command = ("/bin/bash", &["-l", "-c", "true"]);

pub async fn measure(bench: &mut Bench) -> Result<()> {
    let place = bench.daemon()?.place();
    let mut client = Client::connect(&place).await?;
    let sandbox = client.create().await?;
    let envd = bench.daemon()?.envd(&sandbox)?.1;
    let rounds = bench.rounds(1000, 100);
    run(&mut client, &sandbox, TRUE, 20).await;

    let through = run(&mut client, &sandbox, TRUE, rounds).await;
    let row = Row::new("command.1", "command `true`, 1 client", Unit::Millis).target(&[3.0, 6.0, 10.0]);
    bench.add(row.times(through.0).failures(through.1));
    let (times, failures) = run(&mut Client::directly(&place, envd).await?, &sandbox, TRUE, rounds).await;
    bench.add(Row::new("command.direct", "the same past the proxy", Unit::Millis).times(times).failures(failures));
    let (times, failures) = run(&mut client, &sandbox, IN_SHELL, rounds / 2).await;
    bench.add(Row::new("command.shell", "`true` in a login shell, as the SDKs run it", Unit::Millis).times(times).failures(failures));
    kill_all(&place, [sandbox]).await?;

    let (times, failures) = many(&place, 10, rounds / 4).await?;
    bench.add(Row::new("command.10", "command `true`, 10 clients", Unit::Millis).times(times).failures(failures));
    Ok(())
}

async fn run(client: &mut Client, sandbox: &Sandbox, command: Command, rounds: usize) -> (Vec<Duration>, u64) {
    let (mut times, mut failures) = (Vec::new(), Failures::default());
    for _ in 0..rounds {
        times.extend(failures.sift(client.start(sandbox, command.0, command.1).await).map(|ran| ran.whole));
    }
    (times, failures.0)
}

/// Each client with a sandbox of its own.
async fn many(place: &Place, clients: usize, rounds: usize) -> Result<(Vec<Duration>, u64)> {
    let mut ready = Vec::new();
    for _ in 0..clients {
        let mut client = Client::connect(place).await?;
        let sandbox = client.create().await?;
        ready.push((client, sandbox));
    }
    let mut running: JoinSet<_> = ready
        .into_iter()
        .map(|(mut client, sandbox)| async move {
            let done = run(&mut client, &sandbox, TRUE, rounds).await;
            (done, client.kill(&sandbox).await)
        })
        .collect();
    let (mut times, mut failures) = (Vec::new(), 0);
    while let Some(done) = running.join_next().await {
        let ((more, failed), killed) = done?;
        killed?;
        times.extend(more);
        failures += failed;
    }
    Ok((times, failures))
}
