//! `atoll sandbox cp`. Files travel over `envd`'s `/files`. Directories go in as a tar archive through a command, and come out file by file:
//! what an archive from a stranger unpacks to is not for a stranger to say.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt as _, symlink},
    path::{Component, Path, PathBuf},
    process::Stdio,
    str::FromStr,
};

use anyhow::{Context, Result, bail, ensure};
use atoll_types::SandboxId;
use atoll_wire::{
    body::{self, Body, collect},
    connect::Code,
    filesystem::{EntryInfo, FileType, ListDirRequest, ListDirResponse, StatRequest, StatResponse},
    service,
};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::BodyExt as _;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::{
    exec::{self, Ends, Envd, Task},
    progress::{Counted, Progress},
    signals::Signals,
    table::visible,
};

const CHUNK: usize = 128 << 10;
const MESSAGE_LIMIT: usize = 64 << 10;

/// One end of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// `-`
    Pipe,
    Here(PathBuf),
    There(SandboxId, String),
}

impl FromStr for End {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            _ if text == "-" => Ok(Self::Pipe),
            _ if text.is_empty() => Err("a path is needed".into()),
            Some((id, path)) if !id.contains('/') && !id.starts_with('.') => {
                let id = SandboxId::from_client(id).map_err(|e| format!("{e}; a path here with a colon is written `./{text}`"))?;
                Ok(Self::There(id, path.into()))
            }
            _ => Ok(Self::Here(text.into())),
        }
    }
}

/// Copies out of or into one sandbox.
pub struct Copy<'a> {
    pub envd: &'a Envd,
    pub user: Option<&'a str>,
    pub quiet: bool,
}

impl Copy<'_> {
    /// From here to there.
    pub async fn upload(&self, from: &End, to: &str) -> Result<u8> {
        let End::Here(from) = from else {
            ensure!(!to.is_empty() && !to.ends_with('/'), "standard input has no name: say which file it is to become");
            return self.send(Box::new(io::stdin()), None, "standard input", to).await;
        };
        let found = fs::metadata(from).with_context(|| format!("reading {}", from.display()))?;
        let name = from.canonicalize()?.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let there = self.stat(to).await?;
        let into = to.is_empty() || to.ends_with('/') || there.is_some_and(|entry| is_dir(&entry));
        let target = if into { join(to, &name) } else { to.to_owned() };
        if !found.is_dir() {
            let file = File::open(from).with_context(|| format!("reading {}", from.display()))?;
            return self.send(Box::new(file), Some(found.len()), &name, &target).await;
        }
        let mut tar = tokio::process::Command::new("tar");
        tar.arg("-C").arg(from).args(["-cf", "-", "."]).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = tar.spawn().context("starting `tar` here")?;
        let progress = Progress::start(name, None, self.quiet);
        let input = child.stdout.take().context("`tar` has no output")?;
        let ends = Ends { input: Some(Box::new(Counted(input, &progress))), stdout: Box::new(io::sink()), stderr: Box::new(io::stderr()) };
        let code = self.tar(r#"mkdir -p -- "$1" && exec tar -xf - -C "$1""#, &target, ends).await?;
        ensure!(child.wait().await?.success(), "`tar` here failed");
        finish(progress, code)
    }

    /// From there to here.
    pub async fn download(&self, from: &str, to: &End) -> Result<u8> {
        let Some(entry) = self.stat(from).await? else { bail!("there is no `{from}` in the sandbox") };
        let End::Here(to) = to else {
            let progress = Progress::start(entry.name.clone(), size(&entry), self.quiet);
            if is_dir(&entry) {
                let ends = Ends { input: None, stdout: Box::new(Counted(io::stdout(), &progress)), stderr: Box::new(io::stderr()) };
                let code = self.tar(r#"exec tar -cf - -C "$1" ."#, from, ends).await?;
                return finish(progress, code);
            }
            self.receive(&entry, &mut io::stdout(), &progress).await?;
            return finish(progress, 0);
        };
        ensure!(to.is_dir() || !to.as_os_str().as_encoded_bytes().ends_with(b"/"), "there is no directory {}", to.display());
        let to = if to.is_dir() { &to.join(name(&entry)?) } else { to };
        let tree = if is_dir(&entry) {
            self.tree(&entry, to).await?
        } else {
            Tree { files: vec![(entry.clone(), to.clone())], ..Tree::default() }
        };
        let total = tree.files.iter().map(|(entry, _)| size(entry)).sum();
        let progress = Progress::start(entry.name.clone(), total, self.quiet);
        for dir in &tree.dirs {
            match fs::symlink_metadata(dir) {
                Ok(found) => ensure!(found.is_dir(), "{} is in the way: it is no directory", dir.display()),
                Err(_) => fs::create_dir(dir).with_context(|| format!("making {}", dir.display()))?,
            }
        }
        for (entry, path) in &tree.files {
            // The mode of an existing file stays; what a link leads to is not the sandbox's to write.
            if fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) {
                fs::remove_file(path)?;
            }
            let making = || format!("making {}", path.display());
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create(true).truncate(true).mode(entry.mode & 0o777).open(path).with_context(making)?;
            self.receive(entry, &mut file, &progress).await?;
        }
        for (target, path) in &tree.links {
            if fs::symlink_metadata(path).is_ok_and(|found| !found.is_dir()) {
                fs::remove_file(path)?;
            }
            symlink(target, path).with_context(|| format!("making {}", path.display()))?;
        }
        finish(progress, 0)
    }

    /// What is in a directory of the sandbox, and where it goes. Names come from a stranger, and links are made last: nothing leaves `to`.
    async fn tree(&self, from: &EntryInfo, to: &Path) -> Result<Tree> {
        let client = self.envd.client_of(self.user)?;
        let mut tree = Tree::default();
        let mut open = vec![(from.path.clone(), to.to_owned())];
        while let Some((there, here)) = open.pop() {
            let request = ListDirRequest { path: there, depth: 1 };
            let found = client.unary::<_, ListDirResponse>(service::filesystem::LIST_DIR, &request).await.map_err(exec::told)?;
            tree.dirs.push(here.clone());
            for entry in found.entries {
                let path = here.join(name(&entry)?);
                match (&entry.symlink_target, entry.r#type()) {
                    (Some(target), _) => match within(&from.path, &entry.path, target) {
                        Some(target) => tree.links.push((target, path)),
                        None => eprintln!("atoll: {} links to elsewhere and is left out", visible(&entry.path)),
                    },
                    (None, FileType::Directory) => open.push((entry.path, path)),
                    (None, FileType::File) => tree.files.push((entry, path)),
                    _ => eprintln!("atoll: {} is no file and is left out", visible(&entry.path)),
                }
            }
        }
        Ok(tree)
    }

    async fn tar(&self, script: &str, path: &str, ends: Ends<'_>) -> Result<u8> {
        let path = if path.is_empty() { "." } else { path };
        let command = ["/bin/sh", "-c", script, "sh", path].map(String::from).into();
        let user = self.user.map(str::to_owned);
        exec::run(self.envd, Task { user, command, ..Task::default() }, ends, &mut Signals::listen()?).await
    }

    async fn stat(&self, path: &str) -> Result<Option<EntryInfo>> {
        let request = StatRequest { path: path.to_owned() };
        match self.envd.client_of(self.user)?.unary::<_, StatResponse>(service::filesystem::STAT, &request).await {
            Ok(answer) => Ok(answer.entry),
            Err(error) if error.code == Code::NotFound => Ok(None),
            Err(error) => Err(exec::told(error)),
        }
    }

    async fn send(&self, mut from: Box<dyn Read + Send>, total: Option<u64>, name: &str, to: &str) -> Result<u8> {
        let progress = Progress::start(name.to_owned(), total, self.quiet);
        let (mut sender, content) = body::channel(2);
        // The reading blocks, so it has a thread of its own; it ends with its file, or when nobody takes what it read.
        let (counts, mut counted) = tokio::sync::mpsc::unbounded_channel();
        let reading = tokio::task::spawn_blocking(move || {
            let mut buffer = vec![0; CHUNK];
            loop {
                match from.read(&mut buffer) {
                    Ok(0) => return Ok(()),
                    Ok(count) if sender.blocking_send(Bytes::copy_from_slice(&buffer[..count])).is_ok() => drop(counts.send(count)),
                    Ok(_) => return Ok(()),
                    Err(error) => {
                        sender.blocking_fail(error.to_string().into());
                        return Err(error);
                    }
                }
            }
        });
        let mut request = self.request(Method::POST, to, content)?;
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        let mut sending = std::pin::pin!(self.envd.client().send_plain(request));
        let answer = loop {
            tokio::select! {
                answer = &mut sending => break answer,
                Some(count) = counted.recv() => progress.add(count),
            }
        };
        let answer = answer.map_err(anyhow::Error::from_boxed).with_context(|| format!("sending {name}"))?;
        succeeded(answer).await?;
        reading.await?.with_context(|| format!("reading {name}"))?;
        while let Ok(count) = counted.try_recv() {
            progress.add(count);
        }
        finish(progress, 0)
    }

    async fn receive(&self, entry: &EntryInfo, to: &mut impl Write, progress: &Progress) -> Result<()> {
        let request = self.request(Method::GET, &entry.path, body::empty())?;
        let answer = self.envd.client().send_plain(request).await.map_err(anyhow::Error::from_boxed)?;
        let mut content = succeeded(answer).await?;
        while let Some(frame) = content.frame().await {
            let frame = frame.map_err(anyhow::Error::from_boxed).with_context(|| format!("{} did not arrive whole", entry.name))?;
            if let Ok(chunk) = frame.into_data() {
                to.write_all(&chunk)?;
                progress.add(chunk.len());
            }
        }
        Ok(to.flush()?)
    }

    fn request(&self, method: Method, path: &str, content: Body) -> Result<Request<Body>> {
        let encode = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
        let user = self.user.map(|user| format!("&username={}", encode(user))).unwrap_or_default();
        Ok(Request::builder().method(method).uri(format!("/files?path={}{user}", encode(path))).body(content)?)
    }
}

#[derive(Default)]
struct Tree {
    /// Each after the one that holds it.
    dirs: Vec<PathBuf>,
    files: Vec<(EntryInfo, PathBuf)>,
    links: Vec<(PathBuf, PathBuf)>,
}

/// From a link to its target, both below `root`.
fn within(root: &str, link: &str, target: &str) -> Option<PathBuf> {
    let link = Path::new(link).strip_prefix(root).ok()?;
    let target = Path::new(target).strip_prefix(root).ok().filter(|path| path.components().all(|c| matches!(c, Component::Normal(_))))?;
    Some(std::iter::repeat_n("..", link.components().count().saturating_sub(1)).collect::<PathBuf>().join(target))
}

/// The name of an entry, which must be one.
fn name(entry: &EntryInfo) -> Result<&str> {
    let name = entry.name.as_str();
    ensure!(!matches!(name, "" | "." | "..") && !name.contains(['/', '\0']), "the sandbox names a file `{}`", visible(name));
    Ok(name)
}

fn size(entry: &EntryInfo) -> Option<u64> {
    u64::try_from(entry.size).ok()
}

fn is_dir(entry: &EntryInfo) -> bool {
    entry.r#type() == FileType::Directory
}

fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() || dir.ends_with('/') { format!("{dir}{name}") } else { format!("{dir}/{name}") }
}

fn finish(progress: Progress, code: u8) -> Result<u8> {
    if code == 0 {
        progress.end();
    }
    Ok(code)
}

async fn succeeded(answer: Response<Body>) -> Result<Body> {
    let (head, content) = answer.into_parts();
    if head.status.is_success() {
        return Ok(content);
    }
    let said = collect(content, MESSAGE_LIMIT).await.unwrap_or_default();
    let message = serde_json::from_slice::<serde_json::Value>(&said).ok();
    let message = message.as_ref().and_then(|error| error.get("message")?.as_str()).unwrap_or("the sandbox refused the file");
    bail!("{message} ({})", head.status.as_u16())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_apart() {
        let end = |text: &str| text.parse::<End>();
        let there = |path: &str| Ok(End::There("abc1".parse().unwrap(), path.into()));
        assert_eq!(end("abc1:"), there(""));
        assert_eq!(end("abc1:/a:b"), there("/a:b"));
        assert_eq!(end("./a:b"), Ok(End::Here("./a:b".into())));
        assert_eq!(end("/a:b"), Ok(End::Here("/a:b".into())));
        assert_eq!(end("-"), Ok(End::Pipe));
        assert!(end("").is_err());
        assert!(end("C:x").unwrap_err().contains("./C:x"));
    }

    #[test]
    fn a_sandbox_cannot_name_its_way_out() {
        let entry = |name: &str| EntryInfo { name: name.into(), ..EntryInfo::default() };
        for bad in ["", ".", "..", "../x", "/etc/passwd", "a/b", "a\0"] {
            assert!(name(&entry(bad)).is_err(), "{bad:?}");
        }
        assert_eq!(name(&entry("..a")).unwrap(), "..a");
        let within = |link, target| within("/r", link, target).map(|path| path.display().to_string());
        assert_eq!(within("/r/l", "/r/a/b").as_deref(), Some("a/b"));
        assert_eq!(within("/r/d/e/l", "/r/a").as_deref(), Some("../../a"));
        for target in ["/etc", "/r/../etc", "../x", "/rr/x"] {
            assert_eq!(within("/r/l", target), None, "{target}");
        }
    }

    #[test]
    fn names_are_joined() {
        assert_eq!([join("", "a"), join("/", "a"), join("/b", "a"), join("b/", "a")], ["a", "/a", "/b/a", "b/a"]);
    }
}
