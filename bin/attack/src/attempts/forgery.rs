//! Packets that lie. What arrives is told by whoever hears it; what is sent proves nothing.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

use rustix::net::{AddressFamily, SendFlags, SocketType, sendto, socket};

use super::{World, network::listen_for_secret};
use crate::{
    outcome::Outcome,
    packet::{self, BROADCAST, IPV4, IPV6, Link, Mac},
    spec::Host,
};

/// The hardware address that the neighbour does not have either.
const FORGED: Mac = [0x02, 0x42, 0x42, 0x42, 0x42, 0x42];
/// Where the neighbour has no listener, but hears.
const DISCARD: u16 = 9;

fn told(what: &str, sent: io::Result<()>) -> Outcome {
    match sent {
        Ok(()) => Outcome::Held(format!("{what}: sent, nobody heard it")),
        Err(e) => Outcome::Held(format!("{what}: {e}")),
    }
}

/// The host's loopback, by a frame that no routing table had a say in.
pub fn loopback(world: &World, host: &Host) -> Outcome {
    let sent = Link::find().and_then(|link| {
        for source in [link.address, Ipv4Addr::LOCALHOST] {
            let packet = packet::udp(source, Ipv4Addr::LOCALHOST, host.port, world.label.as_bytes());
            link.send(link.gateway_mac, link.mac, IPV4, &packet)?;
        }
        Ok(())
    });
    told("to 127.0.0.1 of the host", sent)
}

pub fn source(world: &World, neighbour: Ipv4Addr) -> Outcome {
    let send = |from: Ipv4Addr, to: Ipv4Addr, port: u16| {
        let raw = socket(AddressFamily::INET, SocketType::RAW, Some(rustix::net::ipproto::RAW))?;
        let packet = packet::udp(from, to, port, world.label.as_bytes());
        sendto(&raw, &packet, SendFlags::empty(), &SocketAddr::new(to.into(), 0)).map(drop)?;
        Ok(())
    };
    let host_port = world.spec.host.as_ref().map_or(DISCARD, |host| host.port);
    let gateway = |address: Ipv4Addr| Ipv4Addr::from_bits(address.to_bits() ^ 1);
    let sent = packet::own_address().and_then(|own| {
        send(neighbour, gateway(own), host_port)?;
        send(gateway(neighbour), neighbour, DISCARD)?;
        send(gateway(own), neighbour, DISCARD)?;
        send(Ipv4Addr::new(203, 0, 113, 7), neighbour, DISCARD)
    });
    told("in another's name", sent)
}

pub fn hardware_address(world: &World, neighbour: Ipv4Addr) -> Outcome {
    let sent = Link::find().and_then(|link| {
        for (to, source) in [(link.gateway_mac, link.address), (link.gateway_mac, neighbour), (BROADCAST, link.address)] {
            link.send(to, FORGED, IPV4, &packet::udp(source, neighbour, DISCARD, world.label.as_bytes()))?;
        }
        Ok(())
    });
    told("from another's hardware address", sent)
}

/// Tells the host that the neighbour is here, then listens for what is meant for it. The host compares its table as well.
pub fn arp(world: &World, neighbour: Ipv4Addr) -> Outcome {
    let poisoned = Link::find().and_then(|link| {
        let gateway = Ipv4Addr::from_bits(link.address.to_bits() ^ 1);
        for _ in 0..5 {
            link.send(link.gateway_mac, link.mac, packet::ARP, &packet::arp(link.mac, neighbour, link.gateway_mac, gateway))?;
            link.send(BROADCAST, link.mac, packet::ARP, &packet::arp(link.mac, neighbour, BROADCAST, neighbour))?;
        }
        Ok(())
    });
    match poisoned {
        Ok(()) => listen_for_secret(world, neighbour),
        Err(e) => told("claiming the neighbour's address", Err(e)),
    }
}

pub fn ipv6(world: &World, host: &Host) -> Outcome {
    let sent = Link::find().and_then(|link| {
        let [.., a, b, c] = link.gateway_mac;
        let [x, y, z, ..] = link.gateway_mac;
        let word = |high: u8, low: u8| u16::from_be_bytes([high, low]);
        let host_local = Ipv6Addr::new(0xfe80, 0, 0, 0, word(x ^ 2, y), word(z, 0xff), word(0xfe, a), word(b, c));
        let own = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x42);
        let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        for (to, mac) in [(host_local, link.gateway_mac), (all_nodes, [0x33, 0x33, 0, 0, 0, 1]), (Ipv6Addr::LOCALHOST, link.gateway_mac)] {
            link.send(mac, link.mac, IPV6, &packet::udp6(own, to, host.port, world.label.as_bytes()))?;
        }
        Ok(())
    });
    told("over IPv6", sent)
}

pub fn broadcast(world: &World, host: &Host) -> Outcome {
    let sent = || -> io::Result<()> {
        let socket = UdpSocket::bind(("0.0.0.0", 0))?;
        socket.set_broadcast(true)?;
        for to in [Ipv4Addr::BROADCAST, Ipv4Addr::new(224, 0, 0, 251), Ipv4Addr::new(224, 0, 0, 1)] {
            // One may be refused, and the other not.
            let _ = socket.send_to(world.label.as_bytes(), (to, host.port));
        }
        let link = Link::find()?;
        link.send(BROADCAST, link.mac, IPV4, &packet::udp(link.address, Ipv4Addr::BROADCAST, host.port, world.label.as_bytes()))
    };
    told("to everybody", sent())
}
