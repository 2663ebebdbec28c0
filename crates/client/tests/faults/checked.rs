//! A workload whose outcome is held against what is truly in the log.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kavka::{
    Client, ClientConfig, Consumer, ConsumerConfig, Delivery, Error, Producer, ProducerConfig, ProducerTopic, Record,
    RecordMetadata, StartPosition, TopicPartition,
};
use kavka_broker::serve::Broker;
use kavka_test_support::batches::stored;
use kavka_test_support::rig::{self, TOPIC};
use kavka_test_support::{LIMIT, brokers};

/// Limits that make a client notice and retry fast.
pub(crate) fn fast() -> ClientConfig {
    ClientConfig::default()
        .request_timeout(Duration::from_millis(500))
        .retry_backoff(Duration::from_millis(10))
        .retry_backoff_max(Duration::from_millis(50))
        .reconnect_backoff(Duration::from_millis(10))
        .reconnect_backoff_max(Duration::from_millis(50))
}

/// What is sent, and how.
pub(crate) struct Workload {
    pub(crate) partitions: i32,
    pub(crate) records: usize,
    pub(crate) client: ClientConfig,
    pub(crate) producer: ProducerConfig,
}

impl Default for Workload {
    fn default() -> Self {
        // Batches of a few records: many requests, and five of them on their way at once.
        let producer = ProducerConfig::default().batch_size(300);
        Self { partitions: 3, records: 3000, client: fast(), producer }
    }
}

/// Three brokers, a producer and a consumer, whose first connections are made.
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
        let producer = client.producer(workload.producer.clone()).unwrap();
        let topic = rig::find_topic(&client, &producer, TOPIC, false).unwrap();
        Self { broker, producer, topic, client, partitions: workload.partitions, records: workload.records }
    }

    pub(crate) fn wait<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> T {
        rig::wait(&self.client, future)
    }

    /// Sends the number to one of the partitions in turn.
    pub(crate) fn send(&self, number: usize) -> Delivery {
        let value = number.to_string();
        let partition = Some(number as i32 % self.partitions);
        let record = Record { value: Some(value.as_bytes()), partition, ..Record::default() };
        self.producer.enqueue(self.topic, &record, LIMIT).unwrap()
    }

    pub(crate) fn outcome(&self, delivery: &Delivery) -> kavka::Result<RecordMetadata> {
        self.wait(delivery.clone())
    }

    /// What is in a partition, out of the broker's memory: offsets and values.
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

    /// Sends the workload's records, calling `during` before each, while a consumer reads; then checks everything.
    /// Returns how many faults met a request.
    pub(crate) fn finish(self, mut during: impl FnMut(&Self, usize)) -> u64 {
        let consumer = self.client.consumer(ConsumerConfig::default()).unwrap();
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
                // So that there are many requests, and time for the faults to fall between them.
                thread::sleep(Duration::from_millis(1));
            }
        }
        self.wait(self.producer.flush());
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

/// The records of each partition in the order in which they came.
fn read(consumer: &Consumer, count: usize, is_failed: &AtomicBool) -> BTreeMap<i32, Vec<(i64, String)>> {
    let begin = Instant::now();
    let mut read = BTreeMap::<i32, Vec<(i64, String)>>::new();
    let mut seen = 0;
    while seen < count && !is_failed.load(Ordering::Relaxed) {
        for record in consumer.wait_records(count, Duration::from_millis(200)).unwrap() {
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
