//! The same as the stock Python SDK sees it, whose own time counts too.

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;

use crate::{
    Bench,
    report::{Row, Unit},
};

const SCRIPT: &str = include_str!("sdk.py");

pub async fn measure(bench: &mut Bench) -> Result<()> {
    let Some(python) = bench.python.clone() else {
        bench.skip("the Python SDK's view: give --python a Python that has e2b, as `tests/compat/run` makes one");
        return Ok(());
    };
    let place = bench.daemon()?.place();
    let mut command = Command::new(&python);
    command.args(["-c", SCRIPT, &bench.rounds(100, 10).to_string()]).kill_on_drop(true);
    command.env("E2B_API_URL", format!("http://{}", place.api)).env("E2B_SANDBOX_URL", format!("http://{}", place.proxy));
    let output = command.env("E2B_API_KEY", &*place.key).output().await.with_context(|| format!("starting {}", python.display()))?;
    ensure!(output.status.success(), "the Python SDK: {}", String::from_utf8_lossy(&output.stderr));
    let [created, spoke]: [Vec<f64>; 2] = serde_json::from_slice(&output.stdout).context("the Python SDK printed nonsense")?;
    bench.add(Row::new("sdk.create", "Python SDK: create", Unit::Millis).samples(created));
    bench.add(Row::new("sdk.output", "Python SDK: create → a command's output", Unit::Millis).samples(spoke));
    Ok(())
}
