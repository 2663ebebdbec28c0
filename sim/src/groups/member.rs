//! A group member: its two machines, and what the steward and the application's callbacks do in a real client.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use kavka_core::cluster::{Broker, Call, CoordinatorKind, Coordinators, Metadata, Notice, Outdated, Owner, Target};
use kavka_core::config::{ConsumerConfig, GroupConfig, GroupProtocol};
use kavka_core::consumer::{
    AutomaticCommits, CommittedOffset, Consumer, Done, Offsets, RecordCursor, StartPosition, TopicPartition,
};
use kavka_core::error::{Error, ErrorKind, Result};
use kavka_core::group::{Member, MemberEvent, MemberRequest, MemberResponse, Strategy};
use kavka_core::time::Instant;
use kavka_core::wire::messages::leave_group::MemberIdentity;
use kavka_core::wire::messages::offset_fetch::{FETCH_BY_ID, FETCH_ONE_GROUP};
use kavka_core::wire::messages::{
    ConsumerGroupHeartbeatRequest, FindCoordinatorRequest, LeaveGroupRequest, OffsetCommitResponse,
};
use kavka_core::wire::records::Decompressor;
use kavka_core::wire::{AnyRequest, ErrorCode};

use crate::adapter::{
    Ask, Asker, BACKOFF, Given, MOST_DECOMPRESSED, MachineEvent, Question, REQUEST_TIMEOUT, Reply, any, ask,
    ask_for_consumer, decode, decode_for_consumer, hand_out, next_event,
};
use crate::client::Machines;

use super::convert::{Names, REMOVED, code, decode_for_member, is_eager, offset_fetch, offset_fetch_by_id, rounds};

pub(crate) const GROUP: &str = "billing";
/// The last version of `FindCoordinator` that asks for a single group.
const FIND_ONE: i16 = 3;
const AUTO_COMMIT_INTERVAL: Duration = Duration::from_secs(1);
const COMMIT_LIMIT: Duration = Duration::from_secs(5);
/// What a member did, for the judge.
#[derive(Debug)]
pub(crate) enum Action {
    /// A rebalance has completed with this generation, and these partitions were assigned in addition.
    Began(Vec<TopicPartition>, Option<i32>),
    RevokeBegan(Vec<TopicPartition>),
    Lost(Vec<TopicPartition>),
    /// The member joins the group.
    Joins,
    /// By the consumer protocol: the member tells its coordinator that it has these partitions, and no others.
    Acknowledges(BTreeSet<TopicPartition>),
    /// By the consumer protocol: the coordinator says that the member is in the group, with this member epoch.
    Confirmed(i32),
    /// The member sends a commit for these partitions.
    Commits(Vec<TopicPartition>),
}

/// Partitions that the application is giving up.
#[derive(Debug)]
struct Revoking {
    partitions: Vec<TopicPartition>,
    until: Instant,
    has_committed: bool,
}

/// A commit whose outcome the application does not know yet.
#[derive(Debug)]
struct Pending {
    /// Those that the coordinator has not accepted.
    offsets: Offsets,
    deadline: Instant,
}

/// What the application of a member asks for.
#[derive(Debug)]
pub(crate) struct Application {
    pub(crate) topics: &'static [&'static str],
    pub(crate) strategies: Vec<Strategy>,
    pub(crate) protocol: GroupProtocol,
    /// Set for a static member.
    pub(crate) instance: Option<String>,
    pub(crate) revoke_time: Duration,
}

#[derive(Debug)]
pub(crate) struct MemberMachine {
    member: Member,
    consumer: Consumer,
    decompressor: Decompressor,
    coordinators: Coordinators,
    /// Requests waiting until the coordinator is known.
    waiting: Vec<Ask>,
    ready: VecDeque<Ask>,
    is_looking: bool,
    /// The coordinator's address, for the client.
    named: Option<Broker>,
    decisions: VecDeque<(MemberEvent, Option<i32>)>,
    revoking: Option<Revoking>,
    /// How long the application takes to give up partitions.
    revoke_time: Duration,
    /// Whether the application never completes that, because the process is about to crash.
    pub(crate) hangs_at_revoke: bool,
    joins_empty: bool,
    metadata: Arc<Metadata>,
    names: Names,
    /// The metadata that the member wants anew.
    wanted: Option<Outdated>,
    /// The batch that the application is processing, and the records it got from it.
    at_hand: Option<(RecordCursor, Vec<Given>)>,
    commits: BTreeMap<u64, Pending>,
    automatic: AutomaticCommits,
    /// When the requests about the membership were sent that are not answered yet.
    asked: BTreeMap<u64, Instant>,
    /// The commit in flight.
    sent: Vec<(TopicPartition, i64)>,
    heard_at: Instant,
    /// While an answer is handled: whether it says that the member is not in the group.
    is_removed: Option<bool>,
    now: Instant,
    pub(crate) actions: VecDeque<Action>,
}

impl MemberMachine {
    pub(crate) fn new(now: Instant, application: Application, seed: u64) -> Self {
        let Application { topics, strategies, protocol, instance, revoke_time } = application;
        let consumer =
            ConsumerConfig::default().group_id(Some(GROUP.to_owned())).fetch_max_wait(Duration::from_millis(500));
        let group = GroupConfig::default()
            .session_timeout(super::SESSION)
            .heartbeat_interval(Duration::from_millis(1_500))
            .max_poll_interval(super::MAX_POLL_INTERVAL)
            .group_protocol(protocol)
            .group_instance_id(instance);
        let joins_empty = protocol == GroupProtocol::Consumer || strategies.iter().any(is_eager);
        let member = Member::new(group, &consumer, strategies, BACKOFF, 1, seed).expect("the settings are fine");
        let mut machine = Self {
            member,
            consumer: Consumer::new(consumer, BACKOFF, 1, seed),
            decompressor: Decompressor::new(),
            coordinators: Coordinators::default(),
            waiting: Vec::new(),
            ready: VecDeque::new(),
            is_looking: false,
            named: None,
            decisions: VecDeque::new(),
            revoking: None,
            revoke_time,
            hangs_at_revoke: false,
            joins_empty,
            metadata: Arc::default(),
            names: Names::new(),
            wanted: None,
            at_hand: None,
            commits: BTreeMap::new(),
            automatic: AutomaticCommits::new(AUTO_COMMIT_INTERVAL, COMMIT_LIMIT),
            asked: BTreeMap::new(),
            sent: Vec::new(),
            heard_at: now,
            is_removed: None,
            now,
            actions: VecDeque::new(),
        };
        machine.subscribe(now, topics);
        machine
    }

    /// The application subscribes to these topics instead of those before; without any it leaves the group.
    pub(crate) fn subscribe(&mut self, now: Instant, topics: &[&str]) {
        self.member.subscribe(now, topics.iter().map(|topic| Arc::from(*topic)).collect());
        self.hear_member();
    }

    /// The application asks for records; it gets up to `limit` of one partition.
    pub(crate) fn take(&mut self, now: Instant, limit: usize) -> Option<(TopicPartition, Vec<Given>)> {
        self.member.handle_poll(now);
        let batch = self.consumer.take_batch()?;
        let key = batch.topic_partition().clone();
        let mut cursor = match batch.open(&mut self.decompressor, MOST_DECOMPRESSED) {
            Ok(cursor) => cursor,
            Err(bad) => panic!("{key} has nothing but whole batches, and yet: {bad:?}"),
        };
        let given = hand_out(&mut cursor, limit);
        self.at_hand = Some((cursor, given.clone()));
        Some((key, given))
    }

    /// The application finishes the records that it got last; returns them.
    pub(crate) fn put_down(&mut self) -> Option<(TopicPartition, Vec<Given>)> {
        let (cursor, given) = self.at_hand.take()?;
        Some((cursor.topic_partition().clone(), given))
    }

    /// The application is told that the topic is another one by now, and reads that from the beginning.
    pub(crate) fn begin_anew(&mut self, key: &TopicPartition) {
        // Fails only if the partition was given up meanwhile.
        drop(self.consumer.seek(key, StartPosition::Earliest));
    }

    /// The application commits the records that it has finished.
    pub(crate) fn commit_now(&mut self, now: Instant) {
        let keys: Vec<_> = self.consumer.partitions().collect();
        self.commit(now, self.done(&keys));
    }

    /// From now on the application gives up partitions at once.
    pub(crate) fn hurry(&mut self) {
        self.revoke_time = Duration::ZERO;
    }

    /// Whether the member has no partitions when it joins.
    pub(crate) fn joins_empty(&self) -> bool {
        self.joins_empty
    }

    /// The broker that the member takes for its coordinator.
    pub(crate) fn coordinator(&self) -> Option<i32> {
        self.coordinators.get(GROUP, CoordinatorKind::Group)
    }

    /// Since when the coordinator may have been silent: when the last answered heartbeat was sent, or when the last
    /// other answer about the membership came.
    pub(crate) fn heard_at(&self) -> Instant {
        self.heard_at
    }

    pub(crate) fn close(&mut self) {
        self.member.close();
        self.hear_member();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.member.has_ended() && self.decisions.is_empty() && self.revoking.is_none()
    }

    pub(crate) fn is_stable(&self) -> bool {
        self.member.is_stable()
    }

    pub(crate) fn assignment(&self) -> &BTreeSet<TopicPartition> {
        self.member.assignment()
    }

    fn hear_member(&mut self) {
        while let Some(event) = self.member.poll_event() {
            match event {
                MemberEvent::Committed { number, outcome, left } => {
                    assert!(self.commits.remove(&number).is_some(), "commit {number} ends twice");
                    self.automatic.end(number, outcome, &left);
                }
                MemberEvent::MetadataWanted => self.wanted = Some(Outdated::InUse),
                MemberEvent::Topics(_) | MemberEvent::Failed(_) => {}
                event => {
                    if let MemberEvent::Assigned { partitions, .. }
                    | MemberEvent::Revoked { partitions }
                    | MemberEvent::Lost { partitions, .. } = &event
                    {
                        for key in partitions {
                            self.automatic.forget(key);
                        }
                    }
                    if let MemberEvent::Lost { partitions, error } = &event {
                        let has_reason = self.is_removed != Some(false);
                        assert!(has_reason, "the member loses {partitions:?} although it is in the group: {error}");
                        for key in partitions {
                            // Fails only if the partition was not added yet.
                            drop(self.consumer.withhold(key));
                        }
                        self.actions.push_back(Action::Lost(partitions.clone()));
                    }
                    self.decisions.push_back((event, self.member.generation_id()));
                }
            }
        }
    }

    fn commit(&mut self, now: Instant, offsets: Offsets) -> Option<u64> {
        let number = self.member.commit(now, offsets.clone(), COMMIT_LIMIT).ok()?;
        self.commits.insert(number, Pending { offsets, deadline: now + COMMIT_LIMIT });
        Some(number)
    }

    fn auto_commit(&mut self, now: Instant) {
        if !self.automatic.take_due(now) {
            return;
        }
        self.automatic.owe(self.consumer.take_changed());
        let (owned, consumer) = (self.member.assignment(), &self.consumer);
        let done = self.automatic.uncommitted(|key| match owned.contains(key) {
            true if consumer.is_withheld(key) => Done::ForNow(None),
            true => consumer.done_position(key).map_or(Done::Nothing, Done::Until),
            false => Done::Nothing,
        });
        if !done.is_empty()
            && let Some(number) = self.commit(now, done.clone())
        {
            self.automatic.begin(number, &done);
        }
    }

    /// Up to where the application is done with these partitions.
    fn done(&self, keys: &[TopicPartition]) -> Offsets {
        keys.iter().filter_map(|key| Some((key.clone(), self.consumer.done_position(key)?))).collect()
    }

    /// Does what the steward task does in a real client. The real one awaits threads and the outcomes of commits; this
    /// one is called repeatedly.
    fn carry_out(&mut self, now: Instant) {
        loop {
            if let Some(revoking) = &mut self.revoking {
                if now < revoking.until {
                    return;
                }
                if !std::mem::replace(&mut revoking.has_committed, true) {
                    let partitions = revoking.partitions.clone();
                    self.commit(now, self.done(&partitions));
                }
                let revoked = self.revoking.take().map(|revoking| revoking.partitions).unwrap_or_default();
                self.remove(&revoked);
                self.member.handle_released();
            }
            let Some((decision, generation_id)) = self.decisions.pop_front() else { return };
            match decision {
                MemberEvent::Assigned { partitions, committed } => {
                    for key in &partitions {
                        let start = committed.get(key).map_or(StartPosition::Earliest, StartPosition::from);
                        self.consumer.add(key, start).expect("it is not consumed already");
                    }
                    self.actions.push_back(Action::Began(partitions, generation_id));
                }
                MemberEvent::Revoked { partitions } => {
                    for key in &partitions {
                        // Fails only if the partition was lost meanwhile.
                        drop(self.consumer.withhold(key));
                    }
                    self.actions.push_back(Action::RevokeBegan(partitions.clone()));
                    let time = if self.hangs_at_revoke { Duration::MAX } else { self.revoke_time };
                    self.revoking = Some(Revoking { partitions, until: now + time, has_committed: false });
                }
                MemberEvent::Lost { partitions, .. } => {
                    self.remove(&partitions);
                    self.commit_too_late(now, &partitions);
                    self.actions.push_back(Action::Lost(partitions));
                }
                MemberEvent::AssignmentWanted { members, counts, .. } => {
                    self.member.handle_assignment(now, Ok(rounds(&members, &counts)));
                }
                MemberEvent::Topics(_)
                | MemberEvent::MetadataWanted
                | MemberEvent::Committed { .. }
                | MemberEvent::Failed(_) => {}
            }
        }
    }

    /// The application commits for partitions that it has lost, and is told that it cannot.
    fn commit_too_late(&mut self, now: Instant, lost: &[TopicPartition]) {
        let lost = lost.iter().filter(|key| !self.member.assignment().contains(*key));
        let offsets: Offsets = lost.map(|key| (key.clone(), CommittedOffset::new(i64::MAX))).collect();
        if !offsets.is_empty() {
            let refusal = self.member.commit(now, offsets, COMMIT_LIMIT).expect_err("the partitions are lost");
            assert_eq!(refusal.kind(), ErrorKind::Fenced, "{refusal}");
        }
    }

    fn remove(&mut self, partitions: &[TopicPartition]) {
        for key in partitions {
            // Fails only if the partition was lost before.
            drop(self.consumer.remove(key));
        }
    }

    /// Sends all requests of the member.
    fn ask_member(&mut self, now: Instant) {
        while let Some(call) = self.member.poll_request(now) {
            self.hear_member();
            let ask = self.ask_for_member(now, call);
            self.send_to_coordinator(ask);
        }
    }

    fn ask_for_member(&mut self, now: Instant, call: Call<MemberRequest>) -> Ask {
        let timeout = call.timeout.unwrap_or(REQUEST_TIMEOUT);
        self.asked.insert(call.id, now);
        let (mut call, request) = call.take_body();
        let request: Box<dyn AnyRequest> = match request {
            MemberRequest::Join(request) => {
                self.check_pending(self.member.assignment());
                self.actions.push_back(Action::Joins);
                Box::new(request)
            }
            MemberRequest::Sync(request) => Box::new(request),
            MemberRequest::Heartbeat(request) => Box::new(request),
            MemberRequest::ConsumerGroupHeartbeat(request) => {
                self.note_heartbeat(&request);
                Box::new(request)
            }
            MemberRequest::Leave(leave) => {
                let member = MemberIdentity {
                    member_id: leave.member_id,
                    reason: Some(leave.reason.into()),
                    ..Default::default()
                };
                Box::new(LeaveGroupRequest { group_id: GROUP.into(), members: vec![member], ..Default::default() })
            }
            MemberRequest::OffsetCommit(request) => {
                let topics = request.topics.iter();
                let named = topics.flat_map(|topic| {
                    let offsets = topic.partitions.iter();
                    offsets.map(|of| (TopicPartition::new(&*topic.name, of.partition_index), of.committed_offset))
                });
                self.sent = named.collect();
                self.actions.push_back(Action::Commits(self.sent.iter().map(|(key, _)| key.clone()).collect()));
                Box::new(request)
            }
            MemberRequest::Committed(keys) => {
                let by_id = offset_fetch_by_id(&keys, &self.metadata);
                let (min_version, max_version) =
                    if by_id.is_some() { (FETCH_BY_ID, call.max_version) } else { (call.min_version, FETCH_ONE_GROUP) };
                call = Call { owner: Owner::Control, min_version, max_version, ..call };
                Box::new(by_id.unwrap_or_else(|| offset_fetch(&keys)))
            }
        };
        ask(Asker::Member, call, timeout, Question::Request(request))
    }

    /// The member says that it has nothing but `kept`: no commit for another partition may be on its way. Offsets of a
    /// topic that is gone are left out of a commit that is sent again, and no coordinator takes them.
    fn check_pending(&self, kept: &BTreeSet<TopicPartition>) {
        let is_gone = |key: &TopicPartition, offset: &CommittedOffset| {
            let topic = self.metadata.topic(&key.topic);
            topic.is_some_and(|topic| topic.error.is_unknown_topic() || topic.topic_id != offset.topic_id)
        };
        let pending = self.commits.values().flat_map(|commit| &commit.offsets);
        let mut pending = pending.filter(|(key, offset)| !kept.contains(*key) && !is_gone(key, offset));
        let pending = pending.next().map(|(key, _)| key);
        assert!(pending.is_none(), "the member is without {pending:?} although a commit of it is not answered");
    }

    fn note_heartbeat(&mut self, request: &ConsumerGroupHeartbeatRequest) {
        let is_joining = request.member_epoch == 0;
        let Some(topics) = &request.topic_partitions else {
            // It lives on, or leaves.
            if request.member_epoch < 0 {
                self.check_pending(&BTreeSet::new());
            }
            return;
        };
        // It may name a topic of its target that is not in its metadata yet.
        let named = topics.iter().filter_map(|topic| Some((self.names.get(&topic.topic_id)?, topic)));
        let keys = named.flat_map(|(name, topic)| {
            topic.partitions.iter().map(move |partition| TopicPartition::new(Arc::clone(name), *partition))
        });
        let kept: BTreeSet<TopicPartition> = keys.collect();
        self.check_pending(&kept);
        self.actions.push_back(if is_joining { Action::Joins } else { Action::Acknowledges(kept) });
    }

    /// Sends a request to the coordinator, or keeps it until the coordinator is known.
    fn send_to_coordinator(&mut self, ask: Ask) {
        match self.coordinator() {
            Some(broker_id) => self.ready.push_back(Ask { target: Target::Broker(broker_id), ..ask }),
            None => self.waiting.push(ask),
        }
    }

    fn handle_found(&mut self, now: Instant, reply: Result<Reply>) {
        self.is_looking = false;
        let found = reply
            .and_then(decode::<FindCoordinatorRequest>)
            .and_then(|response| Error::from_code(response.error_code).map_or(Ok(response), Err));
        let waiting = std::mem::take(&mut self.waiting);
        match found {
            Ok(found) => {
                self.named = Broker::new(found.node_id, &found.host, found.port, None);
                self.coordinators.learn(GROUP.into(), CoordinatorKind::Group, found.node_id);
                for ask in waiting {
                    self.send_to_coordinator(ask);
                }
            }
            Err(error) => {
                for ask in waiting {
                    self.member.handle_response(now, ask.id, Err(error.clone()));
                }
            }
        }
    }

    fn note_sign_of_life(&mut self, now: Instant, id: u64, response: &Result<MemberResponse>) {
        let asked_at = self.asked.remove(&id).unwrap_or_default();
        let Ok(response) = response else { return };
        if let MemberResponse::ConsumerGroupHeartbeat(heartbeat) = response
            && heartbeat.error_code == ErrorCode::NONE
            && heartbeat.member_epoch > 0
        {
            self.actions.push_back(Action::Confirmed(heartbeat.member_epoch));
        }
        let code = code(response);
        let at = match response {
            MemberResponse::Heartbeat(_) | MemberResponse::ConsumerGroupHeartbeat(_) => asked_at,
            MemberResponse::Join(_) | MemberResponse::Sync(_) => now,
            _ => return,
        };
        self.is_removed = Some(REMOVED.contains(&code));
        if [ErrorCode::NONE, ErrorCode::REBALANCE_IN_PROGRESS].contains(&code) {
            self.heard_at = self.heard_at.max(at);
        }
    }

    fn note_accepted(&mut self, response: &OffsetCommitResponse) {
        let accepted = response.topics.iter().flat_map(|topic| {
            let name = self.names.get(&topic.topic_id).map_or(topic.name.as_str(), |name| name);
            let partitions = topic.partitions.iter().filter(|partition| partition.error_code == ErrorCode::NONE);
            partitions.map(move |partition| TopicPartition::new(name, partition.partition_index))
        });
        let accepted: BTreeSet<TopicPartition> = accepted.collect();
        for (key, offset) in self.sent.drain(..).filter(|(key, _)| accepted.contains(key)) {
            for commit in self.commits.values_mut() {
                commit.offsets.retain(|of, pending| *of != key || pending.offset != offset);
            }
        }
    }

    fn handle_answer(&mut self, now: Instant, id: u64, reply: Result<Reply>) {
        let response = reply.and_then(|reply| decode_for_member(reply, &self.names));
        self.note_sign_of_life(now, id, &response);
        if response.as_ref().is_err_and(|error| error.code() == Some(ErrorCode::UNKNOWN_TOPIC_ID)) {
            self.wanted = Some(Outdated::InUse);
        }
        if let Ok(MemberResponse::OffsetCommit(response)) = &response {
            self.note_accepted(response);
        }
        let refusal = match &response {
            Ok(response) => Error::from_code(code(response)),
            Err(error) => Some(error.clone()),
        };
        if let Some(error) = refusal {
            self.coordinators.handle_error(GROUP, CoordinatorKind::Group, &error);
        }
        self.member.handle_response(now, id, response);
    }
}

impl Machines for MemberMachine {
    fn handle_metadata(&mut self, now: Instant, metadata: &Arc<Metadata>) {
        self.metadata = Arc::clone(metadata);
        let with_id = metadata.topics().filter(|topic| !topic.topic_id.is_zero());
        self.names.extend(with_id.map(|topic| (topic.topic_id, Arc::clone(&topic.name))));
        self.consumer.handle_metadata(now, metadata);
        self.member.handle_metadata(metadata);
    }

    fn ask(&mut self, now: Instant) -> Option<Ask> {
        self.now = now;
        loop {
            self.ask_member(now);
            self.hear_member();
            let before = (self.decisions.len(), self.revoking.is_some());
            self.carry_out(now);
            self.auto_commit(now);
            if before == (0, false) && self.decisions.is_empty() {
                break;
            }
            if self.revoking.is_some() {
                break;
            }
        }
        self.ask_member(now);
        self.hear_member();
        let late = self.commits.iter().find(|(_, commit)| commit.deadline <= now);
        assert!(late.is_none(), "the application still waits for {late:?}");
        if !self.waiting.is_empty() && !self.is_looking {
            self.is_looking = true;
            let request = FindCoordinatorRequest { key: GROUP.into(), ..Default::default() };
            return Some(Ask { max_version: FIND_ONE, ..any(Asker::Lookup, 0, request) });
        }
        self.ready.pop_front().or_else(|| Some(ask_for_consumer(self.consumer.poll_request(now)?)))
    }

    fn answer(&mut self, now: Instant, asker: Asker, id: u64, reply: Result<Reply>) {
        self.is_removed = Some(false);
        match asker {
            Asker::Lookup => self.handle_found(now, reply),
            Asker::Member => self.handle_answer(now, id, reply),
            _ => self.consumer.handle_response(now, id, reply.and_then(decode_for_consumer)),
        }
        self.hear_member();
        self.is_removed = None;
    }

    fn named(&mut self) -> Option<Broker> {
        self.named.take()
    }

    fn poll_event(&mut self) -> Option<MachineEvent> {
        let wanted = self.wanted.take().map(|outdated| MachineEvent::Notice(Notice::RefreshMetadata(outdated)));
        wanted.or_else(|| next_event(&mut self.consumer))
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let revoking = self.revoking.as_ref().map(|revoking| revoking.until).filter(|until| *until > self.now);
        let own = [revoking, self.automatic.due()];
        let machines = [self.member.poll_timeout(), self.consumer.poll_timeout()];
        own.into_iter().chain(machines).flatten().min()
    }
}
