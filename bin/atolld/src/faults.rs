//! `ATOLL_FAULTS`: a daemon that dies or fails where a test wants it to. See [`atoll_types::fault`] and docs/development.md.

use anyhow::{Context as _, Result};
use atoll_types::fault::{self, Action};
use rustix::process::{Signal, getpid, kill_process};
use tracing::{info, warn};

const VARIABLE: &str = "ATOLL_FAULTS";

/// Arms what the environment says; an empty list only logs the points that are passed.
pub fn arm() -> Result<()> {
    let Ok(text) = std::env::var(VARIABLE) else { return Ok(()) };
    let faults = text.parse().context(VARIABLE)?;
    warn!("{VARIABLE} is set: this daemon fails on purpose ({text}); never use it with sandboxes that matter");
    fault::arm(faults, |point, action| {
        match action {
            None => return info!("fault point {point}"),
            Some(action) => warn!("fault point {point}: {action}"),
        }
        if action == Some(Action::Kill) {
            // It cannot fail: we may always kill ourselves.
            let _ = kill_process(getpid(), Signal::KILL);
        }
    });
    Ok(())
}
