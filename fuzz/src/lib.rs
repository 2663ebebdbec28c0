//! What the fuzz targets share: the memory they count, bytes as choices, and every message by its API.
//!
//! A target is a program of libFuzzer (`targets/`). It turns an input into calls of `kavka-core`, and panics if an
//! answer breaks a promise. `make fuzz TARGET=batches SECONDS=60` runs one.

pub mod group;
pub mod records;

use bytes::Bytes;
use kavka_core::cluster::Metadata;
use kavka_core::error::{Error, ErrorKind};
use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::message::Request;
#[allow(clippy::wildcard_imports)]
use kavka_core::wire::messages::metadata::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic};
use kavka_core::wire::messages::*;
use kavka_core::wire::{ApiKey, Message, Uuid};
pub use libfuzzer_sys::arbitrary::{self, Unstructured};
use peak_alloc::PeakAlloc;

/// Counts what Rust code allocates. The contexts of zstd, which is C, do not count.
#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Runs `work` on an input of `input_bytes` bytes, and panics if at any time it had allocated more than 64 KiB, 16
/// times the input and `extra_bytes`.
pub fn within_memory<T>(input_bytes: usize, extra_bytes: usize, work: impl FnOnce() -> T) -> T {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let done = work();
    let most = MEMORY.peak_usage().saturating_sub(before);
    let bound = (64 << 10) + 16 * input_bytes + extra_bytes;
    assert!(most <= bound, "an input of {input_bytes} bytes takes {most} bytes of memory, over {bound}");
    done
}

/// Takes up to `most` bytes from the input, by a length in the input.
pub fn some_bytes<'a>(input: &mut Unstructured<'a>, most: usize) -> arbitrary::Result<&'a [u8]> {
    let length = input.int_in_range(0..=most)?.min(input.len());
    input.bytes(length)
}

/// A number of the input below `limit`.
pub fn below(input: &mut Unstructured<'_>, limit: usize) -> arbitrary::Result<usize> {
    input.int_in_range(0..=limit.saturating_sub(1))
}

/// An error code that brokers answer often, or any one.
pub fn some_code(input: &mut Unstructured<'_>) -> arbitrary::Result<ErrorCode> {
    Ok(match input.int_in_range(0..=255_u8)? {
        0..=120 => ErrorCode::NONE,
        number @ 121..=250 => ErrorCode(i16::from(number) - 121),
        _ => ErrorCode(input.arbitrary()?),
    })
}

/// The error of a request whose answer is lost.
pub fn lost() -> Error {
    Error::new(ErrorKind::Disconnected, "the connection broke")
}

/// Does something with a message of any type.
pub trait Visit {
    /// Takes the bytes of a message of type `M` in `version`.
    fn visit<M: Message>(&self, version: i16, body: Bytes);
}

macro_rules! apis {
    ($($name:ident $request:ident)*) => {
        /// Reads bytes as the request of an API, or as the response.
        pub fn visit(key: ApiKey, is_request: bool, version: i16, body: Bytes, with: &impl Visit) {
            match key {
                $(ApiKey::$name if is_request => with.visit::<$request>(version, body),
                ApiKey::$name => with.visit::<<$request as Request>::Response>(version, body),)*
            }
        }
    };
}

apis! {
    Produce ProduceRequest Fetch FetchRequest ListOffsets ListOffsetsRequest Metadata MetadataRequest
    OffsetCommit OffsetCommitRequest OffsetFetch OffsetFetchRequest FindCoordinator FindCoordinatorRequest
    JoinGroup JoinGroupRequest Heartbeat HeartbeatRequest LeaveGroup LeaveGroupRequest SyncGroup SyncGroupRequest
    DescribeGroups DescribeGroupsRequest ListGroups ListGroupsRequest SaslHandshake SaslHandshakeRequest
    ApiVersions ApiVersionsRequest CreateTopics CreateTopicsRequest DeleteTopics DeleteTopicsRequest
    DeleteRecords DeleteRecordsRequest InitProducerId InitProducerIdRequest
    OffsetForLeaderEpoch OffsetForLeaderEpochRequest DescribeConfigs DescribeConfigsRequest
    SaslAuthenticate SaslAuthenticateRequest CreatePartitions CreatePartitionsRequest DeleteGroups DeleteGroupsRequest
    IncrementalAlterConfigs IncrementalAlterConfigsRequest OffsetDelete OffsetDeleteRequest
    ConsumerGroupHeartbeat ConsumerGroupHeartbeatRequest ConsumerGroupDescribe ConsumerGroupDescribeRequest
}

/// The input as a message of any API: one byte for the API, whose highest bit means a request, one for the version, and
/// the body.
pub fn visit_input(data: &[u8], with: &impl Visit) {
    let [api, version, body @ ..] = data else { return };
    let Some(key) = ApiKey::from_number(i16::from(api & 0x7f)) else { return };
    visit(key, api & 0x80 != 0, i16::from(*version), Bytes::copy_from_slice(body), with);
}

/// The topic of the machines.
pub const TOPIC: &str = "orders";

/// A snapshot after an answer that the input makes up: brokers 1 to 3, and what has become of [`TOPIC`].
pub fn some_metadata(input: &mut Unstructured<'_>, before: &Metadata) -> arbitrary::Result<Metadata> {
    let mut partitions = Vec::new();
    for partition_index in 0..below(input, 5)? {
        let leader = below(input, 5)? as i32;
        partitions.push(MetadataResponsePartition {
            partition_index: if input.ratio(1, 32)? { input.arbitrary()? } else { partition_index as i32 },
            leader_id: (leader > 0).then_some(leader),
            leader_epoch: if input.ratio(1, 8)? { None } else { Some(i32::from(input.arbitrary::<u8>()? >> 4)) },
            error_code: if input.ratio(1, 8)? { some_code(input)? } else { ErrorCode::NONE },
            ..Default::default()
        });
    }
    let topic = MetadataResponseTopic {
        name: Some(TOPIC.into()),
        topic_id: [Uuid::ZERO, Uuid([1; 16]), Uuid([1; 16]), Uuid([2; 16])][below(input, 4)?],
        error_code: if input.ratio(1, 8)? { some_code(input)? } else { ErrorCode::NONE },
        partitions,
        ..Default::default()
    };
    let topics = if input.ratio(1, 8)? { vec![] } else { vec![topic] };
    let response = MetadataResponse { brokers: brokers(), topics, ..Default::default() };
    Ok(before.merged(response, input.arbitrary()?))
}

/// A snapshot in which [`TOPIC`] has this many partitions, which broker 1 leads.
pub fn metadata(partitions: i32) -> Metadata {
    let partition = |partition_index| MetadataResponsePartition {
        partition_index,
        leader_id: Some(1),
        leader_epoch: Some(1),
        ..Default::default()
    };
    let topic = MetadataResponseTopic {
        name: Some(TOPIC.into()),
        topic_id: Uuid([1; 16]),
        partitions: (0..partitions).map(partition).collect(),
        ..Default::default()
    };
    let response = MetadataResponse { brokers: brokers(), topics: vec![topic], ..Default::default() };
    Metadata::default().merged(response, true)
}

fn brokers() -> Vec<MetadataResponseBroker> {
    let broker = |node_id| MetadataResponseBroker { node_id, host: "h".into(), port: 9092, ..Default::default() };
    (1..=3).map(broker).collect()
}
