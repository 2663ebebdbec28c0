//! When to ask for metadata, and for which topics.
//!
//! Asked for what the application uses, not for the whole cluster, unless everything was asked for
//! once. A topic is forgotten by nobody but [`MetadataRefresh::remove_topic`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::cluster::metadata::{Broker, LeaderHint, Metadata, Topic};
use crate::error::Error;
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

/// Keeps the snapshot and decides when a new one is due.
#[derive(Debug)]
pub struct MetadataRefresh {
    config: RefreshConfig,
    random: Random,
    metadata: Arc<Metadata>,
    /// Topics in use, and whether asking for one may create it.
    topics: BTreeMap<Arc<str>, bool>,
    all_topics: bool,
    wanted: bool,
    in_flight: Option<Asked>,
    failures: u32,
    not_before: Instant,
    stale_at: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    all_topics: bool,
    /// Something was asked for after this request was built, so its answer does not settle it.
    wanted_more: bool,
}

impl MetadataRefresh {
    /// Nothing is known, and nothing asked for until [`request`](Self::request).
    pub fn new(config: RefreshConfig, seed: u64) -> Self {
        Self {
            config,
            random: Random::new(seed),
            metadata: Arc::default(),
            topics: BTreeMap::new(),
            all_topics: false,
            wanted: false,
            in_flight: None,
            failures: 0,
            not_before: Instant(0),
            stale_at: None,
        }
    }

    /// The newest snapshot.
    pub fn metadata(&self) -> &Arc<Metadata> {
        &self.metadata
    }

    /// How often in a row it could not be had.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Adds a topic in use; asks for it unless all is known of it. `allow_create` lets the broker create it.
    ///
    /// Says whether it was not in use yet.
    pub fn add_topic(&mut self, topic: Arc<str>, allow_create: bool) -> bool {
        let has_leaders = |topic: &Arc<Topic>| topic.partitions.iter().all(|partition| partition.leader.is_some());
        let known = self.metadata.topic(&topic).filter(|topic| topic.error == ErrorCode::NONE).is_some_and(has_leaders);
        let is_new = !self.topics.contains_key(&topic);
        let entry = self.topics.entry(topic).or_insert(false);
        *entry |= allow_create;
        if !known || allow_create {
            self.request();
        }
        is_new
    }

    /// Forgets a topic.
    pub fn remove_topic(&mut self, topic: &str) {
        self.topics.remove(topic);
        self.metadata = Arc::new(self.metadata.without_topic(topic));
    }

    /// Asks for a new snapshot soon: at once, or when the back-off after a failure has passed.
    pub fn request(&mut self) {
        self.wanted = true;
        if let Some(asked) = &mut self.in_flight {
            asked.wanted_more = true;
        }
    }

    /// Asks for every topic of the cluster, now and in every later snapshot.
    pub fn request_all_topics(&mut self) {
        self.all_topics = true;
        self.request();
    }

    /// The request to send now, to any broker.
    pub fn poll_request(&mut self, now: Instant) -> Option<MetadataRequest> {
        let stale = self.stale_at.is_some_and(|at| at <= now);
        if self.in_flight.is_some() || !(self.wanted || stale) || now < self.not_before {
            return None;
        }
        self.wanted = false;
        // An automatic creation must name its topic, so it goes alone, before a request for everything.
        let creating: Vec<&Arc<str>> =
            self.topics.iter().filter(|(_, create)| **create).map(|(name, _)| name).collect();
        let all_topics = self.all_topics && creating.is_empty();
        self.in_flight = Some(Asked { all_topics, wanted_more: self.all_topics && !all_topics });
        let named = |name: &Arc<str>| MetadataRequestTopic { name: Some(name.to_string()), ..Default::default() };
        let topics = if creating.is_empty() {
            self.topics.keys().map(named).collect()
        } else {
            creating.iter().map(|name| named(name)).collect()
        };
        Some(MetadataRequest {
            topics: (!all_topics).then_some(topics),
            allow_auto_topic_creation: !creating.is_empty(),
            ..Default::default()
        })
    }

    /// Takes the answer in. Says whether there is a new snapshot.
    pub fn handle_response(&mut self, now: Instant, answer: Result<MetadataResponse, Error>) -> bool {
        let Some(asked) = self.in_flight.take() else { return false };
        let Ok(response) = answer else {
            self.failures = self.failures.saturating_add(1);
            self.not_before = now + self.config.backoff.delay(self.failures, &mut self.random);
            self.wanted = true;
            return false;
        };
        self.failures = 0;
        // However many ask, however often: not more than one request per back-off.
        self.not_before = now + self.config.backoff.initial;
        self.stale_at = Some(now + self.config.max_age);
        for create in self.topics.values_mut() {
            *create = false;
        }
        // The broker is about to leave the cluster or never was of it: begin again with the bootstrap servers (KIP-1102).
        let rebootstrap = response.error_code == ErrorCode::REBOOTSTRAP_REQUIRED;
        self.metadata = Arc::new(if rebootstrap {
            self.metadata.without_brokers()
        } else {
            self.metadata.merged(response, asked.all_topics)
        });
        self.wanted = asked.wanted_more || rebootstrap;
        true
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
        let wanted = self.wanted.then_some(self.not_before);
        let stale = self.stale_at.map(|at| at.max(self.not_before));
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
        refresh.add_topic("orders".into(), false);
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

    #[test]
    fn only_a_request_that_may_create_names_its_topic_alone() {
        let mut refresh = refresh();
        refresh.request_all_topics();
        refresh.add_topic("new".into(), true);
        let request = refresh.poll_request(Instant(0)).unwrap();
        assert!(request.allow_auto_topic_creation);
        assert_eq!(request.topics.unwrap().len(), 1);
        refresh.handle_response(Instant(0), Ok(response(1, 5)));
        let request = refresh.poll_request(Instant(1_000)).unwrap();
        assert!(!request.allow_auto_topic_creation);
        assert!(request.topics.is_none());
    }

    #[test]
    fn a_topic_of_which_not_all_is_known_is_asked_for_again() {
        for (error_code, leader_id, asks) in [
            (ErrorCode::NONE, Some(1), false),
            (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, Some(1), true),
            (ErrorCode::NONE, None, true),
        ] {
            let mut refresh = refresh();
            assert!(refresh.add_topic("orders".into(), false), "it is new");
            refresh.poll_request(Instant(0)).unwrap();
            let mut response = response(1, 5);
            response.topics[0].error_code = error_code;
            response.topics[0].partitions[0].leader_id = leader_id;
            refresh.handle_response(Instant(0), Ok(response));
            assert!(!refresh.add_topic("orders".into(), false), "it is in use");
            assert_eq!(refresh.poll_request(Instant(1_000)).is_some(), asks, "{error_code} {leader_id:?}");
        }
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
    fn however_many_ask_there_is_one_request_per_back_off() {
        let mut refresh = refresh();
        let asked = (0..1_000).filter(|now| {
            refresh.request();
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
