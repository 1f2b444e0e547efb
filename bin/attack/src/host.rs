//! The host's part: canaries of every kind, and ears.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    io::{self, BufRead as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, UdpSocket},
    os::{
        linux::net::SocketAddrExt as _,
        unix::{fs::PermissionsExt as _, net::UnixListener},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result};
use atoll_sys::{
    netlink::Netlink,
    raw::{Argument, ROOM, call},
};
use rustix::net::{AddressFamily, SocketType, bind, socket, sockopt};
use serde::Serialize;

use crate::spec::{Disk, Handle, Host, Spec};

/// Settings of the host that nobody should change meanwhile.
const SETTINGS: [&str; 8] = [
    "kernel/core_pattern",
    "kernel/hostname",
    "kernel/domainname",
    "kernel/modprobe",
    "kernel/sysrq",
    "kernel/dmesg_restrict",
    "kernel/randomize_va_space",
    "net/ipv4/conf/all/rp_filter",
];
/// A step of the clock that is none of its own corrections.
const CLOCK_STEP: Duration = Duration::from_secs(2);
const CHATTER: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(2);

/// What the host has to say in the end.
#[derive(Serialize)]
struct Report {
    /// Labels of attempts whose packets arrived.
    heard: BTreeSet<String>,
    /// What is not as it was.
    changed: Vec<String>,
}

/// Lays out the canaries and answers on standard input: `talk ADDRESS` begins to send the neighbour what only it may read; `report`.
pub fn run(spec: Spec) -> Result<()> {
    let canaries = Canaries::lay_out(&spec)?;
    let before = State::now();
    println!("{}", serde_json::to_string(&canaries.host)?);
    let mut neighbour = None;
    for line in io::stdin().lock().lines() {
        match line?.split_once(' ').unwrap_or(("report", "")) {
            ("talk", address) => neighbour = Some(talk(address.parse()?, spec.secret.clone())?),
            _ => {
                let mut changed = before.difference(&State::now());
                changed.extend(neighbour.as_ref().filter(|(address, mac)| mac_of(*address).as_ref() != Some(mac)).map(|(address, mac)| {
                    format!("the host's neighbour table: {address} was {mac}, and is {}", mac_of(*address).unwrap_or_default())
                }));
                let heard = canaries.heard.lock().unwrap_or_else(PoisonError::into_inner).clone();
                println!("{}", serde_json::to_string(&Report { heard, changed })?);
            }
        }
    }
    Ok(())
}

/// Sends the secret to `address` from now on; returns where that is.
fn talk(address: Ipv4Addr, secret: String) -> Result<(Ipv4Addr, String)> {
    let socket = UdpSocket::bind(("0.0.0.0", 0)).context("making a socket")?;
    thread::spawn(move || {
        loop {
            // A full queue passes.
            let _ = socket.send_to(secret.as_bytes(), (address, 9));
            thread::sleep(CHATTER);
        }
    });
    let start = Instant::now();
    loop {
        if let Some(mac) = mac_of(address) {
            return Ok((address, mac));
        }
        anyhow::ensure!(start.elapsed() < PATIENCE, "the neighbour {address} does not answer");
        thread::yield_now();
    }
}

fn mac_of(address: Ipv4Addr) -> Option<String> {
    let table = fs::read_to_string("/proc/net/arp").ok()?;
    let fields: Vec<&str> =
        table.lines().map(str::split_whitespace).map(Iterator::collect::<Vec<_>>).find(|f| f[0] == address.to_string())?;
    (fields.get(3) != Some(&"00:00:00:00:00:00")).then(|| format!("{} on {}", fields[3], fields[5]))
}

/// The host's settings, its clock, and its devices.
struct State {
    settings: BTreeMap<String, String>,
    clock: (SystemTime, Instant),
}

impl State {
    fn now() -> Self {
        let mut settings = BTreeMap::new();
        for name in SETTINGS {
            let value = fs::read_to_string(Path::new("/proc/sys").join(name)).unwrap_or_default();
            settings.insert(name.to_owned(), value.trim().to_owned());
        }
        for device in ["null", "zero", "full", "random", "urandom", "tty"] {
            let seen =
                rustix::fs::stat(Path::new("/dev").join(device)).map(|s| format!("mode {:o}, owner {}:{}", s.st_mode, s.st_uid, s.st_gid));
            settings.insert(format!("/dev/{device}"), seen.unwrap_or_default());
        }
        Self { settings, clock: (SystemTime::now(), Instant::now()) }
    }

    fn difference(&self, later: &Self) -> Vec<String> {
        let changed = self.settings.iter().filter(|(name, value)| later.settings.get(*name) != Some(value));
        let mut changed: Vec<String> = changed.map(|(name, value)| format!("{name} was {value}")).collect();
        let passed = later.clock.1 - self.clock.1;
        let expected = self.clock.0 + passed;
        let step = later.clock.0.duration_since(expected).unwrap_or_else(|e| e.duration());
        if step > CLOCK_STEP {
            changed.push(format!("the clock stepped by {} s", step.as_secs()));
        }
        changed
    }
}

/// Everything that is laid out; dropped, it is gone.
struct Canaries {
    host: Host,
    heard: Arc<Mutex<BTreeSet<String>>>,
    dir: PathBuf,
    idle: Child,
    queue: Option<Vec<u8>>,
}

impl Canaries {
    fn lay_out(spec: &Spec) -> Result<Self> {
        let dir = env::temp_dir().join(format!("atoll-attack-{}", spec.nonce));
        fs::create_dir(&dir).and_then(|()| fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))).context("making a directory")?;
        let me = env::current_exe().context("finding this program")?;
        let idle = Command::new(me)
            .args(["idle", &spec.secret])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("starting a process")?;
        let file = dir.join("secret");
        let (socket, abstract_socket) = (dir.join("socket"), format!("atoll-attack-{}", spec.nonce));
        let mut host = Host {
            pid: idle.id() as i32,
            file: file.clone(),
            handle: None,
            disks: disks(),
            addresses: addresses()?,
            port: 0,
            socket: socket.clone(),
            abstract_socket: abstract_socket.clone(),
            segment: None,
            queue: None,
            key: key(&spec.secret),
            links: links(),
        };
        let heard = Arc::default();
        let mut canaries = Self { host: host.clone(), heard, dir, idle, queue: None };
        fs::write(&file, &spec.secret).context("writing a file")?;
        host.handle = handle(&file);
        host.segment = segment();
        (host.queue, canaries.queue) = queue(&spec.nonce, &spec.secret).unzip();
        host.port = canaries.listen(spec)?;
        answer_unix(UnixListener::bind(&socket).context("listening on a socket")?, &spec.secret);
        let name = std::os::unix::net::SocketAddr::from_abstract_name(&abstract_socket)?;
        answer_unix(UnixListener::bind_addr(&name).context("listening on an abstract socket")?, &spec.secret);
        canaries.host = host;
        Ok(canaries)
    }

    /// Listens at one port of every address, for streams and datagrams of both families.
    fn listen(&self, spec: &Spec) -> Result<u16> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).context("listening")?;
        let port = listener.local_addr()?.port();
        answer_tcp(listener, &spec.secret);
        let datagrams = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).context("listening for datagrams")?;
        for address in &self.host.addresses {
            if let IpAddr::V4(address) = address {
                // An interface that cannot do multicast hears none.
                let _ = datagrams.join_multicast_v4(&Ipv4Addr::new(224, 0, 0, 251), address);
            }
        }
        self.hear(datagrams, &spec.nonce);
        // A host may have no IPv6.
        if let Ok((listener, datagrams)) = bind_v6(port) {
            answer_tcp(listener, &spec.secret);
            self.hear(datagrams, &spec.nonce);
        }
        Ok(port)
    }

    fn hear(&self, socket: UdpSocket, nonce: &str) {
        let (heard, nonce) = (self.heard.clone(), nonce.to_owned());
        thread::spawn(move || {
            let mut packet = [0; 2048];
            while let Ok(length) = socket.recv(&mut packet) {
                if let Some(label) = label(&packet[..length], &nonce) {
                    heard.lock().unwrap_or_else(PoisonError::into_inner).insert(label);
                }
            }
        });
    }
}

impl Drop for Canaries {
    fn drop(&mut self) {
        // What is gone already need not go.
        let _ = self.idle.kill();
        let _ = self.idle.wait();
        let _ = fs::remove_dir_all(&self.dir);
        if let Some(name) = &self.queue {
            let _ = call(libc::SYS_mq_unlink, [Argument::Bytes(name)]);
        }
        if let Some(segment) = self.host.segment {
            let _ =
                call(libc::SYS_shmctl, [Argument::Number(segment.into()), Argument::Number(libc::IPC_RMID.into()), Argument::Number(0)]);
        }
    }
}

/// The label in a packet: `<nonce …>`.
pub fn label(packet: &[u8], nonce: &str) -> Option<String> {
    let start = format!("<{nonce} ");
    let at = packet.windows(start.len()).position(|window| window == start.as_bytes())?;
    let length = packet[at..].iter().position(|byte| *byte == b'>')?;
    Some(String::from_utf8_lossy(&packet[at..=at + length]).into_owned())
}

fn bind_v6(port: u16) -> io::Result<(TcpListener, UdpSocket)> {
    let address = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0);
    let make = |kind| -> io::Result<_> {
        let socket = socket(AddressFamily::INET6, kind, None)?;
        sockopt::set_ipv6_v6only(&socket, true)?;
        bind(&socket, &SocketAddr::V6(address))?;
        Ok(socket)
    };
    let stream = make(SocketType::STREAM)?;
    rustix::net::listen(&stream, 128)?;
    Ok((stream.into(), make(SocketType::DGRAM)?.into()))
}

fn answer_tcp(listener: TcpListener, secret: &str) {
    let secret = secret.to_owned();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // Whoever hangs up has had it or does not want it.
            let _ = stream.write_all(secret.as_bytes());
        }
    });
}

fn answer_unix(listener: UnixListener, secret: &str) {
    let secret = secret.to_owned();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // See `answer_tcp`.
            let _ = stream.write_all(secret.as_bytes());
        }
    });
}

fn addresses() -> Result<Vec<IpAddr>> {
    let found = Netlink::open().and_then(|mut netlink| netlink.addresses()).context("looking for addresses")?;
    let v4 = found.iter().map(|subnet| IpAddr::V4(subnet.address));
    let table = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let v6 = table.lines().filter_map(|line| u128::from_str_radix(line.get(..32)?, 16).ok()).map(|bits| IpAddr::V6(bits.into()));
    Ok(v4.chain(v6).collect())
}

fn links() -> Vec<String> {
    let entries = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| name != "lo" && name != "eth0").collect()
}

fn disks() -> Vec<Disk> {
    let entries = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let disk = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let size = fs::read_to_string(entry.path().join("size")).ok()?;
        let numbers = fs::read_to_string(entry.path().join("dev")).ok()?;
        let (major, minor) = numbers.trim().split_once(':')?;
        let device = rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?);
        let handle = handle(&Path::new("/dev").join(&name));
        (size.trim() != "0").then_some(Disk { name, device, handle })
    };
    entries.filter_map(disk).collect()
}

fn handle(path: &Path) -> Option<Handle> {
    let path = c_string(path.to_str()?);
    let (mut handle, mut mount) = ([0; ROOM], [0; ROOM]);
    handle[..4].copy_from_slice(&128u32.to_ne_bytes());
    let here = Argument::Number(libc::AT_FDCWD.into());
    let arguments = [here, Argument::Bytes(&path), Argument::Room(&mut handle), Argument::Room(&mut mount), Argument::Number(0)];
    call(libc::SYS_name_to_handle_at, arguments).ok()?;
    let length = u32::from_ne_bytes(handle[..4].try_into().ok()?) as usize;
    Some(Handle(handle[..8 + length].to_vec()))
}

/// A key in a keyring of this process, which ends with it, but which everybody may read.
fn key(secret: &str) -> Option<i64> {
    const PROCESS_KEYRING: i64 = -2;
    const SETPERM: i64 = 5;
    const ALL: i64 = 0x3f3f_3f3f;
    let arguments = [
        Argument::Bytes(b"user\0"),
        Argument::Bytes(b"atoll-attack\0"),
        Argument::Bytes(secret.as_bytes()),
        Argument::Number(secret.len() as i64),
        Argument::Number(PROCESS_KEYRING),
    ];
    let key = call(libc::SYS_add_key, arguments).ok()?;
    call(libc::SYS_keyctl, [SETPERM, key, ALL].map(Argument::Number)).ok()?;
    Some(key)
}

fn segment() -> Option<i32> {
    let arguments = [libc::IPC_PRIVATE.into(), ROOM as i64, i64::from(libc::IPC_CREAT | 0o666)].map(Argument::Number);
    call(libc::SYS_shmget, arguments).ok()?.try_into().ok()
}

/// A queue with the secret in it: its name, and that as the kernel takes it.
fn queue(nonce: &str, secret: &str) -> Option<(String, Vec<u8>)> {
    let name = format!("atoll-attack-{nonce}");
    let text = c_string(&name);
    let flags = i64::from(libc::O_CREAT | libc::O_EXCL | libc::O_RDWR | libc::O_CLOEXEC);
    let open = [Argument::Bytes(&text), Argument::Number(flags), Argument::Number(0o666), Argument::Number(0)];
    let queue = call(libc::SYS_mq_open, open).ok()?;
    let length = secret.len() as i64;
    let send =
        [Argument::Number(queue), Argument::Bytes(secret.as_bytes()), Argument::Number(length), Argument::Number(0), Argument::Number(0)];
    call(libc::SYS_mq_timedsend, send).ok()?;
    // The file creation mask was applied to the mode.
    let _ = rustix::fs::chmod(format!("/dev/mqueue/{name}"), 0o666.into());
    Some((name, text))
}

pub fn c_string(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_found_in_packets() {
        assert_eq!(label(b"..<ab spoof 0>..", "ab").as_deref(), Some("<ab spoof 0>"));
        assert_eq!(label(b"..<ab spoof 0", "ab"), None);
        assert_eq!(label(b"<cd spoof 0>", "ab"), None);
    }
}
