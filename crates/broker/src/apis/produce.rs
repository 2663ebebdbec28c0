//! `Produce` v0-13: appends record batches and, up to v2, message sets, which are converted to the format of the log.
//!
//! All replicas share one log, so every replica has a write at once. Still, `acks=all` is refused while fewer replicas
//! than `min.insync.replicas` are up. Kafka 4 advertises v0-2, because librdkafka needs that, but refuses them.
//! From v10 on the response names new leaders (KIP-951).
//!
//! Not here: transactions, recompression, checks of single records and of timestamps; that Kafka 0.8.2 waits for more
//! than one acknowledgement, and keeps messages of magic 1 as they are.

use bytes::Bytes;
use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::messages::produce::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionProduceData, PartitionProduceResponse, TopicProduceData,
    TopicProduceResponse,
};
use kavka_core::wire::messages::{ProduceRequest, ProduceResponse};
use kavka_core::wire::records::{self, CompressionType, Format, RawBatch};

use super::{Answer, Context, Handle};
use crate::configs;
use crate::producers::Verdict;
use crate::state::{Partition, State};
use crate::{KafkaVersion, formats, log};

/// The first version that carries record batches.
const BATCHES_SINCE: i16 = 3;
/// The first version that may carry zstd (KIP-110).
const ZSTD_SINCE: i16 = 7;

impl Handle for ProduceRequest {
    fn handle(self, state: &mut State, context: &Context) -> Answer<ProduceResponse> {
        if let Err(error_code) = check(&self, state.config.kafka_version, context.version()) {
            return if self.acks == 0 { Answer::Close } else { self.refuse(error_code).into() };
        }
        let kafka_version = state.config.kafka_version;
        if kafka_version < KafkaVersion::V2_1 && context.version() >= BATCHES_SINCE && !has_only_batches(&self) {
            // It notices while it reads the request.
            return Answer::Close;
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
                let appended = appended.map_err(|refusal| refusal.of(kafka_version));
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
fn check(request: &ProduceRequest, kafka_version: KafkaVersion, version: i16) -> Result<(), ErrorCode> {
    if version < BATCHES_SINCE && kafka_version >= KafkaVersion::V4_4 {
        return Err(ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT);
    }
    if request.transactional_id.is_some() {
        return Err(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
    }
    Ok(())
}

/// Whether there is a single batch of magic 2 for each partition.
fn has_only_batches(request: &ProduceRequest) -> bool {
    let mut partitions = request.topic_data.iter().flat_map(|topic| &topic.partition_data);
    partitions.all(|data| only_batch(data.records.clone().unwrap_or_default().into_bytes()).is_ok())
}

/// Why a batch was not appended.
struct Refusal {
    error_code: ErrorCode,
    message: Option<&'static str>,
    /// Told with what the log itself refuses.
    log_start_offset: Option<i64>,
}

impl From<ErrorCode> for Refusal {
    fn from(error_code: ErrorCode) -> Self {
        Self { error_code, message: None, log_start_offset: None }
    }
}

impl From<(ErrorCode, &'static str)> for Refusal {
    fn from((error_code, message): (ErrorCode, &'static str)) -> Self {
        Self { error_code, message: Some(message), log_start_offset: None }
    }
}

impl Refusal {
    /// `INVALID_RECORD` came with Kafka 2.4.
    fn of(mut self, kafka_version: KafkaVersion) -> Self {
        if self.error_code == ErrorCode::INVALID_RECORD && kafka_version < KafkaVersion::V2_8 {
            self.error_code = ErrorCode::CORRUPT_MESSAGE;
        }
        self
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
            log_start_offset: refusal.log_start_offset,
            error_message: refusal.message.map(str::to_owned),
            ..PartitionProduceResponse::default()
        },
    }
}

/// The single batch of magic 2 that a produce request must have for each partition.
fn only_batch(records: Bytes) -> Result<RawBatch, Refusal> {
    let mut batches = records::batches(records);
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
    let kafka_version = state.config.kafka_version;
    let wall_clock_ms = state.wall_clock_ms(context.now);
    let in_sync = state.in_sync_replicas(name, data.index);
    let sent = data.records.unwrap_or_default().into_bytes();
    let is_known = state.partition_mut(name, data.index).is_some();
    // Whether it leads the partition, it asks only when it appends.
    if is_known && !(-1..=1).contains(&acks) && kafka_version >= KafkaVersion::V0_9 {
        // A broker looks at the records before that.
        let is_read = kafka_version.format() == Format::V2 && context.version() >= BATCHES_SINCE;
        return Err(is_read
            .then(|| only_batch(sent).err())
            .flatten()
            .unwrap_or(ErrorCode::INVALID_REQUIRED_ACKS.into()));
    }
    let partition = state.led_by(context.broker_id, name, data.index, None)?;
    let log_start_offset = Some(partition.log.log_start_offset());
    // A partition with fewer replicas than `min.insync.replicas` needs all of them (KIP-966).
    if acks == -1 && in_sync < rules.min_insync_replicas.min(partition.replicas.len()) {
        return Err(Refusal { log_start_offset, ..ErrorCode::NOT_ENOUGH_REPLICAS.into() });
    }
    let log_append_time_ms = rules.is_log_append_time.then_some(wall_clock_ms);
    let base_offset = match kafka_version.format() {
        _ if sent.is_empty() && context.version() < BATCHES_SINCE => -1,
        Format::V0 | Format::V1 => append_messages(partition, sent, kafka_version, &rules, log_append_time_ms)?,
        Format::V2 => {
            let batch = match formats::to_batch(&sent, kafka_version) {
                Some(converted) if context.version() < BATCHES_SINCE => converted?,
                _ => only_batch(sent)?,
            };
            check_zstd(&batch, kafka_version, context.version())?;
            append_batch(partition, batch, kafka_version, &rules, log_append_time_ms)?
        }
    };
    partition.log.handle_write(wall_clock_ms);
    if let Some(retention_bytes) = rules.retention_bytes {
        partition.log.retain_bytes(retention_bytes);
    }
    let log_start_offset = partition.log.log_start_offset();
    let waiters = std::mem::take(&mut partition.waiters);
    state.wakes.look_again(waiters);
    Ok(Appended { base_offset, log_append_time_ms, log_start_offset })
}

/// Whether the version of Kafka and that of the request have zstd, if the batch is compressed with it (KIP-110).
fn check_zstd(batch: &RawBatch, kafka_version: KafkaVersion, version: i16) -> Result<(), ErrorCode> {
    if batch.header().compression_type != CompressionType::Zstd {
        Ok(())
    } else if kafka_version < KafkaVersion::V2_1 {
        Err(ErrorCode::UNKNOWN_SERVER_ERROR)
    } else if version < ZSTD_SINCE {
        Err(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE)
    } else {
        Ok(())
    }
}

/// Appends messages to the log of a Kafka before 0.11. Returns the offset of the first one.
fn append_messages(
    partition: &mut Partition,
    sent: Bytes,
    kafka_version: KafkaVersion,
    rules: &TopicRules,
    log_append_time_ms: Option<i64>,
) -> Result<i64, Refusal> {
    let next_offset = partition.log.log_end_offset();
    let messages = formats::to_messages(sent, kafka_version.format(), next_offset, log_append_time_ms)?;
    if messages.iter().any(|message| message.bytes.len() > rules.max_message_bytes) {
        return Err(ErrorCode::MESSAGE_TOO_LARGE.into());
    }
    for message in &messages {
        partition.log.append_old(message, partition.leader_epoch);
    }
    Ok(next_offset)
}

/// Appends a batch, unless it was appended before. Returns the offset of its first record.
fn append_batch(
    partition: &mut Partition,
    mut batch: RawBatch,
    kafka_version: KafkaVersion,
    rules: &TopicRules,
    log_append_time_ms: Option<i64>,
) -> Result<i64, Refusal> {
    log::check(&batch, rules.max_message_bytes)?;
    let record_count = batch.header().record_count;
    if let Some(stamp) = batch.header().producer {
        match partition.producers.check(stamp, record_count, kafka_version) {
            Ok(Verdict::Duplicate(base_offset)) => return Ok(base_offset),
            Ok(_) => {}
            Err(error_code) => {
                let log_start_offset = Some(partition.log.log_start_offset());
                return Err(Refusal { log_start_offset, ..error_code.into() });
            }
        }
    }
    if let Some(timestamp_ms) = log_append_time_ms {
        batch = with_log_append_time(&batch, timestamp_ms)?;
    }
    let base_offset = partition.log.append(&batch, partition.leader_epoch);
    if let Some(stamp) = batch.header().producer {
        partition.producers.appended(stamp, record_count, base_offset);
    }
    Ok(base_offset)
}

fn with_log_append_time(batch: &RawBatch, timestamp_ms: i64) -> Result<RawBatch, Refusal> {
    let mut bytes = batch.bytes().to_vec();
    records::set_log_append_time(&mut bytes, timestamp_ms);
    only_batch(bytes.into())
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
