//! `Fetch` v0-18: returns record batches from given offsets on.
//!
//! A fetch waits for `min_bytes`, for at most `max_wait_ms`, unless one of its partitions has an error. The first
//! partition with records returns at least one batch, whatever the limits. Up to v2 a partition's limit is strict: what
//! does not fit is cut off, even the first batch; Kafka 3.9 returns nothing of that. What is stored in a format that
//! the version does not have is converted, up to v1 to magic 0, up to v3 to magic 1. These work as in Kafka: fetch
//! sessions (KIP-227), topic ids (v13, KIP-516), leader epochs (KIP-320), truncation (v12, KIP-595), new leaders in the
//! response (v16, KIP-951), and reading from any replica (v11, KIP-392).
//!
//! With `read_committed` it reads up to the last stable offset, and lists the aborted transactions.
//!
//! Not here: preferred replicas, requests of other brokers.

use std::sync::Arc;
use std::time::Duration;

use kavka_core::time::Instant;
use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::messages::fetch::{
    EpochEndOffset, FetchTopic, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use kavka_core::wire::messages::{FetchRequest, FetchResponse};
use kavka_core::wire::records::{Format, Records};

use super::{Answer, Context, Handle};
use crate::sessions::{Begun, SessionUse, TopicKey, Wanted};
use crate::state::{Partition, State};
use crate::waits::Wait;
use crate::{ConnectionId, KafkaVersion, formats};

/// The broker's `fetch.max.bytes`: the largest response, even if the client allows more.
const FETCH_MAX_BYTES: usize = 55 << 20;

/// The last version whose limits cut off the first batch, too (KIP-74).
const STRICT_LIMITS_UNTIL: i16 = 2;

/// The newest format that a version can carry.
fn format(version: i16) -> Format {
    match version {
        ..=1 => Format::V0,
        2..=3 => Format::V1,
        4.. => Format::V2,
    }
}

/// A fetch that waits for records.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) deadline: Instant,
    broker_id: i32,
    connection: ConnectionId,
    version: i16,
    min_bytes: usize,
    max_bytes: usize,
    is_read_committed: bool,
    session_use: SessionUse,
    wanted: Vec<Wanted>,
}

impl Handle for FetchRequest {
    fn handle(self, state: &mut State, context: &Context) -> Answer<FetchResponse> {
        let begun = match begin(&self, state, context) {
            Ok(begun) => begun,
            Err(error_code) => return self.refuse(error_code).into(),
        };
        let max_wait = Duration::from_millis(u64::try_from(self.max_wait_ms).unwrap_or(0));
        let mut waiting = Box::new(Waiting {
            deadline: context.now + max_wait,
            broker_id: context.broker_id,
            connection: context.connection,
            version: context.version(),
            min_bytes: usize::try_from(self.min_bytes).unwrap_or(0),
            max_bytes: usize::try_from(self.max_bytes).unwrap_or(0).min(FETCH_MAX_BYTES),
            is_read_committed: self.isolation_level == 1,
            session_use: begun.session_use,
            wanted: begun.wanted,
        });
        match waiting.answer(state, context.now) {
            Some(response) => response.into(),
            None => Answer::Wait(Wait::Records(waiting)),
        }
    }

    fn refuse(&self, error_code: ErrorCode) -> FetchResponse {
        FetchResponse { error_code, ..FetchResponse::default() }
    }
}

fn begin(request: &FetchRequest, state: &mut State, context: &Context) -> Result<Begun, ErrorCode> {
    let wanted = request.topics.iter().flat_map(wanted).collect();
    if context.version() < 7 {
        return Ok(Begun { session_use: SessionUse::None, wanted });
    }
    let forgotten: Vec<_> = request
        .forgotten_topics_data
        .iter()
        .flat_map(|topic| {
            let key = TopicKey { name: topic.topic.as_str().into(), topic_id: topic.topic_id };
            topic.partitions.iter().map(move |partition| (key.clone(), *partition))
        })
        .collect();
    let (session_id, session_epoch) = (request.session_id, request.session_epoch);
    let uses_topic_ids = context.version() >= 13;
    state.sessions.begin(context.broker_id, session_id, session_epoch, uses_topic_ids, wanted, &forgotten)
}

fn wanted(topic: &FetchTopic) -> impl Iterator<Item = Wanted> {
    let key = TopicKey { name: topic.topic.as_str().into(), topic_id: topic.topic_id };
    topic.partitions.iter().map(move |partition| Wanted {
        topic: key.clone(),
        partition: partition.partition,
        current_leader_epoch: partition.current_leader_epoch,
        last_fetched_epoch: partition.last_fetched_epoch,
        fetch_offset: partition.fetch_offset,
        max_bytes: partition.partition_max_bytes,
    })
}

impl Waiting {
    /// The response, if there is enough to return or the time is over.
    pub(crate) fn answer(&mut self, state: &mut State, now: Instant) -> Option<FetchResponse> {
        let mut left = self.max_bytes;
        let mut bytes = 0_usize;
        let mut is_wrong = false;
        let mut answered = Vec::with_capacity(self.wanted.len());
        for wanted in &self.wanted {
            let must_get_one = bytes == 0 || self.version <= STRICT_LIMITS_UNTIL;
            let data = self.read(state, wanted, left, must_get_one);
            let read = data.records.as_ref().map_or(0, Records::len);
            left = left.saturating_sub(read);
            bytes = bytes.saturating_add(read);
            is_wrong |= data.error_code != ErrorCode::NONE || data.diverging_epoch.epoch.is_some();
            answered.push(data);
        }
        let is_due = bytes >= self.min_bytes || is_wrong || now >= self.deadline || self.wanted.is_empty();
        if !is_due {
            self.wait_for_partitions(state);
            return None;
        }
        let wanted = std::mem::take(&mut self.wanted);
        Some(self.respond(state, wanted.into_iter().zip(answered).collect()))
    }

    fn wait_for_partitions(&self, state: &mut State) {
        for wanted in &self.wanted {
            let partition = topic_name(state, self.version, &wanted.topic)
                .and_then(|name| state.partition_mut(&name, wanted.partition));
            if let Some(partition) = partition {
                partition.waiters.insert(self.connection);
            }
        }
    }

    fn read(&self, state: &State, wanted: &Wanted, left: usize, at_least_one: bool) -> PartitionData {
        let limit = usize::try_from(wanted.max_bytes).unwrap_or(0).min(left);
        let read = self.find(state, wanted).and_then(|partition| {
            let mut data = PartitionData {
                partition_index: wanted.partition,
                high_watermark: partition.log.log_end_offset(),
                last_stable_offset: Some(partition.log.last_stable_offset()),
                log_start_offset: Some(partition.log.log_start_offset()),
                aborted_transactions: self.is_read_committed.then(Vec::new),
                records: Some(Records::default()),
                ..PartitionData::default()
            };
            if let Some(diverging_epoch) = diverging(partition, wanted)? {
                data.diverging_epoch = diverging_epoch;
                return Ok(data);
            }
            let log = &partition.log;
            let up_to = if self.is_read_committed { log.last_stable_offset() } else { log.log_end_offset() };
            let (records, next_offset) = log.read(wanted.fetch_offset, up_to, limit, at_least_one)?;
            data.records = Some(records);
            if self.is_read_committed {
                data.aborted_transactions = Some(log.aborted_transactions(wanted.fetch_offset, next_offset));
            }
            Ok(data)
        });
        read.unwrap_or_else(|error_code| PartitionData {
            partition_index: wanted.partition,
            error_code,
            high_watermark: -1,
            records: Some(Records::default()),
            ..PartitionData::default()
        })
    }

    fn find<'a>(&self, state: &'a State, wanted: &Wanted) -> Result<&'a Partition, ErrorCode> {
        let topic = if self.version >= 13 {
            state.topic_by_id(wanted.topic.topic_id).ok_or(ErrorCode::UNKNOWN_TOPIC_ID)?
        } else {
            state.topic(&wanted.topic.name).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?
        };
        let partition = topic.partition(wanted.partition).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        match partition.check_leader(self.broker_id, wanted.current_leader_epoch) {
            Err(ErrorCode::NOT_LEADER_OR_FOLLOWER)
                if self.version >= 11 && partition.replicas.contains(&self.broker_id) => {}
            checked => checked?,
        }
        Ok(partition)
    }

    fn respond(&self, state: &mut State, mut answered: Vec<(Wanted, PartitionData)>) -> FetchResponse {
        let mut response = FetchResponse::default();
        match self.session_use {
            SessionUse::None => {}
            SessionUse::Full => {
                let new_id = ((state.random() >> 33) as i32).max(1);
                response.session_id = state.sessions.open(self.broker_id, new_id, self.version >= 13, &answered);
            }
            SessionUse::Incremental { session_id } => {
                state.sessions.retain_news(self.broker_id, session_id, &mut answered);
                response.session_id = session_id;
            }
        }
        for (wanted, mut data) in answered {
            self.fit(state.config.kafka_version, &wanted, &mut data);
            if self.version >= 16 {
                self.name_leader(state, &wanted, &mut data, &mut response.node_endpoints);
            }
            match response.responses.last_mut() {
                Some(topic) if topic.topic_id == wanted.topic.topic_id && *topic.topic == *wanted.topic.name => {
                    topic.partitions.push(data);
                }
                _ => response.responses.push(FetchableTopicResponse {
                    topic: wanted.topic.name.to_string(),
                    topic_id: wanted.topic.topic_id,
                    partitions: vec![data],
                }),
            }
        }
        response
    }

    /// Converts the records to a format that the client can read, and cuts off what does not fit.
    fn fit(&self, kafka_version: KafkaVersion, wanted: &Wanted, data: &mut PartitionData) {
        let format = format(self.version);
        if format < kafka_version.format() {
            let records = data.records.take().unwrap_or_default();
            data.records = match formats::downgrade(records, format, wanted.fetch_offset, kafka_version) {
                Ok(records) => Some(records),
                Err(error_code) => {
                    (data.error_code, data.high_watermark) = (error_code, -1);
                    Some(Records::default())
                }
            };
        }
        let limit = usize::try_from(wanted.max_bytes).unwrap_or(0);
        if self.version <= STRICT_LIMITS_UNTIL && data.records.as_ref().is_some_and(|records| records.len() > limit) {
            let kept = if kafka_version < KafkaVersion::V3_9 { limit } else { 0 };
            data.records = data.records.take().map(|records| records.into_bytes().slice(..kept).into());
        }
    }

    /// Names the leader to a client that asked the wrong broker (KIP-951).
    fn name_leader(&self, state: &State, wanted: &Wanted, data: &mut PartitionData, endpoints: &mut Vec<NodeEndpoint>) {
        if !matches!(data.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER | ErrorCode::FENCED_LEADER_EPOCH) {
            return;
        }
        let topic = topic_name(state, self.version, &wanted.topic).and_then(|name| state.topics.get(&name));
        let Some(partition) = topic.and_then(|topic| topic.partition(wanted.partition)) else { return };
        data.current_leader =
            LeaderIdAndEpoch { leader_id: partition.leader, leader_epoch: Some(partition.leader_epoch) };
        let leader = partition.leader.and_then(|id| state.brokers.get(&id));
        if let Some(leader) = leader.filter(|leader| endpoints.iter().all(|endpoint| endpoint.node_id != leader.id)) {
            let (node_id, host, port) = (leader.id, leader.host.clone(), leader.port.into());
            endpoints.push(NodeEndpoint { node_id, host, port, rack: None });
        }
    }
}

fn topic_name(state: &State, version: i16, key: &TopicKey) -> Option<Arc<str>> {
    if version >= 13 { state.topic_names.get(&key.topic_id).cloned() } else { Some(key.name.clone()) }
}

/// Where the client's log diverges from this one, if the last epoch that the client fetched ended before its offset.
fn diverging(partition: &Partition, wanted: &Wanted) -> Result<Option<EpochEndOffset>, ErrorCode> {
    let Some(last_fetched_epoch) = wanted.last_fetched_epoch else { return Ok(None) };
    let Some((epoch, end_offset)) = partition.log.epoch_end(last_fetched_epoch) else {
        return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
    };
    let is_diverging = epoch < last_fetched_epoch || end_offset < wanted.fetch_offset;
    Ok(is_diverging.then_some(EpochEndOffset { epoch: Some(epoch), end_offset: Some(end_offset) }))
}
