//! When to ask for metadata, and for which topics.
//!
//! Asked for are the topics in use ([`Interest`]), once every topic of the cluster when somebody wants to see them all,
//! and new topics by themselves, because asking for one may create it.
//!
//! Machines ask for a refresh whenever something looks old to them, as often as they like. As long as nothing changes,
//! they are given one less and less often: a partition without a leader costs one request per `retry.backoff.max.ms`.
//! Who asks on a caller's behalf ([`MetadataRefresh::request_now`]) waits no longer than `retry.backoff.ms`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::cluster::interest::Interest;
use crate::cluster::metadata::{Broker, LeaderHint, Metadata, Topic};
use crate::error::{Error, Result};
use crate::random::Random;
use crate::time::Instant;
use crate::wire::error_code::ErrorCode;
use crate::wire::messages::metadata::MetadataRequestTopic;
use crate::wire::messages::{MetadataRequest, MetadataResponse};

/// The settings that decide when metadata is asked for.
#[derive(Debug, Clone)]
pub struct RefreshConfig {
    /// Kafka: `metadata.max.age.ms`.
    pub max_age: Duration,
    /// Kafka: `retry.backoff.ms` and `retry.backoff.max.ms`.
    pub backoff: Backoff,
}

/// What one request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// New topics, which it may create.
    New,
    /// The topics in use.
    InUse,
    /// Every topic.
    All,
}

/// A request that is still to be sent, and what it must ask for: what a caller waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// The first request that was built after the ticket was taken has this number, or a higher one.
    number: u64,
    scope: Scope,
}

/// How the requests so far have ended.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// The newest answered request of each scope; a wider one counts for the narrower ones, too.
    new: u64,
    in_use: u64,
    all: u64,
    /// The newest request that failed, and why.
    failed: Option<(u64, Error)>,
}

impl Progress {
    /// How what the ticket stands for has ended, if it has. An answer counts more than a failure.
    pub fn outcome(&self, ticket: Ticket) -> Option<Result<()>> {
        let answered = match ticket.scope {
            Scope::New => self.new,
            Scope::InUse => self.in_use,
            Scope::All => self.all,
        };
        if answered >= ticket.number {
            return Some(Ok(()));
        }
        self.failed.as_ref().filter(|(number, _)| *number >= ticket.number).map(|(_, error)| Err(error.clone()))
    }

    /// Why the last request failed, if it did.
    pub fn error(&self) -> Option<&Error> {
        let answered = self.new.max(self.in_use).max(self.all);
        self.failed.as_ref().filter(|(number, _)| *number > answered).map(|(_, error)| error)
    }

    /// Every request from now on has failed: there will be none.
    pub fn fail_for_good(&mut self, error: Error) {
        self.failed = Some((u64::MAX, error));
    }
}

/// How urgently the topics in use are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wanted {
    No,
    /// When nothing says that it would be in vain.
    Soon,
    Now,
}

#[derive(Debug)]
struct Asked {
    scope: Scope,
    new: BTreeSet<Arc<str>>,
}

/// Keeps the snapshot and decides when a new one is due.
#[derive(Debug)]
pub struct MetadataRefresh {
    config: RefreshConfig,
    random: Random,
    metadata: Arc<Metadata>,
    interest: Interest,
    wanted: Wanted,
    wants_all: bool,
    /// Topics to be asked for by themselves, in a request that may create them.
    new: BTreeSet<Arc<str>>,
    in_flight: Option<Asked>,
    /// How many requests were built; the number of the newest.
    sent: u64,
    progress: Progress,
    failures: u32,
    /// How many answers in a row changed nothing.
    in_vain: u32,
    /// The back-off after a failure.
    not_before: Instant,
    /// Before this nothing is asked for again that was asked for already.
    repeat_at: Instant,
    /// Whether somebody wants a topic that was never asked for.
    wants_unasked: bool,
    /// Before this only [`Wanted::Now`] counts.
    quiet_until: Instant,
    stale_at: Option<Instant>,
    /// When what is known of topics that nobody uses is forgotten.
    forget_at: Instant,
}

impl MetadataRefresh {
    /// Nothing is known, and nothing asked for until somebody wants it.
    pub fn new(config: RefreshConfig, seed: u64) -> Self {
        Self {
            config,
            random: Random::new(seed),
            metadata: Arc::default(),
            interest: Interest::default(),
            wanted: Wanted::No,
            wants_all: false,
            new: BTreeSet::new(),
            in_flight: None,
            sent: 0,
            progress: Progress::default(),
            failures: 0,
            in_vain: 0,
            not_before: Instant(0),
            repeat_at: Instant(0),
            wants_unasked: false,
            quiet_until: Instant(0),
            stale_at: None,
            forget_at: Instant::FAR,
        }
    }

    /// The newest snapshot.
    pub fn metadata(&self) -> &Arc<Metadata> {
        &self.metadata
    }

    /// How the requests so far have ended.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// How often in a row it could not be had.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Notes one more user of a topic, and asks for it unless all is known of it.
    pub fn hold_topic(&mut self, topic: Arc<str>) {
        let is_led = |topic: &Arc<Topic>| topic.partitions.iter().all(|partition| partition.leader.is_some());
        let known = self.metadata.topic(&topic).filter(|topic| topic.error == ErrorCode::NONE);
        let is_unasked = self.metadata.topic(&topic).is_none();
        if self.interest.hold(topic) && !known.is_some_and(is_led) {
            self.wanted = Wanted::Now;
            self.wants_unasked |= is_unasked;
        }
    }

    /// Notes that one user of a topic has gone. One without users is no longer asked for.
    pub fn release_topic(&mut self, topic: &str) {
        self.interest.release(topic);
    }

    /// Forgets what is known of a topic: it was deleted. Its users hear from the brokers what became of it.
    pub fn forget_topic(&mut self, topic: &str) {
        self.metadata = Arc::new(self.metadata.without_topic(topic));
        if self.interest.contains(topic) {
            self.wanted = Wanted::Now;
        }
    }

    /// Asks for a snapshot as soon as that may bring something new.
    pub fn request(&mut self) {
        self.wanted = self.wanted.max(Wanted::Soon);
    }

    /// Asks for a snapshot of the topics in use, at once or when the back-off between two requests has passed.
    pub fn request_now(&mut self) -> Ticket {
        self.wanted = Wanted::Now;
        self.ticket(Scope::InUse)
    }

    /// Asks for a new topic by itself, which lets the brokers create it (`auto.create.topics.enable`).
    ///
    /// A topic that was seen is not asked for like that: it would come back if it is deleted at this moment.
    pub fn request_new(&mut self, topic: &Arc<str>) -> Ticket {
        let was_seen =
            |topic: &Arc<Topic>| !topic.partitions.is_empty() || topic.error != ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        if self.metadata.topic(topic).is_some_and(was_seen) {
            return self.request_now();
        }
        self.wants_unasked |= self.metadata.topic(topic).is_none();
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

    /// When the next request may go. A topic that was never asked for does not wait for the back-off between two
    /// answers, or a thousand topics opened one after the other would take a hundred seconds.
    fn earliest(&self) -> Instant {
        if self.wants_unasked { self.not_before } else { self.not_before.max(self.repeat_at) }
    }

    fn is_due(&self, now: Instant) -> bool {
        match self.wanted {
            Wanted::Now => true,
            Wanted::Soon if self.quiet_until <= now => true,
            Wanted::Soon | Wanted::No => self.stale_at.is_some_and(|at| at <= now),
        }
    }

    /// The request to send now, to any broker.
    pub fn poll_request(&mut self, now: Instant) -> Option<MetadataRequest> {
        if self.in_flight.is_some() || now < self.earliest() {
            return None;
        }
        let scope = if !self.new.is_empty() {
            Scope::New
        } else if self.wants_all {
            Scope::All
        } else if self.is_due(now) {
            Scope::InUse
        } else {
            return None;
        };
        if scope != Scope::New {
            self.wanted = Wanted::No;
        }
        self.wants_all &= scope != Scope::All;
        // A cluster that was quiet for long is not one that was asked in vain a moment ago.
        if now.since(self.quiet_until) > self.config.backoff.max {
            self.in_vain = 0;
        }
        self.sent += 1;
        self.wants_unasked = false;
        let new = std::mem::take(&mut self.new);
        let named = |name: &Arc<str>| MetadataRequestTopic { name: Some(name.to_string()), ..Default::default() };
        let topics = match scope {
            Scope::New => Some(new.iter().map(named).collect()),
            Scope::InUse => Some(self.interest.topics().map(named).collect()),
            Scope::All => None,
        };
        self.in_flight = Some(Asked { scope, new });
        Some(MetadataRequest { topics, allow_auto_topic_creation: scope == Scope::New, ..Default::default() })
    }

    /// Takes the answer in. Says whether there is a new snapshot.
    pub fn handle_response(&mut self, now: Instant, answer: Result<MetadataResponse>) -> bool {
        let Some(asked) = self.in_flight.take() else { return false };
        let response = match answer {
            Ok(response) => response,
            Err(error) => {
                self.handle_failure(now, asked, error);
                return false;
            }
        };
        self.failures = 0;
        self.note_answer(asked.scope);
        if asked.scope == Scope::All {
            self.forget_at = now + self.config.max_age;
        }
        // The broker is about to leave the cluster or never was of it: begin again with the bootstrap servers (KIP-1102).
        let rebootstrap = response.error_code == ErrorCode::REBOOTSTRAP_REQUIRED;
        let before = self.metadata.version;
        let mut next = if rebootstrap {
            self.wanted = Wanted::Now;
            self.metadata.without_brokers()
        } else {
            self.metadata.merged(response, asked.scope == Scope::All)
        };
        if self.forget_at <= now {
            // Nobody asked for them for so long that they may be gone.
            self.forget_at = Instant::FAR;
            next.retain_topics(|topic| self.interest.contains(topic));
        }
        self.metadata = Arc::new(next);
        if asked.scope == Scope::All && self.interest.topics().any(|topic| self.metadata.topic(topic).is_none()) {
            // It does not say why they are left out.
            self.request();
        }
        let is_new = self.metadata.version != before;
        self.in_vain = if is_new { 0 } else { self.in_vain.saturating_add(1) };
        // However many ask, however often: not more than one request per back-off.
        self.repeat_at = now + self.config.backoff.initial;
        self.quiet_until = now + self.config.backoff.delay(self.in_vain.saturating_add(1), &mut self.random);
        if asked.scope != Scope::New || self.stale_at.is_none() {
            self.stale_at = Some(now + self.config.max_age);
        }
        is_new
    }

    fn note_answer(&mut self, scope: Scope) {
        let Progress { new, in_use, all, .. } = &mut self.progress;
        match scope {
            Scope::New => *new = self.sent,
            Scope::InUse => (*new, *in_use) = (self.sent, self.sent),
            Scope::All => (*new, *in_use, *all) = (self.sent, self.sent, self.sent),
        }
    }

    /// What was asked for is asked for again, after a back-off.
    fn handle_failure(&mut self, now: Instant, asked: Asked, error: Error) {
        self.failures = self.failures.saturating_add(1);
        self.not_before = now + self.config.backoff.delay(self.failures, &mut self.random);
        self.progress.failed = Some((self.sent, error));
        self.new.extend(asked.new);
        match asked.scope {
            Scope::New => {}
            Scope::InUse => self.wanted = Wanted::Now,
            Scope::All => self.wants_all = true,
        }
    }

    /// Takes in new leaders that a broker named with its error. Says whether there is a new snapshot.
    pub fn handle_leader_hints(&mut self, hints: &[LeaderHint], endpoints: Vec<Broker>) -> bool {
        let next = self.metadata.with_leaders(hints, endpoints);
        let changed = next.is_some();
        if let Some(next) = next {
            self.metadata = Arc::new(next);
        }
        changed
    }

    /// When to call [`poll_request`](Self::poll_request) next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.in_flight.is_some() {
            return None;
        }
        let earliest = self.earliest();
        let wanted = match self.wanted {
            _ if self.wants_all || !self.new.is_empty() => Some(earliest),
            Wanted::Now => Some(earliest),
            Wanted::Soon => Some(earliest.max(self.quiet_until)),
            Wanted::No => None,
        };
        let stale = self.stale_at.map(|at| at.max(earliest));
        wanted.into_iter().chain(stale).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::wire::messages::metadata::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic};
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
    fn a_request_made_while_one_is_in_flight_is_not_forgotten() {
        let mut refresh = refresh();
        refresh.request();
        refresh.poll_request(Instant(0)).unwrap();
        refresh.request();
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
        // Another one is to be created while the first request is in flight.
        refresh.request_new(&"newer".into());
        refresh.handle_response(Instant(0), Ok(MetadataResponse::default()));
        assert_eq!(asked_for(&refresh.poll_request(Instant(200)).unwrap()), Some(vec!["newer"]));
        refresh.handle_response(Instant(200), Ok(MetadataResponse::default()));
        assert_eq!(asked_for(&refresh.poll_request(Instant(400)).unwrap()), Some(vec!["new", "orders"]));
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
            refresh.request();
            if refresh.poll_request(Instant(now)).is_some() {
                asked.push(now);
                let mut leaderless = response(1, 5);
                leaderless.topics[0].partitions[0].leader_id = None;
                let is_new = refresh.handle_response(Instant(now), Ok(leaderless));
                assert_eq!(is_new, asked.len() == 1, "an equal snapshot is not a new one");
            }
        }
        assert!((100..=150).contains(&asked.len()), "{} requests in two minutes", asked.len());
        refresh.request();
        refresh.request_now();
        assert!(refresh.poll_request(Instant(120_100)).is_some(), "a caller does not wait that long");
        assert!(refresh.handle_response(Instant(120_100), Ok(response(2, 6))));
        refresh.request();
        assert!(refresh.poll_timeout().unwrap() <= Instant(120_220), "after a change it begins anew");
    }

    #[test]
    fn a_ticket_is_for_a_request_that_is_built_after_it_was_taken() {
        let mut refresh = refresh();
        refresh.request_all_topics();
        refresh.poll_request(Instant(0)).unwrap();
        let ticket = refresh.request_all_topics();
        refresh.handle_response(Instant(0), Ok(response(1, 5)));
        assert!(refresh.progress().outcome(ticket).is_none(), "that one was under way already");
        refresh.poll_request(Instant(200)).unwrap();
        refresh.handle_response(Instant(200), Err(disconnected()));
        assert!(refresh.progress().outcome(ticket).unwrap().is_err());
        let ticket = refresh.request_now();
        refresh.poll_request(Instant(1_000)).unwrap();
        refresh.handle_response(Instant(1_000), Ok(response(1, 5)));
        assert!(refresh.progress().outcome(ticket).unwrap().is_ok());
    }

    #[test]
    fn metadata_goes_stale() {
        let mut refresh = refresh();
        refresh.request();
        refresh.poll_request(Instant(0)).unwrap();
        refresh.handle_response(Instant(0), Ok(response(1, 5)));
        assert!(refresh.poll_request(Instant(299_999)).is_none());
        assert!(refresh.poll_request(Instant(300_000)).is_some());
    }

    #[test]
    fn a_broker_that_says_so_makes_us_begin_again_with_the_bootstrap_servers() {
        let mut refresh = refresh();
        refresh.request();
        refresh.poll_request(Instant(0)).unwrap();
        refresh.handle_response(Instant(0), Ok(response(1, 5)));
        refresh.request();
        refresh.poll_request(Instant(100)).unwrap();
        let leave = MetadataResponse { error_code: ErrorCode::REBOOTSTRAP_REQUIRED, ..MetadataResponse::default() };
        refresh.handle_response(Instant(100), Ok(leave));
        assert_eq!(refresh.metadata().brokers().count(), 0);
        assert!(refresh.metadata().topic("orders").is_some(), "what is known of topics stays");
        assert!(refresh.poll_request(Instant(200)).is_some());
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
        // If every broker goes on to say so, we were wrong about which is the older one.
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
        let asked = (0..1_000).filter(|now| {
            refresh.request_now();
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
        refresh.request();
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
