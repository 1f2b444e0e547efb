//! The machine, how busy it is, and what fixed work costs on it: without that no figure can be compared with another day's.

use std::{
    fmt::Write as _,
    fs,
    hint::black_box,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// Whoever runs the benchmark, where and when.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub memory_mib: u64,
    pub kernel: String,
    /// The commit that was built, with `+` if the clone has changes.
    pub commit: String,
    pub profile: String,
    /// Averages over 1, 5 and 15 minutes, before and after.
    pub load_before: String,
    pub load_after: String,
    pub before: Calibration,
    pub after: Calibration,
}

/// What fixed work costs: the median of several rounds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Calibration {
    /// A fixed loop of dependent multiplications, in milliseconds.
    pub loop_ms: f64,
    /// `getppid`, in nanoseconds.
    pub syscall_ns: f64,
    /// Touching a page for the first time, in nanoseconds.
    pub page_fault_ns: f64,
    /// Starting a small static program and waiting for its end, in microseconds.
    pub spawn_us: f64,
    /// A byte there and back over TCP on the loopback, in microseconds.
    pub tcp_us: f64,
    /// Writing 256 MiB to where the data directories are, without waiting for the disk, in MB/s.
    pub write_mb_s: f64,
}

impl Machine {
    /// Looks around and calibrates. `ours` is this program.
    pub fn look(ours: &Path, profile: &str) -> Result<Self> {
        let field = |file: &str, name: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            text.lines().find_map(|line| Some(line.strip_prefix(name)?.split_once(':')?.1.trim().to_owned())).unwrap_or_default()
        };
        let git = |arguments: &[&str]| Command::new("git").args(arguments).output().map(|output| output.stdout).unwrap_or_default();
        let changed = if git(&["status", "--porcelain", "--untracked-files=no"]).is_empty() { "" } else { "+" };
        let commit = String::from_utf8_lossy(&git(&["rev-parse", "--short", "HEAD"])).trim().to_owned() + changed;
        let memory = field("/proc/meminfo", "MemTotal");
        let load_before = load();
        let before = Calibration::take(ours)?;
        Ok(Self {
            cpu: field("/proc/cpuinfo", "model name"),
            cores: thread::available_parallelism()?.get(),
            memory_mib: memory.trim_end_matches(" kB").parse::<u64>().unwrap_or_default() >> 10,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            commit,
            profile: profile.to_owned(),
            load_after: load_before.clone(),
            load_before,
            before,
            after: before,
        })
    }

    /// Looks again at what may have changed.
    pub fn look_again(&mut self, ours: &Path) -> Result<()> {
        self.load_after = load();
        self.after = Calibration::take(ours)?;
        Ok(())
    }

    /// In words, with ratios to another machine's calibration if there is one.
    pub fn describe(&self, against: Option<&Machine>) -> String {
        let Self { cpu, cores, memory_mib, kernel, commit, profile, load_before, load_after, before, after } = self;
        let mut text = format!(
            "{cpu}, {cores} cores, {memory_mib} MiB, Linux {kernel}; {profile} build of {commit}\nload {load_before} before, {load_after} after\n"
        );
        let _ = writeln!(text, "\n| calibration | before | after |{}", if against.is_some() { " the other run |" } else { "" });
        let _ = writeln!(text, "|---|---|---|{}", if against.is_some() { "---|" } else { "" });
        let others = against.map(|machine| machine.before.figures());
        for (n, ((what, before), (_, after))) in before.figures().into_iter().zip(after.figures()).enumerate() {
            let other = others.map_or(String::new(), |figures| format!(" {:.1} |", figures[n].1));
            let _ = writeln!(text, "| {what} | {before:.1} | {after:.1} |{other}");
        }
        text
    }
}

impl Calibration {
    fn take(ours: &Path) -> Result<Self> {
        Ok(Self {
            loop_ms: median(7, || Ok(fixed_loop()))? / 1e6,
            syscall_ns: median(7, || Ok(syscalls(100_000)))?,
            page_fault_ns: median(5, || Ok(page_faults(64 << 20)))?,
            spawn_us: median(100, || spawn(ours))? / 1e3,
            tcp_us: round_trips(2000)? / 1e3,
            write_mb_s: 256.0 * 1.048_576 / (median(3, || write(256))? / 1e9),
        })
    }

    fn figures(&self) -> [(&'static str, f64); 6] {
        let Self { loop_ms, syscall_ns, page_fault_ns, spawn_us, tcp_us, write_mb_s } = *self;
        [
            ("fixed loop, ms", loop_ms),
            ("system call, ns", syscall_ns),
            ("page fault, ns", page_fault_ns),
            ("spawn and wait, µs", spawn_us),
            ("loopback round trip, µs", tcp_us),
            ("writing a file, MB/s", write_mb_s),
        ]
    }
}

fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// The median of what `work` returns, in nanoseconds.
fn median(rounds: usize, mut work: impl FnMut() -> Result<f64>) -> Result<f64> {
    let mut all = (0..rounds).map(|_| work()).collect::<Result<Vec<_>>>()?;
    all.sort_by(f64::total_cmp);
    Ok(all[rounds / 2])
}

fn nanos(since: Instant) -> f64 {
    since.elapsed().as_nanos() as f64
}

fn fixed_loop() -> f64 {
    let (begun, mut value) = (Instant::now(), 1u64);
    for _ in 0..20_000_000 {
        value = black_box(value).wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    }
    black_box(value);
    nanos(begun)
}

fn syscalls(count: u32) -> f64 {
    let begun = Instant::now();
    for _ in 0..count {
        black_box(rustix::process::getppid());
    }
    nanos(begun) / f64::from(count)
}

fn page_faults(bytes: usize) -> f64 {
    const PAGE: usize = 4096;
    let mut memory = vec![0u8; bytes];
    let begun = Instant::now();
    for page in memory.chunks_mut(PAGE) {
        page[0] = black_box(1);
    }
    black_box(&memory);
    nanos(begun) / (bytes / PAGE) as f64
}

fn spawn(ours: &Path) -> Result<f64> {
    let begun = Instant::now();
    Command::new(ours).arg("nothing").stdin(Stdio::null()).stdout(Stdio::null()).status().context("starting ourselves")?;
    Ok(nanos(begun))
}

fn round_trips(count: usize) -> Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut near = TcpStream::connect(listener.local_addr()?)?;
    let (mut far, _) = listener.accept()?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let echo = thread::spawn(move || {
        let mut byte = [0];
        while far.read_exact(&mut byte).is_ok() && far.write_all(&byte).is_ok() {}
    });
    let mut byte = [0];
    let result = median(count, || {
        let begun = Instant::now();
        near.write_all(&byte)?;
        near.read_exact(&mut byte)?;
        Ok(nanos(begun))
    });
    drop(near);
    // It ends with the connection.
    let _ = echo.join();
    result
}

fn write(mebibytes: usize) -> Result<f64> {
    let file = std::env::temp_dir().join(format!("atoll-bench-{}-written", std::process::id()));
    let piece = vec![7u8; 1 << 20];
    let begun = Instant::now();
    let written = fs::File::create(&file).and_then(|mut file| (0..mebibytes).try_for_each(|_| file.write_all(&piece)));
    let time = nanos(begun);
    fs::remove_file(&file)?;
    written.context("writing a file")?;
    Ok(time)
}

/// Values of `/proc/meminfo` in KiB.
pub fn meminfo(names: &[&str]) -> Result<Vec<f64>> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let value = |name: &&str| {
        let line = text.lines().find_map(|line| line.strip_prefix(*name)?.strip_prefix(':'));
        line.and_then(|value| value.trim().trim_end_matches(" kB").parse().ok()).with_context(|| format!("no {name} in /proc/meminfo"))
    };
    names.iter().map(value).collect()
}

/// Waits until `MemAvailable` has not moved by more than `slack` KiB for three seconds, at most for `limit`.
pub async fn settle(slack: f64, limit: Duration) -> Result<()> {
    let deadline = Instant::now() + limit;
    let mut recent: Vec<f64> = Vec::new();
    while Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(500)).await;
        recent.push(meminfo(&["MemAvailable"])?[0]);
        let last = &recent[recent.len().saturating_sub(7)..];
        let (least, most) = last.iter().fold((f64::MAX, f64::MIN), |(least, most), &value| (least.min(value), most.max(value)));
        if last.len() == 7 && most - least <= slack {
            return Ok(());
        }
    }
    Ok(())
}
