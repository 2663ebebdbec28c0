//! `kavka consume`: the records of a topic, on standard output.
//!
//! Output is buffered, and flushed whenever no record is ready: a program behind a pipe sees records as they arrive,
//! and large amounts still go in large writes.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};

use kavka::config::consumer_properties;
use kavka::{Batch, Consumer, IsolationLevel, StartPosition, TopicPartition};

use crate::arguments::{Cluster, ConsumeArguments};
use crate::failure::Failure;
use crate::output::{Output, is_closed};
use crate::progress::Progress;
use crate::session::{STEP, Session};
use crate::start::Start;
use crate::template::write_json;

/// Prints until `-n` or `--exit-at-end` is met, Ctrl-C comes, or the reader of the output goes away.
pub(crate) fn run(cluster: &Cluster, arguments: &ConsumeArguments) -> Result<(), Failure> {
    let reset = match arguments.from {
        // A user who names an offset wants that offset: fail if it does not exist.
        Start::At(StartPosition::Offset(_)) => "none",
        _ => "earliest",
    };
    let (client, config) = consumer_properties(cluster.settings(&[("auto.offset.reset", reset)]))?;
    let session = Session::new(client)?;
    let keys = keys(&session, arguments)?;
    let ends = if arguments.exit_at_end { Some(ends(&session, keys.clone())?) } else { None };
    let starts = starts(&session, keys, arguments.from)?;
    let consumer = session.client.consumer(config)?;
    for (key, start) in &starts {
        consumer.add(key, *start)?;
    }
    let mut run = Run {
        arguments,
        consumer,
        ends,
        left: arguments.count.unwrap_or(u64::MAX),
        output: Output::new()?,
        progress: Progress::new(!io::stdout().is_terminal(), None),
    };
    let result = run.print(&session);
    run.progress.finish();
    result
}

/// The partitions to read.
fn keys(session: &Session, arguments: &ConsumeArguments) -> Result<Vec<TopicPartition>, Failure> {
    let (client, name) = (session.client.clone(), arguments.topic.clone());
    let topic = session.wait(async move { client.topic(&name, false).await })?;
    let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
    let mut partitions = arguments.partitions.clone();
    partitions.sort_unstable();
    partitions.dedup();
    if partitions.is_empty() {
        partitions = (0..count).collect();
    }
    if let Some(beyond) = partitions.iter().find(|partition| **partition >= count) {
        let sentence = format!("no such partition: {}-{beyond}; the topic has {count}, which begin at 0", topic.name);
        return Err(Failure::usage(sentence));
    }
    Ok(partitions.into_iter().map(|partition| TopicPartition::new(topic.name.clone(), partition)).collect())
}

/// Where to begin in each partition.
fn starts(
    session: &Session,
    keys: Vec<TopicPartition>,
    from: Start,
) -> Result<Vec<(TopicPartition, StartPosition)>, Failure> {
    let count = match from {
        Start::At(start) => return Ok(keys.into_iter().map(|key| (key, start)).collect()),
        Start::Last(count) => count,
    };
    let (client, asked) = (session.client.clone(), keys.clone());
    let beginnings = session.wait(async move { client.beginning_offsets(&asked, client.max_block()).await })?;
    let start = |(key, end): (TopicPartition, i64)| {
        let beginning = beginnings.get(&key).copied().unwrap_or(0);
        (key, StartPosition::Offset(beginning.max(end.saturating_sub(count))))
    };
    Ok(ends(session, keys)?.into_iter().map(start).collect())
}

/// Where each partition ends now.
fn ends(session: &Session, keys: Vec<TopicPartition>) -> Result<BTreeMap<TopicPartition, i64>, Failure> {
    let client = session.client.clone();
    session.wait(async move { client.end_offsets(&keys, IsolationLevel::ReadCommitted, client.max_block()).await })
}

struct Run<'a> {
    arguments: &'a ConsumeArguments,
    consumer: Consumer,
    /// With `--exit-at-end`: where each partition ended at the start. A partition leaves when it is read that far.
    ends: Option<BTreeMap<TopicPartition, i64>>,
    /// How many records may still be printed.
    left: u64,
    output: Output,
    progress: Progress,
}

impl Run<'_> {
    fn print(&mut self, session: &Session) -> Result<(), Failure> {
        let result = self.batches(session);
        let flushed = self.output.flush();
        match flushed {
            Err(error) if !is_closed(&error) => result.and(Err(Output::failure(&error))),
            _ => result,
        }
    }

    fn batches(&mut self, session: &Session) -> Result<(), Failure> {
        while self.left > 0 && !self.is_at_end() {
            session.interrupt.check()?;
            let mut batch = self.consumer.try_batch()?;
            if batch.is_none() {
                if let Err(error) = self.output.flush() {
                    return if is_closed(&error) { Ok(()) } else { Err(Output::failure(&error)) };
                }
                batch = self.consumer.wait_batch(STEP)?;
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
        let end = self.ends.as_ref().map_or(i64::MAX, |ends| ends.get(batch.topic_partition()).copied().unwrap_or(0));
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
        Ok(())
    }

    /// Whether every partition was read to where it ended at the start. Partitions that were are removed.
    fn is_at_end(&mut self) -> bool {
        let Some(ends) = &mut self.ends else { return false };
        ends.retain(|key, end| {
            let is_open = self.consumer.position(key).is_none_or(|position| position < *end);
            if !is_open {
                // The consumer has this partition, so removing it cannot fail.
                drop(self.consumer.remove(key));
            }
            is_open
        });
        ends.is_empty()
    }

    /// Warns of offsets that no longer exist, where records were skipped.
    fn warn(&self) {
        for reset in self.consumer.take_resets() {
            let key = &reset.topic_partition;
            let (from, to) = (reset.from, reset.to);
            eprintln!("kavka: {}-{} has no offset {from} any more; going on at {to}", key.topic, key.partition);
        }
    }
}
