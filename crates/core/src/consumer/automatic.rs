//! Automatic commits (`enable.auto.commit`): which offsets are owed, which are in flight, and which failures are told.
//!
//! A commit looks only at the partitions that are *owed*: their position may have changed
//! ([`Consumer::take_changed`](super::Consumer::take_changed)), and no commit of it has succeeded yet. So it costs what
//! has changed since the last one, however many partitions the consumer has.
//!
//! One automatic commit is in flight at a time, however slow the coordinator is; the next one then takes the newest
//! offsets. If one fails, the partitions that the coordinator has not taken are still owed, so the next one names them
//! again. That is why a failure is told only if the next one fails, too, or if the member was removed from its group.
//! That a topic is gone, or was created again, is told by the consumer that reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{CommittedOffset, Offsets, TopicPartition, is_of_lost_topic};
use crate::error::{Error, ErrorKind, Result};
use crate::time::Instant;
use crate::wire::primitives::Uuid;

/// Up to where the application is done with a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// Nothing is to be committed: the partition is not the consumer's, or its position is not known.
    Nothing,
    /// Up to this offset, until [`Consumer::take_changed`](super::Consumer::take_changed) names the partition again.
    Until(CommittedOffset),
    /// Up to this offset, if any; that may change without a word, so look again next time.
    ForNow(Option<CommittedOffset>),
}

/// Of each partition, the topic id and the offset.
type Identities = BTreeMap<TopicPartition, (Uuid, i64)>;

/// See the module's documentation.
#[derive(Debug)]
pub struct AutomaticCommits {
    interval: Duration,
    limit: Duration,
    /// When the next one is due.
    due: Instant,
    /// The one in flight, with its offsets.
    pending: Option<(u64, Identities)>,
    /// The topic ids and offsets of the last ones that succeeded.
    committed: Identities,
    /// The partitions whose offset may differ from the one in `committed`.
    owed: BTreeSet<TopicPartition>,
    /// Whether the last one failed.
    has_failed: bool,
}

impl AutomaticCommits {
    /// Those of a consumer that commits at this interval (`auto.commit.interval.ms`).
    pub fn new(interval: Duration, request_timeout: Duration) -> Self {
        Self {
            interval,
            // A coordinator that is slower than the interval still takes the commit.
            limit: interval.max(request_timeout),
            due: Instant::default(),
            pending: None,
            committed: BTreeMap::new(),
            owed: BTreeSet::new(),
            has_failed: false,
        }
    }

    /// How long one may take.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// When to look for something to commit; `None` while one is in flight.
    pub fn due(&self) -> Option<Instant> {
        self.pending.is_none().then_some(self.due)
    }

    /// The next one is to go as soon as possible.
    pub fn hurry(&mut self) {
        self.due = Instant::default();
    }

    /// Whether it is time to look for something to commit. If so, the next time is an interval later.
    pub fn take_due(&mut self, now: Instant) -> bool {
        let is_due = self.due().is_some_and(|due| due <= now);
        if is_due {
            self.due = now + self.interval;
        }
        is_due
    }

    /// The offsets of these partitions may have changed.
    pub fn owe(&mut self, changed: impl IntoIterator<Item = TopicPartition>) {
        self.owed.extend(changed);
    }

    /// The owed offsets that are not committed yet; `done` says up to where the application is done with a partition.
    pub fn uncommitted(&mut self, done: impl Fn(&TopicPartition) -> Done) -> Offsets {
        let mut offsets = Offsets::new();
        self.owed.retain(|key| {
            let (offset, is_final) = match done(key) {
                Done::Nothing => (None, true),
                Done::Until(offset) => (Some(offset), true),
                Done::ForNow(offset) => (offset, false),
            };
            let new = offset.filter(|offset| self.committed.get(key) != Some(&identity(offset)));
            let stays = new.is_some() || !is_final;
            offsets.extend(new.map(|offset| (key.clone(), offset)));
            stays
        });
        offsets
    }

    /// The commit with this number is in flight.
    pub fn begin(&mut self, number: u64, offsets: &Offsets) {
        let offsets = offsets.iter().map(|(key, offset)| (key.clone(), identity(offset)));
        self.pending = Some((number, offsets.collect()));
    }

    /// The commit with this number has ended; the coordinator has taken all but the partitions in `left`. Returns the
    /// error to tell the application.
    pub fn end(&mut self, number: u64, outcome: Result<()>, left: &BTreeSet<TopicPartition>) -> Option<Error> {
        let (_, offsets) = self.pending.take_if(|(pending, _)| *pending == number)?;
        for (key, identity) in offsets {
            if left.contains(&key) {
                self.committed.remove(&key);
            } else {
                self.committed.insert(key, identity);
            }
        }
        let Err(error) = outcome else {
            self.has_failed = false;
            return None;
        };
        if is_of_lost_topic(&error) {
            // Whoever reads the topic is told by the consumer.
            return None;
        }
        if error.kind() == ErrorKind::Fenced {
            return Some(error.with_hint("the member that has the partition now reads its records again"));
        }
        let failed_before = std::mem::replace(&mut self.has_failed, true);
        failed_before.then(|| error.with_hint("the next automatic commit makes up for it"))
    }

    /// The partition was assigned or taken away: another member may have committed for it.
    pub fn forget(&mut self, key: &TopicPartition) {
        self.committed.remove(key);
        if let Some((_, offsets)) = &mut self.pending {
            offsets.remove(key);
        }
        self.owed.insert(key.clone());
    }
}

/// The topic id and the offset.
fn identity(offset: &CommittedOffset) -> (Uuid, i64) {
    (offset.topic_id, offset.offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ErrorCode;

    fn key() -> TopicPartition {
        TopicPartition::new("orders", 0)
    }

    fn commits() -> AutomaticCommits {
        AutomaticCommits::new(Duration::from_millis(200), Duration::from_secs(30))
    }

    fn begin(commits: &mut AutomaticCommits, number: u64, offset: i64) {
        commits.begin(number, &Offsets::from([(key(), CommittedOffset::new(offset))]));
    }

    /// Whether the next commit takes this offset if the application is done with so much.
    fn is_new(commits: &mut AutomaticCommits, offset: i64) -> bool {
        commits.owe([key()]);
        !commits.uncommitted(|_| Done::Until(CommittedOffset::new(offset))).is_empty()
    }

    fn failed() -> Result<()> {
        Err(Error::new(ErrorKind::Disconnected, "planted"))
    }

    /// Ends a commit of the one partition.
    fn end(commits: &mut AutomaticCommits, number: u64, outcome: Result<()>) -> Option<Error> {
        let left = if outcome.is_err() { BTreeSet::from([key()]) } else { BTreeSet::new() };
        commits.end(number, outcome, &left)
    }

    #[test]
    fn what_the_coordinator_has_taken_is_not_committed_again_because_another_partition_failed() {
        let mut commits = commits();
        let other = TopicPartition::new("bills", 0);
        let gone = || Error::new(ErrorKind::Broker(ErrorCode::INCONSISTENT_TOPIC_ID), "planted");
        let mut named = Vec::new();
        commits.owe([key(), other]);
        for number in 1..=3 {
            let offsets = commits.uncommitted(|_| Done::Until(CommittedOffset::new(5)));
            named.push(offsets.len());
            commits.begin(number, &offsets);
            commits.end(number, Err(gone()), &BTreeSet::from([key()]));
        }
        assert_eq!(named, [2, 1, 1]);
    }

    #[test]
    fn one_is_on_its_way_at_a_time_and_the_next_follows_when_it_has_ended() {
        let mut commits = commits();
        assert!(commits.take_due(Instant(0)) && !commits.take_due(Instant(199)));
        begin(&mut commits, 1, 5);
        assert!(!commits.take_due(Instant(5_000)));
        assert_eq!(commits.due(), None, "its answer wakes the member");
        assert!(end(&mut commits, 1, Ok(())).is_none());
        assert!(commits.take_due(Instant(5_000)) && !is_new(&mut commits, 5) && is_new(&mut commits, 6));
        assert_eq!(commits.due(), Some(Instant(5_200)));
    }

    #[test]
    fn a_failure_is_told_only_if_the_next_one_does_not_make_up_for_it() {
        let mut commits = commits();
        for (number, outcome, is_told) in
            [(1, failed(), false), (2, Ok(()), false), (3, failed(), false), (4, failed(), true), (5, Ok(()), false)]
        {
            begin(&mut commits, number, 5);
            let is_ok = outcome.is_ok();
            assert_eq!(end(&mut commits, number, outcome).is_some(), is_told, "commit {number}");
            assert_eq!(is_new(&mut commits, 5), !is_ok, "what failed is committed again");
        }
    }

    #[test]
    fn that_a_topic_was_created_again_is_not_told_and_the_same_offset_in_the_new_one_is_committed() {
        let mut commits = commits();
        let offset = |id: u8| CommittedOffset { topic_id: Uuid([id; 16]), ..CommittedOffset::new(5) };
        let gone = || Error::new(ErrorKind::Broker(ErrorCode::INCONSISTENT_TOPIC_ID), "planted");
        for number in [1, 2] {
            commits.begin(number, &Offsets::from([(key(), offset(1))]));
            assert!(end(&mut commits, number, Err(gone())).is_none());
        }
        commits.begin(3, &Offsets::from([(key(), offset(1))]));
        end(&mut commits, 3, Ok(()));
        commits.owe([key()]);
        assert_eq!(commits.uncommitted(|_| Done::Until(offset(2))).len(), 1);
    }

    #[test]
    fn that_the_member_was_removed_is_told_at_once() {
        let mut commits = commits();
        begin(&mut commits, 1, 5);
        let error = end(&mut commits, 1, Err(Error::new(ErrorKind::Fenced, "planted"))).unwrap();
        assert!(error.to_string().contains("reads its records again"), "{error}");
    }

    #[test]
    fn what_was_committed_for_an_earlier_assignment_does_not_count() {
        let mut commits = commits();
        begin(&mut commits, 1, 5);
        commits.forget(&key());
        end(&mut commits, 1, Ok(()));
        assert!(is_new(&mut commits, 5));
    }

    #[test]
    fn a_coordinator_may_take_as_long_as_a_request_may() {
        let of =
            |seconds| AutomaticCommits::new(Duration::from_secs(5), Duration::from_secs(seconds)).limit().as_secs();
        assert_eq!((of(30), of(1)), (30, 5));
    }

    #[test]
    fn a_partition_is_looked_at_until_its_offset_is_committed_and_then_only_if_it_changes() {
        let mut commits = commits();
        let looks = |commits: &mut AutomaticCommits, done: Done| {
            let looks = std::cell::Cell::new(0);
            let offsets = commits.uncommitted(|_| {
                looks.set(looks.get() + 1);
                done.clone()
            });
            (looks.get(), offsets.get(&key()).map(|offset| offset.offset))
        };
        let until = |offset| Done::Until(CommittedOffset::new(offset));
        let for_now = |offset| Done::ForNow(Some(CommittedOffset::new(offset)));
        assert_eq!(looks(&mut commits, until(5)), (0, None), "nothing has changed");
        commits.owe([key()]);
        for outcome in [failed(), failed(), Ok(())] {
            assert_eq!(looks(&mut commits, until(5)), (1, Some(5)));
            begin(&mut commits, 1, 5);
            end(&mut commits, 1, outcome);
        }
        assert_eq!(looks(&mut commits, until(5)), (1, None));
        assert_eq!(looks(&mut commits, until(5)), (0, None), "it is committed");

        commits.owe([key()]);
        assert_eq!(looks(&mut commits, for_now(5)), (1, None));
        assert_eq!(looks(&mut commits, Done::ForNow(None)), (1, None));
        assert_eq!(looks(&mut commits, for_now(6)), (1, Some(6)), "it may change without a word");
        assert_eq!(looks(&mut commits, Done::Nothing), (1, None));
        assert_eq!(looks(&mut commits, until(7)), (0, None), "it is the consumer's no more");
    }
}
