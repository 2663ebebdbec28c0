//! The sticky assignors when all members want the same topics: each member gets the same number of partitions, or one
//! more. It first keeps what it has, and the rest is dealt out in turn.

#![expect(
    clippy::indexing_slicing,
    reason = "indices come from enumerating members, topics and partitions, never from what members sent"
)]

use std::collections::VecDeque;

use super::sticky::{Group, Owners};

struct Quotas {
    least: usize,
    most: usize,
    /// How many members get `most`, if that is more than `least`.
    with_most: usize,
}

struct Shares {
    owners: Owners,
    counts: Vec<usize>,
    /// The previous owners of the partitions that must be given up.
    revoked: Owners,
    /// Members that have fewer than `least` partitions.
    below: Vec<usize>,
    /// Members that have `least` partitions and may get one more.
    at_least: VecDeque<usize>,
    /// How many members have `most` partitions.
    full: usize,
}

/// The owner of each partition, and the partitions that change their owner.
pub(super) fn share_out(group: &Group<'_>) -> (Owners, Vec<usize>) {
    let (partitions, members) = (group.partitions.len(), group.members.len().max(1));
    let (least, with_most) = (partitions / members, partitions % members);
    let quotas = Quotas { least, most: least + usize::from(with_most > 0), with_most };
    let mut shares = Shares {
        owners: vec![None; partitions],
        counts: vec![0; members],
        revoked: vec![None; partitions],
        below: Vec::new(),
        at_least: VecDeque::new(),
        full: 0,
    };
    shares.keep(group, &quotas);
    shares.below.sort_by_key(|member| &group.members[*member].member_id);
    shares.at_least.make_contiguous().sort_by_key(|member| &group.members[*member].member_id);
    let mut given: Vec<usize> = (0..partitions).filter(|index| shares.owners[*index].is_none()).collect();
    if group.has_racks() {
        let nearby = |index: &usize| (0..members).filter(|member| group.is_near(*member, *index)).count();
        given.sort_by_cached_key(nearby);
        shares.give_nearby(group, &quotas, &given);
    }
    shares.give(&quotas, &given);
    let revoked = &shares.revoked;
    let changes = |index: &usize| {
        let is_revoked = revoked[*index].is_some() && revoked[*index] != shares.owners[*index];
        is_revoked || group.partitions[*index].is_contested
    };
    let moved = given.into_iter().filter(changes).collect();
    (shares.owners, moved)
}

impl Shares {
    /// Lets members keep what they have, up to their quotas.
    fn keep(&mut self, group: &Group<'_>, quotas: &Quotas) {
        let mut held = vec![Vec::new(); self.counts.len()];
        for (index, partition) in group.partitions.iter().enumerate() {
            let Some(holder) = partition.holder.filter(|_| !partition.is_contested) else { continue };
            if group.is_far(holder, index) {
                self.revoked[index] = Some(holder);
            } else {
                held[holder].push(index);
            }
        }
        for (member, mut held) in held.into_iter().enumerate().take(group.members.len()) {
            held.sort_by_key(|index| (group.partitions[*index].number, group.partitions[*index].topic));
            let is_full = held.len() >= quotas.most && self.full < quotas.with_most;
            let quota = if is_full { quotas.most } else { quotas.least };
            for (place, index) in held.iter().enumerate() {
                let list = if place < quota { &mut self.owners } else { &mut self.revoked };
                list[*index] = Some(member);
            }
            self.counts[member] = held.len().min(quota);
            if held.len() < quotas.least {
                self.below.push(member);
            } else if is_full {
                self.full += 1;
                if self.full == quotas.with_most {
                    self.at_least.clear();
                }
            } else if self.full < quotas.with_most {
                self.at_least.push_back(member);
            }
        }
    }

    /// Deals out, in turn, the partitions that have a replica in the member's rack.
    fn give_nearby(&mut self, group: &Group<'_>, quotas: &Quotas, given: &[usize]) {
        let mut turn = 0;
        for index in given {
            let in_turn = (turn..self.below.len()).chain(0..turn.min(self.below.len()));
            if let Some(place) = in_turn.into_iter().find(|place| group.is_near(self.below[*place], *index)) {
                let member = self.below[place];
                turn = place + 1;
                self.grant(*index, member);
                if self.counts[member] >= quotas.least {
                    self.below.remove(place);
                    turn = place;
                    if self.counts[member] < quotas.most && self.full < quotas.with_most {
                        self.at_least.push_back(member);
                    }
                }
                turn = turn.checked_rem(self.below.len()).unwrap_or(0);
            } else if let Some(place) = self.at_least.iter().position(|member| group.is_near(*member, *index)) {
                let Some(member) = self.at_least.remove(place) else { continue };
                self.grant(*index, member);
                self.full += 1;
                if self.full == quotas.with_most {
                    self.at_least.clear();
                }
            }
        }
    }

    fn grant(&mut self, index: usize, member: usize) {
        self.owners[index] = Some(member);
        self.counts[member] += 1;
    }

    /// Deals out the remaining partitions in turn.
    fn give(&mut self, quotas: &Quotas, given: &[usize]) {
        let mut turn = 0;
        for index in given {
            if self.owners[*index].is_some() {
                continue;
            }
            if turn >= self.below.len() {
                turn = 0;
            }
            // The quotas add up to the number of partitions, so a member is always found.
            let Some(member) = self.below.get(turn).copied().or_else(|| self.at_least.pop_front()) else { continue };
            self.grant(*index, member);
            if self.counts[member] == quotas.least {
                self.below.remove(turn);
                self.at_least.push_back(member);
            } else {
                turn += 1;
            }
        }
    }
}
