//! The only place with sockets and the clock of the engine. Tasks are started here and in [`crate::role`].
//!
//! One engine thread per client runs everything: the metadata task, a task per connection, and the role tasks of
//! producers and consumers. They share state behind one lock, which is never held across an `.await`.
//!
//! Each connection belongs to an owner. A broker answers the requests on one connection strictly in order, so a request
//! that the broker may hold must not be ahead of another owner's.

mod check;
pub(crate) mod clock;
mod connection;
mod coordinators;
mod engine;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod greeter;
mod metadata;
mod network;
mod old_brokers;
mod sasl;
mod tls;
mod transfer;

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use kavka_core::backoff::Backoff;
use kavka_core::cluster::{
    BootstrapServer, Call, CoordinatorKind, Coordinators, Endpoint, MetadataRefresh, Outdated, Owner, RefreshConfig,
    Route, Target,
};
use kavka_core::config::ClientConfig;
use kavka_core::error::{Error, ErrorKind, Phase, Place, Result, Written};
use kavka_core::link::{Answer, ReadPool, SendOptions};
use kavka_core::random::Random;
use kavka_core::time::Instant;
use kavka_core::wire::{ApiKey, Message, Request};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};

use check::Checks;
use connection::{Mail, Outgoing};
use coordinators::Finding;
pub(crate) use engine::{Alive, cores};
use metadata::Snapshots;
pub(crate) use metadata::{AllTopicsHold, TopicHold};
pub use network::{BoxFuture, Network, Stream, Tcp};
use old_brokers::OldBrokers;
use sasl::Sasl;
use tls::Tls;

/// A frame that was sent or received.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum WireEvent {
    /// A request was queued on a connection.
    Sent {
        /// The API.
        key: ApiKey,
        /// The version of the request.
        version: i16,
        /// The whole frame, including its length and header.
        frame: Vec<Bytes>,
    },
    /// A response was matched to its request.
    Received {
        /// The API.
        key: ApiKey,
        /// The version of the response.
        version: i16,
        /// The response without its header; empty for a request that the broker does not answer.
        body: Bytes,
    },
}

/// Called for every frame, on the engine thread; it must be quick.
pub type WireTap = Arc<dyn Fn(&WireEvent) + Send + Sync>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct ConnectionKey {
    owner: Owner,
    endpoint: Endpoint,
}

impl ConnectionKey {
    fn broker_id(self) -> Option<i32> {
        match self.endpoint {
            Endpoint::Broker(id) => Some(id),
            Endpoint::Bootstrap(_) => None,
        }
    }
}

struct State {
    refresh: MetadataRefresh,
    route: Route,
    random: Random,
    connections: HashMap<ConnectionKey, mpsc::UnboundedSender<Mail>>,
    next_owner: u64,
    /// The numbers of the producer machines.
    producers: BTreeSet<u64>,
    coordinators: Coordinators,
    /// The look-ups of coordinators under way.
    finding: HashMap<(CoordinatorKind, Arc<str>), Finding>,
    /// The endpoints whose last dial failed.
    unreachable: HashMap<Endpoint, Unreachable>,
    checks: HashMap<Endpoint, Checks>,
    old_brokers: OldBrokers,
}

/// An unreachable broker.
struct Unreachable {
    since: Instant,
    /// The error of the last dial, which becomes the cause of errors of calls that waited for this broker.
    error: Error,
}

/// Shared by handles, the metadata task and connection tasks: the settings, the connections, and what is known of the
/// cluster.
struct Switchboard {
    config: ClientConfig,
    started: std::time::Instant,
    network: Arc<dyn Network>,
    tls: Option<Arc<Tls>>,
    tap: Option<WireTap>,
    read_pool: ReadPool,
    /// `None`: without SASL.
    sasl: Option<Arc<Sasl>>,
    state: Mutex<State>,
    metadata: Snapshots,
    /// Changes when any dial ends, for the connections that wait for that.
    dialled: watch::Sender<()>,
    /// Whether the application has closed the client.
    is_closed: watch::Sender<bool>,
}

/// A handle to the engine thread.
#[derive(Clone)]
pub(crate) struct Driver {
    shared: Arc<Switchboard>,
    runtime: Handle,
}

impl State {
    /// How many endpoints can be asked for metadata.
    fn candidates(&self) -> usize {
        self.route.candidates(self.refresh.metadata())
    }

    /// The endpoint to ask when any will do; prefers a connected one that has not failed.
    fn any_endpoint(&mut self) -> Option<Endpoint> {
        let connections = &self.connections;
        let connected = |endpoint| connections.contains_key(&ConnectionKey { owner: Owner::Control, endpoint });
        self.route.any(self.refresh.metadata(), connected)
    }
}

impl Switchboard {
    fn new(
        config: ClientConfig,
        network: Arc<dyn Network>,
        tls: Option<Arc<Tls>>,
        tap: Option<WireTap>,
        seed: u64,
    ) -> Self {
        let backoff = Backoff { initial: config.retry_backoff, max: config.retry_backoff_max };
        let reconnect = Backoff { initial: config.reconnect_backoff, max: config.reconnect_backoff_max };
        let server = |(host, port): &(String, u16)| BootstrapServer { host: host.as_str().into(), port: *port };
        let state = State {
            refresh: MetadataRefresh::new(RefreshConfig { max_age: config.metadata_max_age, backoff }, seed)
                .with_bootstrap_servers(config.bootstrap_servers.len()),
            route: Route::new(config.bootstrap_servers.iter().map(server).collect(), reconnect, seed),
            random: Random::new(seed),
            connections: HashMap::new(),
            next_owner: 0,
            producers: BTreeSet::new(),
            coordinators: Coordinators::default(),
            finding: HashMap::new(),
            unreachable: HashMap::new(),
            checks: HashMap::new(),
            old_brokers: OldBrokers::default(),
        };
        Self {
            config,
            started: std::time::Instant::now(),
            network,
            tls,
            tap,
            read_pool: ReadPool::default(),
            sasl: None,
            state: Mutex::new(state),
            metadata: Snapshots::default(),
            dialled: watch::Sender::new(()),
            is_closed: watch::Sender::new(false),
        }
    }

    fn with_sasl(mut self, sasl: Option<Arc<Sasl>>) -> Self {
        self.sasl = sasl;
        self
    }

    fn now(&self) -> Instant {
        Instant(self.started.elapsed().as_millis() as u64)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn address(&self, key: ConnectionKey) -> Result<(Arc<str>, u16)> {
        let state = self.lock();
        let gone = || {
            Error::new(ErrorKind::Disconnected, "the metadata no longer names the broker")
                .at(Place { broker_id: key.broker_id(), ..Place::default() })
        };
        state.route.address(key.endpoint, state.refresh.metadata()).ok_or_else(gone)
    }

    fn handle_opened(&self, key: ConnectionKey) {
        let now = self.now();
        let mut state = self.lock();
        if state.unreachable.contains_key(&key.endpoint) {
            state.refresh.handle_possible_restart(now);
        }
        state.route.handle_opened(now, key.endpoint);
        drop(state);
        // A broker that completes the handshake is alive.
        self.note_check(key, Some(now));
        self.dialled.send_replace(());
    }

    fn handle_reached(&self, key: ConnectionKey) {
        let mut state = self.lock();
        state.route.handle_success(key.endpoint);
        let was_away = state.unreachable.remove(&key.endpoint);
        drop(state);
        if let (Some(Unreachable { since, error }), Endpoint::Broker(id)) = (was_away, key.endpoint) {
            let seconds = self.now().since(since).as_secs_f64();
            let at = error.place().address.as_ref().map(|address| format!(" at {address}")).unwrap_or_default();
            log::info!("broker {id}{at} is back after {seconds:.1} s");
        }
        self.dialled.send_replace(());
    }

    fn handle_unreachable(&self, key: ConnectionKey, error: &Error) {
        let now = self.now();
        let mut state = self.lock();
        let since = state.unreachable.get(&key.endpoint).map(|away| away.since);
        if since.is_none() {
            state.refresh.handle_possible_restart(now);
        }
        state.unreachable.insert(key.endpoint, Unreachable { since: since.unwrap_or(now), error: error.clone() });
        state.route.handle_failure(now, key.endpoint);
        if error.kind() == ErrorKind::Authentication {
            state.route.handle_refused(now, key.endpoint);
        }
        if let Endpoint::Broker(_) = key.endpoint {
            // It may have led partitions of any topic.
            state.refresh.request(Outdated::InUse);
        }
        drop(state);
        if let (None, Endpoint::Broker(id)) = (since, key.endpoint) {
            log::info!("broker {id} is lost: {error}");
        }
        self.dialled.send_replace(());
        self.metadata.wake.wake();
    }

    fn forget(&self, key: ConnectionKey) {
        self.lock().connections.remove(&key);
    }

    /// Puts a message into the mailbox of the connection with this key, or fails it with `error` if there is none.
    fn pass_on(&self, key: ConnectionKey, mail: Mail, error: &Error) {
        let mailbox = self.lock().connections.get(&key).cloned();
        let left = match mailbox {
            Some(mailbox) => mailbox.send(mail).err().map(|mpsc::error::SendError(mail)| mail),
            None => Some(mail),
        };
        if let Some(mail) = left {
            mail.fail(error);
        }
    }

    /// Forgets a connection if its mailbox is empty, so that no more requests are put into it. Returns whether it did.
    fn forget_unused(&self, key: ConnectionKey, mailbox: &mpsc::UnboundedReceiver<Mail>) -> bool {
        let mut state = self.lock();
        let is_unused = mailbox.is_empty();
        if is_unused {
            state.connections.remove(&key);
            // Without any connection, nobody notices that the broker is replaced by a newer one.
            if !state.connections.keys().any(|other| other.endpoint == key.endpoint) {
                state.old_brokers.forget(key.endpoint);
            }
        }
        is_unused
    }
}

impl Driver {
    /// The time since the client started.
    pub(crate) fn now(&self) -> Instant {
        self.shared.now()
    }

    /// The client's settings.
    pub(crate) fn config(&self) -> &ClientConfig {
        &self.shared.config
    }

    /// Runs a future on the engine thread.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(future);
    }

    /// Waits for a future for up to `limit`; `None` if that passes first. Any executor may poll it.
    pub(crate) async fn within<T>(&self, limit: Duration, future: impl Future<Output = T>) -> Option<T> {
        self.with_timers(async { timeout(limit, future).await.ok() }).await
    }

    /// The application has closed the client.
    pub(crate) fn close(&self) {
        self.shared.is_closed.send_replace(true);
    }

    /// Waits for a future until the client is closed. Any executor may poll it.
    pub(crate) async fn unless_closed<T>(&self, future: impl Future<Output = Result<T>>) -> Result<T> {
        let mut is_closed = self.shared.is_closed.subscribe();
        tokio::select! {
            biased;
            _ = is_closed.wait_for(|is_closed| *is_closed) => Err(closed()),
            outcome = future => outcome,
        }
    }

    /// Waits for a while. Any executor may poll it.
    pub(crate) async fn sleep(&self, wait: Duration) {
        self.with_timers(async { sleep(wait).await }).await;
    }

    /// Makes the engine's timers available to a future that any executor may poll.
    async fn with_timers<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|context| {
            let _engine = self.runtime.enter();
            future.as_mut().poll(context)
        })
        .await
    }

    /// Starts blocking work on a thread that is not the engine's.
    pub(crate) fn start_on_a_thread(&self, work: impl FnOnce() + Send + 'static) {
        drop(self.runtime.spawn_blocking(work));
    }

    /// Runs blocking work on a thread of its own, and waits for it; `None` if it panicked.
    pub(crate) async fn on_a_thread<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        self.runtime.spawn_blocking(work).await.ok()
    }

    /// A number that no other owner in this client has.
    pub(crate) fn next_owner(&self) -> u64 {
        let mut state = self.shared.lock();
        state.next_owner += 1;
        state.next_owner
    }

    /// The lowest number that no producer machine has: it may take over the connections of one that has ended.
    pub(crate) fn take_producer_number(&self) -> u64 {
        let mut state = self.shared.lock();
        let number = (0..=u64::MAX).find(|number| !state.producers.contains(number)).unwrap_or_default();
        state.producers.insert(number);
        number
    }

    /// The producer machine with this number has ended.
    pub(crate) fn free_producer_number(&self, number: u64) {
        self.shared.lock().producers.remove(&number);
    }

    /// A seed for a machine.
    pub(crate) fn next_seed(&self) -> u64 {
        self.shared.lock().random.next_u64()
    }

    /// Whether a broker is known, and its last dial did not fail.
    pub(crate) fn is_reachable(&self, broker_id: i32) -> bool {
        let is_lost = self.shared.lock().unreachable.contains_key(&Endpoint::Broker(broker_id));
        !is_lost && self.metadata().broker(broker_id).is_some()
    }

    /// The error of the last dial of a broker, if it failed; or what keeps the client from dialling.
    pub(crate) fn why_unreachable(&self, broker_id: i32) -> Option<Error> {
        let away = self.shared.lock().unreachable.get(&Endpoint::Broker(broker_id)).map(|away| away.error.clone());
        away.or_else(|| self.shared.sasl.as_ref()?.why_waiting())
    }

    /// The error of the last failed dial, if any broker waits for its back-off, or what keeps the client from dialling:
    /// it explains why a call has to wait.
    pub(crate) fn unreachable(&self) -> Option<Error> {
        let now = self.now();
        let state = self.shared.lock();
        let backing_off = |endpoint: &Endpoint| state.route.not_before(*endpoint) > now;
        let away = state.unreachable.iter().find(|(endpoint, _)| backing_off(endpoint));
        let away = away.map(|(_, away)| away.error.clone());
        away.or_else(|| self.shared.sasl.as_ref()?.why_waiting())
    }

    /// Sends one request, once. The error says where, and whether the broker may have executed it.
    ///
    /// The request is queued on its connection before this returns, so requests to one broker keep their order. An
    /// unknown coordinator is looked up first.
    pub(crate) fn send<R: Request>(&self, call: Call<R>) -> BoxFuture<'static, Result<R::Response>> {
        let driver = self.clone();
        let unknown = match &call.target {
            Target::Coordinator(key, kind) if self.known_coordinator(key, *kind).is_none() => {
                Some((Arc::clone(key), *kind))
            }
            Target::Coordinator(..) | Target::Any | Target::Controller | Target::Broker(_) => None,
        };
        if let Some((key, kind)) = unknown {
            let found = async move {
                let broker_id = driver.find_coordinator(&key, kind).await?;
                driver.send(Call { target: Target::Broker(broker_id), ..call }).await
            };
            return Box::pin(found) as BoxFuture<'static, Result<R::Response>>;
        }
        let asks_any = matches!(call.target, Target::Any);
        let sent = self.endpoint(&call.target).map(|endpoint| {
            let limit = asks_any.then(|| driver.patience(call.failures));
            let key = ConnectionKey { owner: call.owner, endpoint };
            (key, limit, driver.begin(endpoint, call))
        });
        Box::pin(async move {
            let (key, limit, answer) = sent?;
            let answer = match limit {
                Some(limit) => driver.answer_within(key, R::KEY, limit, answer).await,
                None => answer.await,
            };
            // What any broker could have answered says nothing about the leaders of partitions, and a metadata request
            // is repeated by its own rules.
            if let Err(error) = &answer
                && !asks_any
                && matches!(error.kind(), ErrorKind::Disconnected | ErrorKind::TimedOut(_))
            {
                driver.refresh_metadata();
            }
            answer
        })
    }

    /// The call with `request.timeout.ms` as an upper bound of its time limit.
    pub(crate) fn within_request_timeout<B>(&self, call: Call<B>) -> Call<B> {
        let longest = self.config().request_timeout;
        Call { timeout: Some(call.timeout.map_or(longest, |timeout| timeout.min(longest))), ..call }
    }

    /// The newest version of an API that both sides support; connects if necessary.
    pub(crate) async fn api_version(&self, broker_id: i32, owner: Owner, key: ApiKey) -> Result<i16> {
        let (reply, answer) = oneshot::channel();
        self.post(ConnectionKey { owner, endpoint: Endpoint::Broker(broker_id) }, Mail::Version(key, reply));
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    fn endpoint(&self, target: &Target) -> Result<Endpoint> {
        let mut state = self.shared.lock();
        let metadata = state.refresh.metadata();
        let known = match target {
            Target::Broker(id) => Some(*id),
            Target::Controller => metadata.controller_id,
            Target::Coordinator(key, kind) => state.coordinators.get(key, *kind),
            Target::Any => None,
        };
        if let Some(id) = known {
            return Ok(Endpoint::Broker(id));
        }
        state.any_endpoint().ok_or_else(|| Error::new(ErrorKind::Config, "bootstrap.servers is empty"))
    }

    fn begin<R: Request>(
        &self,
        endpoint: Endpoint,
        call: Call<R>,
    ) -> impl Future<Output = Result<R::Response>> + Send + 'static + use<R> {
        let (reply, answer) = oneshot::channel();
        let key = ConnectionKey { owner: call.owner, endpoint };
        let (is_answered, may_fail_early) = (call.is_answered, call.may_fail_early && !R::KEY.changes_the_cluster());
        let request_timeout = self.shared.config.request_timeout;
        let limit = call.timeout.unwrap_or(request_timeout);
        let mail = Mail::Request(Outgoing {
            request: Box::new(call.body),
            options: SendOptions {
                min_version: call.min_version,
                max_version: call.max_version,
                is_answered,
                limit,
                may_fail_early,
            },
            is_repeated: false,
            reply,
        });
        let mailbox = self.post(key, mail);
        let place = Place { broker_id: key.broker_id(), ..Place::default() };
        async move {
            // The connection task is gone without an answer, so nobody knows what became of the request.
            let answer = answer.await.unwrap_or_else(|_| Err(closed().with_written(Written::Maybe)));
            let answer = answer.map_err(|error| match error.kind() {
                // Any other limit is the caller's own, and has another name.
                ErrorKind::TimedOut(Phase::Request) if limit == request_timeout => {
                    error.with_hint("if the broker is slow, raise request.timeout.ms")
                }
                _ => error,
            })?;
            if !is_answered {
                return Ok(R::Response::default());
            }
            let response = decode::<R>(answer, place)?;
            if response.throttle_time_ms() > 0 {
                drop(mailbox.send(Mail::Throttle(response.throttle_time_ms())));
            }
            Ok(response)
        }
    }

    /// Puts a message into a connection's mailbox; opens the connection if there is none.
    fn post(&self, key: ConnectionKey, mail: Mail) -> mpsc::UnboundedSender<Mail> {
        let mut state = self.shared.lock();
        let mail = match state.connections.get(&key) {
            Some(mailbox) => match mailbox.send(mail) {
                Ok(()) => return mailbox.clone(),
                Err(mpsc::error::SendError(mail)) => mail,
            },
            None => mail,
        };
        let (mailbox, receiver) = mpsc::unbounded_channel();
        drop(mailbox.send(mail));
        state.connections.insert(key, mailbox.clone());
        drop(state);
        self.runtime.spawn(connection::run(Arc::clone(&self.shared), key, receiver));
        mailbox
    }

    /// Closes the connections of an owner that no longer exists.
    pub(crate) fn close_connections(&self, owner: Owner) {
        self.shared.lock().connections.retain(|key, _| key.owner != owner);
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the client was closed")
}

fn decode<R: Request>(answer: Answer, place: Place) -> Result<R::Response> {
    let api = Some((R::KEY.name(), answer.version));
    R::Response::decode_exact(answer.version, answer.body).map_err(|error| {
        let error = Error::from(error).at(Place { api, ..place });
        // The broker may well have executed the request; only its response cannot be read.
        if R::KEY == ApiKey::Produce { error.with_written(Written::Maybe) } else { error }
    })
}
