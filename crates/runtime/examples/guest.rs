//! Both programs that a container needs, for the tests: without arguments it is `launch`; as `envd -isnotfc` it is a guest that answers
//! `/health`, ends when told to, and runs itself with the arguments that a request names; with other arguments it tries something
//! and prints what came of it.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::MetadataExt,
    process::{Command, ExitCode, Output},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_] => atoll_sys::launch::run(),
        ["envd", "-isnotfc"] => serve().expect("the guest serves"),
        [_, ref words @ ..] => {
            match attempt(words) {
                Ok(text) => println!("{text}"),
                Err(error) => println!("error: {error}"),
            }
            ExitCode::SUCCESS
        }
        [] => ExitCode::FAILURE,
    }
}

/// What a test may ask for.
fn attempt(words: &[&str]) -> io::Result<String> {
    match words {
        ["read", path] => fs::read_to_string(path),
        ["list", path] => Ok(fs::read_dir(path)?.flatten().map(|e| e.file_name().display().to_string()).collect::<Vec<_>>().join("\n")),
        ["write", path, text] => fs::write(path, text).map(|()| "written".to_owned()),
        ["remove", path] => {
            let remove = if fs::metadata(path)?.is_dir() { fs::remove_dir_all::<&str> } else { fs::remove_file };
            remove(path).map(|()| "removed".to_owned())
        }
        ["rename", from, to] => fs::rename(from, to).map(|()| "renamed".to_owned()),
        ["owner", path] => fs::metadata(path).map(|m| format!("{}:{}", m.uid(), m.gid())),
        ["own", path, uid] => std::os::unix::fs::chown(path, uid.parse().ok(), None).map(|()| "owned".to_owned()),
        ["mount"] => atoll_sys::mount::mount("tmpfs", "/tmp".as_ref(), atoll_sys::mount::Flags::empty(), "").map(|()| "mounted".to_owned()),
        ["namespaces"] => atoll_sys::namespace::create_pair(0).map(|_| "made".to_owned()),
        ["as", uid, program, rest @ ..] => {
            use std::os::unix::process::CommandExt;
            let uid = uid.parse().map_err(io::Error::other)?;
            Command::new(program).args(rest).uid(uid).gid(uid).output().map(|out| String::from_utf8_lossy(&out.stdout).into_owned())
        }
        ["children", count] => {
            let count = count.parse().map_err(io::Error::other)?;
            let started: Vec<_> = (0..count).map_while(|_| Command::new("/bin/guest").arg("wait").spawn().ok()).collect();
            let number = started.len();
            for mut child in started {
                child.kill()?;
                child.wait()?;
            }
            Ok(number.to_string())
        }
        ["wait"] => loop {
            std::thread::sleep(Duration::from_secs(3600));
        },
        ["fill", path] => fill(path),
        ["flood", directory] => flood(directory),
        ["eat", mebibytes] => eat(mebibytes.parse().map_err(io::Error::other)?),
        other => Err(io::Error::other(format!("unknown words {other:?}"))),
    }
}

/// Writes until there is no room; says how many MiB there was room for.
fn fill(path: &str) -> io::Result<String> {
    let mut file = fs::File::create(path)?;
    let (chunk, mut written) = (vec![1u8; 64 << 10], 0);
    loop {
        match file.write(&chunk) {
            Ok(length) => written += length,
            Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok((written >> 20).to_string()),
            Err(error) => return Err(error),
        }
    }
}

/// Makes files until no more can be made; says how many.
fn flood(directory: &str) -> io::Result<String> {
    fs::create_dir(directory)?;
    for number in 0u64.. {
        match fs::File::create_new(format!("{directory}/{number}")) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(number.to_string()),
            Err(error) => return Err(error),
        }
    }
    unreachable!("no file system has so many")
}

fn eat(mebibytes: usize) -> io::Result<String> {
    let full = vec![1u8; mebibytes << 20];
    Ok(format!("{}", full.iter().map(|&b| usize::from(b)).sum::<usize>()))
}

#[tokio::main(flavor = "current_thread")]
async fn serve() -> io::Result<ExitCode> {
    println!("guest is up");
    let mut asked_to_end = signal(SignalKind::terminate())?;
    let socket = atoll_sys::listeners::inherited().ok_or_else(|| io::Error::other("no socket to listen on"))?;
    socket.set_nonblocking(true)?;
    let listener = TcpListener::from_std(socket)?;
    loop {
        tokio::select! {
            _ = asked_to_end.recv() => return Ok(ExitCode::SUCCESS),
            accepted = listener.accept() => { tokio::spawn(async move { answer(accepted?.0).await }); }
        }
    }
}

async fn answer(stream: TcpStream) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let words: Vec<String> = serde_json::from_slice(&body).unwrap_or_default();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();

    let target = head.split(' ').nth(1).unwrap_or_default();
    let text = match (target, &words[..]) {
        ("/health", _) => return stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await,
        ("/exit", [code]) => std::process::exit(code.parse().unwrap_or(1)),
        ("/self", words) => attempt(words).unwrap_or_else(|error| format!("error: {error}")),
        (_, words) => {
            let Output { status, stdout, .. } = tokio::process::Command::new("/bin/guest").args(words).output().await?;
            if status.success() { String::from_utf8_lossy(&stdout).into_owned() } else { status.to_string() }
        }
    };
    let reply = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{text}", text.len());
    stream.write_all(reply.as_bytes()).await
}
