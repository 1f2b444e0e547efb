//! The host's part of the harness, as a program that runs as long as this one does.

use std::{
    env,
    fs::{self, DirBuilder, OpenOptions},
    io::{BufRead as _, BufReader, Write},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

/// It, and the files it is made of; dropped, both are gone.
pub struct Host {
    /// What it laid out, as the attacker is told.
    pub canaries: Value,
    dir: PathBuf,
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// What it says in the end.
#[derive(Deserialize)]
pub struct Told {
    /// Labels of packets that arrived.
    pub heard: Vec<String>,
    /// What is not as it was.
    pub changed: Vec<String>,
}

impl Host {
    pub fn start(program: &[u8], spec: &Value) -> Result<Self> {
        let dir = env::temp_dir().join(format!("atoll-doctor-{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&dir).with_context(|| format!("making {}", dir.display()))?;
        Self::start_in(&dir, program, spec).inspect_err(|_| drop(fs::remove_dir_all(&dir)))
    }

    fn start_in(dir: &std::path::Path, program: &[u8], spec: &Value) -> Result<Self> {
        let (path, told) = (dir.join("attack"), dir.join("spec"));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o700).open(&path).context("laying out the harness")?;
        file.write_all(program).context("laying out the harness")?;
        drop(file);
        fs::write(&told, spec.to_string()).context("laying out the harness")?;
        let mut process = Command::new(&path)
            .arg("host")
            .arg(&told)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the host's part of the harness")?;
        let (input, output) = process.stdin.take().zip(process.stdout.take()).context("talking to the host's part of the harness")?;
        let mut host = Self { canaries: Value::Null, dir: dir.into(), process, input: Some(input), output: BufReader::new(output) };
        host.canaries = host.read()?;
        Ok(host)
    }

    /// Has it send the neighbour what only that may read.
    pub fn talk(&mut self, address: &str) -> Result<()> {
        self.say(&format!("talk {address}"))
    }

    /// Ends it.
    pub fn report(mut self) -> Result<Told> {
        self.say("report")?;
        self.read()
    }

    /// The file that nobody in a sandbox can read.
    pub fn file(&self) -> Result<&str> {
        self.canaries["file"].as_str().context("the host's part of the harness laid out no file")
    }

    fn say(&mut self, text: &str) -> Result<()> {
        self.input.as_mut().map_or(Ok(()), |input| writeln!(input, "{text}")).context("talking to the host's part of the harness")
    }

    fn read<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        self.output.read_line(&mut line).context("listening to the host's part of the harness")?;
        serde_json::from_str(&line).context("the host's part of the harness ended early")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // The end of its input is the end of it, after it has cleaned up.
        self.input = None;
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}
