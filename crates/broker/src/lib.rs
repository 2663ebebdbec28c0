//! A small Kafka to embed: for trying things out, for tests and for simulation.
//!
//! [`Cluster`] is a whole cluster in memory without I/O: frames go in, frames come out, and the caller passes the time.
//! It has several broker ids; leaders can be moved, brokers stopped, and responses lost on purpose ([`Fault`]). With
//! the feature `serve`, [`serve::Broker`] puts it behind TCP listeners, on a thread of its own.
//!
//! It shares the messages of `kavka_core::wire` with our client, and nothing else: a broker that shared the client's
//! logic would share its mistakes.
//!
//! It is not durable, not replicated (all replicas are the same log), and does not compact. Its TLS and SASL are for
//! testing clients, not for protecting anything: nonces come from a seed, and there are no ACLs. It has no transactions
//! of its own, but serves those of a log that was copied into it ([`Cluster::replicate`]). Each file in `apis/` begins
//! with what its API leaves out.
// A session has a `session_epoch`, a log a `log_start_offset`: the names are Kafka's.
#![allow(clippy::struct_field_names)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod apis;
mod cluster;
mod configs;
mod faults;
mod formats;
mod groups;
mod log;
mod producers;
mod profile;
mod sasl;
#[cfg(feature = "serve")]
pub mod serve;
mod sessions;
mod state;
mod transactions;
mod waits;

pub use cluster::{Cluster, ClusterConfig, ConnectionId, Event};
pub use faults::{Fault, Faults};
pub use profile::{KafkaVersion, UnknownVersion};
pub use sasl::{Sasl, SaslMechanism};
