//! A daemon of our own: its data directory, free ports, and nothing left when it is dropped.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::client::{Client, Place, Sandbox};

/// How long a daemon may take to end, with all its sandboxes.
const END: Duration = Duration::from_secs(120);

/// The daemon.
pub struct Daemon {
    programs: PathBuf,
    data: PathBuf,
    level: &'static str,
    child: Option<Child>,
    place: Place,
}

impl Daemon {
    /// Starts one. The first on a machine makes the base template, which takes a while. `level` is what it logs.
    pub fn start(programs: &Path, level: &'static str) -> Result<Self> {
        let data = std::env::temp_dir().join(format!("atoll-bench-{}-{:x}", std::process::id(), chrono::Utc::now().timestamp_micros()));
        fs::create_dir(&data).with_context(|| format!("making {}", data.display()))?;
        let random: String = fs::File::open("/dev/urandom").and_then(|mut file| {
            let mut bytes = [0; 20];
            file.read_exact(&mut bytes)?;
            Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
        })?;
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let place = Place { api: anywhere, proxy: anywhere, key: format!("e2b_{random}").into() };
        let mut daemon = Self { programs: programs.to_owned(), data, level, child: None, place };
        daemon.run()?;
        Ok(daemon)
    }

    /// Starts the process, which ends the sandboxes with itself when it is asked to end.
    fn run(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut command = Command::new(self.programs.join("atolld"));
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if (name.starts_with("ATOLL_") && name != "ATOLL_CACHE_DIR") || name.starts_with("E2B_") {
                command.env_remove(&*name);
            }
        }
        command
            .arg("all")
            .env("ATOLL_DATA_DIR", &self.data)
            .env("ATOLL_API_LISTEN", self.place.api.to_string())
            .env("ATOLL_PROXY_LISTEN", self.place.proxy.to_string())
            .env("ATOLL_API_KEY", &*self.place.key)
            .env("ATOLL_NODE_END_WITH_DAEMON", "true")
            .env("ATOLL_NODE_MAX_SANDBOXES", "2000")
            .env("ATOLL_API_SANDBOXES_PER_TEAM", "2000")
            .env("ATOLL_LOG", self.level)
            .env("ATOLL_LOG_FORMAT", "json")
            // Ctrl-C is for us: we end the daemon.
            .process_group(0)
            .stdout(Stdio::piped())
            .stderr(log);
        let mut child = command.spawn().with_context(|| format!("starting {}", self.programs.join("atolld").display()))?;
        let output = child.stdout.take().context("the daemon has no output")?;
        self.child = Some(child);
        let mut found = Vec::new();
        for line in BufReader::new(output).lines() {
            let line = line?;
            if line == "atoll ready" {
                break;
            }
            found.extend(line.strip_prefix("export ").and_then(|line| line.split_once('=')).map(|(n, v)| (n.to_owned(), v.to_owned())));
        }
        let address = |name: &str| -> Result<SocketAddr> {
            let (_, url) =
                found.iter().find(|(found, _)| found == name).with_context(|| format!("the daemon did not start:\n{}", self.tail()))?;
            let url = url.trim_matches(['\'', '"']).trim_start_matches("http://").replace("localhost", "127.0.0.1");
            url.parse().with_context(|| format!("{name} is no address: {url}"))
        };
        let (api, proxy) = (address("E2B_API_URL")?, address("E2B_SANDBOX_URL")?);
        self.place = Place { api, proxy, ..self.place.clone() };
        Ok(())
    }

    /// Where it answers.
    pub fn place(&self) -> Place {
        self.place.clone()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Processor time that it and those of its children that have ended have used, in milliseconds.
    pub fn processor_ms(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        // The name before it may contain anything; the times are the 14th to the 17th field.
        let times = stat.rsplit_once(") ").into_iter().flat_map(|(_, rest)| rest.split(' ').skip(11).take(4));
        let ticks: f64 = times.filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
        Ok(ticks * 1000.0 / rustix::param::clock_ticks_per_second() as f64)
    }

    /// Ends it the hard way and starts it again on the same ports.
    pub fn crash(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        self.run()
    }

    /// What it logged, as JSON.
    pub fn logged(&self) -> Result<Vec<Value>> {
        let text = fs::read_to_string(self.log())?;
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// Where the `envd` of a sandbox is: the first process and the address.
    pub fn envd(&self, sandbox: &Sandbox) -> Result<(u32, SocketAddr)> {
        let file = self.data.join("sandboxes").join(&sandbox.id).join("state.json");
        let state: Value = serde_json::from_slice(&fs::read(&file).with_context(|| format!("reading {}", file.display()))?)?;
        let machine = &state["machine"];
        let pid = machine["pid"].as_u64().context("the state file names no process")?;
        Ok((pid as u32, machine["guest"].as_str().context("the state file names no address")?.parse()?))
    }

    fn log(&self) -> PathBuf {
        self.data.with_extension("log")
    }

    fn tail(&self) -> String {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Ends it and its sandboxes and looks whether anything is left.
    fn end(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        if let Some(pid) = Pid::from_raw(child.id() as i32) {
            // One that has ended already is waited for all the same.
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + END;
        while child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                child.kill()?;
                child.wait()?;
                bail!("the daemon did not end within {} s", END.as_secs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let left = Command::new(self.programs.join("atolld")).arg("leaks").env("ATOLL_DATA_DIR", &self.data).output()?;
        ensure!(left.status.success(), "the daemon left this behind:\n{}", String::from_utf8_lossy(&left.stdout));
        fs::remove_dir_all(&self.data)?;
        Ok(fs::remove_file(self.log())?)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("bench: {error:#}\nbench: its data is still in {}", self.data.display());
        }
    }
}

/// Kills all, whatever becomes of each.
pub async fn kill_all(place: &Place, sandboxes: impl IntoIterator<Item = Sandbox>) -> Result<()> {
    let mut client = Client::connect(place).await?;
    for sandbox in sandboxes {
        client.kill(&sandbox).await?;
    }
    Ok(())
}
