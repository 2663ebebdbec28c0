//! What one machine learnt about the cluster and every other machine should know.

use crate::cluster::metadata::{Broker, LeaderHint};
use crate::cluster::outdated::Outdated;

/// Machines put it into their events; the owner of the metadata acts on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The metadata of these topics is out of date, or one of their partitions has no leader.
    RefreshMetadata(Outdated),
    /// A broker named the new leaders of some partitions, and their addresses (KIP-951).
    LeaderHints {
        /// The leaders.
        hints: Vec<LeaderHint>,
        /// The brokers that lead them.
        endpoints: Vec<Broker>,
    },
}
