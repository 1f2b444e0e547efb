//! Who listens on TCP, asked of the kernel's socket diagnostics; and a socket that listened before this program ran.
//!
//! Reading `/proc/net/tcp` instead walks every connection slot of the host, milliseconds each time and in every sandbox; this walks
//! only those that listen.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener},
    os::fd::{FromRawFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect,
    netlink::{SOCK_DIAG, SocketAddrNetlink},
    recv, send, socket_with, sockopt,
};

/// The kernel answers at once; this only bounds a wait that should not be.
const PATIENCE: Duration = Duration::from_secs(1);
/// Larger than any datagram the kernel sends in a dump of this.
const DATAGRAM: usize = 32 << 10;
/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// The bit of `TCP_LISTEN`.
const LISTEN: u32 = 1 << 10;
const HEADER: usize = 16;
const REQUEST: usize = HEADER + 56;

/// Where systemd's socket activation puts the first socket.
pub(crate) const INHERITED: i32 = 3;

/// The listening TCP socket that this process was started with by the rules of systemd's socket activation (`LISTEN_PID`, `LISTEN_FDS`),
/// if there is one. To be called once, at the start.
pub fn inherited() -> Option<TcpListener> {
    let told = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    if told("LISTEN_PID") != Some(std::process::id()) || told("LISTEN_FDS") != Some(1) {
        return None;
    }
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return None;
    }
    // SAFETY: whoever started us has left this descriptor to us, nobody before us has taken it, and nobody will after us.
    let socket = unsafe { OwnedFd::from_raw_fd(INHERITED) };
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC).ok()?;
    let listens = sockopt::socket_acceptconn(&socket).ok()?;
    listens.then(|| TcpListener::from(socket))
}

/// A way to ask.
#[derive(Debug)]
pub struct Listeners(OwnedFd);

impl Listeners {
    /// Asks in the calling thread's network namespace.
    pub fn open() -> io::Result<Self> {
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(SOCK_DIAG))?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
        // Address 0 is the kernel; a connected socket accepts messages from nobody else.
        connect(&socket, &SocketAddrNetlink::new(0, 0))?;
        Ok(Self(socket))
    }

    /// Where somebody listens now; IPv4 first. After an error, open another.
    pub fn list(&self) -> io::Result<Vec<SocketAddr>> {
        let mut found = Vec::new();
        let mut buffer = vec![0; DATAGRAM];
        for family in [AddressFamily::INET, AddressFamily::INET6] {
            send(&self.0, &request(family), SendFlags::empty())?;
            loop {
                let (_, length) = rustix::io::retry_on_intr(|| recv(&self.0, &mut buffer[..], RecvFlags::TRUNC))?;
                if read(buffer.get(..length).ok_or_else(malformed)?, &mut found)? {
                    break;
                }
            }
        }
        Ok(found)
    }
}

/// A dump of all listening sockets of a family.
fn request(family: AddressFamily) -> [u8; REQUEST] {
    let mut request = [0; REQUEST];
    request[0..4].copy_from_slice(&(REQUEST as u32).to_ne_bytes());
    request[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
    request[6..8].copy_from_slice(&((libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16).to_ne_bytes());
    request[HEADER] = family.as_raw() as u8;
    request[HEADER + 1] = libc::IPPROTO_TCP as u8;
    request[HEADER + 4..HEADER + 8].copy_from_slice(&LISTEN.to_ne_bytes());
    request
}

/// Reads one datagram of a dump; true when it was the last.
pub fn read(mut datagram: &[u8], found: &mut Vec<SocketAddr>) -> io::Result<bool> {
    while !datagram.is_empty() {
        let length = u32::from_ne_bytes(array(datagram, 0).ok_or_else(malformed)?) as usize;
        let kind = u16::from_ne_bytes(array(datagram, 4).ok_or_else(malformed)?);
        let body = datagram.get(HEADER..length).ok_or_else(malformed)?;
        match i32::from(kind) {
            libc::NLMSG_DONE => return Ok(true),
            libc::NLMSG_ERROR => {
                let error = i32::from_ne_bytes(array(body, 0).ok_or_else(malformed)?);
                return Err(io::Error::from_raw_os_error(error.saturating_neg()));
            }
            _ => found.extend(address(body)),
        }
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// The local address of an `inet_diag_msg`.
fn address(message: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(array(message, 4)?);
    let ip = match i32::from(*message.first()?) {
        libc::AF_INET => IpAddr::from(array::<4>(message, 8)?),
        libc::AF_INET6 => IpAddr::from(array::<16>(message, 8)?),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer about sockets is malformed")
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn listeners_are_listed_and_connections_are_not() {
        let v4 = TcpListener::bind("127.0.0.1:0").unwrap();
        let connected = TcpStream::connect(v4.local_addr().unwrap()).unwrap();
        let listeners = Listeners::open().unwrap();
        let found = listeners.list().unwrap();
        assert!(found.contains(&v4.local_addr().unwrap()));
        assert!(!found.contains(&connected.local_addr().unwrap()));
        if let Ok(v6) = TcpListener::bind("[::1]:0") {
            assert!(listeners.list().unwrap().contains(&v6.local_addr().unwrap()));
        }
        let gone = v4.local_addr().unwrap();
        drop((v4, connected));
        assert!(!listeners.list().unwrap().contains(&gone));
    }

    #[test]
    fn a_broken_answer_is_an_error() {
        for broken in [&[1, 2, 3][..], &[0; 16], &[255; 40], &[20, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]] {
            assert!(read(broken, &mut Vec::new()).is_err(), "{broken:?}");
        }
        let mut found = Vec::new();
        assert!(!read(&[20, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 10, 0, 0], &mut found).unwrap());
        assert!(found.is_empty());
    }
}
