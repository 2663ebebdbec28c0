//! A member of a group that says what it reads, and in which generation of the group. It leaves at the end of its
//! input; a line `commit` there makes it commit all that it has read, and say on standard error how that went.
//! `cargo run -p kavka --example member -- host:9092 topic group [setting=value]...`
//!
//! A line for each run of offsets: generation, partition, first and last offset. A line is written before the member
//! asks for more, and so before those offsets can be committed. Errors that a member survives go to standard error.

use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::Duration;

use kavka::blocking::{Client, GroupConsumer};
use kavka::config::group_properties;
use kavka::{Batch, CommittedOffset, Error, ErrorKind, GroupOptions, Offsets};

/// How long to wait for records before looking at the input again.
const STEP: Duration = Duration::from_millis(100);

/// How long a commit may take.
const COMMIT_LIMIT: Duration = Duration::from_secs(30);

/// How long the member may take to commit what it has read, and to leave.
const LEAVE_LIMIT: Duration = Duration::from_secs(30);

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bootstrap_servers, topic, group, settings @ ..] = &arguments[..] else {
        return Err("usage: member host:port topic group [setting=value]...".into());
    };
    let mut properties = vec![("bootstrap.servers", bootstrap_servers.as_str()), ("group.id", group)];
    properties.push(("auto.offset.reset", "earliest"));
    properties.extend(settings.iter().filter_map(|setting| setting.split_once('=')));
    let (client, consumer, config) = group_properties(properties)?;
    let member = Client::new(client)?.group_consumer(consumer, config, GroupOptions::default())?;
    member.subscribe(&[topic])?;

    let commands = commands();
    let mut read = Offsets::new();
    loop {
        match commands.try_recv() {
            Ok(command) if command == "commit" => commit(&member, &read),
            Ok(command) => return Err(format!("no such command: {command}").into()),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => break,
        }
        read_batch(&member, &mut read)?;
    }
    Ok(member.close(LEAVE_LIMIT)?)
}

/// The lines of the input. The channel closes at its end; an error ends it, too.
fn commands() -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || io::stdin().lines().map_while(io::Result::ok).try_for_each(|line| sender.send(line)));
    receiver
}

/// Commits `read` by name, even what belongs to others by now: then the commit must be refused.
fn commit(member: &GroupConsumer, read: &Offsets) {
    match member.commit_sync(read.clone(), COMMIT_LIMIT) {
        Ok(()) => eprintln!("committed"),
        Err(error) => eprintln!("commit: {:?}: {error}", error.kind()),
    }
}

fn read_batch(member: &GroupConsumer, read: &mut Offsets) -> Outcome<()> {
    let before = member.generation_id();
    match member.next_batch(STEP) {
        // A batch that was taken while the group rebalanced may belong to either generation.
        Ok(Some(batch)) => write(batch, before.filter(|_| before == member.generation_id()), read)?,
        Ok(None) => {}
        Err(error) if is_passing(&error) => eprintln!("{:?}: {error}", error.kind()),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// The member has lost its partitions and comes back, or its coordinator is away.
fn is_passing(error: &Error) -> bool {
    error.kind() == ErrorKind::Fenced || error.is_retriable()
}

fn write(mut batch: Batch, generation_id: Option<i32>, read: &mut Offsets) -> io::Result<()> {
    let generation = generation_id.map_or("-".to_owned(), |generation| generation.to_string());
    let topic_partition = batch.topic_partition().clone();
    let mut runs: Vec<(i64, i64)> = Vec::new();
    while let Some(record) = batch.next_record() {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == record.offset => *last = record.offset,
            _ => runs.push((record.offset, record.offset)),
        }
    }
    if let Some((_, last)) = runs.last() {
        read.insert(topic_partition.clone(), CommittedOffset::new(last + 1));
    }
    let mut lines = Vec::new();
    for (first, last) in runs {
        writeln!(lines, "{generation} {} {first} {last}", topic_partition.partition)?;
    }
    // One call: a killed member leaves no half of a line.
    let mut stdout = io::stdout().lock();
    stdout.write_all(&lines)?;
    stdout.flush()
}
