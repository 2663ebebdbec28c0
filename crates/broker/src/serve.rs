//! The cluster behind TCP listeners on loopback, one port for each broker id, on a thread of its own.
//!
//! Everything runs on one tokio current-thread runtime; the cluster is behind one lock, which is never held while
//! waiting, so that tests can reach in from any thread ([`Broker::with`]). A frame is read into one buffer of its size,
//! which the log then keeps; an answer is written from its segments without joining them.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kavka_core::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, watch};

use crate::{Cluster, ClusterConfig, ConnectionId, Event, Fault};

/// The longest frame that is read, in bytes (Kafka: `socket.request.max.bytes`); a longer one closes the connection.
const MAX_FRAME_BYTES: usize = 100 << 20;
/// How many requests of one connection are read ahead of their answers.
const MAX_READ_AHEAD: usize = 64;
/// How many segments one system call writes.
const MAX_SEGMENTS: usize = 256;
/// How long a listener waits after an error, such as too many open files, before it tries again.
const RETRY: Duration = Duration::from_millis(20);

/// What a served cluster is made of.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The cluster. Its `wall_clock_ms` is set to the clock's.
    pub cluster: ClusterConfig,
    /// The port of each broker in the order of their ids; 0, or none, takes a free one.
    pub ports: Vec<u16>,
}

/// A cluster that listens. Dropping it stops it.
#[derive(Debug)]
pub struct Broker {
    shared: Arc<Hub>,
    addresses: Vec<SocketAddr>,
    thread: Option<JoinHandle<()>>,
}

impl Broker {
    /// Binds every port and starts the thread.
    ///
    /// # Errors
    ///
    /// A port that is taken, or no thread to be had.
    pub fn start(options: Options) -> io::Result<Self> {
        let mut config = options.cluster;
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        config.wall_clock_ms = i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX);
        let mut cluster = Cluster::new(config);
        let ids: Vec<i32> = cluster.brokers().map(|(id, _)| id).collect();
        let mut listeners = Vec::with_capacity(ids.len());
        let mut addresses = Vec::with_capacity(ids.len());
        for (id, port) in ids.into_iter().zip(options.ports.into_iter().chain(std::iter::repeat(0))) {
            let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            cluster.set_port(id, address.port());
            addresses.push(address);
            listeners.push((id, address, listener));
        }
        let shared = Arc::new(Hub::new(cluster));
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
        Ok(Self { shared, addresses, thread: Some(thread) })
    }

    /// `host:port` of every broker, with commas between (Kafka: `bootstrap.servers`).
    pub fn bootstrap_servers(&self) -> String {
        self.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }

    /// Does something with the cluster, which stands still meanwhile; the second argument is the time.
    pub fn with<T>(&self, act: impl FnOnce(&mut Cluster, Instant) -> T) -> T {
        self.shared.with(act)
    }

    /// Adds a fault.
    pub fn inject(&self, fault: Fault) {
        self.with(|cluster, _| cluster.faults().add(fault));
    }

    /// Stops a broker: its port refuses connections, those it has are closed, and its leaders move.
    pub fn set_broker_down(&self, broker_id: i32) {
        self.with(|cluster, now| cluster.set_broker_down(now, broker_id));
        self.shared.brokers_changed.send_replace(());
    }

    /// Starts a broker again, on the port that it had.
    pub fn set_broker_up(&self, broker_id: i32) {
        self.with(|cluster, now| cluster.set_broker_up(now, broker_id));
        self.shared.brokers_changed.send_replace(());
    }

    /// Closes everything and waits until the thread has ended.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.shared.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was already printed by the thread.
            let _ = thread.join();
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.end();
    }
}

/// What the tasks and the owner share.
#[derive(Debug)]
struct Hub {
    hosted: Mutex<Hosted>,
    started: std::time::Instant,
    /// The timer must look at its deadline again.
    deadline_changed: Notify,
    brokers_changed: watch::Sender<()>,
    stop: Notify,
}

#[derive(Debug)]
struct Hosted {
    cluster: Cluster,
    /// Where the answers of a connection go. Without its entry a connection ends.
    outlets: BTreeMap<ConnectionId, UnboundedSender<Vec<Bytes>>>,
    /// When the timer is set to.
    deadline: Option<Instant>,
}

impl Hub {
    fn new(cluster: Cluster) -> Self {
        Self {
            hosted: Mutex::new(Hosted { cluster, outlets: BTreeMap::new(), deadline: None }),
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

    /// A new connection, and where its answers come out. Both are known before anything can close it.
    fn connect(&self, broker_id: i32) -> Option<(ConnectionId, UnboundedReceiver<Vec<Bytes>>)> {
        let mut hosted = self.lock();
        let connection = hosted.cluster.handle_connect(broker_id)?;
        let (outlet, answers) = unbounded_channel();
        hosted.outlets.insert(connection, outlet);
        Some((connection, answers))
    }

    /// Acts on the cluster and carries out what it then wants.
    fn with<T>(&self, act: impl FnOnce(&mut Cluster, Instant) -> T) -> T {
        let now = self.now();
        let mut hosted = self.lock();
        let done = act(&mut hosted.cluster, now);
        while let Some(event) = hosted.cluster.poll_event() {
            match event {
                Event::Response { connection, segments } => {
                    if let Some(outlet) = hosted.outlets.get(&connection) {
                        // The connection has just ended if nobody listens.
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

/// Tells the cluster when its time has come.
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

/// Accepts connections for one broker, while it is up.
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
                    tokio::spawn(serve(shared.clone(), broker_id, stream));
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

/// One connection, from its beginning to its end.
async fn serve(shared: Arc<Hub>, broker_id: i32, mut stream: TcpStream) {
    let Some((connection, mut answers)) = shared.connect(broker_id) else { return };
    // Without it answers are only later; there is nothing else to do about it.
    let _ = stream.set_nodelay(true);
    let (reader, mut writer) = stream.split();
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
}

/// The frames that come in on a connection. A frame that was begun is kept when waiting for it is given up.
struct Frames<'a> {
    reader: ReadHalf<'a>,
    /// The size of the next frame, as far as it was read.
    prefix: ([u8; 4], usize),
    frame: Option<BytesMut>,
}

impl<'a> Frames<'a> {
    fn new(reader: ReadHalf<'a>) -> Self {
        Self { reader, prefix: ([0; 4], 0), frame: None }
    }

    /// The next frame without its size. `None` when the client has closed; an error for a frame that is too long.
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

async fn write_all(writer: &mut WriteHalf<'_>, segments: Vec<Bytes>) -> io::Result<()> {
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
    Ok(())
}
