//! What a machine learnt about the cluster that everybody should know.

use crate::cluster::metadata::{Broker, LeaderHint};

/// Carried by the events of the machines to whoever keeps the metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The metadata is out of date, or lacks a leader.
    RefreshMetadata,
    /// A broker named the new leaders of partitions, and how to reach them (KIP-951).
    LeaderHints {
        /// The leaders.
        hints: Vec<LeaderHint>,
        /// The brokers they are.
        endpoints: Vec<Broker>,
    },
}
