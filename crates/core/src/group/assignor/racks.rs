//! Racks of partitions and members (KIP-881): assignors prefer to give a member partitions with a replica in its rack.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Subscriber;

/// The racks in which a partition has replicas.
pub type Racks = BTreeSet<Arc<str>>;

/// The racks of each topic's partitions, indexed by partition number. Unknown topics are left out.
pub type PartitionRacks = BTreeMap<Arc<str>, Vec<Racks>>;

/// The rack of a member, if it named one.
pub(super) fn rack_of(member: &Subscriber) -> Option<&str> {
    member.subscription.rack.as_deref().filter(|rack| !rack.is_empty())
}

/// Whether racks make a difference: some member's rack has replicas, and the partitions are not all in the same racks.
pub(super) fn matter<'a>(of_members: &[&str], partitions: impl Iterator<Item = Option<&'a Racks>>) -> bool {
    if of_members.is_empty() {
        return false;
    }
    let nowhere = Racks::new();
    let partitions: Vec<&Racks> = partitions.map(|racks| racks.unwrap_or(&nowhere)).collect();
    let all: Racks = partitions.iter().flat_map(|racks| racks.iter().cloned()).collect();
    of_members.iter().any(|rack| all.contains(*rack)) && partitions.iter().any(|racks| **racks != all)
}
