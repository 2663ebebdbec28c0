//! Helpers for tests of the group member: a machine with its clock, and a scripted coordinator.
#![allow(dead_code, reason = "each test program uses another part")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kavka_core::backoff::Backoff;
use kavka_core::cluster::{Metadata, Owner};
use kavka_core::config::{ConsumerConfig, GroupConfig};
use kavka_core::consumer::{CommittedOffset, Offsets, TopicPartition};
use kavka_core::error::{Error, ErrorKind};
use kavka_core::group::assignor::RebalanceProtocol;
use kavka_core::group::{
    Member, MemberEvent, MemberRequest, MemberResponse, Strategy, Subscription, encode_assignment,
};
use kavka_core::time::Instant;
use kavka_core::wire::messages::join_group::JoinGroupResponseMember;
use kavka_core::wire::messages::metadata::{MetadataResponsePartition, MetadataResponseTopic};
use kavka_core::wire::messages::offset_commit::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kavka_core::wire::messages::{
    HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupResponse, MetadataResponse, OffsetCommitRequest,
    OffsetCommitResponse, SyncGroupResponse,
};
use kavka_core::wire::{ErrorCode, Uuid};

/// The settings of the tests: a session of 6 s, a heartbeat every 2 s, and 20 s for `max.poll.interval.ms`.
pub(crate) fn config() -> GroupConfig {
    GroupConfig::default()
        .session_timeout(Duration::from_secs(6))
        .heartbeat_interval(Duration::from_secs(2))
        .max_poll_interval(Duration::from_secs(20))
}

pub(crate) fn key(partition: i32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

pub(crate) fn keys(partitions: &[i32]) -> Vec<TopicPartition> {
    partitions.iter().map(|partition| key(*partition)).collect()
}

/// A snapshot in which these topics have these numbers of partitions.
pub(crate) fn metadata(topics: &[(&str, i32)]) -> Arc<Metadata> {
    metadata_with_id(topics, Uuid::ZERO)
}

/// The same; all topics have this id.
pub(crate) fn metadata_with_id(topics: &[(&str, i32)], topic_id: Uuid) -> Arc<Metadata> {
    let topic = |(name, count): &(&str, i32)| MetadataResponseTopic {
        name: Some((*name).to_owned()),
        topic_id,
        partitions: (0..*count)
            .map(|partition_index| MetadataResponsePartition {
                partition_index,
                leader_id: Some(1),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    };
    let response = MetadataResponse { topics: topics.iter().map(topic).collect(), ..Default::default() };
    Arc::new(Metadata::default().merged(response, true))
}

/// An assignor of the application; the leader is asked.
pub(crate) fn custom(protocol: RebalanceProtocol) -> Strategy {
    Strategy::Custom { name: "mine".into(), protocol, user_data: bytes::Bytes::new() }
}

/// A member, its clock, and its unanswered requests.
pub(crate) struct Script {
    pub(crate) member: Member,
    pub(crate) now: Instant,
    asked: Vec<(u64, Owner, MemberRequest)>,
}

impl Script {
    pub(crate) fn new(config: GroupConfig, strategy: Strategy) -> Self {
        Self::in_rack(config, strategy, None)
    }

    pub(crate) fn in_rack(config: GroupConfig, strategy: Strategy, rack: Option<&str>) -> Self {
        Self::made(config, vec![strategy], rack)
    }

    /// A member that offers several strategies to its group.
    pub(crate) fn offering(config: GroupConfig, strategies: Vec<Strategy>) -> Self {
        Self::made(config, strategies, None)
    }

    fn made(config: GroupConfig, strategies: Vec<Strategy>, rack: Option<&str>) -> Self {
        let consumer = ConsumerConfig::default().group_id(Some("billing".to_owned())).client_rack(rack.map(Into::into));
        let backoff = Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(1) };
        let member = Member::new(config, &consumer, strategies, backoff, 1, 1).unwrap();
        let mut script = Self { member, now: Instant(1_000), asked: Vec::new() };
        script.member.subscribe(script.now, BTreeSet::from(["orders".into()]));
        script.member.handle_metadata(&metadata(&[("orders", 4)]));
        script
    }

    /// A member with the given protocol that owns these partitions in generation 1, and is not the leader.
    pub(crate) fn reading(config: GroupConfig, protocol: RebalanceProtocol, partitions: &[i32]) -> Self {
        let mut script = Self::new(config, custom(protocol));
        script.join(1);
        script.sync(partitions);
        script.begin();
        script.member.poll_event();
        script.drain();
        script
    }

    pub(crate) fn pass(&mut self, millis: u64) {
        self.now.0 += millis;
    }

    /// Polls the machine's requests; returns the names of all unanswered ones.
    pub(crate) fn poll(&mut self) -> Vec<&'static str> {
        while let Some(call) = self.member.poll_request(self.now) {
            let owner = call.owner;
            let (call, request) = call.take_body();
            self.asked.push((call.id, owner, request));
        }
        self.asked.iter().map(|(_, _, request)| name(request)).collect()
    }

    /// The connection of the unanswered request with this name.
    pub(crate) fn owner(&mut self, what: &str) -> Owner {
        self.poll();
        self.asked.iter().find(|(_, _, request)| name(request) == what).map(|(_, owner, _)| *owner).unwrap()
    }

    /// Removes and returns the unanswered request with this name.
    pub(crate) fn take(&mut self, what: &str) -> (u64, MemberRequest) {
        self.poll();
        self.take_asked(what)
    }

    /// As [`Script::take`], of a request that was polled earlier.
    pub(crate) fn take_asked(&mut self, what: &str) -> (u64, MemberRequest) {
        let at = self.asked.iter().position(|(_, _, request)| name(request) == what);
        let asked = || self.asked.iter().map(|(_, _, request)| name(request)).collect::<Vec<_>>();
        let (id, _, request) = self.asked.remove(at.unwrap_or_else(|| panic!("no {what} among {:?}", asked())));
        (id, request)
    }

    /// The unanswered request with this name.
    pub(crate) fn asked(&self, what: &str) -> &MemberRequest {
        self.asked.iter().map(|(_, _, request)| request).find(|request| name(request) == what).unwrap()
    }

    pub(crate) fn answer(&mut self, id: u64, response: MemberResponse) {
        self.member.handle_response(self.now, id, Ok(response));
    }

    pub(crate) fn fail(&mut self, what: &str) {
        let (id, _) = self.take(what);
        self.member.handle_response(self.now, id, Err(Error::new(ErrorKind::Disconnected, "planted")));
    }

    pub(crate) fn take_join(&mut self) -> (u64, JoinGroupRequest) {
        match self.take("join") {
            (id, MemberRequest::Join(request)) => (id, request),
            _ => unreachable!(),
        }
    }

    pub(crate) fn take_commit(&mut self) -> (u64, OffsetCommitRequest) {
        match self.take("commit") {
            (id, MemberRequest::OffsetCommit(request)) => (id, request),
            _ => unreachable!(),
        }
    }

    /// Answers the join: the member is in this generation, and another member leads.
    pub(crate) fn join(&mut self, generation_id: i32) {
        let (id, _) = self.take_join();
        self.answer(id, joined(generation_id, "leader", &[]));
    }

    pub(crate) fn refuse_join(&mut self, error_code: ErrorCode, member_id: &str) {
        let (id, _) = self.take_join();
        let member_id = member_id.to_owned();
        self.answer(id, MemberResponse::Join(JoinGroupResponse { error_code, member_id, ..Default::default() }));
    }

    pub(crate) fn sync(&mut self, partitions: &[i32]) {
        let (id, _) = self.take("sync");
        self.answer_sync(id, partitions);
    }

    pub(crate) fn answer_sync(&mut self, id: u64, partitions: &[i32]) {
        let assignment = encode_assignment(&keys(partitions)).unwrap();
        self.answer(id, MemberResponse::Sync(SyncGroupResponse { assignment, ..Default::default() }));
    }

    /// Answers that nothing is committed for the new partitions.
    pub(crate) fn begin(&mut self) {
        let (id, _) = self.take("committed");
        self.answer(id, MemberResponse::Committed(Offsets::new()));
    }

    pub(crate) fn beat(&mut self, error_code: ErrorCode) {
        let (id, _) = self.take("heartbeat");
        self.answer(id, MemberResponse::Heartbeat(HeartbeatResponse { error_code, ..Default::default() }));
    }

    pub(crate) fn leave(&mut self) {
        let (id, _) = self.take("leave");
        self.answer(id, MemberResponse::Leave(LeaveGroupResponse::default()));
    }

    pub(crate) fn commit(&mut self, partition: i32, offset: i64) -> u64 {
        self.commit_within(partition, offset, Duration::from_secs(10))
    }

    pub(crate) fn commit_within(&mut self, partition: i32, offset: i64, limit: Duration) -> u64 {
        let offsets = Offsets::from([(key(partition), CommittedOffset::new(offset))]);
        self.member.commit(self.now, offsets, limit).unwrap()
    }

    /// Returns the generation in which the commit was sent.
    pub(crate) fn answer_commit(&mut self, error_code: ErrorCode) -> Option<i32> {
        let (id, request) = self.take_commit();
        let topic = |topic: &kavka_core::wire::messages::offset_commit::OffsetCommitRequestTopic| {
            let partition = |partition_index| OffsetCommitResponsePartition { partition_index, error_code };
            let partitions = topic.partitions.iter().map(|asked| partition(asked.partition_index)).collect();
            OffsetCommitResponseTopic { name: topic.name.clone(), topic_id: topic.topic_id, partitions }
        };
        let topics = request.topics.iter().map(topic).collect();
        self.answer(id, MemberResponse::OffsetCommit(OffsetCommitResponse { topics, ..Default::default() }));
        request.generation_id_or_member_epoch
    }

    /// The events for the driver, in short.
    pub(crate) fn events(&mut self) -> Vec<String> {
        self.poll();
        std::iter::from_fn(|| self.member.poll_event()).map(|event| told(&event)).collect()
    }

    fn drain(&mut self) {
        self.poll();
        while self.member.poll_event().is_some() {}
    }
}

/// The response to a join. The leader gets the named members, with their topics.
pub(crate) fn joined(generation_id: i32, leader: &str, members: &[(&str, &str)]) -> MemberResponse {
    let member = |(member_id, topic): &(&str, &str)| {
        let subscription = Subscription { topics: vec![(*topic).into()], ..Default::default() };
        let metadata = subscription.encode().unwrap();
        JoinGroupResponseMember { member_id: (*member_id).to_owned(), metadata, ..Default::default() }
    };
    MemberResponse::Join(JoinGroupResponse {
        generation_id: Some(generation_id),
        protocol_name: Some("mine".into()),
        leader: leader.into(),
        member_id: "me".into(),
        members: members.iter().map(member).collect(),
        ..Default::default()
    })
}

/// Makes a member of a join's response claim partitions.
pub(crate) fn claim(response: &mut MemberResponse, member_id: &str, owned: &[TopicPartition]) {
    let MemberResponse::Join(response) = response else { panic!("not the response to a join") };
    let member = response.members.iter_mut().find(|member| member.member_id == member_id).unwrap();
    let subscription = Subscription::decode(member.metadata.clone()).unwrap();
    member.metadata = Subscription { owned: owned.to_vec(), ..subscription }.encode().unwrap();
}

fn name(request: &MemberRequest) -> &'static str {
    match request {
        MemberRequest::Join(_) => "join",
        MemberRequest::Sync(_) => "sync",
        MemberRequest::Heartbeat(_) => "heartbeat",
        MemberRequest::ConsumerGroupHeartbeat(_) => "consumer heartbeat",
        MemberRequest::Leave(_) => "leave",
        MemberRequest::Committed(_) => "committed",
        MemberRequest::OffsetCommit(_) => "commit",
    }
}

fn told(event: &MemberEvent) -> String {
    let list = |partitions: &[TopicPartition]| {
        partitions.iter().map(|key| key.partition.to_string()).collect::<Vec<_>>().join(" ")
    };
    match event {
        MemberEvent::Assigned { partitions, .. } => format!("assigned {}", list(partitions)),
        MemberEvent::Revoked { partitions } => format!("revoked {}", list(partitions)),
        MemberEvent::Lost { partitions, .. } => format!("lost {}", list(partitions)),
        MemberEvent::AssignmentWanted { .. } => "assignment wanted".to_owned(),
        MemberEvent::Topics(topics) => format!("topics {}", topics.iter().map(|t| &**t).collect::<Vec<_>>().join(" ")),
        MemberEvent::MetadataWanted => "metadata wanted".to_owned(),
        MemberEvent::Committed { number, outcome: Ok(()), .. } => format!("committed {number}"),
        MemberEvent::Committed { number, outcome: Err(error), .. } => {
            format!("not committed {number}: {:?}", error.kind())
        }
        MemberEvent::Failed(error) => format!("failed: {:?}", error.kind()),
    }
}
