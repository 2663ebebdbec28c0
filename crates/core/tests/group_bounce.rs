//! A rolling bounce: the members of a group are replaced one by one, and so go from an eager to a cooperative assignor.
//!
//! As Kafka's documentation tells users to: in a first round each member comes back with both assignors, in a second
//! one with the new one alone. In between, members of both kinds are in one group.

mod group_kit;

use std::collections::{BTreeMap, BTreeSet};

use kavka_core::consumer::{Offsets, TopicPartition};
use kavka_core::group::assignor::Assignor;
use kavka_core::group::{MemberEvent, MemberRequest, MemberResponse, Strategy};
use kavka_core::wire::ErrorCode;
use kavka_core::wire::messages::join_group::{JoinGroupRequest, JoinGroupResponseMember};
use kavka_core::wire::messages::{HeartbeatResponse, JoinGroupResponse, LeaveGroupResponse, SyncGroupResponse};

use group_kit::{Script, config, metadata};

const OLD: &[Assignor] = &[Assignor::Range];
const BOTH: &[Assignor] = &[Assignor::CooperativeSticky, Assignor::Range];
const NEW: &[Assignor] = &[Assignor::CooperativeSticky];

const PARTITIONS: i32 = 6;

/// How long one step of the clock is.
const STEP_MS: u64 = 100;

/// A member, and what its application does.
struct Peer {
    script: Script,
    reads: BTreeSet<TopicPartition>,
    /// How many partitions it had to give up since the last look.
    given_up: usize,
}

/// A group with its coordinator.
#[derive(Default)]
struct Group {
    peers: BTreeMap<String, Peer>,
    generation_id: i32,
    /// The assignor of this generation.
    assignor: String,
    /// Whether it waits for members to join.
    is_preparing: bool,
    /// The members that have joined the next generation; those of the current one if there is no next.
    joined: BTreeMap<String, (u64, JoinGroupRequest)>,
    /// The share of each member, once the leader has said it.
    shares: Option<BTreeMap<String, SyncGroupResponse>>,
}

impl Group {
    fn start(&mut self, name: &str, assignors: &[Assignor]) {
        let strategies = assignors.iter().map(|assignor| Strategy::BuiltIn(*assignor)).collect();
        let mut script = Script::offering(config(), strategies);
        script.member.handle_metadata(&metadata(&[("orders", PARTITIONS)]));
        let peer = Peer { script, reads: BTreeSet::new(), given_up: 0 };
        assert!(self.peers.insert(name.to_owned(), peer).is_none());
    }

    /// Closes a member, starts the next one in its place, and lets the group settle after each.
    fn bounce(&mut self, name: &str, successor: &str, assignors: &[Assignor]) {
        self.peers.get_mut(name).unwrap().script.member.close();
        self.settle();
        assert!(!self.peers.contains_key(name), "{name} has left");
        self.start(successor, assignors);
        self.settle();
    }

    /// Lets time pass until every member is stable and all partitions are read.
    fn settle(&mut self) {
        for _ in 0..600 {
            let names: Vec<String> = self.peers.keys().cloned().collect();
            for name in &names {
                self.turn(name);
            }
            self.complete();
            self.peers.retain(|_, peer| !peer.script.member.has_ended());
            let read: usize = self.peers.values().map(|peer| peer.reads.len()).sum();
            let is_stable = self.peers.values().all(|peer| peer.script.member.is_stable());
            if is_stable && !self.is_preparing && read == PARTITIONS as usize {
                return;
            }
        }
        let states: Vec<_> = self.peers.iter().map(|(name, peer)| (name, &peer.reads)).collect();
        panic!("the group does not settle: {states:?}");
    }

    /// One member's turn: a step of time, its requests and its events.
    fn turn(&mut self, name: &str) {
        let Some(peer) = self.peers.get_mut(name) else { return };
        peer.script.pass(STEP_MS);
        peer.script.member.handle_poll(peer.script.now);
        for what in peer.script.poll() {
            self.answer(name, what);
        }
        let peer = self.peers.get_mut(name).unwrap();
        while let Some(event) = peer.script.member.poll_event() {
            match event {
                MemberEvent::Assigned { partitions, .. } => peer.reads.extend(partitions),
                MemberEvent::Revoked { partitions } => {
                    peer.given_up += partitions.len();
                    peer.reads.retain(|key| !partitions.contains(key));
                    peer.script.member.handle_released();
                }
                MemberEvent::Topics(_) => {}
                event => panic!("{name}: {event:?}"),
            }
        }
        let mut read = BTreeSet::new();
        for key in self.peers.values().flat_map(|peer| &peer.reads) {
            assert!(read.insert(key), "{key} is read by two members in generation {}", self.generation_id);
        }
    }

    fn answer(&mut self, name: &str, what: &str) {
        // These wait at the coordinator for other members.
        if what == "join" || what == "sync" && !self.takes_shares(name) {
            return self.note_join(name, what);
        }
        let is_preparing = self.is_preparing;
        let peer = self.peers.get_mut(name).unwrap();
        let (id, _) = peer.script.take_asked(what);
        let error_code = if is_preparing { ErrorCode::REBALANCE_IN_PROGRESS } else { ErrorCode::NONE };
        let response = match what {
            "heartbeat" => MemberResponse::Heartbeat(HeartbeatResponse { error_code, ..Default::default() }),
            "committed" => MemberResponse::Committed(Offsets::new()),
            "sync" if is_preparing => MemberResponse::Sync(SyncGroupResponse { error_code, ..Default::default() }),
            "sync" => MemberResponse::Sync(self.shares.as_mut().unwrap().remove(name).unwrap_or_default()),
            "leave" => MemberResponse::Leave(LeaveGroupResponse::default()),
            _ => panic!("{name} asks for {what}"),
        };
        peer.script.answer(id, response);
        if what == "leave" {
            self.joined.remove(name);
            self.prepare();
        }
    }

    fn note_join(&mut self, name: &str, what: &str) {
        if what == "sync" {
            return;
        }
        let (id, request) = self.peers.get_mut(name).unwrap().script.take_join();
        self.prepare();
        self.joined.insert(name.to_owned(), (id, request));
    }

    /// The next generation begins once every member has joined.
    fn prepare(&mut self) {
        if !std::mem::replace(&mut self.is_preparing, true) {
            self.joined.clear();
            self.shares = None;
        }
    }

    /// Whether the `SyncGroup` of this member can be answered; takes the shares if it is the leader's.
    fn takes_shares(&mut self, name: &str) -> bool {
        if self.is_preparing || self.shares.is_some() {
            return true;
        }
        if self.leader() != Some(name) {
            return false;
        }
        let peer = self.peers.get_mut(name).unwrap();
        let MemberRequest::Sync(request) = peer.script.asked("sync") else { unreachable!() };
        let share = |assignment: &kavka_core::wire::messages::sync_group::SyncGroupRequestAssignment| {
            let response = SyncGroupResponse { assignment: assignment.assignment.clone(), ..Default::default() };
            (assignment.member_id.clone(), response)
        };
        self.shares = Some(request.assignments.iter().map(share).collect());
        true
    }

    fn leader(&self) -> Option<&str> {
        self.joined.keys().next().map(String::as_str)
    }

    /// Begins the next generation if every member that is left has joined.
    fn complete(&mut self) {
        let is_left = |(name, peer): (&String, &Peer)| (!peer.script.member.has_ended()).then(|| name.clone());
        let members: BTreeSet<String> = self.peers.iter().filter_map(is_left).collect();
        if !self.is_preparing || members.is_empty() || !members.iter().eq(self.joined.keys()) {
            return;
        }
        self.is_preparing = false;
        self.generation_id += 1;
        self.assignor = self.vote();
        let leader = self.leader().unwrap().to_owned();
        for (name, (id, _)) in self.joined.clone() {
            let members = if name == leader { self.subscriptions() } else { Vec::new() };
            let response = JoinGroupResponse {
                generation_id: Some(self.generation_id),
                protocol_name: Some(self.assignor.clone()),
                leader: leader.clone(),
                member_id: name.clone(),
                members,
                ..Default::default()
            };
            self.peers.get_mut(&name).unwrap().script.answer(id, MemberResponse::Join(response));
        }
    }

    /// Of the assignors that all members offer, the first of the first member's.
    fn vote(&self) -> String {
        let mut requests = self.joined.values().map(|(_, request)| request);
        let first = requests.next().unwrap();
        let offers = |request: &JoinGroupRequest, name: &str| request.protocols.iter().any(|offer| offer.name == name);
        let others: Vec<_> = requests.collect();
        let common = first.protocols.iter().find(|offer| others.iter().all(|other| offers(other, &offer.name)));
        common.expect("the members have an assignor in common").name.clone()
    }

    fn subscriptions(&self) -> Vec<JoinGroupResponseMember> {
        let member = |(name, (_, request)): (&String, &(u64, JoinGroupRequest))| {
            let offer = request.protocols.iter().find(|offer| offer.name == self.assignor).unwrap();
            let metadata = offer.metadata.clone();
            JoinGroupResponseMember { member_id: name.clone(), metadata, ..Default::default() }
        };
        self.joined.iter().map(member).collect()
    }

    /// How many partitions each member had to give up since the last call.
    fn given_up(&mut self) -> Vec<usize> {
        self.peers.values_mut().map(|peer| std::mem::take(&mut peer.given_up)).collect()
    }
}

#[test]
fn three_members_are_bounced_from_an_eager_to_a_cooperative_assignor() {
    let mut group = Group::default();
    for name in ["a0", "b0", "c0"] {
        group.start(name, OLD);
        group.settle();
    }
    for (name, successor, assignor) in
        [("a0", "a1", "range"), ("b0", "b1", "range"), ("c0", "c1", "cooperative-sticky")]
    {
        group.bounce(name, successor, BOTH);
        assert_eq!(group.assignor, assignor, "{successor} has joined");
        assert!(group.given_up().iter().sum::<usize>() >= 4, "by the eager protocol all is given up");
    }
    for (name, successor) in [("a1", "a2"), ("b1", "b2"), ("c1", "c2")] {
        group.bounce(name, successor, NEW);
        assert_eq!(group.assignor, "cooperative-sticky", "{successor} has joined");
    }
    group.given_up();
    group.bounce("a2", "a3", NEW);
    assert_eq!(group.given_up(), [0, 1, 1], "only what the new member gets");
    let shares: Vec<usize> = group.peers.values().map(|peer| peer.reads.len()).collect();
    assert_eq!(shares, [2, 2, 2]);
}

#[test]
fn a_member_with_the_new_assignor_alone_reads_on_while_one_with_both_gives_up_everything() {
    let mut group = Group::default();
    group.start("a", NEW);
    group.settle();
    group.start("b", BOTH);
    group.settle();
    group.given_up();
    group.start("c", NEW);
    group.settle();
    assert_eq!(group.assignor, "cooperative-sticky");
    let [new, both, _] = group.given_up()[..] else { panic!("three members") };
    assert!(new <= 1 && both >= 3, "{new} and {both} partitions were given up");
}
