//! Groups that change their protocol while they have members (KIP-848): a classic group becomes a consumer group when a
//! member joins by the consumer protocol, and a classic one again when the last such member goes.

use bytes::Bytes;
use kavka_core::wire::messages::consumer_protocol::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, ConsumerProtocolTopic,
};
use kavka_core::wire::messages::join_group::JoinGroupRequestProtocol;
use kavka_core::wire::messages::offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kavka_core::wire::messages::sync_group::SyncGroupRequestAssignment;
use kavka_core::wire::messages::{
    ConsumerGroupHeartbeatRequest, JoinGroupRequest, JoinGroupResponse, OffsetCommitRequest, SyncGroupRequest,
    SyncGroupResponse,
};
use kavka_core::wire::{ErrorCode, Message};

use crate::cluster::{Cluster, Topic, until};
use crate::connection::Connection;
use crate::consumer_groups::{describe, group_of, heartbeat, join, listed, partitions};
use crate::group_kit::{Group, JOIN, SYNC, embedded};

on_every_broker!(
    a_classic_group_becomes_a_consumer_group_when_a_member_joins_by_its_protocol,
    a_group_is_classic_again_when_the_last_member_of_the_consumer_protocol_leaves,
    a_member_of_the_classic_protocol_joins_a_consumer_group_and_leaves_it,
    what_does_not_fit_a_consumer_group_is_refused_in_classic_terms,
    a_cooperative_member_keeps_its_generation_until_it_has_given_up,
    a_group_whose_members_are_not_consumers_stays_classic,
    who_waits_for_a_rebalance_is_told_to_join_the_consumer_group,
    members_of_both_protocols_commit_in_a_consumer_group,
    a_static_member_takes_its_partitions_along_to_the_other_protocol_and_back,
);

/// A member that uses the classic protocol.
struct Classic<'a> {
    group: &'a Group<'a>,
    topic: &'a Topic,
    connection: Connection,
    member_id: String,
    instance: Option<&'static str>,
    generation_id: i32,
    /// The partitions that it reads.
    has: Vec<i32>,
    /// Whether it tells what it has when it joins, and keeps that until it is told otherwise.
    is_cooperative: bool,
}

impl<'a> Classic<'a> {
    fn new(group: &'a Group<'a>, topic: &'a Topic) -> Self {
        let (connection, member_id) = (group.connect(), String::new());
        let (instance, generation_id, has) = (None, -1, Vec::new());
        Self { group, topic, connection, member_id, instance, generation_id, has, is_cooperative: false }
    }

    /// A member that leads a stable group of its own, in generation 1, and reads two partitions.
    fn lead(group: &'a Group<'a>, topic: &'a Topic) -> Self {
        let mut member = Self::new(group, topic);
        member.join_first();
        member.sync(&[0, 1]);
        assert_eq!((member.generation_id, &*member.has), (1, &[0, 1][..]));
        member
    }

    fn join_request(&self) -> JoinGroupRequest {
        let owned = ConsumerProtocolTopic { topic: self.topic.name.clone(), partitions: self.has.clone() };
        let subscription = ConsumerProtocolSubscription {
            topics: vec![self.topic.name.clone()],
            owned_partitions: if self.is_cooperative { vec![owned] } else { Vec::new() },
            ..ConsumerProtocolSubscription::default()
        };
        let protocol = JoinGroupRequestProtocol { name: "range".into(), metadata: embedded(1, &subscription) };
        let group_instance_id = self.instance.map(Into::into);
        JoinGroupRequest {
            group_instance_id,
            protocols: vec![protocol],
            ..self.group.join_request(&self.member_id, &[])
        }
    }

    /// Joins; in a classic group, this waits for the others.
    fn join(&mut self) -> JoinGroupResponse {
        let joined = self.connection.call_version(JOIN, &self.join_request());
        assert_eq!(joined.error_code, ErrorCode::NONE);
        assert_eq!(joined.protocol_name.as_deref(), Some("range"));
        self.member_id.clone_from(&joined.member_id);
        self.generation_id = joined.generation_id.unwrap();
        joined
    }

    /// Joins with the member id that it is told.
    fn join_first(&mut self) -> JoinGroupResponse {
        let told = self.connection.call_version(JOIN, &self.join_request());
        assert_eq!(told.error_code, ErrorCode::MEMBER_ID_REQUIRED);
        self.member_id = told.member_id;
        self.join()
    }

    fn sync_request(&self, partitions: &[i32]) -> SyncGroupRequest {
        let topic = ConsumerProtocolTopic { topic: self.topic.name.clone(), partitions: partitions.to_vec() };
        let assigned = ConsumerProtocolAssignment { assigned_partitions: vec![topic], user_data: None };
        let share =
            SyncGroupRequestAssignment { member_id: self.member_id.clone(), assignment: embedded(1, &assigned) };
        let assignments = if partitions.is_empty() { Vec::new() } else { vec![share] };
        let group_instance_id = self.instance.map(Into::into);
        let request = self.group.sync_request(&self.member_id, self.generation_id, &[]);
        SyncGroupRequest { assignments, group_instance_id, ..request }
    }

    /// Asks for its partitions; a leader assigns these to itself.
    fn sync(&mut self, partitions: &[i32]) -> SyncGroupResponse {
        let synced = self.connection.call_version(SYNC, &self.sync_request(partitions));
        if synced.error_code == ErrorCode::NONE {
            self.has = assigned(&synced.assignment);
        }
        synced
    }

    fn beat(&mut self) -> ErrorCode {
        self.group.heartbeat_as(&mut self.connection, &self.member_id, self.instance, self.generation_id)
    }

    /// Sends a heartbeat, and joins again if it is told to.
    fn step(&mut self) {
        match self.beat() {
            ErrorCode::NONE => {}
            ErrorCode::REBALANCE_IN_PROGRESS => {
                self.join();
                self.sync(&[]);
            }
            error_code => panic!("{error_code}"),
        }
    }
}

/// The partitions of an assignment, whose topic is not checked.
fn assigned(assignment: &Bytes) -> Vec<i32> {
    assert_eq!(assignment[..2], [0, 1], "the version of the subscription");
    let assignment = ConsumerProtocolAssignment::decode_exact(1, assignment.slice(2..)).unwrap();
    let topic = assignment.assigned_partitions.into_iter().next();
    let mut partitions = topic.map(|topic| topic.partitions).unwrap_or_default();
    partitions.sort_unstable();
    partitions
}

/// A member that uses the consumer protocol.
struct Consumer<'a> {
    group: &'a Group<'a>,
    topic: &'a Topic,
    connection: Connection,
    epoch: i32,
    has: Vec<i32>,
}

impl<'a> Consumer<'a> {
    /// A new member, with the member id `new`.
    fn join(group: &'a Group<'a>, topic: &'a Topic, instance: Option<&str>) -> Self {
        let mut member = Self { group, topic, connection: group.connect(), epoch: 0, has: Vec::new() };
        let instance_id = instance.map(Into::into);
        member.call(&ConsumerGroupHeartbeatRequest { instance_id, ..join(group, "new", &[topic]) });
        member
    }

    fn call(&mut self, request: &ConsumerGroupHeartbeatRequest) {
        let told = self.connection.call(request);
        assert_eq!(told.error_code, ErrorCode::NONE, "{told:?}");
        self.epoch = told.member_epoch;
        if let Some(assignment) = told.assignment {
            let topic = assignment.topic_partitions.into_iter().next();
            self.has = topic.map(|topic| topic.partitions).unwrap_or_default();
        }
    }

    /// Sends a heartbeat, and does what it is told.
    fn step(&mut self) {
        let owned = if self.has.is_empty() { Vec::new() } else { partitions(self.topic, &self.has) };
        let request = heartbeat(self.group, "new", self.epoch);
        self.call(&ConsumerGroupHeartbeatRequest { topic_partitions: Some(owned), ..request });
    }

    fn leave(mut self) {
        self.call(&heartbeat(self.group, "new", -1));
    }
}

/// Lets both members do what they are told until each has one of the two partitions and nothing changes any more.
fn share(classic: &mut Classic, consumer: &mut Consumer) {
    until("each to have one partition", || {
        classic.step();
        consumer.step();
        let is_shared = classic.has.len() == 1 && consumer.has.len() == 1 && classic.has != consumer.has;
        (is_shared && consumer.epoch == classic.generation_id && classic.beat() == ErrorCode::NONE).then_some(())
    });
}

fn a_classic_group_becomes_a_consumer_group_when_a_member_joins_by_its_protocol(cluster: &Cluster) {
    let Some((group, mut connection)) = group_of(cluster) else { return };
    let topic = cluster.create(2, 1, &[]);
    let mut old = Classic::lead(&group, &topic);
    let mut new = Consumer::join(&group, &topic, None);
    assert!(new.has.is_empty(), "the other one has yet to give something up");
    assert!(listed(&group, &mut connection, "consumer").is_some());
    assert_eq!(old.beat(), ErrorCode::REBALANCE_IN_PROGRESS);
    let joined = old.join();
    assert_eq!((joined.leader.as_str(), joined.members.len()), ("", 0), "the coordinator assigns");
    assert_eq!(joined.protocol_type.as_deref(), Some("consumer"));
    old.sync(&[]);
    share(&mut old, &mut new);
    let described = describe(&group, &mut connection);
    assert_eq!((described.group_state.as_str(), described.group_epoch), ("Stable", new.epoch));
    let of_type = |wanted| described.members.iter().find(|member| member.member_type == Some(wanted)).unwrap();
    let (classic, consumer) = (of_type(0), of_type(1));
    assert_eq!((&classic.member_id, classic.member_epoch), (&old.member_id, old.generation_id));
    assert_eq!(classic.assignment.topic_partitions[0].partitions, old.has);
    assert_eq!(classic.subscribed_topic_names, [topic.name.as_str()]);
    assert_eq!((consumer.member_id.as_str(), consumer.member_epoch), ("new", new.epoch));
}

fn a_group_is_classic_again_when_the_last_member_of_the_consumer_protocol_leaves(cluster: &Cluster) {
    let Some((group, mut connection)) = group_of(cluster) else { return };
    let topic = cluster.create(2, 1, &[]);
    let mut old = Classic::lead(&group, &topic);
    let mut new = Consumer::join(&group, &topic, None);
    share(&mut old, &mut new);
    new.leave();
    assert!(listed(&group, &mut connection, "classic").is_some());
    assert_eq!(group.describe(&mut connection).0, "PreparingRebalance");
    assert_eq!(old.beat(), ErrorCode::REBALANCE_IN_PROGRESS, "its generation is known");
    let before = old.generation_id;
    let joined = old.join();
    assert_eq!((&joined.leader, joined.members.len()), (&old.member_id, 1), "it assigns again");
    assert_eq!(joined.generation_id, Some(before + 1));
    old.sync(&[0, 1]);
    assert_eq!(old.has, [0, 1]);
    assert_eq!(old.beat(), ErrorCode::NONE);
    assert_eq!(group.describe(&mut connection), ("Stable".into(), "range".into(), 1));
}

fn a_member_of_the_classic_protocol_joins_a_consumer_group_and_leaves_it(cluster: &Cluster) {
    let Some((group, mut connection)) = group_of(cluster) else { return };
    let topic = cluster.create(2, 1, &[]);
    let mut consumer = Consumer::join(&group, &topic, None);
    let mut classic = Classic::new(&group, &topic);
    classic.join_first();
    share(&mut classic, &mut consumer);
    assert_eq!(group.leave(&mut connection, &classic.member_id, None), ErrorCode::NONE);
    assert_eq!(classic.beat(), ErrorCode::UNKNOWN_MEMBER_ID);
    until("the other to have both", || {
        consumer.step();
        (consumer.has.len() == 2).then_some(())
    });
    assert!(listed(&group, &mut connection, "consumer").is_some());
}

fn what_does_not_fit_a_consumer_group_is_refused_in_classic_terms(cluster: &Cluster) {
    let Some((group, mut connection)) = group_of(cluster) else { return };
    let topic = cluster.create(2, 1, &[]);
    let mut old = Classic::lead(&group, &topic);
    let mut new = Consumer::join(&group, &topic, None);
    share(&mut old, &mut new);
    let mut refused = |request: &JoinGroupRequest| connection.call_version(JOIN, request).error_code;
    let connect = JoinGroupRequest { protocol_type: "connect".into(), ..Classic::new(&group, &topic).join_request() };
    assert_eq!(refused(&connect), ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    let sticky = group.join_request("", &[("sticky", &topic.name)]);
    assert_eq!(refused(&sticky), ErrorCode::INCONSISTENT_GROUP_PROTOCOL, "the other one only knows range");
    let short = JoinGroupRequest { session_timeout_ms: 999, ..Classic::new(&group, &topic).join_request() };
    assert_eq!(refused(&short), ErrorCode::INVALID_SESSION_TIMEOUT);
    let mut refused = |request: &SyncGroupRequest| connection.call_version(SYNC, request).error_code;
    let good = old.sync_request(&[]);
    let other = SyncGroupRequest { protocol_name: Some("sticky".into()), ..good.clone() };
    assert_eq!(refused(&other), ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    let stale = SyncGroupRequest { generation_id: old.generation_id - 1, ..good.clone() };
    assert_eq!(refused(&stale), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(refused(&SyncGroupRequest { member_id: "new".into(), ..good }), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(group.heartbeat(&mut connection, "new", new.epoch), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(group.heartbeat(&mut connection, "nobody", 1), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(group.heartbeat(&mut connection, &old.member_id, 77), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(group.leave(&mut connection, "nobody", None), ErrorCode::UNKNOWN_MEMBER_ID);
}

fn a_cooperative_member_keeps_its_generation_until_it_has_given_up(cluster: &Cluster) {
    let Some((group, _)) = group_of(cluster) else { return };
    let topic = cluster.create(2, 1, &[]);
    let mut old = Classic::lead(&group, &topic);
    old.is_cooperative = true;
    let mut new = Consumer::join(&group, &topic, None);
    until("the member to be told to give one up", || {
        old.step();
        (old.has.len() == 1).then_some(())
    });
    assert_eq!(old.generation_id, 1, "it has not said that it has given one up");
    new.step();
    assert!(new.has.is_empty());
    assert_eq!(old.beat(), ErrorCode::REBALANCE_IN_PROGRESS);
    old.join();
    assert_eq!(old.generation_id, new.epoch);
    old.sync(&[]);
    share(&mut old, &mut new);
}

fn a_group_whose_members_are_not_consumers_stays_classic(cluster: &Cluster) {
    let Some((group, mut connection)) = group_of(cluster) else { return };
    let topic = cluster.topic();
    let joins = join(&group, "new", &[&topic]);
    let connect = JoinGroupRequest { protocol_type: "connect".into(), ..group.join_request("", &[("range", "t")]) };
    let worker = connection.call_version(3, &connect);
    assert_eq!(worker.error_code, ErrorCode::NONE);
    assert_eq!(connection.call(&joins).error_code, ErrorCode::GROUP_ID_NOT_FOUND);
    assert_eq!(group.heartbeat(&mut connection, &worker.member_id, 1), ErrorCode::NONE);

    let unread = Group::new(cluster);
    let mut connection = unread.connect();
    let mut leader = unread.lead();
    let joins = ConsumerGroupHeartbeatRequest { group_id: unread.id.clone(), ..joins };
    let refused = connection.call(&joins).error_code;
    assert_eq!(refused, ErrorCode::GROUP_ID_NOT_FOUND, "its assignment is not that of a consumer");
    assert_eq!(unread.heartbeat(&mut leader.connection, &leader.member_id, 1), ErrorCode::NONE);
}

fn who_waits_for_a_rebalance_is_told_to_join_the_consumer_group(cluster: &Cluster) {
    let Some((group, _)) = group_of(cluster) else { return };
    let topic = cluster.create(2, 1, &[]);
    let mut leader = Classic::lead(&group, &topic);
    let mut waits = Classic::new(&group, &topic);
    waits.member_id = waits.connection.call_version(JOIN, &waits.join_request()).member_id;
    let request = waits.join_request();
    waits.connection.send(JOIN, &request);
    until("the rebalance to begin", || (leader.beat() == ErrorCode::REBALANCE_IN_PROGRESS).then_some(()));
    let mut new = Consumer::join(&group, &topic, None);
    let told = waits.connection.receive::<JoinGroupRequest>(JOIN);
    assert_eq!(told.error_code, ErrorCode::REBALANCE_IN_PROGRESS);
    waits.join();
    until("the partitions to be shared out", || {
        leader.step();
        waits.step();
        new.step();
        let counts = [leader.has.len(), waits.has.len(), new.has.len()];
        (counts.iter().sum::<usize>() == 2 && counts.iter().all(|count| *count < 2)).then_some(())
    });
}

fn members_of_both_protocols_commit_in_a_consumer_group(cluster: &Cluster) {
    let Some((group, mut connection)) = group_of(cluster) else { return };
    let topic = cluster.create(2, 1, &[]);
    let mut old = Classic::lead(&group, &topic);
    let mut new = Consumer::join(&group, &topic, None);
    share(&mut old, &mut new);
    let mut commit = |version, member_id: &str, epoch| {
        let partition = OffsetCommitRequestPartition { committed_offset: 1, ..OffsetCommitRequestPartition::default() };
        let partitions = vec![OffsetCommitRequestPartition { committed_metadata: Some(String::new()), ..partition }];
        let request = OffsetCommitRequest {
            group_id: group.id.clone(),
            member_id: member_id.into(),
            generation_id_or_member_epoch: Some(epoch),
            topics: vec![OffsetCommitRequestTopic { name: topic.name.clone(), partitions, ..Default::default() }],
            ..OffsetCommitRequest::default()
        };
        connection.call_version(version, &request).topics[0].partitions[0].error_code
    };
    for version in [8, 9] {
        assert_eq!(commit(version, &old.member_id, old.generation_id), ErrorCode::NONE);
        assert_eq!(commit(version, &old.member_id, old.generation_id + 1), ErrorCode::ILLEGAL_GENERATION);
        assert_eq!(commit(version, "nobody", 1), ErrorCode::UNKNOWN_MEMBER_ID);
    }
    assert_eq!(commit(9, "new", new.epoch), ErrorCode::NONE);
    assert_eq!(commit(8, "new", new.epoch), ErrorCode::UNSUPPORTED_VERSION, "it has no member epochs");
}

fn a_static_member_takes_its_partitions_along_to_the_other_protocol_and_back(cluster: &Cluster) {
    let Some((group, mut connection)) = group_of(cluster) else { return };
    let topic = cluster.create(2, 1, &[]);
    let mut old = Classic { instance: Some("one"), ..Classic::new(&group, &topic) };
    old.join();
    old.sync(&[0, 1]);
    let mut new = Consumer::join(&group, &topic, Some("one"));
    until("it to have both", || {
        new.step();
        (new.has == [0, 1]).then_some(())
    });
    assert!(listed(&group, &mut connection, "consumer").is_some());
    assert_eq!(old.beat(), ErrorCode::FENCED_INSTANCE_ID);

    let mut back = Classic { instance: Some("one"), ..Classic::new(&group, &topic) };
    back.join();
    assert!(listed(&group, &mut connection, "classic").is_some());
    assert_eq!(group.describe(&mut connection), ("Stable".into(), "range".into(), 1));
    assert_eq!(back.generation_id, new.epoch, "nobody else has to join");
    back.sync(&[]);
    assert_eq!(back.has, [0, 1]);
}
