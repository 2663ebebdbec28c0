//! `kavka verifiable-consumer`: reads as a member of a group, and writes down all that happens to it.
//!
//! All lines are written by one thread. The listener hands its events to that thread and waits until they are written,
//! so the order of the lines is the order of the events: no record of a partition is written behind its revocation.
//! Records are written before their offsets are committed.

use std::io::Write;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::Duration;

use crc_fast::{CrcAlgorithm, Digest};
use kavka::blocking::GroupConsumer;
use kavka::config::group_properties;
use kavka::{
    Batch, CommittedOffset, ConsumerConfig, Error, ErrorCode, ErrorKind, GroupConfig, GroupOptions, Offsets,
    RebalanceListener, StartPosition, TopicPartition, Uuid,
};

use super::arguments::{ConsumerArguments, assignors};
use super::lines::{Line, flush, now_ms, write_partition};
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::output::Output;
use crate::session::{STEP, Session};

/// How many records to write down before they are committed, while more are ready.
const POLL_RECORDS: u64 = 5000;

/// How long a commit may take.
const COMMIT_LIMIT: Duration = Duration::from_secs(30);

/// How long the member may take to give up its partitions and leave.
const LEAVE_LIMIT: Duration = Duration::from_secs(30);

/// Reads until all is read or a signal comes; then leaves the group.
pub(crate) fn run(cluster: &Cluster, arguments: &ConsumerArguments) -> Result<(), Failure> {
    let defaults = defaults(arguments);
    let defaults: Vec<_> = defaults.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let settings = cluster.settings(&[ConsumerConfig::SETTINGS, GroupConfig::SETTINGS], &defaults)?;
    let (client, consumer, config) = group_properties(settings)?;
    let session = Session::new(client)?;
    let (sender, events) = mpsc::channel();
    let options = GroupOptions::default().listener(Listener(sender));
    let member = session.client.group_consumer(consumer, config, options)?;
    let mut output = Output::new()?;
    Line::new(output.buffer(), now_ms(), "startup_complete").end();
    flush(&mut output)?;
    member.subscribe(&[&arguments.topic])?;
    let left = u64::try_from(arguments.max_messages).unwrap_or(u64::MAX);
    let mut run = Run {
        session,
        member: member.into(),
        events,
        output,
        is_read: true,
        commits: !arguments.enable_autocommit,
        is_verbose: arguments.verbose,
        left,
        uncommitted: Offsets::new(),
        uncommitted_records: 0,
    };
    let read = run.read();
    run.leave()?;
    read
}

/// The settings that the options stand for.
fn defaults(arguments: &ConsumerArguments) -> Vec<(&'static str, String)> {
    let mut defaults = vec![
        ("group.id", arguments.group_id.clone()),
        ("group.protocol", arguments.group_protocol.to_ascii_lowercase()),
        ("enable.auto.commit", arguments.enable_autocommit.to_string()),
        ("auto.offset.reset", arguments.reset_policy.clone()),
    ];
    if arguments.group_protocol.eq_ignore_ascii_case("consumer") {
        defaults.extend(arguments.group_remote_assignor.clone().map(|name| ("group.remote.assignor", name)));
    } else {
        let timeout = arguments.session_timeout;
        defaults.push(("session.timeout.ms", timeout.to_string()));
        // A third of the session, as Kafka advises, and no more than its default.
        defaults.push(("heartbeat.interval.ms", (timeout / 3).clamp(1, 3000).to_string()));
        defaults.push(("partition.assignment.strategy", assignors(&arguments.assignment_strategy)));
    }
    defaults.extend(arguments.group_instance_id.clone().map(|name| ("group.instance.id", name)));
    defaults
}

/// What the group did to the member. It continues when `written` is dropped.
struct Event {
    kind: EventKind,
    partitions: Vec<TopicPartition>,
    written: SyncSender<()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum EventKind {
    Assigned,
    Revoked,
    Lost,
}

/// Hands events to the thread that writes.
struct Listener(mpsc::Sender<Event>);

impl Listener {
    fn tell(&self, kind: EventKind, partitions: &[TopicPartition]) {
        let (written, is_written) = mpsc::sync_channel(0);
        // The thread that writes may have ended after a failure.
        if self.0.send(Event { kind, partitions: partitions.to_vec(), written }).is_ok() {
            let _ = is_written.recv();
        }
    }
}

impl RebalanceListener for Listener {
    fn on_assigned(&self, _: &kavka::GroupConsumer, partitions: &[TopicPartition]) {
        self.tell(EventKind::Assigned, partitions);
    }

    fn on_revoked(&self, _: &kavka::GroupConsumer, partitions: &[TopicPartition]) {
        self.tell(EventKind::Revoked, partitions);
    }

    fn on_lost(&self, _: &kavka::GroupConsumer, partitions: &[TopicPartition]) {
        self.tell(EventKind::Lost, partitions);
    }
}

/// What was read from a batch.
struct Summary {
    key: TopicPartition,
    topic_id: Uuid,
    count: u64,
    min_offset: i64,
    max_offset: i64,
    crc32: u32,
}

struct Run {
    session: Session,
    member: GroupConsumer,
    events: Receiver<Event>,
    output: Output,
    /// Whether somebody reads the lines.
    is_read: bool,
    commits: bool,
    is_verbose: bool,
    /// How many more records to read.
    left: u64,
    uncommitted: Offsets,
    uncommitted_records: u64,
}

impl Run {
    fn read(&mut self) -> Result<(), Failure> {
        while self.left > 0 && self.is_read && self.session.interrupt.signal().is_none() {
            self.handle_events()?;
            let mut batch = self.next(|member| member.try_batch())?;
            if batch.is_none() || self.uncommitted_records >= POLL_RECORDS {
                self.commit()?;
            }
            if batch.is_none() {
                batch = self.next(|member| member.next_batch(STEP))?;
            }
            // First: the batch may be from behind a reset. One that comes later ends it.
            self.write_resets()?;
            if let Some(batch) = batch {
                self.write_batch(batch)?;
            }
        }
        self.commit()
    }

    /// A batch if there is one. Errors that a member survives go to standard error.
    fn next(&mut self, ask: impl Fn(&GroupConsumer) -> kavka::Result<Option<Batch>>) -> Result<Option<Batch>, Failure> {
        match ask(&self.member) {
            Err(error) if error.code() == Some(ErrorCode::INCONSISTENT_TOPIC_ID) => self.begin_anew(&error),
            Err(error) if error.kind() == ErrorKind::Fenced || error.is_retriable() => {
                eprintln!("kavka: {error}");
                Ok(None)
            }
            batch => Ok(batch?),
        }
    }

    /// Starts at the beginning of a partition whose topic was deleted and created again. What was read of the old topic
    /// is not committed for the new one.
    fn begin_anew(&mut self, error: &Error) -> Result<Option<Batch>, Failure> {
        let place = error.place();
        let (Some(topic), Some(partition)) = (&place.topic, place.partition) else { return Err(error.clone().into()) };
        let key = TopicPartition { topic: Arc::clone(topic), partition };
        self.uncommitted.remove(&key);
        let line = Line::new(self.output.buffer(), now_ms(), "topic_created_again").text("topic", &key.topic);
        line.member("partition", partition).text("message", &error.to_string()).end();
        self.flush()?;
        if let Err(error) = self.member.seek(&key, StartPosition::Earliest) {
            // The group has taken it away meanwhile.
            eprintln!("kavka: {error}");
        }
        Ok(None)
    }

    fn write_batch(&mut self, mut batch: Batch) -> Result<(), Failure> {
        let Some((time, summary)) = self.take(&mut batch) else { return self.wait_for_event() };
        drop(batch);
        self.left -= summary.count;
        self.uncommitted_records += summary.count;
        let topic_id = summary.topic_id;
        let committed = CommittedOffset { topic_id, ..CommittedOffset::new(summary.max_offset + 1) };
        self.uncommitted.insert(summary.key.clone(), committed);
        let line = Line::new(self.output.buffer(), time, "records_consumed").member("count", summary.count);
        line.list("partitions", [summary], write_summary).end();
        self.flush()
    }

    /// Takes the records of a batch; `None` if they are no longer this member's, or may not be. Also returns when it
    /// asked for the last one: the process may be frozen at any moment behind that, and others have the partition then.
    fn take(&mut self, batch: &mut Batch) -> Option<(u128, Summary)> {
        let key = batch.topic_partition().clone();
        let mut digest = Digest::new(CrcAlgorithm::Crc32IsoHdlc);
        let mut offsets = None;
        let (mut count, mut text, mut time) = (0, Vec::new(), now_ms());
        while count < self.left {
            let asked = now_ms();
            let Some(record) = batch.next_record() else { break };
            time = asked;
            let data = batch.data();
            let (record_key, value) = (record.key.map(|span| span.of(data)), record.value.map(|span| span.of(data)));
            if self.is_verbose {
                let line = Line::new(self.output.buffer(), now_ms(), "record_data").bytes("key", record_key);
                let line = line.bytes("value", value).text("topic", &key.topic);
                line.member("partition", key.partition).member("offset", record.offset).end();
            }
            text.clear();
            // Writing to a Vec cannot fail.
            let _ = write!(text, "{} ", record.offset);
            text.extend_from_slice(record_key.unwrap_or_default());
            text.push(b' ');
            text.extend_from_slice(value.unwrap_or_default());
            text.push(b'\n');
            digest.update(&text);
            offsets = Some((offsets.map_or(record.offset, |(first, _)| first), record.offset));
            count += 1;
        }
        let (min_offset, max_offset) = offsets?;
        let (topic_id, crc32) = (batch.topic_id(), digest.finalize() as u32);
        Some((time, Summary { key, topic_id, count, min_offset, max_offset, crc32 }))
    }

    fn write_resets(&mut self) -> Result<(), Failure> {
        for reset in self.member.take_resets() {
            let key = &reset.topic_partition;
            let line = Line::new(self.output.buffer(), now_ms(), "offsets_reset").text("topic", &key.topic);
            line.member("partition", key.partition).member("from", reset.from).member("to", reset.to).end();
            self.flush()?;
        }
        Ok(())
    }

    /// Commits what was written down since the last commit, and writes down how that went.
    fn commit(&mut self) -> Result<(), Failure> {
        self.uncommitted_records = 0;
        let offsets = std::mem::take(&mut self.uncommitted);
        if !self.commits || offsets.is_empty() {
            return Ok(());
        }
        let outcome = self.member.commit_sync(offsets.clone(), COMMIT_LIMIT);
        let line = Line::new(self.output.buffer(), now_ms(), "offsets_committed");
        let mut line = line.list("offsets", &offsets, write_offset);
        if let Err(error) = &outcome {
            line = line.text("error", &error.to_string());
        }
        line.member("success", outcome.is_ok()).end();
        self.flush()
    }

    /// Writes what the group did to this member meanwhile.
    fn handle_events(&mut self) -> Result<(), Failure> {
        while let Ok(event) = self.events.try_recv() {
            self.handle(event)?;
        }
        Ok(())
    }

    fn wait_for_event(&mut self) -> Result<(), Failure> {
        match self.events.recv_timeout(STEP) {
            Ok(event) => self.handle(event),
            Err(_) => Ok(()),
        }
    }

    fn handle(&mut self, event: Event) -> Result<(), Failure> {
        let name = match event.kind {
            EventKind::Assigned => "partitions_assigned",
            EventKind::Revoked | EventKind::Lost => "partitions_revoked",
        };
        if event.kind == EventKind::Revoked {
            self.commit()?;
        } else {
            // Others may have these partitions by now, so the coordinator would refuse to commit them.
            self.uncommitted.retain(|key, _| !event.partitions.contains(key));
        }
        let line = Line::new(self.output.buffer(), now_ms(), name);
        let mut line = line.list("partitions", &event.partitions, write_partition);
        if event.kind == EventKind::Lost {
            line = line.member("lost", true);
        }
        line.end();
        self.flush()?;
        drop(event.written);
        Ok(())
    }

    /// Gives up all partitions, and leaves.
    fn leave(&mut self) -> Result<(), Failure> {
        let leaving = self.session.client.start((*self.member).close(LEAVE_LIMIT));
        let left = leaving.wait_in_steps(None, STEP, || self.handle_events())?;
        self.handle_events()?;
        Line::new(self.output.buffer(), now_ms(), "shutdown_complete").end();
        self.flush()?;
        Ok(left.unwrap_or(Ok(()))?)
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.is_read &= flush(&mut self.output)?;
        Ok(())
    }
}

// Writing to a Vec cannot fail, and topic names contain no character that JSON escapes.

fn write_summary(out: &mut Vec<u8>, summary: Summary) {
    let Summary { key, count, min_offset, max_offset, crc32, .. } = summary;
    let _ = write!(
        out,
        r#"{{"topic":"{}","partition":{},"count":{count},"minOffset":{min_offset},"maxOffset":{max_offset},"crc32":{crc32}}}"#,
        key.topic, key.partition
    );
}

fn write_offset(out: &mut Vec<u8>, (key, offset): (&TopicPartition, &CommittedOffset)) {
    let (topic, partition) = (&key.topic, key.partition);
    let _ = write!(out, r#"{{"topic":"{topic}","partition":{partition},"offset":{}}}"#, offset.offset);
}
