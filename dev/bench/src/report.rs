//! What was measured: rows of samples, their table, their file, and the comparison of two files.

use std::{fmt::Write as _, fs, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::machine::Machine;

/// What a sample counts, and which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    #[serde(rename = "µs")]
    Micros,
    #[serde(rename = "ms")]
    Millis,
    #[serde(rename = "/s")]
    PerSecond,
    #[serde(rename = "MB/s")]
    MegabytesPerSecond,
    #[serde(rename = "MiB")]
    Mebibytes,
    #[serde(rename = "KiB")]
    Kibibytes,
    /// How many times as much as something else, which is worse.
    #[serde(rename = "×")]
    Times,
    /// The part of something else's rate that is reached.
    #[serde(rename = "of it")]
    Share,
    /// Things that should not be.
    #[serde(rename = "lost")]
    Lost,
}

impl Unit {
    fn more_is_better(self) -> bool {
        matches!(self, Self::PerSecond | Self::MegabytesPerSecond | Self::Share)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Micros => "µs",
            Self::Millis => "ms",
            Self::PerSecond => "/s",
            Self::MegabytesPerSecond => "MB/s",
            Self::Mebibytes => "MiB",
            Self::Kibibytes => "KiB",
            Self::Times => "×",
            Self::Share => "of it",
            Self::Lost => "lost",
        }
    }
}

/// One figure.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    /// Stable, for comparisons.
    pub name: String,
    /// For a person.
    pub what: String,
    pub unit: Unit,
    /// In the order in which they were taken.
    pub samples: Vec<f64>,
    /// Attempts that gave no sample.
    #[serde(default)]
    pub failures: u64,
    /// Bounds for p50, or for p50, p95 and p99.
    #[serde(default)]
    pub target: Vec<f64>,
}

impl Row {
    pub fn new(name: impl Into<String>, what: impl Into<String>, unit: Unit) -> Self {
        Self { name: name.into(), what: what.into(), unit, samples: Vec::new(), failures: 0, target: Vec::new() }
    }

    /// With bounds for p50, or for p50, p95 and p99.
    pub fn target(mut self, bounds: &[f64]) -> Self {
        self.target = bounds.to_vec();
        self
    }

    pub fn samples(mut self, samples: impl IntoIterator<Item = f64>) -> Self {
        self.samples.extend(samples);
        self
    }

    /// Durations in the row's unit.
    pub fn times(self, times: impl IntoIterator<Item = Duration>) -> Self {
        let scale = if self.unit == Unit::Micros { 1e6 } else { 1e3 };
        self.samples(times.into_iter().map(|time| time.as_secs_f64() * scale))
    }

    pub fn failures(mut self, failures: u64) -> Self {
        self.failures = failures;
        self
    }

    /// The sample that this part of all is not worse than; none without samples.
    pub fn quantile(&self, part: f64) -> Option<f64> {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        if self.unit.more_is_better() {
            sorted.reverse();
        }
        let rank = (part * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied()
    }

    /// Whether the target is met; `None` without one.
    pub fn is_met(&self) -> Option<bool> {
        let mut bounds = self.target.iter().zip(QUANTILES).map(|(bound, part)| {
            self.quantile(part).is_some_and(|value| if self.unit.more_is_better() { value >= *bound } else { value <= *bound })
        });
        let met = self.failures == 0 && bounds.all(|met| met);
        (!self.target.is_empty()).then_some(met)
    }
}

const QUANTILES: [f64; 3] = [0.5, 0.95, 0.99];

/// One run of the benchmark.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// When it began.
    pub at: String,
    pub machine: Machine,
    pub rows: Vec<Row>,
    /// What was not measured, and why.
    pub skipped: Vec<String>,
}

impl Report {
    pub fn write(&self, file: &Path) -> Result<()> {
        let dir = file.parent().context("a file is in a directory")?;
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        fs::write(file, serde_json::to_vec(self)?).with_context(|| format!("writing {}", file.display()))
    }

    pub fn read(file: &Path) -> Result<Self> {
        let text = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is no report of this benchmark", file.display()))
    }

    /// As a table in Markdown, with a column of ratios to an earlier run if there is one.
    pub fn table(&self, against: Option<&Report>) -> String {
        let mut text = self.machine.describe(against.map(|report| &report.machine));
        let extra = if against.is_some() { (" before | now/before |", "---|---|") } else { ("", "") };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "\n| | p50 | p95 | p99 | | n | failed | target | |{}\n|---|---|---|---|---|---|---|---|---|{}",
            extra.0, extra.1
        );
        for row in &self.rows {
            let [p50, p95, p99] = QUANTILES.map(|part| match row.quantile(part) {
                Some(value) if part == 0.5 || row.samples.len() > 2 => figure(value),
                _ => String::new(),
            });
            let target: Vec<_> = row.target.iter().map(|bound| figure(*bound)).collect();
            let sign = if target.is_empty() {
                ""
            } else if row.unit.more_is_better() {
                "≥ "
            } else {
                "≤ "
            };
            let mark = row.is_met().map_or("", |met| if met { "✓" } else { "✗" });
            let failed = if row.failures == 0 { String::new() } else { row.failures.to_string() };
            let _ = write!(
                text,
                "| {} | {p50} | {p95} | {p99} | {} | {} | {failed} | {sign}{} | {mark} |",
                row.what,
                row.unit.name(),
                row.samples.len(),
                target.join(" / ")
            );
            if let Some(before) =
                against.map(|report| report.rows.iter().find(|before| before.name == row.name).and_then(|r| r.quantile(0.5)))
            {
                let ratio = before.zip(row.quantile(0.5)).map_or(String::new(), |(before, now)| format!("{:.2}", now / before));
                let _ = write!(text, " {} | {ratio} |", before.map_or(String::new(), figure));
            }
            text.push('\n');
        }
        for skipped in &self.skipped {
            let _ = writeln!(text, "\nSKIPPED {skipped}");
        }
        text
    }
}

/// Three digits that count.
fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_go_towards_the_worse() {
        let upwards = (1..=100).map(f64::from);
        let time = Row::new("t", "", Unit::Millis).samples(upwards.clone());
        assert_eq!(QUANTILES.map(|part| time.quantile(part)), [Some(50.0), Some(95.0), Some(99.0)]);
        let rate = Row::new("r", "", Unit::PerSecond).samples(upwards);
        assert_eq!(QUANTILES.map(|part| rate.quantile(part)), [Some(51.0), Some(6.0), Some(2.0)]);
        assert_eq!(Row::new("e", "", Unit::Millis).quantile(0.5), None);
    }

    #[test]
    fn a_target_is_met_by_every_quantile_without_a_failure() {
        let row = Row::new("t", "", Unit::Millis).samples((1..=100).map(f64::from));
        assert_eq!(row.is_met(), None);
        assert_eq!(row.clone().target(&[50.0, 95.0, 99.0]).is_met(), Some(true));
        assert_eq!(row.clone().target(&[50.0, 95.0, 98.0]).is_met(), Some(false));
        assert_eq!(row.clone().target(&[50.0]).failures(1).is_met(), Some(false));
        assert_eq!(Row::new("r", "", Unit::PerSecond).samples([9.0]).target(&[10.0]).is_met(), Some(false));
        assert_eq!(Row::new("e", "", Unit::Millis).target(&[10.0]).is_met(), Some(false), "nothing was measured");
    }
}
