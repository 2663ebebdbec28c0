//! The coordinator's assignors (KIP-848): `uniform`, the default, and `range`.
//!
//! `uniform` gives every member as many partitions as the others as far as subscriptions allow, and moves no more of
//! them than that takes. `range` gives neighbouring partitions of each topic to one member.

use std::collections::{BTreeMap, BTreeSet};

use kavka_core::wire::Uuid;

/// Partitions, by topic id and number.
pub(crate) type Partitions = BTreeSet<(Uuid, i32)>;

/// What an assignor knows of a member.
#[derive(Debug, Clone, Default)]
pub(crate) struct Subscriber {
    /// The topics that it wants to read, with their numbers of partitions.
    pub(crate) topics: BTreeMap<Uuid, i32>,
    /// What it was to have so far.
    pub(crate) has: Partitions,
}

/// How partitions are shared out. Kafka: `group.remote.assignor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Assignor {
    #[default]
    Uniform,
    Range,
}

impl Assignor {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Uniform, Self::Range].into_iter().find(|assignor| assignor.name() == name)
    }

    /// What each member shall have.
    pub(crate) fn assign(self, members: &BTreeMap<String, Subscriber>) -> BTreeMap<String, Partitions> {
        let topics: BTreeMap<Uuid, i32> = members.values().flat_map(|member| member.topics.clone()).collect();
        match self {
            Self::Uniform => uniform(members, &topics),
            Self::Range => range(members, &topics),
        }
    }
}

fn range(members: &BTreeMap<String, Subscriber>, topics: &BTreeMap<Uuid, i32>) -> BTreeMap<String, Partitions> {
    let mut shares: BTreeMap<String, Partitions> = members.keys().map(|id| (id.clone(), Partitions::new())).collect();
    for (topic_id, count) in topics {
        let readers: Vec<_> =
            members.iter().filter(|(_, member)| member.topics.contains_key(topic_id)).map(|(id, _)| id).collect();
        let readers_count = readers.len() as i32;
        let mut next = 0;
        for (index, reader) in (0_i32..).zip(readers) {
            let share = count / readers_count + i32::from(index < count % readers_count);
            let partitions = (next..next + share).map(|partition| (*topic_id, partition));
            shares.entry(reader.clone()).or_default().extend(partitions);
            next += share;
        }
    }
    shares
}

fn uniform(members: &BTreeMap<String, Subscriber>, topics: &BTreeMap<Uuid, i32>) -> BTreeMap<String, Partitions> {
    let all = || topics.iter().flat_map(|(topic_id, count)| (0..*count).map(|partition| (*topic_id, partition)));
    let mut shares: BTreeMap<String, Partitions> = BTreeMap::new();
    let mut given = Partitions::new();
    for (member_id, member) in members {
        let is_kept = |partition: &(Uuid, i32)| {
            member.topics.get(&partition.0).is_some_and(|count| partition.1 < *count) && !given.contains(partition)
        };
        let kept: Partitions = member.has.iter().copied().filter(is_kept).collect();
        given.extend(&kept);
        shares.insert(member_id.clone(), kept);
    }
    let reads = |member_id: &String, topic_id: &Uuid| {
        members.get(member_id).is_some_and(|member| member.topics.contains_key(topic_id))
    };
    for partition in all().filter(|partition| !given.contains(partition)) {
        let readers = shares.iter_mut().filter(|(member_id, _)| reads(member_id, &partition.0));
        if let Some((_, share)) = readers.min_by_key(|(_, share)| share.len()) {
            share.insert(partition);
        }
    }
    // From whoever has at least two more than another that reads the topic, one partition moves, until nobody has.
    while let Some((partition, from, to)) = next_move(&shares, &reads) {
        shares.entry(from).or_default().remove(&partition);
        shares.entry(to).or_default().insert(partition);
    }
    shares
}

type Move = ((Uuid, i32), String, String);

fn next_move(shares: &BTreeMap<String, Partitions>, reads: &impl Fn(&String, &Uuid) -> bool) -> Option<Move> {
    let mut by_size: Vec<_> = shares.iter().collect();
    by_size.sort_by_key(|(_, share)| share.len());
    for (from, share) in by_size.iter().rev() {
        for (to, _) in by_size.iter().take_while(|(_, smaller)| smaller.len() + 1 < share.len()) {
            if let Some(partition) = share.iter().rev().find(|partition| reads(to, &partition.0)) {
                return Some((*partition, (*from).clone(), (*to).clone()));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(number: u8) -> Uuid {
        Uuid([number; 16])
    }

    fn members(subscriptions: &[(&str, &[(u8, i32)])]) -> BTreeMap<String, Subscriber> {
        let member = |(id, topics): &(&str, &[(u8, i32)])| {
            let topics = topics.iter().map(|(number, count)| (topic(*number), *count)).collect();
            ((*id).to_owned(), Subscriber { topics, has: Partitions::new() })
        };
        subscriptions.iter().map(member).collect()
    }

    fn sizes(shares: &BTreeMap<String, Partitions>) -> Vec<usize> {
        shares.values().map(BTreeSet::len).collect()
    }

    #[test]
    fn neighbouring_partitions_go_to_one_member_in_a_range() {
        let shares = Assignor::Range.assign(&members(&[("a", &[(1, 3)]), ("b", &[(1, 3)])]));
        assert_eq!(shares["a"], Partitions::from([(topic(1), 0), (topic(1), 1)]));
        assert_eq!(shares["b"], Partitions::from([(topic(1), 2)]));
    }

    #[test]
    fn a_new_member_takes_only_what_it_is_due() {
        let mut group = members(&[("a", &[(1, 7)]), ("b", &[(1, 7)])]);
        let before = Assignor::Uniform.assign(&group);
        assert_eq!(sizes(&before), [4, 3]);
        for (member_id, share) in &before {
            group.get_mut(member_id).unwrap().has = share.clone();
        }
        group.extend(members(&[("c", &[(1, 7)])]));
        let after = Assignor::Uniform.assign(&group);
        assert_eq!(sizes(&after), [3, 2, 2]);
        assert!(after["a"].is_subset(&before["a"]) && after["b"].is_subset(&before["b"]));
    }

    #[test]
    fn members_get_only_topics_that_they_read() {
        let shares = Assignor::Uniform.assign(&members(&[("a", &[(1, 4)]), ("b", &[(1, 4), (2, 2)])]));
        assert_eq!(sizes(&shares), [3, 3]);
        assert!(shares["a"].iter().all(|(topic_id, _)| *topic_id == topic(1)));
    }
}
