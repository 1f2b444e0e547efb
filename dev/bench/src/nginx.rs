//! nginx as a reverse proxy to one address, as a yardstick.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How long it may take to start.
const START: Duration = Duration::from_secs(10);

/// A running nginx; it ends when this is dropped.
pub struct Nginx {
    child: Child,
    dir: PathBuf,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Nginx {
    /// Starts it in front of `upstream`, with a worker for each processor and connections kept open on both sides.
    pub fn start(upstream: SocketAddr) -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("atoll-bench-nginx-{}", std::process::id()));
        fs::create_dir_all(&dir)?;
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let here = dir.display();
        let configuration = format!(
            "daemon off; user root; worker_processes auto; pid {here}/pid; error_log {here}/error.log;\n\
             events {{ worker_connections 4096; }}\n\
             http {{\n\
             access_log off; keepalive_requests 1000000000; keepalive_timeout 600;\n\
             client_body_temp_path {here}/body; proxy_temp_path {here}/proxy; fastcgi_temp_path {here}/f; uwsgi_temp_path {here}/u; scgi_temp_path {here}/s;\n\
             upstream sandbox {{ server {upstream}; keepalive 64; keepalive_requests 1000000000; }}\n\
             server {{ listen {address}; location / {{\n\
             proxy_pass http://sandbox; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host;\n\
             }} }} }}\n"
        );
        let file = dir.join("nginx.conf");
        fs::write(&file, configuration)?;
        let mut command = Command::new("nginx");
        command.arg("-p").arg(&dir).arg("-e").arg(dir.join("error.log")).arg("-c").arg(&file);
        let child = command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).spawn().context("starting nginx")?;
        let mut nginx = Self { child, dir, address };
        let deadline = Instant::now() + START;
        while TcpStream::connect(address).is_err() {
            if nginx.child.try_wait()?.is_some() || Instant::now() > deadline {
                bail!("nginx did not start: {}", fs::read_to_string(nginx.dir.join("error.log")).unwrap_or_default().trim());
            }
            sleep(Duration::from_millis(10));
        }
        Ok(nginx)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            // It has ended, or it ends with its workers.
            let _ = kill_process(pid, Signal::TERM);
        }
        let ended = self.child.wait().and_then(|_| fs::remove_dir_all(&self.dir));
        if let Err(error) = ended {
            eprintln!("bench: ending nginx: {error}");
        }
    }
}
