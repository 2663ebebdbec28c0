//! The consumer group protocol (KIP-848): the coordinator assigns the partitions, and members only send heartbeats.
//!
//! A heartbeat says what is new about the member; its answer may hold a new *target*: all partitions that the member
//! may have from now on. The member *reconciles* what it owns with the target. It first gives up what is not in it, and
//! then starts what is new. After each of the two steps it acknowledges in a heartbeat what it owns. The coordinator
//! gives a partition to another member only once its owner has acknowledged to be without it (guarantee R13). Members
//! whose partitions stay read on all the time.
//!
//! - The member makes its id itself (KIP-1082), and keeps it for life. It joins with member epoch 0, and every answer
//!   gives the epoch that its commits and heartbeats carry next.
//! - After an error the next heartbeat is *full*: it says everything again, because the coordinator may be a new one or
//!   may have missed the last one.
//! - If the application subscribes to a pattern, the coordinator matches it, so the target may hold topics of any name.
//!   A coordinator that knows only version 0 of the heartbeat cannot: the member then matches it itself.
//! - Targets have topic ids. If the metadata lacks one of them, the driver is asked for new metadata, and the known
//!   topics go first.
//! - The broker sets session and heartbeat interval, and tells only the interval. The member takes itself for removed
//!   after [`SESSION_IN_HEARTBEATS`] intervals without an answer, as by the broker's defaults (45 s and 5 s), or after
//!   `session.timeout.ms` if that is shorter (R14). It waits for [`SHORTEST_SESSION_IN_HEARTBEATS`] intervals at least,
//!   because it cannot prove itself more often than the broker lets it.
//! - What the member has to say goes at once. But a coordinator that answers with a new target time after time, or asks
//!   for heartbeats without a pause, gets them after waits of [`SHORTEST_INTERVAL`] and more.
//! - With `group.protocol=auto`, a member whose first heartbeat shows that the cluster or the group has only the
//!   classic protocol joins by that one.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::{Call, Topic};
use crate::config::{GroupConfig, GroupProtocol};
use crate::consumer::{Offsets, TopicPartition};
use crate::error::{Error, ErrorKind, Result, printable_reason};
use crate::random::Random;
use crate::time::Instant;
use crate::wire::ErrorCode;
use crate::wire::messages::consumer_group_heartbeat::{
    Assignment, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, TopicPartitions,
};
use crate::wire::primitives::Uuid;

use super::classic::milliseconds;
use super::{InFlight, Member, MemberEvent, MemberRequest, MemberResponse, State, Strategy, release};

/// The member epoch of a heartbeat that joins.
const JOIN: i32 = 0;
/// The member epoch of a heartbeat that leaves.
const LEAVE: i32 = -1;
/// The member epoch of a static member that leaves, and may come back to its partitions.
const LEAVE_FOR_A_WHILE: i32 = -2;

/// How many heartbeat intervals without an answer the session lasts.
const SESSION_IN_HEARTBEATS: u32 = 9;
/// How many heartbeat intervals a member's session lasts at least: one lost heartbeat must not end it.
const SHORTEST_SESSION_IN_HEARTBEATS: u32 = 3;
/// The interval until the broker has told one that can be: its default.
const FIRST_INTERVAL: Duration = Duration::from_secs(5);
/// Heartbeats that the broker asks for come no closer to each other than this, whatever interval it tells.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
/// To so many new targets in a row the member answers at once. A group that is being sorted out needs few.
const TARGETS_AT_ONCE: u32 = 5;
/// How long to wait for the metadata of a topic id before asking for it again.
const METADATA_WAIT: Duration = Duration::from_secs(1);

/// What has gone wrong if a member by the classic protocol is to act by this one.
const NOT_CONSUMER: &str = "it was to follow the consumer protocol in a classic group";

/// What the coordinator does not know, and the next heartbeat says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    /// Only that the member lives.
    Nothing,
    /// What the member owns.
    Owned,
    /// All that there is to say.
    Everything,
}

/// What the coordinator has of patterns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patterns {
    /// None of this member.
    NoneSent,
    /// One of this member.
    Sent,
    /// It cannot match any.
    Unsupported,
}

/// What a member by the consumer protocol knows besides what every member knows.
#[derive(Debug)]
pub(super) struct Reconciliation {
    /// Whether the classic protocol may take over.
    may_fall_back: bool,
    interval: Duration,
    /// Whether the coordinator may know of the member: then it must hear when the member leaves.
    has_joined: bool,
    /// How often the member was let in since its last answered heartbeat, and then found to be unknown.
    removals: u32,
    patterns: Patterns,
    news: News,
    target: BTreeMap<Uuid, BTreeSet<i32>>,
    /// How many heartbeats in a row were answered with a new target.
    new_targets: u32,
    /// Whether the member has still to act on the target.
    is_open: bool,
    /// The names of the topics in the target, and of those that the member still holds.
    names: BTreeMap<Uuid, Arc<str>>,
    /// When to ask for the metadata of unknown topic ids again.
    metadata_at: Instant,
    /// How often it learned names; a test uses it to measure work.
    #[cfg(test)]
    lessons: usize,
}

impl Reconciliation {
    /// The start of a member by the consumer protocol; `None` if the settings want the classic one.
    pub(super) fn chosen(config: &GroupConfig, strategies: &[Strategy]) -> Result<Option<Box<Self>>> {
        let is_custom = strategies.iter().any(|strategy| matches!(strategy, Strategy::Custom { .. }));
        match config.group_protocol {
            GroupProtocol::Classic => return Ok(None),
            GroupProtocol::Auto if is_custom || !config.leaves_protocol_open() => return Ok(None),
            GroupProtocol::Consumer if is_custom => {
                let what = "an assignor of the application needs the classic protocol, not group.protocol=consumer";
                let hint = "set group.protocol=classic, or name one of the broker's assignors in group.remote.assignor";
                return Err(Error::new(ErrorKind::Config, what).with_hint(hint));
            }
            GroupProtocol::Auto | GroupProtocol::Consumer => {}
        }
        Ok(Some(Box::new(Self {
            may_fall_back: config.group_protocol == GroupProtocol::Auto,
            interval: FIRST_INTERVAL,
            has_joined: false,
            removals: 0,
            patterns: Patterns::NoneSent,
            news: News::Everything,
            target: BTreeMap::new(),
            new_targets: 0,
            is_open: false,
            names: BTreeMap::new(),
            metadata_at: Instant::default(),
            #[cfg(test)]
            lessons: 0,
        })))
    }

    /// How long the session lasts if `session.timeout.ms` is this; see the module's documentation.
    pub(super) fn session(&self, session_timeout: Duration) -> Duration {
        let in_heartbeats = |count| self.interval.saturating_mul(count);
        session_timeout.max(in_heartbeats(SHORTEST_SESSION_IN_HEARTBEATS)).min(in_heartbeats(SESSION_IN_HEARTBEATS))
    }

    /// Whether the member owns what it is to own.
    pub(super) fn is_settled(&self) -> bool {
        !self.is_open && self.news == News::Nothing
    }

    /// Whether the coordinator can match patterns.
    pub(super) fn has_patterns(&self) -> bool {
        self.patterns != Patterns::Unsupported
    }

    /// The member was removed: the next target is a new one, even if it is the same.
    pub(super) fn forget(&mut self) {
        self.target.clear();
        (self.is_open, self.news) = (false, News::Everything);
    }

    /// When to ask for metadata again.
    fn metadata_due(&self) -> Option<Instant> {
        let lacks_names = self.is_open && self.target.keys().any(|id| !self.names.contains_key(id));
        lacks_names.then_some(self.metadata_at)
    }

    /// Takes the names of the topics in the target from these topics. They stay known even if their topics are gone,
    /// and so do those that the member still holds, because heartbeats must name them.
    fn learn(&mut self, topics: &[&Arc<Topic>], held: &BTreeSet<Arc<str>>) {
        self.names.retain(|id, name| self.target.contains_key(id) || held.contains(name));
        let in_target = |topic: &&&Arc<Topic>| !topic.topic_id.is_zero() && self.target.contains_key(&topic.topic_id);
        let in_target = topics.iter().filter(in_target);
        #[cfg(test)]
        {
            self.lessons += 1;
        }
        self.names.extend(in_target.map(|topic| (topic.topic_id, Arc::clone(&topic.name))));
    }

    /// The partitions of the target whose topics are known.
    fn share(&self) -> BTreeSet<TopicPartition> {
        let mut share = BTreeSet::new();
        for (id, partitions) in &self.target {
            if let Some(name) = self.names.get(id) {
                share.extend(partitions.iter().map(|partition| TopicPartition::new(Arc::clone(name), *partition)));
            }
        }
        share
    }

    /// What the member tells the coordinator it owns: what it holds, and all of the target, because it may start that
    /// while the heartbeat is on its way. If a topic was recreated, the id in the target counts. `None` if the id of
    /// one is unknown: the coordinator would give a partition that is left out to another member.
    fn claims(&self, held: &BTreeSet<&TopicPartition>) -> Option<Vec<TopicPartitions>> {
        let ids = |is_wanted: bool| self.names.iter().filter(move |(id, _)| self.target.contains_key(id) == is_wanted);
        let ids: BTreeMap<&Arc<str>, Uuid> = ids(false).chain(ids(true)).map(|(id, name)| (name, *id)).collect();
        let mut topics = self.target.clone();
        for key in held {
            topics.entry(*ids.get(&key.topic)?).or_default().insert(key.partition);
        }
        let claimed = topics.into_iter().filter(|(_, partitions)| !partitions.is_empty());
        let claim = |(topic_id, partitions): (Uuid, BTreeSet<i32>)| TopicPartitions {
            topic_id,
            partitions: partitions.into_iter().collect(),
        };
        Some(claimed.map(claim).collect())
    }
}

/// A target as the coordinator sent it.
fn target(assignment: Assignment) -> BTreeMap<Uuid, BTreeSet<i32>> {
    let topics = assignment.topic_partitions.into_iter();
    topics.map(|topic| (topic.topic_id, topic.partitions.into_iter().filter(|number| *number >= 0).collect())).collect()
}

/// The topics of these partitions. Looks at one partition of each.
fn topics_of(partitions: &BTreeSet<TopicPartition>) -> impl Iterator<Item = &Arc<str>> {
    let behind =
        |topic: &Arc<str>| (Bound::Excluded(TopicPartition::new(Arc::clone(topic), i32::MAX)), Bound::Unbounded);
    let first = partitions.first().map(|key| &key.topic);
    std::iter::successors(first, move |topic| partitions.range(behind(topic)).next().map(|key| &key.topic))
}

/// A member id, as a consumer makes it for itself.
fn new_member_id(random: &mut Random) -> String {
    let bits = (u128::from(random.next_u64()) << 64) | u128::from(random.next_u64());
    Uuid(bits.to_be_bytes()).to_string()
}

/// What to do about an error of the consumer protocol that lasts.
pub(super) fn hint(code: ErrorCode) -> Option<&'static str> {
    match code {
        ErrorCode::UNSUPPORTED_ASSIGNOR => {
            Some("name an assignor in group.remote.assignor that the broker has in group.consumer.assignors")
        }
        ErrorCode::INVALID_REGULAR_EXPRESSION => Some(
            "brokers read a pattern as RE2/J: write it without what only the crate regex has, such as (?x), \\b{start} and \
             classes in classes; or set group.protocol=classic, and the client matches it",
        ),
        ErrorCode::UNRELEASED_INSTANCE_ID => Some(
            "another member has this group.instance.id: close it, or wait for the end of its session if it has crashed",
        ),
        ErrorCode::GROUP_MAX_SIZE_REACHED => {
            Some("close members, or raise group.consumer.max.size (group.max.size in classic groups) on the brokers")
        }
        code if code.has_only_classic_groups() => Some(
            "the cluster or the group has only the classic protocol: set group.protocol to auto or classic, or see \
             group.consumer.migration.policy on the brokers",
        ),
        _ => None,
    }
}

impl Member {
    /// The next request of a member by the consumer protocol.
    pub(super) fn poll_consumer_group(&mut self, now: Instant) -> Option<Call<MemberRequest>> {
        if matches!(self.state, State::Unjoined) {
            // What the application says while it still gives up earlier partitions is not about new ones.
            let can_join = self.retry_at <= now && self.releases_wanted == 0;
            return if can_join { self.join_consumer_group(now) } else { None };
        }
        self.reconcile(now);
        if let Some(call) = self.ask_committed(now) {
            return Some(call);
        }
        let group = self.consumer_group.as_ref()?;
        // News go at once; after an error, or many targets, they wait for the next heartbeat.
        let may_go = self.failures == 0 && group.new_targets <= TARGETS_AT_ONCE;
        let has_news = (group.news != News::Nothing || self.rejoin.is_some()) && may_go;
        let is_due = self.must_prove_itself() && self.membership.is_member();
        if !is_due || !(has_news || self.membership.must_beat(now)) || self.is_in_flight(InFlight::Heartbeat) {
            return None;
        }
        let member_epoch = self.membership.generation_id()?;
        let request = self.consumer_heartbeat(member_epoch)?;
        Some(self.send_consumer_heartbeat(now, InFlight::Heartbeat, request))
    }

    fn join_consumer_group(&mut self, now: Instant) -> Option<Call<MemberRequest>> {
        if self.membership.member_id().is_empty() {
            self.membership.name(new_member_id(&mut self.random));
        }
        let group = self.consumer_group.as_mut()?;
        group.forget();
        group.has_joined = true;
        // The id is the same: the goodbye of an earlier membership would end this one, if it were sent again.
        self.pending_leave = None;
        self.attempt += 1;
        self.state = State::Joining;
        let request = self.consumer_heartbeat(JOIN)?;
        Some(self.send_consumer_heartbeat(now, InFlight::Join, request))
    }

    /// The heartbeat that says what the coordinator does not know yet.
    fn consumer_heartbeat(&mut self, member_epoch: i32) -> Option<ConsumerGroupHeartbeatRequest> {
        let news = std::mem::replace(&mut self.consumer_group.as_mut()?.news, News::Nothing);
        let is_full = news == News::Everything;
        let says_topics = self.rejoin.take().is_some() || is_full;
        let (names, pattern) = if says_topics { self.subscription() } else { (None, None) };
        // What the application is giving up still counts until its commits have ended.
        let going = if let State::Releasing { gone, .. } = &self.state { Some(gone) } else { None };
        let held: BTreeSet<&TopicPartition> = self.owned.iter().chain(going.into_iter().flatten()).collect();
        let group = self.consumer_group.as_ref()?;
        Some(ConsumerGroupHeartbeatRequest {
            group_id: self.group_id.to_string(),
            member_id: self.membership.member_id().to_owned(),
            member_epoch,
            instance_id: self.membership.group_instance_id().cloned(),
            rack_id: self.client_rack.clone().filter(|_| is_full),
            rebalance_timeout_ms: is_full.then(|| milliseconds(self.config.max_poll_interval)),
            subscribed_topic_names: names,
            subscribed_topic_regex: pattern,
            server_assignor: self.config.group_remote_assignor.clone().filter(|_| is_full),
            topic_partitions: if news == News::Nothing { None } else { group.claims(&held) },
        })
    }

    /// The names and the pattern that a heartbeat carries. An empty pattern takes back an earlier one.
    fn subscription(&mut self) -> (Option<Vec<String>>, Option<String>) {
        let pattern = self.pattern_of_coordinator().map(|pattern| pattern.to_string());
        let names = if pattern.is_some() { Vec::new() } else { self.topics.iter().map(ToString::to_string).collect() };
        let Some(group) = &mut self.consumer_group else {
            self.poison(NOT_CONSUMER);
            return (None, None);
        };
        if pattern.is_none() && group.patterns != Patterns::Sent {
            return (Some(names), None);
        }
        group.patterns = if pattern.is_some() { Patterns::Sent } else { Patterns::NoneSent };
        (Some(names), Some(pattern.unwrap_or_default()))
    }

    fn send_consumer_heartbeat(
        &mut self,
        now: Instant,
        in_flight: InFlight,
        request: ConsumerGroupHeartbeatRequest,
    ) -> Call<MemberRequest> {
        let interval = self.consumer_group.as_ref().map_or(FIRST_INTERVAL, |group| group.interval);
        self.membership.beat(now, interval);
        let call = self.send(in_flight, MemberRequest::ConsumerGroupHeartbeat(request));
        Call { timeout: Some(self.heartbeat_timeout()), ..call }
    }

    /// Acts on the target if there is something to do: gives up partitions, or else starts the new ones.
    fn reconcile(&mut self, now: Instant) {
        let is_stable = matches!(self.state, State::Stable);
        let Some(group) = self.consumer_group.as_mut().filter(|group| group.is_open && is_stable) else { return };
        let due = group.metadata_due();
        if due.is_some_and(|due| due <= now) {
            group.metadata_at = now + METADATA_WAIT;
            self.events.push_back(MemberEvent::MetadataWanted);
        }
        let share = group.share();
        let gone: BTreeSet<TopicPartition> = self.owned.difference(&share).cloned().collect();
        if !gone.is_empty() {
            return self.release(gone, release::Then::Reconcile);
        }
        group.is_open = due.is_some();
        let added: BTreeSet<TopicPartition> = share.difference(&self.owned).cloned().collect();
        if !added.is_empty() {
            self.retry_at = Instant::default();
            self.state = State::Beginning { added, asked: false };
        } else if !group.is_open {
            self.must_acknowledge();
            self.events.push_back(MemberEvent::Assigned { partitions: Vec::new(), committed: Offsets::new() });
        }
    }

    /// Says in the next heartbeat what the member owns, if the coordinator assigns the partitions.
    pub(super) fn must_acknowledge(&mut self) {
        if let Some(group) = &mut self.consumer_group {
            group.news = if group.news == News::Nothing { News::Owned } else { group.news };
        }
    }

    /// Learns the names of the topics in the target, among `changed` or all topics that the member may be given.
    pub(super) fn learn_topic_ids(&mut self, changed: Option<&BTreeSet<Arc<str>>>) {
        let is_by_pattern = self.pattern_of_coordinator().is_some();
        // By the classic protocol topics have names only.
        let Some(group) = &mut self.consumer_group else { return };
        let is_subscribed = |name: &&Arc<str>| is_by_pattern || self.topics.contains(*name);
        let known = |name: &Arc<str>| self.metadata.topic(name);
        let topics: Vec<_> = match changed {
            Some(changed) => changed.iter().filter(is_subscribed).filter_map(known).collect(),
            None if is_by_pattern => self.metadata.topics().collect(),
            None => self.topics.iter().filter_map(known).collect(),
        };
        if topics.is_empty() && changed.is_some() {
            return;
        }
        let going = if let State::Releasing { gone, .. } = &self.state { Some(gone) } else { None };
        let held = [Some(&self.owned), going].into_iter().flatten().flat_map(topics_of).map(Arc::clone).collect();
        group.learn(&topics, &held);
    }

    /// When to ask for the metadata of unknown topic ids again.
    pub(super) fn metadata_timeout(&self) -> Option<Instant> {
        let group = self.consumer_group.as_ref().filter(|_| matches!(self.state, State::Stable))?;
        group.metadata_due()
    }

    /// Handles the answer to a heartbeat, which may be one that joins.
    pub(super) fn handle_consumer_heartbeat(
        &mut self,
        now: Instant,
        in_flight: InFlight,
        response: Result<MemberResponse>,
    ) {
        let response = match response {
            Ok(MemberResponse::ConsumerGroupHeartbeat(response)) => response,
            Ok(_) => {
                return self.fail_consumer_heartbeat(now, in_flight, unexpected("the answer is to another request"));
            }
            Err(error) => return self.refuse_consumer_heartbeat(now, in_flight, error, None),
        };
        if let Some(error) = Error::from_code(response.error_code) {
            return self.refuse_consumer_heartbeat(now, in_flight, error, response.error_message.as_deref());
        }
        if response.member_epoch < 0 {
            let error = unexpected("a coordinator named a negative member epoch");
            return self.fail_consumer_heartbeat(now, in_flight, error);
        }
        self.take_consumer_heartbeat(now, in_flight, response);
    }

    fn take_consumer_heartbeat(&mut self, now: Instant, in_flight: InFlight, response: ConsumerGroupHeartbeatResponse) {
        let Some(group) = &mut self.consumer_group else { return self.poison(NOT_CONSUMER) };
        self.failures = 0;
        self.told_at = None;
        let interval = u64::try_from(response.heartbeat_interval_ms).ok().filter(|interval| *interval > 0);
        group.interval = interval.map_or(FIRST_INTERVAL, Duration::from_millis).max(SHORTEST_INTERVAL);
        if let Some(member_id) = response.member_id.filter(|member_id| !member_id.is_empty()) {
            self.membership.name(member_id);
        }
        self.membership.confirm(response.member_epoch, group.interval);
        self.commits.stamp(self.membership.stamp());
        let is_joined = in_flight == InFlight::Join;
        if is_joined {
            self.state = State::Stable;
        } else {
            group.removals = 0;
        }
        let new = response.assignment.map(target).filter(|target| group.target != *target || is_joined);
        // Mostly it says only that the member lives.
        let Some(target) = new else { return group.new_targets = 0 };
        group.new_targets = group.new_targets.saturating_add(1);
        if let Some(surplus @ 1..) = group.new_targets.checked_sub(TARGETS_AT_ONCE) {
            let delay = self.backoff.delay(surplus, &mut self.random).max(SHORTEST_INTERVAL).min(group.interval);
            self.membership.beat_again_at(now + delay);
        }
        group.target = target;
        group.is_open = true;
        group.metadata_at = Instant::default();
        self.learn_topic_ids(None);
        if matches!(self.state, State::Beginning { .. }) {
            // The new target may be without these partitions: look again before any of them is started.
            self.in_flight.retain(|_, sent| sent.what != InFlight::Committed);
            self.state = State::Stable;
        }
    }

    /// Handles an error in place of the answer to a heartbeat, and what the coordinator says about it.
    fn refuse_consumer_heartbeat(&mut self, now: Instant, in_flight: InFlight, error: Error, message: Option<&str>) {
        let may_fall_back = self.consumer_group.as_ref().is_some_and(|group| group.may_fall_back);
        match error.code() {
            // Perhaps it lacks only patterns. If it lacks the protocol, the next heartbeat shows it.
            _ if error.kind() == ErrorKind::Unsupported && self.pattern_of_coordinator().is_some() => {
                self.match_pattern_itself(in_flight);
            }
            _ if in_flight == InFlight::Join && may_fall_back && needs_classic(&error) => self.fall_back(),
            Some(
                code @ (ErrorCode::FENCED_MEMBER_EPOCH | ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::GROUP_ID_NOT_FOUND),
            ) if in_flight == InFlight::Heartbeat => {
                let what = format!("the group went on without this member: the coordinator answered {code}");
                self.lose(&because(Error::new(ErrorKind::Fenced, what), message), "its place was gone");
                self.wait_if_removed_again(now);
            }
            Some(ErrorCode::FENCED_INSTANCE_ID) => self.handle_taken_name(),
            _ => self.fail_consumer_heartbeat(now, in_flight, because(error, message)),
        }
    }

    /// The member joins again at once, but not again and again: a coordinator that lets it in may still refuse every
    /// heartbeat.
    fn wait_if_removed_again(&mut self, now: Instant) {
        let Some(group) = &mut self.consumer_group else { return self.poison(NOT_CONSUMER) };
        if group.removals > 0 {
            self.retry_at = now + self.backoff.delay(group.removals, &mut self.random);
        }
        group.removals = group.removals.saturating_add(1);
    }

    /// Sends a full heartbeat after a back-off, or a longer wait if the error lasts.
    fn fail_consumer_heartbeat(&mut self, now: Instant, in_flight: InFlight, error: Error) {
        if let Some(group) = &mut self.consumer_group {
            group.news = News::Everything;
        }
        self.handle_failure(now, in_flight, error);
        self.membership.beat_again_at(self.retry_at);
    }

    /// Goes on by the classic protocol, in which the coordinator makes the member id.
    fn fall_back(&mut self) {
        self.consumer_group = None;
        self.membership.forget_name();
        self.attempt += 1;
        self.state = self.outside();
    }

    /// Subscribes to the topics that match its pattern: the coordinator has no patterns.
    fn match_pattern_itself(&mut self, in_flight: InFlight) {
        let Some(group) = &mut self.consumer_group else { return self.poison(NOT_CONSUMER) };
        (group.patterns, group.news) = (Patterns::Unsupported, News::Everything);
        if in_flight == InFlight::Join {
            self.attempt += 1;
            self.state = self.outside();
        } else {
            self.set_topics(self.topics.clone());
        }
    }

    /// The heartbeat that leaves the group, if the coordinator may know of the member.
    pub(super) fn leaving_heartbeat(&mut self) -> Option<ConsumerGroupHeartbeatRequest> {
        let group = self.consumer_group.as_mut()?;
        group.forget();
        group.news = News::Nothing;
        if !std::mem::take(&mut group.has_joined) {
            return None;
        }
        let is_static = self.membership.group_instance_id().is_some();
        self.consumer_heartbeat(if is_static { LEAVE_FOR_A_WHILE } else { LEAVE })
    }
}

/// The error, with what the coordinator says about it.
fn because(error: Error, message: Option<&str>) -> Error {
    let message = message.filter(|message| !message.is_empty());
    message.map(|message| std::io::Error::other(printable_reason(message))).into_iter().fold(error, Error::with_source)
}

fn unexpected(what: &'static str) -> Error {
    Error::new(ErrorKind::Malformed, what)
}

/// Whether the error of a request of the consumer protocol means that the cluster or the group has only the classic
/// one.
pub fn needs_classic(error: &Error) -> bool {
    error.kind() == ErrorKind::Unsupported || error.code().is_some_and(ErrorCode::has_only_classic_groups)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backoff::Backoff;
    use crate::cluster::Metadata;
    use crate::config::ConsumerConfig;
    use crate::group::assignor::Assignor;
    use crate::wire::messages::MetadataResponse;
    use crate::wire::messages::metadata::{MetadataResponsePartition, MetadataResponseTopic};

    const ORDERS: Uuid = Uuid([1; 16]);

    fn keys(topic: &str, count: i32) -> impl Iterator<Item = TopicPartition> {
        let topic: Arc<str> = topic.into();
        (0..count).map(move |partition| TopicPartition::new(Arc::clone(&topic), partition))
    }

    /// A member that was assigned a partition of `orders`, which it knows.
    fn member() -> Member {
        let config = GroupConfig::default().group_protocol(GroupProtocol::Consumer);
        let consumer = ConsumerConfig::default().group_id(Some("billing".to_owned()));
        let backoff = Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(1) };
        let strategies = vec![Strategy::BuiltIn(Assignor::Range)];
        let mut member = Member::new(config, &consumer, strategies, backoff, 1, 1).unwrap();
        member.subscribe(Instant(0), BTreeSet::from(["orders".into()]));
        member.consumer_group.as_mut().unwrap().target = BTreeMap::from([(ORDERS, BTreeSet::from([0]))]);
        member.handle_metadata(&snapshot(&member.metadata, "orders", ORDERS));
        member
    }

    /// The snapshot after an answer about this topic.
    fn snapshot(before: &Metadata, topic: &str, topic_id: Uuid) -> Arc<Metadata> {
        let partitions = vec![MetadataResponsePartition::default()];
        let topic = MetadataResponseTopic { name: Some(topic.to_owned()), topic_id, partitions, ..Default::default() };
        Arc::new(before.merged(MetadataResponse { topics: vec![topic], ..Default::default() }, false))
    }

    #[test]
    fn a_member_learns_topic_ids_only_from_answers_about_its_topics() {
        let mut member = member();
        let lessons = |member: &Member| member.consumer_group.as_ref().unwrap().lessons;
        let before = lessons(&member);
        for number in 0..100 {
            let other = Uuid([100 + number; 16]);
            member.handle_metadata(&snapshot(&member.metadata, &format!("other-{number}"), other));
        }
        assert_eq!(lessons(&member), before);
        let anew = Uuid([2; 16]);
        member.consumer_group.as_mut().unwrap().target.insert(anew, BTreeSet::from([1]));
        member.handle_metadata(&snapshot(&member.metadata, "orders", anew));
        assert_eq!(lessons(&member), before + 1);
        assert_eq!(member.consumer_group.as_ref().unwrap().share(), keys("orders", 2).collect());
    }

    #[test]
    fn a_topic_that_is_known_already_counts_as_soon_as_it_is_subscribed() {
        let mut member = member();
        let letters = Uuid([2; 16]);
        member.consumer_group.as_mut().unwrap().target.insert(letters, BTreeSet::from([0]));
        member.handle_metadata(&snapshot(&member.metadata, "letters", letters));
        let share = |member: &Member| member.consumer_group.as_ref().unwrap().share().len();
        assert_eq!(share(&member), 1, "nobody wants to read it");
        member.subscribe(Instant(0), BTreeSet::from(["letters".into(), "orders".into()]));
        assert_eq!(share(&member), 2);
    }

    #[test]
    fn the_topics_of_partitions_are_named_once() {
        let partitions = keys("orders", 3).chain(keys("letters", 1)).chain(keys("orders.new", 2)).collect();
        let topics: Vec<&str> = topics_of(&partitions).map(|topic| &**topic).collect();
        assert_eq!(topics, ["letters", "orders", "orders.new"]);
        assert_eq!(topics_of(&BTreeSet::new()).count(), 0);
    }
}
