//! Where the time of a create goes, as the daemon itself measures it: events of the log that carry fields `…_us`.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;

use crate::{
    Bench,
    client::Client,
    report::{Row, Unit},
};

pub async fn measure(bench: &mut Bench) -> Result<()> {
    bench.end_daemon();
    let daemon = bench.start_daemon("info,atoll_steps=debug")?;
    let mut client = Client::connect(&daemon.place()).await?;
    for _ in 0..bench.rounds(200, 30) {
        let sandbox = client.create().await?;
        client.kill(&sandbox).await?;
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    let mut steps: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for event in daemon.logged()?.iter().filter(|event| event["target"] == "atoll_steps") {
        let part = event["fields"]["message"].as_str().unwrap_or_default();
        for (name, value) in event["fields"].as_object().into_iter().flatten() {
            if let Some((step, value)) = name.strip_suffix("_us").zip(value.as_f64()) {
                steps.entry(format!("{part}.{step}")).or_default().push(value);
            }
        }
    }
    if steps.is_empty() {
        bench.skip("the steps of a create: this daemon does not tell them");
    }
    for (name, samples) in steps {
        bench.add(Row::new(format!("steps.{name}"), format!("step {name}"), Unit::Micros).samples(samples));
    }
    Ok(())
}
