//! What is remembered of brokers without `ApiVersions`, so that only the first connection to each has to find out.
//!
//! A broker can have another version only after it was restarted, which ends all its connections. So what is known of
//! it is forgotten as soon as one of them fails. It is not asked more often than that: if Kafka 0.9 is asked for its
//! versions, it may forget requests that reach it on other connections at the same moment.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use kavka_core::cluster::Endpoint;
use kavka_core::error::Place;
use kavka_core::link::{Connection, Greeting, OldBroker};
use kavka_core::time::Instant;
use kavka_core::wire::ApiKey;
use kavka_core::wire::messages::list_offsets::RECORDS_SINCE;
use kavka_core::wire::messages::produce::{BATCHES_SINCE, TIMESTAMPS_SINCE};

use super::Switchboard;

/// A peer that does not tell its versions is probed once in this time. It may not be Kafka at all.
pub(super) const PROBE_AGAIN: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub(super) struct OldBrokers {
    known: HashMap<Endpoint, Greeting>,
    /// Brokers that have told their versions.
    new: HashSet<Endpoint>,
    /// When brokers were last probed.
    probed: HashMap<Endpoint, Instant>,
    /// What the log says already: the address, and the newest version of `Produce`.
    told: BTreeSet<(String, i16)>,
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
    let address = place.address.as_deref().unwrap_or_default();
    let is_new = {
        let old_brokers = &mut shared.lock().old_brokers;
        if versions.is_assumed() {
            let which = if produce == 0 { OldBroker::V0_8_2 } else { OldBroker::V0_9 };
            old_brokers.known.insert(endpoint, Greeting::Old(which));
            old_brokers.new.remove(&endpoint);
            old_brokers.probed.remove(&endpoint);
        }
        old_brokers.told.insert((address.to_owned(), produce))
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
