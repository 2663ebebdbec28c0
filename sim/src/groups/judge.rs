//! Checks that the members of a group keep these promises:
//!
//! - In one generation no two members have the same partition. A member that still has one from an earlier generation,
//!   and does not know that this has ended, hands out none of its records once its session has expired. By the consumer
//!   protocol the generation is the member epoch.
//! - A member hands out records only of partitions that it has, and not of those it has begun to give up.
//! - A member to whose heartbeats its coordinator has not answered for a session timeout hands out no records.
//! - No answer makes a member lose partitions, unless it says that the member is not in the group.
//! - With the eager protocol, and with the consumer protocol, a member has no partitions when it joins.
//! - With the consumer protocol a member tells its coordinator about all partitions that it has, and keeps none that
//!   another member has begun with the same or an earlier member epoch.
//! - A member commits only for partitions that it has or is giving up. Committed offsets never go back, and never
//!   pass a record that no application has finished.
//! - Every record is handed out, with the content that is in the log.
//! - Who reads a topic that is deleted and created again reads on in the new one only when it was told, and nothing
//!   that it did with the old one counts as a commit for the new one.
//! - A static member that starts again replaces the old process, which may continue until it learns of that.
//! - If only brokers and static members restart, no other member joins again or loses partitions.

use std::collections::{BTreeMap, BTreeSet};

use kavka_broker::Cluster;
use kavka_core::consumer::TopicPartition;
use kavka_core::time::Instant;

use super::SESSION;
use super::member::{Action, GROUP};
use super::plan::Protocols;
use crate::adapter::Given;

/// How much later than the coordinator a member may notice that its session has expired, in milliseconds.
const NOTICE: u64 = 1_000;

#[derive(Debug)]
struct Holding {
    generation_id: Option<i32>,
    /// The member that began to read the partition since, when, and in which generation.
    superseded: Option<(usize, u64, Option<i32>)>,
    is_revoked: bool,
    /// Which of the topics of this name it reads, by its first record.
    reads: Option<usize>,
    /// Whether it has been told since then that there is a new one.
    is_told: bool,
    /// Whether its topic was deleted since it began. By the consumer protocol, the partitions of the new one are
    /// others.
    is_of_former: bool,
}

impl Holding {
    fn new(generation_id: Option<i32>) -> Self {
        Self { generation_id, superseded: None, is_revoked: false, reads: None, is_told: false, is_of_former: false }
    }
}

/// What the judge knows about a member.
#[derive(Debug)]
struct Known {
    joins_empty: bool,
    instance: Option<String>,
    /// Since when its coordinator may be silent.
    heard_at: Instant,
    /// The generation of its last share.
    generation_id: Option<i32>,
    /// When another process with the same `group.instance.id` began to read in a newer generation.
    replaced_at: Option<u64>,
    is_restarted: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Judge {
    members: Vec<Known>,
    holdings: BTreeMap<(usize, TopicPartition), Holding>,
    truth: BTreeMap<TopicPartition, BTreeMap<i64, Vec<u8>>>,
    /// The same of deleted topics, in order.
    former: BTreeMap<TopicPartition, Vec<BTreeMap<i64, Vec<u8>>>>,
    /// The offsets in each partition that no application has finished.
    unread: BTreeMap<TopicPartition, BTreeSet<i64>>,
    delivered: u64,
    committed: BTreeMap<TopicPartition, i64>,
    /// Whether all members use the classic protocol.
    is_classic: bool,
    /// Whether the group changes its protocol. When a group without members does, its generations begin anew, so they
    /// cannot be compared.
    is_migrating: bool,
    /// Whether members have no reason to join again.
    is_settled: bool,
}

impl Judge {
    pub(crate) fn new(protocols: Protocols) -> Self {
        let (is_classic, is_migrating) = (protocols == Protocols::Classic, protocols == Protocols::Both);
        Self { is_classic, is_migrating, ..Self::default() }
    }

    /// A member starts. Members are numbered in the order of these calls.
    pub(crate) fn started(&mut self, joins_empty: bool, instance: Option<String>) {
        let (generation_id, replaced_at, heard_at) = (None, None, Instant::default());
        let is_restarted = self.is_settled;
        self.members.push(Known { joins_empty, instance, heard_at, generation_id, replaced_at, is_restarted });
    }

    /// Since when the coordinator of a member may be silent.
    pub(crate) fn heard(&mut self, member: usize, at: Instant) {
        self.members[member].heard_at = at;
    }

    /// From now on only members that are restarted have a reason to join.
    pub(crate) fn settled(&mut self) {
        self.is_settled = true;
    }

    pub(crate) fn unsettled(&mut self) {
        self.is_settled = false;
    }

    pub(crate) fn restarts(&mut self, member: usize) {
        if let Some(known) = self.members.get_mut(member) {
            known.is_restarted = true;
        }
    }

    fn is_same_place(&self, one: usize, other: usize) -> bool {
        let (one, other) = (&self.members[one].instance, &self.members[other].instance);
        one.is_some() && one == other
    }

    /// Records which readers of a partition must see.
    pub(crate) fn written(&mut self, key: TopicPartition, visible: BTreeMap<i64, Vec<u8>>) {
        self.unread.insert(key.clone(), visible.keys().copied().collect());
        self.truth.insert(key, visible);
    }

    /// A topic is deleted: nobody has to read what is left of it.
    pub(crate) fn deleted(&mut self, topic: &str) {
        let is_of = |key: &TopicPartition| *key.topic == *topic;
        for (key, log) in std::mem::take(&mut self.truth) {
            if is_of(&key) {
                self.former.entry(key).or_default().push(log);
            } else {
                self.truth.insert(key, log);
            }
        }
        self.unread.retain(|key, _| !is_of(key));
        self.committed.retain(|key, _| !is_of(key));
        for holding in self.holdings.iter_mut().filter(|((_, key), _)| is_of(key)).map(|(_, holding)| holding) {
            holding.is_of_former = true;
        }
    }

    /// The application of a member is told that another topic has the name of the one that it reads.
    pub(crate) fn told(&mut self, member: usize, key: &TopicPartition) {
        let is_new = self.former.keys().any(|former| former.topic == key.topic);
        assert!(is_new, "{key} is what it was, and yet member {member} is told otherwise");
        if let Some(holding) = self.holdings.get_mut(&(member, key.clone())) {
            holding.is_told = true;
        }
    }

    pub(crate) fn partitions(&self) -> impl Iterator<Item = &TopicPartition> {
        self.truth.keys()
    }

    pub(crate) fn look_at(&mut self, now: Instant, member: usize, action: &Action) {
        let is_needless = match action {
            // A leader that has started again lets a cooperative group rebalance, which costs nobody a partition.
            Action::Joins => self.members[member].joins_empty || !self.members.iter().any(|known| known.is_restarted),
            Action::RevokeBegan(keys) | Action::Lost(keys) => !keys.is_empty(),
            Action::Began(..) | Action::Commits(_) | Action::Acknowledges(_) | Action::Confirmed(_) => false,
        };
        let is_calm = self.is_settled && !self.members[member].is_restarted;
        assert!(!(is_calm && is_needless), "at {} ms member {member} has no reason for {action:?}", now.0);
        match action {
            Action::Began(new, generation_id) => {
                self.began(now, member, new, generation_id.filter(|_| !self.is_migrating));
            }
            Action::RevokeBegan(keys) => {
                self.withdraw(member);
                for key in keys {
                    if let Some(holding) = self.holdings.get_mut(&(member, key.clone())) {
                        holding.is_revoked = true;
                    }
                }
            }
            Action::Lost(keys) => {
                self.withdraw(member);
                for key in keys {
                    self.holdings.remove(&(member, key.clone()));
                }
            }
            Action::Joins => {
                self.holdings.retain(|(holder, _), holding| *holder != member || !holding.is_revoked);
                let kept = self.holdings.keys().find(|(holder, _)| *holder == member);
                let joins_empty = self.members[member].joins_empty;
                assert!(!joins_empty || kept.is_none(), "member {member} joins and still has {kept:?}");
            }
            Action::Acknowledges(kept) => {
                let is_other = |holder: usize, key: &TopicPartition| holder != member || kept.contains(key);
                let denied = self
                    .holdings
                    .iter()
                    .find(|((holder, key), holding)| !is_other(*holder, key) && !holding.is_revoked);
                assert!(denied.is_none(), "member {member} still has what it denies: {denied:?}");
                self.holdings.retain(|(holder, key), _| is_other(*holder, key));
            }
            Action::Confirmed(_) if self.is_migrating => {}
            Action::Confirmed(member_epoch) => {
                for ((_, key), holding) in self.holdings.iter_mut().filter(|((holder, _), _)| *holder == member) {
                    holding.generation_id = holding.generation_id.max(Some(*member_epoch));
                    let kept =
                        holding.superseded.filter(|(_, _, by)| !holding.is_revoked && *by <= Some(*member_epoch));
                    assert!(kept.is_none(), "member {member} keeps {key}, which another one began at {kept:?}");
                }
            }
            Action::Commits(keys) => {
                for key in keys {
                    let has = self.holdings.contains_key(&(member, key.clone()));
                    assert!(has, "member {member} commits for {key}, which it does not have");
                }
            }
        }
    }

    fn began(&mut self, now: Instant, member: usize, new: &[TopicPartition], generation_id: Option<i32>) {
        self.holdings.retain(|(holder, _), holding| *holder != member || !holding.is_revoked);
        for key in new {
            let before = self.holdings.insert((member, key.clone()), Holding::new(generation_id));
            assert!(before.is_none(), "member {member} begins {key}, which it has");
        }
        let namesakes = self.take_place(now, member, generation_id);
        let is_replaced = self.members[member].replaced_at.is_some();
        let mine: Vec<TopicPartition> =
            self.holdings.keys().filter(|(holder, _)| *holder == member).map(|(_, key)| key.clone()).collect();
        for ((other, key), holding) in &mut self.holdings {
            let is_any_replaced = is_replaced || self.members[*other].replaced_at.is_some();
            let is_going = holding.is_revoked || holding.is_of_former;
            if *other == member {
                holding.generation_id = generation_id;
                holding.is_of_former = false;
                // It may still complete the generation before, if it has taken too long to give something up.
                let kept = holding.superseded.filter(|(_, _, by)| !is_replaced && *by <= generation_id);
                let kept = kept.filter(|_| !self.is_migrating);
                assert!(kept.is_none(), "member {member} keeps {key}, which another one began at {kept:?}");
            } else if mine.contains(key) && !namesakes.contains(other) && !is_going && !is_any_replaced {
                let is_same = holding.generation_id == generation_id && !self.is_migrating;
                assert!(!is_same, "members {member} and {other} have {key} in generation {generation_id:?}");
                // A process that was frozen may still take its share of a generation that has long ended.
                if new.contains(key) && (self.is_migrating || holding.generation_id < generation_id) {
                    holding.superseded.get_or_insert((member, now.0, generation_id));
                }
            }
        }
    }

    /// The member no longer has something that it began. If generations cannot be compared, it may have begun late, and
    /// the others are the true owners.
    fn withdraw(&mut self, member: usize) {
        if self.is_migrating {
            for holding in self.holdings.values_mut() {
                holding.superseded.take_if(|(by, ..)| *by == member);
            }
        }
    }

    /// The member has a share of this generation, so the coordinator has let it have its `group.instance.id`. Which of
    /// two processes came last cannot be told if they have shares of the same generation. Returns the other processes.
    fn take_place(&mut self, now: Instant, member: usize, generation_id: Option<i32>) -> Vec<usize> {
        self.members[member].generation_id = generation_id;
        let others: Vec<usize> =
            (0..self.members.len()).filter(|other| *other != member && self.is_same_place(*other, member)).collect();
        for &other in &others {
            let known = self.members[other].generation_id;
            if known < generation_id {
                self.members[other].replaced_at.get_or_insert(now.0);
            }
            if known <= generation_id {
                self.members[member].replaced_at = None;
            }
        }
        others
    }

    pub(crate) fn given(&mut self, now: Instant, member: usize, key: &TopicPartition, given: Vec<Given>) {
        let holding = self.holdings.get_mut(&(member, key.clone())).filter(|holding| !holding.is_revoked);
        let Some(holding) = holding else { panic!("member {member} hands out {key}, which it does not have") };
        if let Some(at) = holding.superseded.map(|(_, at, _)| at).or(self.members[member].replaced_at) {
            let since = now.0 - at;
            let allowed = SESSION.as_millis() as u64 + NOTICE;
            assert!(since <= allowed, "member {member} reads {key} {since} ms after another one began");
        }
        let silence = now.since(self.members[member].heard_at);
        assert!(silence < SESSION, "member {member} reads {key} {silence:?} after its coordinator fell silent");
        let logs = self.former.get(key).into_iter().flatten().chain(self.truth.get(key));
        for Given { offset, value } in given {
            let reads = logs.clone().position(|log| log.get(&offset) == Some(&value));
            let what = String::from_utf8_lossy(&value);
            assert!(reads.is_some(), "member {member} is given {what:?} as {key} at offset {offset}");
            let before = holding.reads.filter(|before| Some(*before) != reads);
            let may_change = holding.is_told && before < reads;
            assert!(before.is_none() || may_change, "nobody told member {member} that {key} is another one: {what:?}");
            holding.is_told &= before.is_none();
            holding.reads = reads;
        }
    }

    /// The application has finished these records.
    pub(crate) fn processed(&mut self, (key, given): &(TopicPartition, Vec<Given>)) {
        // Of those of a deleted topic nothing is left to check.
        let (Some(unread), Some(truth)) = (self.unread.get_mut(key), self.truth.get(key)) else { return };
        let of_this = given.iter().filter(|given| truth.get(&given.offset) == Some(&given.value));
        self.delivered += of_this.filter(|given| unread.remove(&given.offset)).count() as u64;
    }

    /// The member's process has ended, or the member has left.
    pub(crate) fn gone(&mut self, member: usize) {
        self.withdraw(member);
        self.holdings.retain(|(holder, _), _| *holder != member);
    }

    pub(crate) fn look_at_commits(&mut self, cluster: &Cluster) {
        for key in self.truth.keys() {
            let Some(offset) = cluster.committed_offset(GROUP, &key.topic, key.partition) else { continue };
            let before = self.committed.insert(key.clone(), offset).unwrap_or(0);
            // By the consumer protocol another member may be given a partition of the new topic before the one that had
            // it of the old topic has heard of that. Both then read the new one for a moment.
            let may_have_two = !self.is_classic && self.former.contains_key(key);
            assert!(before <= offset || may_have_two, "the commit of {key} went back from {before} to {offset}");
            let unread = self.unread[key].range(..offset).next();
            assert!(unread.is_none(), "{offset} is committed for {key}, and nobody is done with {unread:?}");
        }
    }

    pub(crate) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// A record that no application has finished yet.
    pub(crate) fn missing(&self) -> Option<(&TopicPartition, i64)> {
        self.unread.iter().find_map(|(key, offsets)| Some((key, *offsets.first()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two members; the first has begun partitions in these generations, the second one partition 0 in generation 4.
    fn watched(first: &[(&[i32], i32)]) {
        let keys = |numbers: &[i32]| numbers.iter().map(|number| TopicPartition::new("letters", *number)).collect();
        let mut judge = Judge::default();
        judge.started(false, None);
        judge.started(false, None);
        let (before, after) = first.split_at(1);
        let mut begins = |member: usize, (new, generation_id): (&[i32], i32)| {
            judge.look_at(Instant(generation_id as u64), member, &Action::Began(keys(new), Some(generation_id)));
        };
        for begun in before {
            begins(0, *begun);
        }
        begins(1, (&[0], 4));
        for begun in after {
            begins(0, *begun);
        }
    }

    #[test]
    fn a_member_may_complete_a_generation_that_the_group_has_left() {
        watched(&[(&[0], 2), (&[], 3)]);
    }

    #[test]
    #[should_panic(expected = "keeps letters-0")]
    fn a_member_of_the_new_generation_must_not_keep_what_another_one_has_begun() {
        watched(&[(&[0], 2), (&[], 5)]);
    }

    /// A member reads a record of a topic, which is deleted and created again; it then reads one of the new topic.
    fn reads_on_in_a_new_topic(told: bool) {
        let key = TopicPartition::new("letters", 0);
        let given = |value: &[u8]| vec![Given { offset: 0, value: value.to_vec() }];
        let mut judge = Judge::default();
        judge.started(false, None);
        judge.look_at(Instant(0), 0, &Action::Began(vec![key.clone()], Some(1)));
        judge.written(key.clone(), [(0, b"old".to_vec())].into());
        judge.given(Instant(1), 0, &key, given(b"old"));
        judge.deleted("letters");
        judge.written(key.clone(), [(0, b"new".to_vec())].into());
        judge.processed(&(key.clone(), given(b"old")));
        assert_eq!(judge.missing(), Some((&key, 0)), "a record of the old topic is none of the new one");
        if told {
            judge.told(0, &key);
        }
        judge.given(Instant(2), 0, &key, given(b"new"));
        judge.processed(&(key.clone(), given(b"new")));
        assert_eq!(judge.missing(), None);
    }

    #[test]
    fn who_is_told_may_read_on_in_a_new_topic() {
        reads_on_in_a_new_topic(true);
    }

    #[test]
    #[should_panic(expected = "nobody told member 0")]
    fn nobody_reads_on_in_a_new_topic_unawares() {
        reads_on_in_a_new_topic(false);
    }

    #[test]
    #[should_panic(expected = "in generation Some(4)")]
    fn no_two_members_have_a_partition_in_one_generation() {
        watched(&[(&[0], 4)]);
    }
}
