//! When to ask for metadata, and for which topics.
//!
//! A request names only the topics that somebody needs: those whose metadata is out of date, all topics in use
//! ([`Interest`]) after a broker was lost, or once every topic of the cluster if a caller wants to list them all. A new
//! topic gets a request of its own, because asking for a topic may create it.
//!
//! Machines may ask for a refresh as often as they like. While answers change nothing, requests back off: a partition
//! without a leader costs one request per `retry.backoff.max.ms`. A refresh for a waiting caller
//! ([`MetadataRefresh::request_topic`]) is delayed by at most `retry.backoff.ms`, and a topic that was never asked for
//! not at all; otherwise opening a thousand topics one by one would take a hundred seconds.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::cluster::doubt::Doubt;
use crate::cluster::interest::Interest;
use crate::cluster::metadata::{Broker, LeaderHint, Metadata, Topic};
use crate::cluster::outdated::Outdated;
use crate::error::{Error, ErrorKind, Result};
use crate::random::Random;
use crate::time::Instant;
use crate::wire::error_code::ErrorCode;
use crate::wire::messages::metadata::{MetadataRequestTopic, MetadataResponseTopic};
use crate::wire::messages::{MetadataRequest, MetadataResponse};

/// The settings that decide when metadata is asked for.
#[derive(Debug, Clone)]
pub struct RefreshConfig {
    /// Kafka: `metadata.max.age.ms`.
    pub max_age: Duration,
    /// Kafka: `retry.backoff.ms` and `retry.backoff.max.ms`.
    pub backoff: Backoff,
}

/// After how many failures the wait grows at the latest, however many brokers and bootstrap servers there are.
const LARGEST_ROUND: u32 = 5;

/// Which topics one request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// New topics, which the request may create.
    New,
    /// Topics in use that were never asked for.
    Unasked,
    /// Topics in use whose metadata is out of date, and those of [`Unasked`](Self::Unasked).
    Outdated,
    /// The topics in use.
    InUse,
    /// Every topic.
    All,
}

/// Stands for a request that is still to be sent; a caller waits for it with [`RefreshOutcomes::outcome`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// The first request built after the ticket was taken has this number or a higher one.
    number: u64,
    scope: Scope,
}

/// The outcome of the requests so far.
#[derive(Debug, Clone, Default)]
pub struct RefreshOutcomes {
    /// The newest answered request of any scope.
    any: u64,
    /// The newest answered request that asked for all new topics, all unasked ones, all outdated ones, every topic.
    new: u64,
    unasked: u64,
    outdated: u64,
    all: u64,
    /// The newest request that failed, and why.
    failed: Option<(u64, Error)>,
}

impl RefreshOutcomes {
    /// The outcome of the request that the ticket stands for; `None` while it is open. A later success outweighs a
    /// failure.
    pub fn outcome(&self, ticket: Ticket) -> Option<Result<()>> {
        let answered = match ticket.scope {
            Scope::New => self.new,
            Scope::Unasked => self.unasked,
            Scope::Outdated | Scope::InUse => self.outdated,
            Scope::All => self.all,
        };
        if answered >= ticket.number {
            return Some(Ok(()));
        }
        self.failed.as_ref().filter(|(number, _)| *number >= ticket.number).map(|(_, error)| Err(error.clone()))
    }

    /// Why the last request failed; `None` if it succeeded.
    pub fn error(&self) -> Option<&Error> {
        self.failed.as_ref().filter(|(number, _)| *number > self.any).map(|(_, error)| error)
    }

    /// Ends every open and future ticket with `error`: no more requests will be sent.
    pub fn fail_for_good(&mut self, error: Error) {
        self.failed = Some((u64::MAX, error));
    }
}

#[derive(Debug)]
struct Asked {
    scope: Scope,
    new: BTreeSet<Arc<str>>,
    topics: Outdated,
    /// Topics to name whether anybody uses them or not: a caller waits for them, or they were never asked for.
    awaited: BTreeSet<Arc<str>>,
    /// Whether it names all that machines want soon.
    is_for_machines: bool,
}

/// Holds the current snapshot and decides when to ask for a new one.
#[derive(Debug)]
pub struct MetadataRefresh {
    config: RefreshConfig,
    bootstrap_servers: usize,
    random: Random,
    metadata: Arc<Metadata>,
    doubt: Doubt,
    interest: Interest,
    /// Topics in use that were never asked for. They wait for no back-off between two requests.
    unasked: BTreeSet<Arc<str>>,
    /// What a caller waits for, and what the last failed request asked for.
    urgent: Outdated,
    /// Topics that callers wait for. The next request names them even if nobody uses them any more: a caller whose
    /// topic is released meanwhile would otherwise wait for a request that comes only when all topics are old.
    awaited: BTreeSet<Arc<str>>,
    /// What machines want as soon as the back-off after answers that changed nothing allows.
    outdated: Outdated,
    wants_all: bool,
    /// How many want every topic of the cluster kept fresh, and when to ask for them again.
    holders_of_all: usize,
    all_stale_at: Option<Instant>,
    /// Topics to ask for in a request of their own, which may create them.
    new: BTreeSet<Arc<str>>,
    in_flight: Option<Asked>,
    /// How many requests were built; also the number of the newest.
    sent: u64,
    outcomes: RefreshOutcomes,
    failures: u32,
    /// How many answers in a row changed nothing.
    in_vain: u32,
    /// The end of the back-off after a failed request.
    not_before: Instant,
    /// A topic that was already asked for is not asked for again before this.
    repeat_at: Instant,
    /// Until then [`outdated`](Self::outdated) leads to no request.
    quiet_until: Instant,
    stale_at: Option<Instant>,
    /// When the topics without users are dropped from the snapshot.
    forget_at: Instant,
}

impl MetadataRefresh {
    /// Starts empty, and asks for nothing until somebody wants it.
    pub fn new(config: RefreshConfig, seed: u64) -> Self {
        Self {
            config,
            bootstrap_servers: 0,
            random: Random::new(seed),
            metadata: Arc::default(),
            doubt: Doubt::default(),
            interest: Interest::default(),
            unasked: BTreeSet::new(),
            urgent: Outdated::default(),
            awaited: BTreeSet::new(),
            outdated: Outdated::default(),
            wants_all: false,
            holders_of_all: 0,
            all_stale_at: None,
            new: BTreeSet::new(),
            in_flight: None,
            sent: 0,
            outcomes: RefreshOutcomes::default(),
            failures: 0,
            in_vain: 0,
            not_before: Instant(0),
            repeat_at: Instant(0),
            quiet_until: Instant(0),
            stale_at: None,
            forget_at: Instant::FAR,
        }
    }

    /// Says how many `bootstrap.servers` can be asked besides the known brokers.
    #[must_use]
    pub fn with_bootstrap_servers(mut self, count: usize) -> Self {
        self.bootstrap_servers = count;
        self
    }

    /// The current snapshot.
    pub fn metadata(&self) -> &Arc<Metadata> {
        &self.metadata
    }

    /// The outcome of the requests so far.
    pub fn outcomes(&self) -> &RefreshOutcomes {
        &self.outcomes
    }

    /// How many requests have failed in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Adds one user of a topic, and asks for the topic unless all its leaders are known.
    pub fn hold_topic(&mut self, topic: Arc<str>) {
        if !self.interest.contains(&topic) && !is_complete(&self.metadata, &topic) && !self.is_asked_as_new(&topic) {
            if self.metadata.topic(&topic).is_none() {
                self.unasked.insert(Arc::clone(&topic));
            } else {
                self.urgent.add_topic(&topic);
            }
        }
        self.interest.hold(topic);
    }

    /// Whether a request that may create the topic is about to go or in flight.
    fn is_asked_as_new(&self, topic: &str) -> bool {
        self.new.contains(topic) || self.in_flight.as_ref().is_some_and(|asked| asked.new.contains(topic))
    }

    /// Removes one user of a topic. A topic without users is no longer asked for.
    pub fn release_topic(&mut self, topic: &str) {
        self.interest.release(topic);
    }

    /// Notes one more user of every topic there is or will be, and asks for them all.
    pub fn hold_all_topics(&mut self) {
        self.holders_of_all += 1;
        self.wants_all = true;
    }

    /// Notes that one user of every topic has gone.
    pub fn release_all_topics(&mut self) {
        self.holders_of_all = self.holders_of_all.saturating_sub(1);
    }

    /// Drops a topic from the snapshot because it was deleted. Its users get the error from the brokers.
    pub fn forget_topic(&mut self, topic: &str) {
        self.metadata = Arc::new(self.metadata.without_topic(topic));
        if self.interest.contains(topic) {
            self.urgent.add_topic(&topic.into());
        }
    }

    /// Asks for a refresh, as soon as the back-offs allow. Topics that nobody uses are left out.
    pub fn request(&mut self, outdated: Outdated) {
        self.outdated.add(outdated);
    }

    /// Notes that a broker was lost or is back. For a while after that no broker is believed that a known topic does
    /// not exist: one that has just started does not know its topics yet.
    pub fn handle_possible_restart(&mut self, now: Instant) {
        self.doubt.handle_possible_restart(now);
    }

    /// Asks for a topic, delayed at most by the back-off between two requests. Creates nothing.
    pub fn request_topic(&mut self, topic: &Arc<str>) -> Ticket {
        if self.unasked.contains(topic) {
            return self.ticket(Scope::Unasked);
        }
        self.awaited.insert(Arc::clone(topic));
        self.urgent.add_topic(topic);
        self.ticket(Scope::Outdated)
    }

    /// Asks for a new topic in a request of its own, which lets the brokers create it (`auto.create.topics.enable`).
    ///
    /// A topic that was seen before is asked for in an ordinary request: if it was being deleted right now, this
    /// request would create it again.
    pub fn request_new(&mut self, topic: &Arc<str>) -> Ticket {
        let was_seen =
            |topic: &Arc<Topic>| !topic.partitions.is_empty() || topic.error != ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        if self.metadata.topic(topic).is_some_and(was_seen) {
            return self.request_topic(topic);
        }
        self.new.insert(Arc::clone(topic));
        self.ticket(Scope::New)
    }

    /// Asks once for every topic of the cluster.
    pub fn request_all_topics(&mut self) -> Ticket {
        self.wants_all = true;
        self.ticket(Scope::All)
    }

    fn ticket(&self, scope: Scope) -> Ticket {
        Ticket { number: self.sent.saturating_add(1), scope }
    }

    /// When a topic may be asked for that was asked for before.
    fn earliest(&self) -> Instant {
        self.not_before.max(self.repeat_at)
    }

    /// Whether a topic that may be created was never asked for.
    fn is_new_unasked(&self) -> bool {
        self.new.iter().any(|topic| self.metadata.topic(topic).is_none())
    }

    fn is_all_stale(&self, now: Instant) -> bool {
        self.holders_of_all > 0 && self.all_stale_at.is_some_and(|at| at <= now)
    }

    fn is_stale(&self, now: Instant) -> bool {
        self.stale_at.is_some_and(|at| at <= now)
    }

    /// The scope of the request that is due.
    fn due(&self, now: Instant) -> Option<Scope> {
        let may_repeat = self.repeat_at <= now;
        if !self.new.is_empty() && (may_repeat || self.is_new_unasked()) {
            return Some(Scope::New);
        }
        if may_repeat {
            let is_quiet = now < self.quiet_until;
            if self.wants_all || self.is_all_stale(now) {
                return Some(Scope::All);
            }
            let is_due =
                |outdated: fn(&Outdated) -> bool| outdated(&self.urgent) || !is_quiet && outdated(&self.outdated);
            if self.is_stale(now) || is_due(|outdated| *outdated == Outdated::InUse) {
                return Some(Scope::InUse);
            }
            if is_due(|outdated| !outdated.is_empty()) {
                return Some(Scope::Outdated);
            }
        }
        (!self.unasked.is_empty()).then_some(Scope::Unasked)
    }

    /// The request to send now, to any broker.
    pub fn poll_request(&mut self, now: Instant) -> Option<MetadataRequest> {
        if self.in_flight.is_some() || now < self.not_before {
            return None;
        }
        self.urgent.retain(|topic| self.interest.contains(topic) || self.awaited.contains(topic));
        self.outdated.retain(|topic| self.interest.contains(topic));
        let scope = self.due(now)?;
        let asked = self.take(now, scope);
        self.wants_all &= scope != Scope::All;
        // After a long quiet time the count of fruitless answers says nothing any more.
        if now.since(self.quiet_until) > self.config.backoff.max {
            self.in_vain = 0;
        }
        self.sent += 1;
        let named = |name: &Arc<str>| MetadataRequestTopic { name: Some(name.to_string()), ..Default::default() };
        let topics = match scope {
            Scope::New => Some(asked.new.iter().map(named).collect()),
            Scope::Unasked | Scope::Outdated => Some(asked.topics.topics().map(named).collect()),
            Scope::InUse => {
                let others = asked.awaited.iter().filter(|topic| !self.interest.contains(topic));
                Some(self.interest.topics().chain(others).map(named).collect())
            }
            Scope::All => None,
        };
        self.in_flight = Some(asked);
        Some(MetadataRequest { topics, allow_auto_topic_creation: scope == Scope::New, ..Default::default() })
    }

    /// Takes what a request of this scope asks for.
    fn take(&mut self, now: Instant, scope: Scope) -> Asked {
        let mut asked = Asked {
            scope,
            new: BTreeSet::new(),
            topics: Outdated::default(),
            awaited: BTreeSet::new(),
            is_for_machines: false,
        };
        if scope == Scope::New {
            asked.new = std::mem::take(&mut self.new);
            // Whoever opens a new topic holds it, too: one request is enough.
            self.unasked.retain(|topic| !asked.new.contains(topic));
            return asked;
        }
        let unasked = std::mem::take(&mut self.unasked);
        if scope != Scope::Unasked {
            asked.topics.add(std::mem::take(&mut self.urgent));
            asked.awaited = &std::mem::take(&mut self.awaited) | &unasked;
            asked.is_for_machines = scope != Scope::Outdated || self.quiet_until <= now;
        }
        if asked.is_for_machines {
            asked.topics.add(std::mem::take(&mut self.outdated));
        }
        asked.topics.add(Outdated::Topics(unasked));
        asked
    }

    /// Takes the outcome of a request. Returns whether there is a new snapshot.
    pub fn handle_response(&mut self, now: Instant, answer: Result<MetadataResponse>) -> bool {
        let Some(asked) = self.in_flight.take() else {
            debug_assert!(false, "a metadata request was answered that is not in flight");
            return false;
        };
        match answer {
            Ok(response) if response.error_code == ErrorCode::REBOOTSTRAP_REQUIRED => self.rebootstrap(now, asked),
            Ok(response) => self.handle_answer(now, &asked, response),
            Err(error) => {
                self.handle_failure(now, asked, error);
                false
            }
        }
    }

    /// The broker is leaving the cluster or belongs to another one: start again from the bootstrap servers (KIP-1102).
    fn rebootstrap(&mut self, now: Instant, asked: Asked) -> bool {
        let what = "the broker left its cluster (REBOOTSTRAP_REQUIRED): a bootstrap server is asked next";
        self.handle_failure(now, asked, Error::new(ErrorKind::Disconnected, what));
        self.urgent = Outdated::InUse;
        let had_brokers = self.metadata.brokers().next().is_some();
        if had_brokers {
            self.metadata = Arc::new(self.metadata.without_brokers());
        }
        had_brokers
    }

    fn handle_answer(&mut self, now: Instant, asked: &Asked, mut response: MetadataResponse) -> bool {
        self.failures = 0;
        let doubted_until = self.doubt.until(now, &response, now + self.config.backoff.max);
        if asked.scope == Scope::All {
            self.forget_at = now + self.config.max_age;
            self.all_stale_at = Some(doubted_until.unwrap_or(self.forget_at));
        }
        if doubted_until.is_some() {
            for topic in response.topics.iter_mut().filter(|topic| self.is_lacked(topic)) {
                // This keeps its partitions and leaders, and takes back what was said before the restart was noticed.
                topic.error_code = ErrorCode::LEADER_NOT_AVAILABLE;
            }
        }
        let before = self.metadata.version;
        let mut next = self.metadata.merged(response, asked.scope == Scope::All && doubted_until.is_none());
        if self.forget_at <= now && self.holders_of_all == 0 {
            // Nobody has used these topics for so long that they may no longer exist.
            self.forget_at = Instant::FAR;
            next.retain_topics(|topic| self.interest.contains(topic));
        }
        self.metadata = Arc::new(next);
        self.note_answer(asked.scope);
        for topic in asked.new.iter().filter(|topic| !is_complete(&self.metadata, topic)) {
            self.urgent.add_topic(topic);
        }
        self.ask_again_for_unknown(asked);
        let is_new = self.metadata.version != before;
        self.space_requests(now, asked, is_new);
        if matches!(asked.scope, Scope::InUse | Scope::All) || self.stale_at.is_none() {
            self.stale_at = Some(now + self.config.max_age);
        }
        is_new
    }

    /// Whether the answer says of a topic with partitions that it does not exist.
    fn is_lacked(&self, answer: &MetadataResponseTopic) -> bool {
        let known = answer.name.as_deref().and_then(|name| self.metadata.topic(name));
        answer.error_code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            && known.is_some_and(|known| !known.partitions.is_empty())
    }

    /// Topics that were asked for and have no partitions will be asked for again: a topic may be created a moment after
    /// somebody subscribed to it, a broker may not have heard of it yet, or the permission to see it may come back.
    fn ask_again_for_unknown(&mut self, asked: &Asked) {
        let is_unknown = |topic: &&Arc<str>| self.metadata.topic(topic).is_none_or(|topic| topic.partitions.is_empty());
        let unknown: BTreeSet<_> = match asked.scope {
            Scope::New => return,
            Scope::Unasked | Scope::Outdated => asked.topics.topics().filter(is_unknown).cloned().collect(),
            Scope::InUse | Scope::All => self.interest.topics().filter(is_unknown).cloned().collect(),
        };
        self.outdated.add(Outdated::Topics(unknown));
    }

    fn note_answer(&mut self, scope: Scope) {
        let RefreshOutcomes { any, new, unasked, outdated, all, .. } = &mut self.outcomes;
        *any = self.sent;
        match scope {
            Scope::New => {
                *new = self.sent;
                // It may have asked for a topic that was unasked, so that no request of that scope follows.
                if self.unasked.is_empty() {
                    *unasked = self.sent;
                }
            }
            Scope::Unasked => *unasked = self.sent,
            Scope::Outdated | Scope::InUse => (*unasked, *outdated) = (self.sent, self.sent),
            Scope::All => (*unasked, *outdated, *all) = (self.sent, self.sent, self.sent),
        }
    }

    /// Decides when the next requests may go: at most one per back-off, however many callers ask, and fewer for
    /// machines while nothing changes.
    fn space_requests(&mut self, now: Instant, asked: &Asked, is_new: bool) {
        // New topics may come at any rate, and must not put off for ever what was asked for before.
        if !matches!(asked.scope, Scope::New | Scope::Unasked) || self.repeat_at <= now {
            self.repeat_at = now + self.config.backoff.initial;
        }
        if is_new {
            self.in_vain = 0;
        } else if asked.is_for_machines {
            self.in_vain = self.in_vain.saturating_add(1);
        }
        let quiet_until = now + self.config.backoff.delay(self.in_vain.saturating_add(1), &mut self.random);
        if asked.is_for_machines || is_new && quiet_until < self.quiet_until {
            self.quiet_until = quiet_until;
        }
    }

    /// Schedules a failed request again, after a back-off.
    fn handle_failure(&mut self, now: Instant, asked: Asked, error: Error) {
        // The next attempt is made at another broker or bootstrap server, so the wait grows only when all of them have
        // failed once more: whichever comes back first is found soon. If there are many, a few failures are enough: the
        // cluster is away.
        let candidates = self.metadata.brokers().count() + self.bootstrap_servers;
        let round = self.failures / u32::try_from(candidates).unwrap_or(u32::MAX).clamp(1, LARGEST_ROUND);
        self.failures = self.failures.saturating_add(1);
        self.not_before = now + self.config.backoff.delay(round.saturating_add(1), &mut self.random);
        self.outcomes.failed = Some((self.sent, error));
        self.new.extend(asked.new);
        self.urgent.add(asked.topics);
        match asked.scope {
            Scope::InUse => self.urgent = Outdated::InUse,
            Scope::All => self.wants_all = true,
            Scope::New | Scope::Unasked | Scope::Outdated => {}
        }
    }

    /// Merges the new leaders that a broker named with its error. Returns whether there is a new snapshot.
    pub fn handle_leader_hints(&mut self, hints: &[LeaderHint], endpoints: Vec<Broker>) -> bool {
        let next = self.metadata.with_leaders(hints, endpoints);
        let changed = next.is_some();
        if let Some(next) = next {
            self.metadata = Arc::new(next);
        }
        changed
    }

    /// Takes the address of a broker that another one named, for instance as the coordinator of a group, unless the
    /// metadata has it. Returns whether there is a new snapshot.
    pub fn handle_broker(&mut self, broker: Broker) -> bool {
        let is_new = self.metadata.broker(broker.id).is_none();
        if is_new {
            self.metadata = Arc::new(self.metadata.with_broker(broker));
        }
        is_new
    }

    /// When to call [`poll_request`](Self::poll_request) next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.in_flight.is_some() {
            return None;
        }
        let earliest = self.earliest();
        let unasked = (!self.unasked.is_empty() || self.is_new_unasked()).then_some(self.not_before);
        let asked = if self.wants_all || !self.new.is_empty() || !self.urgent.is_empty() {
            Some(earliest)
        } else if self.outdated.is_empty() {
            None
        } else {
            Some(earliest.max(self.quiet_until))
        };
        let all_stale_at = self.all_stale_at.filter(|_| self.holders_of_all > 0);
        let stale = self.stale_at.into_iter().chain(all_stale_at).map(|at| at.max(earliest));
        unasked.into_iter().chain(asked).chain(stale).min()
    }
}

/// Whether all leaders of a topic are known.
fn is_complete(metadata: &Metadata, topic: &str) -> bool {
    let is_led = |topic: &Topic| topic.partitions.iter().all(|partition| partition.leader.is_some());
    metadata.topic(topic).is_some_and(|topic| topic.error == ErrorCode::NONE && is_led(topic))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::wire::messages::metadata::{MetadataResponseBroker, MetadataResponsePartition};
    use crate::wire::primitives::Uuid;

    fn refresh() -> MetadataRefresh {
        let backoff = Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(1) };
        MetadataRefresh::new(RefreshConfig { max_age: Duration::from_secs(300), backoff }, 1)
    }

    fn response(leader: i32, epoch: i32) -> MetadataResponse {
        let broker = |node_id| MetadataResponseBroker { node_id, host: "kafka".into(), port: 9092, rack: None };
        let partition = MetadataResponsePartition {
            leader_id: Some(leader),
            leader_epoch: Some(epoch),
            ..MetadataResponsePartition::default()
        };
        let topic = MetadataResponseTopic {
            name: Some("orders".into()),
            topic_id: Uuid([1; 16]),
            partitions: vec![partition],
            ..MetadataResponseTopic::default()
        };
        MetadataResponse { brokers: vec![broker(1), broker(2)], topics: vec![topic], ..MetadataResponse::default() }
    }

    fn disconnected() -> Error {
        Error::new(ErrorKind::Disconnected, "gone")
    }

    #[test]
    fn nothing_is_asked_for_until_somebody_wants_it() {
        let mut refresh = refresh();
        assert!(refresh.poll_request(Instant(0)).is_none());
        refresh.hold_topic("orders".into());
        let request = refresh.poll_request(Instant(0)).unwrap();
        assert_eq!(request.topics.unwrap().len(), 1);
        assert!(!request.allow_auto_topic_creation);
        assert!(refresh.poll_request(Instant(0)).is_none(), "one request is in flight");
    }

    /// How long it waits after each of these many failures in a row.
    fn waits(refresh: &mut MetadataRefresh, count: usize) -> Vec<u128> {
        refresh.request_topic(&"orders".into());
        let mut now = Instant(1_000);
        let mut waits = Vec::new();
        for _ in 0..count {
            refresh.poll_request(now).unwrap();
            refresh.handle_response(now, Err(disconnected()));
            let next = refresh.poll_timeout().unwrap();
            waits.push(next.since(now).as_millis());
            now = next;
        }
        waits
    }

    /// Whether the wait doubles after each `round` failures. It is jittered by a fifth.
    fn doubles_after(round: usize, waits: &[u128]) -> bool {
        waits.chunks(round).zip(0..).all(|(waits, doublings)| {
            let usual = 100 << doublings;
            waits.iter().all(|wait| (usual * 4 / 5..=usual * 6 / 5).contains(wait))
        })
    }

    #[test]
    fn the_wait_grows_only_when_every_broker_has_failed_once_more() {
        let mut refresh = refresh();
        refresh.hold_topic("orders".into());
        refresh.poll_request(Instant(0)).unwrap();
        refresh.handle_response(Instant(0), Ok(response(1, 5)));
        let waits = waits(&mut refresh, 6);
        assert!(doubles_after(2, &waits), "there are two brokers: {waits:?}");
    }

    #[test]
    fn before_the_first_answer_the_wait_grows_only_when_every_bootstrap_server_has_failed_once_more() {
        for (servers, round) in [(1, 1), (3, 3), (50, 5)] {
            let mut refresh = refresh().with_bootstrap_servers(servers);
            refresh.hold_topic("orders".into());
            let waits = waits(&mut refresh, 3 * round);
            assert!(doubles_after(round, &waits), "{servers} servers: {waits:?}");
        }
    }

    #[test]
    fn a_failure_is_tried_again_after_a_back_off() {
        let mut refresh = refresh();
        refresh.request_all_topics();
        refresh.poll_request(Instant(0)).unwrap();
        assert!(!refresh.handle_response(Instant(0), Err(disconnected())));
        let due = refresh.poll_timeout().unwrap();
        assert!(due > Instant(50));
        assert!(refresh.poll_request(Instant(due.0 - 1)).is_none());
        assert!(refresh.poll_request(due).unwrap().topics.is_none());
    }

    #[test]
    fn as_long_as_somebody_uses_every_topic_all_are_asked_for_again_and_none_is_forgotten() {
        let mut refresh = refresh();
        refresh.hold_topic("orders".into());
        refresh.hold_all_topics();
        for round in 0..3 {
            let now = Instant(round * 300_000);
            assert_eq!(refresh.poll_request(now).map(|request| request.topics), Some(None), "round {round}");
            refresh.handle_response(now, Ok(response(1, 1)));
            assert!(refresh.poll_request(now).is_none());
            // What is asked for in between, by name, does not put it off.
            refresh.request(Outdated::InUse);
            let later = now + Duration::from_secs(200);
            assert!(refresh.poll_request(later).unwrap().topics.is_some());
            refresh.handle_response(later, Ok(response(1, 1)));
            assert_eq!(refresh.poll_timeout(), Some(now + Duration::from_secs(300)));
        }
        assert_eq!(refresh.poll_request(Instant(900_000)).map(|request| request.topics), Some(None));
        refresh.handle_response(Instant(900_000), Ok(response(1, 1)));
        refresh.release_all_topics();
        refresh.release_topic("orders");
        refresh.poll_request(Instant(1_200_000)).unwrap();
        refresh.handle_response(Instant(1_200_000), Ok(MetadataResponse::default()));
        assert!(refresh.metadata().topic("orders").is_none(), "nobody uses it any more");
    }

    #[test]
    fn a_request_made_while_one_is_in_flight_is_not_forgotten() {
        let mut refresh = refresh();
        refresh.request(Outdated::InUse);
        refresh.poll_request(Instant(0)).unwrap();
        refresh.request(Outdated::InUse);
        refresh.handle_response(Instant(1), Ok(response(1, 5)));
        assert!(refresh.poll_request(refresh.poll_timeout().unwrap()).is_some());
    }

    fn asked_for(request: &MetadataRequest) -> Option<Vec<&str>> {
        let topics = request.topics.as_ref()?;
        Some(topics.iter().map(|topic| topic.name.as_deref().unwrap()).collect())
    }

    #[test]
    fn only_a_request_that_may_create_names_its_topic_alone() {
        let mut refresh = refresh();
        refresh.request_all_topics();
        refresh.hold_topic("new".into());
        refresh.request_new(&"new".into());
        let request = refresh.poll_request(Instant(0)).unwrap();
        assert!(request.allow_auto_topic_creation);
        assert_eq!(asked_for(&request), Some(vec!["new"]));
        refresh.handle_response(Instant(0), Ok(response(1, 5)));
        let request = refresh.poll_request(Instant(1_000)).unwrap();
        assert!(!request.allow_auto_topic_creation);
        assert!(request.topics.is_none());
    }

    #[test]
    fn a_request_that_may_create_drops_no_other_topic() {
        let mut refresh = refresh();
        refresh.hold_topic("orders".into());
        refresh.hold_topic("new".into());
        refresh.request_new(&"new".into());
        assert_eq!(asked_for(&refresh.poll_request(Instant(0)).unwrap()), Some(vec!["new"]));
        // A second topic is to be created while the first request is in flight.
        refresh.request_new(&"newer".into());
        refresh.handle_response(Instant(0), Ok(MetadataResponse::default()));
        assert_eq!(asked_for(&refresh.poll_request(Instant(200)).unwrap()), Some(vec!["newer"]));
        refresh.handle_response(Instant(200), Ok(MetadataResponse::default()));
        assert_eq!(asked_for(&refresh.poll_request(Instant(400)).unwrap()), Some(vec!["new", "orders"]));
    }

    #[test]
    fn one_outdated_topic_of_many_is_asked_for_alone() {
        let mut refresh = refresh();
        refresh.request_all_topics();
        refresh.poll_request(Instant(0)).unwrap();
        refresh.handle_response(Instant(0), Ok(response(1, 5)));
        for number in 0..1_000 {
            refresh.hold_topic(format!("t-{number}").into());
        }
        let request = refresh.poll_request(Instant(1_000)).unwrap();
        refresh.handle_response(Instant(1_000), Ok(with_leaders(&request)));
        let outdated = |topics: &[&str]| Outdated::Topics(topics.iter().map(|topic| Arc::from(*topic)).collect());
        refresh.request(outdated(&["t-7", "of-nobody"]));
        refresh.request(outdated(&["t-3"]));
        assert_eq!(asked_for(&refresh.poll_request(Instant(5_000)).unwrap()), Some(vec!["t-3", "t-7"]));
        refresh.handle_response(Instant(5_000), Err(disconnected()));
        assert_eq!(asked_for(&refresh.poll_request(Instant(9_000)).unwrap()), Some(vec!["t-3", "t-7"]));
        refresh.request(Outdated::InUse);
        refresh.handle_response(Instant(9_000), Ok(MetadataResponse::default()));
        assert_eq!(refresh.poll_request(Instant(15_000)).unwrap().topics.unwrap().len(), 1_000, "a broker was lost");
        refresh.handle_response(Instant(15_000), Ok(MetadataResponse::default()));
        refresh.request(outdated(&["t-5"]));
        refresh.poll_request(Instant(20_000)).unwrap();
        refresh.handle_response(Instant(20_000), Ok(MetadataResponse::default()));
        let everything =
            refresh.poll_request(Instant(315_000)).expect("the answer about one topic does not renew the others");
        assert_eq!(everything.topics.unwrap().len(), 1_000);
    }

    /// A refresh with a thousand topics in use, all of which are known to have leaders.
    fn thousand_known(now: Instant) -> MetadataRefresh {
        let mut refresh = refresh();
        for number in 0..1_000 {
            refresh.hold_topic(format!("t-{number:03}").into());
        }
        let request = refresh.poll_request(now).unwrap();
        refresh.handle_response(now, Ok(with_leaders(&request)));
        refresh
    }

    /// The answer in which every topic that was asked for has a leader.
    fn with_leaders(request: &MetadataRequest) -> MetadataResponse {
        let mut response = response(1, 5);
        let topic = response.topics.pop().unwrap();
        for name in asked_for(request).unwrap() {
            response.topics.push(MetadataResponseTopic { name: Some(name.into()), ..topic.clone() });
        }
        response
    }

    #[test]
    fn the_look_up_of_a_topic_without_leader_asks_for_no_other_topic() {
        let mut refresh = thousand_known(Instant(0));
        let orders = Arc::from("orders");
        refresh.hold_topic(Arc::clone(&orders));
        let mut large = 0;
        for round in 0..20 {
            let now = Instant(1_000 + 100 * round);
            // Another broker is away all the time, so machines ask for everything.
            refresh.request(Outdated::InUse);
            let ticket = refresh.request_topic(&orders);
            let request = refresh.poll_request(now).unwrap();
            large += usize::from(request.topics.as_ref().unwrap().len() > 1);
            assert!(asked_for(&request).unwrap().contains(&"orders"));
            let mut leaderless = response(1, 5);
            leaderless.topics[0].partitions[0].leader_id = None;
            refresh.handle_response(now, Ok(leaderless));
            assert_eq!(refresh.outcomes().outcome(ticket).map(|outcome| outcome.is_ok()), Some(true));
        }
        assert!(large <= 5, "{large} of 20 requests also named what only machines want");
    }

    #[test]
    fn the_look_up_of_one_topic_does_not_put_off_what_machines_want() {
        let mut refresh = thousand_known(Instant(0));
        let mut largest = 0;
        for round in 0..10 {
            let now = Instant(2_000 + 100 * round);
            if round < 2 {
                // The second time, they have to wait, because the first answer changes nothing.
                refresh.request(Outdated::InUse);
                largest = 0;
            }
            refresh.request_topic(&"t-007".into());
            let request = refresh.poll_request(now).unwrap();
            largest = largest.max(request.topics.as_ref().unwrap().len());
            refresh.handle_response(now, Ok(with_leaders(&request)));
        }
        assert_eq!(largest, 1_000);
    }

    #[test]
    fn a_topic_that_is_opened_while_a_broker_is_away_is_asked_for_alone_and_at_once() {
        let mut refresh = thousand_known(Instant(0));
        refresh.request(Outdated::InUse);
        let request = refresh.poll_request(Instant(5_000)).unwrap();
        refresh.handle_response(Instant(5_000), Ok(with_leaders(&request)));
        refresh.request(Outdated::InUse);
        assert!(refresh.poll_request(Instant(5_001)).is_none(), "nothing had changed");
        for name in ["orders", "bills"] {
            refresh.hold_topic(name.into());
            let ticket = refresh.request_topic(&name.into());
            let request = refresh.poll_request(Instant(5_001)).unwrap();
            assert_eq!(asked_for(&request), Some(vec![name]));
            refresh.handle_response(Instant(5_001), Ok(with_leaders(&request)));
            assert!(refresh.outcomes().outcome(ticket).unwrap().is_ok());
        }
        let everything = refresh.poll_request(Instant(6_500)).unwrap();
        assert_eq!(everything.topics.unwrap().len(), 1_002, "the lost broker is not forgotten");
    }

    #[test]
    fn a_failed_request_for_one_topic_is_repeated_for_that_topic() {
        let mut refresh = thousand_known(Instant(0));
        refresh.hold_topic("orders".into());
        refresh.request(Outdated::InUse);
        for now in [1, 500] {
            assert_eq!(asked_for(&refresh.poll_request(Instant(now)).unwrap()), Some(vec!["orders"]), "at {now} ms");
            refresh.request(Outdated::InUse);
            refresh.handle_response(Instant(now), Err(disconnected()));
            refresh.quiet_until = Instant(10_000);
        }
    }

    #[test]
    fn an_answer_about_all_topics_that_leaves_one_out_leads_to_a_request_for_that_one() {
        let mut refresh = thousand_known(Instant(0));
        refresh.hold_topic("orders".into());
        let request = refresh.poll_request(Instant(0)).unwrap();
        refresh.handle_response(Instant(0), Ok(with_leaders(&request)));
        refresh.request_all_topics();
        assert_eq!(refresh.poll_request(Instant(1_000)).unwrap().topics, None);
        let mut all = response(1, 5);
        all.topics[0].name = Some("orders".into());
        for number in (0..1_000).filter(|number| *number != 7) {
            let topic = MetadataResponseTopic { name: Some(format!("t-{number:03}")), ..all.topics[0].clone() };
            all.topics.push(topic);
        }
        refresh.handle_response(Instant(1_000), Ok(all));
        assert_eq!(asked_for(&refresh.poll_request(Instant(3_000)).unwrap()), Some(vec!["t-007"]));
    }

    #[test]
    fn a_topic_in_use_that_no_broker_knows_is_asked_for_until_one_does() {
        let mut refresh = refresh();
        refresh.hold_topic("orders".into());
        let mut now = Instant(0);
        let mut waits = Vec::new();
        for _ in 0..8 {
            assert_eq!(refresh.poll_request(now).unwrap().topics.unwrap()[0].name.as_deref(), Some("orders"));
            let mut answer = response(1, 5);
            answer.topics[0].error_code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
            answer.topics[0].partitions.clear();
            refresh.handle_response(now, Ok(answer));
            let next = refresh.poll_timeout().unwrap();
            waits.push(next.since(now).as_millis());
            now = next;
        }
        assert!(waits[0] <= 120 && waits.iter().all(|wait| *wait <= 1_200), "{waits:?}");
        assert!(waits[7] >= 800, "it backs off: {waits:?}");
        refresh.poll_request(now).unwrap();
        refresh.handle_response(now, Ok(response(1, 5)));
        assert!(refresh.poll_timeout().unwrap().since(now) > Duration::from_secs(200), "it is known now");
    }

    #[test]
    fn a_ticket_for_one_topic_is_for_a_request_that_names_it() {
        let mut refresh = thousand_known(Instant(0));
        let seen = refresh.request_topic(&"t-007".into());
        refresh.hold_topic("orders".into());
        let unasked = refresh.request_topic(&"orders".into());
        let new = refresh.request_new(&"new".into());
        let settled = |refresh: &MetadataRefresh| {
            [new, unasked, seen].map(|ticket| refresh.outcomes().outcome(ticket).is_some_and(|outcome| outcome.is_ok()))
        };
        for (topic, outcomes) in
            [("new", [true, false, false]), ("orders", [true, true, false]), ("t-007", [true, true, true])]
        {
            let due = refresh.poll_timeout().unwrap();
            let request = refresh.poll_request(due).unwrap();
            assert_eq!(asked_for(&request), Some(vec![topic]));
            refresh.handle_response(due, Ok(with_leaders(&request)));
            assert_eq!(settled(&refresh), outcomes, "after the answer about {topic}");
        }
    }

    #[test]
    fn who_waits_for_a_topic_that_its_last_user_lets_go_is_answered_by_the_next_request() {
        for is_known in [true, false] {
            for others in [Outdated::default(), Outdated::InUse] {
                let mut refresh = thousand_known(Instant(0));
                let name = if is_known { "t-007" } else { "orders" };
                if !is_known {
                    refresh.hold_topic(name.into());
                }
                refresh.request(others.clone());
                let ticket = refresh.request_topic(&name.into());
                refresh.release_topic(name);
                let due = refresh.poll_timeout().unwrap();
                assert!(due < Instant(2_000), "it is not put off until all topics are old");
                let request = refresh.poll_request(Instant(2_000)).unwrap();
                assert!(asked_for(&request).unwrap().contains(&name), "{name}, {others:?}");
                refresh.handle_response(Instant(2_000), Ok(with_leaders(&request)));
                assert!(refresh.outcomes().outcome(ticket).unwrap().is_ok());
                assert!(refresh.awaited.is_empty() && refresh.poll_request(Instant(9_000)).is_none());
            }
        }
    }

    #[test]
    fn who_waits_for_a_topic_that_another_caller_creates_is_answered_with_it() {
        for is_made_first in [false, true] {
            let mut refresh = refresh();
            let orders = Arc::from("orders");
            refresh.hold_topic(Arc::clone(&orders));
            let before = (!is_made_first).then(|| refresh.request_topic(&orders));
            refresh.request_new(&orders);
            let request = refresh.poll_request(Instant(0)).unwrap();
            let during = is_made_first.then(|| refresh.request_topic(&orders));
            refresh.handle_response(Instant(0), Ok(with_leaders(&request)));
            if let Some(request) = refresh.poll_request(Instant(200)) {
                assert!(is_made_first, "the answer was already there");
                refresh.handle_response(Instant(200), Ok(with_leaders(&request)));
            }
            let ticket = before.or(during).unwrap();
            assert!(refresh.outcomes().outcome(ticket).is_some_and(|outcome| outcome.is_ok()), "{is_made_first}");
        }
    }

    #[test]
    fn a_user_of_all_topics_that_is_released_twice_does_not_count_twice() {
        let mut refresh = refresh();
        refresh.hold_all_topics();
        refresh.release_all_topics();
        refresh.release_all_topics();
        refresh.hold_all_topics();
        refresh.poll_request(Instant(0)).unwrap();
        refresh.handle_response(Instant(0), Ok(response(1, 5)));
        assert!(refresh.poll_request(Instant(300_000)).is_some_and(|request| request.topics.is_none()));
    }

    #[test]
    fn an_answer_about_one_topic_makes_a_new_version_only_if_something_changed() {
        let mut refresh = thousand_known(Instant(0));
        let version = refresh.metadata().version;
        for (now, leader, is_new) in [(1_000, 1, false), (2_000, 2, true)] {
            refresh.request_topic(&"t-007".into());
            refresh.poll_request(Instant(now)).unwrap();
            let mut answer = response(leader, 5 + leader);
            answer.topics[0].name = Some("t-007".into());
            answer.topics[0].partitions[0].leader_epoch = Some(4 + leader);
            assert_eq!(refresh.handle_response(Instant(now), Ok(answer)), is_new);
            assert_eq!(refresh.metadata().version, version + u64::from(is_new));
        }
        assert_eq!(refresh.metadata().topics().count(), 1_000);
    }

    #[test]
    fn a_broker_that_another_one_names_is_known_without_a_request() {
        let mut refresh = thousand_known(Instant(0));
        let broker = |id, host| Broker::new(id, host, 9092, None).unwrap();
        assert!(refresh.handle_broker(broker(9, "kafka-9")));
        assert!(!refresh.handle_broker(broker(9, "elsewhere")) && !refresh.handle_broker(broker(1, "elsewhere")));
        assert_eq!(&*refresh.metadata().broker(9).unwrap().host, "kafka-9");
        assert!(refresh.poll_request(Instant(1_000)).is_none());
    }

    #[test]
    fn a_topic_that_was_seen_is_not_created_again() {
        let mut refresh = refresh();
        refresh.hold_topic("orders".into());
        refresh.poll_request(Instant(0)).unwrap();
        refresh.handle_response(Instant(0), Ok(response(1, 5)));
        let deleted = |refresh: &mut MetadataRefresh, now| {
            let request = refresh.poll_request(Instant(now)).unwrap();
            assert!(!request.allow_auto_topic_creation, "at {now} ms");
            let mut response = response(1, 5);
            response.topics[0].error_code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
            response.topics[0].partitions.clear();
            refresh.handle_response(Instant(now), Ok(response));
        };
        refresh.request_new(&"orders".into());
        deleted(&mut refresh, 1_000);
        refresh.request_new(&"orders".into());
        deleted(&mut refresh, 3_000);
    }

    /// The topic's error, and whether it has a leader, after this answer to a request for it, or for all topics.
    fn told(
        refresh: &mut MetadataRefresh,
        now: u64,
        of_all: bool,
        answer: MetadataResponse,
    ) -> Option<(ErrorCode, bool)> {
        if of_all {
            refresh.request_all_topics()
        } else {
            refresh.request_topic(&"orders".into())
        };
        refresh.poll_request(Instant(now)).unwrap();
        refresh.handle_response(Instant(now), Ok(answer));
        let metadata = refresh.metadata();
        metadata.topic("orders").map(|topic| (topic.error, metadata.leader("orders", 0).is_some()))
    }

    #[test]
    fn that_a_topic_does_not_exist_is_believed_only_of_brokers_that_had_time_to_learn_of_it() {
        let mut unknown = response(1, 5);
        unknown.topics[0].error_code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        unknown.topics[0].partitions.clear();
        let blank = MetadataResponse { brokers: vec![], ..unknown.clone() };
        let mut refresh = refresh();
        let kept = Some((ErrorCode::LEADER_NOT_AVAILABLE, true));
        let gone = Some((ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, true));
        assert_eq!(told(&mut refresh, 0, false, response(1, 5)), Some((ErrorCode::NONE, true)));
        assert_eq!(told(&mut refresh, 1_000, false, blank), kept, "it does not even know itself");
        assert_eq!(told(&mut refresh, 2_000, false, unknown.clone()), gone);
        refresh.handle_possible_restart(Instant(3_000));
        assert_eq!(told(&mut refresh, 4_000, false, unknown.clone()), kept);
        assert_eq!(told(&mut refresh, 32_900, false, unknown.clone()), kept);
        assert_eq!(told(&mut refresh, 34_000, false, unknown.clone()), gone);
    }

    #[test]
    fn a_topic_that_a_list_of_all_leaves_out_is_kept_until_brokers_had_time_to_learn_of_it() {
        let none = || MetadataResponse { topics: vec![], ..response(1, 5) };
        let mut refresh = refresh();
        refresh.hold_all_topics();
        let known = Some((ErrorCode::NONE, true));
        assert_eq!(told(&mut refresh, 0, true, response(1, 5)), known);
        let blank = MetadataResponse { brokers: vec![], ..none() };
        assert_eq!(told(&mut refresh, 1_000, true, blank), known, "it does not even know itself");
        assert_eq!(refresh.poll_timeout(), Some(Instant(2_000)), "it is asked again soon");
        refresh.handle_possible_restart(Instant(3_000));
        assert_eq!(told(&mut refresh, 4_000, true, none()), known);
        assert_eq!(refresh.poll_timeout(), Some(Instant(33_000)));
        let request = refresh.poll_request(Instant(33_000)).unwrap();
        assert_eq!(request.topics, None);
        refresh.handle_response(Instant(33_000), Ok(none()));
        assert!(refresh.metadata().topic("orders").is_none());
    }

    #[test]
    fn a_topic_of_which_not_all_is_known_is_asked_for_again() {
        for (error_code, leader_id, asks) in [
            (ErrorCode::NONE, Some(1), false),
            (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, Some(1), true),
            (ErrorCode::NONE, None, true),
        ] {
            let mut refresh = refresh();
            refresh.request_all_topics();
            refresh.poll_request(Instant(0)).unwrap();
            let mut response = response(1, 5);
            response.topics[0].error_code = error_code;
            response.topics[0].partitions[0].leader_id = leader_id;
            refresh.handle_response(Instant(0), Ok(response));
            refresh.hold_topic("orders".into());
            assert_eq!(refresh.poll_request(Instant(1_000)).is_some(), asks, "{error_code} {leader_id:?}");
        }
    }

    #[test]
    fn what_nobody_uses_any_more_is_not_asked_for_any_more() {
        let mut refresh = refresh();
        refresh.hold_topic("orders".into());
        refresh.hold_topic("bills".into());
        refresh.request_all_topics();
        assert_eq!(asked_for(&refresh.poll_request(Instant(0)).unwrap()), None);
        refresh.handle_response(Instant(0), Ok(response(1, 5)));
        refresh.release_topic("orders");
        let mut bills = response(1, 5);
        bills.topics[0].name = Some("bills".into());
        assert_eq!(asked_for(&refresh.poll_request(Instant(300_000)).unwrap()), Some(vec!["bills"]));
        refresh.handle_response(Instant(300_000), Ok(bills));
        assert!(refresh.metadata().topic("orders").is_none(), "nobody has looked at it for so long");
        assert!(refresh.metadata().topic("bills").is_some());
    }

    #[test]
    fn while_nothing_changes_machines_are_heard_less_and_less_often() {
        let mut refresh = refresh();
        refresh.hold_topic("orders".into());
        let mut asked = Vec::new();
        for now in 0..120_000 {
            refresh.request(Outdated::InUse);
            if refresh.poll_request(Instant(now)).is_some() {
                asked.push(now);
                let mut leaderless = response(1, 5);
                leaderless.topics[0].partitions[0].leader_id = None;
                let is_new = refresh.handle_response(Instant(now), Ok(leaderless));
                assert_eq!(is_new, asked.len() == 1, "an equal snapshot is not a new one");
            }
        }
        assert!((100..=150).contains(&asked.len()), "{} requests in two minutes", asked.len());
        refresh.request(Outdated::InUse);
        refresh.request_topic(&"orders".into());
        assert!(refresh.poll_request(Instant(120_100)).is_some(), "a caller does not wait that long");
        assert!(refresh.handle_response(Instant(120_100), Ok(response(2, 6))));
        refresh.request(Outdated::InUse);
        assert!(refresh.poll_timeout().unwrap() <= Instant(120_220), "after a change it begins anew");
    }

    #[test]
    fn a_ticket_is_for_a_request_that_is_built_after_it_was_taken() {
        let mut refresh = refresh();
        refresh.request_all_topics();
        refresh.poll_request(Instant(0)).unwrap();
        let ticket = refresh.request_all_topics();
        refresh.handle_response(Instant(0), Ok(response(1, 5)));
        assert!(refresh.outcomes().outcome(ticket).is_none(), "that one was under way already");
        refresh.poll_request(Instant(200)).unwrap();
        refresh.handle_response(Instant(200), Err(disconnected()));
        assert!(refresh.outcomes().outcome(ticket).unwrap().is_err());
        let ticket = refresh.request_topic(&"orders".into());
        refresh.poll_request(Instant(1_000)).unwrap();
        refresh.handle_response(Instant(1_000), Ok(response(1, 5)));
        assert!(refresh.outcomes().outcome(ticket).unwrap().is_ok());
    }

    #[test]
    fn metadata_goes_stale() {
        let mut refresh = refresh();
        refresh.request(Outdated::InUse);
        refresh.poll_request(Instant(0)).unwrap();
        refresh.handle_response(Instant(0), Ok(response(1, 5)));
        assert!(refresh.poll_request(Instant(299_999)).is_none());
        assert!(refresh.poll_request(Instant(300_000)).is_some());
    }

    #[test]
    fn a_broker_that_leaves_its_cluster_has_answered_nothing_and_a_bootstrap_server_is_asked_the_same() {
        let mut refresh = refresh();
        refresh.hold_topic("orders".into());
        refresh.poll_request(Instant(0)).unwrap();
        refresh.handle_response(Instant(0), Ok(response(1, 5)));
        let leaving = || Ok(MetadataResponse { error_code: ErrorCode::REBOOTSTRAP_REQUIRED, ..Default::default() });
        let [all, new] = [refresh.request_all_topics(), refresh.request_new(&"new".into())];
        for (now, ticket, topics) in [(100, new, Some(vec!["new"])), (1_000, all, None)] {
            assert_eq!(asked_for(&refresh.poll_request(Instant(now)).unwrap()), topics);
            refresh.handle_response(Instant(now), leaving());
            assert_eq!(refresh.metadata().brokers().count(), 0, "now only the bootstrap servers are left to ask");
            assert!(refresh.metadata().topic("orders").is_some(), "what is known of topics stays");
            let error = refresh.outcomes().outcome(ticket).expect("the attempt has ended").unwrap_err();
            assert!(error.is_retriable(), "{error}");
            assert!(refresh.poll_request(Instant(now)).is_none(), "it waits for the back-off");
            assert_eq!(asked_for(&refresh.poll_request(Instant(now + 400)).unwrap()), topics);
            refresh.handle_response(Instant(now + 400), Ok(response(1, 5)));
        }
        refresh.request_topic(&"orders".into());
        refresh.poll_request(Instant(2_000)).unwrap();
        refresh.handle_response(Instant(2_000), leaving());
        refresh.hold_topic("bills".into());
        let everything = refresh.poll_request(Instant(3_000)).unwrap();
        assert_eq!(asked_for(&everything), Some(vec!["bills", "orders"]), "another cluster may have other leaders");
    }

    #[test]
    fn a_broker_that_lags_behind_cannot_bring_an_old_leader_back() {
        let metadata = Metadata::default().merged(response(2, 6), false);
        let metadata = metadata.merged(response(1, 5), false);
        assert_eq!(metadata.leader("orders", 0), Some((2, Some(6))));
    }

    #[test]
    fn a_re_created_topic_starts_with_new_epochs() {
        let metadata = Metadata::default().merged(response(2, 6), false);
        let mut recreated = response(1, 0);
        recreated.topics[0].topic_id = Uuid([2; 16]);
        assert_eq!(metadata.merged(recreated, false).leader("orders", 0), Some((1, Some(0))));
    }

    #[test]
    fn a_broker_that_lags_behind_cannot_bring_an_older_topic_of_the_name_back() {
        let with_id = |id, epoch| {
            let mut response = response(1, epoch);
            response.topics[0].topic_id = Uuid([id; 16]);
            response
        };
        let id = |metadata: &Metadata| metadata.topic("orders").unwrap().topic_id.0[0];
        let metadata = Metadata::default().merged(with_id(1, 9), false).merged(with_id(2, 0), false);
        let lagging = metadata.merged(with_id(1, 9), false);
        assert_eq!((id(&lagging), lagging.version), (2, metadata.version));
        // If every broker keeps naming the older id, we were wrong about which one is older.
        let insisting = (0..10).fold(metadata, |metadata, _| metadata.merged(with_id(1, 9), false));
        assert_eq!(id(&insisting), 1);
    }

    #[test]
    fn what_did_not_change_stays_the_same_object() {
        let mut two = response(1, 5);
        let mut bills = two.topics[0].clone();
        bills.name = Some("bills".into());
        two.topics.push(bills);
        let before = Metadata::default().merged(two.clone(), false);
        two.topics[0].partitions[0].leader_id = Some(2);
        two.topics[0].partitions[0].leader_epoch = Some(6);
        let after = before.merged(two, false);
        assert!(after.version > before.version);
        assert!(Arc::ptr_eq(before.topic("bills").unwrap(), after.topic("bills").unwrap()));
        assert!(!Arc::ptr_eq(before.topic("orders").unwrap(), after.topic("orders").unwrap()));
    }

    #[test]
    fn a_topic_that_cannot_be_seen_for_a_moment_keeps_its_partitions() {
        let metadata = Metadata::default().merged(response(2, 6), false);
        let mut unseen = response(2, 6);
        unseen.topics[0].error_code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        unseen.topics[0].partitions.clear();
        let metadata = metadata.merged(unseen, false);
        assert_eq!(metadata.topic("orders").unwrap().error, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        assert_eq!(metadata.leader("orders", 0), Some((2, Some(6))));
    }

    #[test]
    fn a_partition_number_that_cannot_be_does_not_make_room_for_all_below_it() {
        let metadata = Metadata::default().merged(response(2, 6), false);
        for index in [i32::MAX, 1_000_000, 100, -1, i32::MIN] {
            let mut damaged = response(1, 7);
            damaged.topics[0].partitions[0].partition_index = index;
            let metadata = metadata.merged(damaged, false);
            assert_eq!(metadata.leader("orders", 0), Some((2, Some(6))), "{index}");
            assert_eq!(metadata.topic("orders").unwrap().partitions.len(), 1, "{index}");
        }
    }

    #[test]
    fn partitions_that_are_left_out_are_kept_while_it_is_the_same_topic() {
        let mut three = response(2, 6);
        for index in 1..3 {
            let mut partition = three.topics[0].partitions[0].clone();
            partition.partition_index = index;
            three.topics[0].partitions.push(partition);
        }
        let metadata = Metadata::default().merged(three, false);
        let one = metadata.merged(response(1, 7), false);
        assert_eq!((one.leader("orders", 0), one.leader("orders", 2)), (Some((1, Some(7))), Some((2, Some(6)))));
        let mut none = response(1, 7);
        none.topics[0].partitions.clear();
        assert_eq!(metadata.merged(none, false).topic("orders").unwrap().partitions.len(), 3);
        let mut anew = response(1, 0);
        anew.topics[0].topic_id = Uuid([2; 16]);
        assert_eq!(metadata.merged(anew, false).topic("orders").unwrap().partitions.len(), 1);
    }

    #[test]
    fn topics_opened_one_after_the_other_do_not_wait_for_each_other() {
        let mut refresh = refresh();
        for number in 0..1_000u16 {
            let name: Arc<str> = format!("orders.{number}").into();
            refresh.request_new(&name);
            refresh.hold_topic(Arc::clone(&name));
            assert!(refresh.poll_request(Instant(1)).is_some(), "{name}");
            let mut response = response(1, 5);
            response.topics[0].name = Some(name.to_string());
            refresh.handle_response(Instant(1), Ok(response));
            assert!(refresh.poll_request(Instant(60_000)).is_none(), "{name} is known");
        }
    }

    #[test]
    fn a_new_topic_waits_for_the_back_off_after_a_failure() {
        let mut refresh = refresh();
        refresh.request_new(&"orders".into());
        refresh.poll_request(Instant(0)).unwrap();
        refresh.handle_response(Instant(0), Err(disconnected()));
        refresh.request_new(&"invoices".into());
        assert!(refresh.poll_request(Instant(10)).is_none());
    }

    #[test]
    fn however_many_ask_there_is_one_request_per_back_off() {
        let mut refresh = refresh();
        refresh.hold_topic("orders".into());
        let asked = (0..1_000).filter(|now| {
            refresh.request_topic(&"orders".into());
            let asked = refresh.poll_request(Instant(*now)).is_some();
            if asked {
                refresh.handle_response(Instant(*now), Ok(response(1, 5)));
            }
            asked
        });
        assert_eq!(asked.count(), 10);
    }

    #[test]
    fn a_hint_counts_only_with_a_newer_epoch_and_a_known_broker() {
        let mut refresh = refresh();
        refresh.request(Outdated::InUse);
        refresh.poll_request(Instant(0)).unwrap();
        refresh.handle_response(Instant(0), Ok(response(1, 5)));
        let hint =
            |leader, epoch| LeaderHint { topic: "orders".into(), partition: 0, leader, leader_epoch: Some(epoch) };
        assert!(!refresh.handle_leader_hints(&[hint(2, 5)], vec![]));
        assert!(!refresh.handle_leader_hints(&[hint(9, 6)], vec![]));
        assert!(refresh.handle_leader_hints(&[hint(2, 6)], vec![]));
        assert_eq!(refresh.metadata().leader("orders", 0), Some((2, Some(6))));
    }

    #[test]
    fn a_broker_that_cannot_be_dialled_is_left_out() {
        for (host, port) in [("", 9092), ("kafka", 0), ("kafka", 70_000), ("kafka", -1)] {
            assert!(Broker::new(1, host, port, None).is_none(), "{host}:{port}");
        }
    }
}
