//! Compares our assignors with those of Java's consumer, on random groups.

mod java_assignors;

use std::collections::BTreeSet;
use std::sync::Arc;

use kavka_core::consumer::TopicPartition;
use kavka_core::group::Subscription;
use kavka_core::group::assignor::{Assignment, Assignor, PartitionCounts, PartitionRacks, Subscriber};
use kavka_core::random::Random;

use java_assignors::{ask_java, line};

/// The number of random groups for each assignor.
const CASES: u64 = 10_000;
const RACKS: [&str; 3] = ["east", "north", "west"];
const TOPICS: [&str; 5] = ["letters", "orders", "payments", "t", "users"];

/// A group whose partitions are to be assigned.
struct Case {
    assignor: Assignor,
    counts: PartitionCounts,
    racks: PartitionRacks,
    members: Vec<Subscriber>,
}

/// The partitions that a member has.
type Owned = Vec<TopicPartition>;

impl Case {
    fn random(assignor: Assignor, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let counts: PartitionCounts = TOPICS[..=random.below(TOPICS.len())]
            .iter()
            .map(|topic| {
                let most = [3, 12, 40][random.below(3)];
                (Arc::from(*topic), 1 + i32::try_from(random.below(most)).unwrap())
            })
            .collect();
        let racks = some_racks(&mut random, &counts);
        let same_topics = random.below(2) == 0;
        let in_racks = random.below(2) == 0;
        let some_are_static = random.below(3) == 0;
        let most = [4, 10, 30][random.below(3)];
        let size = 1 + random.below(most);
        let mut members: Vec<Subscriber> = Vec::new();
        for number in 0..size {
            let topics = wanted(&mut random, &counts, members.first().filter(|_| same_topics));
            let is_static = some_are_static && random.below(2) == 0;
            let rack = RACKS.get(random.below(4)).filter(|_| in_racks).map(ToString::to_string);
            members.push(Subscriber {
                member_id: format!("consumer-{}-{number}", random.below(1_000)),
                group_instance_id: is_static.then(|| format!("instance-{}", size - number)),
                subscription: Subscription { topics, rack, ..Subscription::default() },
            });
        }
        let mut case = Self { assignor, counts, racks, members };
        let shares = case.claims(&mut random);
        case.tell(&mut random, &shares);
        case
    }

    fn line(&self) -> String {
        line(self.assignor, &self.counts, &self.racks, &self.members)
    }

    /// What members own: nothing, their assignment before a change, or some of what they want.
    fn claims(&self, random: &mut Random) -> Vec<Owned> {
        match random.below(4) {
            0 => vec![Owned::new(); self.members.len()],
            1 => {
                let some: Vec<_> = self.members.iter().filter(|_| random.below(4) > 0).cloned().collect();
                let counts = self.counts.iter().map(|(topic, count)| (Arc::clone(topic), (*count * 3 + 3) / 4));
                let mut before = Assignor::Sticky.assign(&counts.collect(), &self.racks, &some);
                let keep = |member: &Subscriber| before.remove(&member.member_id).unwrap_or_default();
                self.members.iter().map(keep).collect()
            }
            kind => {
                let rarity = [2, 6][kind % 2];
                let partitions = self.counts.iter().flat_map(|(topic, count)| {
                    (0..*count).map(move |number| TopicPartition::new(Arc::clone(topic), number))
                });
                let partitions: Vec<_> = partitions.collect();
                let mut some = || partitions.iter().filter(|_| random.below(rarity) == 0).cloned().collect();
                self.members.iter().map(|_| some()).collect()
            }
        }
    }

    /// Sets what members claim, some of it from an earlier generation.
    fn tell(&mut self, random: &mut Random, shares: &[Owned]) {
        let generations: &[i32] = [&[7][..], &[7, 7, 7, 6], &[-1, 5, 6, 7]][random.below(3)];
        let picked: Vec<i32> = shares.iter().map(|_| generations[random.below(generations.len())]).collect();
        let latest = picked.iter().copied().max().unwrap();
        let is_told_twice = random.below(4) > 0;
        for ((member, share), generation) in self.members.iter_mut().zip(shares).zip(picked) {
            let subscription = &mut member.subscription;
            // Because of old claims, Java gives members topics that they do not want, or fails; our assignors do
            // neither.
            let wants = |key: &&TopicPartition| generation == latest || subscription.topics.contains(&key.topic);
            let share: Owned = share.iter().filter(wants).cloned().collect();
            subscription.user_data = self.assignor.user_data(Some((&share, generation))).unwrap();
            subscription.owned = share;
            subscription.generation_id = Some(if is_told_twice { generation } else { -1 });
            *subscription = Subscription::decode(subscription.encode().unwrap()).unwrap();
        }
    }
}

/// The racks of partitions: unknown, some, or all.
fn some_racks(random: &mut Random, counts: &PartitionCounts) -> PartitionRacks {
    let one_in = [1, 2, 3, usize::MAX][random.below(4)];
    let mut partition = || RACKS.iter().filter(|_| random.below(one_in) == 0).map(|rack| Arc::from(*rack)).collect();
    counts.iter().map(|(topic, count)| (Arc::clone(topic), (0..*count).map(|_| partition()).collect())).collect()
}

fn wanted(random: &mut Random, counts: &PartitionCounts, like: Option<&Subscriber>) -> Vec<Arc<str>> {
    if let Some(like) = like {
        return like.subscription.topics.clone();
    }
    let names: Vec<_> = counts.keys().chain([&Arc::from("missing")]).cloned().collect();
    let mut topics: BTreeSet<_> = names.iter().filter(|_| random.below(2) == 0).cloned().collect();
    topics.insert(Arc::clone(&names[random.below(names.len())]));
    topics.into_iter().collect()
}

fn told(mut shares: Assignment) -> String {
    let share = |(member, partitions): (&String, &mut Owned)| {
        partitions.sort_unstable();
        let partitions: Vec<_> = partitions.iter().map(ToString::to_string).collect();
        format!("{member}:{}", partitions.join(","))
    };
    shares.iter_mut().map(share).collect::<Vec<_>>().join(" ")
}

fn compare(assignor: Assignor) {
    let cases: Vec<_> = (0..CASES).map(|seed| Case::random(assignor, seed)).collect();
    let lines: Vec<_> = cases.iter().map(Case::line).collect();
    let answers = ask_java(&[], &lines);
    assert_eq!(answers.len(), cases.len());
    for (seed, (case, java)) in cases.iter().zip(answers).enumerate() {
        let ours = told(assignor.assign(&case.counts, &case.racks, &case.members));
        assert_eq!(ours, java, "seed {seed}: {}", lines[seed]);
    }
}

#[test]
#[ignore = "`make kafka-test` runs it"]
fn range_shares_partitions_out_as_javas_assignor_does() {
    compare(Assignor::Range);
}

#[test]
#[ignore = "`make kafka-test` runs it"]
fn round_robin_shares_partitions_out_as_javas_assignor_does() {
    compare(Assignor::RoundRobin);
}

#[test]
#[ignore = "`make kafka-test` runs it"]
fn sticky_shares_partitions_out_as_javas_assignor_does() {
    compare(Assignor::Sticky);
}

#[test]
#[ignore = "`make kafka-test` runs it"]
fn cooperative_sticky_shares_partitions_out_as_javas_assignor_does() {
    compare(Assignor::CooperativeSticky);
}
