//! Ways over the network that need no forged packets.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    thread,
    time::Duration,
};

use atoll_sys::{
    netlink::Netlink,
    raw::{Argument, call},
};

use super::World;
use crate::{
    neighbour,
    outcome::{Outcome, contains},
    packet::{self, Link},
    spec::Host,
};

/// A way that is open answers within milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// Where `envd` listens.
const AGENT: u16 = 49983;
const EARS: Duration = Duration::from_millis(500);

/// Services that tell a machine's secrets to whoever asks from it. Asked for nothing: reaching them is enough.
const METADATA: [&str; 7] = [
    "169.254.169.254:80",
    "169.254.170.2:80",
    "168.63.129.16:80",
    "100.100.100.200:80",
    "192.0.0.192:80",
    "169.254.169.254:53",
    "[fd00:ec2::254]:80",
];

/// Connects to all at once; what the first that is there says.
fn connect_any(targets: Vec<SocketAddr>, ask: fn(TcpStream) -> io::Result<Vec<u8>>, secret: Option<&str>) -> Outcome {
    let tried = targets.into_iter().map(|target| {
        let connecting = move || TcpStream::connect_timeout(&target, PATIENCE).and_then(ask);
        (target, thread::Builder::new().stack_size(64 << 10).spawn(connecting))
    });
    // All are started before the first is waited for.
    let tried: Vec<_> = tried.collect();
    Outcome::any(tried.into_iter().map(|(target, thread)| match thread.map(thread::JoinHandle::join) {
        Ok(Ok(result)) => match secret {
            Some(secret) => Outcome::reading(target, result, secret),
            None => Outcome::of(target, result),
        },
        Ok(Err(_)) => Outcome::Inconclusive(format!("{target}: the attempt broke")),
        Err(e) => Outcome::Inconclusive(format!("{target}: {e}")),
    }))
}

fn hear(mut stream: TcpStream) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    // Some say nothing unless they are asked.
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(e) if answer.is_empty() => Err(e),
        _ => Ok(answer),
    }
}

fn reach(_: TcpStream) -> io::Result<Vec<u8>> {
    Ok(Vec::new())
}

/// This sandbox's loopback answers at the same address.
fn is_own(address: &IpAddr) -> bool {
    address.is_loopback()
}

pub fn host_ports(world: &World, host: &Host) -> Outcome {
    connect_any(host.addresses.iter().map(|address| (*address, host.port).into()).collect(), hear, Some(&world.spec.secret))
}

pub fn host_datagrams(world: &World, host: &Host) -> Outcome {
    send_to(host.addresses.iter().map(|address| (*address, host.port).into()), &world.label)
}

/// Sends the label to all; whoever hears it tells.
fn send_to(targets: impl Iterator<Item = SocketAddr>, label: &str) -> Outcome {
    let sent = targets.filter(|target| {
        let local = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        UdpSocket::bind(local).and_then(|socket| socket.send_to(label.as_bytes(), target)).is_ok()
    });
    Outcome::Held(format!("sent to {} addresses, heard at none", sent.count()))
}

pub fn host_links(_: &World, host: &Host) -> Outcome {
    let seen: Vec<String> = match Netlink::open().and_then(|mut netlink| netlink.links()) {
        Ok(links) => links.into_iter().map(|link| link.name).collect(),
        Err(e) => return Outcome::Held(format!("netlink: {e}")),
    };
    let listed = fs::read_dir("/sys/class/net").into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    match seen.into_iter().chain(listed).find(|name| host.links.contains(name)) {
        Some(name) => Outcome::Breached(format!("interface {name} of the host")),
        None => Outcome::Held("only interfaces of its own".into()),
    }
}

pub fn daemon_ports(world: &World) -> Outcome {
    let ours = packet::own_address().map(|address| IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() ^ 1)));
    let listed = world.spec.host.iter().flat_map(|host| host.addresses.iter().copied());
    // The loopback of the daemon is not ours.
    let addresses: Vec<IpAddr> = listed.chain(ours).chain(world.spec.daemon.iter().map(SocketAddr::ip)).filter(|a| !is_own(a)).collect();
    let targets = world.spec.daemon.iter().flat_map(|daemon| addresses.iter().map(|address| SocketAddr::new(*address, daemon.port())));
    connect_any(targets.collect(), reach, None)
}

pub fn neighbour_port(world: &World, neighbour: Ipv4Addr) -> Outcome {
    connect_any(vec![(neighbour, neighbour::PORT).into()], hear, Some(&world.spec.secret))
}

pub fn neighbour_agent(_: &World, neighbour: Ipv4Addr) -> Outcome {
    connect_any(vec![(neighbour, AGENT).into()], reach, None)
}

pub fn neighbour_datagrams(world: &World, neighbour: Ipv4Addr) -> Outcome {
    send_to([(neighbour, 9).into()].into_iter(), &world.label)
}

pub fn metadata(_: &World) -> Outcome {
    connect_any(METADATA.iter().filter_map(|target| target.parse().ok()).collect(), reach, None)
}

/// Whether what the host says to the neighbour can be heard here.
pub fn listen_for_secret(world: &World, neighbour: Ipv4Addr) -> Outcome {
    let mut heard = false;
    let listened = packet::listener(Duration::from_millis(100)).and_then(|socket| {
        packet::listen(&socket, EARS, |frame| {
            // The destination, after a hardware header of 14 bytes: other attempts may have got at the secret in their way.
            heard |= frame.get(30..34) == Some(&neighbour.octets()) && contains(frame, &world.spec.secret);
            heard
        })
    });
    match (heard, listened) {
        (true, _) => Outcome::Breached("a datagram for the neighbour arrived here".into()),
        (false, Ok(())) => Outcome::Held("nothing for the neighbour arrives here".into()),
        (false, Err(e)) => Outcome::Held(format!("a packet socket: {e}")),
    }
}

pub fn sniff(world: &World, neighbour: Ipv4Addr) -> Outcome {
    listen_for_secret(world, neighbour)
}

pub fn own_address(_: &World) -> Outcome {
    // It exists in documentation only.
    let foreign = Ipv4Addr::new(198, 51, 100, 7);
    Outcome::of("taking another address", Netlink::open().and_then(|mut netlink| netlink.add_address("eth0", foreign, 32)))
}

pub fn own_routes(_: &World) -> Outcome {
    // A network that exists in documentation only.
    let nowhere = Ipv4Addr::new(203, 0, 113, 0);
    Outcome::of("adding a route", Netlink::open().and_then(|mut netlink| netlink.add_route("eth0", nowhere, 24, None)))
}

pub fn own_hardware_address(_: &World) -> Outcome {
    let set = Link::find().and_then(|link| {
        let socket = UdpSocket::bind(("0.0.0.0", 0))?;
        // A `struct ifreq` with the address that it has.
        let mut request = [0u8; 40];
        request[..link.name.len()].copy_from_slice(link.name.as_bytes());
        request[16..18].copy_from_slice(&libc::ARPHRD_ETHER.to_ne_bytes());
        request[18..24].copy_from_slice(&link.mac);
        let fd = Argument::Number(socket.as_raw_fd().into());
        call(libc::SYS_ioctl, [fd, Argument::Number(libc::SIOCSIFHWADDR as i64), Argument::Bytes(&request)])
    });
    Outcome::of("setting the hardware address", set)
}
