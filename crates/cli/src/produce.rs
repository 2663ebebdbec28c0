//! `kavka produce`: sends each line of standard input as a record.
//!
//! Ctrl-C works like the end of the input: the records read so far are delivered, and the summary counts delivered and
//! failed ones.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use kavka::blocking::Producer;
use kavka::config::producer_properties;
use kavka::{ErrorCode, ErrorKind, Header, ProducerConfig, ProducerTopic, Record};
use memchr::memmem::Finder;

use crate::arguments::ProduceArguments;
use crate::cluster::Cluster;
use crate::deliveries::Deliveries;
use crate::failure::Failure;
use crate::input::{self, Input, Reader};
use crate::output::Output;
use crate::progress::Progress;
use crate::session::{STEP, Session};

/// How much longer than `delivery.timeout.ms` to wait for the last reports.
const CLOSING: Duration = Duration::from_secs(5);

/// How long after Ctrl-C to wait for the last reports before printing how many are missing.
const SILENCE: Duration = Duration::from_secs(1);

/// Reads to the end of the input, and waits until every record is delivered or has failed.
pub(crate) fn run(cluster: &Cluster, arguments: &ProduceArguments) -> Result<(), Failure> {
    let (client, config) = producer_properties(cluster.settings(&[ProducerConfig::SETTINGS], &[])?)?;
    let session = Session::new(client)?;
    let acks = arguments.acks.unwrap_or(config.acks);
    let compression = arguments.compression.unwrap_or(config.compression);
    let config = config.acks(acks).compression(compression);
    let limit = config.delivery_timeout + CLOSING;
    let producer = session.client.producer(config)?;
    let topic = session.wait(producer.topic(&arguments.topic, !arguments.no_create))?;
    let stdin = io::stdin();
    let total_bytes = size(&stdin);
    let mut run = Run {
        shape: Shape::new(arguments),
        session,
        producer: producer.into(),
        topic,
        deliveries: Deliveries::default(),
        output: if arguments.print_offsets { Some(Output::new()?) } else { None },
        progress: Progress::new(!stdin.is_terminal(), total_bytes),
    };
    let reader = Reader::start(stdin, &arguments.separator.0);
    let read = run.read(&reader, &Finder::new(&arguments.separator.0));
    run.close(limit)?;
    run.conclude(read, arguments.quiet)
}

/// The size of standard input, in bytes, if it is a file.
fn size(stdin: &io::Stdin) -> Option<u64> {
    let file = File::from(stdin.as_fd().try_clone_to_owned().ok()?);
    file.metadata().ok().filter(std::fs::Metadata::is_file).map(|metadata| metadata.len())
}

/// How to make a record from a line.
struct Shape<'a> {
    key: Option<&'a [u8]>,
    key_separator: Option<Finder<'a>>,
    null_marker: Option<&'a [u8]>,
    headers: Vec<Header<'a>>,
    partition: Option<i32>,
}

impl<'a> Shape<'a> {
    fn new(arguments: &'a ProduceArguments) -> Self {
        let header = |text: &'a String| match text.split_once('=') {
            Some((name, value)) => Header { key: name.as_bytes(), value: Some(value.as_bytes()) },
            None => Header { key: text.as_bytes(), value: None },
        };
        Self {
            key: arguments.key.as_deref().map(str::as_bytes),
            key_separator: arguments.key_separator.as_ref().map(|separator| Finder::new(&separator.0)),
            null_marker: arguments.null_marker.as_deref().map(str::as_bytes),
            headers: arguments.headers.iter().map(header).collect(),
            partition: arguments.partition,
        }
    }

    fn record<'b>(&'b self, line: &'b [u8]) -> Record<'b> {
        let unless_null = |bytes: &'b [u8]| Some(bytes).filter(|bytes| self.null_marker != Some(*bytes));
        let split = self.key_separator.as_ref().and_then(|separator| Some((separator.find(line)?, separator)));
        let (key, value) = match split {
            Some((at, separator)) => (unless_null(&line[..at]), &line[at + separator.needle().len()..]),
            None => (self.key, line),
        };
        let value = unless_null(value);
        Record { key, value, headers: &self.headers, partition: self.partition, ..Record::default() }
    }
}

struct Run<'a> {
    shape: Shape<'a>,
    session: Session,
    producer: Producer,
    topic: ProducerTopic,
    deliveries: Deliveries,
    output: Option<Output>,
    progress: Progress,
}

impl Run<'_> {
    /// Sends every record, until the input ends, Ctrl-C comes, or the producer fails for good.
    fn read(&mut self, reader: &Reader, separator: &Finder<'_>) -> Result<(), Failure> {
        loop {
            self.session.interrupt.check()?;
            let input = reader.next(STEP).map_err(|error| Failure::io("cannot read standard input", &error))?;
            match input {
                Input::Records(piece) => {
                    for line in input::records(&piece, separator) {
                        self.send(line)?;
                    }
                }
                Input::Nothing => {}
                Input::End => return Ok(()),
            }
            self.settle()?;
        }
    }

    /// Sends one record; waits while the producer's buffer is full.
    fn send(&mut self, line: &[u8]) -> Result<(), Failure> {
        loop {
            let result = self.producer.send_within(self.topic, &self.shape.record(line), STEP);
            let error = match result {
                Ok(delivery) => {
                    self.deliveries.add(&delivery);
                    self.progress.records += 1;
                    self.progress.bytes += line.len() as u64 + 1;
                    return Ok(());
                }
                Err(error) => error,
            };
            match error.kind() {
                ErrorKind::BufferFull => {
                    self.settle()?;
                    self.session.interrupt.check()?;
                }
                // Only this record is refused; later ones can be sent.
                ErrorKind::Broker(ErrorCode::MESSAGE_TOO_LARGE) => {
                    self.deliveries.add_refused(error);
                    return Ok(());
                }
                _ => return Err(error.into()),
            }
        }
    }

    fn settle(&mut self) -> Result<(), Failure> {
        self.deliveries.settle(self.output.as_mut().map(Output::buffer));
        if let Some(output) = &mut self.output {
            output.flush().map_err(|error| Output::failure(&error))?;
        }
        self.progress.show();
        Ok(())
    }

    /// Waits for the outcome of every accepted record.
    fn close(&mut self, limit: Duration) -> Result<(), Failure> {
        let closing = self.session.client.start((*self.producer).close(limit));
        let mut interrupted: Option<Instant> = None;
        let mut is_told = false;
        // The reports say which records were not delivered, and more than this result.
        closing.wait_in_steps(None, STEP, || {
            if !is_told && self.session.interrupt.signal().is_some() {
                is_told = interrupted.get_or_insert_with(Instant::now).elapsed() >= SILENCE;
                if is_told {
                    let queued = self.producer.queued_records();
                    eprintln!("kavka: interrupted; {queued} records are not acknowledged; Ctrl-C again gives them up");
                }
            }
            self.settle()
        })?;
        self.settle()
    }

    /// Prints the summary; `read` is how the reading ended.
    fn conclude(mut self, read: Result<(), Failure>, quiet: bool) -> Result<(), Failure> {
        let Deliveries { delivered, failed, ref first_error, .. } = self.deliveries;
        self.progress.records = delivered;
        let summary = self.progress.finish();
        if let Some(error) = first_error {
            let total = delivered + failed;
            return Err(Failure::new(format!("{failed} of {total} records were not delivered: {error}")));
        }
        if let (Err(_), Some(signal)) = (&read, self.session.interrupt.signal()) {
            return Err(Failure::interrupted(
                signal,
                format!("interrupted; all that was accepted is delivered: {summary}"),
            ));
        }
        if !quiet {
            eprintln!("kavka: delivered {summary}");
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::{Arguments, Command};

    fn arguments(more: &[&str]) -> ProduceArguments {
        let Command::Produce(arguments) = Arguments::parse_from([&["kavka", "produce", "t"], more].concat()).command
        else {
            panic!("not produce");
        };
        arguments
    }

    fn key_and_value(more: &[&str], line: &str) -> (Option<String>, Option<String>) {
        let arguments = arguments(more);
        let shape = Shape::new(&arguments);
        let record = shape.record(line.as_bytes());
        let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
        (text(record.key), text(record.value))
    }

    #[test]
    fn the_first_key_separator_counts() {
        assert_eq!(key_and_value(&["--key-separator", ":"], "a:b:c"), (Some("a".into()), Some("b:c".into())));
        assert_eq!(key_and_value(&["--key-separator", ":"], ":"), (Some(String::new()), Some(String::new())));
    }

    #[test]
    fn a_line_without_a_key_separator_is_a_value_alone() {
        assert_eq!(key_and_value(&["--key-separator", r"\t"], "a:b"), (None, Some("a:b".into())));
    }

    #[test]
    fn a_null_marker_stands_for_null_in_keys_and_values_of_lines() {
        let marked = ["--key-separator", ":", "--null-marker", "NULL"];
        assert_eq!(key_and_value(&marked, "NULL:NULL"), (None, None));
        assert_eq!(key_and_value(&marked, "a:NULLS"), (Some("a".into()), Some("NULLS".into())));
    }

    #[test]
    fn a_key_for_all_records_leaves_lines_whole() {
        assert_eq!(key_and_value(&["-k", "x"], "a:b"), (Some("x".into()), Some("a:b".into())));
    }

    #[test]
    fn a_header_without_a_value_is_null() {
        let arguments = arguments(&["-H", "a=b=c", "-H", "d"]);
        let expected = [Header { key: b"a", value: Some(b"b=c") }, Header { key: b"d", value: None }];
        assert_eq!(Shape::new(&arguments).headers, expected);
    }
}
