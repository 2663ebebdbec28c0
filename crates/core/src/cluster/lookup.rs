//! Looks a topic up, or has it created: when it counts as found, and when to give up.
//!
//! The rules:
//!
//! - A topic is found when every partition has a leader. After `LEADERLESS_TRIES` answers, one partition with a
//!   leader is enough.
//! - A new topic takes a moment to reach every broker. A topic that the brokers do not know is therefore asked for
//!   several times, and many more times if they were asked to create it: since Kafka 2.8 the answer is the same while
//!   they do and if they never will. But if a broker says that `auto.create.topics.enable` is off, nobody creates it.
//! - Only a topic that was never seen is asked for in a way that may create it: with the first request, and every
//!   `CREATE_AGAIN` requests in case the first was lost.
//! - When no broker answers, each known broker and bootstrap server is tried once, and at least `CONNECT_ROUNDS` times
//!   as many attempts are made as there are bootstrap servers, unless connections time out instead of being refused.

use std::sync::Arc;
use std::time::Duration;

use crate::cluster::metadata::{Metadata, Topic};
use crate::error::{Error, ErrorKind, Place, Result};
use crate::time::Instant;
use crate::wire::error_code::ErrorCode;

/// How many attempts for each bootstrap server must fail, if they fail at once, before the cluster counts as
/// unreachable.
const CONNECT_ROUNDS: u32 = 3;

/// How many answers must say that the topic is unknown before it counts as missing.
const UNKNOWN_TRIES: u32 = 4;
/// The same for a topic that the brokers were asked to create; 10 s with `retry.backoff.ms` at 100.
const CREATED_TRIES: u32 = 100;
/// One in this many requests for a topic that is still unknown may create it.
const CREATE_AGAIN: u32 = 20;

/// After how many answers a topic counts as found although some of its partitions have no leader.
const LEADERLESS_TRIES: u32 = 10;

/// Decides when the cluster counts as unreachable.
///
/// Every known broker and bootstrap server must have failed. A refused connection fails at once, and the next attempt
/// may succeed at once, so there are several attempts for each bootstrap server. A server that does not answer costs
/// `socket.connection.setup.timeout.ms` each time, so it is tried once.
#[derive(Debug)]
pub struct Reachability {
    servers: u32,
    brokers: u32,
    set_up: Duration,
    failures: u32,
    since: Instant,
}

impl Reachability {
    /// Nothing has failed yet. There are `servers` bootstrap servers; setting up a connection may take `set_up`.
    pub fn new(now: Instant, servers: usize, set_up: Duration) -> Self {
        Self { servers: u32::try_from(servers).unwrap_or(u32::MAX), brokers: 0, set_up, failures: 0, since: now }
    }

    /// Says how many known brokers can be asked besides the bootstrap servers.
    #[must_use]
    pub fn with_brokers(mut self, count: usize) -> Self {
        self.brokers = u32::try_from(count).unwrap_or(u32::MAX);
        self
    }

    /// Takes the outcome of one attempt. Returns the error when the cluster counts as unreachable.
    pub fn handle_attempt(&mut self, now: Instant, outcome: Result<()>) -> Result<()> {
        let Err(error) = outcome else {
            (self.failures, self.since) = (0, now);
            return Ok(());
        };
        self.failures = self.failures.saturating_add(1);
        let is_over = self.failures >= self.servers.saturating_add(self.brokers)
            && (self.failures >= self.servers.saturating_mul(CONNECT_ROUNDS) || now.since(self.since) >= self.set_up);
        if is_over || !error.is_retriable() { Err(error) } else { Ok(()) }
    }
}

/// What to do next.
#[derive(Debug)]
pub enum Step {
    /// The topic is usable.
    Found(Arc<Topic>),
    /// Send a metadata request, and report its outcome to [`Lookup::handle_attempt`].
    Ask {
        /// Whether the request may create the topic.
        create: bool,
    },
    /// Ask a broker whether it creates topics on request, and report to [`Lookup::handle_auto_create`].
    AskAutoCreate,
    /// The topic does not exist, or looking further is pointless.
    Failed(Error),
}

/// What is known of `auto.create.topics.enable`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AutoCreate {
    Unasked,
    /// It is on, or no broker says.
    Possible,
    Off,
}

/// The look-up of one topic.
#[derive(Debug)]
pub struct Lookup {
    name: Arc<str>,
    /// Whether a request may still create the topic.
    create: bool,
    /// How many answers may say that the topic is unknown.
    tries: u32,
    auto_create: AutoCreate,
    reachability: Reachability,
    unknown: u32,
    leaderless: u32,
    was_answered: bool,
    failed: Option<Error>,
}

impl Lookup {
    /// A look-up of `name`. With `create`, its requests may create the topic (`auto.create.topics.enable`).
    pub fn new(name: Arc<str>, create: bool, reachability: Reachability) -> Self {
        let tries = if create { CREATED_TRIES } else { UNKNOWN_TRIES };
        Self {
            name,
            create,
            tries,
            auto_create: AutoCreate::Unasked,
            reachability,
            unknown: 0,
            leaderless: 0,
            was_answered: false,
            failed: None,
        }
    }

    /// Takes the outcome of the metadata request that the last [`Step::Ask`] asked for.
    pub fn handle_attempt(&mut self, now: Instant, outcome: Result<()>) {
        self.was_answered |= outcome.is_ok();
        self.failed = self.reachability.handle_attempt(now, outcome).err();
    }

    /// Takes what a broker says about `auto.create.topics.enable`; `None` if it does not say.
    pub fn handle_auto_create(&mut self, is_on: Option<bool>) {
        self.auto_create = AutoCreate::Possible;
        if is_on == Some(false) {
            self.auto_create = AutoCreate::Off;
            (self.create, self.tries) = (false, UNKNOWN_TRIES);
        }
    }

    /// The next step, given the current `metadata`.
    pub fn poll_step(&mut self, metadata: &Metadata) -> Step {
        if let Some(error) = self.failed.take() {
            return Step::Failed(error);
        }
        let code = match metadata.topic(&self.name) {
            Some(topic) if topic.error == ErrorCode::NONE && self.has_enough_leaders(topic) => {
                return Step::Found(Arc::clone(topic));
            }
            Some(topic) => {
                if !topic.partitions.is_empty() {
                    // The topic existed just now. If it goes away, it was deleted, and this client must not create it
                    // again.
                    (self.create, self.tries) = (false, UNKNOWN_TRIES);
                }
                topic.error
            }
            // A response that lists all topics leaves out those that do not exist.
            None if self.was_answered => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            None => return Step::Ask { create: self.create },
        };
        match code {
            ErrorCode::NONE | ErrorCode::LEADER_NOT_AVAILABLE => {
                self.leaderless += 1;
                self.create = false;
                Step::Ask { create: false }
            }
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
                if self.create && self.unknown >= UNKNOWN_TRIES && self.auto_create == AutoCreate::Unasked =>
            {
                Step::AskAutoCreate
            }
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION if self.unknown < self.tries => {
                let create = self.create && self.unknown.is_multiple_of(CREATE_AGAIN) && !self.was_asked_once();
                self.unknown += 1;
                Step::Ask { create }
            }
            code => {
                let place = Place { topic: Some(Arc::clone(&self.name)), ..Place::default() };
                let error = Error::new(ErrorKind::Broker(code), format!("the broker answered {code}")).at(place);
                let hint = "create it first: the brokers do not create topics on request (auto.create.topics.enable)";
                Step::Failed(if self.auto_create == AutoCreate::Off { error.with_hint(hint) } else { error })
            }
        }
    }

    /// Whether only the first request, which may create the topic, has been answered.
    fn was_asked_once(&self) -> bool {
        self.was_answered && self.unknown == 0
    }

    fn has_enough_leaders(&self, topic: &Topic) -> bool {
        let led = topic.partitions.iter().filter(|partition| partition.leader.is_some()).count();
        led == topic.partitions.len() || led > 0 && self.leaderless >= LEADERLESS_TRIES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::messages::MetadataResponse;
    use crate::wire::messages::metadata::{MetadataResponsePartition, MetadataResponseTopic};

    const SET_UP: Duration = Duration::from_secs(10);

    fn lookup(create: bool) -> Lookup {
        Lookup::new("orders".into(), create, Reachability::new(Instant(0), 2, SET_UP))
    }

    fn snapshot(error_code: ErrorCode, leaders: &[i32]) -> Metadata {
        let partition = |(index, leader): (usize, &i32)| MetadataResponsePartition {
            partition_index: i32::try_from(index).unwrap(),
            leader_id: Some(*leader),
            ..MetadataResponsePartition::default()
        };
        let topic = MetadataResponseTopic {
            name: Some("orders".into()),
            error_code,
            partitions: leaders.iter().enumerate().map(partition).collect(),
            ..MetadataResponseTopic::default()
        };
        Metadata::default().merged(MetadataResponse { topics: vec![topic], ..MetadataResponse::default() }, false)
    }

    /// Sends requests until the look-up ends; every response shows `metadata`. Returns which requests could create.
    fn asks(lookup: &mut Lookup, metadata: &Metadata) -> (Vec<bool>, Step) {
        asks_where(None, lookup, metadata)
    }

    /// The same where brokers say this about `auto.create.topics.enable`.
    fn asks_where(auto_create: Option<bool>, lookup: &mut Lookup, metadata: &Metadata) -> (Vec<bool>, Step) {
        let mut asked = Vec::new();
        loop {
            match lookup.poll_step(metadata) {
                Step::Ask { create } => asked.push(create),
                Step::AskAutoCreate => {
                    lookup.handle_auto_create(auto_create);
                    continue;
                }
                step => return (asked, step),
            }
            lookup.handle_attempt(Instant(0), Ok(()));
        }
    }

    #[test]
    fn a_topic_that_is_known_is_found_without_asking() {
        let (asked, step) = asks(&mut lookup(true), &snapshot(ErrorCode::NONE, &[1, 2]));
        assert!(asked.is_empty() && matches!(step, Step::Found(_)));
    }

    #[test]
    fn one_partition_with_a_leader_is_enough_after_some_tries() {
        let (asked, step) = asks(&mut lookup(true), &snapshot(ErrorCode::NONE, &[1, -1]));
        assert!(matches!(step, Step::Found(_)));
        assert_eq!(asked, [false; 10], "a topic that was seen is not created");
    }

    #[test]
    fn a_topic_that_nobody_knows_is_believed_to_be_missing_after_a_few_tries() {
        let unknown = snapshot(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, &[]);
        let (asked, step) = asks(&mut lookup(false), &unknown);
        assert!(asked.len() == 4 && matches!(step, Step::Failed(_)), "{asked:?}");
        assert!(asked.iter().all(|create| !create));
    }

    #[test]
    fn only_the_first_request_creates_and_now_and_then_one_in_case_it_was_lost() {
        let mut lookup = lookup(true);
        assert!(matches!(lookup.poll_step(&Metadata::default()), Step::Ask { create: true }));
        lookup.handle_attempt(Instant(0), Ok(()));
        let (asked, step) = asks(&mut lookup, &snapshot(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, &[]));
        assert!(matches!(step, Step::Failed(_)));
        let creating: Vec<_> = (0..asked.len()).filter(|at| asked[*at]).collect();
        assert_eq!(creating, [20, 40, 60, 80]);
    }

    #[test]
    fn a_topic_is_waited_for_unless_a_broker_says_that_it_will_not_be_created() {
        let unknown = snapshot(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, &[]);
        for (auto_create, asked) in [(None, 100), (Some(true), 100), (Some(false), 4)] {
            let mut lookup = lookup(true);
            assert!(matches!(lookup.poll_step(&Metadata::default()), Step::Ask { create: true }));
            lookup.handle_attempt(Instant(0), Ok(()));
            let (requests, step) = asks_where(auto_create, &mut lookup, &unknown);
            assert_eq!(requests.len(), asked, "{auto_create:?}");
            let Step::Failed(error) = step else { panic!("{step:?}") };
            let says_why = error.to_string().contains("auto.create.topics.enable");
            assert_eq!(says_why, auto_create == Some(false), "{error}");
        }
    }

    #[test]
    fn a_topic_that_was_seen_and_went_away_is_not_created() {
        let mut lookup = lookup(true);
        assert!(matches!(lookup.poll_step(&Metadata::default()), Step::Ask { create: true }));
        lookup.handle_attempt(Instant(0), Ok(()));
        let being_made = snapshot(ErrorCode::LEADER_NOT_AVAILABLE, &[]);
        assert!(matches!(lookup.poll_step(&being_made), Step::Ask { create: false }));
        let (asked, _) = asks(&mut lookup, &snapshot(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, &[]));
        assert!(asked.iter().all(|create| !create), "{asked:?}");
    }

    #[test]
    fn refusals_are_tried_again_and_silence_only_once_per_server() {
        let gone = || Err(Error::new(ErrorKind::Disconnected, "gone"));
        let tries = |pause: u64| {
            let mut reachability = Reachability::new(Instant(0), 2, SET_UP);
            (1..100).find(|at| reachability.handle_attempt(Instant(at * pause), gone()).is_err()).unwrap()
        };
        assert_eq!((tries(1), tries(6_000)), (6, 2));
    }

    #[test]
    fn the_cluster_is_unreachable_only_once_all_known_brokers_have_failed_too() {
        let gone = || Err(Error::new(ErrorKind::Disconnected, "gone"));
        let tries = |brokers: usize, pause: u64| {
            let mut reachability = Reachability::new(Instant(0), 1, SET_UP).with_brokers(brokers);
            (1..100).find(|at| reachability.handle_attempt(Instant(at * pause), gone()).is_err()).unwrap()
        };
        assert_eq!((tries(1, 1), tries(5, 1), tries(5, 60_000)), (3, 6, 6));
    }
}
