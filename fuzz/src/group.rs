//! Members of a group, and what must hold of every assignment.

use std::collections::BTreeSet;
use std::sync::Arc;

use kavka_core::consumer::TopicPartition;
use kavka_core::group::assignor::{
    Assignment, Assignor, PartitionCounts, PartitionRacks, RebalanceProtocol, Subscriber,
};

use crate::{Unstructured, arbitrary, below};

/// Topics that members want; the last one does not exist.
pub const TOPICS: [&str; 4] = ["a", "b", "c", "gone"];

/// The numbers of partitions of the topics that exist.
pub fn some_counts(input: &mut Unstructured<'_>) -> arbitrary::Result<PartitionCounts> {
    let mut counts = PartitionCounts::new();
    for topic in &TOPICS[..3] {
        counts.insert(Arc::from(*topic), [0, 1, 3, 10, -1][below(input, 5)?]);
    }
    Ok(counts)
}

/// The racks of some partitions.
pub fn some_racks(input: &mut Unstructured<'_>) -> arbitrary::Result<PartitionRacks> {
    let mut racks = PartitionRacks::new();
    for topic in TOPICS {
        let mut of_partitions = Vec::new();
        for _ in 0..below(input, 5)? {
            let mut of_one = BTreeSet::new();
            for rack in ["east", "west"] {
                if input.arbitrary()? {
                    of_one.insert(Arc::from(rack));
                }
            }
            of_partitions.push(of_one);
        }
        racks.insert(Arc::from(topic), of_partitions);
    }
    Ok(racks)
}

/// Lets every assignor assign the partitions to the members, whose ids must differ.
///
/// Panics unless each partition of a topic that somebody wants goes to one member that wants it. A cooperative assignor
/// may hold back those that a member claims to own.
pub fn check_assignors(counts: &PartitionCounts, racks: &PartitionRacks, members: &[Subscriber]) {
    let mut wanted = BTreeSet::new();
    for (topic, count) in counts {
        if members.iter().any(|member| member.subscription.topics.contains(topic)) {
            wanted.extend((0..*count).map(|number| TopicPartition::new(Arc::clone(topic), number)));
        }
    }
    for assignor in Assignor::ALL {
        check(assignor, &wanted, members, assignor.assign(counts, racks, members));
    }
}

fn check(assignor: Assignor, wanted: &BTreeSet<TopicPartition>, members: &[Subscriber], assignment: Assignment) {
    assert_eq!(assignment.len(), members.len(), "{assignor:?} leaves a member out");
    let mut shared = BTreeSet::new();
    for member in members {
        for key in &assignment[&member.member_id] {
            assert!(member.subscription.topics.contains(&key.topic), "{assignor:?} gives {key}, which is not wanted");
            assert!(shared.insert(key.clone()), "{assignor:?} gives {key} twice");
        }
    }
    assert!(shared.is_subset(wanted), "{assignor:?} gives what does not exist");
    for key in wanted.difference(&shared) {
        let is_claimed = members.iter().any(|member| member.subscription.owned.contains(key));
        assert!(is_claimed && assignor.protocol() == RebalanceProtocol::Cooperative, "{assignor:?} leaves out {key}");
    }
}
