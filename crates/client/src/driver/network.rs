//! Names to addresses, addresses to byte streams.
//!
//! The driver reaches the world through [`Network`] alone, so a test can hand in a resolver and a
//! dialer of its own and prove where nothing was sent.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream, lookup_host};

/// A future that the engine thread drives.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A connected byte stream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The two things a client wants from the network.
pub trait Network: Send + Sync + 'static {
    /// Every address of `host`; each is tried in turn.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;

    /// A stream to `address`, which is one of those that `host` has: a certificate would have to name `host`.
    ///
    /// The caller gives up after `socket.connection.setup.timeout.ms`. It dials again after a second without waiting for
    /// the end of this attempt.
    fn dial<'a>(&'a self, host: &'a str, address: SocketAddr) -> BoxFuture<'a, io::Result<Box<dyn Stream>>>;
}

/// TCP and the system's resolver.
#[derive(Debug, Clone, Default)]
pub struct Tcp {
    /// The local address to connect from; the system chooses when there is none.
    pub source: Option<SocketAddr>,
}

impl Network for Tcp {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(lookup_host((host, port)).await?.collect()) })
    }

    fn dial<'a>(&'a self, _host: &'a str, address: SocketAddr) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move { Ok(Box::new(self.connect(address).await?) as Box<dyn Stream>) })
    }
}

impl Tcp {
    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let stream = match self.source {
            None => TcpStream::connect(address).await?,
            Some(source) => {
                let socket = if address.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }?;
                socket.bind(source)?;
                socket.connect(address).await?
            }
        };
        stream.set_nodelay(true)?;
        SockRef::from(&stream).set_tcp_keepalive(&keep_alive())?;
        Ok(stream)
    }
}

/// A NAT entry or a firewall's state that would end after idle minutes stays alive, and a connection to a machine that is
/// gone ends after a minute and a half instead of with the first request after it.
fn keep_alive() -> TcpKeepalive {
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(10)).with_retries(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_connections_are_kept_alive() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let stream = Tcp::default().connect(listener.local_addr().unwrap()).await.unwrap();
            let socket = SockRef::from(&stream);
            assert!(socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
        });
    }
}
