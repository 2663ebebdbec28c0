//! Whom to ask when any broker will do, and how long to leave an address alone that did not answer.
//!
//! Known brokers come first, the bootstrap servers after them, so a cluster whose every known
//! broker has moved away is found again through its bootstrap servers (KIP-899). Within each group the
//! one that failed least recently is next.

use std::collections::BTreeMap;
use std::sync::Arc;

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

#[derive(Debug, Clone, Copy)]
struct Failures {
    in_a_row: u32,
    last: Instant,
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

    /// Notes that an endpoint could not be reached, or hung up before it was of any use.
    pub fn handle_failure(&mut self, now: Instant, endpoint: Endpoint) {
        let in_a_row = self.failures.get(&endpoint).map_or(0, |failures| failures.in_a_row).saturating_add(1);
        let not_before = now + self.backoff.delay(in_a_row, &mut self.random);
        self.failures.insert(endpoint, Failures { in_a_row, last: now, not_before });
    }

    /// Notes that an endpoint was reached.
    pub fn handle_success(&mut self, endpoint: Endpoint) {
        self.failures.remove(&endpoint);
    }

    /// When an endpoint may be dialled again.
    pub fn not_before(&self, endpoint: Endpoint) -> Instant {
        self.failures.get(&endpoint).map_or(Instant(0), |failures| failures.not_before)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

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
}
