//! The cluster goes away and comes back: work continues soon, and nobody floods the cluster meanwhile.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use kavka::blocking::Consumer;
use kavka::blocking::Pending;
use kavka::{
    BoxFuture, Client, ClientConfig, CommittedOffset, ConsumerConfig, IsolationLevel, Network, Producer,
    ProducerConfig, ProducerTopic, Record, StartPosition, Stream, Tcp,
};
use kavka_broker::serve::Broker;
use kavka_test_support::LIMIT;
use kavka_test_support::rig::{TOPIC, cluster, find_topic, key, servers};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const BROKERS: i32 = 3;

/// What happens to packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Connectivity {
    /// They are delivered.
    Working,
    /// Nobody is there: dials are refused, and connections are reset.
    Refusing,
    /// All connections are forgotten, and new ones hang.
    Dropping,
}

struct NetworkState {
    connectivity: Connectivity,
    /// The number of outages: a connection from before an outage is unusable after it.
    outages: usize,
    wakers: Vec<Waker>,
    /// Who was dialled since the network works.
    reached: BTreeSet<SocketAddr>,
}

/// TCP with simulated outages.
struct FaultyNetwork {
    tcp: Tcp,
    state: Arc<Mutex<NetworkState>>,
    dials: AtomicUsize,
}

impl FaultyNetwork {
    fn new() -> Arc<Self> {
        let state = NetworkState {
            connectivity: Connectivity::Working,
            outages: 0,
            wakers: Vec::new(),
            reached: BTreeSet::new(),
        };
        Arc::new(Self { tcp: Tcp::default(), state: Arc::new(Mutex::new(state)), dials: AtomicUsize::new(0) })
    }

    fn state(&self) -> MutexGuard<'_, NetworkState> {
        self.state.lock().unwrap()
    }

    fn set(&self, connectivity: Connectivity) {
        let mut state = self.state();
        state.outages += usize::from(connectivity != Connectivity::Working);
        state.connectivity = connectivity;
        state.reached.clear();
        state.wakers.drain(..).for_each(Waker::wake);
    }

    fn dials(&self) -> usize {
        self.dials.load(Ordering::SeqCst)
    }
}

impl Network for FaultyNetwork {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, std::io::Result<Vec<SocketAddr>>> {
        self.tcp.resolve(host, port)
    }

    fn dial<'a>(&'a self, host: &'a str, address: SocketAddr) -> BoxFuture<'a, std::io::Result<Box<dyn Stream>>> {
        self.dials.fetch_add(1, Ordering::SeqCst);
        let mut state = self.state();
        let (connectivity, outages_before) = (state.connectivity, state.outages);
        state.reached.insert(address);
        drop(state);
        Box::pin(async move {
            match connectivity {
                Connectivity::Working => {}
                Connectivity::Refusing => return Err(std::io::ErrorKind::ConnectionRefused.into()),
                Connectivity::Dropping => std::future::pending().await,
            }
            let stream = self.tcp.dial(host, address).await?;
            Ok(Box::new(FaultyStream { stream, outages_before, state: Arc::clone(&self.state) }) as Box<dyn Stream>)
        })
    }
}

/// A connection that an outage can break.
struct FaultyStream {
    stream: Box<dyn Stream>,
    outages_before: usize,
    state: Arc<Mutex<NetworkState>>,
}

impl FaultyStream {
    /// The error of the connection, if an outage has broken it.
    fn broken(&self, context: &Context<'_>) -> Option<std::io::Error> {
        let mut state = self.state.lock().unwrap();
        if !state.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
            state.wakers.push(context.waker().clone());
        }
        let is_stale = self.outages_before != state.outages;
        is_stale.then(|| std::io::ErrorKind::ConnectionReset.into())
    }
}

impl AsyncRead for FaultyStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.broken(context) {
            Some(error) => Poll::Ready(Err(error)),
            None => Pin::new(&mut self.stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for FaultyStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        match self.broken(context) {
            Some(error) => Poll::Ready(Err(error)),
            None => Pin::new(&mut self.stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Keeps the log at info level and above.
struct Journal(Mutex<Vec<String>>);

static JOURNAL: Journal = Journal(Mutex::new(Vec::new()));

impl log::Log for Journal {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Info
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            self.0.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

struct World {
    network: Arc<FaultyNetwork>,
    client: Client,
    producer: Producer,
    topic: ProducerTopic,
    consumers: Vec<Consumer>,
    broker: Broker,
}

impl World {
    /// A client that has produced, consumed and committed, so that all its connections are open.
    fn new(consumers: usize) -> Self {
        let broker = cluster(BROKERS.try_into().unwrap(), BROKERS);
        let config = ClientConfig::default().bootstrap_servers(servers(&broker));
        let network = FaultyNetwork::new();
        let client = Client::with_network(config, Arc::clone(&network) as Arc<dyn Network>, None).unwrap();
        let producer = client.producer(ProducerConfig::default()).unwrap();
        let topic = find_topic(&client, &producer, TOPIC, false).unwrap();
        let consumer = |_| {
            let consumer = Consumer::from(client.consumer(ConsumerConfig::default()).unwrap());
            for partition in 0..BROKERS {
                consumer.add(&key(partition), StartPosition::Earliest).unwrap();
            }
            consumer
        };
        let consumers = (0..consumers).map(consumer).collect();
        let world = Self { network, client, producer, topic, consumers, broker };
        world.start_work().finish(&world);
        world
    }

    /// Starts one call of every kind that goes to the cluster.
    fn start_work(&self) -> Work {
        let produced = (0..BROKERS).map(|partition| {
            let record = Record { value: Some(b"v"), partition: Some(partition), ..Record::default() };
            self.client.start(self.producer.try_send(self.topic, &record).unwrap())
        });
        let produced = produced.collect();
        let (committing, looking, asking) = (self.client.clone(), self.client.clone(), self.client.clone());
        let committed = self.client.start(async move {
            let offsets = [(key(0), CommittedOffset::new(1))].into();
            committing.commit_offsets("group", &offsets, LIMIT).await
        });
        let keys: Vec<_> = (0..BROKERS).map(key).collect();
        let listed = self
            .client
            .start(async move { looking.end_offsets(&keys, IsolationLevel::ReadUncommitted, LIMIT).await.map(drop) });
        let known = self.client.start(async move { while asking.refresh_metadata().await.is_err() {} });
        Work { produced, calls: vec![committed, listed], known }
    }
}

struct Work {
    produced: Vec<Pending<kavka::Result<kavka::RecordMetadata>>>,
    calls: Vec<Pending<kavka::Result<()>>>,
    known: Pending<()>,
}

impl Work {
    /// Waits for all calls.
    fn finish(self, world: &World) {
        for delivery in self.produced {
            delivery.wait(Some(LIMIT)).expect("it is reported").unwrap();
        }
        for call in self.calls {
            call.wait(Some(LIMIT)).expect("it ends").unwrap();
        }
        self.known.wait(Some(LIMIT)).expect("metadata comes");
        for consumer in &world.consumers {
            let mut read = 0;
            while read < BROKERS {
                let mut batch = consumer.next_batch(LIMIT).unwrap().expect("records come");
                read += i32::try_from(std::iter::from_fn(|| batch.next_record().map(drop)).count()).unwrap();
            }
        }
    }
}

/// An outage, during which there are fewer dials per second and broker than `most_dials`. Once it is over, every broker
/// is dialled within two seconds, and everything goes on.
///
/// The two seconds are a timer on the engine's own thread. Its timers fire in the order in which they are due, however
/// busy the machine is: a wait of the client that is over later than that would be seen.
fn assert_recovers(world: &World, connectivity: Connectivity, lasts: Duration, most_dials: f64) {
    world.network.set(connectivity);
    let work = world.start_work();
    let (before, begin) = (world.network.dials(), Instant::now());
    thread::sleep(lasts);
    let dials = f64::from(u32::try_from(world.network.dials() - before).unwrap());
    let rate = dials / begin.elapsed().as_secs_f64() / f64::from(BROKERS);
    assert!(rate < most_dials, "{rate} dials a second and broker");
    world.network.set(Connectivity::Working);
    let two_seconds = world.client.start(async { tokio::time::sleep(Duration::from_secs(2)).await });
    two_seconds.wait(Some(LIMIT)).expect("the timer fires");
    let reached = world.network.state().reached.clone();
    let is_reached = |server: &(String, u16)| reached.iter().any(|address| address.port() == server.1);
    assert!(servers(&world.broker).iter().all(is_reached), "of all brokers, these were dialled: {reached:?}");
    work.finish(world);
}

#[test]
fn brokers_that_refused_for_long_are_dialled_soon_once_they_are_back_and_everything_goes_on() {
    log::set_logger(&JOURNAL).expect("nobody else logs");
    log::set_max_level(log::LevelFilter::Info);
    let world = World::new(1);
    assert_recovers(&world, Connectivity::Refusing, Duration::from_secs(6), 4.0);
    let lines = JOURNAL.0.lock().unwrap().clone();
    for address in world.broker.bootstrap_servers().split(',') {
        let said: Vec<_> = lines.iter().filter(|line| line.starts_with("broker ") && line.contains(address)).collect();
        assert!(said.len() >= 2, "{said:?}");
        for outage in said.chunks(2) {
            assert!(outage[0].contains("is lost") && outage[0].contains("refused"), "{said:?}");
            assert!(outage[1].contains("is back after"), "{said:?}");
        }
    }
}

#[test]
fn brokers_whose_packets_vanished_are_dialled_soon_once_they_are_back_and_everything_goes_on() {
    assert_recovers(&World::new(1), Connectivity::Dropping, Duration::from_secs(3), 4.0);
}

#[test]
fn many_consumers_of_one_client_do_not_dial_a_broker_that_is_away_each_for_itself() {
    assert_recovers(&World::new(20), Connectivity::Refusing, Duration::from_secs(4), 6.0);
}
