//! Makes servers that listen on the sandbox's loopback only reachable from outside: a relay for each, on the same port of the
//! sandbox's own address. A relay lives as long as its server listens; connections through it end with either side.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use atoll_sys::listeners::Listeners;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::AbortHandle,
    time::{MissedTickBehavior, interval, sleep},
};

use crate::log;

const SCAN: Duration = Duration::from_secs(1);

/// Forwards for ever. `own_port` is the daemon's and never forwarded; without `address` the first one of an interface is taken as soon
/// as there is one.
pub async fn run(own_port: u16, address: Option<Ipv4Addr>) {
    let mut relays: HashMap<SocketAddr, AbortHandle> = HashMap::new();
    let (mut address, mut sockets) = (address, None);
    let mut ticks = interval(SCAN);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if address.is_none() {
            address = atoll_sys::machine::interface_address().unwrap_or_default();
        }
        let Some(address) = address else { continue };
        if sockets.is_none() {
            sockets = Listeners::open().ok();
        }
        let Some(found) = sockets.as_ref().map(Listeners::list) else { continue };
        let listeners: Vec<SocketAddr> = match found {
            Ok(found) => found.into_iter().filter_map(loopback).collect(),
            Err(error) => {
                log::warn("port-forwarder", "cannot list who listens", &[("error", &error)]);
                sockets = None;
                continue;
            }
        };
        relays.retain(|target, relay| {
            let stays = listeners.contains(target);
            if !stays {
                relay.abort();
                log::info("port-forwarder", "stopped forwarding", &[("port", &target.port())]);
            }
            stays
        });
        for target in listeners {
            let taken = target.port() == own_port || relays.keys().any(|known| known.port() == target.port());
            // Whoever listens there already is reachable without us.
            if !taken && let Ok(listener) = TcpListener::bind((address, target.port())).await {
                log::info("port-forwarder", "forwarding", &[("port", &target.port())]);
                relays.insert(target, tokio::spawn(relay(listener, target)).abort_handle());
            }
        }
    }
}

async fn relay(listener: TcpListener, target: SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((outside, _)) => drop(tokio::spawn(connect(outside, target))),
            // Out of descriptors, most likely: others will be closed.
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Both sides see a broken connection as such; there is nobody else to tell.
async fn connect(mut outside: TcpStream, target: SocketAddr) -> io::Result<()> {
    let mut inside = TcpStream::connect(target).await?;
    outside.set_nodelay(true)?;
    inside.set_nodelay(true)?;
    copy_bidirectional(&mut outside, &mut inside).await?;
    Ok(())
}

/// Where a socket that listens there is reached from within, if from nowhere else.
fn loopback(listener: SocketAddr) -> Option<SocketAddr> {
    let ip = listener.ip().to_canonical();
    (ip == Ipv4Addr::LOCALHOST || ip == Ipv6Addr::LOCALHOST).then(|| SocketAddr::new(ip, listener.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_two_loopbacks_are_forwarded() {
        let forwarded = |at: &str| loopback(at.parse().unwrap()).map(|to| to.to_string());
        assert_eq!(forwarded("127.0.0.1:80").as_deref(), Some("127.0.0.1:80"));
        assert_eq!(forwarded("[::1]:80").as_deref(), Some("[::1]:80"));
        assert_eq!(forwarded("[::ffff:127.0.0.1]:80").as_deref(), Some("127.0.0.1:80"));
        for reachable in ["0.0.0.0:80", "[::]:80", "10.0.0.1:80", "127.0.0.2:80", "[::2]:80"] {
            assert_eq!(forwarded(reachable), None, "{reachable}");
        }
    }
}
