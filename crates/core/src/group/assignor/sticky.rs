//! `StickyAssignor` and `CooperativeStickyAssignor`: as even as possible; within that, members keep what they have.
//!
//! If all members want the same topics, quotas decide ([`constrained`]). Otherwise partitions are moved one by one
//! until no move makes the shares more even ([`general`]). Members claim what they have: of two claims for a partition
//! the one of the later generation wins; of two claims in the same generation neither does.
//!
//! Two things differ from Java, which would fail, or assign a topic that the member does not want: claims for
//! partitions that do not exist are ignored, and so are claims of an earlier generation for topics that the member no
//! longer wants.

#![expect(
    clippy::indexing_slicing,
    reason = "indices come from enumerating members, topics and partitions, never from what members sent"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::consumer::TopicPartition;
use crate::planted::{Bug, is_planted};

use super::hash_order;
use super::racks::{self, Racks, rack_of};
use super::user_data::{decode_generation, decode_owned};
use super::{Assignment, PartitionCounts, PartitionRacks, Subscriber, constrained, general, nothing};

/// The generation of a member that does not name one.
const NO_GENERATION: i32 = -1;

/// What a member claims to have.
struct Claim {
    owned: Vec<TopicPartition>,
    generation: i32,
    /// The generation that decides between claims; like Java, this one reads it from the subscription only.
    stated_generation: i32,
}

/// A topic that some member wants.
pub(super) struct Topic<'a> {
    pub(super) name: &'a Arc<str>,
    /// The index of its first partition.
    first: usize,
    pub(super) count: usize,
    /// How many members want it.
    pub(super) wanted_by: usize,
}

/// A partition that some member wants.
pub(super) struct Partition<'a> {
    pub(super) topic: usize,
    pub(super) number: i32,
    /// The racks of its replicas, if known.
    pub(super) racks: Option<&'a Racks>,
    /// The member that had it last.
    pub(super) holder: Option<usize>,
    /// The member that had it in an earlier generation, and that generation.
    pub(super) earlier: Option<(usize, i32)>,
    /// Whether several members of one generation claim it.
    pub(super) is_contested: bool,
}

/// Members and partitions by index, in the order in which Java's assignors visit them.
pub(super) struct Group<'a> {
    pub(super) members: Vec<&'a Subscriber>,
    /// Sorted by name.
    pub(super) topics: Vec<Topic<'a>>,
    /// Sorted by topic and number.
    pub(super) partitions: Vec<Partition<'a>>,
    /// For each member and each topic, whether the member wants it.
    pub(super) wants: Vec<Vec<bool>>,
    /// The rack of each member, if racks matter.
    pub(super) racks: Vec<Option<&'a str>>,
}

/// The owner of each partition, by index.
pub(super) type Owners = Vec<Option<usize>>;

pub(super) fn assign_sticky(counts: &PartitionCounts, racks: &PartitionRacks, members: &[Subscriber]) -> Assignment {
    let claim = |member: &Subscriber| {
        let (owned, generation) = decode_owned(&member.subscription.user_data);
        let generation = generation.unwrap_or(NO_GENERATION);
        Claim { owned, generation, stated_generation: stated_generation(member).unwrap_or(NO_GENERATION) }
    };
    let group = Group::new(counts, racks, members, claim);
    let owners = if group.is_uniform() { constrained::share_out(&group).0 } else { general::share_out(&group) };
    group.assignment(members, &owners)
}

/// A partition that changes its owner is assigned to nobody: its owner sees that it must give it up, and the group
/// rejoins.
pub(super) fn assign_cooperative(
    counts: &PartitionCounts,
    racks: &PartitionRacks,
    members: &[Subscriber],
) -> Assignment {
    let claim = |member: &Subscriber| {
        let stated = stated_generation(member);
        let told = || decode_generation(&member.subscription.user_data);
        Claim {
            owned: member.subscription.owned.clone(),
            generation: stated.or_else(told).unwrap_or(NO_GENERATION),
            stated_generation: stated.unwrap_or(NO_GENERATION),
        }
    };
    let group = Group::new(counts, racks, members, claim);
    let (mut owners, moved) = if group.is_uniform() {
        constrained::share_out(&group)
    } else {
        let owners = general::share_out(&group);
        let moved = group.moved(&owners);
        (owners, moved)
    };
    for partition in moved {
        owners[partition] = None;
    }
    group.assignment(members, &owners)
}

fn stated_generation(member: &Subscriber) -> Option<i32> {
    member.subscription.generation_id.filter(|generation| *generation >= 0)
}

impl<'a> Group<'a> {
    fn new(
        counts: &'a PartitionCounts,
        racks: &'a PartitionRacks,
        members: &'a [Subscriber],
        claim: impl Fn(&Subscriber) -> Claim,
    ) -> Self {
        let buckets = hash_order::buckets(members.len());
        let mut members: Vec<_> = members.iter().collect();
        members.sort_by_key(|member| hash_order::bucket(hash_order::text(&member.member_id), buckets));
        let mut wanted: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        let wishes: Vec<BTreeSet<&Arc<str>>> =
            members.iter().map(|member| member.subscription.topics.iter().collect()).collect();
        for topic in wishes.iter().flatten() {
            *wanted.entry(topic).or_default() += 1;
        }
        let racks_of = members.iter().map(|member| rack_of(member)).collect();
        let mut group =
            Self { members, topics: Vec::new(), partitions: Vec::new(), wants: Vec::new(), racks: racks_of };
        for (name, count) in counts.iter().filter(|(_, count)| **count > 0) {
            let Some(wanted_by) = wanted.get(name).copied() else { continue };
            let (topic, first) = (group.topics.len(), group.partitions.len());
            let mut racks = racks.get(name).into_iter().flatten();
            group.partitions.extend((0..*count).map(|number| {
                let racks = racks.next();
                Partition { topic, number, racks, holder: None, earlier: None, is_contested: false }
            }));
            group.topics.push(Topic { name, first, count: group.partitions.len() - first, wanted_by });
        }
        let wants = |wishes: &BTreeSet<_>| group.topics.iter().map(|topic| wishes.contains(topic.name)).collect();
        group.wants = wishes.iter().map(wants).collect();
        let in_racks: Vec<_> = group.racks.iter().copied().flatten().collect();
        if !racks::matter(&in_racks, group.partitions.iter().map(|partition| partition.racks)) {
            group.racks.fill(None);
        }
        group.hear(&group.members.iter().map(|member| claim(member)).collect::<Vec<_>>());
        group
    }

    /// Decides who has which partition from the members' claims.
    fn hear(&mut self, claims: &[Claim]) {
        let latest = claims.iter().map(|claim| claim.generation).max().unwrap_or_default().max(NO_GENERATION);
        let mut claimants: Owners = vec![None; self.partitions.len()];
        for (member, claim) in claims.iter().enumerate() {
            if is_planted(Bug::OldClaims) {
                for index in claim.owned.iter().filter_map(|key| self.index(key)).collect::<Vec<_>>() {
                    self.partitions[index].holder.get_or_insert(member);
                }
                continue;
            }
            for key in &claim.owned {
                let Some(index) = self.index(key) else { continue };
                let partition = &mut self.partitions[index];
                let other = claimants[index];
                let other_generation = other.map(|other| claims[other].stated_generation);
                if other == Some(member) {
                    continue;
                }
                if other_generation == Some(claim.generation) {
                    partition.is_contested = true;
                    partition.holder = None;
                    claimants[index] = Some(member);
                } else if other_generation.is_none_or(|other| other < claim.generation) {
                    partition.holder = Some(member);
                    claimants[index] = Some(member);
                }
                let is_earlier = claim.generation < latest && self.wants[member][partition.topic];
                if is_earlier && partition.earlier.is_none_or(|(_, earlier)| earlier < claim.generation) {
                    partition.earlier = Some((member, claim.generation));
                }
            }
        }
    }

    fn index(&self, key: &TopicPartition) -> Option<usize> {
        let topic = self.topics.binary_search_by_key(&&key.topic, |topic| topic.name).ok()?;
        let topic = &self.topics[topic];
        let number = usize::try_from(key.partition).ok().filter(|number| *number < topic.count)?;
        Some(topic.first + number)
    }

    /// Whether the partition has a replica in the member's rack.
    pub(super) fn is_near(&self, member: usize, index: usize) -> bool {
        let racks = self.partitions[index].racks;
        self.racks[member].is_some_and(|rack| racks.is_some_and(|racks| racks.contains(rack)))
    }

    /// Whether the member names a rack in which the partition has no replica.
    pub(super) fn is_far(&self, member: usize, index: usize) -> bool {
        self.racks[member].is_some() && !self.is_near(member, index)
    }

    /// Whether racks make a difference.
    pub(super) fn has_racks(&self) -> bool {
        self.racks.iter().any(Option::is_some)
    }

    /// Whether all members want the same topics.
    fn is_uniform(&self) -> bool {
        let topics = |member: &Subscriber| member.subscription.topics.iter().cloned().collect::<BTreeSet<_>>();
        let mut all = self.members.iter().map(|member| topics(member));
        let Some(first) = all.next() else { return true };
        all.all(|topics| topics == first)
    }

    /// The partitions that move: claimed by one member, and assigned to another.
    fn moved(&self, owners: &Owners) -> Vec<usize> {
        let (mut claimed_by_owner, mut claimed) = (vec![false; owners.len()], vec![false; owners.len()]);
        for (member, subscriber) in self.members.iter().enumerate() {
            for index in subscriber.subscription.owned.iter().filter_map(|key| self.index(key)) {
                let is_owner = owners[index] == Some(member);
                claimed_by_owner[index] |= is_owner;
                claimed[index] |= !is_owner;
            }
        }
        (0..owners.len()).filter(|index| claimed[*index] && !claimed_by_owner[*index]).collect()
    }

    fn assignment(&self, members: &[Subscriber], owners: &Owners) -> Assignment {
        let mut assignment = nothing(members);
        for (partition, owner) in self.partitions.iter().zip(owners) {
            let Some(owner) = owner else { continue };
            let key = TopicPartition::new(Arc::clone(self.topics[partition.topic].name), partition.number);
            assignment.entry(self.members[*owner].member_id.clone()).or_default().push(key);
        }
        assignment
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{counts, member, shares};
    use super::super::{Assignor, RebalanceProtocol};
    use super::*;

    fn assign_sticky(counts: &PartitionCounts, members: &[Subscriber]) -> Assignment {
        super::assign_sticky(counts, &PartitionRacks::new(), members)
    }

    fn assign_cooperative(counts: &PartitionCounts, members: &[Subscriber]) -> Assignment {
        super::assign_cooperative(counts, &PartitionRacks::new(), members)
    }

    /// A member that claims these partitions in this generation, in both places of the protocol that can say so.
    fn claiming(member_id: &str, topics: &[&str], owned: &[(&str, i32)], generation: i32) -> Subscriber {
        let mut member = member(member_id, topics);
        let owned: Vec<_> = owned.iter().map(|(topic, number)| TopicPartition::new(*topic, *number)).collect();
        member.subscription.user_data = Assignor::Sticky.user_data(Some((&owned, generation))).unwrap();
        member.subscription.owned = owned;
        member.subscription.generation_id = Some(generation);
        member
    }

    #[test]
    fn members_keep_what_they_have_and_a_new_one_gets_the_surplus() {
        let members = [
            claiming("a", &["t"], &[("t", 1), ("t", 3)], 4),
            claiming("b", &["t"], &[("t", 0), ("t", 2)], 4),
            member("c", &["t"]),
        ];
        assert_eq!(shares(&assign_sticky(&counts(&[("t", 4)]), &members)), ["a: t-1 t-3", "b: t-0", "c: t-2"]);
    }

    #[test]
    fn what_changes_its_owner_is_given_to_nobody_before_it_was_given_up() {
        let have: [(&str, i32); 4] = [("t", 0), ("t", 1), ("t", 2), ("t", 3)];
        let first = [claiming("a", &["t"], &have, 4), member("b", &["t"])];
        assert_eq!(shares(&assign_cooperative(&counts(&[("t", 4)]), &first)), ["a: t-0 t-1", "b:"]);
        let second = [claiming("a", &["t"], &have[..2], 5), claiming("b", &["t"], &[], 5)];
        assert_eq!(shares(&assign_cooperative(&counts(&[("t", 4)]), &second)), ["a: t-0 t-1", "b: t-2 t-3"]);
        let different = [claiming("a", &["t", "u"], &have, 4), member("b", &["t"])];
        assert_eq!(shares(&assign_cooperative(&counts(&[("t", 4), ("u", 1)]), &different)), ["a: t-2 t-3 u-0", "b:"]);
        assert_eq!(Assignor::CooperativeSticky.protocol(), RebalanceProtocol::Cooperative);
    }

    #[test]
    fn of_two_claims_the_later_generation_counts_and_in_the_same_one_none() {
        let counts = counts(&[("t", 2)]);
        let claims =
            |first, second| [claiming("a", &["t"], &[("t", 1)], first), claiming("b", &["t"], &[("t", 1)], second)];
        assert_eq!(shares(&assign_sticky(&counts, &claims(3, 4))), ["a: t-0", "b: t-1"]);
        assert_eq!(shares(&assign_sticky(&counts, &claims(4, 3))), ["a: t-1", "b: t-0"]);
        assert_eq!(shares(&assign_cooperative(&counts, &claims(4, 4))), ["a: t-0", "b:"]);
    }

    #[test]
    fn members_that_want_different_topics_get_shares_as_even_as_can_be() {
        let members = [member("a", &["t", "u"]), member("b", &["t"]), member("c", &["u"])];
        let assignment = assign_sticky(&counts(&[("t", 3), ("u", 3)]), &members);
        assert!(assignment.values().all(|share| share.len() == 2), "{assignment:?}");
    }
}
