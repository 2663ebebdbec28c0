//! What is remembered of brokers without `ApiVersions`, so that only the first connection to each has to find out.
//!
//! A broker can have another version only after it was restarted, which ends all its connections. So what is known of
//! it is forgotten as soon as one of them fails. It is not asked more often than that: if Kafka 0.9 is asked for its
//! versions, it may forget requests that reach it on other connections at the same moment.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use kavka_core::cluster::Endpoint;
use kavka_core::config::show_server;
use kavka_core::error::Place;
use kavka_core::link::{Connection, Greeting, OldBroker};
use kavka_core::time::Instant;
use kavka_core::wire::ApiKey;
use kavka_core::wire::messages::list_offsets::RECORDS_SINCE;
use kavka_core::wire::messages::produce::{BATCHES_SINCE, TIMESTAMPS_SINCE};

use super::{Driver, Switchboard};

/// A peer that does not tell its versions is probed once in this time. It may not be Kafka at all.
pub(super) const PROBE_AGAIN: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub(super) struct OldBrokers {
    known: HashMap<Endpoint, Greeting>,
    /// Brokers that have told their versions.
    new: HashSet<Endpoint>,
    /// When brokers were last probed.
    probed: HashMap<Endpoint, Instant>,
    /// What the log says already.
    told: BTreeSet<Told>,
}

/// Something about brokers or topics that the log says once.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    /// The broker at this address is older than Kafka 0.11: the newest version of its `Produce`.
    OldBroker(Arc<str>, i16),
    /// The broker at this address assigns no producer ids.
    NoProducerIds(Arc<str>),
    /// This topic is kept in a format without sequence numbers.
    OldFormat(Arc<str>),
}

impl OldBrokers {
    /// How a connection to a broker begins.
    pub(super) fn greeting(&self, endpoint: Endpoint) -> Greeting {
        self.known.get(&endpoint).copied().unwrap_or_default()
    }

    /// How long a broker may be silent about its versions before it is probed: longer if it has told them before.
    pub(super) fn patience(&self, endpoint: Endpoint) -> Duration {
        if self.new.contains(&endpoint) { Duration::from_secs(3) } else { Duration::from_millis(400) }
    }

    /// Whether a connection may begin like this now.
    pub(super) fn may_begin(&mut self, now: Instant, endpoint: Endpoint, greeting: Greeting) -> bool {
        if !matches!(greeting, Greeting::Probe(_)) {
            return true;
        }
        let is_early = self.probed.get(&endpoint).is_some_and(|probed| now.since(*probed) < PROBE_AGAIN);
        if !is_early {
            self.probed.insert(endpoint, now);
        }
        !is_early
    }

    /// Whether the log must say that a broker assigns no producer ids: not if it says that the broker is too old to.
    fn is_news_of_no_ids(&mut self, address: &Arc<str>) -> bool {
        let is_this = |told: &Told| matches!(told, Told::OldBroker(old, _) if old == address);
        !self.told.iter().any(is_this) && self.told.insert(Told::NoProducerIds(Arc::clone(address)))
    }

    /// Forgets a broker.
    pub(super) fn forget(&mut self, endpoint: Endpoint) {
        self.known.remove(&endpoint);
    }
}

/// Remembers a broker if it does not have `ApiVersions`. Says once in the log what a broker before Kafka 0.11 cannot
/// do.
pub(super) fn note(shared: &Switchboard, endpoint: Endpoint, connection: &Connection, place: &Place) {
    let Some(versions) = connection.versions() else { return };
    if !versions.is_assumed() {
        shared.lock().old_brokers.new.insert(endpoint);
    }
    let Ok(produce) = versions.choose(ApiKey::Produce, (0, i16::MAX)) else { return };
    if produce >= BATCHES_SINCE {
        return;
    }
    let address = place.address.clone().unwrap_or_default();
    let is_new = {
        let old_brokers = &mut shared.lock().old_brokers;
        if versions.is_assumed() {
            let which = if produce == 0 { OldBroker::V0_8_2 } else { OldBroker::V0_9 };
            old_brokers.known.insert(endpoint, Greeting::Old(which));
            old_brokers.new.remove(&endpoint);
            old_brokers.probed.remove(&endpoint);
        }
        old_brokers.told.insert(Told::OldBroker(Arc::clone(&address), produce))
    };
    if !is_new {
        return;
    }
    let (version, also) = match produce {
        TIMESTAMPS_SINCE.. => ("0.11", ""),
        1 => ("0.10", " or timestamps"),
        _ => ("0.9", ", timestamps or consumer groups"),
    };
    let by_time = match versions.choose(ApiKey::ListOffsets, (0, i16::MAX)) {
        Ok(RECORDS_SINCE..) => "",
        _ => "; it finds offsets by the time when a segment of the log was last written",
    };
    log::info!(
        "the broker at {address} is older than Kafka {version}: it has no idempotence, so a record that is sent again \
         may be stored twice, and one batch of each partition is in flight at a time, to keep the order; it has no \
         record headers{also}{by_time}"
    );
}

impl Driver {
    /// Says once in the log that a leader is sent records without sequence numbers, because it assigns no producer ids.
    pub(crate) fn tell_of_no_producer_ids(&self, broker_id: i32) {
        let mut state = self.shared.lock();
        let address = state.route.address(Endpoint::Broker(broker_id), state.refresh.metadata());
        let Some((host, port)) = address else { return };
        let address = show_server(&host, port).into();
        if state.old_brokers.is_news_of_no_ids(&address) {
            drop(state);
            log::info!(
                "the broker at {address} assigns no producer ids (inter.broker.protocol.version is below 0.11): it has \
                 no idempotence, so a record that is sent again may be stored twice, and one batch of each partition \
                 is in flight at a time, to keep the order"
            );
        }
    }

    /// Says once in the log that a topic is kept in a format without sequence numbers.
    pub(crate) fn tell_of_old_format(&self, topic: &Arc<str>) {
        if self.shared.lock().old_brokers.told.insert(Told::OldFormat(Arc::clone(topic))) {
            log::info!(
                "the topic {topic} is kept in a format from before Kafka 0.11 (message.format.version): it has no \
                 idempotence, so a record that is sent again may be stored twice, and one batch of each partition is \
                 in flight at a time, to keep the order; it has no record headers"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_says_once_of_a_broker_that_it_assigns_no_producer_ids_and_never_of_one_that_is_too_old() {
        let [new, old]: [Arc<str>; 2] = ["new:9092".into(), "old:9092".into()];
        let mut brokers = OldBrokers::default();
        brokers.told.insert(Told::OldBroker(Arc::clone(&old), 2));
        let mut is_news = |address| brokers.is_news_of_no_ids(address);
        assert_eq!([is_news(&new), is_news(&new), is_news(&old)], [true, false, false]);
    }
}
