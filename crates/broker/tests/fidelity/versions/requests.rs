//! Which requests a version knows, and what it does with the others.

use kavka_broker::KafkaVersion;
use kavka_core::wire::messages::join_group::JoinGroupRequestProtocol;
use kavka_core::wire::messages::list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use kavka_core::wire::messages::offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kavka_core::wire::messages::offset_fetch::OffsetFetchRequestTopic;
use kavka_core::wire::messages::{
    ApiVersionsRequest, FindCoordinatorRequest, JoinGroupRequest, ListOffsetsRequest, MetadataRequest,
    OffsetCommitRequest, OffsetFetchRequest,
};
use kavka_core::wire::records::{CompressionType, Format};
use kavka_core::wire::{ApiKey, ErrorCode};
use kavka_test_support::{unique, until};

use super::records::set;
use super::served::{Served, TOPIC};

pub(super) fn it_advertises_what_kafka_does(served: &Served) {
    let told = served.connect().call_version(0, &ApiVersionsRequest::default());
    let told = told
        .api_keys
        .iter()
        .filter_map(|api| ApiKey::from_number(api.api_key).map(|key| (key, api.min_version, api.max_version)));
    assert_eq!(told.collect::<Vec<_>>(), served.version.apis());
}

/// A request of an API with the number 999.
const UNKNOWN: &[u8] = b"\0\0\0\x0c\x03\xe7\0\0\0\0\0\x01\0\x02me";
/// `ApiVersions` v0.
const API_VERSIONS: &[u8] = b"\0\0\0\x0c\0\x12\0\0\0\0\0\x01\0\x02me";

pub(super) fn an_unknown_request_closes_the_connection(served: &Served) {
    let requests = if served.version < KafkaVersion::V0_9 { vec![UNKNOWN, API_VERSIONS] } else { vec![UNKNOWN] };
    for request in requests {
        let mut connection = served.connect();
        connection.write(request);
        assert!(connection.is_closed_by_the_broker());
    }
}

pub(super) fn an_unknown_request_gets_no_answer_and_the_next_one_does(served: &Served) {
    for request in [UNKNOWN, API_VERSIONS] {
        let mut connection = served.connect();
        connection.write(request);
        let sent = connection.send(0, &MetadataRequest { topics: Some(Vec::new()), ..MetadataRequest::default() });
        let (answered, _) = connection.receive_with_id::<MetadataRequest>(0);
        assert_eq!(answered, sent, "the first answer is that to the second request");
    }
}

pub(super) fn a_newer_api_versions_is_refused_in_version_0(served: &Served) {
    let mut connection = served.connect();
    let request = ApiVersionsRequest {
        client_software_name: "fidelity".into(),
        client_software_version: "1".into(),
        ..ApiVersionsRequest::default()
    };
    let unknown = served.newest(ApiKey::ApiVersions) + 1;
    connection.send(unknown, &request);
    let answer = connection.receive::<ApiVersionsRequest>(0);
    assert_eq!(answer.error_code, ErrorCode::UNSUPPORTED_VERSION);
    let own = answer.api_keys.iter().map(|api| (api.api_key, api.max_version)).collect::<Vec<_>>();
    let has_own = served.version >= KafkaVersion::V2_8;
    assert_eq!(own, if has_own { vec![(18, unknown - 1)] } else { vec![] });
}

pub(super) fn times_find_the_beginnings_of_segments(served: &Served) {
    let partition = served.partition();
    served.produce(0, partition, set(Format::V0, CompressionType::None, &[b"a", b"b"]));
    let offsets = |timestamp, max_num_offsets| {
        let asked =
            ListOffsetsPartition { partition_index: partition, timestamp, max_num_offsets, ..Default::default() };
        let topics = vec![ListOffsetsTopic { name: TOPIC.into(), partitions: vec![asked] }];
        let answer = served.connect().call_version(0, &ListOffsetsRequest { topics, ..ListOffsetsRequest::default() });
        answer.topics[0].partitions[0].old_style_offsets.clone()
    };
    assert_eq!((offsets(-1, 1), offsets(-1, 5), offsets(-2, 5)), (vec![2], vec![2, 0], vec![0]));
    assert_eq!((offsets(1_000, 5), offsets(i64::MAX, 5)), (vec![], vec![2, 0]));
}

/// Waits until the group has a coordinator, which takes a while in a fresh cluster.
fn find_coordinator(served: &Served, group_id: &str) {
    until("a coordinator", || {
        let request = FindCoordinatorRequest { key: group_id.into(), ..FindCoordinatorRequest::default() };
        let found = served.connect().call_version(0, &request);
        (found.error_code == ErrorCode::NONE).then_some(())
    });
}

fn commit_request(group_id: &str, partition: i32, generation_id: Option<i32>, offset: i64) -> OffsetCommitRequest {
    let committed = OffsetCommitRequestPartition {
        partition_index: partition,
        committed_offset: offset,
        committed_metadata: Some("note".into()),
        ..OffsetCommitRequestPartition::default()
    };
    let topic = OffsetCommitRequestTopic {
        name: TOPIC.into(),
        partitions: vec![committed],
        ..OffsetCommitRequestTopic::default()
    };
    OffsetCommitRequest {
        group_id: group_id.into(),
        generation_id_or_member_epoch: generation_id,
        topics: vec![topic],
        ..OffsetCommitRequest::default()
    }
}

/// What the coordinator says to a commit, once it has loaded its groups.
fn commit(served: &Served, version: i16, request: &OffsetCommitRequest) -> ErrorCode {
    until("the coordinator to load", || {
        let answer = served.connect().call_version(version, request);
        let code = answer.topics[0].partitions[0].error_code;
        (code != ErrorCode::COORDINATOR_LOAD_IN_PROGRESS && code != ErrorCode::NOT_COORDINATOR).then_some(code)
    })
}

pub(super) fn a_member_of_no_group_cannot_commit(served: &Served) {
    let group_id = unique("group");
    find_coordinator(served, &group_id);
    let request =
        OffsetCommitRequest { member_id: "nobody".into(), ..commit_request(&group_id, served.partition(), Some(0), 1) };
    let is_new = served.version >= KafkaVersion::V4_4;
    let expected = if is_new { ErrorCode::GROUP_ID_NOT_FOUND } else { ErrorCode::ILLEGAL_GENERATION };
    assert_eq!(commit(served, 9, &request), expected);
}

pub(super) fn offsets_are_committed_with_any_generation_before_there_are_groups(served: &Served) {
    let (group_id, partition) = (unique("group"), served.partition());
    find_coordinator(served, &group_id);
    let commit =
        |generation_id, offset| commit(served, 1, &commit_request(&group_id, partition, generation_id, offset));
    assert_eq!(commit(None, 7), ErrorCode::NONE);
    let has_groups = served.version >= KafkaVersion::V0_9;
    assert_eq!(commit(Some(5), 8) == ErrorCode::NONE, !has_groups);
    let topic = OffsetFetchRequestTopic { name: TOPIC.into(), partition_indexes: vec![partition] };
    let request = OffsetFetchRequest { group_id, topics: Some(vec![topic]), ..OffsetFetchRequest::default() };
    let answer = served.connect().call_version(1, &request);
    let found = &answer.topics[0].partitions[0];
    assert_eq!(found.committed_offset, Some(if has_groups { 7 } else { 8 }));
    assert_eq!(found.metadata.as_deref(), Some("note"));
}

pub(super) fn sessions_of_members_are_limited(served: &Served) {
    let longest = match served.version {
        KafkaVersion::V0_9 => 30_000,
        version if version < KafkaVersion::V2_8 => 300_000,
        _ => 1_800_000,
    };
    let group_id = unique("group");
    find_coordinator(served, &group_id);
    let join = |session_timeout_ms| {
        let protocol = JoinGroupRequestProtocol { name: "range".into(), metadata: bytes::Bytes::new() };
        let request = JoinGroupRequest {
            group_id: group_id.clone(),
            session_timeout_ms,
            protocol_type: "consumer".into(),
            protocols: vec![protocol],
            ..JoinGroupRequest::default()
        };
        until("the coordinator to load", || {
            let code = served.connect().call_version(0, &request).error_code;
            (code != ErrorCode::COORDINATOR_LOAD_IN_PROGRESS && code != ErrorCode::NOT_COORDINATOR).then_some(code)
        })
    };
    assert_eq!(join(longest + 1), ErrorCode::INVALID_SESSION_TIMEOUT);
    assert_eq!(join(longest), ErrorCode::NONE);
}
