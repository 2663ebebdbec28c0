//! A Kafka small enough to embed: for the quick start, for tests and for simulation.
//!
//! [`Cluster`] is a whole cluster in memory without I/O: frames go in, frames come out, and time is told. Several
//! broker ids live in it; leaders can be moved, brokers stopped, and answers lost on purpose ([`Fault`]). With the
//! feature `serve`, [`serve::Broker`] puts it behind TCP listeners on a thread of its own.
//!
//! It shares the messages of `kavka_core::wire` with our clients and nothing else: a broker that shared their logic
//! would share their mistakes.
//!
//! What it is not: durable, replicated (every replica is the same log), secured (no TLS, SASL or ACLs), compacting. It
//! has no transactions of its own, and serves those of a log that was copied into it ([`Cluster::replicate`]). Each file in `apis/` begins with what its API leaves out.
// A session has a `session_epoch`, a log a `log_start_offset`: the names are Kafka's.
#![allow(clippy::struct_field_names)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod apis;
mod cluster;
mod configs;
mod faults;
mod groups;
mod log;
mod producers;
#[cfg(feature = "serve")]
pub mod serve;
mod sessions;
mod state;
mod transactions;
mod waits;

pub use cluster::{Cluster, ClusterConfig, ConnectionId, Event};
pub use faults::{Fault, Faults};
