//! Compares what the application was told with what is really in the logs.
//!
//! For the producer: every accepted record has exactly one report, in order. A delivered record is in the log exactly
//! once, where the report says. A record that was reported as not written is not there. No record is there twice, in
//! the wrong partition or out of order, nor in a topic and in the next one of its name. After a failure, what was
//! buffered behind it fails, too.
//!
//! For the consumer: every record that is handed out is the next one in the log after the position. The position moves
//! only with records handed out, on request, or because the leader says that the offset is out of range. If the
//! history of a log changes, a reader either sees nothing of that, or is told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use kavka_broker::{Cluster, KafkaVersion};
use kavka_core::error::{ErrorKind, Written};
use kavka_core::producer::{Completed, Completion};
use kavka_core::time::Instant;
use kavka_core::wire::ErrorCode;

use crate::adapter::{Given, JOURNALS, TOPIC};
use crate::journal::Journal;
use crate::log;
use crate::plan::{PARTITIONS, Plan};
use crate::trace::Trace;

/// The size of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    Small,
    /// Too large for a topic with a limit.
    Fat,
    /// Its batch is compressed before it goes into a request.
    Huge,
}

/// The content of a record's report.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Report {
    Delivered(Option<i64>),
    Failed(Written, String),
}

#[derive(Debug)]
struct Accepted {
    /// The producer's handle that it was appended to.
    handle: usize,
    partition: i32,
    at: Instant,
    size: Size,
    report: Option<(Instant, Report)>,
}

/// What was handed out of one partition, and other moves of its position.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Given(Given),
    /// The position was moved by a seek, or because the leader said that the offset is out of range.
    Moved(i64),
    /// The position that the consumer showed.
    Shown(i64),
}

/// What one handle of the producer did in one partition.
#[derive(Debug, Default)]
struct HandleHistory {
    last_accepted: Option<u64>,
    last_reported: Option<u64>,
    /// A record failed; no record up to this one may be delivered any more.
    doomed_up_to: Option<u64>,
}

/// The history of a partition that the consumer reads. The producer writes to the first few of them.
#[derive(Debug, Default)]
struct PartitionHistory {
    steps: Vec<Step>,
    /// Everything that was ever in the log and is visible. If the log has lost records, without those.
    truth: BTreeMap<i64, Vec<u8>>,
    /// What the log held each time before it lost records.
    before: Vec<BTreeMap<i64, Vec<u8>>>,
}

/// The judge of one run.
#[derive(Debug)]
pub(crate) struct Judge {
    accepted: Vec<Accepted>,
    partitions: Vec<PartitionHistory>,
    handles: BTreeMap<(usize, i32), HandleHistory>,
    /// For each batch: the records without a report, and the number of those with one.
    batches: BTreeMap<usize, (VecDeque<u64>, u32)>,
    /// Kept alive, so that no other batch gets the same address.
    kept: Vec<Arc<Completion>>,
}

/// The value of the record with this number: the number, followed by bytes that depend on it.
pub(crate) fn value(id: u64, size: Size) -> Vec<u8> {
    let filler_bytes = match size {
        Size::Small => 1 + (id % 13) as usize,
        Size::Fat => 300,
        Size::Huge => 70_000,
    };
    let mut value = id.to_be_bytes().to_vec();
    let filler = id.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    value.extend(filler.iter().cycle().take(filler_bytes));
    value
}

fn id(value: &[u8]) -> u64 {
    u64::from_be_bytes(*value.first_chunk().expect("a value begins with the number of its record"))
}

impl Judge {
    pub(crate) fn new(ledgers: Vec<BTreeMap<i64, Vec<u8>>>) -> Self {
        let written = (0..PARTITIONS).map(|_| PartitionHistory::default());
        let ledgers = ledgers.into_iter().map(|truth| PartitionHistory { truth, ..PartitionHistory::default() });
        let journals = (0..JOURNALS).map(|_| PartitionHistory::default());
        let partitions = written.chain(ledgers).chain(journals).collect();
        let (handles, batches) = (BTreeMap::new(), BTreeMap::new());
        Self { accepted: Vec::new(), partitions, handles, batches, kept: Vec::new() }
    }

    /// The number of the next record.
    pub(crate) fn next_id(&self) -> u64 {
        self.accepted.len() as u64
    }

    fn partition(&mut self, partition: i32) -> &mut PartitionHistory {
        &mut self.partitions[partition as usize]
    }

    /// The producer accepted the record with the next number.
    pub(crate) fn accepted(
        &mut self,
        at: Instant,
        (handle, partition): (usize, i32),
        size: Size,
        completion: Arc<Completion>,
    ) {
        let id = self.next_id();
        self.batches.entry(Arc::as_ptr(&completion) as usize).or_default().0.push_back(id);
        self.kept.push(completion);
        self.handles.entry((handle, partition)).or_default().last_accepted = Some(id);
        self.accepted.push(Accepted { handle, partition, at, size, report: None });
    }

    /// The producer reported some records.
    pub(crate) fn reported(&mut self, now: Instant, trace: &mut Trace, completed: Completed) {
        let completion = Arc::clone(completed.completion());
        let count = completed.count();
        let batch = self.batches.get_mut(&(Arc::as_ptr(&completion) as usize)).expect("a batch that is known");
        let first = batch.1;
        batch.1 += count;
        assert!(batch.0.len() >= count as usize, "more records are reported than were accepted");
        let ids: Vec<u64> = batch.0.drain(..count as usize).collect();
        // A single record that was rejected for what it is fails alone.
        let own_sake = [ErrorCode::MESSAGE_TOO_LARGE, ErrorCode::INVALID_RECORD].map(ErrorKind::Broker);
        let refused_alone = completed.error().is_some_and(|error| own_sake.contains(&error.kind()) && count == 1);
        completed.carry_out();
        for (index, id) in (first..).zip(ids) {
            let outcome = completion.outcome(index).expect("what was carried out is there");
            let report = match outcome {
                Ok(record) => Report::Delivered(record.offset),
                Err(error) => Report::Failed(error.written(), error.to_string()),
            };
            trace.say(now, format_args!("record {id} is reported: {report:?}"));
            self.report(now, id, report, refused_alone);
        }
    }

    fn report(&mut self, now: Instant, id: u64, report: Report, refused_alone: bool) {
        let record = &mut self.accepted[id as usize];
        assert!(record.report.is_none(), "record {id} was reported twice");
        let is_delivered = matches!(report, Report::Delivered(_));
        record.report = Some((now, report));
        let history = self.handles.entry((record.handle, record.partition)).or_default();
        assert!(history.last_reported < Some(id), "the report of record {id} comes out of order");
        history.last_reported = Some(id);
        if is_delivered {
            let doomed = history.doomed_up_to;
            assert!(doomed < Some(id), "record {id} was delivered although one before it failed");
        } else if !refused_alone {
            history.doomed_up_to = history.doomed_up_to.max(history.last_accepted);
        }
    }

    /// The consumer handed out records.
    pub(crate) fn given(&mut self, partition: i32, given: Vec<Given>) {
        self.partition(partition).steps.extend(given.into_iter().map(Step::Given));
    }

    /// The position was moved by a seek, or because the leader said that the offset is out of range.
    pub(crate) fn moved(&mut self, partition: i32, to: i64) {
        self.partition(partition).steps.push(Step::Moved(to));
    }

    /// Whether records were handed out since the position was last moved. Before that, the consumer knows the leader
    /// epoch of no record, so it cannot ask whether the log was truncated.
    pub(crate) fn has_read_on(&self, partition: i32) -> bool {
        let steps = self.partitions[partition as usize].steps.iter().rev();
        let mut steps = steps.filter(|step| !matches!(step, Step::Shown(_)));
        matches!(steps.next(), Some(Step::Given(_)))
    }

    /// The consumer shows a position. The first one is the log start offset at that time, which is not above the
    /// current one, unless that is the start of another log.
    pub(crate) fn shown(&mut self, partition: i32, position: i64, log_start_offset: i64) {
        let PartitionHistory { steps, before, .. } = self.partition(partition);
        match steps.last() {
            None => {
                let is_renewed = !before.is_empty();
                let is_start = position <= log_start_offset || is_renewed;
                assert!(is_start, "partition {partition} starts at {position}: {log_start_offset}");
                steps.push(Step::Moved(position));
            }
            Some(Step::Shown(last)) if *last == position => {}
            _ => steps.push(Step::Shown(position)),
        }
    }

    /// Remembers what is in the logs now: some of it is about to be deleted, or the run has ended.
    pub(crate) fn look_at(&mut self, cluster: &Cluster) {
        for partition in 0..PARTITIONS {
            let history = self.partition(partition);
            for bytes in cluster.batches(TOPIC, partition) {
                let records = log::batch(&bytes).records;
                history.truth.extend(records.into_iter().map(|record| (record.offset, record.value)));
            }
        }
    }

    /// The topic that the producer writes is about to be deleted.
    pub(crate) fn about_to_renew(&mut self, cluster: &Cluster) {
        self.look_at(cluster);
        for history in self.partitions.iter_mut().take(PARTITIONS as usize) {
            history.before.push(std::mem::take(&mut history.truth));
        }
    }

    /// Takes what was in the journal, which is read under the last numbers.
    pub(crate) fn know_journal(&mut self, journal: Journal) {
        for (history, mut logs) in self.partitions.iter_mut().skip(2 * PARTITIONS as usize).zip(journal.into_logs()) {
            history.truth = logs.pop().unwrap_or_default();
            history.before = logs;
        }
    }

    /// Whether no visible record is known after this position; the newest records may not be known yet.
    pub(crate) fn is_read(&self, partition: i32, position: Option<i64>) -> bool {
        let truth = &self.partitions[partition as usize].truth;
        position.is_some_and(|position| truth.range(position..).next().is_none())
    }

    /// How many records have no report yet.
    pub(crate) fn unreported(&self) -> usize {
        self.accepted.iter().filter(|record| record.report.is_none()).count()
    }

    /// How many records were delivered, and how many failed.
    pub(crate) fn outcomes(&self) -> (u64, u64) {
        let is_delivered = |record: &&Accepted| matches!(record.report, Some((_, Report::Delivered(_))));
        let delivered = self.accepted.iter().filter(is_delivered).count() as u64;
        (delivered, self.accepted.len() as u64 - delivered)
    }

    /// Judges the producer, once the content of the logs is known.
    pub(crate) fn judge_producer(&self, plan: &Plan, recovered_at: Instant) {
        let places = self.places(plan);
        for (id, record) in (0..).zip(&self.accepted) {
            let found = places.get(&id).map_or(&[][..], Vec::as_slice);
            judge_record(id, record, found);
            // Older versions of Produce name the topic, so a request may reach another one.
            let is_by_id = plan.least_version >= KafkaVersion::V4_4;
            let is_doubled = found.len() > 1 && plan.is_idempotent && is_by_id;
            assert!(!is_doubled, "record {id} is in a topic and in another one of its name: {found:?}");
            let (at, report) = record.report.as_ref().unwrap_or_else(|| panic!("record {id} was never reported"));
            let took = at.since(record.at);
            let limit = plan.delivery_timeout + Duration::from_secs(1);
            assert!(took <= limit, "record {id} was reported after {took:?}");
            let must_be_stored = plan.is_curable || record.at >= recovered_at && record.size != Size::Fat;
            let is_stored = matches!(report, Report::Delivered(_));
            assert!(is_stored || !must_be_stored, "record {id} had to be stored: {report:?}");
        }
        self.judge_order();
    }

    /// Where each record is in the logs, also in those of deleted topics. With sequence numbers all of them are in
    /// order there, and none is in one log twice.
    fn places(&self, plan: &Plan) -> BTreeMap<u64, Vec<(i32, i64)>> {
        let mut places: BTreeMap<u64, Vec<(i32, i64)>> = BTreeMap::new();
        let logs = |(partition, history)| PartitionHistory::logs(history).map(move |log| (partition, log));
        for (partition, log) in (0..PARTITIONS).zip(&self.partitions).flat_map(logs) {
            let mut last: BTreeMap<usize, u64> = BTreeMap::new();
            for (offset, found) in log {
                let id = id(found);
                let Accepted { handle, size, .. } = self.accepted[id as usize];
                assert!(*found == value(id, size), "record {id} is damaged in partition {partition}");
                let before = last.insert(handle, id);
                let is_in_order = before < Some(id) || !plan.is_idempotent;
                assert!(is_in_order, "record {id} is out of order in partition {partition}");
                places.entry(id).or_default().push((partition, *offset));
            }
        }
        places
    }

    /// The records that were delivered are in order, also without sequence numbers, unless they are in several logs.
    fn judge_order(&self) {
        if self.partitions.iter().take(PARTITIONS as usize).any(|history| !history.before.is_empty()) {
            return;
        }
        let mut last: BTreeMap<(usize, i32), i64> = BTreeMap::new();
        for (id, record) in self.accepted.iter().enumerate() {
            if let Some((_, Report::Delivered(Some(offset)))) = record.report {
                let before = last.insert((record.handle, record.partition), offset);
                assert!(before < Some(offset), "record {id} was delivered to an offset before that of the one before");
            }
        }
    }

    /// Judges the consumer, once the content of the logs is known. Everything must have been read.
    pub(crate) fn judge_consumer(&self) {
        for (partition, history) in (0..).zip(&self.partitions) {
            history.judge(partition);
        }
    }
}

/// Whether the report of a record is true, which is in the logs at these places.
fn judge_record(id: u64, record: &Accepted, found: &[(i32, i64)]) {
    let partition = record.partition;
    assert!(found.iter().all(|at| at.0 == partition), "record {id} is in a foreign partition");
    match record.report.as_ref().map(|(_, report)| report) {
        Some(Report::Delivered(Some(offset))) => {
            let is_there = found.contains(&(partition, *offset));
            assert!(is_there, "record {id} is at {found:?}, and its report says {offset}");
        }
        Some(Report::Delivered(None)) => assert!(!found.is_empty(), "record {id} was delivered but is not there"),
        Some(Report::Failed(Written::No, why)) => {
            assert!(found.is_empty(), "record {id} is there, and its report says not written: {why}");
        }
        Some(Report::Failed(Written::Maybe, _)) | None => {}
    }
}

impl PartitionHistory {
    /// The logs that there were, in order.
    fn logs(&self) -> impl Iterator<Item = &BTreeMap<i64, Vec<u8>>> {
        self.before.iter().chain([&self.truth])
    }

    /// Between two moves of the position, what was handed out is a part of the log as it is, or as it was before it
    /// lost records.
    fn judge(&self, partition: i32) {
        let all: Vec<_> = self.logs().collect();
        let (mut position, mut logs) = (0, all.clone());
        for step in &self.steps {
            match step {
                Step::Given(given) => {
                    let given = (&given.offset, &given.value);
                    let next: Vec<_> = logs.iter().map(|log| log.range(position..).next()).collect();
                    logs.retain(|log| log.range(position..).next() == Some(given));
                    let what = "not the record behind";
                    assert!(!logs.is_empty(), "partition {partition}: {what} {position}: {given:?}, but {next:?}");
                    position = given.0 + 1;
                }
                Step::Moved(to) => (position, logs) = (*to, all.clone()),
                Step::Shown(shown) => {
                    let may_be = |log: &&BTreeMap<i64, Vec<u8>>| {
                        log.range(position..).next().is_none_or(|(offset, _)| shown <= offset)
                    };
                    let is_right = *shown >= position && logs.iter().any(may_be);
                    assert!(is_right, "partition {partition}: the position is {shown}, and not {position}");
                }
            }
        }
        let rest = self.truth.range(position..).count();
        assert_eq!(rest, 0, "partition {partition}: {rest} records were never handed out");
        let is_last = logs.iter().any(|log| std::ptr::eq(*log, &raw const self.truth));
        assert!(is_last, "partition {partition}: the reader was not told that the log has changed");
    }
}
