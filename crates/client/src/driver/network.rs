//! Resolves names, and opens byte streams to addresses.
//!
//! [`Network`] is the driver's only way to the network, so a test can supply its own resolver and dialer, and check
//! that nothing was sent.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::Instant;

/// A future that the engine thread drives.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A connected byte stream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What a client needs from the network.
pub trait Network: Send + Sync + 'static {
    /// All addresses of `host`, to be tried in this order.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;

    /// Opens a stream to `address`, one of those of `host`. (A TLS certificate must name `host`.)
    ///
    /// The caller gives up after `socket.connection.setup.timeout.ms`. After a second it dials again, without waiting
    /// for this attempt to end.
    fn dial<'a>(&'a self, host: &'a str, address: SocketAddr) -> BoxFuture<'a, io::Result<Box<dyn Stream>>>;
}

/// How long the first dial may take before a second one starts beside it.
const DIAL_AGAIN: Duration = Duration::from_secs(1);

/// Dials until there is an outcome, with another dial every second. If its first packet is lost, a kernel waits longer
/// and longer before it sends the next, while the broker may be back already.
pub(super) async fn dial(network: &dyn Network, host: &str, address: SocketAddr) -> io::Result<Box<dyn Stream>> {
    let mut dials = vec![network.dial(host, address)];
    let mut again = std::pin::pin!(tokio::time::sleep(DIAL_AGAIN));
    poll_fn(|context| {
        loop {
            if let Some(outcome) = dials.iter_mut().find_map(|dial| match dial.as_mut().poll(context) {
                Poll::Ready(outcome) => Some(outcome),
                Poll::Pending => None,
            }) {
                return Poll::Ready(outcome);
            }
            ready!(again.as_mut().poll(context));
            again.as_mut().reset(Instant::now() + DIAL_AGAIN);
            dials.truncate(1);
            dials.push(network.dial(host, address));
        }
    })
    .await
}

/// The addresses of a name, each with the time that it may take: if one swallows packets, there must be time left until
/// `deadline` for the others.
pub(super) fn in_turn(addresses: Vec<SocketAddr>, deadline: Instant) -> impl Iterator<Item = (SocketAddr, Duration)> {
    let untried = (1..=addresses.len() as u32).rev();
    let left = move || deadline.saturating_duration_since(Instant::now());
    addresses.into_iter().zip(untried).map(move |(address, untried)| (address, left() / untried))
}

/// TCP, with the system's resolver.
#[derive(Debug, Clone, Default)]
pub struct Tcp {
    /// The local address to connect from; `None`: the system chooses.
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
            Some(source) if source.is_ipv6() != address.is_ipv6() => {
                let why = format!("{address} cannot be reached from source.address={}", source.ip());
                return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, why));
            }
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

/// TCP keep-alive. It keeps the state of NATs and firewalls alive, which they drop after minutes without traffic. It
/// also ends a connection to a dead machine after a minute and a half, rather than at the next request.
fn keep_alive() -> TcpKeepalive {
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(10)).with_retries(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_the_other_family_is_not_dialled_from_the_source_address() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let tcp = Tcp { source: Some(SocketAddr::from(([127, 0, 0, 1], 0))) };
        let refused = runtime.block_on(tcp.connect("[::1]:9092".parse().unwrap())).unwrap_err();
        assert_eq!(refused.to_string(), "[::1]:9092 cannot be reached from source.address=127.0.0.1");
    }

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
