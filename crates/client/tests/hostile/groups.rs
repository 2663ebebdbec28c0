//! Coordinators that break the protocol of groups: the member says what is wrong, and joins again no faster than its
//! back-off allows.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use kavka::blocking::GroupConsumer;
use kavka::{ConsumerConfig, Error, ErrorCode, ErrorKind, GroupConfig, GroupOptions, GroupProtocol, TopicPartition};
use kavka_core::wire::messages::consumer_group_heartbeat::{Assignment, TopicPartitions};
use kavka_core::wire::messages::consumer_protocol::{ConsumerProtocolAssignment, ConsumerProtocolTopic};
use kavka_core::wire::messages::offset_fetch::{
    OffsetFetchRequestGroup, OffsetFetchResponse, OffsetFetchResponseGroup, OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions, OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kavka_core::wire::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, FindCoordinatorResponse, HeartbeatResponse,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupResponse, OffsetFetchRequest, SyncGroupResponse,
};
use kavka_core::wire::{ApiKey, Encoder, Message, Uuid};

use crate::server::{Reply, Request, Server, TOPIC, TOPIC_ID};

/// How long each coordinator is watched.
const WATCHED: Duration = Duration::from_secs(2);

/// What a correct coordinator answers to the only member of a group, which it says another one leads.
fn correct(request: &Request) -> Reply {
    let version = request.header.version;
    match request.header.key {
        ApiKey::JoinGroup => Reply::message(request, &joined(request)),
        ApiKey::SyncGroup => Reply::message(request, &synced(&assignment(&[(TOPIC, &[0])]))),
        ApiKey::Heartbeat => Reply::message(request, &HeartbeatResponse::default()),
        ApiKey::ConsumerGroupHeartbeat => Reply::message(request, &beaten(&[0])),
        ApiKey::LeaveGroup => Reply::message(request, &LeaveGroupResponse::default()),
        ApiKey::OffsetFetch => {
            let asked = OffsetFetchRequest::decode_exact(version, request.body.clone()).unwrap();
            let nothing = |partition_index| OffsetFetchResponsePartition {
                partition_index,
                ..OffsetFetchResponsePartition::default()
            };
            let topics = asked.topics.into_iter().flatten().map(|topic| OffsetFetchResponseTopic {
                name: topic.name,
                partitions: topic.partition_indexes.into_iter().map(nothing).collect(),
            });
            let groups = asked.groups.into_iter().map(nothing_by_id).collect();
            let topics = topics.collect();
            Reply::message(request, &OffsetFetchResponse { topics, groups, ..OffsetFetchResponse::default() })
        }
        _ => Reply::Behave,
    }
}

/// Nothing is committed for what a request asks by topic id.
fn nothing_by_id(group: OffsetFetchRequestGroup) -> OffsetFetchResponseGroup {
    let nothing =
        |partition_index| OffsetFetchResponsePartitions { partition_index, ..OffsetFetchResponsePartitions::default() };
    let topics = group.topics.into_iter().flatten().map(|topic| OffsetFetchResponseTopics {
        topic_id: topic.topic_id,
        partitions: topic.partition_indexes.into_iter().map(nothing).collect(),
        ..OffsetFetchResponseTopics::default()
    });
    OffsetFetchResponseGroup { group_id: group.group_id, topics: topics.collect(), ..Default::default() }
}

fn joined(request: &Request) -> JoinGroupResponse {
    let asked = JoinGroupRequest::decode_exact(request.header.version, request.body.clone()).unwrap();
    JoinGroupResponse {
        generation_id: Some(1),
        protocol_type: Some("consumer".into()),
        protocol_name: Some(asked.protocols[0].name.clone()),
        leader: "leader".into(),
        member_id: "member".into(),
        ..JoinGroupResponse::default()
    }
}

fn synced(assignment: &[u8]) -> SyncGroupResponse {
    SyncGroupResponse {
        protocol_type: Some("consumer".into()),
        assignment: assignment.to_vec().into(),
        ..SyncGroupResponse::default()
    }
}

/// An assignment as a leader writes it.
fn assignment(topics: &[(&str, &[i32])]) -> Vec<u8> {
    let topic = |(topic, partitions): &(&str, &[i32])| ConsumerProtocolTopic {
        topic: (*topic).into(),
        partitions: partitions.to_vec(),
    };
    let assigned_partitions = topics.iter().map(topic).collect();
    let assignment = ConsumerProtocolAssignment { assigned_partitions, user_data: None };
    let mut encoder = Encoder::new();
    assignment.encode(0, &mut encoder).unwrap();
    [vec![0, 0], encoder.finish().concat()].concat()
}

fn beaten(partitions: &[i32]) -> ConsumerGroupHeartbeatResponse {
    let topics = vec![TopicPartitions { topic_id: TOPIC_ID, partitions: partitions.to_vec() }];
    ConsumerGroupHeartbeatResponse {
        member_id: Some("member".into()),
        member_epoch: 1,
        heartbeat_interval_ms: 5_000,
        assignment: Some(Assignment { topic_partitions: topics }),
        ..ConsumerGroupHeartbeatResponse::default()
    }
}

/// What a member did in [`WATCHED`], or until it owned something, if `until_assigned`.
struct Watched {
    server: Server,
    errors: Vec<Error>,
    owned: BTreeSet<(String, i32)>,
}

impl Watched {
    /// The only error, of this kind.
    fn error(&self, kind: ErrorKind) -> String {
        assert_eq!(self.errors.len(), 1, "{:?}", self.errors);
        assert_eq!(self.errors[0].kind(), kind, "{}", self.errors[0]);
        self.errors[0].to_string()
    }

    /// There were so many of these requests at most.
    fn at_most(&self, most: usize, key: ApiKey) {
        let count = self.server.requests(key);
        assert!((1..=most).contains(&count), "{count} times {}, at most {most}", key.name());
        assert!(self.server.connections() <= 10, "{} connections", self.server.connections());
    }
}

/// Watches a member whose coordinator answers some requests like this, and the others correctly.
fn watch(group_protocol: GroupProtocol, answer: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> Watched {
    let own = std::sync::Arc::new(std::sync::Mutex::new(None));
    let address = std::sync::Arc::clone(&own);
    let server = Server::scripted(move |request| match request.header.key {
        ApiKey::FindCoordinator => {
            let address: std::net::SocketAddr = address.lock().unwrap().unwrap();
            let response = FindCoordinatorResponse {
                node_id: 1,
                host: address.ip().to_string(),
                port: address.port().into(),
                ..FindCoordinatorResponse::default()
            };
            Reply::message(request, &response)
        }
        _ => answer(request).unwrap_or_else(|| correct(request)),
    });
    *own.lock().unwrap() = Some(server.address);
    let consumer = ConsumerConfig::default().group_id(Some("workers".into()));
    let config = GroupConfig::default().group_protocol(group_protocol).enable_auto_commit(false);
    let config = config.session_timeout(Duration::from_secs(6)).heartbeat_interval(Duration::from_millis(200));
    let member = server.client().group_consumer(consumer, config, GroupOptions::default()).unwrap();
    member.subscribe(&[TOPIC]).unwrap();
    let member = GroupConsumer::from(member);
    let (begin, mut errors, mut owned) = (Instant::now(), Vec::new(), BTreeSet::new());
    while begin.elapsed() < WATCHED {
        match member.next_records(10, Duration::from_millis(50)) {
            Ok(records) => assert_eq!(records, []),
            Err(error) => errors.push(error),
        }
        let name = |key: TopicPartition| (key.topic.to_string(), key.partition);
        owned.extend(member.assignment().into_iter().map(name));
    }
    Watched { server, errors, owned }
}

fn watch_classic(key: ApiKey, answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Watched {
    watch(GroupProtocol::Classic, move |request| (request.header.key == key).then(|| answer(request)))
}

fn watch_consumer(answer: impl Fn() -> ConsumerGroupHeartbeatResponse + Send + Sync + 'static) -> Watched {
    watch(GroupProtocol::Consumer, move |request| {
        (request.header.key == ApiKey::ConsumerGroupHeartbeat).then(|| Reply::message(request, &answer()))
    })
}

fn partition(number: i32) -> (String, i32) {
    (TOPIC.into(), number)
}

#[test]
fn a_correct_coordinator_is_no_error() {
    let seen = watch(GroupProtocol::Classic, |_| None);
    assert_eq!((seen.errors.len(), seen.owned), (0, BTreeSet::from([partition(0)])), "{:?}", seen.errors);
    let seen = watch(GroupProtocol::Consumer, |_| None);
    assert_eq!((seen.errors.len(), seen.owned), (0, BTreeSet::from([partition(0)])), "{:?}", seen.errors);
}

#[test]
fn assignments_that_are_nonsense_are_told() {
    for bytes in [vec![0xff; 40], vec![0, 0, 0x7f, 0xff, 0xff, 0xff], b"HTTP/1.1 400 Bad Request".to_vec()] {
        let seen = watch_classic(ApiKey::SyncGroup, move |request| Reply::message(request, &synced(&bytes)));
        let error = seen.error(ErrorKind::Malformed);
        assert!(error.contains("assignment") && error.contains("workers"), "{error}");
        assert_eq!(seen.owned, BTreeSet::new());
        seen.at_most(15, ApiKey::JoinGroup);
    }
}

#[test]
fn negative_and_doubled_partitions_of_an_assignment_are_dropped() {
    let bytes = assignment(&[(TOPIC, &[0, 0, -1, i32::MIN]), (TOPIC, &[0])]);
    let seen = watch_classic(ApiKey::SyncGroup, move |request| Reply::message(request, &synced(&bytes)));
    assert_eq!((seen.errors.len(), &seen.owned), (0, &BTreeSet::from([partition(0)])), "{:?}", seen.errors);
    seen.at_most(1, ApiKey::JoinGroup);

    let seen = watch_consumer(|| beaten(&[0, 0, -1, i32::MIN]));
    assert_eq!((seen.errors.len(), &seen.owned), (0, &BTreeSet::from([partition(0)])), "{:?}", seen.errors);
    seen.at_most(4, ApiKey::ConsumerGroupHeartbeat);
}

#[test]
fn partitions_that_do_not_exist_disturb_no_others() {
    let bytes = assignment(&[("unheard-of", &[0]), (TOPIC, &[0, i32::MAX])]);
    let seen = watch_classic(ApiKey::SyncGroup, move |request| Reply::message(request, &synced(&bytes)));
    assert!(seen.owned.contains(&partition(0)), "{:?}", seen.owned);
    seen.at_most(1, ApiKey::JoinGroup);
    seen.at_most(20, ApiKey::Metadata);
    seen.at_most(60, ApiKey::Fetch);

    let seen = watch_consumer(|| {
        let mut response = beaten(&[0, i32::MAX]);
        let unheard_of = TopicPartitions { topic_id: Uuid([9; 16]), partitions: vec![0] };
        response.assignment.as_mut().unwrap().topic_partitions.push(unheard_of);
        response
    });
    assert!(seen.owned.contains(&partition(0)), "{:?}", seen.owned);
    seen.at_most(4, ApiKey::ConsumerGroupHeartbeat);
    seen.at_most(20, ApiKey::Metadata);
    seen.at_most(60, ApiKey::Fetch);
}

#[test]
fn a_member_without_an_id_or_a_generation_is_no_member() {
    let seen = watch_classic(ApiKey::JoinGroup, |request| {
        let response = JoinGroupResponse { member_id: String::new(), ..joined(request) };
        Reply::message(request, &response)
    });
    assert!(seen.error(ErrorKind::Malformed).contains("member id"), "{:?}", seen.errors);
    seen.at_most(15, ApiKey::JoinGroup);

    let seen = watch_classic(ApiKey::JoinGroup, |request| {
        let error_code = ErrorCode::MEMBER_ID_REQUIRED;
        let response = JoinGroupResponse { error_code, member_id: String::new(), ..joined(request) };
        Reply::message(request, &response)
    });
    assert!(seen.error(ErrorKind::Malformed).contains("member id"), "{:?}", seen.errors);
    seen.at_most(15, ApiKey::JoinGroup);

    let seen = watch_classic(ApiKey::JoinGroup, |request| {
        let response = JoinGroupResponse { generation_id: None, ..joined(request) };
        Reply::message(request, &response)
    });
    assert!(seen.error(ErrorKind::Malformed).contains("generation"), "{:?}", seen.errors);
    seen.at_most(15, ApiKey::JoinGroup);
}

#[test]
fn an_id_that_is_asked_for_again_and_again_is_no_hot_loop() {
    let seen = watch_classic(ApiKey::JoinGroup, |request| {
        let response = JoinGroupResponse { error_code: ErrorCode::MEMBER_ID_REQUIRED, ..joined(request) };
        Reply::message(request, &response)
    });
    seen.at_most(15, ApiKey::JoinGroup);
}

#[test]
fn a_generation_that_is_never_right_is_no_hot_loop() {
    for code in [ErrorCode::ILLEGAL_GENERATION, ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::REBALANCE_IN_PROGRESS] {
        let seen = watch_classic(ApiKey::SyncGroup, move |request| {
            let response = SyncGroupResponse { error_code: code, ..SyncGroupResponse::default() };
            Reply::message(request, &response)
        });
        seen.at_most(15, ApiKey::JoinGroup);
        let seen = watch_classic(ApiKey::Heartbeat, move |request| {
            Reply::message(request, &HeartbeatResponse { error_code: code, ..HeartbeatResponse::default() })
        });
        seen.at_most(15, ApiKey::JoinGroup);
    }
}

#[test]
fn an_epoch_that_is_never_right_is_no_hot_loop() {
    for code in [ErrorCode::FENCED_MEMBER_EPOCH, ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::STALE_MEMBER_EPOCH] {
        let seen = watch_consumer(move || ConsumerGroupHeartbeatResponse { error_code: code, ..beaten(&[0]) });
        seen.at_most(15, ApiKey::ConsumerGroupHeartbeat);
    }
    let seen = watch_consumer(|| ConsumerGroupHeartbeatResponse { member_epoch: i32::MIN, ..beaten(&[0]) });
    assert!(seen.error(ErrorKind::Malformed).contains("epoch"), "{:?}", seen.errors);
    seen.at_most(3, ApiKey::ConsumerGroupHeartbeat);
}

#[test]
fn a_member_that_is_let_in_and_then_refused_again_and_again_is_no_hot_loop() {
    for code in [ErrorCode::FENCED_MEMBER_EPOCH, ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::GROUP_ID_NOT_FOUND] {
        let seen = watch(GroupProtocol::Consumer, move |request| {
            if request.header.key != ApiKey::ConsumerGroupHeartbeat {
                return None;
            }
            let asked =
                ConsumerGroupHeartbeatRequest::decode_exact(request.header.version, request.body.clone()).unwrap();
            let error_code = if asked.member_epoch == 0 { ErrorCode::NONE } else { code };
            Some(Reply::message(request, &ConsumerGroupHeartbeatResponse { error_code, ..beaten(&[0]) }))
        });
        // Two for each time that it joins.
        seen.at_most(20, ApiKey::ConsumerGroupHeartbeat);
        seen.at_most(10, ApiKey::OffsetFetch);
        assert!(seen.errors.iter().all(|error| error.kind() == ErrorKind::Fenced), "{:?}", seen.errors);
    }
}

#[test]
fn a_heartbeat_interval_that_cannot_be_is_no_hot_loop() {
    for heartbeat_interval_ms in [0, -1, i32::MIN, i32::MAX] {
        let seen = watch_consumer(move || ConsumerGroupHeartbeatResponse { heartbeat_interval_ms, ..beaten(&[0]) });
        assert_eq!((seen.errors.len(), &seen.owned), (0, &BTreeSet::from([partition(0)])), "{:?}", seen.errors);
        seen.at_most(15, ApiKey::ConsumerGroupHeartbeat);
    }
}
