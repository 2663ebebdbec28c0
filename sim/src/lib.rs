//! A simulator: the engine's machines against a whole cluster, in one thread, with time and faults decided by a seed.
//!
//! The code under test is the real one: on one side `kavka-core`'s connections, metadata refresh, producer, consumer
//! and group member; on the other side `kavka-broker`'s cluster. Only the network between them is simulated
//! ([`network`]): it delays, cuts and swallows bytes. A seed decides which faults a run has, and when each of them
//! strikes ([`plan`]).
//!
//! There are two worlds: a client that writes and reads ([`world`]), and the members of a group ([`groups`]).
//!
//! A [`judge`] compares what the application was told with what is really in the logs, which it reads with its own
//! decoder ([`log`]). The first broken promise ends the run with a panic that names the seed; `make replay SEED=n` runs
//! that seed again and prints what happens, one sentence per line.
//!
//! The same seed gives the same run, to the last byte; [`Outcome::trace_hash`] proves it.

mod adapter;
mod client;
mod groups;
mod journal;
mod judge;
mod ledger;
mod log;
mod network;
mod oddities;
mod plan;
#[cfg(feature = "planted-bugs")]
mod planted;
mod tap;
mod trace;
mod world;

pub use groups::run_group;
#[cfg(feature = "planted-bugs")]
pub use planted::find_planted;
pub use trace::{FaultCounts, FaultKind};
pub use world::{Outcome, run};

/// What a run prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Print {
    /// Nothing, unless a promise is broken.
    Nothing,
    /// Every event.
    Trace,
}
