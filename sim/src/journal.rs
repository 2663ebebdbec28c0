//! A topic whose history changes: its logs are truncated, as by an unclean leader election, and the topic is deleted
//! and created again.
//!
//! Between two changes there is an *era*. A value names the era in which it was written, so the judge sees when a
//! reader has mixed records of logs that never existed together.

use std::collections::BTreeMap;

use kavka_broker::Cluster;
use kavka_core::random::Random;
use kavka_core::time::Instant;
use kavka_core::wire::records::{CompressionType, Stamp};

use crate::adapter::{JOURNAL, JOURNALS};
use crate::ledger::sealed;
use crate::plan::BROKERS;

/// One partition.
#[derive(Debug)]
struct Partition {
    /// What the log held at the end of each era; the last one is the log as it is.
    logs: Vec<BTreeMap<i64, Vec<u8>>>,
    end: i64,
    /// Where the log has changed since a reader was last told.
    changed_from: Option<i64>,
    /// The least end that the log had after it lost records.
    least_end: Option<i64>,
}

#[derive(Debug)]
pub(crate) struct Journal {
    partitions: Vec<Partition>,
    is_there: bool,
    was_deleted: bool,
}

impl Journal {
    /// An empty journal; the topic has to be created.
    pub(crate) fn new() -> Self {
        let partition = |_| Partition { logs: vec![BTreeMap::new()], end: 0, changed_from: None, least_end: None };
        Self { partitions: (0..JOURNALS).map(partition).collect(), is_there: false, was_deleted: false }
    }

    /// Creates the topic, with at least as many partitions as are read.
    pub(crate) fn create(&mut self, cluster: &mut Cluster, random: &mut Random) {
        if !self.is_there {
            let partitions = JOURNALS + random.below(3) as i32;
            // Fails if too few brokers are up; then it is tried again.
            self.is_there = cluster.create_topic(JOURNAL, partitions, BROKERS as i16).is_ok();
        }
    }

    /// Appends a batch of a few records to each partition.
    pub(crate) fn write(&mut self, now: Instant, cluster: &mut Cluster, random: &mut Random) {
        for (index, partition) in (0..).zip(&mut self.partitions).filter(|_| self.is_there) {
            if cluster.leader(JOURNAL, index).is_none() {
                continue;
            }
            let era = partition.logs.len();
            let end = partition.end + 1 + random.below(4) as i64;
            let values: Vec<(i64, String)> =
                (partition.end..end).map(|offset| (offset, format!("era {era}, offset {offset}"))).collect();
            let records: Vec<_> = values.iter().map(|(_, value)| (None, value.as_bytes())).collect();
            let batch = sealed(partition.end, &records, Stamp::default(), CompressionType::None);
            cluster.replicate(now, JOURNAL, index, batch).expect("a whole batch");
            let log = partition.logs.last_mut().expect("there is a last log");
            log.extend(values.into_iter().map(|(offset, value)| (offset, value.into_bytes())));
            partition.end = end;
        }
    }

    /// Takes away the last records of a partition.
    pub(crate) fn truncate(&mut self, now: Instant, cluster: &mut Cluster, index: i32, random: &mut Random) {
        let partition = &mut self.partitions[index as usize];
        // Without a leader there is nobody to begin an epoch.
        if !self.is_there || partition.end == 0 || cluster.leader(JOURNAL, index).is_none() {
            return;
        }
        let to = partition.end - 1 - random.below(partition.end.min(12) as usize) as i64;
        cluster.truncate(now, JOURNAL, index, to).expect("the partition is there");
        let (_, end) = cluster.offsets(JOURNAL, index).expect("the partition is there");
        partition.change(end);
    }

    /// Deletes the topic; [`create`](Self::create) creates another one.
    pub(crate) fn delete(&mut self, now: Instant, cluster: &mut Cluster) {
        if std::mem::replace(&mut self.is_there, false) {
            self.was_deleted = true;
            cluster.delete_topic(now, JOURNAL);
            self.partitions.iter_mut().for_each(|partition| partition.change(0));
        }
    }

    /// Whether there was ever another topic of this name.
    pub(crate) fn was_deleted(&self) -> bool {
        self.was_deleted
    }

    /// A reader is told that a partition has changed. Returns from which offset on, unless nothing has changed.
    pub(crate) fn take_change(&mut self, index: i32) -> Option<i64> {
        let partition = &mut self.partitions[index as usize];
        partition.changed_from.take().or_else(|| self.was_deleted.then_some(0))
    }

    /// Whether the log once ended before this offset, after it had lost records.
    pub(crate) fn was_shorter(&self, index: i32, offset: i64) -> bool {
        self.partitions[index as usize].least_end.is_some_and(|end| end < offset)
    }

    pub(crate) fn end(&self, index: i32) -> i64 {
        self.partitions[index as usize].end
    }

    /// What each partition held at the end of each era.
    pub(crate) fn into_logs(self) -> impl Iterator<Item = Vec<BTreeMap<i64, Vec<u8>>>> {
        self.partitions.into_iter().map(|partition| partition.logs)
    }
}

impl Partition {
    fn change(&mut self, from: i64) {
        let mut log = self.logs.last().cloned().unwrap_or_default();
        log.split_off(&from);
        self.logs.push(log);
        self.end = from;
        self.least_end = Some(self.least_end.map_or(from, |before| before.min(from)));
        self.changed_from = Some(self.changed_from.map_or(from, |before| before.min(from)));
    }
}
