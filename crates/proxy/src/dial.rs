//! Connections to guests.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};

/// The pause before each further attempt: a port that a server has just opened on the guest's loopback takes up to a second until
/// `envd` forwards it.
const PAUSES_MS: [u64; 4] = [100, 200, 300, 400];

/// Connects; `patient` tries again while the guest refuses.
pub async fn dial(address: SocketAddr, limit: Duration, patient: bool) -> io::Result<TcpStream> {
    let pauses = if patient { &PAUSES_MS[..] } else { &[] };
    for pause in pauses {
        match connect(address, limit).await {
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => sleep(Duration::from_millis(*pause)).await,
            result => return result,
        }
    }
    connect(address, limit).await
}

async fn connect(address: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_nodelay(true)?;
    socket.set_keepalive(true)?;
    timeout(limit, socket.connect(address)).await?
}
