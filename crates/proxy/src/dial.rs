//! Connections to guests.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};

/// The pause before each further attempt: a port that a server has just opened on the guest's loopback takes up to a second until
/// `envd` forwards it.
const PAUSES_MS: [u64; 4] = [100, 200, 300, 400];

/// A connection to a guest. A server may answer before it has read the whole request, and close: what cannot be sent any more is then
/// dropped, so that the answer, which is there to be read, is not lost for it.
pub struct Upstream {
    stream: TcpStream,
    deaf: bool,
}

impl Upstream {
    fn forgive<T>(&mut self, written: io::Result<T>, all: T) -> Poll<io::Result<T>> {
        match written {
            Err(e) if matches!(e.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
                self.deaf = true;
                Poll::Ready(Ok(all))
            }
            written => Poll::Ready(written),
        }
    }
}

impl AsyncRead for Upstream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Upstream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.deaf {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        self.forgive(written, bytes.len())
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let all = slices.iter().map(|slice| slice.len()).sum();
        if self.deaf {
            return Poll::Ready(Ok(all));
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices));
        self.forgive(written, all)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Connects; `patient` tries again while the guest refuses.
pub async fn dial(address: SocketAddr, limit: Duration, patient: bool) -> io::Result<Upstream> {
    let pauses = if patient { &PAUSES_MS[..] } else { &[] };
    for pause in pauses {
        match connect(address, limit).await {
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => sleep(Duration::from_millis(*pause)).await,
            result => return result.map(|stream| Upstream { stream, deaf: false }),
        }
    }
    connect(address, limit).await.map(|stream| Upstream { stream, deaf: false })
}

async fn connect(address: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_nodelay(true)?;
    socket.set_keepalive(true)?;
    timeout(limit, socket.connect(address)).await?
}
