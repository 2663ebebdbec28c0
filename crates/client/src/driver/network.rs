//! Names to addresses, addresses to byte streams.
//!
//! The driver reaches the world through [`Network`] alone, so a test can hand in a resolver and a
//! dialer of its own and prove where nothing was sent.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

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

    /// A stream to one address. The caller gives up after `socket.connection.setup.timeout.ms`.
    fn dial(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Stream>>>;
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

    fn dial(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let stream = match self.source {
                None => TcpStream::connect(address).await?,
                Some(source) => {
                    let socket = if address.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }?;
                    socket.bind(source)?;
                    socket.connect(address).await?
                }
            };
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}
