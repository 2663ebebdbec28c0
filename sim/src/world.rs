//! The world of one client: an application produces and consumes, faults strike by plan, and then they end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kavka_broker::{Cluster, ClusterConfig};
use kavka_core::config::{ConsumerConfig, ProducerConfig};
use kavka_core::consumer::TopicPartition;
use kavka_core::error::{Error, ErrorKind};
use kavka_core::random::Random;
use kavka_core::time::Instant;
use kavka_core::wire::ErrorCode;
use kavka_core::wire::records::{Compression, CompressionType};

use crate::Print;
use crate::adapter::{ConsumerMachine, JOURNAL, LEDGER, MachineEvent, ProducerMachine, READ, TOPIC, number, place};
use crate::client::{Client, Pair, Surroundings, admits};
use crate::journal::Journal;
use crate::judge::{self, Judge, Size};
use crate::ledger::Ledger;
use crate::network::Network;
use crate::plan::{BROKERS, PARTITIONS, Plan, Trouble};
use crate::trace::{FaultCounts, FaultKind, Trace};

/// The number of the producer's handles that are open at a time.
const HANDLES: usize = 2;
/// The number of records produced after the last fault; the first one comes `RECOVERY` milliseconds after it.
const LATE_RECORDS: u64 = 20;
const RECOVERY: u64 = 24_000;
/// How often the journal gets more records, in milliseconds.
const WRITES_EVERY: usize = 400;
/// A machine that takes more steps at one moment is due again at once every time.
const MOST_STEPS: u32 = 5_000;
/// How long after the last fault, in milliseconds, everything must be reported and read.
const END: u64 = 70_000;

/// What the application or the world does next.
#[derive(Debug)]
enum Event {
    Append,
    Read,
    /// The journal gets more records.
    Write,
    Trouble(Trouble),
    Heal,
}

#[derive(Debug)]
struct World {
    now: Instant,
    random: Random,
    plan: Plan,
    events: BTreeMap<(u64, u64), Event>,
    next_event: u64,
    network: Network,
    client: Client<Pair>,
    /// The open handles of the producer.
    handles: Vec<usize>,
    next_handle: usize,
    journal: Journal,
    /// Whether the topic that the producer writes was ever deleted, and whether it is there.
    was_renewed: bool,
    is_missing: bool,
    /// The partitions that the application has paused.
    paused: BTreeSet<i32>,
    /// How many damaged record batches the application was told of.
    told_of_damage: u64,
    judge: Judge,
    trace: Trace,
}

/// The result of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// A hash of everything that happened, in order.
    pub trace_hash: u64,
    /// How many events there were.
    pub events: u64,
    /// How many records were delivered.
    pub delivered: u64,
    /// How many records failed.
    pub failed: u64,
    /// How many faults of each kind there were.
    pub faults: FaultCounts,
    /// How long it took, in virtual time.
    pub took: Duration,
}

/// Runs one seed to its end.
///
/// # Panics
///
/// If a promise is broken.
pub fn run(seed: u64, print: Print) -> Outcome {
    let mut world = World::new(seed, print);
    world.run();
    let (delivered, failed) = world.judge.outcomes();
    let (trace_hash, events, faults) = (world.trace.hash(), world.trace.sentences(), world.trace.faults());
    Outcome { trace_hash, events, faults, delivered, failed, took: world.now.since(Instant(0)) }
}

impl World {
    fn new(seed: u64, print: Print) -> Self {
        let mut random = Random::new(seed);
        let plan = Plan::new(&mut random);
        let brokers = BROKERS as u16;
        let max_fetch_sessions = plan.fetch_sessions;
        let config = ClusterConfig {
            kafka_version: plan.kafka_version,
            brokers,
            auto_create_topics: false,
            max_fetch_sessions,
            sasl: plan.session.map(admits),
            seed,
            ..ClusterConfig::default()
        };
        let mut cluster = Cluster::new(config);
        let judge = Judge::new(create_topics(&mut cluster, &plan, &mut random));
        let mut journal = Journal::new();
        journal.create(&mut cluster, &mut random);
        let network_random = Random::new(random.next_u64());
        let producer = producer_config(&plan);
        let consumer = ConsumerConfig::default()
            .fetch_max_wait(Duration::from_millis(500))
            .max_partition_fetch_bytes(plan.fetch_bytes)
            .fetch_buffer(plan.fetch_buffer);
        let consumer = ConsumerMachine::new(consumer, READ, seed);
        let producer = ProducerMachine::new(producer, seed);
        let mut client = Client::new(
            0,
            Pair { producer, consumer },
            &[TOPIC, LEDGER, JOURNAL],
            Duration::from_secs(300),
            plan.fetch_version,
            seed,
        );
        if plan.session.is_some() {
            client = client.with_password();
        }
        (0..HANDLES).for_each(|_| client.open_handle(Instant(0)));
        let mut world = Self {
            now: Instant(0),
            network: Network::new(cluster, network_random, plan.odds, plan.latency),
            random,
            events: BTreeMap::new(),
            next_event: 0,
            client,
            handles: (0..HANDLES).collect(),
            next_handle: HANDLES,
            journal,
            was_renewed: false,
            is_missing: false,
            paused: BTreeSet::new(),
            told_of_damage: 0,
            judge,
            trace: Trace::new(print),
            plan,
        };
        world.schedule_everything();
        world
    }

    fn schedule(&mut self, at: u64, event: Event) {
        self.next_event += 1;
        self.events.insert((at, self.next_event), event);
    }

    fn schedule_everything(&mut self) {
        // In some seeds all appends come within a moment, so that batches queue up.
        let append_until = [7_000, 5_000, 400][self.random.below(3)];
        for _ in 0..self.plan.records {
            let at = self.random.below(append_until) as u64;
            // Some appends come in bursts, so that batches hold several records.
            self.schedule(at - at % 40, Event::Append);
        }
        let heal_at = self.plan.heal_at;
        for late in 0..LATE_RECORDS {
            self.schedule(heal_at + RECOVERY + late * 100, Event::Append);
        }
        for (at, trouble) in std::mem::take(&mut self.plan.troubles) {
            self.schedule(at, Event::Trouble(trouble));
        }
        for at in (0..heal_at + RECOVERY).step_by(WRITES_EVERY) {
            self.schedule(at, Event::Write);
        }
        self.schedule(heal_at, Event::Heal);
        self.schedule(0, Event::Read);
    }

    fn run(&mut self) {
        self.drive();
        let mut steps = 0;
        loop {
            let event = self.events.keys().next().map(|(at, _)| Instant(*at));
            let timers = [event, self.network.poll_timeout(), self.client.poll_timeout(self.now)];
            let next = timers.into_iter().flatten().min().expect("the application always has something to do");
            steps = if next <= self.now { steps + 1 } else { 0 };
            assert!(steps < MOST_STEPS, "at {} ms something is due again and again", self.now.0);
            self.now = next.max(self.now);
            if self.now.0 > self.plan.heal_at + END {
                break;
            }
            let mut around = Surroundings { now: self.now, network: &mut self.network, trace: &mut self.trace };
            for (link, arrival) in around.network.handle_timeout(around.now, around.trace) {
                self.client.handle_arrival(&mut around, link, arrival);
            }
            // Report outcomes before the application appends more: a record that was not buffered when an earlier one
            // failed need not fail with it.
            self.drive();
            while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= self.now.0) {
                let event = entry.remove();
                self.handle(event);
            }
            self.drive();
            if self.is_over() {
                break;
            }
        }
        self.judge.look_at(&self.network.cluster);
        self.judge.know_journal(std::mem::replace(&mut self.journal, Journal::new()));
        self.judge.judge_producer(&self.plan, Instant(self.plan.heal_at + RECOVERY));
        self.judge.judge_consumer();
    }

    /// Whether every record has been produced, reported and read.
    fn is_over(&self) -> bool {
        let is_read = |partition| {
            let end = self.network.cluster.offsets(TOPIC, partition).map(|(_, end)| end);
            self.client.machines.consumer.position(partition) == end
        };
        let is_read_ledger = |number| self.judge.is_read(number, self.client.machines.consumer.position(number));
        let is_read_journal = |number| {
            let position = self.client.machines.consumer.position(number);
            position == Some(self.journal.end(place(number).1))
        };
        self.now.0 > self.plan.heal_at + RECOVERY + LATE_RECORDS * 100
            && self.client.machines.producer.is_idle()
            && self.judge.unreported() == 0
            && (0..PARTITIONS).all(is_read)
            && (PARTITIONS..2 * PARTITIONS).all(is_read_ledger)
            && (2 * PARTITIONS..READ).all(is_read_journal)
    }

    fn drive(&mut self) {
        let mut around = Surroundings { now: self.now, network: &mut self.network, trace: &mut self.trace };
        self.client.drive(&mut around);
        while let Some(event) = self.client.events.pop_front() {
            self.hear(event);
        }
        for partition in 0..READ {
            let (topic, index) = place(partition);
            let start = self.network.cluster.offsets(topic, index).map(|(start, _)| start);
            if let Some((position, start)) = self.client.machines.consumer.position(partition).zip(start) {
                self.judge.shown(partition, position, start);
            }
        }
    }

    fn hear(&mut self, event: MachineEvent) {
        match event {
            MachineEvent::Completed(completed) => self.judge.reported(self.now, &mut self.trace, completed),
            MachineEvent::Reset(key, from, to) => {
                self.trace.say(self.now, format_args!("{key:?} is reset from offset {from} to {to}"));
                let start = self.network.cluster.offsets(&key.topic, key.partition).map(|(start, _)| start);
                // The log may have grown since its leader said so.
                let was_beyond = *key.topic == *JOURNAL
                    && self.journal.was_shorter(key.partition, from)
                    && !self.judge.has_read_on(number(&key));
                assert!(
                    was_beyond || start.is_some_and(|start| from < start),
                    "reset although offset {from} is there: {start:?}"
                );
                self.judge.moved(number(&key), to);
            }
            MachineEvent::PartitionError(key, error) => self.hear_error(&key, &error),
            MachineEvent::TopicError(topic, error) => {
                self.trace.say(self.now, format_args!("the application is told of {topic}: {error}"));
                let is_right = *topic == *JOURNAL && self.journal.was_deleted() || *topic == *TOPIC && self.was_renewed;
                assert!(is_right, "nothing is wrong with {topic}, and yet: {error}");
            }
            MachineEvent::Failed(error) if self.makes_sense(&error) => {
                self.trace.say(self.now, format_args!("the application is told: {error}"));
            }
            MachineEvent::Failed(error) => panic!("nothing is wrong, and yet: {error}"),
            MachineEvent::Notice(_) => unreachable!("the client has taken it"),
        }
    }

    /// Whether a broker has sent something that cannot be understood, as this error says.
    fn makes_sense(&self, error: &Error) -> bool {
        error.kind() == ErrorKind::Malformed && self.network.has_wrong_ids()
    }

    /// The consumer has stopped reading a partition. The application lets it go on where it was, or where the log has
    /// changed.
    fn hear_error(&mut self, key: &TopicPartition, error: &Error) {
        let (now, number) = (self.now, number(key));
        self.trace.say(now, format_args!("the application is told of {key}: {error}"));
        let is_about_history = matches!(
            error.kind(),
            ErrorKind::Broker(ErrorCode::OFFSET_OUT_OF_RANGE | ErrorCode::INCONSISTENT_TOPIC_ID)
        );
        let to = if is_about_history && *key.topic == *JOURNAL {
            self.journal.take_change(key.partition)
        } else if is_about_history && *key.topic == *TOPIC && self.was_renewed {
            Some(0)
        } else {
            self.told_of_damage += 1;
            let is_damaged = !is_about_history && self.told_of_damage <= self.network.damaged();
            self.client.machines.consumer.position(number).filter(|_| is_damaged)
        };
        let Some(to) = to else { panic!("nothing is wrong with {key}, and yet: {error}") };
        self.trace.say(now, format_args!("the application seeks {key} to {to}"));
        self.client.machines.consumer.seek(number, to);
        self.judge.moved(number, to);
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Append => self.append(),
            Event::Read => self.read(),
            Event::Write => {
                self.journal.create(&mut self.network.cluster, &mut self.random);
                self.journal.write(self.now, &mut self.network.cluster, &mut self.random);
                if self.is_missing && self.random.below(4) == 0 {
                    // Fails if too few brokers are up; then it is tried again.
                    self.is_missing = !create_topic(&mut self.network.cluster, &self.plan);
                }
                self.network.settle(self.now, &mut self.trace);
            }
            Event::Trouble(trouble) => self.make(trouble),
            Event::Heal => self.heal(),
        }
    }

    fn append(&mut self) {
        let partition = self.random.below(PARTITIONS as usize) as i32;
        let id = self.judge.next_id();
        let size = match self.plan {
            Plan { max_message_bytes: Some(_), .. } if self.random.below(100) == 0 => Size::Fat,
            Plan { has_huge_batches: true, .. } if self.random.below(4) == 0 => Size::Huge,
            _ => Size::Small,
        };
        let turn = self.random.below(HANDLES);
        let handle = self.handles[turn];
        if let Some(appended) =
            self.client.machines.producer.append(self.now, handle, partition, &judge::value(id, size))
        {
            self.trace.say(
                self.now,
                format_args!("{size:?} record {id} is accepted from handle {handle} for partition {partition}"),
            );
            self.judge.accepted(self.now, (handle, partition), size, appended.completion);
        }
        if self.random.below(20) == 0 {
            self.client.machines.producer.flush(self.now, handle);
        }
        if self.random.below(50) == 0 {
            self.trace.say(self.now, format_args!("handle {handle} is released, and another one opened"));
            self.client.machines.producer.release(self.now, handle);
            self.client.open_handle(self.now);
            self.handles[turn] = self.next_handle;
            self.next_handle += 1;
        }
    }

    /// What the application does when it reads: takes a batch or a part of one, seeks, pauses.
    fn read(&mut self) {
        let partition = self.random.below(READ as usize) as i32;
        let is_wild = self.now.0 < self.plan.heal_at;
        if is_wild && self.random.below(100) < 2 {
            let offset = self.random.below(60) as i64;
            if self.client.machines.consumer.position(partition).is_some_and(|position| offset <= position) {
                self.trace.say(self.now, format_args!("the application seeks partition {partition} to {offset}"));
                self.client.machines.consumer.seek(partition, offset);
                self.judge.moved(partition, offset);
            }
        }
        let is_paused = is_wild && self.random.below(100) < 3;
        if is_paused || self.random.below(3) == 0 {
            self.client.machines.consumer.set_paused(partition, is_paused);
            if is_paused {
                self.paused.insert(partition)
            } else {
                self.paused.remove(&partition)
            };
        }
        let limit = if is_wild && self.random.below(3) == 0 { 1 } else { usize::MAX };
        if let Some((partition, given)) = self.client.machines.consumer.take(limit) {
            let offsets: Vec<i64> = given.iter().map(|given| given.offset).collect();
            self.trace.say(self.now, format_args!("partition {partition} hands out {offsets:?}"));
            let is_paused = self.paused.contains(&partition) && !given.is_empty();
            assert!(!is_paused, "partition {partition} is paused, and yet hands out {offsets:?}");
            self.judge.given(partition, given);
        }
        let wait = 1 + self.random.below(30) as u64;
        self.schedule(self.now.0 + wait, Event::Read);
    }

    fn make(&mut self, trouble: Trouble) {
        self.trace.say(self.now, format_args!("trouble: {trouble}"));
        let now = self.now;
        let cluster = &mut self.network.cluster;
        match trouble {
            Trouble::Broker(trouble) => self.network.trouble(now, &mut self.trace, trouble),
            Trouble::MoveLeader(number) => {
                let (topic, partition) = place(number);
                let broker = self.random.below(BROKERS as usize) as i32 + 1;
                // Fails if the broker is down and cannot lead; then nothing happens.
                let is_moved = cluster.move_leader(now, topic, partition, broker).is_ok();
                self.trace.count_if(is_moved, FaultKind::LeaderMove);
            }
            Trouble::DeleteRecords(partition) => {
                self.judge.look_at(cluster);
                if let Some((start, end)) = cluster.offsets(TOPIC, partition) {
                    cluster.delete_records(TOPIC, partition, start.midpoint(end)).expect("the partition is there");
                    self.trace.count(FaultKind::Deletion);
                }
            }
            Trouble::BeginLag(broker, hidden) => {
                cluster.begin_lag(broker, hidden);
                self.trace.count(FaultKind::Lag);
            }
            Trouble::EndLag(broker) => cluster.end_lag(broker),
            Trouble::Grow => {
                let is_there = cluster.add_partition(TOPIC).is_ok();
                self.trace.count_if(is_there, FaultKind::Growth);
            }
            Trouble::Renew => {
                self.judge.about_to_renew(cluster);
                cluster.delete_topic(now, TOPIC);
                (self.was_renewed, self.is_missing) = (true, true);
                self.trace.count(FaultKind::NewTopic);
            }
            Trouble::Truncate(partition) => {
                self.journal.truncate(now, cluster, partition, &mut self.random);
                self.trace.count(FaultKind::Truncation);
            }
            Trouble::DeleteJournal => {
                self.journal.delete(now, cluster);
                self.trace.count(FaultKind::NewTopic);
            }
            Trouble::CreateJournal => self.journal.create(cluster, &mut self.random),
            Trouble::ChangeVersion(version) => {
                cluster.change_version(now, version);
                self.trace.count(FaultKind::Version);
            }
        }
        self.network.settle(now, &mut self.trace);
    }

    fn heal(&mut self) {
        self.trace.say(self.now, format_args!("all trouble ends"));
        self.network.heal(self.now, &mut self.trace);
        self.network.settle(self.now, &mut self.trace);
    }
}

/// Creates the topic that the producer writes. Returns whether that was possible.
fn create_topic(cluster: &mut Cluster, plan: &Plan) -> bool {
    let is_created = cluster.create_topic(TOPIC, PARTITIONS, BROKERS as i16).is_ok();
    if let Some(bytes) = plan.max_message_bytes.filter(|_| is_created) {
        cluster.set_topic_config(TOPIC, "max.message.bytes", &bytes.to_string()).expect("a setting that exists");
    }
    is_created
}

/// Creates both topics; returns what a reader must see of each partition of the ledger.
fn create_topics(cluster: &mut Cluster, plan: &Plan, random: &mut Random) -> Vec<BTreeMap<i64, Vec<u8>>> {
    assert!(create_topic(cluster, plan), "a new topic can be created while all brokers are up");
    cluster.create_topic(LEDGER, PARTITIONS, BROKERS as i16).expect("a new topic");
    let ledgers = (0..PARTITIONS).map(|partition| {
        let ledger = Ledger::written(random, "ledger");
        for batch in ledger.batches {
            cluster.replicate(Instant(0), LEDGER, partition, batch).expect("a whole batch");
        }
        ledger.visible
    });
    ledgers.collect()
}

fn producer_config(plan: &Plan) -> ProducerConfig {
    let lz4 = || Compression::from(CompressionType::Lz4);
    ProducerConfig::default()
        .delivery_timeout(plan.delivery_timeout)
        .batch_size(plan.batch_bytes)
        .linger(plan.linger)
        .idempotence(Some(plan.is_idempotent))
        .compression(if plan.is_compressed { lz4() } else { Compression::default() })
}
