//! A simulator: the engine's machines against a whole cluster, in one thread, with time and bad luck decided by a seed.
//!
//! What runs here is the real thing: `kavka-core`'s connections, metadata refresh, producer and consumer on one side,
//! `kavka-broker`'s cluster on the other. Only the network between them is made up ([`network`]): it delays, cuts and
//! swallows bytes. A seed decides which faults a run has and when each of them strikes ([`plan`]).
//!
//! A [`judge`] holds what the application was told against what is truly in the logs, which it reads with a decoder of
//! its own ([`log`]). The first promise that is broken ends the run with a panic that names the seed; `make replay
//! SEED=n` runs that seed again and prints what happened, one sentence a line.
//!
//! The same seed gives the same run, to the last byte. [`Outcome::trace_hash`] shows it.

mod adapter;
mod client;
mod judge;
mod ledger;
mod log;
mod network;
mod oddities;
mod plan;
mod trace;
mod world;

pub use world::{Outcome, run};

/// What a run prints while it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Print {
    /// Nothing, unless a promise is broken.
    Nothing,
    /// Every event.
    Trace,
}
