//! The cluster behind its listeners.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use kavka_broker::ClusterConfig;
use kavka_broker::serve::{Broker, Options};

/// `ApiVersions` v0, with its size.
const REQUEST: &[u8] = b"\0\0\0\x0a\0\x12\0\0\0\0\0\x07\xff\xff";

fn answers(address: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    stream.write_all(REQUEST).unwrap();
    let mut head = [0; 8];
    stream.read_exact(&mut head).is_ok() && head[4..] == [0, 0, 0, 7]
}

/// Waits for a condition: the listener notices a change when it runs next.
fn soon(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_stopped_broker_refuses_connections_until_it_is_started_on_the_same_port() {
    let cluster = ClusterConfig { brokers: 2, ..ClusterConfig::default() };
    let broker = Broker::start(Options { cluster, ports: Vec::new() }).unwrap();
    let servers = broker.bootstrap_servers();
    let (first, second) = servers.split_once(',').unwrap();
    let mut open = TcpStream::connect(first).unwrap();
    assert!(answers(first));
    broker.set_broker_down(1);
    assert_eq!(open.read(&mut [0]).unwrap_or(0), 0, "connections are closed");
    soon("the port still accepts", || {
        TcpStream::connect(first).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    });
    assert!(answers(second));
    #[cfg(target_os = "linux")]
    {
        let stolen = tokio::net::TcpSocket::new_v4().unwrap();
        let error = stolen.bind(first.parse().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse, "nobody gets the port of a stopped broker");
    }
    broker.set_broker_up(1);
    soon("the port does not come back", || answers(first));
}

#[test]
fn a_broker_that_is_dropped_frees_its_ports() {
    let broker = Broker::start(Options::default()).unwrap();
    let address = broker.bootstrap_servers();
    assert!(answers(&address));
    drop(broker);
    assert!(!answers(&address));
}

#[test]
fn a_client_that_goes_away_is_forgotten() {
    let broker = Broker::start(Options::default()).unwrap();
    assert!(answers(&broker.bootstrap_servers()));
    soon("the connection is kept", || broker.with(|cluster, _| cluster.connections()) == 0);
}
