//! `Produce` v3-13: appends record batches.
//!
//! All replicas share one log, so every replica has a write at once. Still, `acks=all` is refused while fewer replicas
//! than `min.insync.replicas` are up. v0-2 are advertised, because librdkafka needs that, but refused, as in Kafka 4.
//! From v10 on the response names new leaders (KIP-951).
//!
//! Not here: transactions, recompression, checks of single records and of timestamps.

use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::messages::produce::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionProduceData, PartitionProduceResponse, TopicProduceData,
    TopicProduceResponse,
};
use kavka_core::wire::messages::{ProduceRequest, ProduceResponse};
use kavka_core::wire::records::{self, Format, RawBatch, Records};

use super::{Answer, Context, Handle};
use crate::configs;
use crate::log;
use crate::producers::Verdict;
use crate::state::State;

impl Handle for ProduceRequest {
    fn handle(self, state: &mut State, context: &Context) -> Answer<ProduceResponse> {
        if let Err(error_code) = check(&self, context.version()) {
            return if self.acks == 0 { Answer::Close } else { self.refuse(error_code).into() };
        }
        let mut response = ProduceResponse::default();
        for topic in self.topic_data {
            let TopicProduceData { name, topic_id, partition_data } = topic;
            let known = if context.version() >= 13 {
                state.topic_by_id(topic_id).map(|topic| topic.name.to_string()).ok_or(ErrorCode::UNKNOWN_TOPIC_ID)
            } else {
                Ok(name.clone())
            };
            let append = |data: PartitionProduceData| {
                let index = data.index;
                let appended = known.clone().map_err(Refusal::from);
                let appended = appended.and_then(|name| append(state, context, &name, data, self.acks));
                answer(index, appended)
            };
            let partition_responses = partition_data.into_iter().map(append).collect();
            if let (Ok(name), 10..) = (known, context.version()) {
                let topic = TopicProduceResponse { name: name.clone(), topic_id, partition_responses };
                response.responses.push(name_leaders(state, &name, topic, &mut response.node_endpoints));
            } else {
                response.responses.push(TopicProduceResponse { name, topic_id, partition_responses });
            }
        }
        if self.acks != 0 {
            return response.into();
        }
        let partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
        let is_failed = partitions.into_iter().any(|partition| partition.error_code != ErrorCode::NONE);
        // With `acks=0` there is no response to carry the error, so Kafka closes the connection.
        if is_failed { Answer::Close } else { Answer::Nothing }
    }

    fn refuse(&self, error_code: ErrorCode) -> ProduceResponse {
        let refuse = |data: &PartitionProduceData| answer(data.index, Err(Refusal::from(error_code)));
        let refuse = |topic: &TopicProduceData| TopicProduceResponse {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partition_responses: topic.partition_data.iter().map(refuse).collect(),
        };
        ProduceResponse { responses: self.topic_data.iter().map(refuse).collect(), ..ProduceResponse::default() }
    }
}

/// An error of the whole request.
fn check(request: &ProduceRequest, version: i16) -> Result<(), ErrorCode> {
    if version < 3 {
        return Err(ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT);
    }
    if request.transactional_id.is_some() {
        return Err(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
    }
    if !(-1..=1).contains(&request.acks) {
        return Err(ErrorCode::INVALID_REQUIRED_ACKS);
    }
    Ok(())
}

/// Why a batch was not appended.
struct Refusal {
    error_code: ErrorCode,
    message: Option<&'static str>,
}

impl From<ErrorCode> for Refusal {
    fn from(error_code: ErrorCode) -> Self {
        Self { error_code, message: None }
    }
}

impl From<(ErrorCode, &'static str)> for Refusal {
    fn from((error_code, message): (ErrorCode, &'static str)) -> Self {
        Self { error_code, message: Some(message) }
    }
}

/// The offsets and time of an appended batch.
struct Appended {
    base_offset: i64,
    log_append_time_ms: Option<i64>,
    log_start_offset: i64,
}

fn answer(index: i32, appended: Result<Appended, Refusal>) -> PartitionProduceResponse {
    match appended {
        Ok(appended) => PartitionProduceResponse {
            index,
            base_offset: appended.base_offset,
            log_append_time_ms: appended.log_append_time_ms,
            log_start_offset: Some(appended.log_start_offset),
            ..PartitionProduceResponse::default()
        },
        Err(refusal) => PartitionProduceResponse {
            index,
            error_code: refusal.error_code,
            base_offset: -1,
            error_message: refusal.message.map(str::to_owned),
            ..PartitionProduceResponse::default()
        },
    }
}

/// The single batch of magic 2 that a produce request must have for each partition.
fn only_batch(records: Option<Records>) -> Result<RawBatch, Refusal> {
    let mut batches = records::batches(records.unwrap_or_default().into_bytes());
    let batch = match batches.next() {
        Some(Ok(batch)) if batch.header().format == Format::V2 => batch,
        Some(_) => return Err((ErrorCode::INVALID_RECORD, "there is no record batch of magic 2").into()),
        None => return Err((ErrorCode::INVALID_RECORD, "there is no whole record batch").into()),
    };
    if batches.next().is_some() || batches.truncated() {
        return Err((ErrorCode::INVALID_RECORD, "there is more than one record batch").into());
    }
    Ok(batch)
}

fn append(
    state: &mut State,
    context: &Context,
    name: &str,
    data: PartitionProduceData,
    acks: i16,
) -> Result<Appended, Refusal> {
    let rules = TopicRules::of(state, name);
    let wall_clock_ms = state.wall_clock_ms(context.now);
    let in_sync = state.in_sync_replicas(name, data.index);
    let partition = state.led_by(context.broker_id, name, data.index, None)?;
    // A partition with fewer replicas than `min.insync.replicas` needs all of them (KIP-966).
    if acks == -1 && in_sync < rules.min_insync_replicas.min(partition.replicas.len()) {
        return Err(ErrorCode::NOT_ENOUGH_REPLICAS.into());
    }
    let mut batch = only_batch(data.records)?;
    log::check(&batch, rules.max_message_bytes)?;
    let record_count = batch.header().record_count;
    let log_start_offset = partition.log.log_start_offset();
    let log_append_time_ms = rules.is_log_append_time.then_some(wall_clock_ms);
    if let Some(stamp) = batch.header().producer
        && let Verdict::Duplicate(base_offset) = partition.producers.check(stamp, record_count)?
    {
        return Ok(Appended { base_offset, log_append_time_ms, log_start_offset });
    }
    if let Some(timestamp_ms) = log_append_time_ms {
        batch = with_log_append_time(&batch, timestamp_ms)?;
    }
    let base_offset = partition.log.append(&batch, partition.leader_epoch);
    if let Some(stamp) = batch.header().producer {
        partition.producers.appended(stamp, record_count, base_offset);
    }
    if let Some(retention_bytes) = rules.retention_bytes {
        partition.log.retain_bytes(retention_bytes);
    }
    let log_start_offset = partition.log.log_start_offset();
    let waiters = std::mem::take(&mut partition.waiters);
    state.wakes.look_again(waiters);
    Ok(Appended { base_offset, log_append_time_ms, log_start_offset })
}

fn with_log_append_time(batch: &RawBatch, timestamp_ms: i64) -> Result<RawBatch, Refusal> {
    let mut bytes = batch.bytes().to_vec();
    records::set_log_append_time(&mut bytes, timestamp_ms);
    only_batch(Some(Records::from_segments(vec![bytes.into()])))
}

/// The topic settings that concern writes.
struct TopicRules {
    is_log_append_time: bool,
    max_message_bytes: usize,
    min_insync_replicas: usize,
    retention_bytes: Option<u64>,
}

impl TopicRules {
    fn of(state: &State, name: &str) -> Self {
        let config = |key| state.topic(name).and_then(|topic| topic.configs.get(key)).map(String::as_str);
        Self {
            is_log_append_time: config(configs::MESSAGE_TIMESTAMP_TYPE) == Some("LogAppendTime"),
            max_message_bytes: config(configs::MAX_MESSAGE_BYTES)
                .and_then(|value| value.parse().ok())
                .unwrap_or(state.config.message_max_bytes),
            min_insync_replicas: config(configs::MIN_INSYNC_REPLICAS).and_then(|value| value.parse().ok()).unwrap_or(1),
            retention_bytes: config(configs::RETENTION_BYTES)
                .map_or(state.config.max_partition_bytes, |value| value.parse().ok()),
        }
    }
}

/// Names the leaders to a client that asked the wrong broker (KIP-951).
fn name_leaders(
    state: &State,
    name: &str,
    mut topic: TopicProduceResponse,
    endpoints: &mut Vec<NodeEndpoint>,
) -> TopicProduceResponse {
    for answer in &mut topic.partition_responses {
        if answer.error_code != ErrorCode::NOT_LEADER_OR_FOLLOWER {
            continue;
        }
        let Some(partition) = state.topic(name).and_then(|topic| topic.partition(answer.index)) else { continue };
        answer.current_leader =
            LeaderIdAndEpoch { leader_id: partition.leader, leader_epoch: Some(partition.leader_epoch) };
        let leader = partition.leader.and_then(|id| state.brokers.get(&id));
        if let Some(leader) = leader.filter(|leader| endpoints.iter().all(|endpoint| endpoint.node_id != leader.id)) {
            let (node_id, host, port) = (leader.id, leader.host.clone(), leader.port.into());
            endpoints.push(NodeEndpoint { node_id, host, port, rack: None });
        }
    }
    topic
}
