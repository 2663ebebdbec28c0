//! Serves a cluster over TCP on loopback: one port for each broker id, all on one thread.
//!
//! The thread runs a tokio current-thread runtime. The cluster is behind one lock, which is never held while waiting,
//! so tests can reach in from any thread ([`Broker::with`]). Each frame is read into a buffer of its own size, which
//! the log keeps. A response is written from its segments without joining them.

mod tls;

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kavka_core::time::Instant;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, watch};
use tokio_rustls::TlsAcceptor;

pub use self::tls::{Certificates, Tls};

use crate::{Cluster, ClusterConfig, ConnectionId, Event, Fault};

/// The longest frame, in bytes (Kafka: `socket.request.max.bytes`); a longer one closes the connection.
const MAX_FRAME_BYTES: usize = 100 << 20;
/// How many requests of one connection are read ahead.
const MAX_READ_AHEAD: usize = 64;
/// The most segments in one write.
const MAX_SEGMENTS: usize = 256;
/// How long a listener waits after an error, such as too many open files, before it accepts again.
const RETRY: Duration = Duration::from_millis(20);

/// The options of a served cluster.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The cluster's settings. `wall_clock_ms` is replaced by the current time.
    pub cluster: ClusterConfig,
    /// The port of each broker, in the order of their ids; 0 or a missing one: any free port.
    pub ports: Vec<u16>,
    /// TLS on every port; default: none. The certificates are in [`Broker::certificates`].
    pub tls: Option<Tls>,
}

/// A cluster that listens on TCP ports. Dropping it stops it.
#[derive(Debug)]
pub struct Broker {
    shared: Arc<Hub>,
    addresses: Vec<SocketAddr>,
    certificates: Option<Certificates>,
    /// Keep the ports of stopped brokers.
    _reserved: Vec<TcpSocket>,
    thread: Option<JoinHandle<()>>,
}

impl Broker {
    /// Binds all ports, and starts the thread.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the cluster's version of Kafka lacks what is asked for; any other if a port is taken, or the
    /// thread cannot be started.
    pub fn start(options: Options) -> io::Result<Self> {
        check(&options)?;
        let mut config = options.cluster;
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        config.wall_clock_ms = i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX);
        let prepared = options.tls.map(|tls| tls::prepare(tls, &config.host)).transpose()?;
        let mut cluster = Cluster::new(config);
        let ids: Vec<i32> = cluster.brokers().map(|(id, _)| id).collect();
        let mut listeners = Vec::with_capacity(ids.len());
        let mut addresses = Vec::with_capacity(ids.len());
        let mut reserved = Vec::new();
        for (id, mut port) in ids.into_iter().zip(options.ports.into_iter().chain(std::iter::repeat(0))) {
            if cfg!(target_os = "linux") {
                let socket = reserve(port)?;
                port = socket.local_addr()?.port();
                reserved.push(socket);
            }
            let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            cluster.set_port(id, address.port());
            addresses.push(address);
            listeners.push((id, address, listener));
        }
        let (certificates, tls) = prepared.unzip();
        let shared = Arc::new(Hub::new(cluster, tls));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let served = shared.clone();
        let thread = std::thread::Builder::new().name("kavka-broker".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::spawn(keep_time(served.clone()));
                for (broker_id, address, listener) in listeners {
                    tokio::spawn(listen(served.clone(), broker_id, address, TcpListener::from_std(listener).ok()));
                }
                served.stop.notified().await;
            });
        })?;
        Ok(Self { shared, addresses, certificates, _reserved: reserved, thread: Some(thread) })
    }

    /// The `host:port` of every broker, separated by commas (Kafka: `bootstrap.servers`).
    pub fn bootstrap_servers(&self) -> String {
        self.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }

    /// What clients need for TLS; `None` without TLS.
    pub fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
    }

    /// Calls `act` with the cluster, which handles no requests meanwhile, and the current time.
    pub fn with<T>(&self, act: impl FnOnce(&mut Cluster, Instant) -> T) -> T {
        self.shared.with(act)
    }

    /// Adds a fault.
    pub fn inject(&self, fault: Fault) {
        self.with(|cluster, _| cluster.faults().add(fault));
    }

    /// Stops a broker: its port refuses connections, open ones are closed, and its partitions move to other leaders.
    pub fn set_broker_down(&self, broker_id: i32) {
        self.with(|cluster, now| cluster.set_broker_down(now, broker_id));
        self.shared.brokers_changed.send_replace(());
    }

    /// Starts a stopped broker again, on its old port.
    pub fn set_broker_up(&self, broker_id: i32) {
        self.with(|cluster, now| cluster.set_broker_up(now, broker_id));
        self.shared.brokers_changed.send_replace(());
    }

    /// Closes everything, and waits for the thread to end.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.shared.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            // If the thread panicked, it has printed that.
            let _ = thread.join();
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whether the version of Kafka has TLS and SASL, if they are asked for.
fn check(options: &Options) -> io::Result<()> {
    let version = options.cluster.kafka_version;
    let sasl = options.cluster.sasl.as_ref().map(|sasl| sasl.clone().of(version));
    let lacks = if options.tls.is_some() && !version.has_tls() {
        "TLS, which came with 0.9"
    } else if sasl.is_some_and(|sasl| sasl.mechanisms.is_empty()) {
        "these SASL mechanisms; PLAIN came with 0.10.0, SCRAM with 0.10.2, OAUTHBEARER with 2.0"
    } else {
        return Ok(());
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("Kafka {version} does not have {lacks}")))
}

/// Shared by the tasks and the owner.
#[derive(Debug)]
struct Hub {
    hosted: Mutex<Hosted>,
    /// `None` without TLS.
    tls: Option<Arc<ServerConfig>>,
    started: std::time::Instant,
    /// Notified when the timer must check its deadline again.
    deadline_changed: Notify,
    brokers_changed: watch::Sender<()>,
    stop: Notify,
}

#[derive(Debug)]
struct Hosted {
    cluster: Cluster,
    /// Where to send the responses of each connection. Removing the entry ends the connection.
    outlets: BTreeMap<ConnectionId, UnboundedSender<Vec<Bytes>>>,
    /// The time that the timer waits for.
    deadline: Option<Instant>,
}

impl Hub {
    fn new(cluster: Cluster, tls: Option<Arc<ServerConfig>>) -> Self {
        Self {
            hosted: Mutex::new(Hosted { cluster, outlets: BTreeMap::new(), deadline: None }),
            tls,
            started: std::time::Instant::now(),
            deadline_changed: Notify::new(),
            brokers_changed: watch::Sender::new(()),
            stop: Notify::new(),
        }
    }

    fn now(&self) -> Instant {
        Instant(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn lock(&self) -> MutexGuard<'_, Hosted> {
        self.hosted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a connection; returns its id and its responses. Both are registered before anything can close it.
    fn connect(&self, broker_id: i32) -> Option<(ConnectionId, UnboundedReceiver<Vec<Bytes>>)> {
        let mut hosted = self.lock();
        let connection = hosted.cluster.handle_connect(broker_id)?;
        let (outlet, answers) = unbounded_channel();
        hosted.outlets.insert(connection, outlet);
        Some((connection, answers))
    }

    /// Calls `act` with the cluster, then carries out the cluster's events.
    fn with<T>(&self, act: impl FnOnce(&mut Cluster, Instant) -> T) -> T {
        let now = self.now();
        let mut hosted = self.lock();
        let done = act(&mut hosted.cluster, now);
        while let Some(event) = hosted.cluster.poll_event() {
            match event {
                Event::Response { connection, segments } => {
                    if let Some(outlet) = hosted.outlets.get(&connection) {
                        // If nobody receives it, the connection has just ended.
                        let _ = outlet.send(segments);
                    }
                }
                Event::Close { connection } => {
                    hosted.outlets.remove(&connection);
                }
            }
        }
        let deadline = hosted.cluster.poll_timeout();
        if deadline.is_some_and(|next| hosted.deadline.is_none_or(|set| next < set)) {
            hosted.deadline = deadline;
            self.deadline_changed.notify_one();
        }
        done
    }
}

/// Calls the cluster when its time has come.
async fn keep_time(shared: Arc<Hub>) {
    loop {
        let deadline = shared.lock().deadline;
        let wait = deadline.map(|deadline| deadline.since(shared.now()));
        tokio::select! {
            () = tokio::time::sleep(wait.unwrap_or(Duration::MAX)) => {}
            () = shared.deadline_changed.notified() => continue,
        }
        shared.lock().deadline = None;
        shared.with(Cluster::handle_timeout);
    }
}

/// A socket that has a port, and does not listen. While the broker is down, the kernel refuses connections to the port
/// and gives it to nobody else, not even as the local port of a connection. Only Linux lets a listener have it
/// meanwhile.
fn reserve(port: u16) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv4Addr::LOCALHOST, port).into())?;
    Ok(socket)
}

/// Accepts connections for one broker while it is up.
async fn listen(shared: Arc<Hub>, broker_id: i32, address: SocketAddr, mut listener: Option<TcpListener>) {
    let mut news = shared.brokers_changed.subscribe();
    loop {
        let is_up = shared.with(|cluster, _| cluster.brokers().any(|broker| broker == (broker_id, true)));
        if !is_up {
            listener = None;
        } else if listener.is_none() {
            listener = TcpListener::bind(address).await.ok();
        }
        let accept = async {
            match &listener {
                Some(listener) => listener.accept().await.ok(),
                None if is_up => None,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = accept => match accepted {
                Some((stream, _)) => {
                    tokio::spawn(welcome(shared.clone(), broker_id, stream));
                }
                None => tokio::time::sleep(RETRY).await,
            },
            changed = news.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

/// Serves one connection, after the TLS handshake if there is TLS.
async fn welcome(shared: Arc<Hub>, broker_id: i32, mut stream: TcpStream) {
    // Without it responses are only slower, so an error does not matter.
    let _ = stream.set_nodelay(true);
    let Some(config) = shared.tls.clone() else {
        let (reader, writer) = stream.split();
        return serve(&shared, broker_id, reader, writer).await;
    };
    // A client that fails the handshake has got an alert that says why.
    if let Ok(stream) = TlsAcceptor::from(config).accept(stream).await {
        let (reader, writer) = tokio::io::split(stream);
        serve(&shared, broker_id, reader, writer).await;
    }
}

/// Serves the requests of one connection.
async fn serve(shared: &Hub, broker_id: i32, reader: impl AsyncRead + Unpin, mut writer: impl AsyncWrite + Unpin) {
    let Some((connection, mut answers)) = shared.connect(broker_id) else { return };
    let mut frames = Frames::new(reader);
    let mut backlog = 0;
    loop {
        tokio::select! {
            biased;
            answer = answers.recv() => {
                let Some(segments) = answer else { break };
                if write_all(&mut writer, segments).await.is_err() {
                    break;
                }
                backlog = shared.lock().cluster.backlog(connection);
            }
            frame = frames.next(), if backlog < MAX_READ_AHEAD => {
                let Ok(Some(frame)) = frame else { break };
                backlog = shared.with(|cluster, now| {
                    cluster.handle_frame(now, connection, frame);
                    cluster.backlog(connection)
                });
            }
        }
    }
    shared.lock().outlets.remove(&connection);
    shared.with(|cluster, _| cluster.handle_disconnect(connection));
    // With TLS, tells the client that nothing was cut off; if it is gone, nobody needs to know.
    let _ = writer.shutdown().await;
}

/// Reads the frames of a connection. Cancelling a read loses no bytes.
struct Frames<R> {
    reader: R,
    /// The size field of the next frame, and how much of it was read.
    prefix: ([u8; 4], usize),
    frame: Option<BytesMut>,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    fn new(reader: R) -> Self {
        Self { reader, prefix: ([0; 4], 0), frame: None }
    }

    /// The next frame, without its size; `None` when the client has closed the connection; an error if the frame is too
    /// long.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let (prefix, filled) = &mut self.prefix;
        while let Some(rest) = prefix.get_mut(*filled..).filter(|rest| !rest.is_empty()) {
            match self.reader.read(rest).await? {
                0 => return Ok(None),
                read => *filled = filled.saturating_add(read),
            }
        }
        let bytes = usize::try_from(i32::from_be_bytes(*prefix)).ok().filter(|bytes| *bytes <= MAX_FRAME_BYTES);
        let Some(bytes) = bytes else { return Err(io::ErrorKind::InvalidData.into()) };
        let frame = self.frame.get_or_insert_with(|| BytesMut::with_capacity(bytes));
        while frame.len() < bytes {
            if self.reader.read_buf(&mut frame.limit(bytes.saturating_sub(frame.len()))).await? == 0 {
                return Ok(None);
            }
        }
        *filled = 0;
        Ok(self.frame.take().map(BytesMut::freeze))
    }
}

async fn write_all(writer: &mut (impl AsyncWrite + Unpin), segments: Vec<Bytes>) -> io::Result<()> {
    let mut rest = VecDeque::from(segments);
    while !rest.is_empty() {
        let slices: Vec<_> = rest.iter().take(MAX_SEGMENTS).map(|segment| IoSlice::new(segment)).collect();
        let mut written = writer.write_vectored(&slices).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while let Some(first) = rest.front_mut() {
            if first.len() > written {
                first.advance(written);
                break;
            }
            written = written.saturating_sub(first.len());
            rest.pop_front();
        }
    }
    // TLS keeps what the socket did not take.
    writer.flush().await
}
