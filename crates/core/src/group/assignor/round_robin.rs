//! `RoundRobinAssignor`: deals the sorted partitions of all topics out to the members in turn; a member that does not
//! want a topic is skipped.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::consumer::TopicPartition;

use super::{Assignment, PartitionCounts, Subscriber, in_order, nothing};

pub(super) fn assign(counts: &PartitionCounts, members: &[Subscriber]) -> Assignment {
    let wants: Vec<(&Subscriber, BTreeSet<&Arc<str>>)> =
        in_order(members).into_iter().map(|member| (member, member.subscription.topics.iter().collect())).collect();
    let topics: BTreeSet<&Arc<str>> = wants.iter().flat_map(|(_, topics)| topics.iter().copied()).collect();
    let mut assignment = nothing(members);
    let mut turn = wants.iter().cycle();
    for topic in topics {
        for partition in 0..counts.get(topic).copied().unwrap_or(0) {
            // At least one member wants the topic, so the search ends.
            let Some((member, _)) = turn.by_ref().find(|(_, topics)| topics.contains(topic)) else { continue };
            let share = assignment.entry(member.member_id.clone()).or_default();
            share.push(TopicPartition::new(Arc::clone(topic), partition));
        }
    }
    assignment
}

#[cfg(test)]
mod tests {
    use super::super::tests::{counts, member, shares};
    use super::*;

    #[test]
    fn the_partitions_of_all_topics_go_to_the_members_in_turn() {
        let members = [member("b", &["t1", "t2"]), member("a", &["t1", "t2"])];
        let assignment = assign(&counts(&[("t1", 3), ("t2", 3)]), &members);
        assert_eq!(shares(&assignment), ["a: t1-0 t1-2 t2-1", "b: t1-1 t2-0 t2-2"]);
    }

    #[test]
    fn a_member_that_does_not_want_a_topic_is_passed_over() {
        let members = [member("a", &["t1"]), member("b", &["t1", "t2"]), member("c", &["t1", "t2", "t3"])];
        let assignment = assign(&counts(&[("t1", 1), ("t2", 2), ("t3", 3)]), &members);
        assert_eq!(shares(&assignment), ["a: t1-0", "b: t2-0", "c: t2-1 t3-0 t3-1 t3-2"]);
    }
}
