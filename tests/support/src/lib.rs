//! Helpers that the tests of several crates share.
//!
//! - [`unique`] names; [`until`], which waits for something to happen; [`LIMIT`], the longest wait of a test;
//! - [`batches`]: record batches to send, and the records of stored ones;
//! - `brokers` (a feature): clusters for a whole suite, embedded and real Kafka, and [`on_every_broker!`];
//! - `rig` (the feature `client`): an embedded cluster with one topic, and a client.
//!
//! Everything here panics if it cannot do what it says, which fails the test.

#![allow(clippy::missing_panics_doc, reason = "said once above")]

pub mod batches;
#[cfg(feature = "brokers")]
pub mod brokers;
#[cfg(feature = "client")]
pub mod rig;

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything in a test takes on a busy machine, so only a failing test waits that long.
pub const LIMIT: Duration = Duration::from_secs(60);

/// How often [`until`] checks.
const PAUSE: Duration = Duration::from_millis(10);

/// A name that no other test in this process uses.
pub fn unique(what: &str) -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    format!("{what}-{}", COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// Calls `look` until it returns something; panics after [`LIMIT`].
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
