//! The words that the tests of several crates have in common.
//!
//! - [`unique`] names, [`until`] something has happened, and [`LIMIT`], the longest wait of a test;
//! - [`batches`]: record batches to send, and the records in those that were stored;
//! - `brokers` (a feature): clusters to run a suite on, embedded and of real Kafka, and [`on_every_broker!`];
//! - `rig` (the feature `client`): an embedded cluster with one topic, and a client of it.
//!
//! Everything here panics when it cannot do what it says: that is how a test fails.

#![allow(clippy::missing_panics_doc, reason = "said once above")]

pub mod batches;
#[cfg(feature = "brokers")]
pub mod brokers;
#[cfg(feature = "client")]
pub mod rig;

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything in a test takes on a busy machine; only a test that fails waits so long.
pub const LIMIT: Duration = Duration::from_secs(60);

/// How often [`until`] looks.
const PAUSE: Duration = Duration::from_millis(10);

/// A name that no other test of the process has.
pub fn unique(what: &str) -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    format!("{what}-{}", COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// What `look` finds, looking again until it finds something.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < LIMIT, "waited {LIMIT:?} for {what}");
        thread::sleep(PAUSE);
    }
}
