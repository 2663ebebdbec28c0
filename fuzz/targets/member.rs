//! A group member whose coordinator answers anything, by both protocols: any error code, foreign and hostile members,
//! shares that overlap, late answers.
//!
//! What it starts it did not have, and what it loses or gives up it had. It commits only for what it owns. By the
//! classic protocol, it joins only when the commits for what it gave up are answered (R13). Every commit has one
//! outcome, in time; and no answer makes it ask without an end.
#![no_main]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kavka_core::backoff::Backoff;
use kavka_core::cluster::Metadata;
use kavka_core::config::{ConsumerConfig, GroupConfig, GroupProtocol};
use kavka_core::consumer::{CommittedOffset, Offsets, TopicPartition};
use kavka_core::error::{ErrorKind, Result};
use kavka_core::group::assignor::Assignor;
use kavka_core::group::{
    Member, MemberEvent, MemberRequest, MemberResponse, Strategy, Subscription, encode_assignment,
};
use kavka_core::time::Instant;
use kavka_core::wire::messages::consumer_group_heartbeat::{Assignment, TopicPartitions};
use kavka_core::wire::messages::join_group::JoinGroupResponseMember;
use kavka_core::wire::messages::offset_commit::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kavka_core::wire::messages::{
    ConsumerGroupHeartbeatResponse, HeartbeatResponse, JoinGroupResponse, LeaveGroupResponse, OffsetCommitResponse,
    SyncGroupResponse,
};
use kavka_core::wire::{ErrorCode, Uuid};
use kavka_fuzz::{TOPIC, Unstructured, arbitrary, below, lost, metadata, some_bytes, some_code, some_metadata};
use libfuzzer_sys::fuzz_target;

const BACKOFF: Backoff = Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(1) };

struct Scene {
    member: Member,
    now: Instant,
    metadata: Metadata,
    waiting: Vec<(u64, MemberRequest)>,
    /// What the application reads.
    started: BTreeSet<TopicPartition>,
    /// How often it was asked to give something up, and has not answered.
    to_release: Vec<Vec<TopicPartition>>,
    /// What it gave up in order, and was not assigned again.
    released: BTreeSet<TopicPartition>,
    commits: BTreeSet<u64>,
}

fn some_partitions(input: &mut Unstructured<'_>) -> arbitrary::Result<Vec<TopicPartition>> {
    let mut partitions = Vec::new();
    for _ in 0..below(input, 5)? {
        let topic = [TOPIC, TOPIC, TOPIC, "others"][below(input, 4)?];
        partitions.push(TopicPartition::new(topic, [0, 1, 2, 3, -1, i32::MAX][below(input, 6)?]));
    }
    Ok(partitions)
}

impl Scene {
    fn new(input: &mut Unstructured<'_>) -> arbitrary::Result<Self> {
        let protocol = [GroupProtocol::Classic, GroupProtocol::Consumer, GroupProtocol::Auto][below(input, 3)?];
        let config = GroupConfig::default().group_protocol(protocol);
        let consumer = ConsumerConfig::default().group_id(Some("billing".into()));
        let built_in = |assignor| vec![Strategy::BuiltIn(assignor)];
        let strategies = match below(input, 3)? {
            0 => built_in(Assignor::CooperativeSticky),
            1 => built_in(Assignor::Sticky),
            _ => vec![Strategy::BuiltIn(Assignor::Range), Strategy::BuiltIn(Assignor::CooperativeSticky)],
        };
        let mut member = Member::new(config, &consumer, strategies, BACKOFF, 1, 1).expect("the settings are right");
        let metadata = metadata(4);
        member.subscribe(Instant(0), BTreeSet::from([TOPIC.into()]));
        member.handle_metadata(&Arc::new(metadata.clone()));
        let (waiting, started, to_release, released, commits) = Default::default();
        Ok(Self { member, now: Instant(0), metadata, waiting, started, to_release, released, commits })
    }

    fn poll(&mut self) {
        let mut sent = 0;
        while let Some(call) = self.member.poll_request(self.now) {
            sent += 1;
            assert!(sent < 20, "it asks without an end");
            let (call, request) = call.take_body();
            match &request {
                MemberRequest::Join(_) => {
                    let committing: BTreeSet<_> =
                        self.waiting.iter().flat_map(|(_, request)| committed(request)).collect();
                    assert!(committing.is_disjoint(&self.released), "it joins before {committing:?} are answered");
                }
                other => {
                    for key in committed(other) {
                        assert!(self.started.contains(&key), "it commits for {key}, which it does not own");
                    }
                }
            }
            self.waiting.push((call.id, request));
        }
        self.events();
    }

    fn events(&mut self) {
        while let Some(event) = self.member.poll_event() {
            match event {
                MemberEvent::Assigned { partitions, .. } => {
                    for key in partitions {
                        assert!(key.partition >= 0, "{key} does not exist");
                        self.released.remove(&key);
                        assert!(self.started.insert(key.clone()), "{key} is assigned twice");
                    }
                }
                MemberEvent::Revoked { partitions } => {
                    assert!(partitions.iter().all(|key| self.started.contains(key)), "{partitions:?} is not owned");
                    self.to_release.push(partitions);
                }
                MemberEvent::Lost { partitions, error } => {
                    assert!(error.kind() != ErrorKind::Internal, "{error}");
                    for key in partitions {
                        assert!(self.started.remove(&key), "{key} is lost, and was not owned");
                    }
                }
                MemberEvent::Committed { number, .. } => {
                    assert!(self.commits.remove(&number), "commit {number} ends twice");
                }
                MemberEvent::Failed(error) => assert!(error.kind() != ErrorKind::Internal, "{error}"),
                MemberEvent::AssignmentWanted { .. } | MemberEvent::Topics(_) | MemberEvent::MetadataWanted => {}
            }
        }
    }

    /// Gives up what it was first asked for.
    fn release(&mut self) {
        if !self.to_release.is_empty() {
            for key in self.to_release.remove(0) {
                if self.started.remove(&key) {
                    self.released.insert(key);
                }
            }
            self.member.handle_released();
        }
    }

    fn commit(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let mut offsets = Offsets::new();
        for key in &self.started {
            if input.arbitrary()? {
                offsets.insert(key.clone(), CommittedOffset::new(i64::from(input.arbitrary::<u8>()?)));
            }
        }
        let limit = Duration::from_millis(input.int_in_range(0..=20_000)?);
        if let Ok(number) = self.member.commit(self.now, offsets, limit) {
            assert!(self.commits.insert(number), "two commits have one number");
        }
        Ok(())
    }

    fn answer(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let (id, request) = self.waiting.remove(below(input, self.waiting.len())?);
        let result = if input.ratio(1, 12)? { Err(lost()) } else { some_response(input, request)? };
        self.member.handle_response(self.now, id, result);
        Ok(())
    }

    /// Loses every answer until the time of all commits is over: then all have ended.
    fn end(&mut self) {
        for _ in 0..4 {
            for (id, _) in std::mem::take(&mut self.waiting) {
                self.member.handle_response(self.now, id, Err(lost()));
            }
            self.poll();
            self.now = self.now + Duration::from_secs(21);
        }
        assert!(self.commits.is_empty(), "commits {:?} do not end", self.commits);
    }
}

/// The partitions that a request commits for.
fn committed(request: &MemberRequest) -> BTreeSet<TopicPartition> {
    let MemberRequest::OffsetCommit(commit) = request else { return BTreeSet::new() };
    let of_topic = |topic: &OffsetCommitRequestTopic| {
        let of_one = |partition: &OffsetCommitRequestPartition| partition.partition_index;
        let numbers: Vec<_> = topic.partitions.iter().map(of_one).collect();
        let name: Arc<str> = topic.name.as_str().into();
        numbers.into_iter().map(move |number| TopicPartition::new(Arc::clone(&name), number))
    };
    commit.topics.iter().flat_map(of_topic).collect()
}

/// A subscription of another member: any bytes, or one with any claims.
fn some_subscription(input: &mut Unstructured<'_>) -> arbitrary::Result<Bytes> {
    if input.ratio(1, 4)? {
        return Ok(Bytes::copy_from_slice(some_bytes(input, 100)?));
    }
    let subscription = Subscription {
        topics: vec![TOPIC.into()],
        user_data: Bytes::copy_from_slice(some_bytes(input, 60)?),
        owned: some_partitions(input)?,
        generation_id: input.arbitrary()?,
        rack: None,
    };
    Ok(subscription.encode().expect("it is short"))
}

fn some_join(input: &mut Unstructured<'_>) -> arbitrary::Result<JoinGroupResponse> {
    let mut members = Vec::new();
    for _ in 0..below(input, 4)? {
        let member_id = ["me", "other", "", "third"][below(input, 4)?].into();
        members.push(JoinGroupResponseMember { member_id, metadata: some_subscription(input)?, ..Default::default() });
    }
    let names = ["range", "cooperative-sticky", "sticky", "unknown"];
    Ok(JoinGroupResponse {
        error_code: some_code(input)?,
        generation_id: if input.ratio(1, 16)? { None } else { Some(below(input, 9)? as i32) },
        protocol_name: Some(names[below(input, 4)?].into()),
        leader: ["me", "other"][below(input, 2)?].into(),
        member_id: ["me", "me", "me", ""][below(input, 4)?].into(),
        skip_assignment: input.ratio(1, 8)?,
        members,
        ..Default::default()
    })
}

fn some_target(input: &mut Unstructured<'_>) -> arbitrary::Result<Assignment> {
    let mut topic_partitions = Vec::new();
    for _ in 0..below(input, 3)? {
        let topic_id = Uuid([[1; 16], [1; 16], [2; 16], [0; 16]][below(input, 4)?]);
        let partitions = some_partitions(input)?.into_iter().map(|key| key.partition).collect();
        topic_partitions.push(TopicPartitions { topic_id, partitions });
    }
    Ok(Assignment { topic_partitions })
}

fn some_response(input: &mut Unstructured<'_>, request: MemberRequest) -> arbitrary::Result<Result<MemberResponse>> {
    Ok(Ok(match request {
        MemberRequest::Join(_) => MemberResponse::Join(some_join(input)?),
        MemberRequest::Sync(_) => {
            let assignment = if input.ratio(1, 8)? {
                Bytes::copy_from_slice(some_bytes(input, 60)?)
            } else {
                encode_assignment(&some_partitions(input)?).expect("it is short")
            };
            let error_code = some_code(input)?;
            MemberResponse::Sync(SyncGroupResponse { error_code, assignment, ..Default::default() })
        }
        MemberRequest::Heartbeat(_) => {
            MemberResponse::Heartbeat(HeartbeatResponse { error_code: some_code(input)?, ..Default::default() })
        }
        MemberRequest::ConsumerGroupHeartbeat(request) => {
            let assignment = if input.arbitrary()? { Some(some_target(input)?) } else { None };
            MemberResponse::ConsumerGroupHeartbeat(ConsumerGroupHeartbeatResponse {
                error_code: some_code(input)?,
                member_id: Some(request.member_id).filter(|_| !input.ratio(1, 16).unwrap_or(false)),
                member_epoch: if input.ratio(1, 16)? { input.arbitrary()? } else { below(input, 9)? as i32 },
                heartbeat_interval_ms: if input.ratio(1, 16)? { input.arbitrary()? } else { 3_000 },
                assignment,
                ..Default::default()
            })
        }
        MemberRequest::Leave(_) => {
            let error_code: ErrorCode = some_code(input)?;
            MemberResponse::Leave(LeaveGroupResponse { error_code, ..Default::default() })
        }
        MemberRequest::Committed(partitions) => {
            let mut committed = Offsets::new();
            for key in partitions.into_iter().chain(some_partitions(input)?) {
                committed.insert(key, CommittedOffset::new(i64::from(input.arbitrary::<i8>()?)));
            }
            MemberResponse::Committed(committed)
        }
        MemberRequest::OffsetCommit(request) => {
            let mut topics = Vec::new();
            for topic in request.topics {
                let mut partitions = Vec::new();
                for asked in topic.partitions {
                    let (partition_index, error_code) = (asked.partition_index, some_code(input)?);
                    for _ in 0..if input.ratio(1, 16)? { below(input, 3)? } else { 1 } {
                        partitions.push(OffsetCommitResponsePartition { partition_index, error_code });
                    }
                }
                topics.push(OffsetCommitResponseTopic { name: topic.name, partitions, ..Default::default() });
            }
            MemberResponse::OffsetCommit(OffsetCommitResponse { topics, ..Default::default() })
        }
    }))
}

fn run(input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let mut scene = Scene::new(input)?;
    scene.member.handle_poll(scene.now);
    scene.poll();
    while !input.is_empty() {
        match input.int_in_range(0..=15_u8)? {
            0 => scene.now = scene.now + Duration::from_millis(input.int_in_range(0..=60_000)?),
            1 => scene.now = scene.now + Duration::from_millis(input.int_in_range(0..=4_000)?),
            2 => scene.member.handle_poll(scene.now),
            3 => scene.release(),
            4 => scene.commit(input)?,
            5 => {
                scene.metadata = some_metadata(input, &scene.metadata)?;
                scene.member.handle_metadata(&Arc::new(scene.metadata.clone()));
            }
            6 if input.ratio(1, 8)? => scene.member.close(),
            7 => {
                let topics = [BTreeSet::new(), BTreeSet::from([TOPIC.into()])];
                scene.member.subscribe(scene.now, topics[usize::from(!input.ratio(1, 4)?)].clone());
            }
            _ => scene.answer(input)?,
        }
        scene.poll();
        scene.member.poll_timeout();
    }
    scene.end();
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let _ = run(&mut Unstructured::new(data));
});
