//! Assigns partitions to the members of a classic group. The group's leader runs this; results equal those of Java's
//! assignors of the same names.
//!
//! The assignors are pure functions of the members' subscriptions and the partition counts of the topics. Subscriptions
//! are not trusted: unknown topics, negative partition numbers and partitions claimed by two members are tolerated.

mod constrained;
mod general;
mod hash_order;
mod racks;
mod range;
mod round_robin;
mod sticky;
mod user_data;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::consumer::TopicPartition;
use crate::error::Result;

use super::Subscription;

pub use racks::{PartitionRacks, Racks};

/// A member, as the leader knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subscriber {
    /// The id that the coordinator assigned.
    pub member_id: String,
    /// Set for a static member (KIP-345): its `group.instance.id`.
    pub group_instance_id: Option<String>,
    /// What it sent when it joined.
    pub subscription: Subscription,
}

/// The number of partitions of each topic. A topic that does not exist is left out.
pub type PartitionCounts = BTreeMap<Arc<str>, i32>;

/// The partitions of each member, by member id.
pub type Assignment = BTreeMap<String, Vec<TopicPartition>>;

/// Leaves every partition with the member that claims it; of several, with the one whose claim is the newest. A leader
/// that is about to leave shares out so: its application may be busy giving up partitions, and the group rebalances
/// again soon.
pub(super) fn as_claimed(members: &[Subscriber]) -> Assignment {
    let mut by_age: Vec<&Subscriber> = members.iter().collect();
    by_age.sort_by_key(|member| std::cmp::Reverse(member.subscription.generation_id));
    let mut given = BTreeSet::new();
    let mut shares = Assignment::new();
    for member in by_age {
        let claimed = member.subscription.owned.iter().filter(|key| given.insert(*key)).cloned().collect();
        shares.insert(member.member_id.clone(), claimed);
    }
    shares
}

/// Whether members keep their partitions during a rebalance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RebalanceProtocol {
    /// Members give up all partitions before they join again.
    Eager,
    /// Members give up only the partitions that move to another member (KIP-429).
    Cooperative,
}

/// How partitions are assigned to members. Kafka: `partition.assignment.strategy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Assignor {
    /// Each member gets a contiguous range of each topic's partitions.
    Range,
    /// The partitions of all topics are dealt out in turn.
    RoundRobin,
    /// As even as possible; within that, members get back what they had (KIP-54).
    Sticky,
    /// Like [`Assignor::Sticky`], and members keep reading the partitions that do not move (KIP-429).
    CooperativeSticky,
}

impl Assignor {
    /// Every assignor.
    pub const ALL: [Self; 4] = [Self::Range, Self::RoundRobin, Self::Sticky, Self::CooperativeSticky];

    /// The protocol name, on which the members of a group must agree.
    pub fn name(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
            Self::Sticky => "sticky",
            Self::CooperativeSticky => "cooperative-sticky",
        }
    }

    /// The assignor with this protocol name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|assignor| assignor.name() == name)
    }

    /// Whether members keep their partitions during a rebalance.
    pub fn protocol(self) -> RebalanceProtocol {
        match self {
            Self::Range | Self::RoundRobin | Self::Sticky => RebalanceProtocol::Eager,
            Self::CooperativeSticky => RebalanceProtocol::Cooperative,
        }
    }

    /// The user data of a member's subscription; `share` is what the member got last, and in which generation.
    ///
    /// # Errors
    ///
    /// `Misuse` if a topic name is too long for the protocol.
    pub fn user_data(self, share: Option<(&[TopicPartition], i32)>) -> Result<Bytes> {
        match (self, share) {
            (Self::Sticky, Some((partitions, generation_id))) => user_data::encode_owned(partitions, generation_id),
            (Self::CooperativeSticky, share) => {
                Ok(user_data::encode_generation(share.map_or(-1, |(_, generation_id)| generation_id)))
            }
            (Self::Range | Self::RoundRobin | Self::Sticky, _) => Ok(Bytes::new()),
        }
    }

    /// Assigns the partitions. Every member has an entry in the result. With [`RebalanceProtocol::Cooperative`], a
    /// partition that its owner must give up first is assigned to nobody.
    pub fn assign(self, counts: &PartitionCounts, racks: &PartitionRacks, members: &[Subscriber]) -> Assignment {
        match self {
            Self::Range => range::assign(counts, racks, members),
            Self::RoundRobin => round_robin::assign(counts, members),
            Self::Sticky => sticky::assign_sticky(counts, racks, members),
            Self::CooperativeSticky => sticky::assign_cooperative(counts, racks, members),
        }
    }
}

/// The members in the order in which Java's assignors serve them: static members first, by `group.instance.id`.
fn in_order(members: &[Subscriber]) -> Vec<&Subscriber> {
    let mut sorted: Vec<_> = members.iter().collect();
    sorted.sort_by_key(|member| match &member.group_instance_id {
        Some(instance) => (false, instance.as_str(), member.member_id.as_str()),
        None => (true, member.member_id.as_str(), ""),
    });
    sorted
}

/// An assignment with an empty share for each member.
fn nothing(members: &[Subscriber]) -> Assignment {
    members.iter().map(|member| (member.member_id.clone(), Vec::new())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    pub(super) fn member(member_id: &str, topics: &[&str]) -> Subscriber {
        let topics = topics.iter().map(|topic| Arc::from(*topic)).collect();
        let subscription = Subscription { topics, ..Subscription::default() };
        Subscriber { member_id: member_id.into(), group_instance_id: None, subscription }
    }

    pub(super) fn counts(counts: &[(&str, i32)]) -> PartitionCounts {
        counts.iter().map(|(topic, count)| (Arc::from(*topic), *count)).collect()
    }

    /// The shares as text, one line per member.
    pub(super) fn shares(assignment: &Assignment) -> Vec<String> {
        let words = |(member, partitions): (&String, &Vec<TopicPartition>)| {
            let words: Vec<_> =
                [format!("{member}:")].into_iter().chain(partitions.iter().map(ToString::to_string)).collect();
            words.join(" ")
        };
        assignment.iter().map(words).collect()
    }

    #[test]
    fn static_members_come_first_in_the_order_of_their_names() {
        let named = |member_id: &str, instance: &str| Subscriber {
            group_instance_id: Some(instance.into()),
            ..member(member_id, &["t"])
        };
        let members = [member("a", &["t"]), named("c", "1"), named("b", "2")];
        assert_eq!(
            in_order(&members).iter().map(|member| member.member_id.as_str()).collect::<Vec<_>>(),
            ["c", "b", "a"]
        );
    }

    /// Random members of five topics, one of which does not exist, with random claims.
    fn some_members(random: &mut Random) -> Vec<Subscriber> {
        let names = ["t0", "t1", "t2", "t3", "gone"];
        (0..=random.below(8))
            .map(|index| {
                let topics: Vec<_> = names.into_iter().filter(|_| random.below(2) == 0).collect();
                let mut member = member(&format!("m{index}"), &topics);
                member.subscription.rack =
                    [None, Some(""), Some("east"), Some("west")][random.below(4)].map(String::from);
                member.group_instance_id = (random.below(2) == 0).then(|| format!("i{}", 9 - index));
                member.subscription.generation_id = [None, Some(-5), Some(3), Some(i32::MAX)][random.below(4)];
                member.subscription.owned = (0..random.below(9))
                    .map(|_| TopicPartition::new(names[random.below(5)], [-1, 0, 1, i32::MAX][random.below(4)]))
                    .collect();
                let user_data =
                    Assignor::Sticky.user_data(Some((&member.subscription.owned, [-1, 2, 3][random.below(3)])));
                member.subscription.user_data = if random.below(2) == 0 { user_data.unwrap() } else { Bytes::new() };
                member
            })
            .collect()
    }

    #[test]
    fn whatever_members_claim_every_wanted_partition_goes_to_one_member_that_wants_it() {
        for seed in 0..2_000 {
            let mut random = Random::new(seed);
            let members = some_members(&mut random);
            let counts: PartitionCounts =
                ["t0", "t1", "t2", "t3"].map(|topic| (Arc::from(topic), [-1, 0, 1, 7][random.below(4)])).into();
            let mut partition =
                || ["east", "west"].into_iter().filter(|_| random.below(2) == 0).map(Arc::from).collect();
            let racks = ["t0", "t1", "t3", "gone"]
                .map(|topic| (Arc::from(topic), (0..5).map(|_| partition()).collect::<Vec<Racks>>()));
            let racks = PartitionRacks::from(racks);
            let wants = |member: &Subscriber, topic: &Arc<str>| member.subscription.topics.contains(topic);
            let mut wanted: Vec<_> = counts
                .iter()
                .filter(|(topic, _)| members.iter().any(|member| wants(member, topic)))
                .flat_map(|(topic, count)| (0..*count).map(|number| TopicPartition::new(Arc::clone(topic), number)))
                .collect();
            wanted.sort_unstable();
            for assignor in Assignor::ALL {
                let assignment = assignor.assign(&counts, &racks, &members);
                assert_eq!(assignment.len(), members.len(), "{assignor:?}, seed {seed}");
                for member in &members {
                    let share = &assignment[&member.member_id];
                    assert!(share.iter().all(|key| wants(member, &key.topic)), "{assignor:?}, seed {seed}");
                }
                let mut shared: Vec<_> = assignment.into_values().flatten().collect();
                if assignor.protocol() == RebalanceProtocol::Cooperative {
                    let is_claimed = |key: &&TopicPartition| {
                        members.iter().any(|member| member.subscription.owned.contains(key)) && !shared.contains(key)
                    };
                    shared.extend(wanted.iter().filter(is_claimed).cloned().collect::<Vec<_>>());
                }
                shared.sort_unstable();
                assert_eq!(shared, wanted, "{assignor:?}, seed {seed}");
            }
        }
    }
}
