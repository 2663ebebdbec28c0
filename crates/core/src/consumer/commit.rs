//! What a consumer commits for its group: one request at a time, the newest offsets win, the outcome is told later.
//!
//! A commit that is asked for while another one is on its way waits, and takes in whatever is asked for until it can go:
//! of each partition the offset that was asked for last. So commits cannot overtake each other, and a slow coordinator
//! makes them rarer, not more. Each commit has a time limit of its own, after which it is reported as failed; an answer
//! that comes later is still waited for, because the next commit must not overtake it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::cluster::{Call, CoordinatorKind, Target};
use crate::error::{Error, ErrorKind, Phase, Place, Result};
use crate::random::Random;
use crate::time::Instant;
use crate::wire::error_code::ErrorCode;
use crate::wire::messages::OffsetCommitRequest;
use crate::wire::messages::offset_commit::{
    COMMIT_BY_NAME, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
};

use super::{Consumer, ConsumerEvent, ConsumerRequest, InFlight, TopicPartition};

/// No request is given less time than this, however little of the limit is left to halve.
const SHORTEST_TRY: Duration = Duration::from_secs(1);
/// No request is given more time than this, however long the limit.
const LONGEST_TRY: Duration = Duration::from_secs(30);

/// What a group committed, or is to commit, for one partition; also where a consumer stands in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The offset of the next record to read.
    pub offset: i64,
    /// The leader epoch of the record before it, if it is known (KIP-320).
    pub leader_epoch: Option<i32>,
    /// Any text the committer wants to keep with it.
    pub metadata: String,
}

impl CommittedOffset {
    /// An offset with nothing to be kept with it.
    pub fn new(offset: i64) -> Self {
        Self { offset, leader_epoch: None, metadata: String::new() }
    }
}

/// Offsets by partition.
pub type Offsets = BTreeMap<TopicPartition, CommittedOffset>;

/// The request that commits these offsets for a group without being a member of it.
///
/// # Errors
///
/// `Misuse` for a negative offset.
pub fn commit_request(group_id: &str, offsets: &Offsets) -> Result<OffsetCommitRequest> {
    let mut topics: Vec<OffsetCommitRequestTopic> = Vec::new();
    for (key, committed) in offsets {
        if committed.offset < 0 {
            let error = Error::new(ErrorKind::Misuse, "an offset to commit must not be negative");
            return Err(error.at_partition(&key.topic, key.partition));
        }
        if topics.last().is_none_or(|topic| topic.name != *key.topic) {
            topics.push(OffsetCommitRequestTopic { name: key.topic.to_string(), ..Default::default() });
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

/// Why a coordinator did not commit for a group, if `code` says so.
pub fn refused_commit(code: ErrorCode, group_id: &str) -> Option<Error> {
    let error = match code {
        ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::ILLEGAL_GENERATION | ErrorCode::REBALANCE_IN_PROGRESS => {
            let what = format!("the group has live members, which alone may commit for it: the broker answered {code}");
            Error::new(ErrorKind::Broker(code), what).with_hint("stop the group's members, or use another group")
        }
        code => Error::from_code(code)?,
    };
    Some(error.at(Place { group: Some(group_id.into()), ..Place::default() }))
}

/// What of `offsets` was not committed, and why: a partition that the answer leaves out was not, for all we know.
///
/// The error is the first that no retry can mend, or else the first.
pub fn not_committed(response: &OffsetCommitResponse, group_id: &str, offsets: &Offsets) -> Option<(Offsets, Error)> {
    let mut committed = BTreeSet::new();
    let mut problem: Option<Error> = None;
    for topic in &response.topics {
        for partition in &topic.partitions {
            let key = TopicPartition::new(topic.name.as_str(), partition.partition_index);
            match refused_commit(partition.error_code, group_id) {
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
        let error = Error::new(ErrorKind::Disconnected, "a broker left a partition out of its answer");
        error.at_partition(&key.topic, key.partition)
    };
    let problem = problem.unwrap_or_else(left_out);
    Some((left, problem))
}

fn owned((key, committed): (&TopicPartition, &CommittedOffset)) -> (TopicPartition, CommittedOffset) {
    (key.clone(), committed.clone())
}

/// Who asked for a commit, and until when it may take.
#[derive(Debug, Clone, Copy)]
struct Asked {
    number: u64,
    deadline: Instant,
}

/// Offsets to be committed together, and everybody who asked for some of them.
#[derive(Debug, Default)]
struct Commit {
    offsets: Offsets,
    asked: Vec<Asked>,
}

/// The commits of one consumer.
#[derive(Debug)]
pub(super) struct Commits {
    group_id: Arc<str>,
    backoff: Backoff,
    next_number: u64,
    /// What is on its way.
    in_flight: Option<Commit>,
    /// What goes next; newer than what is on its way.
    next: Commit,
    failures: u32,
    retry_at: Instant,
    last_error: Option<Error>,
    outcomes: Vec<(u64, Result<()>)>,
}

impl Commits {
    pub(super) fn new(group_id: Arc<str>, backoff: Backoff) -> Self {
        Self {
            group_id,
            backoff,
            next_number: 0,
            in_flight: None,
            next: Commit::default(),
            failures: 0,
            retry_at: Instant::default(),
            last_error: None,
            outcomes: Vec::new(),
        }
    }

    /// Asks for a commit; the answer is its number, by which its outcome is told.
    pub(super) fn ask(&mut self, offsets: Offsets, deadline: Instant) -> Result<u64> {
        commit_request(&self.group_id, &offsets)?;
        if !self.is_busy() {
            // Why an earlier commit failed says nothing of this one.
            self.last_error = None;
        }
        self.next_number += 1;
        let number = self.next_number;
        if offsets.is_empty() {
            self.outcomes.push((number, Ok(())));
        } else {
            self.next.offsets.extend(offsets);
            self.next.asked.push(Asked { number, deadline });
        }
        Ok(number)
    }

    /// What to send now, and how long its answer may take.
    pub(super) fn poll_request(&mut self, now: Instant) -> Option<(OffsetCommitRequest, Duration)> {
        self.give_up(now);
        if self.in_flight.is_some() || self.next.asked.is_empty() || self.retry_at > now {
            return None;
        }
        // Negative offsets were refused when they were asked for.
        let request = commit_request(&self.group_id, &self.next.offsets).ok()?;
        let left = self.next.asked.iter().map(|asked| asked.deadline.since(now)).max()?;
        self.in_flight = Some(std::mem::take(&mut self.next));
        Some((request, (left / 2).clamp(SHORTEST_TRY, LONGEST_TRY)))
    }

    /// Reports those whose time is up.
    fn give_up(&mut self, now: Instant) {
        let Self { next, in_flight, outcomes, last_error, group_id, .. } = self;
        let mut is_over = |asked: &mut Asked| {
            let is_over = asked.deadline <= now;
            if is_over {
                let error = Error::new(ErrorKind::TimedOut(Phase::Request), "offsets were not committed in time");
                let error = error.at(Place { group: Some(Arc::clone(group_id)), ..Place::default() });
                outcomes.push((asked.number, Err(last_error.iter().cloned().fold(error, Error::with_source))));
            }
            !is_over
        };
        for commit in in_flight.iter_mut().chain([next]) {
            commit.asked.retain_mut(&mut is_over);
        }
        if self.next.asked.is_empty() {
            self.next.offsets.clear();
        }
    }

    /// When to ask again what to send, if nothing happens before.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let can_go = Some(self.retry_at).filter(|_| self.in_flight.is_none() && !self.next.asked.is_empty());
        let all = self.in_flight.iter().chain([&self.next]).flat_map(|commit| &commit.asked);
        all.map(|asked| asked.deadline).chain(can_go).min()
    }

    /// Learns what became of the request on its way.
    pub(super) fn handle_response(
        &mut self,
        now: Instant,
        response: Result<OffsetCommitResponse>,
        random: &mut Random,
    ) {
        let Some(commit) = self.in_flight.take() else { return };
        let failed = match response {
            Ok(response) => not_committed(&response, &self.group_id, &commit.offsets),
            Err(error) => {
                let place = Place { group: Some(Arc::clone(&self.group_id)), ..Place::default() };
                Some((commit.offsets, error.at(place)))
            }
        };
        match failed {
            None => {
                self.failures = 0;
                self.last_error = None;
                self.outcomes.extend(commit.asked.into_iter().map(|asked| (asked.number, Ok(()))));
            }
            Some((offsets, error)) if error.is_retriable() => {
                self.failures = self.failures.saturating_add(1);
                self.retry_at = now + self.backoff.delay(self.failures, random);
                self.last_error = Some(error);
                // What was asked for in the meantime is newer.
                let newer = std::mem::replace(&mut self.next.offsets, offsets);
                self.next.offsets.extend(newer);
                self.next.asked.extend(commit.asked);
                self.give_up(now);
            }
            Some((_, error)) => {
                self.outcomes.extend(commit.asked.into_iter().map(|asked| (asked.number, Err(error.clone()))));
            }
        }
    }

    /// How commits ended, by their numbers.
    pub(super) fn take_outcomes(&mut self) -> impl Iterator<Item = (u64, Result<()>)> {
        self.outcomes.drain(..)
    }

    /// Whether somebody waits for a commit.
    pub(super) fn is_busy(&self) -> bool {
        let mut commits = self.in_flight.iter().chain([&self.next]);
        commits.any(|commit| !commit.asked.is_empty()) || !self.outcomes.is_empty()
    }
}

impl Consumer {
    pub(super) fn poll_commit(&mut self, now: Instant) -> Option<Call<ConsumerRequest>> {
        let commits = self.commits.as_mut()?;
        let polled = commits.poll_request(now);
        let target = Target::Coordinator(Arc::clone(&commits.group_id), CoordinatorKind::Group);
        self.tell_outcomes();
        let (request, limit) = polled?;
        let call = self.send(target, InFlight::Commit, ConsumerRequest::OffsetCommit(request));
        Some(Call { max_version: COMMIT_BY_NAME, timeout: Some(limit), ..call })
    }

    pub(super) fn handle_committed(&mut self, now: Instant, response: Result<OffsetCommitResponse>) {
        if let Some(commits) = &mut self.commits {
            commits.handle_response(now, response, &mut self.random);
        }
        self.tell_outcomes();
    }

    fn tell_outcomes(&mut self) {
        let outcomes = self.commits.iter_mut().flat_map(Commits::take_outcomes);
        self.events.extend(outcomes.map(|(number, outcome)| ConsumerEvent::Committed { number, outcome }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::messages::offset_commit::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};

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

    /// What was reported, errors as text.
    fn outcomes(commits: &mut Commits) -> Vec<(u64, std::result::Result<(), String>)> {
        commits.take_outcomes().map(|(number, outcome)| (number, outcome.map_err(|error| error.to_string()))).collect()
    }

    #[test]
    fn one_commit_is_on_its_way_and_of_those_that_wait_the_newest_offsets_win() {
        let mut commits = commits();
        commits.ask(offsets(&[(0, 5)]), Instant(0) + LIMIT).unwrap();
        let (first, _) = commits.poll_request(Instant(0)).unwrap();
        assert_eq!(asked(&first), [(0, 5)]);
        commits.ask(offsets(&[(0, 6), (1, 1)]), Instant(0) + LIMIT).unwrap();
        commits.ask(offsets(&[(0, 7)]), Instant(0) + LIMIT).unwrap();
        assert!(commits.poll_request(Instant(0)).is_none(), "one at a time");
        commits.handle_response(Instant(1), Ok(answer(&[(0, ErrorCode::NONE)])), &mut Random::new(1));
        let (second, _) = commits.poll_request(Instant(1)).unwrap();
        assert_eq!(asked(&second), [(0, 7), (1, 1)]);
        let both = [(0, ErrorCode::NONE), (1, ErrorCode::NONE)];
        commits.handle_response(Instant(2), Ok(answer(&both)), &mut Random::new(1));
        assert_eq!(outcomes(&mut commits), [(1, Ok(())), (2, Ok(())), (3, Ok(()))]);
        assert!(!commits.is_busy());
    }

    #[test]
    fn what_failed_is_tried_again_after_a_while_without_undoing_what_is_newer() {
        let mut commits = commits();
        commits.ask(offsets(&[(0, 5), (1, 5), (2, 5)]), Instant(0) + LIMIT).unwrap();
        commits.poll_request(Instant(0)).unwrap();
        commits.ask(offsets(&[(0, 9)]), Instant(0) + LIMIT).unwrap();
        let codes =
            [(0, ErrorCode::NOT_COORDINATOR), (1, ErrorCode::NONE), (2, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)];
        commits.handle_response(Instant(0), Ok(answer(&codes)), &mut Random::new(1));
        assert!(commits.poll_request(Instant(0)).is_none(), "not at once");
        let again = commits.poll_timeout().unwrap();
        assert_eq!(asked(&commits.poll_request(again).unwrap().0), [(0, 9), (2, 5)]);
        commits.handle_response(again, Ok(answer(&[(0, ErrorCode::NONE), (2, ErrorCode::NONE)])), &mut Random::new(1));
        let mut numbers = outcomes(&mut commits);
        numbers.sort();
        assert_eq!(numbers, [(1, Ok(())), (2, Ok(()))]);
    }

    #[test]
    fn each_commit_fails_at_its_own_limit_and_none_overtakes_one_without_an_answer() {
        let mut commits = commits();
        commits.ask(offsets(&[(0, 5)]), Instant(500)).unwrap();
        commits.poll_request(Instant(0)).unwrap();
        commits.ask(offsets(&[(0, 6)]), Instant(900)).unwrap();
        assert_eq!(commits.poll_timeout(), Some(Instant(500)));
        assert!(commits.poll_request(Instant(500)).is_none());
        let told = outcomes(&mut commits);
        assert!(told.len() == 1 && told[0].0 == 1, "{told:?}");
        assert!(told[0].1.as_ref().unwrap_err().contains("billing"), "{told:?}");
        let lost = Error::new(ErrorKind::Disconnected, "planted");
        commits.handle_response(Instant(600), Err(lost), &mut Random::new(1));
        assert_eq!(asked(&commits.poll_request(Instant(800)).unwrap().0), [(0, 6)]);
        assert!(commits.poll_request(Instant(900)).is_none());
        let told = outcomes(&mut commits);
        assert!(told.len() == 1 && told[0].1.as_ref().unwrap_err().contains("planted"), "{told:?}");
        assert!(!commits.is_busy(), "nobody waits any more");
    }

    #[test]
    fn a_commit_without_an_answer_does_not_give_the_reason_of_an_earlier_one() {
        let mut commits = commits();
        commits.ask(offsets(&[(0, 5)]), Instant(50)).unwrap();
        commits.poll_request(Instant(0)).unwrap();
        let lost = Error::new(ErrorKind::Disconnected, "planted");
        commits.handle_response(Instant(0), Err(lost), &mut Random::new(1));
        assert!(commits.poll_request(Instant(50)).is_none());
        assert!(outcomes(&mut commits)[0].1.as_ref().unwrap_err().contains("planted"));
        commits.ask(offsets(&[(0, 6)]), Instant(900)).unwrap();
        commits.poll_request(Instant(500)).unwrap();
        commits.poll_request(Instant(900));
        let told = outcomes(&mut commits);
        assert!(!told[0].1.as_ref().unwrap_err().contains("planted"), "{told:?}");
    }

    #[test]
    fn a_group_with_live_members_is_told_in_words_and_by_its_name() {
        let mut commits = commits();
        commits.ask(offsets(&[(0, 5)]), Instant(0) + LIMIT).unwrap();
        commits.poll_request(Instant(0)).unwrap();
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

    #[test]
    fn a_negative_offset_is_refused_before_anything_is_sent() {
        assert_eq!(commits().ask(offsets(&[(0, -1)]), Instant(0) + LIMIT).unwrap_err().kind(), ErrorKind::Misuse);
    }
}
