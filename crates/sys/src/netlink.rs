//! Links, addresses and routes, over one blocking rtnetlink socket.
//!
//! Written by hand rather than taken from the `rtnetlink` family: that is some fifteen crates and an async connection task for the
//! eight requests we make, each of which is a header, a fixed struct and a few attributes.
//!
//! A socket belongs to the network namespace in which it was opened, whichever thread uses it afterwards. Replies are read with
//! bounds checks throughout: a malformed one is an error.

use std::{
    io,
    net::Ipv4Addr,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::Duration,
};

use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, connect, netdevice::name_to_index, netlink::SocketAddrNetlink,
    recv, send, socket_with, sockopt,
};

/// The kernel answers at once; this only bounds a wait that should not be.
const PATIENCE: Duration = Duration::from_secs(10);
/// Larger than any datagram the kernel sends in a dump.
const DATAGRAM: usize = 64 * 1024;
const HEADER: usize = 16;
const VETH_INFO_PEER: u16 = 1;
/// `IF_OPER_UP`.
const OPERATES: u8 = 6;

/// A connection to the kernel's routing tables.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in the namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Set up, whether or not it has a carrier.
    pub up: bool,
    /// Packets pass. After both ends of a pair were set up, the kernel may take a moment over this.
    pub carries: bool,
}

/// An IPv4 subnet that an interface has an address in, or that a route leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    /// The interface's address, or the destination; 0.0.0.0 for a default route.
    pub address: Ipv4Addr,
    /// Length of the network part.
    pub prefix: u8,
    /// [`Link::index`]; 0 for a route that leads to no interface.
    pub link: u32,
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> io::Result<Self> {
        Self::speaking(None)
    }

    /// Opens a socket that speaks another protocol than rtnetlink.
    pub(crate) fn speaking(protocol: Option<Protocol>) -> io::Result<Self> {
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
        // Address 0 is the kernel; a connected socket accepts messages from nobody else.
        connect(&socket, &SocketAddrNetlink::new(0, 0))?;
        Ok(Self { socket, sequence: 0, buffer: vec![0; DATAGRAM] })
    }

    /// Creates a pair of linked interfaces: `name` here, `peer` in the network namespace `peer_net`.
    pub fn create_veth(&mut self, name: &str, peer: &str, peer_net: impl AsFd) -> io::Result<()> {
        let mut request = Request::link(libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL, 0, 0);
        request.string(libc::IFLA_IFNAME, name);
        request.nest(libc::IFLA_LINKINFO, |info| {
            info.string(libc::IFLA_INFO_KIND, "veth");
            info.nest(libc::IFLA_INFO_DATA, |data| {
                data.nest(VETH_INFO_PEER, |end| {
                    end.link_header(0, 0);
                    end.string(libc::IFLA_IFNAME, peer);
                    end.attribute(libc::IFLA_NET_NS_FD, &peer_net.as_fd().as_raw_fd().to_ne_bytes());
                });
            });
        });
        self.change(request)
    }

    /// Sets an interface up or down.
    pub fn set_up(&mut self, name: &str, up: bool) -> io::Result<()> {
        let mut request = Request::link(libc::RTM_NEWLINK, 0, if up { libc::IFF_UP } else { 0 }, libc::IFF_UP);
        request.string(libc::IFLA_IFNAME, name);
        self.change(request)
    }

    /// Gives an interface an address.
    pub fn add_address(&mut self, name: &str, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
        let index = name_to_index(&self.socket, name)?;
        let mut request = Request::new(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_EXCL);
        request.bytes(&[libc::AF_INET as u8, prefix, 0, libc::RT_SCOPE_UNIVERSE]);
        request.bytes(&index.to_ne_bytes());
        request.attribute(libc::IFA_LOCAL, &address.octets());
        request.attribute(libc::IFA_ADDRESS, &address.octets());
        self.change(request)
    }

    /// Adds a route to `destination`/`prefix` through an interface: by way of a gateway, or else to neighbours on the link itself.
    pub fn add_route(&mut self, name: &str, destination: Ipv4Addr, prefix: u8, gateway: Option<Ipv4Addr>) -> io::Result<()> {
        let index = name_to_index(&self.socket, name)?;
        let scope = if gateway.is_some() { libc::RT_SCOPE_UNIVERSE } else { libc::RT_SCOPE_LINK };
        let mut request = Request::new(libc::RTM_NEWROUTE, libc::NLM_F_CREATE | libc::NLM_F_EXCL);
        request.bytes(&[libc::AF_INET as u8, prefix, 0, 0, libc::RT_TABLE_MAIN, libc::RTPROT_STATIC, scope, libc::RTN_UNICAST]);
        request.bytes(&0u32.to_ne_bytes());
        if prefix > 0 {
            request.attribute(libc::RTA_DST, &destination.octets());
        }
        if let Some(gateway) = gateway {
            request.attribute(libc::RTA_GATEWAY, &gateway.octets());
        }
        request.attribute(libc::RTA_OIF, &index.to_ne_bytes());
        self.change(request)
    }

    /// Deletes an interface; false if there was none.
    pub fn delete_link(&mut self, name: &str) -> io::Result<bool> {
        let mut request = Request::link(libc::RTM_DELLINK, 0, 0, 0);
        request.string(libc::IFLA_IFNAME, name);
        match self.change(request) {
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => Ok(false),
            done => done.map(|()| true),
        }
    }

    /// One interface.
    pub fn link(&mut self, name: &str) -> io::Result<Link> {
        let mut request = Request::link(libc::RTM_GETLINK, 0, 0, 0);
        request.string(libc::IFLA_IFNAME, name);
        let replies = self.exchange(request, libc::NLM_F_ACK)?;
        replies.first().and_then(|body| Link::read(body)).ok_or_else(malformed)
    }

    /// All interfaces of the namespace.
    pub fn links(&mut self) -> io::Result<Vec<Link>> {
        let replies = self.dump(Request::link(libc::RTM_GETLINK, libc::NLM_F_DUMP, 0, 0))?;
        replies.iter().map(|body| Link::read(body).ok_or_else(malformed)).collect()
    }

    /// All IPv4 addresses of the namespace.
    pub fn addresses(&mut self) -> io::Result<Vec<Subnet>> {
        let mut request = Request::new(libc::RTM_GETADDR, libc::NLM_F_DUMP);
        request.bytes(&[libc::AF_INET as u8, 0, 0, 0, 0, 0, 0, 0]);
        let read = |body: &[u8]| {
            let attributes = body.get(8..)?;
            let address = attribute(attributes, libc::IFA_LOCAL).or_else(|| attribute(attributes, libc::IFA_ADDRESS))?;
            Some(Subnet { address: ipv4(address)?, prefix: *body.get(1)?, link: u32_at(body, 4)? })
        };
        self.dump(request)?.iter().map(|body| read(body).ok_or_else(malformed)).collect()
    }

    /// All IPv4 routes of the namespace, in every table.
    pub fn routes(&mut self) -> io::Result<Vec<Subnet>> {
        let mut request = Request::new(libc::RTM_GETROUTE, libc::NLM_F_DUMP);
        request.bytes(&[libc::AF_INET as u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let read = |body: &[u8]| {
            let attributes = body.get(12..)?;
            let address = attribute(attributes, libc::RTA_DST).map_or(Some(Ipv4Addr::UNSPECIFIED), ipv4)?;
            let link = attribute(attributes, libc::RTA_OIF).map_or(Some(0), |value| u32_at(value, 0))?;
            Some(Subnet { address, prefix: *body.get(1)?, link })
        };
        self.dump(request)?.iter().map(|body| read(body).ok_or_else(malformed)).collect()
    }

    /// Sends messages of which the kernel carries out all or none, between one that begins and one that ends them.
    pub(crate) fn transaction(&mut self, begin: Request, mut requests: Vec<Request>, end: Request) -> io::Result<()> {
        let Some(last) = requests.pop() else { return Ok(()) };
        let (others, sequence) = (self.sequence.wrapping_add(1), self.sequence.wrapping_add(2));
        self.sequence = sequence;
        let mut batch = begin.finish(0, others);
        requests.into_iter().for_each(|request| batch.extend(request.finish(0, others)));
        // Refusals are always told, in order; so the answer to the last one is all that needs asking for.
        batch.extend(last.finish(libc::NLM_F_ACK, sequence));
        batch.extend(end.finish(0, others));
        send(&self.socket, &batch, SendFlags::empty())?;
        loop {
            let (_, length) = rustix::io::retry_on_intr(|| recv(&self.socket, &mut self.buffer[..], RecvFlags::TRUNC))?;
            for message in messages(self.buffer.get(..length).ok_or_else(malformed)?) {
                let message = message?;
                let ours = [others, sequence].contains(&message.sequence) && i32::from(message.kind) == libc::NLMSG_ERROR;
                match u32_at(message.body, 0).ok_or_else(malformed)? as i32 {
                    _ if !ours => {}
                    0 if message.sequence == sequence => return Ok(()),
                    0 => {}
                    error => return Err(io::Error::from_raw_os_error(error.saturating_neg())),
                }
            }
        }
    }

    /// Sends a request that changes something and waits for its acknowledgement.
    fn change(&mut self, request: Request) -> io::Result<()> {
        self.exchange(request, libc::NLM_F_ACK).map(drop)
    }

    /// Sends a request for a list, again if the list changed while the kernel wrote it.
    fn dump(&mut self, request: Request) -> io::Result<Vec<Vec<u8>>> {
        for _ in 0..16 {
            match self.exchange(request.clone(), 0) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "the list kept changing while it was read"))
    }

    /// Sends a request and gathers the bodies of its replies, up to the message that ends them.
    fn exchange(&mut self, request: Request, flags: i32) -> io::Result<Vec<Vec<u8>>> {
        self.sequence = self.sequence.wrapping_add(1);
        send(&self.socket, &request.finish(flags, self.sequence), SendFlags::empty())?;
        let (mut bodies, mut interrupted) = (Vec::new(), false);
        loop {
            let (_, length) = rustix::io::retry_on_intr(|| recv(&self.socket, &mut self.buffer[..], RecvFlags::TRUNC))?;
            for message in messages(self.buffer.get(..length).ok_or_else(malformed)?) {
                let Message { kind, flags, sequence, body } = message?;
                if sequence != self.sequence {
                    continue;
                }
                interrupted |= flags & libc::NLM_F_DUMP_INTR as u16 != 0;
                match i32::from(kind) {
                    libc::NLMSG_ERROR | libc::NLMSG_DONE => {
                        let status = if body.is_empty() { 0 } else { u32_at(body, 0).ok_or_else(malformed)? as i32 };
                        return match status {
                            0 if interrupted => Err(io::ErrorKind::Interrupted.into()),
                            0 => Ok(bodies),
                            error => Err(io::Error::from_raw_os_error(error.saturating_neg())),
                        };
                    }
                    libc::NLMSG_NOOP => {}
                    _ => bodies.push(body.to_vec()),
                }
            }
        }
    }
}

impl Link {
    /// Reads the body of a message about a link.
    pub fn read(body: &[u8]) -> Option<Self> {
        let attributes = body.get(16..)?;
        let name = attribute(attributes, libc::IFLA_IFNAME)?;
        Some(Self {
            index: u32_at(body, 4)?,
            name: String::from_utf8_lossy(name.strip_suffix(b"\0").unwrap_or(name)).into_owned(),
            up: u32_at(body, 8)? & libc::IFF_UP as u32 != 0,
            carries: attribute(attributes, libc::IFLA_OPERSTATE) == Some(&[OPERATES]),
        })
    }
}

/// A request in the making: header, fixed part, attributes.
#[derive(Clone)]
pub(crate) struct Request(Vec<u8>);

impl Request {
    pub(crate) fn new(kind: u16, flags: i32) -> Self {
        let mut request = Self(vec![0; HEADER]);
        request.0[4..6].copy_from_slice(&kind.to_ne_bytes());
        request.0[6..8].copy_from_slice(&((flags | libc::NLM_F_REQUEST) as u16).to_ne_bytes());
        request
    }

    /// A request about links; `flags` are the interface flags to set among those in `mask`.
    fn link(kind: u16, how: i32, flags: i32, mask: i32) -> Self {
        let mut request = Self::new(kind, how);
        request.link_header(flags, mask);
        request
    }

    fn link_header(&mut self, flags: i32, mask: i32) {
        self.bytes(&[0; 8]);
        self.bytes(&flags.to_ne_bytes());
        self.bytes(&mask.to_ne_bytes());
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    pub(crate) fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.nest(kind, |inside| inside.0.extend_from_slice(value));
    }

    pub(crate) fn string(&mut self, kind: u16, value: &str) {
        self.attribute(kind, &[value.as_bytes(), b"\0"].concat());
    }

    /// An attribute whose value is what `fill` appends. Ours are far shorter than the 64 KiB its length can say; the kernel refuses
    /// one that is cut.
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.0.extend_from_slice(&[0, 0]);
        self.0.extend_from_slice(&kind.to_ne_bytes());
        fill(self);
        let length = (self.0.len() - start) as u16;
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes(&[]);
    }

    fn finish(mut self, flags: i32, sequence: u32) -> Vec<u8> {
        let length = self.0.len() as u32;
        let flags = u16::from_ne_bytes([self.0[6], self.0[7]]) | flags as u16;
        self.0[0..4].copy_from_slice(&length.to_ne_bytes());
        self.0[6..8].copy_from_slice(&flags.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.0
    }
}

/// One message of a datagram.
#[derive(Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// What it is about.
    pub kind: u16,
    /// `NLM_F_…`.
    pub flags: u16,
    /// That of the request it answers.
    pub sequence: u32,
    /// What comes after its header.
    pub body: &'a [u8],
}

/// The messages of a datagram; an error, once, where it is malformed.
pub fn messages(mut rest: &[u8]) -> impl Iterator<Item = io::Result<Message<'_>>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (message, after) = split(rest).map_or_else(|| (Err(malformed()), &[][..]), |(message, after)| (Ok(message), after));
        rest = after;
        Some(message)
    })
}

/// The first message of a datagram and what comes after it.
fn split(datagram: &[u8]) -> Option<(Message<'_>, &[u8])> {
    let length = u32_at(datagram, 0)? as usize;
    let body = datagram.get(HEADER..length)?;
    let message = Message { kind: u16_at(datagram, 4)?, flags: u16_at(datagram, 6)?, sequence: u32_at(datagram, 8)?, body };
    Some((message, datagram.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// The value of the first attribute of a kind.
pub fn attribute(mut rest: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16_at(rest, 0)?);
        let value = rest.get(4..length)?;
        if u16_at(rest, 2)? & !(libc::NLA_F_NESTED | libc::NLA_F_NET_BYTEORDER) as u16 == kind {
            return Some(value);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

fn ipv4(bytes: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from)
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "malformed netlink message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::{create_pair, in_network};

    const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 18, 77, 0);
    const INSIDE: Ipv4Addr = Ipv4Addr::new(198, 18, 77, 1);

    #[test]
    fn links_addresses_and_routes_are_made_listed_and_deleted() {
        if !rustix::process::geteuid().is_root() {
            return eprintln!("SKIPPED links_addresses_and_routes_are_made_listed_and_deleted: needs root");
        }
        let (near, far) = (create_pair(0x0ffe_0000).unwrap(), create_pair(0x0ffe_0000).unwrap());
        let mut near = in_network(&near.net, Netlink::open).unwrap().unwrap();
        let mut inside = in_network(&far.net, Netlink::open).unwrap().unwrap();

        near.create_veth("attest-0", "eth0", &far.net).unwrap();
        let twice = near.create_veth("attest-0", "eth0", &far.net).unwrap_err();
        assert_eq!(twice.kind(), io::ErrorKind::AlreadyExists);
        near.add_address("attest-0", OUTSIDE, 31).unwrap();
        near.set_up("attest-0", true).unwrap();
        inside.set_up("eth0", true).unwrap();
        inside.add_address("eth0", INSIDE, 31).unwrap();
        inside.add_route("eth0", Ipv4Addr::UNSPECIFIED, 0, Some(OUTSIDE)).unwrap();
        inside.add_route("eth0", Ipv4Addr::new(198, 18, 78, 9), 32, None).unwrap();

        let link = |links: Vec<Link>, name: &str| links.into_iter().find(|link| link.name == name).unwrap();
        assert!(link(near.links().unwrap(), "attest-0").up);
        let started = std::time::Instant::now();
        while !(near.link("attest-0").unwrap().carries && inside.link("eth0").unwrap().carries) {
            assert!(started.elapsed() < PATIENCE, "packets pass once both ends are up");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(near.link("attest-1").unwrap_err().raw_os_error(), Some(libc::ENODEV));
        assert!(!link(inside.links().unwrap(), "lo").up);
        let eth0 = link(inside.links().unwrap(), "eth0").index;
        assert_eq!(inside.addresses().unwrap(), [Subnet { address: INSIDE, prefix: 31, link: eth0 }]);
        let routes = inside.routes().unwrap();
        for (address, prefix) in [(Ipv4Addr::UNSPECIFIED, 0), (OUTSIDE, 31), (Ipv4Addr::new(198, 18, 78, 9), 32)] {
            assert!(routes.contains(&Subnet { address, prefix, link: eth0 }), "{routes:?}");
        }

        inside.set_up("eth0", false).unwrap();
        assert!(!link(inside.links().unwrap(), "eth0").up);
        assert!(near.delete_link("attest-0").unwrap());
        assert!(!near.delete_link("attest-0").unwrap());
        assert!(inside.links().unwrap().iter().all(|link| link.name != "eth0"), "the peer is gone with it");
        assert_eq!(near.add_address("attest-0", OUTSIDE, 31).unwrap_err().raw_os_error(), Some(libc::ENODEV));
        assert!(near.create_veth("a-name-that-is-too-long", "eth0", &far.net).is_err());
    }

    #[test]
    fn a_request_reads_back() {
        let mut request = Request::link(libc::RTM_NEWLINK, libc::NLM_F_CREATE, libc::IFF_UP, libc::IFF_UP);
        request.string(libc::IFLA_IFNAME, "at-1");
        request.nest(libc::IFLA_LINKINFO, |info| info.string(libc::IFLA_INFO_KIND, "veth"));
        let bytes = request.finish(libc::NLM_F_ACK, 7);
        let message = messages(&bytes).next().unwrap().unwrap();
        assert_eq!((message.kind, message.sequence), (libc::RTM_NEWLINK, 7));
        assert_eq!(message.flags, (libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE) as u16);
        assert_eq!(attribute(&message.body[16..], libc::IFLA_IFNAME), Some(&b"at-1\0"[..]));
        let info = attribute(&message.body[16..], libc::IFLA_LINKINFO).unwrap();
        assert_eq!(attribute(info, libc::IFLA_INFO_KIND), Some(&b"veth\0"[..]));
        assert_eq!(attribute(info, libc::IFLA_INFO_DATA), None);
    }

    #[test]
    fn a_broken_datagram_is_an_error_and_never_a_panic_or_a_loop() {
        let mut request = Request::link(libc::RTM_NEWLINK, 0, 0, 0);
        request.string(libc::IFLA_IFNAME, "at-1");
        let whole = request.finish(0, 1);
        for length in 1..whole.len() {
            let read: Vec<_> = messages(&whole[..length]).collect();
            assert!(matches!(&read[..], [Err(_)]), "{length}");
        }
        for position in 0..whole.len() {
            for byte in 0..=255 {
                let mut broken = whole.clone();
                broken[position] = byte;
                for message in messages(&broken).flatten() {
                    attribute(message.body.get(16..).unwrap_or_default(), libc::IFLA_IFNAME);
                }
            }
        }
    }
}
