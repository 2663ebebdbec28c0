//! What the shell of a real client does, over the simulated network: connections, time limits, and passing requests and
//! responses between connections and machines. The rules of the protocol are not here.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use kavka_broker::Sasl;
use kavka_core::cluster::{
    BootstrapServer, Broker, Endpoint, Metadata, MetadataRefresh, Notice, RefreshConfig, Route, Target,
};
use kavka_core::error::{Error, ErrorKind, Phase, Place, Result};
use kavka_core::link::sasl::Credentials;
use kavka_core::link::{Answer, Connection, ConnectionConfig, Greeting, ReadPool, RequestId, SendOptions};
use kavka_core::secret::Secret;
use kavka_core::time::Instant;
use kavka_core::wire::ApiKey;
use kavka_core::wire::message::Message;
use kavka_core::wire::messages::{FetchResponse, ProduceResponse};

use crate::adapter::{
    Ask, Asker, BACKOFF, ConsumerMachine, Lane, MachineEvent, ProducerMachine, Question, Reply, answer_metadata,
    ask_metadata,
};
use crate::network::{Arrival, LinkId, Network};
use crate::trace::{FaultKind, Trace};

const SET_UP_TIMEOUT: Duration = Duration::from_secs(2);
const USER: &str = "alice";
const PASSWORD: &str = "a secret";

/// Broker 1, which is also the bootstrap server, has the port after this one, and so on.
const PORT_BASE: u16 = 9_091;

/// A connection: its lane and its broker.
type Whereto = (Lane, Endpoint);

#[derive(Debug)]
enum Stage {
    /// The broker was unreachable; it is not dialled before this time.
    Waiting(Instant),
    Dialling {
        link: LinkId,
        deadline: Instant,
    },
    Connected {
        link: LinkId,
        deadline: Instant,
        connection: Box<Connection>,
    },
}

/// A connection, or the attempt to open one, with its requests.
#[derive(Debug)]
struct Session {
    stage: Stage,
    /// Requests that wait for the handshake, with their deadlines.
    queue: VecDeque<(Instant, Ask)>,
    /// Requests in flight, by their number on the connection.
    sent: BTreeMap<u64, (Asker, u64)>,
}

/// The machines of one client.
pub(crate) trait Machines {
    fn handle_metadata(&mut self, now: Instant, metadata: &Arc<Metadata>);

    /// The next request of any machine.
    fn ask(&mut self, now: Instant) -> Option<Ask>;

    fn answer(&mut self, now: Instant, asker: Asker, id: u64, reply: Result<Reply>);

    /// A broker whose address an answer has named.
    fn named(&mut self) -> Option<Broker> {
        None
    }

    /// The next event of any machine.
    fn poll_event(&mut self) -> Option<MachineEvent>;

    fn poll_timeout(&self) -> Option<Instant>;
}

/// One producer machine with its handles, and one consumer of given partitions.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) producer: ProducerMachine,
    pub(crate) consumer: ConsumerMachine,
}

impl Machines for Pair {
    fn handle_metadata(&mut self, now: Instant, metadata: &Arc<Metadata>) {
        self.producer.handle_metadata(now, metadata);
        self.consumer.handle_metadata(now, metadata);
    }

    fn ask(&mut self, now: Instant) -> Option<Ask> {
        self.producer.ask(now).or_else(|| self.consumer.ask(now))
    }

    fn answer(&mut self, now: Instant, asker: Asker, id: u64, reply: Result<Reply>) {
        match asker {
            Asker::Producer => self.producer.answer(now, id, reply),
            _ => self.consumer.answer(now, id, reply),
        }
    }

    fn poll_event(&mut self) -> Option<MachineEvent> {
        self.producer.poll_event().or_else(|| self.consumer.poll_event())
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.producer.poll_timeout().into_iter().chain(self.consumer.poll_timeout()).min()
    }
}

/// A client: its connections, its metadata and its machines.
#[derive(Debug)]
pub(crate) struct Client<M> {
    /// Tells the clients of one network apart.
    number: usize,
    refresh: MetadataRefresh,
    seen_version: Option<u64>,
    route: Route,
    sessions: BTreeMap<Whereto, Session>,
    by_link: BTreeMap<LinkId, Whereto>,
    next_request: u64,
    /// The leader epoch of each partition, by its topic's id.
    epochs: BTreeMap<([u8; 16], usize), Option<i32>>,
    /// The newest version of Fetch to use.
    fetch_version: i16,
    /// Whether it proves who it is.
    has_password: bool,
    pub(crate) machines: M,
    /// Events for the application.
    pub(crate) events: VecDeque<MachineEvent>,
}

/// The environment of a client: the time, the network and the trace.
#[derive(Debug)]
pub(crate) struct Surroundings<'a> {
    pub(crate) now: Instant,
    pub(crate) network: &'a mut Network,
    pub(crate) trace: &'a mut Trace,
}

impl<M: Machines> Client<M> {
    pub(crate) fn new(
        number: usize,
        machines: M,
        topics: &[&str],
        max_age: Duration,
        fetch_version: i16,
        seed: u64,
    ) -> Self {
        let mut refresh = MetadataRefresh::new(RefreshConfig { max_age, backoff: BACKOFF }, seed);
        for topic in topics {
            refresh.hold_topic((*topic).into());
        }
        let servers = vec![BootstrapServer { host: "127.0.0.1".into(), port: PORT_BASE + 1 }];
        Self {
            number,
            machines,
            refresh,
            seen_version: None,
            route: Route::new(servers, BACKOFF, seed),
            sessions: BTreeMap::new(),
            by_link: BTreeMap::new(),
            next_request: 0,
            epochs: BTreeMap::new(),
            fetch_version,
            has_password: false,
            events: VecDeque::new(),
        }
    }

    /// From now on it proves who it is, as brokers demand that [admit](admits) nobody else.
    pub(crate) fn with_password(self) -> Self {
        Self { has_password: true, ..self }
    }

    /// Handles what has reached the client's end of a link.
    pub(crate) fn handle_arrival(&mut self, around: &mut Surroundings<'_>, link: LinkId, arrival: Arrival) {
        let Some(whereto) = self.by_link.get(&link).copied() else { return };
        match arrival {
            Arrival::Dialled { is_accepted: true } => self.shake_hands(around, whereto, link),
            Arrival::Dialled { is_accepted: false } => {
                self.end(around, whereto, &Error::new(ErrorKind::Disconnected, "the broker cannot be reached"));
            }
            Arrival::ToClient(bytes) => self.read(around, whereto, bytes),
            Arrival::Broken | Arrival::ToBroker(_) | Arrival::Gone => {
                let error = match self.sessions.get(&whereto).map(|session| &session.stage) {
                    Some(Stage::Connected { connection, .. }) => connection.handle_closed(None),
                    _ => Error::new(ErrorKind::Disconnected, "the connection was closed by the broker"),
                };
                self.end(around, whereto, &error);
            }
        }
    }

    fn shake_hands(&mut self, around: &mut Surroundings<'_>, whereto: Whereto, link: LinkId) {
        let Some(session) = self.sessions.get_mut(&whereto) else { return };
        let deadline = around.now + SET_UP_TIMEOUT;
        let config = ConnectionConfig {
            client_id: "sim".to_owned(),
            max_response_bytes: 64 << 20,
            place: Place::default(),
            has_spoken: false,
            greeting: Greeting::default(),
            keeps_order: whereto.0 == Lane::Produce,
            authentication_limit: SET_UP_TIMEOUT,
            session_percent: 90,
        };
        let credentials = self.has_password.then(credentials);
        let connection = Connection::new(config, credentials, ReadPool::default()).expect("its first request fits");
        session.stage = Stage::Connected { link, deadline, connection: Box::new(connection) };
    }

    fn read(&mut self, around: &mut Surroundings<'_>, whereto: Whereto, mut bytes: Bytes) {
        let mut answers = Vec::new();
        let mut read = Ok(());
        if let Some(Session { stage: Stage::Connected { connection, .. }, .. }) = self.sessions.get_mut(&whereto) {
            while !bytes.is_empty() && read.is_ok() {
                let space = connection.space();
                let count = space.len().min(bytes.len());
                space[..count].copy_from_slice(&bytes.split_to(count));
                read = connection.handle_read(around.now, count, &mut answers);
            }
        }
        for answer in answers {
            self.route.handle_success(whereto.1);
            let session = self.sessions.get_mut(&whereto);
            let asked = session.and_then(|session| {
                if let Stage::Connected { connection, .. } = &mut session.stage {
                    connection.handle_throttle(around.now, throttle_time_ms(&answer));
                }
                session.sent.remove(&answer.id.0)
            });
            if let Some((asker, id)) = asked {
                self.answer(around, asker, id, Ok(Reply::Message(answer)));
            }
        }
        if let Err(error) = read {
            self.end(around, whereto, &error);
        }
    }

    /// Ends a connection, and fails its requests.
    fn end(&mut self, around: &mut Surroundings<'_>, whereto: Whereto, error: &Error) {
        let Some(mut session) = self.sessions.remove(&whereto) else { return };
        let mut failed = Vec::new();
        let link = match &mut session.stage {
            Stage::Waiting(_) => None,
            Stage::Dialling { link, .. } => Some(*link),
            Stage::Connected { link, connection, .. } => {
                failed = connection.fail_all(error);
                Some(*link)
            }
        };
        if let Some(link) = link {
            around.trace.say(around.now, format_args!("the client gives up link {}: {error}", link.0));
            self.by_link.remove(&link);
            around.network.close(around.now, link);
        }
        self.route.handle_failure(around.now, whereto.1);
        self.refresh.handle_possible_restart(around.now);
        for failed in failed {
            if let Some((asker, id)) = session.sent.remove(&failed.id.0) {
                self.answer(around, asker, id, Err(failed.error));
            }
        }
        for (_, ask) in session.queue {
            self.answer(around, ask.asker, ask.id, Err(error.clone()));
        }
    }

    fn answer(&mut self, around: &mut Surroundings<'_>, asker: Asker, id: u64, reply: Result<Reply>) {
        let now = around.now;
        match &reply {
            Ok(Reply::Message(Answer { key, .. })) => {
                around.trace.say(now, format_args!("{asker:?} has the answer to its {key:?} {id}"));
            }
            Ok(Reply::Versions { .. }) => around.trace.say(now, format_args!("{asker:?} knows a broker's versions")),
            Err(error) => around.trace.say(now, format_args!("{asker:?}'s request {id} failed: {error}")),
        }
        match asker {
            Asker::Metadata => answer_metadata(&mut self.refresh, now, reply),
            asker => {
                self.machines.answer(now, asker, id, reply);
                self.machines.named().map(|broker| self.refresh.handle_broker(broker));
            }
        }
    }

    /// Sends the machines' requests until they have no more.
    pub(crate) fn drive(&mut self, around: &mut Surroundings<'_>) {
        let now = around.now;
        self.expire(around);
        loop {
            let metadata = self.refresh.metadata().clone();
            if self.seen_version.replace(metadata.version) != Some(metadata.version) {
                self.check_epochs(&metadata);
                self.machines.handle_metadata(now, &metadata);
            }
            if let Some(ask) = ask_metadata(&mut self.refresh, now).or_else(|| self.machines.ask(now)) {
                self.enqueue(around, ask);
                continue;
            }
            let Some(event) = self.machines.poll_event() else { break };
            match event {
                MachineEvent::Notice(Notice::RefreshMetadata(outdated)) => self.refresh.request(outdated),
                MachineEvent::Notice(Notice::LeaderHints { hints, endpoints }) => {
                    self.refresh.handle_leader_hints(&hints, endpoints);
                }
                event => self.events.push_back(event),
            }
        }
        let all: Vec<Whereto> = self.sessions.keys().copied().collect();
        for whereto in all {
            self.advance(around, whereto);
        }
    }

    /// Checks that no leader is replaced by an earlier one.
    fn check_epochs(&mut self, metadata: &Metadata) {
        for topic in metadata.topics().filter(|topic| !topic.topic_id.is_zero()) {
            for (number, partition) in topic.partitions.iter().enumerate() {
                let known = self.epochs.entry((topic.topic_id.0, number)).or_default();
                let (name, new) = (&topic.name, partition.leader_epoch);
                assert!(
                    *known <= new,
                    "the client takes an old leader of {name}-{number} back: {new:?} after {known:?}"
                );
                *known = new;
            }
        }
    }

    fn enqueue(&mut self, around: &mut Surroundings<'_>, ask: Ask) {
        let endpoint = match ask.target {
            Target::Broker(id) => Endpoint::Broker(id),
            Target::Any | Target::Controller | Target::Coordinator(..) => {
                let sessions = &self.sessions;
                let is_connected = |endpoint| sessions.contains_key(&(Lane::Control, endpoint));
                self.route.any(self.refresh.metadata(), is_connected).expect("there is a bootstrap server")
            }
        };
        let whereto = (ask.lane, endpoint);
        let not_before = self.route.not_before(endpoint);
        let fresh = || Session { stage: Stage::Waiting(not_before), queue: VecDeque::new(), sent: BTreeMap::new() };
        let session = self.sessions.entry(whereto).or_insert_with(fresh);
        session.queue.push_back((around.now + ask.timeout, ask));
        self.advance(around, whereto);
    }

    /// Advances a connection: dials, authenticates, sends waiting requests, and writes.
    fn advance(&mut self, around: &mut Surroundings<'_>, whereto: Whereto) {
        let now = around.now;
        let Some(session) = self.sessions.get_mut(&whereto) else { return };
        if let Stage::Waiting(not_before) = session.stage {
            if not_before <= now {
                let Some((_, port)) = self.route.address(whereto.1, self.refresh.metadata()) else {
                    let error = Error::new(ErrorKind::Disconnected, "the broker is not known any more");
                    return self.end(around, whereto, &error);
                };
                let link = around.network.dial(now, self.number, i32::from(port - PORT_BASE));
                around.trace.say(now, format_args!("the client dials {whereto:?} over link {}", link.0));
                session.stage = Stage::Dialling { link, deadline: now + SET_UP_TIMEOUT };
                self.by_link.insert(link, whereto);
            }
            return;
        }
        let Stage::Connected { connection, .. } = &mut session.stage else { return };
        match authenticate(now, connection) {
            Err(error) => return self.end(around, whereto, &error),
            Ok(true) => {
                let sentence = format_args!("the client authenticates {whereto:?} again");
                around.trace.fault(now, FaultKind::Session, sentence);
            }
            Ok(false) => {}
        }
        if connection.is_ready() {
            self.send(around, whereto);
        }
        self.write(around, whereto);
    }

    fn send(&mut self, around: &mut Surroundings<'_>, whereto: Whereto) {
        while let Some(session) = self.sessions.get_mut(&whereto)
            && let Stage::Connected { connection, .. } = &mut session.stage
            && connection.throttled_until(around.now).is_none()
            && let Some((_, ask)) = session.queue.pop_front()
        {
            let Ask { asker, id, min_version, max_version, question, timeout, .. } = ask;
            let refused = match question {
                Question::Versions => {
                    let versions = connection.versions().expect("the handshake is done");
                    let choose = |key: ApiKey, last| versions.choose(key, (*key.versions().start(), last));
                    let fetch = choose(ApiKey::Fetch, self.fetch_version);
                    let list_offsets = choose(ApiKey::ListOffsets, i16::MAX);
                    let produce = choose(ApiKey::Produce, i16::MAX);
                    let known = |fetch| Ok(Reply::Versions { produce: produce?, fetch, list_offsets: list_offsets? });
                    Some(fetch.and_then(known))
                }
                Question::Request(request) => {
                    self.next_request += 1;
                    let number = self.next_request;
                    let is_fetch = request.key() == ApiKey::Fetch;
                    let max_version = if is_fetch { max_version.min(self.fetch_version) } else { max_version };
                    // Links are cut, and time limits pass, so often that checks of silent brokers would add nothing.
                    let may_fail_early = false;
                    let options =
                        SendOptions { min_version, max_version, is_answered: true, limit: timeout, may_fail_early };
                    match connection.send(around.now, RequestId(number), request.as_ref(), options) {
                        Ok(version) => {
                            let key = request.key();
                            session.sent.insert(number, (asker, id));
                            around.trace.say(
                                around.now,
                                format_args!("{asker:?} sends {key:?} v{version} {id} to {:?}", whereto.1),
                            );
                            None
                        }
                        Err(error) => Some(Err(error)),
                    }
                }
            };
            if let Some(reply) = refused {
                self.answer(around, asker, id, reply);
            }
        }
    }

    fn write(&mut self, around: &mut Surroundings<'_>, whereto: Whereto) {
        let Some(Session { stage: Stage::Connected { link, connection, .. }, .. }) = self.sessions.get_mut(&whereto)
        else {
            return;
        };
        let output: Vec<&[u8]> = connection.output().map(|segment| &**segment).collect();
        let mut bytes = Bytes::from(output.concat());
        if bytes.is_empty() {
            return;
        }
        bytes.truncate(around.network.accepts(around.trace, bytes.len()));
        connection.handle_written(around.now, bytes.len());
        around.network.write(around.now, around.trace, *link, bytes);
    }

    /// Ends connections that let a request wait too long, and set-ups that take too long.
    fn expire(&mut self, around: &mut Surroundings<'_>) {
        let now = around.now;
        let timed_out = |session: &Session| match &session.stage {
            Stage::Waiting(_) => None,
            Stage::Connected { connection, .. } if is_set_up(connection) => connection.handle_timeout(now),
            Stage::Dialling { deadline, .. } | Stage::Connected { deadline, .. } => (*deadline <= now)
                .then(|| Error::new(ErrorKind::TimedOut(Phase::Connect), "no answer while connecting")),
        };
        let ended: Vec<_> =
            self.sessions.iter().filter_map(|(whereto, session)| Some((*whereto, timed_out(session)?))).collect();
        for (whereto, error) in ended {
            self.end(around, whereto, &error);
        }
        // The client would leave the others' requests on the old connection. Here they fail, which is harder to bear.
        let mut expired = Vec::new();
        for (whereto, session) in &mut self.sessions {
            if let Stage::Connected { connection, .. } = &mut session.stage
                && let Some(failed) = connection.poll_expired(now)
            {
                expired.push((*whereto, session.sent.remove(&failed.id.0), failed.error));
            }
        }
        for (whereto, asked, error) in expired {
            if let Some((asker, id)) = asked {
                self.answer(around, asker, id, Err(error.clone()));
            }
            self.end(around, whereto, &error);
        }
        let mut late = Vec::new();
        for session in self.sessions.values_mut() {
            let (over, queue) = std::mem::take(&mut session.queue).into_iter().partition(|(until, _)| *until <= now);
            session.queue = queue;
            let over: VecDeque<(Instant, Ask)> = over;
            late.extend(over.into_iter().map(|(_, ask)| ask));
        }
        for ask in late {
            let error = Error::new(ErrorKind::TimedOut(Phase::Request), "the broker cannot be reached");
            self.answer(around, ask.asker, ask.id, Err(error));
        }
    }

    /// Whether this link belongs to the client.
    pub(crate) fn owns(&self, link: LinkId) -> bool {
        self.by_link.contains_key(&link)
    }

    /// Ends the process: closes its connections, and sends nothing more.
    pub(crate) fn kill(&mut self, around: &mut Surroundings<'_>) {
        self.sessions.clear();
        for (link, _) in std::mem::take(&mut self.by_link) {
            around.network.close(around.now, link);
        }
    }

    /// When to [`drive`](Self::drive) the client if nothing arrives before.
    pub(crate) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let sessions = self.sessions.values().flat_map(|session| {
            let stage = match &session.stage {
                Stage::Waiting(not_before) => Some(*not_before),
                Stage::Connected { connection, .. } if connection.has_output() => Some(Instant(now.0 + 1)),
                Stage::Connected { connection, .. } if is_set_up(connection) => {
                    let throttled = connection.throttled_until(now).filter(|_| !session.queue.is_empty());
                    connection.poll_timeout().into_iter().chain(throttled).min()
                }
                Stage::Dialling { deadline, .. } | Stage::Connected { deadline, .. } => Some(*deadline),
            };
            session.queue.iter().map(|(until, _)| *until).chain(stage)
        });
        let machines = [self.refresh.poll_timeout(), self.machines.poll_timeout()];
        sessions.chain(machines.into_iter().flatten()).min()
    }
}

/// What brokers demand that let nobody in but our clients, and end every session after this time (KIP-368).
pub(crate) fn admits(max_session: Duration) -> Sasl {
    let passwords = [(USER.to_owned(), PASSWORD.to_owned())].into();
    Sasl { passwords, max_session: Some(max_session), ..Sasl::default() }
}

fn credentials() -> Credentials {
    Credentials::Plain { username: USER.to_owned(), password: Secret::new(PASSWORD) }
}

/// Whether the first handshake is done; the connection may be authenticating itself again.
fn is_set_up(connection: &Connection) -> bool {
    connection.versions().is_some()
}

/// Goes on with the authentication. Returns whether the connection begins to authenticate itself again.
fn authenticate(now: Instant, connection: &mut Connection) -> Result<bool> {
    let begins = connection.poll_reauthentication(now);
    if begins {
        connection.reauthenticate(now, credentials())?;
    }
    while let Some(work) = connection.poll_work() {
        connection.handle_worked(now, work.run())?;
    }
    Ok(begins)
}

/// How long the client must send nothing on the connection, in milliseconds (KIP-219).
fn throttle_time_ms(answer: &Answer) -> i32 {
    let (version, body) = (answer.version, answer.body.clone());
    let time = match answer.key {
        ApiKey::Produce => ProduceResponse::decode_exact(version, body).map(|response| response.throttle_time_ms),
        ApiKey::Fetch => FetchResponse::decode_exact(version, body).map(|response| response.throttle_time_ms),
        _ => Ok(0),
    };
    time.unwrap_or(0)
}

impl Client<Pair> {
    /// Opens one more handle of the producer.
    pub(crate) fn open_handle(&mut self, now: Instant) {
        self.machines.producer.open(now, self.refresh.metadata());
    }
}
