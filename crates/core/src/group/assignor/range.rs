//! `RangeAssignor`: each member gets a contiguous range of each topic's partitions. If they cannot be divided evenly,
//! the first members get one more.
//!
//! If racks matter (KIP-881), members first get partitions with a replica in their rack, up to their normal share.
//! Topics with the same members and the same number of partitions are then assigned together: partition n of all of
//! them goes to the same member.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::consumer::TopicPartition;

use super::racks::{self, Racks, rack_of};
use super::{Assignment, PartitionCounts, PartitionRacks, Subscriber, in_order, nothing};

/// A topic that has partitions left to assign.
struct Topic<'a> {
    name: &'a Arc<str>,
    /// The racks of its partitions, if any member names a rack.
    racks: Option<&'a [Racks]>,
    racks_matter: bool,
    count: usize,
    members: Vec<Member<'a>>,
    left: Vec<usize>,
    share: usize,
    /// How many members may still get one more.
    more: usize,
}

struct Member<'a> {
    subscriber: &'a Subscriber,
    rack: Option<&'a str>,
    taken: usize,
}

pub(super) fn assign(counts: &PartitionCounts, racks: &PartitionRacks, members: &[Subscriber]) -> Assignment {
    let mut topics = topics(counts, racks, members);
    let mut assignment = nothing(members);
    if topics.iter().any(|topic| topic.racks_matter) {
        let mut groups: BTreeMap<_, Vec<&mut Topic<'_>>> = BTreeMap::new();
        for topic in &mut topics {
            let members: Vec<_> = topic.members.iter().map(|member| &member.subscriber.member_id).collect();
            groups.entry((members, topic.racks.map(|_| topic.count))).or_default().push(topic);
        }
        for ((members, count), mut group) in groups {
            match group.as_mut_slice() {
                [topic] if topic.racks_matter => topic.give(&mut assignment, true),
                [_] => {}
                together => give_together(&mut assignment, together, members.len(), count.unwrap_or(0)),
            }
        }
    }
    for topic in &mut topics {
        topic.give(&mut assignment, false);
    }
    for share in assignment.values_mut() {
        share.sort_unstable();
    }
    assignment
}

fn topics<'a>(counts: &'a PartitionCounts, racks: &'a PartitionRacks, members: &'a [Subscriber]) -> Vec<Topic<'a>> {
    let mut subscribers: BTreeMap<&Arc<str>, Vec<Member<'a>>> = BTreeMap::new();
    for subscriber in in_order(members) {
        let mut topics: Vec<_> = subscriber.subscription.topics.iter().collect();
        topics.sort_unstable();
        topics.dedup();
        for topic in topics {
            subscribers.entry(topic).or_default().push(Member { subscriber, rack: rack_of(subscriber), taken: 0 });
        }
    }
    let topic = |(name, members): (&Arc<str>, Vec<Member<'a>>)| {
        let (name, count) = counts.get_key_value(name)?;
        let count = usize::try_from(*count).ok()?;
        let known = racks.get(name).map_or(&[][..], Vec::as_slice);
        let in_racks: Vec<_> = members.iter().filter_map(|member| member.rack).collect();
        Some(Topic {
            name,
            racks: (!in_racks.is_empty()).then_some(known),
            racks_matter: racks::matter(&in_racks, (0..count).map(|number| known.get(number))),
            count,
            left: (0..count).collect(),
            share: count / members.len(),
            more: count % members.len(),
            members,
        })
    };
    subscribers.into_iter().filter_map(topic).collect()
}

/// Gives partition n of all these topics to the first member that has replicas of all of them in its rack.
fn give_together(assignment: &mut Assignment, topics: &mut [&mut Topic<'_>], members: usize, count: usize) {
    for number in 0..count {
        let fits = |place: &usize| topics.iter().all(|topic| topic.fits(*place, number) && topic.capacity(*place) > 0);
        let Some(place) = (0..members).find(fits) else { continue };
        for topic in &mut *topics {
            topic.take(assignment, place, &[number]);
        }
    }
}

impl Topic<'_> {
    /// Gives each member a range of partitions up to its share; with `is_rack_needed`, only those with a replica in its
    /// rack.
    fn give(&mut self, assignment: &mut Assignment, is_rack_needed: bool) {
        for place in 0..self.members.len() {
            let fitting = self.left.iter().copied().filter(|number| !is_rack_needed || self.fits(place, *number));
            let numbers: Vec<usize> = fitting.take(self.capacity(place)).collect();
            self.take(assignment, place, &numbers);
        }
    }

    /// Whether the partition has a replica in the member's rack, or the member names no rack.
    fn fits(&self, place: usize, number: usize) -> bool {
        let Some(rack) = self.members.get(place).and_then(|member| member.rack) else { return true };
        self.racks.and_then(|racks| racks.get(number)).is_some_and(|racks| racks.contains(rack))
    }

    fn capacity(&self, place: usize) -> usize {
        let most = self.share + usize::from(self.more > 0);
        self.members.get(place).map_or(0, |member| most.saturating_sub(member.taken))
    }

    fn take(&mut self, assignment: &mut Assignment, place: usize, numbers: &[usize]) {
        let Some(member) = self.members.get_mut(place).filter(|_| !numbers.is_empty()) else { return };
        member.taken += numbers.len();
        if member.taken > self.share {
            self.more -= 1;
        }
        self.left.retain(|number| numbers.binary_search(number).is_err());
        let partitions = numbers.iter().filter_map(|number| i32::try_from(*number).ok());
        let partitions = partitions.map(|number| TopicPartition::new(Arc::clone(self.name), number));
        assignment.entry(member.subscriber.member_id.clone()).or_default().extend(partitions);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{counts, member, shares};
    use super::*;

    #[test]
    fn neighbouring_partitions_of_each_topic_go_to_one_member() {
        let members = [member("b", &["t1", "t2"]), member("a", &["t1", "t2"])];
        let assignment = assign(&counts(&[("t1", 3), ("t2", 3)]), &PartitionRacks::new(), &members);
        assert_eq!(shares(&assignment), ["a: t1-0 t1-1 t2-0 t2-1", "b: t1-2 t2-2"]);
    }

    #[test]
    fn a_topic_that_does_not_exist_is_left_out_and_a_member_may_get_nothing() {
        let members = [member("a", &["t1", "gone"]), member("b", &["t1"])];
        assert_eq!(shares(&assign(&counts(&[("t1", 1)]), &PartitionRacks::new(), &members)), ["a: t1-0", "b:"]);
    }

    #[test]
    fn members_get_partitions_of_their_rack_and_topics_of_one_size_stay_together() {
        let mut members = [member("a", &["t1", "t2"]), member("b", &["t1", "t2"])];
        members[0].subscription.rack = Some("east".into());
        members[1].subscription.rack = Some("west".into());
        let lies_in = |racks: [&str; 2]| racks.map(|rack| Racks::from([Arc::from(rack)])).to_vec();
        let one =
            PartitionRacks::from([("t1".into(), lies_in(["west", "east"])), ("t2".into(), lies_in(["west", "east"]))]);
        let counts = counts(&[("t1", 2), ("t2", 2)]);
        assert_eq!(shares(&assign(&counts, &one, &members)), ["a: t1-1 t2-1", "b: t1-0 t2-0"]);
        let two =
            PartitionRacks::from([("t1".into(), lies_in(["west", "east"])), ("t2".into(), lies_in(["east", "west"]))]);
        assert_eq!(shares(&assign(&counts, &two, &members)), ["a: t1-0 t2-0", "b: t1-1 t2-1"]);
    }
}
