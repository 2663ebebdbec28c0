//! The cluster and its connections: frames in, frames out, strictly in order.
//!
//! As in Kafka, a broker works on one request of a connection at a time. A fetch that waits for records blocks the
//! later requests on its own connection, and nothing else.
//!
//! Like every machine: after a `handle_*`, call [`Cluster::poll_event`] until it returns `None`, and call
//! [`Cluster::handle_timeout`] at [`Cluster::poll_timeout`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use kavka_core::time::Instant;
use kavka_core::wire::Decoder;
use kavka_core::wire::api::{ApiKey, RequestHeader};
use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::message::Message;
use kavka_core::wire::messages::ApiVersionsResponse;

use crate::KafkaVersion;
use crate::apis::{self, Context, Outcome};
use crate::configs;
use crate::faults::{Candidate, Faults, Mishap, Then};
use crate::sasl::{Admission, Sasl};
use crate::state::State;
use crate::waits::{Wait, Wake};

/// One connection of a client to one broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// The settings of a cluster. With the defaults it is a single broker for trying things out.
#[derive(Debug, Clone)]
pub struct ClusterConfig {
    /// The Kafka to be, with what that version has and no more. Default: the newest.
    pub kafka_version: KafkaVersion,
    /// The number of brokers; their ids start at 1. Default: 1.
    pub brokers: u16,
    /// The cluster id that clients see. Default: `kavka-broker`.
    pub cluster_id: String,
    /// The host in the brokers' advertised addresses. Default: 127.0.0.1.
    pub host: String,
    /// The number of partitions of a topic created without one (Kafka: `num.partitions`). Default: 1.
    pub default_partitions: i32,
    /// The replication factor of a topic created without one, at most the number of brokers (Kafka:
    /// `default.replication.factor`). Default: 1.
    pub default_replication_factor: i16,
    /// Whether asking for an unknown topic creates it (Kafka: `auto.create.topics.enable`). Default: true.
    pub auto_create_topics: bool,
    /// The largest batch, in bytes, of a topic without its own limit (Kafka: `message.max.bytes`). Default: 1,048,588.
    pub message_max_bytes: usize,
    /// The size of a partition, in bytes, above which its oldest batches are deleted, for a topic without its own limit
    /// (Kafka: `log.retention.bytes`). Default: `None`, which keeps everything in memory.
    pub max_partition_bytes: Option<u64>,
    /// The largest number of fetch sessions (Kafka: `max.incremental.fetch.session.cache.slots`). Default: 1,000.
    pub max_fetch_sessions: usize,
    /// The wall-clock time at `Instant(0)`, in milliseconds since 1970. Default: 0.
    pub wall_clock_ms: i64,
    /// The seed of topic ids and session ids. Default: 0.
    pub seed: u64,
    /// Who may use the cluster. Default: `None`, which is everybody, without authentication.
    pub sasl: Option<Sasl>,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            kafka_version: KafkaVersion::default(),
            brokers: 1,
            cluster_id: "kavka-broker".to_owned(),
            host: "127.0.0.1".to_owned(),
            default_partitions: 1,
            default_replication_factor: 1,
            auto_create_topics: true,
            message_max_bytes: 1_048_588,
            max_partition_bytes: None,
            max_fetch_sessions: 1_000,
            wall_clock_ms: 0,
            seed: 0,
            sasl: None,
        }
    }
}

/// What the owner of the sockets must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Send this frame.
    Response {
        /// The connection to send it on.
        connection: ConnectionId,
        /// The frame, including its size; the segments need not be joined.
        segments: Vec<Bytes>,
    },
    /// Close the connection. The cluster has forgotten it.
    Close {
        /// The connection to close.
        connection: ConnectionId,
    },
}

/// A request that is not answered yet.
#[derive(Debug)]
struct Current {
    header: RequestHeader,
    then: Then,
    wait: Wait,
}

#[derive(Debug)]
struct Connection {
    broker_id: i32,
    queue: VecDeque<Bytes>,
    current: Option<Current>,
}

/// A Kafka cluster in memory, without I/O.
#[derive(Debug)]
pub struct Cluster {
    state: State,
    faults: Faults,
    connections: BTreeMap<ConnectionId, Connection>,
    next_connection: u64,
    /// Connections whose next request can be handled.
    ready: VecDeque<ConnectionId>,
    /// When to check a connection again; it may already be answered by then.
    timers: BTreeSet<(Instant, ConnectionId)>,
    events: VecDeque<Event>,
    requests: BTreeMap<ApiKey, u64>,
}

impl Cluster {
    /// A cluster without topics.
    pub fn new(config: ClusterConfig) -> Self {
        Self {
            state: State::new(config),
            faults: Faults::default(),
            connections: BTreeMap::new(),
            next_connection: 0,
            ready: VecDeque::new(),
            timers: BTreeSet::new(),
            events: VecDeque::new(),
            requests: BTreeMap::new(),
        }
    }

    /// Opens a connection. `None` if the broker does not exist or is stopped.
    pub fn handle_connect(&mut self, broker_id: i32) -> Option<ConnectionId> {
        if !self.state.is_up(broker_id) {
            return None;
        }
        let connection = ConnectionId(self.next_connection);
        self.next_connection = self.next_connection.wrapping_add(1);
        self.connections.insert(connection, Connection { broker_id, queue: VecDeque::new(), current: None });
        if let Some(authentication) = &mut self.state.authentication {
            authentication.handle_connect(connection);
        }
        Some(connection)
    }

    /// Takes a frame, without its size. A frame for a closed connection is dropped.
    pub fn handle_frame(&mut self, now: Instant, connection: ConnectionId, frame: Bytes) {
        let Some(known) = self.connections.get_mut(&connection) else { return };
        known.queue.push_back(frame);
        self.ready.push_back(connection);
        self.settle(now);
    }

    /// Notes that the client has closed the connection.
    pub fn handle_disconnect(&mut self, connection: ConnectionId) {
        if self.connections.remove(&connection).is_some() {
            self.state.forget_connection(connection);
        }
    }

    /// Handles what is due; call it at [`poll_timeout`](Self::poll_timeout).
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((due, connection)) = self.timers.first().copied().filter(|(due, _)| *due <= now) {
            self.timers.remove(&(due, connection));
            let current = self.connections.get_mut(&connection).and_then(|known| known.current.as_mut());
            match current.map(|current| &mut current.wait) {
                Some(Wait::Until(until, segments)) if *until <= now => {
                    let segments = std::mem::take(segments);
                    self.send(connection, segments);
                }
                Some(Wait::Records(_)) => self.state.wakes.look_again([connection]),
                _ => {}
            }
        }
        let State { groups, topics, wakes, .. } = &mut self.state;
        groups.handle_timeout(now, topics, wakes);
        self.settle(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) must be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let timers = self.timers.first().map(|(due, _)| *due);
        timers.into_iter().chain(self.state.groups.poll_timeout()).min()
    }

    /// How many requests of a connection are not answered. If there are many, stop reading from it for a while.
    pub fn backlog(&self, connection: ConnectionId) -> usize {
        let backlog = |known: &Connection| known.queue.len().saturating_add(known.current.is_some().into());
        self.connections.get(&connection).map_or(0, backlog)
    }

    /// The next frame to send or connection to close, in order; call it until it returns `None`.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Handles requests until none can make progress.
    fn settle(&mut self, now: Instant) {
        loop {
            if let Some((connection, wake)) = self.state.wakes.pop() {
                self.wake(now, connection, wake);
            } else if let Some(connection) = self.ready.pop_front() {
                self.begin(now, connection);
            } else {
                return;
            }
        }
    }

    /// Ends a request's wait, unless it waits for something else: a fault may have changed its response.
    fn wake(&mut self, now: Instant, connection: ConnectionId, wake: Wake) {
        let current = self.connections.get_mut(&connection).and_then(|known| known.current.as_mut());
        match (current.map(|current| &mut current.wait), wake) {
            (Some(Wait::Records(waiting)), Wake::LookAgain) => {
                if let Some(response) = waiting.answer(&mut self.state, now) {
                    self.answer(now, connection, &response);
                }
            }
            (Some(Wait::Join), Wake::Join(response)) => self.answer(now, connection, &response),
            (Some(Wait::Sync), Wake::Sync(response)) => self.answer(now, connection, &response),
            _ => {}
        }
    }

    /// Starts the next request of a connection, unless it is busy.
    fn begin(&mut self, now: Instant, connection: ConnectionId) {
        let Some(known) = self.connections.get_mut(&connection).filter(|known| known.current.is_none()) else { return };
        let Some(frame) = known.queue.pop_front() else { return };
        let broker_id = known.broker_id;
        if let Some(authentication) = &self.state.authentication {
            if !authentication.allows(connection, frame.len()) {
                return self.close(connection);
            }
            if authentication.expects_raw_token(connection) {
                return self.answer_raw_token(now, connection, &frame);
            }
        }
        let mut decoder = Decoder::from(frame);
        let Ok(header) = RequestHeader::decode(&mut decoder) else { return self.ignore(connection) };
        let requests = self.requests.entry(header.key).or_default();
        *requests = requests.saturating_add(1);
        if !apis::speaks(self.state.config.kafka_version, &header) {
            return self.refuse_version(connection, header);
        }
        let client_id = header.client_id.as_deref();
        let mut mishap = self.faults.strike(&Candidate { api: header.key, broker_id, connection, client_id });
        if let Some(authentication) = &mut self.state.authentication {
            match authentication.admit(now, connection, header.key) {
                Admission::Handle => {}
                Admission::Refuse(error_code) => mishap = Mishap { then: Then::Fail(error_code), is_applied: false },
                Admission::Close => return self.close(connection),
            }
        }
        let context = Context { now, connection, broker_id, header };
        let outcome = apis::dispatch(&mut self.state, &context, mishap, decoder.into_rest());
        let Context { header, .. } = context;
        let then = mishap.then;
        match outcome {
            None | Some(Outcome::Close) => self.close(connection),
            Some(Outcome::Respond(segments)) => self.respond(now, connection, header, then, segments),
            Some(Outcome::Nothing) => self.respond(now, connection, header, then, Vec::new()),
            Some(Outcome::Wait(wait)) => self.occupy(connection, Current { header, then, wait }),
        }
    }

    /// Takes a SASL token that is not in a request. If it is refused, the connection is closed without an answer.
    fn answer_raw_token(&mut self, now: Instant, connection: ConnectionId, token: &[u8]) {
        let reply = self.state.handle_sasl_token(now, connection, token);
        match i32::try_from(reply.token.len()) {
            Ok(size) if reply.error_code == ErrorCode::NONE => {
                self.send(connection, vec![Bytes::copy_from_slice(&size.to_be_bytes()), reply.token.into()]);
            }
            _ => self.close(connection),
        }
    }

    fn occupy(&mut self, connection: ConnectionId, current: Current) {
        self.timers.extend(current.wait.deadline().map(|deadline| (deadline, connection)));
        if let Some(known) = self.connections.get_mut(&connection) {
            known.current = Some(current);
        }
    }

    /// An unknown request: Kafka 0.9 does not answer it, all others close the connection.
    fn ignore(&mut self, connection: ConnectionId) {
        match self.state.config.kafka_version {
            KafkaVersion::V0_9 => self.ready.push_back(connection),
            _ => self.close(connection),
        }
    }

    /// An unsupported version: `ApiVersions` is answered with an error, from Kafka 2.4 on also with the supported
    /// versions (KIP-511); any other request is unknown.
    fn refuse_version(&mut self, connection: ConnectionId, mut header: RequestHeader) {
        let kafka_version = self.state.config.kafka_version;
        if header.key != ApiKey::ApiVersions || kafka_version.versions(ApiKey::ApiVersions).is_none() {
            return self.ignore(connection);
        }
        header.version = 0;
        let error_code = ErrorCode::UNSUPPORTED_VERSION;
        let api_keys = if kafka_version < KafkaVersion::V2_8 { Vec::new() } else { apis::own_versions(kafka_version) };
        let response = ApiVersionsResponse { error_code, api_keys, ..Default::default() };
        match apis::frame(&header, &response) {
            Some(segments) => self.send(connection, segments),
            None => self.close(connection),
        }
    }

    /// Encodes and sends the response to a request that waited.
    fn answer<M: Message>(&mut self, now: Instant, connection: ConnectionId, response: &M) {
        let current = self.connections.get_mut(&connection).and_then(|known| known.current.take());
        let Some(Current { header, then, .. }) = current else { return };
        match apis::frame(&header, response) {
            Some(segments) => self.respond(now, connection, header, then, segments),
            None => self.close(connection),
        }
    }

    /// Sends a response, unless a fault changes that.
    fn respond(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        header: RequestHeader,
        then: Then,
        segments: Vec<Bytes>,
    ) {
        let wait = match then {
            Then::Answer | Then::Fail(_) => return self.send(connection, segments),
            Then::Close => return self.close(connection),
            Then::Silence => Wait::Forever,
            Then::Delay(delay) => Wait::Until(now + delay, segments),
        };
        self.occupy(connection, Current { header, then, wait });
    }

    /// Sends a frame, if it is not empty, and lets the connection's next request start.
    fn send(&mut self, connection: ConnectionId, segments: Vec<Bytes>) {
        let Some(known) = self.connections.get_mut(&connection) else { return };
        known.current = None;
        if !segments.is_empty() {
            self.events.push_back(Event::Response { connection, segments });
        }
        if self.state.authentication.as_ref().is_some_and(|authentication| authentication.is_refused(connection)) {
            return self.close(connection);
        }
        self.ready.push_back(connection);
    }

    fn close(&mut self, connection: ConnectionId) {
        self.handle_disconnect(connection);
        self.events.push_back(Event::Close { connection });
    }
}

/// What tests, the simulator and the command do to a cluster, without the protocol.
impl Cluster {
    /// The faults to inject.
    pub fn faults(&mut self) -> &mut Faults {
        &mut self.faults
    }

    /// Removes all faults, and closes the connections on which one swallowed a request: no broker answers a request
    /// after it has left out an earlier one of the same connection.
    pub fn heal(&mut self) {
        self.faults.clear();
        let is_dead = |known: &Connection| matches!(&known.current, Some(Current { wait: Wait::Forever, .. }));
        let dead = self.connections.iter().filter(|(_, known)| is_dead(known)).map(|(connection, _)| *connection);
        for connection in dead.collect::<Vec<_>>() {
            self.close(connection);
        }
    }

    /// The id of each broker, and whether it is up.
    pub fn brokers(&self) -> impl Iterator<Item = (i32, bool)> {
        self.state.brokers.values().map(|broker| (broker.id, broker.is_up))
    }

    /// Sets a broker's advertised port.
    pub fn set_port(&mut self, broker_id: i32, port: u16) {
        if let Some(broker) = self.state.brokers.get_mut(&broker_id) {
            broker.port = port;
        }
    }

    /// Sets a user's password, if the cluster has SASL. Connections that are authenticated stay so.
    pub fn set_password(&mut self, user: &str, password: &str) {
        if let Some(authentication) = &mut self.state.authentication {
            authentication.set_password(user, password);
        }
    }

    /// Creates a topic.
    ///
    /// Errors are those of `CreateTopics`.
    pub fn create_topic(&mut self, name: &str, partitions: i32, replication_factor: i16) -> Result<(), ErrorCode> {
        self.state.check_topic_name(name).map_err(|(error_code, _)| error_code)?;
        let assignment =
            self.state.assign(Some(partitions), Some(replication_factor)).map_err(|(error_code, _)| error_code)?;
        self.state.create_topic(name, assignment, BTreeMap::new());
        Ok(())
    }

    /// Adds a partition to a topic.
    ///
    /// Errors are those of `CreatePartitions`.
    pub fn add_partition(&mut self, topic: &str) -> Result<(), ErrorCode> {
        let first = self.state.topic(topic).and_then(|topic| topic.partitions.first());
        let replicas = first.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?.replicas.clone();
        self.state.add_partitions(topic, vec![replicas]);
        Ok(())
    }

    /// Deletes a topic. Returns whether it existed.
    pub fn delete_topic(&mut self, now: Instant, name: &str) -> bool {
        let was_there = self.state.delete_topic(name);
        self.settle(now);
        was_there
    }

    /// The name and number of partitions of each topic.
    pub fn topics(&self) -> impl Iterator<Item = (&str, usize)> {
        self.state.topics.values().map(|topic| (&*topic.name, topic.partitions.len()))
    }

    /// The leader and leader epoch of a partition.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<(i32, i32)> {
        let partition = self.state.topic(topic)?.partition(partition)?;
        Some((partition.leader?, partition.leader_epoch))
    }

    /// Makes a broker the leader of a partition, in a new leader epoch. If it is not a replica, it replaces the old
    /// leader as one.
    ///
    /// Errors: `UNKNOWN_TOPIC_OR_PARTITION`; `BROKER_NOT_AVAILABLE` if the broker does not exist or is stopped.
    pub fn move_leader(&mut self, now: Instant, topic: &str, partition: i32, broker_id: i32) -> Result<(), ErrorCode> {
        self.state.move_leader(topic, partition, broker_id)?;
        self.settle(now);
        Ok(())
    }

    /// Stops a broker: closes its connections; its partitions move to the next living replica, or have no leader.
    pub fn set_broker_down(&mut self, now: Instant, broker_id: i32) {
        self.state.set_broker_up(broker_id, false);
        self.close_connections(broker_id);
        self.settle(now);
    }

    /// Starts a stopped broker. It leads its partitions that have no leader.
    pub fn set_broker_up(&mut self, now: Instant, broker_id: i32) {
        self.state.set_broker_up(broker_id, true);
        self.settle(now);
    }

    /// From now on the metadata of a broker is what it is at this moment, except that it lacks the topic `hidden`.
    pub fn begin_lag(&mut self, broker_id: i32, hidden: Option<&str>) {
        let mut snapshot = apis::metadata::snapshot(&self.state);
        snapshot.topics.retain(|topic| hidden.is_none() || topic.name.as_deref() != hidden);
        self.state.lagging.insert(broker_id, snapshot);
    }

    /// The broker does not lag behind any more.
    pub fn end_lag(&mut self, broker_id: i32) {
        self.state.lagging.remove(&broker_id);
    }

    /// Replaces all brokers by those of another version of Kafka, which closes all connections. The logs stay as they
    /// are, so both versions must have the same format.
    pub fn change_version(&mut self, now: Instant, kafka_version: KafkaVersion) {
        self.state.config.kafka_version = kafka_version;
        for broker_id in self.state.brokers.keys().copied().collect::<Vec<_>>() {
            self.close_connections(broker_id);
        }
        self.settle(now);
    }

    /// Closes all connections to a broker.
    pub fn close_connections(&mut self, broker_id: i32) {
        let is_there = |(id, known): (&ConnectionId, &Connection)| (known.broker_id == broker_id).then_some(*id);
        let there: Vec<_> = self.connections.iter().filter_map(is_there).collect();
        for connection in there {
            self.close(connection);
        }
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// How many requests of an API have arrived so far.
    pub fn requests(&self, api: ApiKey) -> u64 {
        self.requests.get(&api).copied().unwrap_or(0)
    }

    /// The log start offset and log end offset of a partition.
    pub fn offsets(&self, topic: &str, partition: i32) -> Option<(i64, i64)> {
        let log = &self.state.topic(topic)?.partition(partition)?.log;
        Some((log.log_start_offset(), log.log_end_offset()))
    }

    /// All batches of a partition, as a reader gets them: what is really in the log.
    pub fn batches(&self, topic: &str, partition: i32) -> Vec<Bytes> {
        let partition = self.state.topic(topic).and_then(|topic| topic.partition(partition));
        partition.into_iter().flat_map(|partition| partition.log.batches()).collect()
    }

    /// Appends a batch of another log unchanged, with its offsets, as a follower does. So a log can have gaps, as after
    /// compaction, and transactions.
    ///
    /// Errors: `UNKNOWN_TOPIC_OR_PARTITION`; `CORRUPT_MESSAGE` if it is not a record batch.
    pub fn replicate(&mut self, now: Instant, topic: &str, partition: i32, batch: Bytes) -> Result<(), ErrorCode> {
        self.state.replicate(topic, partition, batch)?;
        self.settle(now);
        Ok(())
    }

    /// Sets a topic setting, as `IncrementalAlterConfigs` does.
    ///
    /// Errors: `UNKNOWN_TOPIC_OR_PARTITION`; `INVALID_CONFIG` if the setting does not exist or cannot have this value.
    pub fn set_topic_config(&mut self, topic: &str, name: &str, value: &str) -> Result<(), ErrorCode> {
        let topic = self.state.topics.get_mut(topic).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        configs::find(configs::TOPIC, name)
            .and_then(|setting| setting.check(value))
            .map_err(|(error_code, _)| error_code)?;
        topic.configs.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    /// Sets a setting of a group, as `IncrementalAlterConfigs` does; the group need not exist.
    ///
    /// Errors: `INVALID_CONFIG` if the setting does not exist, cannot have this value, or does not fit the others.
    pub fn set_group_config(&mut self, group_id: &str, name: &str, value: &str) -> Result<(), ErrorCode> {
        let mut set = self.state.groups.configs(group_id).clone();
        set.insert(name.to_owned(), value.to_owned());
        configs::find(configs::GROUP, name)
            .and_then(|setting| setting.check(value))
            .and_then(|()| configs::check_group(&set))
            .map_err(|(error_code, _)| error_code)?;
        *self.state.groups.configs_mut(group_id) = set;
        Ok(())
    }

    /// The committed offset of a group for a partition.
    pub fn committed_offset(&self, group_id: &str, topic: &str, partition: i32) -> Option<i64> {
        let offsets = self.state.groups.get(group_id)?.offsets();
        offsets.get(&(topic.into(), partition)).map(|committed| committed.offset)
    }

    /// Raises the log start offset of a partition, as `DeleteRecords` and retention do.
    pub fn delete_records(&mut self, topic: &str, partition: i32, before_offset: i64) -> Result<(), ErrorCode> {
        let partition = self.state.partition_mut(topic, partition).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        partition.log.delete_records(before_offset);
        Ok(())
    }

    /// Truncates a log in a new leader epoch, as an unclean leader election does. The batch that holds `end_offset` is
    /// lost as a whole.
    pub fn truncate(&mut self, now: Instant, topic: &str, partition: i32, end_offset: i64) -> Result<(), ErrorCode> {
        self.state.truncate(topic, partition, end_offset)?;
        self.settle(now);
        Ok(())
    }
}
