//! What the daemon logs, and how: to standard error.

use std::io::{IsTerminal as _, stderr};

use anyhow::{Context as _, Result, ensure};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    fmt,
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::config::{Log, LogFormat};

/// Logs from now on.
pub fn start(log: &Log) -> Result<()> {
    let filter = filter(&log.level).with_context(|| format!("log.level `{}` is no filter such as `info,atoll_node=debug`", log.level))?;
    let registry = tracing_subscriber::registry().with(filter);
    match log.format {
        LogFormat::Json => registry.with(fmt::layer().json().with_writer(stderr)).try_init()?,
        LogFormat::Text => registry.with(fmt::layer().with_ansi(stderr().is_terminal()).with_writer(stderr)).try_init()?,
    }
    Ok(())
}

/// A bare word must be a level: `Targets` would take a misspelt one for a module.
fn filter(text: &str) -> Result<Targets> {
    for part in text.split(',').filter(|part| !part.contains('=')) {
        ensure!(part.parse::<LevelFilter>().is_ok(), "`{part}` is no level");
    }
    // What these say in detail includes headers, and with them tokens.
    Ok(format!("h2=info,hyper=info,hyper_util=info,{text}").parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_modules_are_taken_and_typing_errors_refused() {
        for good in ["info", "off", "info,atoll_node=debug", "atoll_control=trace"] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["noisy", "info,debgu", "atoll_node=noisy"] {
            assert!(filter(bad).is_err(), "{bad}");
        }
    }
}
