//! The state of the cluster: its brokers, topics and leaders.
//!
//! The API handlers read and change it. Of connections it knows only which of them wait for a partition. A new leader
//! bumps the leader epoch, and wakes them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use kavka_core::time::Instant;
use kavka_core::wire::Uuid;
use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::messages::MetadataResponse;
use kavka_core::wire::records::{self, Decompressor, Format};

use crate::groups::Groups;
use crate::log::Log;
use crate::producers::Producers;
use crate::sasl::{Authentication, Reply};
use crate::sessions::Sessions;
use crate::waits::Wakes;
use crate::{ClusterConfig, ConnectionId};

/// The longest topic name, in bytes.
const MAX_TOPIC_NAME: usize = 249;
/// The most partitions that one request may create.
const MAX_PARTITIONS: i32 = 100_000;

/// One broker of the cluster.
#[derive(Debug, Clone)]
pub(crate) struct Broker {
    pub(crate) id: i32,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) is_up: bool,
}

/// One partition.
#[derive(Debug, Default)]
pub(crate) struct Partition {
    pub(crate) leader: Option<i32>,
    pub(crate) leader_epoch: i32,
    pub(crate) replicas: Vec<i32>,
    pub(crate) log: Log,
    pub(crate) producers: Producers,
    /// Connections with a fetch that waits for this partition. Some may no longer wait.
    pub(crate) waiters: BTreeSet<ConnectionId>,
}

/// A topic; the index of a partition is its number.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: Arc<str>,
    pub(crate) topic_id: Uuid,
    pub(crate) partitions: Vec<Partition>,
    /// The settings that were set for this topic, by Kafka's names.
    pub(crate) configs: BTreeMap<String, String>,
}

impl Topic {
    pub(crate) fn partition(&self, index: i32) -> Option<&Partition> {
        self.partitions.get(usize::try_from(index).ok()?)
    }

    pub(crate) fn partition_mut(&mut self, index: i32) -> Option<&mut Partition> {
        self.partitions.get_mut(usize::try_from(index).ok()?)
    }
}

/// The cluster without its connections.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) config: ClusterConfig,
    pub(crate) brokers: BTreeMap<i32, Broker>,
    pub(crate) topics: BTreeMap<Arc<str>, Topic>,
    pub(crate) topic_names: BTreeMap<Uuid, Arc<str>>,
    /// The brokers that lag behind, and the metadata that they still believe in.
    pub(crate) lagging: BTreeMap<i32, MetadataResponse>,
    pub(crate) sessions: Sessions,
    pub(crate) groups: Groups,
    /// `None` if anybody may use the cluster.
    pub(crate) authentication: Option<Authentication>,
    pub(crate) next_producer_id: i64,
    pub(crate) decompressor: Decompressor,
    /// Connections whose waiting request must be checked.
    pub(crate) wakes: Wakes,
    random: u64,
}

impl State {
    pub(crate) fn new(config: ClusterConfig) -> Self {
        let brokers = (1..=i32::from(config.brokers.max(1)))
            .map(|id| {
                (id, Broker { id, host: config.host.clone(), port: 9091_u16.saturating_add(id as u16), is_up: true })
            })
            .collect();
        let sessions = Sessions::new(config.max_fetch_sessions);
        Self {
            random: config.seed,
            authentication: config.sasl.clone().map(|sasl| Authentication::new(sasl.of(config.kafka_version))),
            config,
            brokers,
            topics: BTreeMap::new(),
            topic_names: BTreeMap::new(),
            lagging: BTreeMap::new(),
            sessions,
            groups: Groups::default(),
            next_producer_id: 0,
            decompressor: Decompressor::new(),
            wakes: Wakes::default(),
        }
    }

    /// The next number of a fixed sequence (splitmix64): ids look random, but are the same in every run.
    pub(crate) fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn new_topic_id(&mut self) -> Uuid {
        let mut id = [0; 16];
        let (high, low) = id.split_at_mut(8);
        high.copy_from_slice(&self.random().to_be_bytes());
        low.copy_from_slice(&self.random().to_be_bytes());
        Uuid(id)
    }

    /// The wall-clock time, in milliseconds since 1970.
    pub(crate) fn wall_clock_ms(&self, now: Instant) -> i64 {
        self.config.wall_clock_ms.saturating_add(i64::try_from(now.0).unwrap_or(i64::MAX))
    }

    pub(crate) fn alive(&self) -> impl Iterator<Item = &Broker> {
        self.brokers.values().filter(|broker| broker.is_up)
    }

    pub(crate) fn is_up(&self, broker_id: i32) -> bool {
        self.brokers.get(&broker_id).is_some_and(|broker| broker.is_up)
    }

    /// How many replicas of a partition are up.
    pub(crate) fn in_sync_replicas(&self, topic: &str, index: i32) -> usize {
        let replicas = self.topic(topic).and_then(|topic| topic.partition(index)).map(|partition| &partition.replicas);
        replicas.into_iter().flatten().filter(|id| self.is_up(**id)).count()
    }

    /// The broker with the lowest id among those that are up.
    pub(crate) fn controller(&self) -> Option<i32> {
        self.alive().next().map(|broker| broker.id)
    }

    /// The broker that coordinates a group; stays the same while it is up.
    pub(crate) fn coordinator(&self, key: &str) -> Option<&Broker> {
        let hash = key.bytes().fold(0_usize, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
        let home = hash.checked_rem(self.brokers.len())?;
        self.brokers.values().cycle().skip(home).take(self.brokers.len()).find(|broker| broker.is_up)
    }

    pub(crate) fn topic(&self, name: &str) -> Option<&Topic> {
        self.topics.get(name)
    }

    pub(crate) fn topic_by_id(&self, topic_id: Uuid) -> Option<&Topic> {
        self.topics.get(self.topic_names.get(&topic_id)?)
    }

    pub(crate) fn partition_mut(&mut self, topic: &str, index: i32) -> Option<&mut Partition> {
        self.topics.get_mut(topic)?.partition_mut(index)
    }

    /// The partition, if `broker_id` leads it and the request's leader epoch (KIP-320) is current.
    pub(crate) fn led_by(
        &mut self,
        broker_id: i32,
        topic: &str,
        index: i32,
        current_leader_epoch: Option<i32>,
    ) -> Result<&mut Partition, ErrorCode> {
        let partition = self.partition_mut(topic, index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        partition.check_leader(broker_id, current_leader_epoch)?;
        Ok(partition)
    }

    /// Whether a topic with this name can be created.
    pub(crate) fn check_topic_name(&self, name: &str) -> Result<(), (ErrorCode, &'static str)> {
        let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || name == "." || name == ".." || name.len() > MAX_TOPIC_NAME || !name.chars().all(is_legal)
        {
            let why = "a topic name has 1 to 249 ASCII letters, digits, '.', '_' and '-', and is not \".\" or \"..\"";
            return Err((ErrorCode::INVALID_TOPIC_EXCEPTION, why));
        }
        if self.topics.contains_key(name) {
            return Err((ErrorCode::TOPIC_ALREADY_EXISTS, "the topic exists"));
        }
        if self.topics.keys().any(|other| other.replace('.', "_") == name.replace('.', "_")) {
            let why = "a topic exists whose name differs only in '.' and '_'";
            return Err((ErrorCode::INVALID_TOPIC_EXCEPTION, why));
        }
        Ok(())
    }

    /// Assigns replicas to new partitions; uses the defaults for what is not given.
    pub(crate) fn assign(
        &self,
        partitions: Option<i32>,
        replication_factor: Option<i16>,
    ) -> Result<Vec<Vec<i32>>, (ErrorCode, &'static str)> {
        let ids: Vec<i32> = self.alive().map(|broker| broker.id).collect();
        let partitions = partitions.unwrap_or(self.config.default_partitions);
        // The default is lowered to what is possible; an explicit number must be possible.
        let replicas = match replication_factor {
            None => usize::try_from(self.config.default_replication_factor).unwrap_or(1).clamp(1, ids.len().max(1)),
            Some(factor) => usize::try_from(factor).unwrap_or(0),
        };
        let why = "the replication factor must be at least 1 and at most the number of living brokers";
        if replicas == 0 {
            return Err((ErrorCode::INVALID_REPLICATION_FACTOR, why));
        }
        if !(1..=MAX_PARTITIONS).contains(&partitions) {
            return Err((ErrorCode::INVALID_PARTITIONS, "the number of partitions must be at least 1"));
        }
        if replicas > ids.len() {
            return Err((ErrorCode::INVALID_REPLICATION_FACTOR, why));
        }
        let assign = |partition: i32| ids.iter().copied().cycle().skip(partition as usize % ids.len()).take(replicas);
        Ok((0..partitions).map(|partition| assign(partition).collect()).collect())
    }

    /// Creates a topic that was checked, with these replicas for each partition.
    pub(crate) fn create_topic(
        &mut self,
        name: &str,
        assignment: Vec<Vec<i32>>,
        configs: BTreeMap<String, String>,
    ) -> Uuid {
        let topic_id = self.new_topic_id();
        let name: Arc<str> = name.into();
        let partitions = assignment.into_iter().map(|replicas| self.new_partition(replicas)).collect();
        self.topics.insert(name.clone(), Topic { name: name.clone(), topic_id, partitions, configs });
        self.topic_names.insert(topic_id, name);
        topic_id
    }

    fn new_partition(&self, replicas: Vec<i32>) -> Partition {
        let leader = replicas.iter().copied().find(|id| self.is_up(*id));
        let mut partition = Partition { leader, replicas, ..Partition::default() };
        partition.log.begin_epoch(0);
        partition
    }

    /// Adds partitions with these replicas.
    pub(crate) fn add_partitions(&mut self, topic: &str, assignment: Vec<Vec<i32>>) {
        let mut partitions: Vec<_> = assignment.into_iter().map(|replicas| self.new_partition(replicas)).collect();
        if let Some(topic) = self.topics.get_mut(topic) {
            topic.partitions.append(&mut partitions);
        }
    }

    /// Deletes a topic and its committed offsets. Returns whether it existed.
    pub(crate) fn delete_topic(&mut self, name: &str) -> bool {
        let Some(topic) = self.topics.remove(name) else { return false };
        self.topic_names.remove(&topic.topic_id);
        self.groups.forget_topic(name, self.config.kafka_version);
        for partition in topic.partitions {
            self.wakes.look_again(partition.waiters);
        }
        true
    }

    /// Makes a broker the leader of a partition, in a new epoch. If it is not a replica, it becomes one.
    pub(crate) fn move_leader(&mut self, topic: &str, index: i32, broker_id: i32) -> Result<(), ErrorCode> {
        if !self.is_up(broker_id) {
            return Err(ErrorCode::BROKER_NOT_AVAILABLE);
        }
        let partition = self.partition_mut(topic, index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        if !partition.replicas.contains(&broker_id) {
            let leader = partition.leader;
            match partition.replicas.iter_mut().find(|replica| Some(**replica) == leader) {
                Some(replica) => *replica = broker_id,
                None => partition.replicas.push(broker_id),
            }
        }
        partition.elect(Some(broker_id));
        let waiters = std::mem::take(&mut partition.waiters);
        self.wakes.look_again(waiters);
        Ok(())
    }

    /// Appends a batch of another log unchanged, with its offsets, in the current leader epoch.
    ///
    /// Errors: `UNKNOWN_TOPIC_OR_PARTITION`; `CORRUPT_MESSAGE` if `bytes` is not a batch, or the log holds none.
    pub(crate) fn replicate(&mut self, topic: &str, index: i32, bytes: Bytes) -> Result<(), ErrorCode> {
        let format = self.config.kafka_version.format();
        let partition = self.partition_mut(topic, index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        let batch = records::batches(bytes).next().and_then(Result::ok);
        let batch = batch.filter(|batch| [batch.header().format, format] == [Format::V2; 2]);
        let batch = batch.ok_or(ErrorCode::CORRUPT_MESSAGE)?;
        partition.log.replicate(&batch, partition.leader_epoch);
        let waiters = std::mem::take(&mut partition.waiters);
        self.wakes.look_again(waiters);
        Ok(())
    }

    /// Truncates a log in a new leader epoch.
    pub(crate) fn truncate(&mut self, topic: &str, index: i32, end_offset: i64) -> Result<(), ErrorCode> {
        let partition = self.partition_mut(topic, index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        partition.log.truncate(end_offset);
        partition.producers.truncate(end_offset);
        partition.elect(partition.leader);
        let waiters = std::mem::take(&mut partition.waiters);
        self.wakes.look_again(waiters);
        Ok(())
    }

    /// Stops or starts a broker. A stopped broker's partitions move to the next living replica, or have no leader.
    pub(crate) fn set_broker_up(&mut self, broker_id: i32, is_up: bool) {
        let Some(broker) = self.brokers.get_mut(&broker_id).filter(|broker| broker.is_up != is_up) else { return };
        broker.is_up = is_up;
        self.sessions.forget_broker(broker_id);
        let alive: BTreeSet<i32> = self.alive().map(|broker| broker.id).collect();
        for partition in self.topics.values_mut().flat_map(|topic| &mut topic.partitions) {
            let leader = partition.leader.filter(|id| alive.contains(id));
            if leader.is_some() && leader == partition.leader {
                continue;
            }
            let next = partition.replicas.iter().copied().find(|id| alive.contains(id));
            if next != partition.leader {
                partition.elect(next);
                self.wakes.look_again(std::mem::take(&mut partition.waiters));
            }
        }
    }

    /// Forgets a connection and all that it waits for.
    pub(crate) fn forget_connection(&mut self, connection: ConnectionId) {
        for partition in self.topics.values_mut().flat_map(|topic| &mut topic.partitions) {
            partition.waiters.remove(&connection);
        }
        self.wakes.forget(connection);
        self.groups.forget_connection(connection);
        if let Some(authentication) = &mut self.authentication {
            authentication.forget_connection(connection);
        }
    }

    /// Takes a client's SASL token.
    pub(crate) fn handle_sasl_token(&mut self, now: Instant, connection: ConnectionId, token: &[u8]) -> Reply {
        let (random, wall_clock_ms) = ([self.random(), self.random()], self.wall_clock_ms(now));
        match &mut self.authentication {
            Some(authentication) => authentication.handle_token(now, wall_clock_ms, connection, token, random),
            None => Reply { error_code: ErrorCode::ILLEGAL_SASL_STATE, ..Reply::default() },
        }
    }
}

impl Partition {
    fn elect(&mut self, leader: Option<i32>) {
        self.leader = leader;
        self.leader_epoch = self.leader_epoch.saturating_add(1);
        if leader.is_some() {
            self.log.begin_epoch(self.leader_epoch);
        }
    }

    /// Checks that the request's leader epoch (KIP-320) is the current one.
    pub(crate) fn check_epoch(&self, current_leader_epoch: Option<i32>) -> Result<(), ErrorCode> {
        match current_leader_epoch {
            Some(epoch) if epoch < self.leader_epoch => Err(ErrorCode::FENCED_LEADER_EPOCH),
            Some(epoch) if epoch > self.leader_epoch => Err(ErrorCode::UNKNOWN_LEADER_EPOCH),
            _ => Ok(()),
        }
    }

    /// As in Kafka's replica manager, a broker without a replica knows no epochs.
    pub(crate) fn check_leader(&self, broker_id: i32, current_leader_epoch: Option<i32>) -> Result<(), ErrorCode> {
        if !self.replicas.contains(&broker_id) {
            return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        self.check_epoch(current_leader_epoch)?;
        if self.leader == Some(broker_id) { Ok(()) } else { Err(ErrorCode::NOT_LEADER_OR_FOLLOWER) }
    }
}
