//! A workload whose outcome is compared with what is really in the log.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kavka::blocking::{Consumer, Delivery, Producer};
use kavka::{
    Client, ClientConfig, ConsumerConfig, Error, ProducerConfig, ProducerTopic, Record, RecordMetadata, StartPosition,
    TopicPartition,
};
use kavka_broker::serve::Broker;
use kavka_test_support::batches::stored;
use kavka_test_support::rig::{self, TOPIC};
use kavka_test_support::{LIMIT, brokers};

/// Settings with which a client notices faults and retries quickly.
pub(crate) fn fast() -> ClientConfig {
    ClientConfig::default()
        .request_timeout(Duration::from_millis(500))
        .retry_backoff(Duration::from_millis(10))
        .retry_backoff_max(Duration::from_millis(50))
        .reconnect_backoff(Duration::from_millis(10))
        .reconnect_backoff_max(Duration::from_millis(50))
}

/// What to send, and how.
pub(crate) struct Workload {
    pub(crate) partitions: i32,
    pub(crate) records: usize,
    pub(crate) client: ClientConfig,
    pub(crate) producer: ProducerConfig,
}

impl Default for Workload {
    fn default() -> Self {
        // Batches of a few records: many requests, five of them in flight at once.
        let producer = ProducerConfig::default().batch_size(300);
        Self { partitions: 3, records: 3000, client: fast(), producer }
    }
}

/// Three brokers, a producer and a consumer, with their first connections open.
pub(crate) struct Run {
    pub(crate) broker: Broker,
    pub(crate) producer: Producer,
    pub(crate) topic: ProducerTopic,
    client: Client,
    partitions: i32,
    records: usize,
}

impl Run {
    pub(crate) fn new(workload: &Workload) -> Self {
        let broker = brokers::start(3);
        broker.with(|cluster, _| cluster.create_topic(TOPIC, workload.partitions, 3)).unwrap();
        let bootstrap_servers = rig::servers(&broker);
        let client = Client::new(workload.client.clone().bootstrap_servers(bootstrap_servers)).unwrap();
        let producer = Producer::from(client.producer(workload.producer.clone()).unwrap());
        let topic = rig::find_topic(&client, &producer, TOPIC, false).unwrap();
        Self { broker, producer, topic, client, partitions: workload.partitions, records: workload.records }
    }

    /// Sends the number to one of the partitions, in turn.
    pub(crate) fn send(&self, number: usize) -> Delivery {
        let value = number.to_string();
        let partition = Some(number as i32 % self.partitions);
        let record = Record { value: Some(value.as_bytes()), partition, ..Record::default() };
        self.producer.send_within(self.topic, &record, LIMIT).unwrap()
    }

    /// The offsets and values in a partition, from the broker's memory.
    pub(crate) fn log(&self, partition: i32) -> Vec<(i64, String)> {
        let stored = stored(self.broker.with(|cluster, _| cluster.batches(TOPIC, partition)));
        stored.into_iter().map(|(offset, value)| (offset, String::from_utf8(value).unwrap())).collect()
    }

    /// Makes the next broker the leader of a partition.
    pub(crate) fn move_leader(&self, partition: i32) {
        self.broker.with(|cluster, now| {
            let leader = cluster.leader(TOPIC, partition).map_or(1, |(leader, _)| leader);
            cluster.move_leader(now, TOPIC, partition, leader % 3 + 1).unwrap();
        });
    }

    /// Sends the workload's records, and calls `during` before each, while a consumer reads; then checks everything.
    /// Returns how many requests the faults have hit.
    pub(crate) fn finish(self, mut during: impl FnMut(&Self, usize)) -> u64 {
        let consumer = Consumer::from(self.client.consumer(ConsumerConfig::default()).unwrap());
        for partition in 0..self.partitions {
            consumer.add(&TopicPartition::new(TOPIC, partition), StartPosition::Earliest).unwrap();
        }
        let is_failed = AtomicBool::new(false);
        let read = thread::scope(|scope| {
            let reading = scope.spawn(|| read(&consumer, self.records, &is_failed));
            let written = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.write(&mut during)));
            if let Err(panic) = written {
                is_failed.store(true, Ordering::Relaxed);
                std::panic::resume_unwind(panic);
            }
            reading.join().unwrap()
        });
        for partition in 0..self.partitions {
            assert_eq!(
                read.get(&partition).cloned().unwrap_or_default(),
                self.log(partition),
                "what is read is the log"
            );
        }
        self.broker.with(|cluster, _| cluster.faults().injected())
    }

    fn write(&self, during: &mut impl FnMut(&Self, usize)) {
        let mut deliveries = Vec::new();
        for number in 0..self.records {
            during(self, number);
            deliveries.push(self.send(number));
            if number % 20 == 0 {
                // So that there are many requests, and the faults hit different ones.
                thread::sleep(Duration::from_millis(1));
            }
        }
        self.producer.flush();
        for partition in 0..self.partitions {
            let numbers = (partition as usize..self.records).step_by(self.partitions as usize);
            let expected: Vec<_> = (0..).zip(numbers.map(|number| number.to_string())).collect();
            assert_eq!(self.log(partition), expected, "nothing lost, repeated or out of order in {partition}");
        }
        for (number, delivery) in deliveries.iter().enumerate() {
            let report = delivery.outcome().expect("a flush leaves nothing unreported").unwrap();
            let place = (number as i32 % self.partitions, Some((number / self.partitions as usize) as i64));
            assert_eq!((report.partition, report.offset), place, "the report of {number}");
        }
    }
}

/// The records of each partition, in the order in which they arrived.
fn read(consumer: &Consumer, count: usize, is_failed: &AtomicBool) -> BTreeMap<i32, Vec<(i64, String)>> {
    let begin = Instant::now();
    let mut read = BTreeMap::<i32, Vec<(i64, String)>>::new();
    let mut seen = 0;
    while seen < count && !is_failed.load(Ordering::Relaxed) {
        for record in consumer.next_records(count, Duration::from_millis(200)).unwrap() {
            let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            read.entry(record.topic_partition.partition).or_default().push((record.offset, value));
            seen += 1;
        }
        assert!(begin.elapsed() < LIMIT, "{seen} of {count} records were read");
    }
    read
}

pub(crate) fn error_of(outcome: kavka::Result<RecordMetadata>) -> Error {
    outcome.expect_err("it cannot be delivered")
}
