//! `kavka verifiable-producer`: sends numbers, and writes down what becomes of each.

use std::thread;
use std::time::{Duration, Instant};

use kavka::blocking::Producer;
use kavka::config::producer_properties;
use kavka::{ErrorKind, ProducerConfig, ProducerTopic, Record};

use super::arguments::ProducerArguments;
use super::lines::{Line, flush, now_ms};
use super::reports::{Naming, Reports};
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::output::Output;
use crate::session::{STEP, Session};

/// How many records to send before writing the reports that have come.
const BURST: u64 = 1000;

/// The longest time without writing the reports that have come.
const PAUSE: Duration = Duration::from_millis(10);

/// How much longer than `delivery.timeout.ms` to wait for the last reports.
const CLOSING: Duration = Duration::from_secs(5);

/// Sends until all is sent or a signal comes; then waits until every record has its report.
pub(crate) fn run(cluster: &Cluster, arguments: &ProducerArguments) -> Result<(), Failure> {
    let (client, config) = producer_properties(cluster.settings(&[ProducerConfig::SETTINGS], &[])?)?;
    let session = Session::new(client)?;
    let config = config.acks(arguments.acks);
    let limit = config.delivery_timeout + CLOSING;
    let mut output = Output::new()?;
    Line::new(output.buffer(), now_ms(), "startup_complete").end();
    flush(&mut output)?;
    let producer = session.client.producer(config)?;
    let topic = session.wait(producer.topic(&arguments.topic, true))?;
    let naming = Naming {
        topic: arguments.topic.clone(),
        value_prefix: arguments.value_prefix,
        repeating_keys: arguments.repeating_keys,
    };
    let started = Instant::now();
    let mut run = Run {
        session,
        producer: producer.into(),
        topic,
        naming,
        create_time: arguments.message_create_time,
        output,
        reports: Reports::default(),
        is_read: true,
        sent: 0,
        started,
    };
    let sent = run.send_all(arguments);
    run.close(limit)?;
    run.conclude(arguments.throughput)?;
    sent
}

struct Run {
    session: Session,
    producer: Producer,
    topic: ProducerTopic,
    naming: Naming,
    create_time: Option<i64>,
    output: Output,
    reports: Reports,
    /// Whether somebody reads the lines.
    is_read: bool,
    sent: u64,
    started: Instant,
}

impl Run {
    fn send_all(&mut self, arguments: &ProducerArguments) -> Result<(), Failure> {
        let count = u64::try_from(arguments.max_messages).unwrap_or(u64::MAX);
        while self.sent < count && self.is_read && self.session.interrupt.signal().is_none() {
            self.keep_pace(arguments.throughput)?;
            self.send()?;
            if self.sent.is_multiple_of(BURST) {
                self.write()?;
            }
        }
        Ok(())
    }

    /// Waits until the next record is due.
    fn keep_pace(&mut self, throughput: i64) -> Result<(), Failure> {
        let Ok(rate) = u32::try_from(throughput) else { return Ok(()) };
        let due = Duration::from_micros(self.sent.saturating_mul(1_000_000) / u64::from(rate));
        while let Some(early) = due.checked_sub(self.started.elapsed()).filter(|early| !early.is_zero()) {
            self.write()?;
            if self.session.interrupt.signal().is_some() {
                break;
            }
            thread::sleep(early.min(PAUSE));
        }
        Ok(())
    }

    /// Sends the next number. A record that is refused gets its report at once.
    fn send(&mut self) -> Result<(), Failure> {
        let number = self.sent;
        let (key, value) = (self.naming.key(number), self.naming.value(number));
        let timestamp_ms = self.create_time.map(|time| time + self.started.elapsed().as_millis() as i64);
        let record = Record {
            key: key.as_deref().map(str::as_bytes),
            value: Some(value.as_bytes()),
            timestamp_ms,
            ..Record::default()
        };
        loop {
            let error = match self.producer.send_within(self.topic, &record, STEP) {
                Ok(delivery) => {
                    self.sent += 1;
                    self.reports.add(&delivery, number);
                    return Ok(());
                }
                Err(error) => error,
            };
            if error.kind() == ErrorKind::BufferFull {
                self.write()?;
                if self.session.interrupt.signal().is_some() {
                    return Ok(());
                }
                continue;
            }
            self.sent += 1;
            self.naming.write_error(self.output.buffer(), number, None, &error);
            return if error.is_fatal() { Err(error.into()) } else { Ok(()) };
        }
    }

    fn write(&mut self) -> Result<(), Failure> {
        self.reports.write(&self.naming, self.output.buffer());
        self.is_read &= flush(&mut self.output)?;
        Ok(())
    }

    /// Waits for the report of every accepted record.
    fn close(&mut self, limit: Duration) -> Result<(), Failure> {
        let closing = self.session.client.start((*self.producer).close(limit));
        // The reports say more than this result.
        closing.wait_in_steps(None, STEP, || self.write())?;
        self.write()
    }

    fn conclude(mut self, throughput: i64) -> Result<(), Failure> {
        let average = u128::from(self.reports.acked) * 1000 / self.started.elapsed().as_millis().max(1);
        let buffer = self.output.buffer();
        Line::new(buffer, now_ms(), "shutdown_complete").end();
        let data =
            Line::new(buffer, now_ms(), "tool_data").member("sent", self.sent).member("acked", self.reports.acked);
        data.member("target_throughput", throughput).member("avg_throughput", average).end();
        flush(&mut self.output)?;
        if self.reports.is_waiting() {
            return Err(Failure::new("records without a report are left although the producer is closed"));
        }
        Ok(())
    }
}
