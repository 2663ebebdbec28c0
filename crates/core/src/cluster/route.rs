//! Which broker to ask when any will do, and how long to leave an address alone after it failed.
//!
//! Known brokers come first, then the bootstrap servers: if every known broker has moved away, the client finds the
//! cluster again through its bootstrap servers (KIP-899). Within each group, the endpoint whose last failure is oldest
//! comes first.
//!
//! Only one connection at a time dials a broker that is away. The first to ask after the back-off dials, and its
//! outcome holds for all that wait.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::cluster::Metadata;
use crate::random::Random;
use crate::time::Instant;

/// How long a broker that refused us is left alone: most likely, its answer stays the same until somebody corrects a
/// setting, and too many wrong passwords may lock the account.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

/// A `host:port` from `bootstrap.servers`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootstrapServer {
    /// A host name or an IP address.
    pub host: Arc<str>,
    /// The port.
    pub port: u16,
}

/// An address that can be dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// A broker from the metadata, by its id.
    Broker(i32),
    /// A bootstrap server, by its index in the list.
    Bootstrap(usize),
}

/// Remembers which endpoints failed, and when.
#[derive(Debug)]
pub struct Route {
    bootstrap: Vec<BootstrapServer>,
    failures: BTreeMap<Endpoint, Failures>,
    /// The endpoints that have completed a handshake.
    opened: BTreeSet<Endpoint>,
    backoff: Backoff,
    random: Random,
}

#[derive(Debug, Clone, Copy, Default)]
struct Failures {
    /// How many dials failed in a row.
    in_a_row: u32,
    /// When the last dial or request failed.
    last: Instant,
    /// The next dial starts no earlier than this; during a dial, the end of its time limit.
    not_before: Instant,
    /// The end of the pause after the endpoint refused us.
    refused_until: Instant,
}

impl Route {
    /// A route that knows only the bootstrap servers. It shuffles them, so that clients spread over them.
    pub fn new(mut bootstrap: Vec<BootstrapServer>, backoff: Backoff, seed: u64) -> Self {
        let mut random = Random::new(seed);
        for last in (1..bootstrap.len()).rev() {
            bootstrap.swap(last, random.below(last + 1));
        }
        Self { bootstrap, failures: BTreeMap::new(), opened: BTreeSet::new(), backoff, random }
    }

    /// The endpoint to ask next when any will do. Among equals, one that is already `connected` comes first.
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

    /// The host and port of an endpoint, if it is still known.
    pub fn address(&self, endpoint: Endpoint, metadata: &Metadata) -> Option<(Arc<str>, u16)> {
        match endpoint {
            Endpoint::Broker(id) => metadata.broker(id).map(|broker| (Arc::clone(&broker.host), broker.port)),
            Endpoint::Bootstrap(index) => {
                self.bootstrap.get(index).map(|server| (Arc::clone(&server.host), server.port))
            }
        }
    }

    /// Asks for permission to dial an endpoint, for at most `limit`. `None` grants it; otherwise returns when to ask
    /// again (the dial that is under way may end earlier).
    ///
    /// A caller that gets permission must report the outcome with [`handle_failure`](Self::handle_failure) or
    /// [`handle_opened`](Self::handle_opened).
    pub fn begin_dial(&mut self, now: Instant, endpoint: Endpoint, limit: Duration) -> Option<Instant> {
        let failures = self.failures.get_mut(&endpoint).filter(|failures| failures.in_a_row > 0)?;
        if failures.not_before > now {
            return Some(failures.not_before);
        }
        failures.not_before = now + limit;
        None
    }

    /// Notes that a connection was opened, so that other connections may dial now. The failure count stays until
    /// [`handle_success`](Self::handle_success).
    pub fn handle_opened(&mut self, now: Instant, endpoint: Endpoint) {
        self.opened.insert(endpoint);
        if let Some(failures) = self.failures.get_mut(&endpoint) {
            failures.not_before = now;
        }
    }

    /// Whether a connection to the endpoint was ever opened, handshake included.
    pub fn was_opened(&self, endpoint: Endpoint) -> bool {
        self.opened.contains(&endpoint)
    }

    /// Notes that an endpoint could not be reached, or hung up before it answered anything.
    pub fn handle_failure(&mut self, now: Instant, endpoint: Endpoint) {
        let failures = self.failures.entry(endpoint).or_default();
        failures.in_a_row = failures.in_a_row.saturating_add(1);
        failures.last = now;
        failures.not_before = now + self.backoff.delay(failures.in_a_row, &mut self.random);
    }

    /// Notes that the failure was a refusal: a certificate or credentials were not accepted.
    pub fn handle_refused(&mut self, now: Instant, endpoint: Endpoint) {
        self.failures.entry(endpoint).or_default().refused_until = now + REFUSED_PAUSE;
    }

    /// Whether an endpoint refused us a moment ago, so that it should not be dialled, nor waited for.
    pub fn is_refused(&self, now: Instant, endpoint: Endpoint) -> bool {
        self.failures.get(&endpoint).is_some_and(|failures| failures.refused_until > now)
    }

    /// Notes that an endpoint did not answer a request that any broker can answer: it comes last from now on.
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
    fn an_endpoint_that_refused_us_is_left_alone_for_a_while_until_it_accepts_us() {
        let mut route = route(1);
        let endpoint = Endpoint::Bootstrap(0);
        route.handle_failure(Instant(0), endpoint);
        assert!(!route.is_refused(Instant(0), endpoint), "it is merely away");
        route.handle_refused(Instant(0), endpoint);
        assert!(route.is_refused(Instant(4_999), endpoint) && !route.is_refused(Instant(5_000), endpoint));
        route.handle_success(endpoint);
        assert!(!route.is_refused(Instant(0), endpoint));
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
