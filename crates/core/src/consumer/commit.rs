//! The offset commits of one consumer.
//!
//! One commit request is in flight at a time. Commits that the application asks for meanwhile are merged into the next
//! request, with the newest offset of each partition. So commits never overtake each other, and a slow coordinator
//! leads to fewer commits, not to a queue. Each commit has its own deadline, after which it is reported as failed. Even
//! then the next request waits for the late response, because it must not overtake the request in flight.
//!
//! An offset belongs to a topic id, not to a name: a topic that was deleted and created again has other records. A
//! request names the topics by their ids if all ids are known and the coordinator can read them (Kafka 4.1 and newer),
//! and it refuses an id that is gone. Before a request is sent, offsets are left out whose topic has another id by the
//! newest metadata, so that older coordinators do not take them for the new topic either (guarantee R15).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::cluster::{Call, CoordinatorKind, Metadata, Target, Topic, limit_of_one_attempt};
use crate::error::{Error, ErrorKind, Phase, Place, Result};
use crate::planted::{Bug, is_planted};
use crate::random::Random;
use crate::time::Instant;
use crate::wire::error_code::ErrorCode;
use crate::wire::messages::OffsetCommitRequest;
use crate::wire::messages::offset_commit::{
    COMMIT_BY_NAME, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
    OffsetCommitResponseTopic,
};
use crate::wire::primitives::Uuid;

use super::partition::Partition;
use super::{Consumer, ConsumerEvent, ConsumerRequest, InFlight, StartPosition, TopicPartition};

/// An offset to commit for one partition, or one that a group has committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The offset of the next record to read.
    pub offset: i64,
    /// The leader epoch of the last consumed record, or a later one, if known (KIP-320).
    pub leader_epoch: Option<i32>,
    /// Free text that is stored with the offset.
    pub metadata: String,
    /// The id of the topic that the offset belongs to; [`Uuid::ZERO`] if it is unknown. A consumer then takes that of
    /// the topic it reads.
    pub topic_id: Uuid,
}

impl CommittedOffset {
    /// An offset without leader epoch, metadata and topic id.
    pub fn new(offset: i64) -> Self {
        Self { offset, leader_epoch: None, metadata: String::new(), topic_id: Uuid::ZERO }
    }
}

impl From<&CommittedOffset> for StartPosition {
    fn from(committed: &CommittedOffset) -> Self {
        let CommittedOffset { offset, leader_epoch, topic_id, .. } = *committed;
        Self::Committed { offset, leader_epoch, topic_id }
    }
}

/// Offsets by partition.
pub type Offsets = BTreeMap<TopicPartition, CommittedOffset>;

/// The request that commits `offsets` for a group on behalf of a client that is not a member of it.
///
/// # Errors
///
/// `Misuse` if an offset is negative.
pub fn commit_request(group_id: &str, offsets: &Offsets) -> Result<OffsetCommitRequest> {
    let mut topics: Vec<OffsetCommitRequestTopic> = Vec::new();
    for (key, committed) in offsets {
        if committed.offset < 0 {
            let error = Error::new(ErrorKind::Misuse, "an offset to commit must not be negative");
            return Err(error.at_partition(&key.topic, key.partition));
        }
        let topic_id = committed.topic_id;
        if topics.last().is_none_or(|topic| topic.name != *key.topic || topic.topic_id != topic_id) {
            topics.push(OffsetCommitRequestTopic { name: key.topic.to_string(), topic_id, partitions: Vec::new() });
        }
        if let Some(topic) = topics.last_mut() {
            topic.partitions.push(OffsetCommitRequestPartition {
                partition_index: key.partition,
                committed_offset: committed.offset,
                committed_leader_epoch: committed.leader_epoch,
                committed_metadata: Some(committed.metadata.clone()),
                ..Default::default()
            });
        }
    }
    Ok(OffsetCommitRequest { group_id: group_id.into(), topics, ..Default::default() })
}

/// The newest version in which such a request can be sent: newer ones need the ids of all topics.
pub fn newest_version(request: &OffsetCommitRequest) -> i16 {
    let has_ids = request.topics.iter().all(|topic| !topic.topic_id.is_zero());
    if has_ids && !is_planted(Bug::CommitsByName) { i16::MAX } else { COMMIT_BY_NAME }
}

/// The error when the coordinator answers `code` to a commit by a non-member; `None` if that is no error.
pub fn refused_commit(code: ErrorCode, group_id: &str) -> Option<Error> {
    let error = match code {
        code if code.denies_membership() || code.is_rebalancing() => {
            let what =
                format!("the group has live members, and only they may commit for it: the broker answered {code}");
            Error::new(ErrorKind::Broker(code), what).with_hint("stop the group's members, or use another group")
        }
        code => Error::from_code(code)?,
    };
    Some(error.at(Place { group: Some(group_id.into()), ..Place::default() }))
}

/// The offsets that were not committed, and the error. An offset that the response leaves out counts as not committed.
///
/// The error is the first one that a retry cannot cure, or else the first one.
pub fn not_committed(response: &OffsetCommitResponse, group_id: &str, offsets: &Offsets) -> Option<(Offsets, Error)> {
    left_uncommitted(response, group_id, offsets, refused_commit)
}

/// The error when the coordinator answers `code` to a commit by a member; `None` if that is no error.
fn refused_member(code: ErrorCode, group_id: &str) -> Option<Error> {
    let error = match code {
        code if code.denies_membership() => {
            let what = format!("the group has moved on without this member, so its offsets were not committed: {code}");
            let hint = "records since the last commit are read again, by the members that have the partitions now; if the \
                        member was too slow, ask for records more often or raise session.timeout.ms";
            Error::new(ErrorKind::Fenced, what).with_hint(hint)
        }
        code => Error::from_code(code)?,
    };
    Some(error.at(Place { group: Some(group_id.into()), ..Place::default() }))
}

fn left_uncommitted(
    response: &OffsetCommitResponse,
    group_id: &str,
    offsets: &Offsets,
    refused: fn(ErrorCode, &str) -> Option<Error>,
) -> Option<(Offsets, Error)> {
    let mut committed = BTreeSet::new();
    let mut problem: Option<Error> = None;
    for (name, topic) in named(response, offsets) {
        for partition in &topic.partitions {
            let key = TopicPartition::new(Arc::clone(name), partition.partition_index);
            match refused(partition.error_code, group_id) {
                None => {
                    committed.insert(key);
                }
                Some(error) if problem.as_ref().is_none_or(|first| first.is_retriable() && !error.is_retriable()) => {
                    problem = Some(error.at_partition(&key.topic, key.partition));
                }
                Some(_) => {}
            }
        }
    }
    let left: Offsets = offsets.iter().filter(|(key, _)| !committed.contains(*key)).map(owned).collect();
    let (key, _) = left.first_key_value()?;
    let left_out = || {
        let error = Error::new(ErrorKind::Disconnected, "the broker's response leaves out a partition");
        error.at_partition(&key.topic, key.partition)
    };
    let problem = problem.unwrap_or_else(left_out);
    Some((left, problem))
}

/// The topics of a response, with their names: an answer to a request with ids has no names.
fn named<'a>(
    response: &'a OffsetCommitResponse,
    offsets: &'a Offsets,
) -> impl Iterator<Item = (&'a Arc<str>, &'a OffsetCommitResponseTopic)> {
    let names: BTreeMap<&str, &Arc<str>> = offsets.keys().map(|key| (&*key.topic, &key.topic)).collect();
    let ids: BTreeMap<Uuid, &Arc<str>> = offsets.iter().map(|(key, offset)| (offset.topic_id, &key.topic)).collect();
    let name = move |topic: &OffsetCommitResponseTopic| {
        let by_id = || ids.get(&topic.topic_id).filter(|_| !topic.topic_id.is_zero());
        if topic.name.is_empty() { by_id() } else { names.get(topic.name.as_str()) }.copied()
    };
    response.topics.iter().filter_map(move |topic| Some((name(topic)?, topic)))
}

/// Why offsets of a topic with the id `topic_id` cannot be committed any more, by the metadata of the topic of that
/// name; `None` if they can. `is_refused`: the coordinator does not know the topic.
fn lost(topic: &Topic, topic_id: Uuid, is_refused: bool) -> Option<Error> {
    if ![topic.topic_id, topic_id].contains(&Uuid::ZERO) && topic.topic_id != topic_id {
        let what = "the topic was deleted and created again, so offsets of the old one were not committed";
        let error = Error::new(ErrorKind::Broker(ErrorCode::INCONSISTENT_TOPIC_ID), what);
        return Some(error.with_hint("commit only offsets of records that were read of the new topic"));
    }
    // One that does not know it may lag behind, or may have just started.
    (is_refused && topic.error.is_unknown_topic()).then(|| {
        let code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        Error::new(ErrorKind::Broker(code), "the topic was deleted, so its offsets were not committed")
    })
}

/// Whether a commit failed because its topic is gone, or another one has its name.
pub fn is_of_lost_topic(error: &Error) -> bool {
    // Not by a code that is only the source of a time-out: nobody knows then what became of the topic.
    matches!(error.kind(), ErrorKind::Broker(code) if code.is_unknown_topic() || code == ErrorCode::INCONSISTENT_TOPIC_ID)
}

fn owned((key, committed): (&TopicPartition, &CommittedOffset)) -> (TopicPartition, CommittedOffset) {
    (key.clone(), committed.clone())
}

/// A commit that the application waits for, and its deadline.
#[derive(Debug, Clone)]
struct Asked {
    number: u64,
    deadline: Instant,
    /// The topics of its offsets, with their ids: of one name there may be two, if the topic was created again.
    topics: BTreeSet<(Arc<str>, Uuid)>,
    /// Why some of its offsets are left out.
    lost: Option<Error>,
}

/// Offsets that go into one request, and the commits that it completes.
#[derive(Debug, Default)]
struct Commit {
    offsets: Offsets,
    asked: Vec<Asked>,
    /// The partitions that were left out, because their topic is gone.
    lost: BTreeSet<TopicPartition>,
    /// The generation in which it was sent.
    generation_id: Option<i32>,
}

impl Commit {
    /// The partitions for which the coordinator has not taken an offset.
    fn left(&self) -> BTreeSet<TopicPartition> {
        self.offsets.keys().chain(&self.lost).cloned().collect()
    }
}

/// How a commit has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) number: u64,
    pub(crate) outcome: Result<()>,
    /// If it failed: the partitions for which the coordinator may not have taken the offset. It has taken the others.
    pub(crate) left: BTreeSet<TopicPartition>,
}

/// The member id and generation that a member's commits carry.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_field_names, reason = "these are Kafka's names")]
pub(crate) struct Membership {
    pub(crate) generation_id: i32,
    pub(crate) member_id: String,
    pub(crate) group_instance_id: Option<String>,
}

/// The commits of one consumer.
#[derive(Debug)]
pub(crate) struct Commits {
    group_id: Arc<str>,
    /// `None` if the consumer is not a group member.
    membership: Option<Membership>,
    /// Whether the group is rebalancing and the member keeps its partitions: the coordinator refuses its commits
    /// meanwhile.
    is_between: bool,
    backoff: Backoff,
    next_number: u64,
    /// The request in flight.
    in_flight: Option<Commit>,
    /// What the next request will commit; newer than `in_flight`.
    next: Commit,
    failures: u32,
    retry_at: Instant,
    last_error: Option<Error>,
    /// The topics that the coordinator did not know when it was asked last.
    unknown: BTreeSet<Arc<str>>,
    outcomes: Vec<Ended>,
}

impl Commits {
    pub(crate) fn new(group_id: Arc<str>, backoff: Backoff) -> Self {
        Self {
            group_id,
            membership: None,
            is_between: false,
            backoff,
            next_number: 0,
            in_flight: None,
            next: Commit::default(),
            failures: 0,
            retry_at: Instant::default(),
            last_error: None,
            unknown: BTreeSet::new(),
            outcomes: Vec::new(),
        }
    }

    /// Sets the member id and generation for the commits from now on.
    pub(crate) fn stamp(&mut self, membership: Option<Membership>) {
        self.membership = membership;
    }

    /// Says whether the group is rebalancing: refused commits are then tried again.
    pub(crate) fn set_between(&mut self, is_between: bool) {
        self.is_between = is_between;
    }

    /// Whether a pending commit covers a partition outside `owned`.
    pub(crate) fn names_others_than(&self, owned: &BTreeSet<TopicPartition>) -> bool {
        let mut commits = self.in_flight.iter().chain([&self.next]).filter(|commit| !commit.asked.is_empty());
        commits.any(|commit| commit.offsets.keys().any(|key| !owned.contains(key)))
    }

    /// Fails every pending commit, because the member was removed from its group.
    pub(crate) fn fail(&mut self, error: &Error) {
        let commits = self.in_flight.iter_mut().chain([&mut self.next]);
        for commit in commits {
            for Asked { number, .. } in std::mem::take(&mut commit.asked) {
                self.outcomes.push(Ended { number, outcome: Err(error.clone()), left: commit.left() });
            }
        }
        self.forget_offsets();
    }

    /// Asks for a commit. Returns its number, which [`take_outcomes`](Self::take_outcomes) gives with the outcome.
    pub(crate) fn ask(&mut self, offsets: Offsets, deadline: Instant) -> Result<u64> {
        commit_request(&self.group_id, &offsets)?;
        if !self.is_busy() {
            // An earlier commit's error does not apply to this one.
            self.last_error = None;
        }
        self.next_number += 1;
        let number = self.next_number;
        if offsets.is_empty() {
            self.outcomes.push(Ended { number, outcome: Ok(()), left: BTreeSet::new() });
        } else {
            let topics = offsets.iter().map(|(key, offset)| (Arc::clone(&key.topic), offset.topic_id)).collect();
            self.next.offsets.extend(offsets);
            self.next.asked.push(Asked { number, deadline, topics, lost: None });
        }
        Ok(number)
    }

    /// The request to send now, and the time limit for its response. `metadata` is the newest.
    pub(crate) fn poll_request(
        &mut self,
        now: Instant,
        metadata: &Metadata,
    ) -> Option<(OffsetCommitRequest, Duration)> {
        self.give_up(now);
        if self.in_flight.is_some() || self.next.asked.is_empty() || self.retry_at > now {
            return None;
        }
        self.leave_out_lost(metadata);
        if self.next.offsets.is_empty() {
            let commit = std::mem::take(&mut self.next);
            self.end(commit);
            return None;
        }
        let mut request = match commit_request(&self.group_id, &self.next.offsets) {
            Ok(request) => request,
            // `ask` lets no such offset in. Without this, everybody would wait for a commit that is never sent.
            Err(error) => {
                self.fail(&error);
                return None;
            }
        };
        if is_planted(Bug::OffsetOfAnother)
            && let [one, other, ..] = &mut *request.topics.first_mut()?.partitions
        {
            other.committed_offset = one.committed_offset;
        }
        if let Some(Membership { generation_id, member_id, group_instance_id }) = self.membership.clone() {
            self.next.generation_id = Some(generation_id);
            request.generation_id_or_member_epoch = Some(generation_id);
            request.member_id = member_id;
            request.group_instance_id = group_instance_id;
        }
        let left = self.next.asked.iter().map(|asked| asked.deadline.since(now)).max()?;
        self.in_flight = Some(std::mem::take(&mut self.next));
        Some((request, limit_of_one_attempt(left)))
    }

    /// Leaves those offsets out of the next request whose topic is gone, or is another one by now.
    fn leave_out_lost(&mut self, metadata: &Metadata) {
        let Self { next: Commit { offsets, asked, lost: left_out, .. }, unknown, .. } = self;
        let lost = |name: &Arc<str>, topic_id: Uuid| lost(metadata.topic(name)?, topic_id, unknown.contains(name));
        offsets.retain(|key, offset| {
            let stays = lost(&key.topic, offset.topic_id).is_none();
            left_out.extend((!stays).then(|| key.clone()));
            stays
        });
        for asked in asked.iter_mut().filter(|asked| asked.lost.is_none()) {
            asked.lost = asked.topics.iter().find_map(|(name, topic_id)| {
                let place = Place { topic: Some(Arc::clone(name)), ..Place::default() };
                Some(lost(name, *topic_id)?.at(place))
            });
        }
    }

    /// The coordinator has taken all that was left of a commit.
    fn end(&mut self, commit: Commit) {
        self.failures = 0;
        self.last_error = None;
        let place = || Place { group: Some(Arc::clone(&self.group_id)), ..Place::default() };
        let Commit { asked, lost, .. } = commit;
        self.outcomes.extend(asked.into_iter().map(|asked| match asked.lost {
            None => Ended { number: asked.number, outcome: Ok(()), left: BTreeSet::new() },
            Some(error) => Ended { number: asked.number, outcome: Err(error.at(place())), left: lost.clone() },
        }));
    }

    /// The topics that the coordinator did not know when it was asked last: their metadata may be out of date.
    pub(crate) fn unknown_topics(&self) -> &BTreeSet<Arc<str>> {
        &self.unknown
    }

    /// Drops the offsets for the next request, because nobody waits for them any more. Otherwise a later commit would
    /// carry them along.
    fn forget_offsets(&mut self) {
        if !is_planted(Bug::OffsetsOfEarlierShare) {
            self.next.offsets.clear();
            self.next.lost.clear();
        }
    }

    /// Fails the commits whose deadline has passed.
    fn give_up(&mut self, now: Instant) {
        let Self { next, in_flight, outcomes, last_error, group_id, .. } = self;
        for commit in in_flight.iter_mut().chain([next]) {
            for Asked { number, .. } in commit.asked.extract_if(.., |asked| asked.deadline <= now).collect::<Vec<_>>() {
                let error = Error::new(ErrorKind::TimedOut(Phase::Request), "offsets were not committed in time");
                let error = error.at(Place { group: Some(Arc::clone(group_id)), ..Place::default() });
                let outcome = Err(last_error.iter().cloned().fold(error, Error::with_source));
                outcomes.push(Ended { number, outcome, left: commit.left() });
            }
        }
        if self.next.asked.is_empty() {
            self.forget_offsets();
        }
    }

    /// When to call [`poll_request`](Self::poll_request) again if nothing happens before.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let can_go = Some(self.retry_at).filter(|_| self.in_flight.is_none() && !self.next.asked.is_empty());
        let all = self.in_flight.iter().chain([&self.next]).flat_map(|commit| &commit.asked);
        all.map(|asked| asked.deadline).chain(can_go).min()
    }

    /// Takes the response to the request in flight, or why there is none. Returns false if none is in flight, which is
    /// a bug.
    pub(crate) fn handle_response(
        &mut self,
        now: Instant,
        response: Result<OffsetCommitResponse>,
        random: &mut Random,
    ) -> bool {
        let Some(mut commit) = self.in_flight.take() else { return false };
        if let Ok(response) = &response {
            let is_unknown = |topic: &&OffsetCommitResponseTopic| {
                topic.partitions.iter().any(|partition| partition.error_code.is_unknown_topic())
            };
            let unknown = named(response, &commit.offsets).filter(|(_, topic)| is_unknown(topic));
            self.unknown = unknown.map(|(name, _)| Arc::clone(name)).collect();
        }
        let is_passing = response.as_ref().is_ok_and(|response| self.is_passing(response, commit.generation_id));
        let failed = match response {
            Ok(response) => self.not_committed(&response, &commit.offsets),
            Err(error) => {
                let place = Place { group: Some(Arc::clone(&self.group_id)), ..Place::default() };
                Some((std::mem::take(&mut commit.offsets), error.at(place)))
            }
        };
        match failed {
            None => self.end(commit),
            Some((offsets, error)) if is_passing || error.is_retriable() => {
                self.failures = self.failures.saturating_add(1);
                self.retry_at = now + self.backoff.delay(self.failures, random);
                self.last_error = Some(error);
                commit.offsets = offsets;
                self.try_again(now, commit);
            }
            Some((offsets, error)) => {
                commit.offsets = offsets;
                for Asked { number, .. } in std::mem::take(&mut commit.asked) {
                    self.outcomes.push(Ended { number, outcome: Err(error.clone()), left: commit.left() });
                }
            }
        }
        true
    }

    /// Puts what is left of a commit into the next request, for those who still wait for it.
    fn try_again(&mut self, now: Instant, commit: Commit) {
        self.in_flight = Some(commit);
        self.give_up(now);
        let Some(commit) = self.in_flight.take() else { return };
        // Offsets that nobody waits for any more must not be sent again: by now the group may have committed later
        // ones.
        if is_planted(Bug::OffsetsOfEarlierShare) || !commit.asked.is_empty() {
            // Offsets asked for since then are newer.
            let newer = std::mem::replace(&mut self.next.offsets, commit.offsets);
            self.next.offsets.extend(newer);
            self.next.lost.extend(commit.lost);
        }
        self.next.asked.extend(commit.asked);
    }

    /// Whether the coordinator refused a member's commit only because the group is rebalancing.
    fn is_passing(&self, response: &OffsetCommitResponse, sent_in: Option<i32>) -> bool {
        let Some(Membership { generation_id, .. }) = &self.membership else { return false };
        let is_behind = self.is_between || sent_in != Some(*generation_id);
        let mut codes =
            response.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code);
        codes.any(|code| {
            // By the consumer protocol, the answer to a heartbeat with the new member epoch is on its way.
            code.is_rebalancing() || (code == ErrorCode::ILLEGAL_GENERATION && is_behind)
        })
    }

    fn not_committed(&self, response: &OffsetCommitResponse, offsets: &Offsets) -> Option<(Offsets, Error)> {
        let refused = if self.membership.is_some() { refused_member } else { refused_commit };
        left_uncommitted(response, &self.group_id, offsets, refused)
    }

    /// The commits that have ended.
    pub(crate) fn take_outcomes(&mut self) -> impl Iterator<Item = Ended> {
        self.outcomes.drain(..)
    }

    /// Whether a commit is pending.
    pub(crate) fn is_busy(&self) -> bool {
        let mut commits = self.in_flight.iter().chain([&self.next]);
        commits.any(|commit| !commit.asked.is_empty()) || !self.outcomes.is_empty()
    }
}

impl Consumer {
    /// Starts to commit offsets for the group (`group.id`), which must have no members. Returns the number that
    /// [`ConsumerEvent::Committed`] will carry, after `limit` at the latest.
    ///
    /// # Errors
    ///
    /// `Config` without a group, `Misuse` if an offset is negative, `Internal` after a bug has stopped the machine.
    pub fn commit(&mut self, now: Instant, mut offsets: Offsets, limit: Duration) -> Result<u64> {
        self.identify(&mut offsets);
        let no_group = || Error::new(ErrorKind::Config, "offsets can only be committed with a group.id");
        let commits = self.commits.as_mut().ok_or_else(no_group)?;
        self.failure.clone().map_or_else(|| commits.ask(offsets, now + limit), Err)
    }

    /// Says of offsets that have no topic id to which topic they belong: to the one that the consumer reads.
    pub fn identify(&self, offsets: &mut Offsets) {
        for (key, committed) in offsets.iter_mut().filter(|(_, committed)| committed.topic_id.is_zero()) {
            committed.topic_id = self.partition(key).map_or(Uuid::ZERO, Partition::topic_id);
        }
    }

    /// Whether a commit is pending.
    pub fn is_committing(&self) -> bool {
        self.commits.as_ref().is_some_and(Commits::is_busy)
    }

    pub(super) fn poll_commit(&mut self, now: Instant) -> Option<Call<ConsumerRequest>> {
        let commits = self.commits.as_mut()?;
        let polled = commits.poll_request(now, &self.metadata);
        let target = Target::Coordinator(Arc::clone(&commits.group_id), CoordinatorKind::Group);
        self.tell_outcomes();
        let (request, limit) = polled?;
        let max_version = newest_version(&request);
        let call = self.send(target, InFlight::Commit, ConsumerRequest::OffsetCommit(request));
        Some(Call { max_version, timeout: Some(limit), ..call })
    }

    pub(super) fn handle_committed(&mut self, now: Instant, response: Result<OffsetCommitResponse>) {
        let commits = self.commits.as_mut();
        if !commits.is_some_and(|commits| commits.handle_response(now, response, &mut self.random)) {
            self.poison("a commit was answered that was not in flight");
        }
        for topic in self.commits.iter().flat_map(Commits::unknown_topics) {
            self.outdated.add_topic(topic);
        }
        self.tell_outcomes();
    }

    pub(super) fn tell_outcomes(&mut self) {
        let outcomes = self.commits.iter_mut().flat_map(Commits::take_outcomes);
        self.events.extend(outcomes.map(|Ended { number, outcome, .. }| ConsumerEvent::Committed { number, outcome }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::messages::MetadataResponse;
    use crate::wire::messages::metadata::{MetadataResponsePartition, MetadataResponseTopic};
    use crate::wire::messages::offset_commit::OffsetCommitResponsePartition;

    const LIMIT: Duration = Duration::from_secs(10);

    fn commits() -> Commits {
        let backoff = Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(1) };
        Commits::new("billing".into(), backoff)
    }

    fn offsets(offsets: &[(i32, i64)]) -> Offsets {
        let committed = |(partition, offset): &(i32, i64)| {
            (TopicPartition::new("orders", *partition), CommittedOffset::new(*offset))
        };
        offsets.iter().map(committed).collect()
    }

    fn asked(request: &OffsetCommitRequest) -> Vec<(i32, i64)> {
        let partitions = request.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.map(|partition| (partition.partition_index, partition.committed_offset)).collect()
    }

    fn answer(codes: &[(i32, ErrorCode)]) -> OffsetCommitResponse {
        let partition = |(partition_index, error_code): &(i32, ErrorCode)| OffsetCommitResponsePartition {
            partition_index: *partition_index,
            error_code: *error_code,
        };
        let partitions = codes.iter().map(partition).collect();
        let topics = vec![OffsetCommitResponseTopic { name: "orders".into(), partitions, ..Default::default() }];
        OffsetCommitResponse { topics, ..Default::default() }
    }

    fn poll(commits: &mut Commits, now: Instant) -> Option<(OffsetCommitRequest, Duration)> {
        commits.poll_request(now, &Metadata::default())
    }

    /// The outcomes, with errors as text.
    fn outcomes(commits: &mut Commits) -> Vec<(u64, std::result::Result<(), String>)> {
        commits.take_outcomes().map(|ended| (ended.number, ended.outcome.map_err(|error| error.to_string()))).collect()
    }

    #[test]
    fn one_commit_is_on_its_way_and_of_those_that_wait_the_newest_offsets_win() {
        let mut commits = commits();
        commits.ask(offsets(&[(0, 5)]), Instant(0) + LIMIT).unwrap();
        let (first, _) = poll(&mut commits, Instant(0)).unwrap();
        assert_eq!(asked(&first), [(0, 5)]);
        commits.ask(offsets(&[(0, 6), (1, 1)]), Instant(0) + LIMIT).unwrap();
        commits.ask(offsets(&[(0, 7)]), Instant(0) + LIMIT).unwrap();
        assert!(poll(&mut commits, Instant(0)).is_none(), "one at a time");
        commits.handle_response(Instant(1), Ok(answer(&[(0, ErrorCode::NONE)])), &mut Random::new(1));
        let (second, _) = poll(&mut commits, Instant(1)).unwrap();
        assert_eq!(asked(&second), [(0, 7), (1, 1)]);
        let both = [(0, ErrorCode::NONE), (1, ErrorCode::NONE)];
        commits.handle_response(Instant(2), Ok(answer(&both)), &mut Random::new(1));
        assert_eq!(outcomes(&mut commits), [(1, Ok(())), (2, Ok(())), (3, Ok(()))]);
        assert!(!commits.is_busy());
    }

    #[test]
    fn an_attempt_leaves_time_for_a_second_one_before_the_last_deadline() {
        for (deadlines, limit) in [(&[60_000][..], 30_000), (&[3_000, 10_000, 500], 5_000), (&[500], 1_000)] {
            let mut commits = commits();
            for (offset, deadline) in (0..).zip(deadlines) {
                commits.ask(offsets(&[(0, offset)]), Instant(*deadline)).unwrap();
            }
            let (_, given) = poll(&mut commits, Instant(0)).unwrap();
            assert_eq!(given, Duration::from_millis(limit), "{deadlines:?}");
        }
    }

    #[test]
    fn what_failed_is_tried_again_after_a_while_without_undoing_what_is_newer() {
        let mut commits = commits();
        commits.ask(offsets(&[(0, 5), (1, 5), (2, 5)]), Instant(0) + LIMIT).unwrap();
        poll(&mut commits, Instant(0)).unwrap();
        commits.ask(offsets(&[(0, 9)]), Instant(0) + LIMIT).unwrap();
        let codes =
            [(0, ErrorCode::NOT_COORDINATOR), (1, ErrorCode::NONE), (2, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)];
        commits.handle_response(Instant(0), Ok(answer(&codes)), &mut Random::new(1));
        assert!(poll(&mut commits, Instant(0)).is_none(), "not at once");
        let again = commits.poll_timeout().unwrap();
        assert_eq!(asked(&poll(&mut commits, again).unwrap().0), [(0, 9), (2, 5)]);
        commits.handle_response(again, Ok(answer(&[(0, ErrorCode::NONE), (2, ErrorCode::NONE)])), &mut Random::new(1));
        let mut numbers = outcomes(&mut commits);
        numbers.sort();
        assert_eq!(numbers, [(1, Ok(())), (2, Ok(()))]);
    }

    #[test]
    fn each_commit_fails_at_its_own_limit_and_none_overtakes_one_without_an_answer() {
        let mut commits = commits();
        commits.ask(offsets(&[(0, 5)]), Instant(500)).unwrap();
        poll(&mut commits, Instant(0)).unwrap();
        commits.ask(offsets(&[(0, 6)]), Instant(900)).unwrap();
        assert_eq!(commits.poll_timeout(), Some(Instant(500)));
        assert!(poll(&mut commits, Instant(500)).is_none());
        let told = outcomes(&mut commits);
        assert!(told.len() == 1 && told[0].0 == 1, "{told:?}");
        assert!(told[0].1.as_ref().unwrap_err().contains("billing"), "{told:?}");
        let lost = Error::new(ErrorKind::Disconnected, "planted");
        commits.handle_response(Instant(600), Err(lost), &mut Random::new(1));
        assert_eq!(asked(&poll(&mut commits, Instant(800)).unwrap().0), [(0, 6)]);
        assert!(poll(&mut commits, Instant(900)).is_none());
        let told = outcomes(&mut commits);
        assert!(told.len() == 1 && told[0].1.as_ref().unwrap_err().contains("planted"), "{told:?}");
        assert!(!commits.is_busy(), "nobody waits any more");
    }

    #[test]
    fn a_commit_whose_time_is_over_does_not_go_along_with_the_next_one() {
        let mut commits = commits();
        commits.ask(offsets(&[(0, 5)]), Instant(500)).unwrap();
        poll(&mut commits, Instant(0)).unwrap();
        commits.ask(offsets(&[(1, 7)]), Instant(900)).unwrap();
        let lost = Error::new(ErrorKind::Disconnected, "planted");
        commits.handle_response(Instant(600), Err(lost), &mut Random::new(1));
        assert_eq!(asked(&poll(&mut commits, Instant(800)).unwrap().0), [(1, 7)]);
    }

    #[test]
    fn a_commit_without_an_answer_does_not_give_the_reason_of_an_earlier_one() {
        let mut commits = commits();
        commits.ask(offsets(&[(0, 5)]), Instant(50)).unwrap();
        poll(&mut commits, Instant(0)).unwrap();
        let lost = Error::new(ErrorKind::Disconnected, "planted");
        commits.handle_response(Instant(0), Err(lost), &mut Random::new(1));
        assert!(poll(&mut commits, Instant(50)).is_none());
        assert!(outcomes(&mut commits)[0].1.as_ref().unwrap_err().contains("planted"));
        commits.ask(offsets(&[(0, 6)]), Instant(900)).unwrap();
        poll(&mut commits, Instant(500)).unwrap();
        poll(&mut commits, Instant(900));
        let told = outcomes(&mut commits);
        assert!(!told[0].1.as_ref().unwrap_err().contains("planted"), "{told:?}");
    }

    #[test]
    fn a_group_with_live_members_is_told_in_words_and_by_its_name() {
        let mut commits = commits();
        commits.ask(offsets(&[(0, 5)]), Instant(0) + LIMIT).unwrap();
        poll(&mut commits, Instant(0)).unwrap();
        commits.handle_response(Instant(0), Ok(answer(&[(0, ErrorCode::UNKNOWN_MEMBER_ID)])), &mut Random::new(1));
        let told = outcomes(&mut commits);
        let error = told[0].1.as_ref().unwrap_err();
        assert!(error.contains("live members") && error.contains("billing") && error.contains("orders-0"), "{error}");
    }

    #[test]
    fn a_partition_that_the_answer_leaves_out_is_not_committed() {
        let response = answer(&[(0, ErrorCode::NONE)]);
        let (left, error) = not_committed(&response, "billing", &offsets(&[(0, 1), (1, 2)])).unwrap();
        assert_eq!(left, offsets(&[(1, 2)]));
        assert!(error.is_retriable() && error.to_string().contains("orders-1"), "{error}");
    }

    const OLD: Uuid = Uuid([1; 16]);
    const NEW: Uuid = Uuid([2; 16]);

    /// Where the topic has this id, or with `None` does not exist any more.
    fn with_topic(before: &Metadata, name: &str, topic_id: Option<Uuid>) -> Metadata {
        let partition = MetadataResponsePartition { leader_id: Some(1), ..Default::default() };
        let topic = MetadataResponseTopic {
            name: Some(name.into()),
            topic_id: topic_id.unwrap_or_default(),
            error_code: if topic_id.is_none() { ErrorCode::UNKNOWN_TOPIC_OR_PARTITION } else { ErrorCode::NONE },
            partitions: topic_id.map(|_| partition).into_iter().collect(),
            ..Default::default()
        };
        before.merged(MetadataResponse { topics: vec![topic], ..Default::default() }, false)
    }

    /// An offset of partition 0 of this topic.
    fn offset_of(name: &str, topic_id: Uuid, offset: i64) -> Offsets {
        Offsets::from([(TopicPartition::new(name, 0), CommittedOffset { topic_id, ..CommittedOffset::new(offset) })])
    }

    /// The answer of a coordinator that was asked by topic id.
    fn answer_by_id(codes: &[(Uuid, ErrorCode)]) -> OffsetCommitResponse {
        let topic = |(topic_id, error_code): &(Uuid, ErrorCode)| OffsetCommitResponseTopic {
            topic_id: *topic_id,
            partitions: vec![OffsetCommitResponsePartition { partition_index: 0, error_code: *error_code }],
            ..Default::default()
        };
        OffsetCommitResponse { topics: codes.iter().map(topic).collect(), ..Default::default() }
    }

    #[test]
    fn offsets_of_a_topic_that_was_created_again_are_left_out_and_only_who_committed_them_is_told() {
        let metadata = with_topic(&with_topic(&Metadata::default(), "orders", Some(NEW)), "bills", Some(OLD));
        let mut commits = commits();
        let both = offset_of("orders", OLD, 500).into_iter().chain(offset_of("bills", OLD, 7)).collect();
        commits.ask(both, Instant(0) + LIMIT).unwrap();
        commits.ask(offset_of("bills", OLD, 8), Instant(0) + LIMIT).unwrap();
        let (request, _) = commits.poll_request(Instant(0), &metadata).unwrap();
        let sent = request.topics.iter().map(|topic| (topic.name.as_str(), topic.partitions[0].committed_offset));
        assert_eq!(sent.collect::<Vec<_>>(), [("bills", 8)]);
        commits.handle_response(Instant(0), Ok(answer_by_id(&[(OLD, ErrorCode::NONE)])), &mut Random::new(1));
        let told = outcomes(&mut commits);
        let error = told[0].1.as_ref().unwrap_err();
        assert!(error.contains("created again") && error.contains("orders") && error.contains("billing"), "{error}");
        assert!(told[1] == (2, Ok(())) && !commits.is_busy(), "{told:?}");

        commits.ask(offset_of("orders", OLD, 500), Instant(0) + LIMIT).unwrap();
        assert!(commits.poll_request(Instant(0), &metadata).is_none(), "nothing is left to send");
        assert!(outcomes(&mut commits)[0].1.is_err() && !commits.is_busy());

        let of_the_new_one = CommittedOffset { topic_id: NEW, ..CommittedOffset::new(3) };
        let mut both = offset_of("orders", OLD, 500);
        both.insert(TopicPartition::new("orders", 1), of_the_new_one);
        commits.ask(both, Instant(0) + LIMIT).unwrap();
        let (request, _) = commits.poll_request(Instant(0), &metadata).unwrap();
        assert_eq!(asked(&request), [(1, 3)]);
        let stored = OffsetCommitResponsePartition { partition_index: 1, error_code: ErrorCode::NONE };
        let topic = OffsetCommitResponseTopic { topic_id: NEW, partitions: vec![stored], ..Default::default() };
        let response = OffsetCommitResponse { topics: vec![topic], ..Default::default() };
        commits.handle_response(Instant(0), Ok(response), &mut Random::new(1));
        assert!(outcomes(&mut commits)[0].1.is_err(), "the other partition was left out");
    }

    #[test]
    fn who_is_told_that_a_commit_failed_is_told_which_partitions_the_coordinator_has_not_taken() {
        let metadata = with_topic(&with_topic(&Metadata::default(), "orders", Some(NEW)), "bills", Some(OLD));
        let both = || offset_of("orders", OLD, 500).into_iter().chain(offset_of("bills", OLD, 7)).collect();
        let left = |commits: &mut Commits| {
            let ended = commits.take_outcomes().next().unwrap();
            assert!(ended.outcome.is_err());
            ended.left.into_iter().map(|key| key.topic.to_string()).collect::<Vec<_>>()
        };
        let mut commits = commits();
        commits.ask(both(), Instant(0) + LIMIT).unwrap();
        commits.poll_request(Instant(0), &metadata).unwrap();
        commits.handle_response(Instant(0), Ok(answer_by_id(&[(OLD, ErrorCode::NONE)])), &mut Random::new(1));
        assert_eq!(left(&mut commits), ["orders"], "it is another topic by now");

        // Refused for good, or until nobody waits any more.
        for code in [ErrorCode::TOPIC_AUTHORIZATION_FAILED, ErrorCode::NOT_COORDINATOR] {
            let known = with_topic(&metadata, "orders", Some(OLD));
            let orders = offset_of("orders", OLD, 500).into_iter();
            let bills = offset_of("bills", NEW, 7);
            commits.ask(orders.chain(bills).collect(), Instant(0) + LIMIT).unwrap();
            commits.poll_request(Instant(0), &with_topic(&known, "bills", Some(NEW))).unwrap();
            let answered = answer_by_id(&[(OLD, ErrorCode::NONE), (NEW, code)]);
            commits.handle_response(Instant(0), Ok(answered), &mut Random::new(1));
            commits.poll_request(Instant(0) + LIMIT, &known);
            assert_eq!(left(&mut commits), ["bills"], "{code}");
        }

        // One is another topic, and nobody knows of the other one.
        let later = Instant(0) + LIMIT;
        commits.ask(both(), later + LIMIT).unwrap();
        commits.poll_request(later, &metadata).unwrap();
        commits.poll_request(later + LIMIT, &metadata);
        assert_eq!(left(&mut commits), ["bills", "orders"]);

        commits.ask(both(), Instant(0) + LIMIT).unwrap();
        commits.fail(&Error::new(ErrorKind::Fenced, "planted"));
        assert_eq!(left(&mut commits), ["bills", "orders"]);
    }

    #[test]
    fn an_offset_of_an_older_topic_does_not_replace_that_of_the_new_one_when_it_is_tried_again() {
        let mut commits = commits();
        let old = with_topic(&Metadata::default(), "orders", Some(OLD));
        commits.ask(offset_of("orders", OLD, 500), Instant(0) + LIMIT).unwrap();
        commits.poll_request(Instant(0), &old).unwrap();
        let refused = answer_by_id(&[(OLD, ErrorCode::UNKNOWN_TOPIC_ID)]);
        commits.handle_response(Instant(0), Ok(refused), &mut Random::new(1));
        assert!(commits.unknown_topics().contains("orders"));
        commits.ask(offset_of("orders", NEW, 3), Instant(0) + LIMIT).unwrap();
        let again = commits.poll_timeout().unwrap();
        let (request, _) = commits.poll_request(again, &with_topic(&old, "orders", Some(NEW))).unwrap();
        assert_eq!((request.topics[0].topic_id, asked(&request)), (NEW, vec![(0, 3)]));
        commits.handle_response(again, Ok(answer_by_id(&[(NEW, ErrorCode::NONE)])), &mut Random::new(1));
        let told = outcomes(&mut commits);
        assert!(told.len() == 2 && told[0].1.is_err() && told[1].1.is_ok(), "{told:?}");
    }

    #[test]
    fn a_topic_that_coordinator_and_metadata_do_not_know_is_gone_and_one_of_them_alone_may_lag_behind() {
        let known = with_topic(&Metadata::default(), "orders", Some(OLD));
        let mut commits = commits();
        commits.ask(offset_of("orders", OLD, 5), Instant(0) + LIMIT).unwrap();
        let gone = with_topic(&known, "orders", None);
        assert!(commits.poll_request(Instant(0), &gone).is_some(), "the coordinator may know it");
        let refused = || Ok(answer_by_id(&[(OLD, ErrorCode::UNKNOWN_TOPIC_ID)]));
        commits.handle_response(Instant(0), refused(), &mut Random::new(1));
        assert!(commits.poll_request(Instant(0), &known).is_none(), "not at once");
        let again = commits.poll_timeout().unwrap();
        assert!(commits.poll_request(again, &known).is_some(), "the coordinator may not know it yet");
        commits.handle_response(again, refused(), &mut Random::new(1));
        let last = commits.poll_timeout().unwrap();
        assert!(commits.poll_request(last, &gone).is_none());
        let told = outcomes(&mut commits);
        assert!(told[0].1.as_ref().unwrap_err().contains("was deleted"), "{told:?}");
    }

    #[test]
    fn a_request_can_be_sent_by_topic_id_only_if_all_ids_are_known() {
        let version = |offsets: &Offsets| newest_version(&commit_request("billing", offsets).unwrap());
        let known = offset_of("orders", OLD, 5);
        assert_eq!(version(&known), i16::MAX);
        assert_eq!(version(&known.into_iter().chain(offset_of("bills", Uuid::ZERO, 5)).collect()), COMMIT_BY_NAME);
    }

    #[test]
    fn a_negative_offset_is_refused_before_anything_is_sent() {
        assert_eq!(commits().ask(offsets(&[(0, -1)]), Instant(0) + LIMIT).unwrap_err().kind(), ErrorKind::Misuse);
    }
}
