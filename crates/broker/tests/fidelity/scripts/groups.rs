//! Steps about a classic group of at most three members, and its offsets.

use kavka_core::wire::messages::leave_group::MemberIdentity;
use kavka_core::wire::messages::offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kavka_core::wire::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, OffsetCommitRequest, OffsetFetchRequest,
};
use kavka_core::wire::{ApiKey, ErrorCode};

use super::Script;
use crate::cluster::until;
use crate::group_kit::{Group, JOIN, Member, SYNC};

const RANGE: [(&str, &str); 1] = [("range", "t")];

/// No member is silent for so long while a script runs.
const SESSION_MS: i32 = 120_000;

/// What a script knows of its group.
#[derive(Default)]
pub(super) struct Scripted {
    /// Its id and coordinator, once it was used.
    known: Option<(String, i32)>,
    members: Vec<Member>,
    leader: usize,
    generation: i32,
    /// Whether the members have to join again.
    is_preparing: bool,
    /// Whether the members have joined and have no shares yet.
    is_completing: bool,
    /// Whether its coordinator has stored anything of it.
    is_stored: bool,
}

impl Script<'_> {
    pub(super) fn step_of_group(&mut self) {
        if self.group.known.is_none() {
            let group = Group::new(&self.cluster);
            self.group.known = Some((group.id, group.coordinator));
        }
        let count = self.group.members.len();
        match self.random.below(14) {
            // While they join again, nothing tells when a join is taken in.
            0..2 if count < 3 && !self.group.is_preparing => self.join(),
            0..3 if count > 0 => self.join_again(),
            3..5 if count > 0 => self.sync(),
            5..7 => self.heartbeat(),
            7..9 => self.commit(),
            9 => self.fetch_offsets(),
            10 => self.leave(),
            11 => self.join_badly(),
            12 => self.delete_group(),
            _ => self.describe(),
        }
    }

    fn group_id(&self) -> String {
        self.group.known.as_ref().map(|(id, _)| id.clone()).unwrap_or_default()
    }

    fn coordinator(&self) -> i32 {
        self.group.known.as_ref().map_or(1, |(_, coordinator)| *coordinator)
    }

    /// The `Group` of the kit, for its requests.
    fn kit(&self) -> Group<'_> {
        Group { cluster: &self.cluster, id: self.group_id(), coordinator: self.coordinator() }
    }

    fn join_request(&self, member_id: &str) -> JoinGroupRequest {
        let request = self.kit().join_request(member_id, &RANGE);
        JoinGroupRequest { session_timeout_ms: SESSION_MS, rebalance_timeout_ms: Some(SESSION_MS), ..request }
    }

    /// The state of the group, the assignor and the number of members.
    fn described(&mut self) -> (ErrorCode, String, String, usize) {
        let request = DescribeGroupsRequest { groups: vec![self.group_id()], ..DescribeGroupsRequest::default() };
        let coordinator = self.coordinator();
        let mut answer = self.connection(coordinator).call(&request);
        let group = answer.groups.remove(0);
        (group.error_code, group.group_state, group.protocol_data, group.members.len())
    }

    fn describe(&mut self) {
        // Whether Kafka 4 describes a group of which nothing is stored depends on what other groups do.
        if self.group.is_stored {
            let told = self.described();
            self.note(format!("describe: {told:?}"));
        }
    }

    /// A new member joins, and the others join again.
    fn join(&mut self) {
        let mut connection = self.kit().connect();
        let answer = connection.call_version(JOIN, &self.join_request(""));
        self.note(format!("new member: {}", answer.error_code));
        let member_id = answer.member_id;
        connection.send(JOIN, &self.join_request(&member_id));
        let count = self.group.members.len() + 1;
        if count > 1 {
            self.await_preparing(0);
        }
        self.group.members.push(Member { connection, member_id });
        for at in 0..count - 1 {
            let request = self.join_request(&self.group.members[at].member_id);
            self.group.members[at].connection.send(JOIN, &request);
        }
        self.receive_joined("join");
    }

    /// Waits until a member is told that the group rebalances.
    fn await_preparing(&mut self, at: usize) {
        let (member_id, generation) = (self.group.members[at].member_id.clone(), self.group.generation);
        let mut connection = self.kit().connect();
        until("the group to rebalance", || {
            let heard = self.kit().heartbeat(&mut connection, &member_id, generation);
            (heard == ErrorCode::REBALANCE_IN_PROGRESS).then_some(())
        });
    }

    fn join_again(&mut self) {
        let (leader, count) = (self.group.leader, self.group.members.len());
        let is_waiting = self.group.is_preparing || self.group.is_completing;
        let order: Vec<usize> = std::iter::once(leader).chain((0..count).filter(|at| *at != leader)).collect();
        for (number, at) in order.into_iter().enumerate() {
            let request = self.join_request(&self.group.members[at].member_id);
            self.group.members[at].connection.send(JOIN, &request);
            if number == 0 && count > 1 && !is_waiting {
                self.await_preparing(usize::from(at == 0));
            }
        }
        self.receive_joined("join again");
    }

    /// Takes what all members are told of the new generation.
    fn receive_joined(&mut self, what: &str) {
        let answers: Vec<JoinGroupResponse> =
            self.group.members.iter_mut().map(|member| member.connection.receive::<JoinGroupRequest>(JOIN)).collect();
        for (at, answer) in answers.iter().enumerate() {
            if answer.leader == self.group.members[at].member_id {
                self.group.leader = at;
            }
            let is_id = answer.member_id == self.group.members[at].member_id;
            let told = (answer.error_code, answer.generation_id, is_id, answer.protocol_name.as_deref());
            self.note(format!("  {what}, member {at}: {told:?}"));
        }
        let most = answers.iter().map(|answer| answer.members.len()).max();
        self.note(format!("  the leader knows {most:?} members"));
        let before = std::mem::replace(&mut self.group.generation, answers[0].generation_id.unwrap_or(-1));
        self.group.is_completing |= before != self.group.generation;
        self.group.is_preparing = false;
    }

    fn sync(&mut self) {
        let generation = self.group.generation + self.one_of(&[0, 0, 0, 0, 1, -1]);
        let assignor = self.one_of(&["range", "range", "range", "sticky"]);
        let leader = self.group.leader;
        let is_right = generation == self.group.generation && assignor == "range";
        let shares: Vec<(String, String)> = (0..)
            .zip(&self.group.members)
            .map(|(at, member)| (member.member_id.clone(), format!("share {at} of {generation}")))
            .collect();
        let shares: Vec<(&str, &str)> = shares.iter().map(|(id, share)| (id.as_str(), share.as_str())).collect();
        let count = self.group.members.len();
        for at in std::iter::once(leader).chain((0..count).filter(|at| *at != leader)) {
            let member_id = self.group.members[at].member_id.clone();
            let given = if at == leader { &shares[..] } else { &[] };
            let mut request = self.kit().sync_request(&member_id, generation, given);
            request.protocol_name = Some(assignor.into());
            let answer = self.group.members[at].connection.call_version(SYNC, &request);
            let told = (answer.error_code, String::from_utf8_lossy(&answer.assignment).into_owned());
            // Which member leads is the coordinator's choice.
            self.lines.push(format!("sync of {generation} by {assignor}, member {at}: {told:?}"));
        }
        let from = self.lines.len() - count;
        self.lines[from..].sort();
        self.group.is_stored |= is_right && self.group.is_completing;
        self.group.is_completing &= !is_right;
    }

    /// A member id, mostly a right one, and what to call it.
    fn any_member(&mut self) -> (String, String) {
        let at = self.random.below(self.group.members.len() + 1);
        let wrong = self.one_of(&["", "nobody"]);
        match self.group.members.get(at) {
            Some(member) => (member.member_id.clone(), format!("member {at}")),
            None => (wrong.into(), format!("{wrong:?}")),
        }
    }

    fn any_generation(&mut self) -> i32 {
        self.group.generation + self.one_of(&[0, 0, 0, 0, 1, -1])
    }

    fn heartbeat(&mut self) {
        let ((member_id, name), generation_id) = (self.any_member(), self.any_generation());
        let version = self.version(ApiKey::Heartbeat, 0, 99);
        let request = HeartbeatRequest { group_id: self.group_id(), generation_id, member_id, group_instance_id: None };
        let coordinator = self.coordinator();
        let code = self.connection(coordinator).call_version(version, &request).error_code;
        self.note(format!("heartbeat v{version} of {name} in {generation_id}: {code}"));
    }

    fn commit(&mut self) {
        let ((member_id, name), generation) = (self.any_member(), self.any_generation());
        let generation = if member_id.is_empty() { self.one_of(&[-1, -1, generation]) } else { generation };
        let slot = self.random.below(self.topics.len());
        let topic = self.topics[slot].topic.clone();
        let partition_index = self.one_of(&[0, 0, 1, 9]);
        let committed_offset = self.one_of(&[0, 1, 7, 1_000_000]);
        let partition = OffsetCommitRequestPartition {
            partition_index,
            committed_offset,
            committed_leader_epoch: Some(0),
            commit_timestamp: None,
            committed_metadata: Some("note".into()),
        };
        let topics =
            vec![OffsetCommitRequestTopic { name: topic.name, topic_id: topic.id, partitions: vec![partition] }];
        let request = OffsetCommitRequest {
            group_id: self.group_id(),
            generation_id_or_member_epoch: Some(generation).filter(|generation| *generation != -1),
            member_id,
            topics,
            ..OffsetCommitRequest::default()
        };
        let version = self.version(ApiKey::OffsetCommit, 2, 99);
        let coordinator = self.coordinator();
        let code = self.connection(coordinator).call_version(version, &request).topics[0].partitions[0].error_code;
        self.group.is_stored |= code == ErrorCode::NONE;
        let what = format!("{committed_offset} of {slot}-{partition_index}");
        self.note(format!("commit v{version} of {name} in {generation}, {what}: {code}"));
    }

    fn fetch_offsets(&mut self) {
        // Versions that ask for one group.
        let version = self.version(ApiKey::OffsetFetch, 2, 7);
        let request = OffsetFetchRequest { group_id: self.group_id(), ..OffsetFetchRequest::default() };
        let coordinator = self.coordinator();
        let answer = self.connection(coordinator).call_version(version, &request);
        let slot = |name: &str| self.topics.iter().position(|slot| slot.topic.name == name);
        let mut told: Vec<_> = answer
            .topics
            .iter()
            .flat_map(|topic| topic.partitions.iter().map(move |partition| (slot(&topic.name), partition)))
            // The coordinator forgets the offsets of a topic some time after it is deleted.
            .filter(|(slot, _)| slot.is_some_and(|slot| self.topics[slot].was_never_deleted()))
            .map(|(slot, partition)| {
                (slot, partition.partition_index, partition.committed_offset, partition.error_code)
            })
            .collect();
        told.sort_unstable_by_key(|(slot, partition, ..)| (*slot, *partition));
        self.note(format!("offsets v{version}: {} {told:?}", answer.error_code));
    }

    fn leave(&mut self) {
        let (member_id, name) = self.any_member();
        let version = self.version(ApiKey::LeaveGroup, 3, 99);
        let member = MemberIdentity { member_id: member_id.clone(), group_instance_id: None, reason: None };
        let request =
            LeaveGroupRequest { group_id: self.group_id(), members: vec![member], ..LeaveGroupRequest::default() };
        let coordinator = self.coordinator();
        let answer = self.connection(coordinator).call_version(version, &request);
        let each: Vec<_> = answer.members.iter().map(|member| member.error_code).collect();
        self.note(format!("leave v{version} of {name}: {} {each:?}", answer.error_code));
        let Some(at) = self.group.members.iter().position(|member| member.member_id == member_id) else { return };
        self.group.members.remove(at);
        self.group.leader = match self.group.leader {
            leader if leader > at => leader - 1,
            // Whoever joins first then leads.
            leader if leader == at => 0,
            leader => leader,
        };
        self.group.is_preparing = !self.group.members.is_empty();
        self.group.is_completing = false;
    }

    fn join_badly(&mut self) {
        let right = self.join_request("");
        let (what, request) = match self.random.below(5) {
            0 => ("unknown member", JoinGroupRequest { member_id: "nobody".into(), ..right }),
            1 => ("no assignors", JoinGroupRequest { protocols: Vec::new(), ..right }),
            2 => ("short session", JoinGroupRequest { session_timeout_ms: 10, ..right }),
            3 => {
                ("other protocol", JoinGroupRequest { protocol_type: "connect".into(), member_id: "x".into(), ..right })
            }
            _ => ("no group", JoinGroupRequest { group_id: String::new(), ..right }),
        };
        let version = self.version(ApiKey::JoinGroup, 4, 99);
        let coordinator = self.coordinator();
        let answer = self.connection(coordinator).call_version(version, &request);
        let told = (answer.error_code, answer.generation_id, answer.members.len());
        self.note(format!("join v{version}, {what}: {told:?}"));
    }

    fn delete_group(&mut self) {
        let version = self.version(ApiKey::DeleteGroups, 0, 99);
        let request = DeleteGroupsRequest { groups_names: vec![self.group_id()] };
        let coordinator = self.coordinator();
        let code = self.connection(coordinator).call_version(version, &request).results[0].error_code;
        self.note(format!("delete group v{version}: {code}"));
        if code == ErrorCode::NONE {
            self.group.generation = 0;
            self.group.is_stored = false;
        }
    }
}
