//! Frames and packets, forged or not.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    os::fd::{AsRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use atoll_sys::raw::{Argument, call};
use rustix::net::{AddressFamily, RecvFlags, SocketType, socket, sockopt};

/// A hardware address.
pub type Mac = [u8; 6];

pub const BROADCAST: Mac = [0xff; 6];
pub const IPV4: u16 = 0x0800;
pub const ARP: u16 = 0x0806;
pub const IPV6: u16 = 0x86dd;

/// This sandbox's end of its link.
pub struct Link {
    pub name: String,
    index: u32,
    pub mac: Mac,
    /// The host's end.
    pub gateway_mac: Mac,
    pub address: Ipv4Addr,
}

impl Link {
    /// Looks at the link to the outside.
    pub fn find() -> io::Result<Self> {
        let name = "eth0".to_owned();
        let read = |file: &str| fs::read_to_string(format!("/sys/class/net/{name}/{file}"));
        let (index, mac) = (read("ifindex")?.trim().parse().map_err(io::Error::other)?, parse_mac(&read("address")?)?);
        let address = own_address()?;
        let gateway = Ipv4Addr::from_bits(address.to_bits() ^ 1);
        // Makes the kernel look for its neighbour.
        UdpSocket::bind(("0.0.0.0", 0))?.send_to(b"?", (gateway, 9))?;
        let start = Instant::now();
        let gateway_mac = loop {
            let table = fs::read_to_string("/proc/net/arp")?;
            let line = table.lines().find(|line| line.split_whitespace().next() == Some(&gateway.to_string()));
            match line.and_then(|line| line.split_whitespace().nth(3)).map(parse_mac) {
                Some(Ok(mac)) if mac != [0; 6] => break mac,
                _ if start.elapsed() > Duration::from_secs(2) => return Err(io::Error::other("the host's end does not answer")),
                _ => std::thread::yield_now(),
            }
        };
        Ok(Self { name, index, mac, gateway_mac, address })
    }

    /// Sends a frame as it is.
    pub fn send(&self, to: Mac, from: Mac, kind: u16, content: &[u8]) -> io::Result<()> {
        let socket = socket(AddressFamily::PACKET, SocketType::RAW, None)?;
        let frame = [&to[..], &from, &kind.to_be_bytes(), content].concat();
        let mut address = [0u8; 20];
        address[..2].copy_from_slice(&(libc::AF_PACKET as u16).to_ne_bytes());
        address[2..4].copy_from_slice(&kind.to_be_bytes());
        address[4..8].copy_from_slice(&self.index.to_ne_bytes());
        address[11] = 6;
        address[12..18].copy_from_slice(&to);
        let [frame_len, address_len] = [frame.len() as i64, address.len() as i64];
        let arguments = [
            Argument::Number(socket.as_raw_fd().into()),
            Argument::Bytes(&frame),
            Argument::Number(frame_len),
            Argument::Number(0),
            Argument::Bytes(&address),
            Argument::Number(address_len),
        ];
        call(libc::SYS_sendto, arguments).map(drop)
    }
}

/// A socket that hears every frame of this network namespace.
pub fn listener(patience: Duration) -> io::Result<OwnedFd> {
    let everything = std::num::NonZeroU32::new(u32::from((libc::ETH_P_ALL as u16).to_be())).map(rustix::net::Protocol::from_raw);
    let socket = socket(AddressFamily::PACKET, SocketType::RAW, everything)?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(patience))?;
    Ok(socket)
}

/// Calls `heed` for each frame until it has had enough or `patience` is over.
pub fn listen(socket: &OwnedFd, patience: Duration, mut heed: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
    let (deadline, mut frame) = (Instant::now() + patience, [0u8; 2048]);
    while Instant::now() < deadline {
        match rustix::net::recv(socket, &mut frame, RecvFlags::empty()) {
            Ok((length, _)) if heed(&frame[..length.min(frame.len())]) => return Ok(()),
            Ok(_) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// The address that packets to the outside have.
pub fn own_address() -> io::Result<Ipv4Addr> {
    let socket = UdpSocket::bind(("0.0.0.0", 0))?;
    socket.connect(("192.0.2.1", 9))?;
    match socket.local_addr()?.ip() {
        IpAddr::V4(address) if !address.is_unspecified() => Ok(address),
        _ => Err(io::ErrorKind::AddrNotAvailable.into()),
    }
}

/// A UDP datagram in an IPv4 packet.
pub fn udp(from: Ipv4Addr, to: Ipv4Addr, port: u16, content: &[u8]) -> Vec<u8> {
    let length = 28 + content.len() as u16;
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0x42, 0x42, 0, 0, 64, libc::IPPROTO_UDP as u8, 0, 0]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    let checksum = checksum(&packet);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend(port.to_be_bytes());
    packet.extend(port.to_be_bytes());
    packet.extend((8 + content.len() as u16).to_be_bytes());
    // No checksum: IPv4 allows that.
    packet.extend([0, 0]);
    packet.extend(content);
    packet
}

/// A UDP datagram in an IPv6 packet.
pub fn udp6(from: Ipv6Addr, to: Ipv6Addr, port: u16, content: &[u8]) -> Vec<u8> {
    let length = 8 + content.len() as u16;
    let mut body = [&port.to_be_bytes()[..], &port.to_be_bytes(), &length.to_be_bytes(), &[0, 0], content].concat();
    let pseudo = [&from.octets()[..], &to.octets(), &u32::from(length).to_be_bytes(), &[0, 0, 0, libc::IPPROTO_UDP as u8], &body].concat();
    let checksum = checksum(&pseudo);
    body[6..8].copy_from_slice(&checksum.to_be_bytes());
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([libc::IPPROTO_UDP as u8, 64]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(body);
    packet
}

/// "`address` is at `mac`", said to `to` unasked.
pub fn arp(mac: Mac, address: Ipv4Addr, to_mac: Mac, to: Ipv4Addr) -> Vec<u8> {
    [&[0, 1, 8, 0, 6, 4, 0, 2][..], &mac, &address.octets(), &to_mac, &to.octets()].concat()
}

fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn parse_mac(text: &str) -> io::Result<Mac> {
    let bytes: Result<Vec<u8>, _> = text.trim().split(':').map(|byte| u8::from_str_radix(byte, 16)).collect();
    bytes.ok().and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_has_a_header_that_sums_up() {
        let packet = udp([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 9, b"abc");
        assert_eq!(packet.len(), 31);
        assert_eq!(checksum(&packet[..20]), 0);
    }

    #[test]
    fn hardware_addresses_are_read() {
        assert_eq!(parse_mac("02:00:00:00:00:ff\n").unwrap(), [2, 0, 0, 0, 0, 255]);
        assert!(parse_mac("02:00").is_err());
    }
}
