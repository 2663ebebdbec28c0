//! The sticky assignors when members want different topics. Members keep what they have, the rest goes to the member
//! with the fewest partitions, and then partitions are moved one by one while that makes the shares more even.

#![expect(
    clippy::indexing_slicing,
    reason = "indices come from enumerating members, topics and partitions, never from what members sent"
)]

use std::collections::{BTreeMap, BTreeSet};

use super::hash_order;
use super::sticky::{Group, Owners};

/// The most moves per partition. This bound ends the search whatever members claim; about one move per partition is
/// enough to make the shares as even as they get.
const MOVES_PER_PARTITION: usize = 10;

struct Balance<'a> {
    group: &'a Group<'a>,
    owners: Owners,
    counts: Vec<usize>,
    /// The index of each member in the order of member ids, and the reverse.
    places: Vec<usize>,
    by_place: Vec<usize>,
    /// Members that may still give or get a partition, sorted by the size of their share, then by id.
    sorted: BTreeSet<(usize, usize)>,
    movements: Movements<'a>,
    moves_left: usize,
}

pub(super) fn share_out(group: &Group<'_>) -> Owners {
    let mut balance = Balance::new(group);
    let mut order: Vec<usize> = (0..group.partitions.len()).collect();
    order.sort_by_key(|index| group.topics[group.partitions[*index].topic].wanted_by);
    let is_revoked = balance.keep();
    let mut unassigned: Vec<usize> = order.iter().copied().filter(|index| balance.owners[*index].is_none()).collect();
    let is_new = balance.sorted.last().is_none_or(|(count, _)| *count == 0);
    for is_rack_needed in [true, false] {
        for index in unassigned.iter().filter(|_| group.has_racks() || !is_rack_needed) {
            balance.give(*index, is_rack_needed);
        }
    }
    let is_shared = |index: &usize| group.topics[group.partitions[*index].topic].wanted_by > 1;
    order.retain(is_shared);
    unassigned.retain(is_shared);
    balance.leave_out_the_settled();
    let before = (balance.owners.clone(), balance.unevenness());
    if !is_revoked {
        balance.even_out(&unassigned);
    }
    let is_changed = balance.even_out(&order);
    if !is_new && is_changed && balance.unevenness() >= before.1 { before.0 } else { balance.owners }
}

impl<'a> Balance<'a> {
    fn new(group: &'a Group<'a>) -> Self {
        let mut by_place: Vec<usize> = (0..group.members.len()).collect();
        by_place.sort_by_key(|member| &group.members[*member].member_id);
        let mut places = vec![0; by_place.len()];
        for (place, member) in by_place.iter().enumerate() {
            places[*member] = place;
        }
        Self {
            group,
            owners: vec![None; group.partitions.len()],
            counts: vec![0; group.members.len()],
            places,
            by_place,
            sorted: BTreeSet::new(),
            movements: Movements { group, by_topic: BTreeMap::new(), moved: BTreeMap::new() },
            moves_left: group.partitions.len().saturating_mul(MOVES_PER_PARTITION),
        }
    }

    /// Lets members keep what they have, unless they no longer want it, or it has no replica in their rack. Returns
    /// whether some partition could not be kept.
    fn keep(&mut self) -> bool {
        let mut is_revoked = false;
        for (index, partition) in self.group.partitions.iter().enumerate() {
            let Some(holder) = partition.holder else { continue };
            if self.group.wants[holder][partition.topic] && !self.group.is_far(holder, index) {
                self.owners[index] = Some(holder);
                self.counts[holder] += 1;
            } else {
                is_revoked = true;
            }
        }
        self.sorted = self.counts.iter().copied().zip(self.places.iter().copied()).collect();
        is_revoked
    }

    /// The member with the smallest share among those that want the partition.
    fn poorest(&self, index: usize) -> Option<usize> {
        self.poor(index).next()
    }

    /// The members that want the partition, smallest share first.
    fn poor(&self, index: usize) -> impl Iterator<Item = usize> {
        let topic = self.group.partitions[index].topic;
        let members = self.sorted.iter().map(|(_, place)| self.by_place[*place]);
        members.filter(move |member| self.group.wants[*member][topic])
    }

    /// Gives a free partition to a member that wants it; with `is_rack_needed`, only to one that has a replica in its
    /// rack.
    fn give(&mut self, index: usize, is_rack_needed: bool) {
        if self.owners[index].is_some() {
            return;
        }
        let may = |member: &usize| !is_rack_needed || !self.group.is_far(*member, index);
        let Some(member) = self.poor(index).find(may) else { return };
        self.owners[index] = Some(member);
        self.resize(member, self.counts[member] + 1);
    }

    fn resize(&mut self, member: usize, count: usize) {
        self.sorted.remove(&(self.counts[member], self.places[member]));
        self.counts[member] = count;
        self.sorted.insert((count, self.places[member]));
    }

    /// Leaves out members that cannot get more and have nothing that another member wants.
    fn leave_out_the_settled(&mut self) {
        let mut is_settled: Vec<bool> = (0..self.counts.len())
            .map(|member| {
                let topics = self.group.topics.iter().zip(&self.group.wants[member]).filter(|(_, wants)| **wants);
                self.counts[member] >= topics.map(|(topic, _)| topic.count).sum()
            })
            .collect();
        for (partition, owner) in self.group.partitions.iter().zip(&self.owners) {
            if let Some(owner) = owner.filter(|_| self.group.topics[partition.topic].wanted_by > 1) {
                is_settled[owner] = false;
            }
        }
        let by_place = &self.by_place;
        self.sorted.retain(|(_, place)| !is_settled[by_place[*place]]);
    }

    /// The sum of the differences in size between the shares of any two members.
    fn unevenness(&self) -> usize {
        let mut below = (0, 0);
        let mut sum = 0;
        for (count, _) in &self.sorted {
            let (members, partitions) = below;
            sum += count * members - partitions;
            below = (members + 1, partitions + count);
        }
        sum
    }

    /// Whether no member could take a partition from one that has at least two more.
    fn is_even(&self) -> bool {
        let (Some((least, _)), Some((most, _))) = (self.sorted.first(), self.sorted.last()) else { return true };
        if most - least <= 1 {
            return true;
        }
        let mut richest = vec![0; self.group.topics.len()];
        for (partition, owner) in self.group.partitions.iter().zip(&self.owners) {
            let count = owner.map_or(0, |owner| self.counts[owner]);
            richest[partition.topic] = richest[partition.topic].max(count);
        }
        self.sorted.iter().all(|(count, place)| {
            let mut topics = richest.iter().zip(&self.group.wants[self.by_place[*place]]);
            topics.all(|(richest, wants)| !wants || *richest <= count + 1)
        })
    }

    /// Moves these partitions while that makes the shares more even. Returns whether any was moved.
    fn even_out(&mut self, partitions: &[usize]) -> bool {
        let mut is_even = self.is_even();
        let mut is_changed = false;
        loop {
            let mut is_modified = false;
            for index in partitions {
                if is_even || self.moves_left == 0 {
                    break;
                }
                let Some(owner) = self.owners[*index] else { continue };
                let is_richer = |member: &usize| self.counts[owner] > self.counts[*member] + 1;
                let earlier = self.group.partitions[*index].earlier.map(|(member, _)| member).filter(is_richer);
                let Some(to) = earlier.or_else(|| self.poorest(*index).filter(is_richer)) else { continue };
                self.move_partition(*index, owner, to);
                is_even = self.is_even();
                is_modified = true;
            }
            is_changed |= is_modified;
            if !is_modified {
                return is_changed;
            }
        }
    }

    /// Moves a partition, or instead another one of its topic that was moved the opposite way before.
    fn move_partition(&mut self, index: usize, from: usize, to: usize) {
        self.moves_left -= 1;
        let index = self.movements.instead_of(index, from, to);
        let Some(from) = self.owners[index] else { return };
        self.movements.record(index, from, to);
        self.resize(from, self.counts[from] - 1);
        self.resize(to, self.counts[to] + 1);
        self.owners[index] = Some(to);
    }
}

/// The member that gives and the member that gets.
type Way = (usize, usize);

/// Which partitions were moved which way, so that no two members swap partitions of one topic.
struct Movements<'a> {
    group: &'a Group<'a>,
    by_topic: BTreeMap<(usize, Way), Table>,
    moved: BTreeMap<usize, Way>,
}

/// The partitions in the order of a Java `HashSet`.
#[derive(Default)]
struct Table {
    partitions: Vec<usize>,
    most: usize,
}

impl Movements<'_> {
    fn instead_of(&self, index: usize, from: usize, to: usize) -> usize {
        let from = self.moved.get(&index).map_or(from, |(first, _)| *first);
        let topic = self.group.partitions[index].topic;
        let Some(table) = self.by_topic.get(&(topic, (to, from))) else { return index };
        let buckets = hash_order::buckets(table.most);
        let place = |index: &&usize| {
            let partition = &self.group.partitions[**index];
            let hash = hash_order::partition(self.group.topics[partition.topic].name, partition.number);
            hash_order::bucket(hash, buckets)
        };
        table.partitions.iter().min_by_key(place).copied().unwrap_or(index)
    }

    fn record(&mut self, index: usize, from: usize, to: usize) {
        let topic = self.group.partitions[index].topic;
        let mut first = from;
        if let Some(way) = self.moved.remove(&index) {
            first = way.0;
            if let Some(table) = self.by_topic.get_mut(&(topic, way)) {
                table.partitions.retain(|other| *other != index);
                if table.partitions.is_empty() {
                    self.by_topic.remove(&(topic, way));
                }
            }
            if first == to {
                return;
            }
        }
        self.moved.insert(index, (first, to));
        let table = self.by_topic.entry((topic, (first, to))).or_default();
        table.partitions.push(index);
        table.most = table.most.max(table.partitions.len());
    }
}
