//! Whom to ask when any broker will do, and how long to leave an address alone that did not answer.
//!
//! Known brokers come first, the bootstrap servers after them, so a cluster whose every known
//! broker has moved away is found again through its bootstrap servers (KIP-899). Within each group the
//! one that failed least recently is next.
//!
//! A broker that is away is dialled by one connection at a time, however many wait for it: the first to come after the
//! back-off dials, and what becomes of that is the answer for all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::cluster::Metadata;
use crate::random::Random;
use crate::time::Instant;

/// A `host:port` from `bootstrap.servers`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootstrapServer {
    /// A name or an address.
    pub host: Arc<str>,
    /// The port.
    pub port: u16,
}

/// Something that can be dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// A broker that the metadata names.
    Broker(i32),
    /// A bootstrap server, by its place in the list.
    Bootstrap(usize),
}

/// Remembers which endpoints failed.
#[derive(Debug)]
pub struct Route {
    bootstrap: Vec<BootstrapServer>,
    failures: BTreeMap<Endpoint, Failures>,
    backoff: Backoff,
    random: Random,
}

#[derive(Debug, Clone, Copy, Default)]
struct Failures {
    /// How many dials failed in a row.
    in_a_row: u32,
    /// When the last dial or request failed.
    last: Instant,
    /// The next dial is not before this; while one is under way, its limit.
    not_before: Instant,
}

impl Route {
    /// A route that knows only the bootstrap servers, which it shuffles so that clients spread over them.
    pub fn new(mut bootstrap: Vec<BootstrapServer>, backoff: Backoff, seed: u64) -> Self {
        let mut random = Random::new(seed);
        for last in (1..bootstrap.len()).rev() {
            bootstrap.swap(last, random.below(last + 1));
        }
        Self { bootstrap, failures: BTreeMap::new(), backoff, random }
    }

    /// The endpoint to ask next when any will do; among equals one that is `connected` already.
    pub fn any(&mut self, metadata: &Metadata, connected: impl Fn(Endpoint) -> bool) -> Option<Endpoint> {
        let brokers: Vec<Endpoint> = metadata.brokers().map(|broker| Endpoint::Broker(broker.id)).collect();
        let bootstrap = (0..self.bootstrap.len()).map(Endpoint::Bootstrap);
        let first = self.random.below(brokers.len());
        let rotated = brokers.iter().cycle().skip(first).take(brokers.len()).copied();
        let last_failure = |endpoint: &Endpoint| self.failures.get(endpoint).map(|failures| failures.last);
        rotated.chain(bootstrap).min_by_key(|endpoint| (last_failure(endpoint), !connected(*endpoint)))
    }

    /// How many endpoints [`any`](Self::any) chooses from.
    pub fn candidates(&self, metadata: &Metadata) -> usize {
        metadata.brokers().count() + self.bootstrap.len()
    }

    /// Where to dial an endpoint, if it is still known.
    pub fn address(&self, endpoint: Endpoint, metadata: &Metadata) -> Option<(Arc<str>, u16)> {
        match endpoint {
            Endpoint::Broker(id) => metadata.broker(id).map(|broker| (Arc::clone(&broker.host), broker.port)),
            Endpoint::Bootstrap(index) => {
                self.bootstrap.get(index).map(|server| (Arc::clone(&server.host), server.port))
            }
        }
    }

    /// Asks for leave to dial an endpoint, which takes no longer than `limit`. Without leave it says when to ask again;
    /// news of the dial that is under way may come earlier.
    ///
    /// Who gets leave must report with [`handle_failure`](Self::handle_failure) or
    /// [`handle_opened`](Self::handle_opened).
    pub fn begin_dial(&mut self, now: Instant, endpoint: Endpoint, limit: Duration) -> Option<Instant> {
        let failures = self.failures.get_mut(&endpoint).filter(|failures| failures.in_a_row > 0)?;
        if failures.not_before > now {
            return Some(failures.not_before);
        }
        failures.not_before = now + limit;
        None
    }

    /// Notes that a connection was made, so that the others may follow. It has yet to prove useful.
    pub fn handle_opened(&mut self, now: Instant, endpoint: Endpoint) {
        if let Some(failures) = self.failures.get_mut(&endpoint) {
            failures.not_before = now;
        }
    }

    /// Notes that an endpoint could not be reached, or hung up before it was of any use.
    pub fn handle_failure(&mut self, now: Instant, endpoint: Endpoint) {
        let failures = self.failures.entry(endpoint).or_default();
        failures.in_a_row = failures.in_a_row.saturating_add(1);
        failures.last = now;
        failures.not_before = now + self.backoff.delay(failures.in_a_row, &mut self.random);
    }

    /// Notes that an endpoint did not answer what any could have answered: it is the last to be asked next time.
    pub fn pass_over(&mut self, now: Instant, endpoint: Endpoint) {
        self.failures.entry(endpoint).or_default().last = now;
    }

    /// Notes that an endpoint answered.
    pub fn handle_success(&mut self, endpoint: Endpoint) {
        self.failures.remove(&endpoint);
    }

    /// How many dials of an endpoint have failed in a row.
    pub fn failures(&self, endpoint: Endpoint) -> u32 {
        self.failures.get(&endpoint).map_or(0, |failures| failures.in_a_row)
    }

    /// When an endpoint may be dialled again.
    pub fn not_before(&self, endpoint: Endpoint) -> Instant {
        self.failures.get(&endpoint).map_or(Instant(0), |failures| failures.not_before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn route(servers: u16) -> Route {
        let bootstrap =
            (0..servers).map(|index| BootstrapServer { host: "host".into(), port: 9_000 + index }).collect();
        let backoff = Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(10) };
        Route::new(bootstrap, backoff, 7)
    }

    #[test]
    fn an_endpoint_that_failed_comes_after_those_that_did_not() {
        let mut route = route(3);
        let metadata = Metadata::default();
        let first = route.any(&metadata, |_| false).unwrap();
        route.handle_failure(Instant(10), first);
        let second = route.any(&metadata, |_| false).unwrap();
        route.handle_failure(Instant(20), second);
        let third = route.any(&metadata, |_| false).unwrap();
        route.handle_failure(Instant(30), third);
        assert!(first != second && second != third && first != third);
        assert_eq!(route.any(&metadata, |_| false), Some(first));
    }

    #[test]
    fn a_failed_endpoint_is_left_alone_for_longer_each_time() {
        let mut route = route(1);
        let endpoint = Endpoint::Bootstrap(0);
        route.handle_failure(Instant(0), endpoint);
        let first = route.not_before(endpoint).since(Instant(0));
        route.handle_failure(Instant(0), endpoint);
        assert!(route.not_before(endpoint).since(Instant(0)) > first);
        route.handle_success(endpoint);
        assert_eq!(route.not_before(endpoint), Instant(0));
    }

    #[test]
    fn an_endpoint_that_is_away_is_dialled_by_one_at_a_time() {
        let mut route = route(1);
        let endpoint = Endpoint::Bootstrap(0);
        assert_eq!(route.begin_dial(Instant(0), endpoint, LIMIT), None, "nothing is known against it");
        assert_eq!(route.begin_dial(Instant(0), endpoint, LIMIT), None);
        route.handle_failure(Instant(0), endpoint);
        let due = route.begin_dial(Instant(0), endpoint, LIMIT).expect("a back-off");
        assert_eq!(route.begin_dial(due, endpoint, LIMIT), None, "the first to come after it dials");
        assert_eq!(route.begin_dial(due, endpoint, LIMIT), Some(due + LIMIT), "the others wait for it");
        route.handle_opened(due, endpoint);
        assert_eq!(route.begin_dial(due, endpoint, LIMIT), None);
    }

    #[test]
    fn an_endpoint_that_was_passed_over_is_asked_last_but_may_be_dialled() {
        let mut route = route(2);
        let first = route.any(&Metadata::default(), |_| false).unwrap();
        route.pass_over(Instant(10), first);
        assert_ne!(route.any(&Metadata::default(), |_| false), Some(first));
        assert_eq!(route.begin_dial(Instant(10), first, LIMIT), None);
    }
}
