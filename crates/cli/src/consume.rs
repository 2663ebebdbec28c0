//! `kavka consume`: prints the records of a topic to standard output.
//!
//! Output is buffered, and flushed whenever no record is ready. So a program behind a pipe sees records as they arrive,
//! and large amounts are still written in large blocks. A group member flushes before it commits what it has printed.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::time::Duration;

use kavka::blocking::{Consumer, GroupConsumer};
use kavka::config::{consumer_properties, group_properties};
use kavka::{
    Batch, ConsumerConfig, Error, ErrorKind, GroupConfig, GroupOptions, IsolationLevel, Reset, StartPosition,
    TopicPartition, printable_name,
};

use crate::arguments::ConsumeArguments;
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::output::{Output, is_closed};
use crate::progress::Progress;
use crate::session::{STEP, Session};
use crate::start::Start;
use crate::template::write_json;

/// How long a group member may take to give up its partitions and leave.
const LEAVE_LIMIT: Duration = Duration::from_secs(10);

/// Prints until `-n` or `--exit-at-end` is satisfied, Ctrl-C comes, or the reader of the output goes away.
pub(crate) fn run(cluster: &Cluster, arguments: &ConsumeArguments) -> Result<(), Failure> {
    match &arguments.group {
        Some(group) => run_member(cluster, arguments, group),
        None => run_alone(cluster, arguments),
    }
}

fn run_alone(cluster: &Cluster, arguments: &ConsumeArguments) -> Result<(), Failure> {
    let reset = match arguments.from {
        // A user who names an offset wants exactly that one: fail if it does not exist.
        Start::At(StartPosition::Offset(_)) => "none",
        Start::At(
            StartPosition::Earliest
            | StartPosition::Latest
            | StartPosition::Timestamp(_)
            | StartPosition::Committed { .. },
        )
        | Start::Last(_) => "earliest",
    };
    let (client, config) =
        consumer_properties(cluster.settings(&[ConsumerConfig::SETTINGS], &[("auto.offset.reset", reset)])?)?;
    let session = Session::new(client)?;
    let keys = session.partitions(&arguments.topic, &arguments.partitions)?;
    let ends = if arguments.exit_at_end { Some(ends(&session, &keys)?) } else { None };
    let starts = starts(&session, keys, arguments.from)?;
    let consumer = session.client.consumer(config)?;
    for (key, start) in &starts {
        consumer.add(key, *start)?;
    }
    Run::new(arguments, Source::Partitions(consumer.into()), ends)?.print(&session)
}

fn run_member(cluster: &Cluster, arguments: &ConsumeArguments, group: &str) -> Result<(), Failure> {
    let reset = match arguments.from {
        Start::At(StartPosition::Earliest) => "earliest",
        Start::At(StartPosition::Latest) => "latest",
        Start::At(StartPosition::Offset(_) | StartPosition::Timestamp(_) | StartPosition::Committed { .. })
        | Start::Last(_) => {
            return Err(Failure::usage("a group stores its position: with -G, --from must be earliest or latest"));
        }
    };
    let mut defaults = vec![("auto.offset.reset", reset), ("group.id", group)];
    if arguments.exit_at_end {
        // The other members wait for what this one commits.
        defaults.push(("auto.commit.interval.ms", "500"));
    }
    let settings = cluster.settings(&[ConsumerConfig::SETTINGS, GroupConfig::SETTINGS], &defaults)?;
    let (client, consumer, config) = group_properties(settings)?;
    let session = Session::new(client)?;
    let mut keys = Vec::new();
    if arguments.pattern.is_none() {
        keys = session.partitions(&arguments.topic, &[])?;
    }
    let ends = if arguments.exit_at_end { Some(ends(&session, &keys)?) } else { None };
    let member = session.client.group_consumer(consumer, config, GroupOptions::default())?;
    match &arguments.pattern {
        Some(pattern) => member.subscribe_pattern(pattern)?,
        None => member.subscribe(&[&arguments.topic])?,
    }
    let mut run = Run::new(arguments, Source::Group(member.into()), ends)?;
    let result = run.print(&session);
    if let Source::Group(member) = run.source {
        // Commits what was printed, whatever ended the printing.
        result.and(member.close(LEAVE_LIMIT).map_err(Failure::from))
    } else {
        result
    }
}

/// Where to start in each partition.
fn starts(
    session: &Session,
    keys: Vec<TopicPartition>,
    from: Start,
) -> Result<Vec<(TopicPartition, StartPosition)>, Failure> {
    let count = match from {
        Start::At(start) => return Ok(keys.into_iter().map(|key| (key, start)).collect()),
        Start::Last(count) => count,
    };
    let client = &session.client;
    let beginnings = session.wait(client.beginning_offsets(&keys, client.max_block()))?;
    let start = |(key, end): (TopicPartition, i64)| {
        let beginning = beginnings.get(&key).copied().unwrap_or(0);
        (key, StartPosition::Offset(beginning.max(end.saturating_sub(count))))
    };
    Ok(ends(session, &keys)?.into_iter().map(start).collect())
}

/// The current end of each partition.
fn ends(session: &Session, keys: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, i64>, Failure> {
    let client = &session.client;
    session.wait(client.end_offsets(keys, IsolationLevel::ReadCommitted, client.max_block()))
}

/// Where records come from.
enum Source {
    Partitions(Consumer),
    Group(GroupConsumer),
}

impl Source {
    fn try_batch(&self) -> kavka::Result<Option<Batch>> {
        match self {
            Self::Partitions(consumer) => consumer.try_batch(),
            Self::Group(member) => member.try_batch(),
        }
    }

    fn wait_batch(&self) -> kavka::Result<Option<Batch>> {
        match self {
            Self::Partitions(consumer) => consumer.next_batch(STEP),
            Self::Group(member) => member.next_batch(STEP),
        }
    }

    /// A group member continues when it has lost its partitions or the coordinator is away; it only prints the error.
    fn go_on(&self, error: Error) -> kavka::Result<Option<Batch>> {
        let is_passing = error.kind() == ErrorKind::Fenced || error.is_retriable();
        if matches!(self, Self::Partitions(_)) || !is_passing {
            return Err(error);
        }
        eprintln!("kavka: {error}");
        Ok(None)
    }

    fn take_resets(&self) -> Vec<Reset> {
        match self {
            Self::Partitions(consumer) => consumer.take_resets(),
            Self::Group(member) => member.take_resets(),
        }
    }
}

/// Whether a group has read all partitions to their known ends. Adds the ends of partitions that are new to the member.
///
/// Its own share is not enough: partitions on their way to another member have no owner for a moment, and if all
/// members left then, nobody would read them.
fn is_read(
    session: &Session,
    (group, member): (&str, &GroupConsumer),
    known: &mut BTreeMap<TopicPartition, i64>,
) -> Result<bool, Failure> {
    // Asked first, so that it does not describe a later assignment than the one below.
    let is_stable = member.is_stable();
    let assignment = member.assignment();
    let new: Vec<_> = assignment.iter().filter(|key| !known.contains_key(*key)).cloned().collect();
    if !new.is_empty() {
        known.extend(ends(session, &new)?);
    }
    let open = |(key, end): &(&TopicPartition, &i64)| member.position(key).is_none_or(|position| position < **end);
    let open: Vec<_> = known.iter().filter(open).map(|(key, _)| key.clone()).collect();
    if !is_stable || open.iter().any(|key| assignment.contains(key)) {
        return Ok(false);
    }
    if open.is_empty() {
        return Ok(true);
    }
    let client = &session.client;
    let committed = session.wait(client.committed_offsets(group, &open, client.max_block()))?;
    let is_read = |key| committed.get(key).map_or(0, |at| at.offset) >= known.get(key).copied().unwrap_or(0);
    Ok(open.iter().all(is_read))
}

struct Run<'a> {
    arguments: &'a ConsumeArguments,
    source: Source,
    /// With `--exit-at-end`, the end of each partition at the start. A partition is removed when it was read up to
    /// there; for a group member, all stay. With a pattern, it is the end when the member first had the partition.
    ends: Option<BTreeMap<TopicPartition, i64>>,
    /// How many more records to print.
    left: u64,
    output: Output,
    progress: Progress,
}

impl<'a> Run<'a> {
    fn new(
        arguments: &'a ConsumeArguments,
        source: Source,
        ends: Option<BTreeMap<TopicPartition, i64>>,
    ) -> Result<Self, Failure> {
        let (left, output) = (arguments.count.unwrap_or(u64::MAX), Output::new()?);
        let progress = Progress::new(!io::stdout().is_terminal(), None);
        Ok(Self { arguments, source, ends, left, output, progress })
    }

    fn print(&mut self, session: &Session) -> Result<(), Failure> {
        let result = self.batches(session);
        self.progress.finish();
        let flushed = self.output.flush();
        match flushed {
            Err(error) if !is_closed(&error) => result.and(Err(Output::failure(&error))),
            _ => result,
        }
    }

    fn batches(&mut self, session: &Session) -> Result<(), Failure> {
        while self.left > 0 && !self.is_at_end(session)? {
            session.interrupt.check()?;
            let mut batch = self.source.try_batch().or_else(|error| self.source.go_on(error))?;
            if batch.is_none() {
                if let Err(error) = self.output.flush() {
                    return if is_closed(&error) { Ok(()) } else { Err(Output::failure(&error)) };
                }
                batch = self.source.wait_batch().or_else(|error| self.source.go_on(error))?;
            }
            if let Some(batch) = batch
                && let Err(error) = self.batch(batch)
            {
                return if is_closed(&error) { Ok(()) } else { Err(Output::failure(&error)) };
            }
            self.warn();
            self.progress.show();
        }
        Ok(())
    }

    fn batch(&mut self, mut batch: Batch) -> io::Result<()> {
        let end = match (&self.ends, &self.source) {
            (Some(ends), Source::Partitions(_)) => ends.get(batch.topic_partition()).copied().unwrap_or(0),
            // What is taken from a batch is committed, so it is printed, too.
            (Some(_), Source::Group(_)) | (None, _) => i64::MAX,
        };
        let null = self.arguments.null_marker.as_bytes();
        while self.left > 0
            && let Some(record) = batch.next_record()
            && record.offset < end
        {
            let buffer = self.output.buffer();
            let before = buffer.len();
            if self.arguments.json {
                write_json(buffer, &batch, &record);
            } else {
                self.arguments.format.write(buffer, &batch, &record, null);
            }
            buffer.extend_from_slice(&self.arguments.separator.0);
            self.progress.records += 1;
            self.progress.bytes += (buffer.len() - before) as u64;
            self.left -= 1;
            self.output.flush_if_full()?;
        }
        if matches!(self.source, Source::Group(_)) {
            self.output.flush()?;
        }
        Ok(())
    }

    /// Whether every partition was read to its end at the start. Finished partitions are removed.
    fn is_at_end(&mut self, session: &Session) -> Result<bool, Failure> {
        let Some(ends) = &mut self.ends else { return Ok(false) };
        match &self.source {
            Source::Partitions(consumer) => {
                ends.retain(|key, end| {
                    let is_open = consumer.position(key).is_none_or(|position| position < *end);
                    if !is_open {
                        // Cannot fail: the consumer has this partition.
                        drop(consumer.remove(key));
                    }
                    is_open
                });
                Ok(ends.is_empty())
            }
            Source::Group(member) => {
                is_read(session, (self.arguments.group.as_deref().unwrap_or_default(), member), ends)
            }
        }
    }

    /// Warns about resets, where records may have been skipped.
    fn warn(&self) {
        for reset in self.source.take_resets() {
            let key = &reset.topic_partition;
            let (from, to) = (reset.from, reset.to);
            let topic = printable_name(&key.topic);
            eprintln!("kavka: {topic}-{} no longer has offset {from}; continuing at {to}", key.partition);
        }
    }
}
