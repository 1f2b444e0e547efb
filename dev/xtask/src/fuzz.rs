//! `cargo xtask fuzz`: looks for inputs that break the targets of `tests/fuzz`.
//!
//! libFuzzer needs to see which code an input reaches; stable rustc can build that, when asked with the flags below. All of it has a
//! profile of its own, so other builds are untouched, and what is learnt (the corpus) stays in the target directory.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
    thread,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::Workspace;

const COVERAGE: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];
/// An input that takes longer is a finding.
const SECONDS_PER_INPUT: u32 = 10;
/// More memory than this is a finding.
const MEMORY_MIB: u32 = 1024;
/// Where the seeds are, by target.
const SEEDS: &str = "tests/fuzz/seeds";

/// Runs the named targets, or all, for so many seconds each, as many at once as there are processors.
pub fn run(workspace: &Workspace, arguments: &[&str]) -> Result<()> {
    let (mut names, mut seconds) = (Vec::new(), 60);
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match *argument {
            "--seconds" => seconds = arguments.next().and_then(|text| text.parse().ok()).context("--seconds wants a whole number")?,
            name => names.push(name.to_owned()),
        }
    }
    let known = targets(workspace)?;
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        bail!("there is no target `{unknown}`; there are: {}", known.join(" "));
    }
    let names = if names.is_empty() { known } else { names };
    let fuzzer = Fuzzer { program: build(workspace)?, output: workspace.output_dir("fuzz")?, seeds: workspace.path(SEEDS), seconds };
    let queue = Mutex::new(names.into_iter());
    let findings = Mutex::new(Vec::new());
    let next = || queue.lock().ok()?.next();
    let work = || {
        while let Some(name) = next() {
            match fuzzer.run(&name).with_context(|| format!("fuzzing {name}")) {
                Ok(None) => {}
                Ok(Some(finding)) => findings.lock().expect("no thread panics with it").push(finding),
                Err(error) => findings.lock().expect("no thread panics with it").push(format!("{error:#}")),
            }
        }
    };
    thread::scope(|scope| (0..thread::available_parallelism().map_or(1, usize::from)).for_each(|_| drop(scope.spawn(work))));
    let findings = findings.into_inner().expect("all threads have ended");
    ensure!(findings.is_empty(), "{}", findings.join("\n"));
    Ok(())
}

fn targets(workspace: &Workspace) -> Result<Vec<String>> {
    let seeds = workspace.path(SEEDS);
    let entries = fs::read_dir(&seeds).with_context(|| format!("reading {}", seeds.display()))?;
    let mut names: Vec<_> = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect::<Result<_>>()?;
    names.sort();
    Ok(names)
}

fn build(workspace: &Workspace) -> Result<PathBuf> {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
    let found = Command::new(&compiler).arg("--version").output().is_ok_and(|output| output.status.success());
    ensure!(found, "`{compiler}` does not run: libFuzzer needs a C++ compiler (Debian: apt-get install g++)");
    let build = ["build", "--quiet", "--profile=fuzz", "--package=atoll-fuzz", "--features=libfuzzer"];
    crate::run(workspace.cargo(&build).env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\x1f")))?;
    Ok(workspace.output_dir("fuzz")?.join("fuzz"))
}

struct Fuzzer {
    program: PathBuf,
    output: PathBuf,
    seeds: PathBuf,
    seconds: u32,
}

impl Fuzzer {
    /// Runs one target and says how it went. What comes back is a finding.
    fn run(&self, name: &str) -> Result<Option<String>> {
        let (corpus, found) = (self.output.join("corpus").join(name), self.output.join("findings").join(name));
        if found.exists() {
            fs::remove_dir_all(&found)?;
        }
        fs::create_dir_all(&corpus).and_then(|()| fs::create_dir_all(&found)).context("making directories")?;
        let seeds = self.seeds.join(name);
        let output = self
            .command(name)
            .arg(format!("-max_total_time={}", self.seconds))
            .arg(format!("-artifact_prefix={}/", found.display()))
            .args([&corpus, &seeds])
            .output()
            .context("starting the fuzzer")?;
        let log = String::from_utf8_lossy(&output.stderr);
        fs::write(self.output.join(format!("findings/{name}.log")), &*log)?;
        if output.status.success() {
            let numbers = Numbers::read(&log).with_context(|| format!("the fuzzer said nothing of what it did:\n{log}"))?;
            println!("fuzz: {name}: {numbers}");
            return Ok(None);
        }
        let input = fs::read_dir(&found)?.next().with_context(|| format!("it failed without a finding:\n{log}"))??.path();
        let kept = self.keep(name, &input)?;
        let said: Vec<_> = log.lines().skip_while(|line| !line.contains("panicked at") && !line.contains("ERROR:")).take(6).collect();
        println!("fuzz: {name}: FOUND {}\n{}", kept.display(), said.join("\n"));
        Ok(Some(format!(
            "{name} breaks on {}: `cargo test -p atoll-fuzz` shows it again; keep the file, it is the test of the repair",
            kept.display()
        )))
    }

    /// Makes the input that breaks a target as small as it gets in half a minute, and a seed.
    fn keep(&self, name: &str, input: &Path) -> Result<PathBuf> {
        let small = input.with_extension("small");
        // Its answer is whether it found a smaller one.
        let _ = self
            .command(name)
            .args(["-minimize_crash=1", "-max_total_time=30"])
            .arg(format!("-exact_artifact_path={}", small.display()))
            .arg(input)
            .output()
            .context("starting the fuzzer")?;
        let digest = input.file_name().and_then(|name| name.to_str()).and_then(|name| name.rsplit('-').next()).unwrap_or("input");
        let kept = self.seeds.join(name).join(format!("finding-{}", &digest[..digest.len().min(12)]));
        let bytes = fs::read(&small).or_else(|_| fs::read(input)).with_context(|| format!("reading {}", input.display()))?;
        fs::write(&kept, bytes).with_context(|| format!("writing {}", kept.display()))?;
        Ok(kept)
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.env("ATOLL_FUZZ_TARGET", name);
        command.args([format!("-timeout={SECONDS_PER_INPUT}"), format!("-rss_limit_mb={MEMORY_MIB}"), "-print_final_stats=1".into()]);
        command
    }
}

/// What a run amounted to, as libFuzzer says in its last lines.
#[derive(Debug, PartialEq)]
struct Numbers {
    executions: u64,
    per_second: u64,
    coverage: u64,
    corpus: u64,
}

impl Numbers {
    fn read(log: &str) -> Option<Self> {
        let after = |line: &str, label: &str| {
            let digits: String = line.split_once(label)?.1.trim_start().chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        };
        let last = log.lines().rev().find(|line| line.starts_with('#') && line.contains(" cov: "))?;
        let stat = |label: &str| log.lines().rev().find_map(|line| after(line, label));
        Some(Self {
            executions: stat("stat::number_of_executed_units:")?,
            per_second: stat("stat::average_exec_per_sec:")?,
            coverage: after(last, "cov:")?,
            corpus: after(last, "corp:")?,
        })
    }
}

impl std::fmt::Display for Numbers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { executions, per_second, coverage, corpus } = self;
        write!(f, "{executions} executions, {per_second} per second, {coverage} edges covered, {corpus} inputs in the corpus")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_run_are_read() {
        let log = "#2\tINITED cov: 8 ft: 8 corp: 1/1b exec/s: 0 rss: 27Mb\n#14485814\tDONE   cov: 11 ft: 12 corp: 4/13b lim: 4096 exec/s: 1316892 rss: 27Mb\nDone 14485814 runs in 11 second(s)\n###### Recommended dictionary. ######\nstat::number_of_executed_units: 14485814\nstat::average_exec_per_sec:     1316892\n";
        let expected = Numbers { executions: 14_485_814, per_second: 1_316_892, coverage: 11, corpus: 4 };
        assert_eq!(Numbers::read(log), Some(expected));
        assert_eq!(Numbers::read("nothing"), None);
    }
}
