//! The automatic commits of a member (`enable.auto.commit`): what is new, what is on its way, and which failures are
//! told.
//!
//! One automatic commit is on its way at a time, however slow the coordinator is; the next one then takes the newest
//! offsets. If one fails, the next one says its offsets again. So a failure is told only if the next one fails, too, or
//! if the member was removed from its group.

use std::collections::BTreeMap;
use std::time::Duration;

use kavka_core::config::{ClientConfig, GroupConfig};
use kavka_core::consumer::{CommittedOffset, Offsets, TopicPartition};
use kavka_core::error::{Error, ErrorKind, Result};
use kavka_core::time::Instant;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct AutomaticCommits {
    interval: Duration,
    limit: Duration,
    /// When the next one is due.
    due: Instant,
    /// The one on its way, with its offsets.
    pending: Option<(u64, BTreeMap<TopicPartition, i64>)>,
    /// The offsets of the last ones that succeeded.
    committed: BTreeMap<TopicPartition, i64>,
    /// Whether the last one failed.
    has_failed: bool,
}

impl AutomaticCommits {
    pub(super) fn new(client: &ClientConfig, group: &GroupConfig) -> Self {
        let interval = group.auto_commit_interval;
        Self {
            interval,
            // A coordinator that is slower than the interval still takes the commit.
            limit: interval.max(client.request_timeout),
            due: Instant::default(),
            pending: None,
            committed: BTreeMap::new(),
            has_failed: false,
        }
    }

    /// How long one may take.
    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    /// When to look for something to commit; `None` while one is on its way.
    pub(super) fn due(&self) -> Option<Instant> {
        self.pending.is_none().then_some(self.due)
    }

    /// The next one is to go as soon as possible.
    pub(super) fn hurry(&mut self) {
        self.due = Instant::default();
    }

    /// Whether it is time to look for something to commit. If so, the next time is an interval later.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        let is_due = self.due().is_some_and(|due| due <= now);
        if is_due {
            self.due = now + self.interval;
        }
        is_due
    }

    /// Whether the offset is not committed yet.
    pub(super) fn is_new(&self, key: &TopicPartition, offset: &CommittedOffset) -> bool {
        self.committed.get(key) != Some(&offset.offset)
    }

    /// The commit with this number is on its way.
    pub(super) fn begin(&mut self, number: u64, offsets: &Offsets) {
        self.pending = Some((number, offsets.iter().map(|(key, offset)| (key.clone(), offset.offset)).collect()));
    }

    /// The commit with this number has ended. Returns the error to tell the application.
    pub(super) fn end(&mut self, number: u64, outcome: Result<()>) -> Option<Error> {
        let (_, offsets) = self.pending.take_if(|(pending, _)| *pending == number)?;
        let Err(error) = outcome else {
            self.has_failed = false;
            self.committed.extend(offsets);
            return None;
        };
        for key in offsets.keys() {
            self.committed.remove(key);
        }
        if error.kind() == ErrorKind::Fenced {
            return Some(error.with_hint("the member that has the partition now reads its records again"));
        }
        let failed_before = std::mem::replace(&mut self.has_failed, true);
        failed_before.then(|| error.with_hint("the next automatic commit makes up for it"))
    }

    /// The partition was assigned or taken away: another member may have committed for it.
    pub(super) fn forget(&mut self, key: &TopicPartition) {
        self.committed.remove(key);
        if let Some((_, offsets)) = &mut self.pending {
            offsets.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> TopicPartition {
        TopicPartition::new("orders", 0)
    }

    fn commits() -> AutomaticCommits {
        let interval = Duration::from_millis(200);
        AutomaticCommits::new(&ClientConfig::default(), &GroupConfig::default().auto_commit_interval(interval))
    }

    fn begin(commits: &mut AutomaticCommits, number: u64, offset: i64) {
        commits.begin(number, &Offsets::from([(key(), CommittedOffset::new(offset))]));
    }

    fn is_new(commits: &AutomaticCommits, offset: i64) -> bool {
        commits.is_new(&key(), &CommittedOffset::new(offset))
    }

    fn failed() -> Result<()> {
        Err(Error::new(ErrorKind::Disconnected, "planted"))
    }

    #[test]
    fn one_is_on_its_way_at_a_time_and_the_next_follows_when_it_has_ended() {
        let mut commits = commits();
        assert!(commits.take_due(Instant(0)) && !commits.take_due(Instant(199)));
        begin(&mut commits, 1, 5);
        assert!(!commits.take_due(Instant(5_000)));
        assert_eq!(commits.due(), None, "its answer wakes the member");
        assert!(commits.end(1, Ok(())).is_none());
        assert!(commits.take_due(Instant(5_000)) && !is_new(&commits, 5) && is_new(&commits, 6));
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
            assert_eq!(commits.end(number, outcome).is_some(), is_told, "commit {number}");
            assert_eq!(is_new(&commits, 5), !is_ok, "what failed is committed again");
        }
    }

    #[test]
    fn that_the_member_was_removed_is_told_at_once() {
        let mut commits = commits();
        begin(&mut commits, 1, 5);
        let error = commits.end(1, Err(Error::new(ErrorKind::Fenced, "planted"))).unwrap();
        assert!(error.to_string().contains("reads its records again"), "{error}");
    }

    #[test]
    fn what_was_committed_for_an_earlier_assignment_does_not_count() {
        let mut commits = commits();
        begin(&mut commits, 1, 5);
        commits.forget(&key());
        commits.end(1, Ok(()));
        assert!(is_new(&commits, 5));
    }

    #[test]
    fn a_coordinator_may_take_as_long_as_a_request_may() {
        let of = |request_timeout| {
            let client = ClientConfig::default().request_timeout(Duration::from_secs(request_timeout));
            AutomaticCommits::new(&client, &GroupConfig::default()).limit().as_secs()
        };
        assert_eq!((of(30), of(1)), (30, GroupConfig::default().auto_commit_interval.as_secs()));
    }
}
