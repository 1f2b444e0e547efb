//! Creating: how long until a sandbox says something, to one client and to many at once, and how many a second can be made.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::{task::JoinSet, time::sleep};

use super::Failures;
use crate::{
    Bench,
    client::{Client, Place, Sandbox},
    report::{Row, Unit},
};

/// Clients that create and kill without a pause.
const STEADY: usize = 8;

/// How long one sandbox took.
pub struct Birth {
    pub created: Duration,
    pub spoke: Duration,
}

pub async fn measure(bench: &mut Bench) -> Result<()> {
    let place = bench.daemon()?.place();
    waves(&place, 1, 5).await?;
    for (clients, full, quick, target) in
        [(1, 300, 50, [10.0, 20.0, 40.0].as_slice()), (10, 30, 5, &[]), (50, 10, 2, &[250.0, 400.0, 500.0])]
    {
        let (births, failures) = waves(&place, clients, bench.rounds(full, quick)).await?;
        let many = if clients == 1 { "1 client".to_owned() } else { format!("{clients} at once") };
        let created = births.iter().map(|birth| birth.created);
        bench.add(Row::new(format!("create.{clients}"), format!("create, {many}"), Unit::Millis).times(created).failures(failures));
        let spoke = births.iter().map(|birth| birth.spoke);
        let row = Row::new(format!("create.output.{clients}"), format!("create → first output, {many}"), Unit::Millis).target(target);
        bench.add(row.times(spoke).failures(failures));
    }
    let before = bench.daemon()?.processor_ms()?;
    let (counts, failures) = steadily(&place, Duration::from_secs(bench.rounds(15, 4) as u64)).await?;
    let row = Row::new("create.rate", format!("created and killed, {STEADY} clients"), Unit::PerSecond).target(&[100.0]);
    let used = (bench.daemon()?.processor_ms()? - before) / counts.iter().sum::<f64>();
    bench.add(row.samples(counts).failures(failures));
    bench.add(Row::new("create.processor", "processor time for each of them, all the daemon's processes", Unit::Millis).samples([used]));
    Ok(())
}

/// Creates a sandbox and has it say something, as a user of an SDK would.
pub async fn birth(client: &mut Client) -> Result<(Birth, Sandbox)> {
    let begun = Instant::now();
    let sandbox = client.create().await?;
    let created = begun.elapsed();
    let spoke = async {
        let ran = client.run(&sandbox, "echo hello").await?;
        ensure!(ran.output == b"hello\n", "the sandbox said {:?}", String::from_utf8_lossy(&ran.output));
        Ok(created + ran.first_output.unwrap_or(ran.whole))
    };
    match spoke.await {
        Ok(spoke) => Ok((Birth { created, spoke }, sandbox)),
        Err(error) => {
            // A connection in the middle of an answer is of no more use.
            crate::daemon::kill_all(client.place(), [sandbox]).await?;
            Err(error)
        }
    }
}

/// All clients create at once, then all kill; again after a rest, in which the daemon may make networks.
async fn waves(place: &Place, clients: usize, waves: usize) -> Result<(Vec<Birth>, u64)> {
    let (mut births, mut failures) = (Vec::new(), Failures::default());
    for _ in 0..waves {
        let mut ready = Vec::new();
        for _ in 0..clients {
            ready.push(Client::connect(place).await?);
        }
        let mut running: JoinSet<_> = ready
            .into_iter()
            .map(|mut client| async move {
                let born = birth(&mut client).await;
                (client, born)
            })
            .collect();
        let mut alive = Vec::new();
        while let Some(done) = running.join_next().await {
            let (client, born) = done?;
            if let Some((birth, sandbox)) = failures.sift(born) {
                births.push(birth);
                alive.push((client, sandbox));
            }
        }
        let mut killing: JoinSet<_> = alive.into_iter().map(|(mut client, sandbox)| async move { client.kill(&sandbox).await }).collect();
        while let Some(killed) = killing.join_next().await {
            killed??;
        }
        sleep(Duration::from_millis(if clients == 1 { 30 } else { 1000 })).await;
    }
    Ok((births, failures.0))
}

/// How many were created in each second.
async fn steadily(place: &Place, time: Duration) -> Result<(Vec<f64>, u64)> {
    let begun = Instant::now();
    let mut running = JoinSet::new();
    for _ in 0..STEADY {
        let mut client = Client::connect(place).await?;
        running.spawn(async move {
            let mut created = Vec::new();
            while begun.elapsed() < time {
                let sandbox = client.create().await?;
                created.push(begun.elapsed());
                client.kill(&sandbox).await?;
            }
            anyhow::Ok(created)
        });
    }
    let (mut counts, mut failures) = (vec![0.0; time.as_secs() as usize], Failures::default());
    while let Some(done) = running.join_next().await {
        for at in failures.sift(done?).into_iter().flatten() {
            if let Some(count) = counts.get_mut(at.as_secs() as usize) {
                *count += 1.0;
            }
        }
    }
    Ok((counts, failures.0))
}
