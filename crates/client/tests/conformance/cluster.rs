//! The clusters under test, and common steps of the tests.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::{Duration, Instant};

use kavka::blocking::{Consumer, Delivery, Producer};
use kavka::{
    Call, Client, ClientConfig, ConsumerConfig, ConsumerRecord, ErrorCode, IsolationLevel, Login, ProducerConfig,
    ProducerTopic, Record, Sasl, ScramHash, Secret, Security, StartPosition, Target, Tls, TopicPartition,
    parse_bootstrap_servers,
};
use kavka_core::wire::messages::create_partitions::CreatePartitionsTopic;
use kavka_core::wire::messages::create_topics::{CreatableTopic, CreatableTopicConfig};
use kavka_core::wire::messages::delete_topics::DeleteTopicState;
use kavka_core::wire::messages::metadata::{MetadataRequestTopic, MetadataResponseTopic};
use kavka_core::wire::messages::{CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, MetadataRequest};
use kavka_core::wire::{Request, Uuid};
use kavka_test_support::brokers::{Brokers, USER};
use kavka_test_support::rig::{find_topic, wait};
use kavka_test_support::{LIMIT, unique, until};

/// The cluster of a test: two brokers, 1 and 2.
pub(crate) struct Cluster(&'static Brokers);

impl Cluster {
    pub(crate) fn of(brokers: &'static Brokers) -> Self {
        Self(brokers)
    }

    pub(crate) fn client(&self) -> Client {
        let bootstrap_servers = parse_bootstrap_servers(&self.0.bootstrap_servers()).unwrap();
        let config = ClientConfig::default().bootstrap_servers(bootstrap_servers);
        let Some(authority) = self.0.authority() else { return Client::new(config).unwrap() };
        let login = Login::new(USER.0, Secret::new(USER.1));
        let security = Security::tls(Tls::with_ca_pem(authority)).sasl(Sasl::Scram(ScramHash::Sha256, login));
        Client::new(config.with_security(security)).unwrap()
    }

    /// A new topic with one replica of each partition.
    pub(crate) fn topic(&self, partitions: i32) -> String {
        self.create(&unique("topic"), partitions, 1, &[])
    }

    pub(crate) fn create(
        &self,
        name: &str,
        partitions: i32,
        replication_factor: i16,
        configs: &[(&str, &str)],
    ) -> String {
        let configs = configs
            .iter()
            .map(|(name, value)| CreatableTopicConfig { name: (*name).into(), value: Some((*value).into()) });
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: Some(partitions),
            replication_factor: Some(replication_factor),
            configs: configs.collect(),
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 15_000, validate_only: false };
        let client = self.client();
        let answer = administer(&client, request);
        // The broker forwards the request to the controller, and does so again if the controller is slow. Names are
        // unique, so a topic that exists already is the one that was asked for.
        let code = answer.topics[0].error_code;
        assert!([ErrorCode::NONE, ErrorCode::TOPIC_ALREADY_EXISTS].contains(&code), "{answer:?}");
        await_everywhere(&client, name, |topic| {
            topic.error_code == ErrorCode::NONE
                && topic.partitions.iter().all(|partition| partition.leader_id.is_some())
        });
        name.into()
    }

    pub(crate) fn delete(&self, name: &str) {
        let topics = vec![DeleteTopicState { name: Some(name.into()), topic_id: Uuid::ZERO }];
        let client = self.client();
        let answer = administer(&client, DeleteTopicsRequest { topics, topic_names: Vec::new(), timeout_ms: 15_000 });
        assert_eq!(answer.responses[0].error_code, ErrorCode::NONE, "{answer:?}");
        await_everywhere(&client, name, |topic| topic.error_code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }

    pub(crate) fn add_partitions(&self, name: &str, count: i32) {
        let topic = CreatePartitionsTopic { name: name.into(), count, assignments: None };
        let request = CreatePartitionsRequest { topics: vec![topic], timeout_ms: 15_000, validate_only: false };
        let client = self.client();
        let answer = administer(&client, request);
        assert_eq!(answer.results[0].error_code, ErrorCode::NONE, "{answer:?}");
        await_everywhere(&client, name, |topic| {
            topic.partitions.len() == count as usize && topic.partitions.iter().all(|known| known.leader_id.is_some())
        });
    }

    /// Makes the other broker the leader of partition 0; both must have a replica.
    pub(crate) fn move_leader(&self, topic: &str) {
        let client = self.client();
        wait(&client, client.clone().topic_owned(topic)).unwrap();
        let leader = 3 - client.metadata().leader(topic, 0).unwrap().0;
        self.0.move_leader(topic, leader);
    }
}

fn administer<R: Request>(client: &Client, request: R) -> R::Response {
    let owned = client.clone();
    wait(client, async move {
        owned.ready().await.unwrap();
        owned.call(Call::new(Target::Controller, request)).await.unwrap()
    })
}

/// Waits until the metadata of a topic on both brokers satisfies `is_so`.
fn await_everywhere(client: &Client, name: &str, is_so: impl Fn(&MetadataResponseTopic) -> bool) {
    for broker_id in [1, 2] {
        until("every broker to know", || {
            let topics = Some(vec![MetadataRequestTopic { topic_id: Uuid::ZERO, name: Some(name.into()) }]);
            let request = MetadataRequest { topics, allow_auto_topic_creation: false, ..MetadataRequest::default() };
            let owned = client.clone();
            let call = async move { owned.call(Call::new(Target::Broker(broker_id), request)).await };
            is_so(&wait(client, call).unwrap().topics[0]).then_some(())
        });
    }
}

/// A client's calls as futures that own it, for its engine thread.
pub(crate) trait Owned {
    fn topic_owned(self, name: &str) -> impl Future<Output = kavka::Result<()>> + Send + 'static;
    fn refreshed(self) -> impl Future<Output = kavka::Result<std::sync::Arc<kavka::Metadata>>> + Send + 'static;
}

impl Owned for Client {
    fn topic_owned(self, name: &str) -> impl Future<Output = kavka::Result<()>> + Send + 'static {
        let name = name.to_owned();
        async move { self.topic(&name, false).await.map(|_| ()) }
    }

    async fn refreshed(self) -> kavka::Result<std::sync::Arc<kavka::Metadata>> {
        self.refresh_metadata().await
    }
}

/// A producer for one topic.
pub(crate) struct Writer {
    pub(crate) client: Client,
    pub(crate) producer: Producer,
    pub(crate) topic: ProducerTopic,
}

impl Writer {
    pub(crate) fn new(cluster: &Cluster, topic: &str) -> Self {
        Self::with(cluster, topic, ProducerConfig::default())
    }

    pub(crate) fn with(cluster: &Cluster, topic: &str, config: ProducerConfig) -> Self {
        Self::of(cluster.client(), topic, config)
    }

    pub(crate) fn of(client: Client, topic: &str, config: ProducerConfig) -> Self {
        let producer = Producer::from(client.producer(config).unwrap());
        let topic = find_topic(&client, &producer, topic, false).unwrap();
        Self { client, producer, topic }
    }

    pub(crate) fn send_record(&self, record: &Record<'_>) -> Delivery {
        self.producer.send_within(self.topic, record, LIMIT).unwrap()
    }

    /// Sends a value to partition 0 without waiting.
    pub(crate) fn send(&self, value: &str) -> Delivery {
        self.send_record(&Record { value: Some(value.as_bytes()), partition: Some(0), ..Record::default() })
    }

    /// Writes these values to partition 0, and waits until they are stored.
    pub(crate) fn write(&self, values: impl IntoIterator<Item = impl AsRef<str>>) {
        let deliveries: Vec<_> = values.into_iter().map(|value| self.send(value.as_ref())).collect();
        for delivery in deliveries {
            delivery.wait().unwrap();
        }
    }

    pub(crate) fn flush(&self) {
        self.producer.flush();
    }
}

/// A consumer of partitions of one topic, from the earliest offset on.
pub(crate) fn reader(client: &Client, topic: &str, partitions: impl IntoIterator<Item = i32>) -> Consumer {
    reader_from(client, topic, partitions, StartPosition::Earliest)
}

pub(crate) fn reader_from(
    client: &Client,
    topic: &str,
    partitions: impl IntoIterator<Item = i32>,
    start: StartPosition,
) -> Consumer {
    let consumer = Consumer::from(client.consumer(ConsumerConfig::default()).unwrap());
    for partition in partitions {
        consumer.add(&TopicPartition::new(topic, partition), start).unwrap();
    }
    consumer
}

/// The next `count` records, in the order in which they came.
pub(crate) fn take(consumer: &Consumer, count: usize) -> Vec<ConsumerRecord> {
    let begin = Instant::now();
    let mut records = Vec::new();
    while records.len() < count {
        records.extend(consumer.next_records(count - records.len(), Duration::from_secs(1)).unwrap());
        assert!(begin.elapsed() < LIMIT, "{} of {count} records within {LIMIT:?}", records.len());
    }
    records
}

/// Checks that the consumer gets no more records.
///
/// Each broker gets a record in another topic, which the consumer reads, too. When those records arrive, each broker
/// has answered a fetch in the meantime, and nothing else has come with it.
pub(crate) fn assert_nothing_comes(cluster: &Cluster, consumer: &Consumer) {
    let topic = cluster.topic(2);
    let writer = Writer::new(cluster, &topic);
    let partitions = [0, 1].map(|partition| TopicPartition::new(topic.as_str(), partition));
    for key in &partitions {
        let record = Record { value: Some(b"barrier"), partition: Some(key.partition), ..Record::default() };
        writer.send_record(&record).wait().unwrap();
        consumer.add(key, StartPosition::Earliest).unwrap();
    }
    let records = take(consumer, 2);
    assert!(records.iter().all(|record| *record.topic_partition.topic == *topic), "{records:?}");
    for key in &partitions {
        consumer.remove(key).unwrap();
    }
}

pub(crate) fn values(records: &[ConsumerRecord]) -> Vec<String> {
    records.iter().map(value).collect()
}

pub(crate) fn value(record: &ConsumerRecord) -> String {
    String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap()
}

/// `value-from`, ..., `value-(to - 1)`.
pub(crate) fn numbered(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("value-{number}")).collect()
}

/// The end of each partition. Every leader answers, so it serves its partitions by then.
pub(crate) fn end_offsets(client: &Client, topic: &str, partitions: i32) -> BTreeMap<TopicPartition, i64> {
    let partitions: Vec<_> = (0..partitions).map(|partition| TopicPartition::new(topic, partition)).collect();
    let owned = client.clone();
    let ask = async move { owned.end_offsets(&partitions, IsolationLevel::ReadUncommitted, LIMIT).await.unwrap() };
    wait(client, ask).into_iter().collect()
}

/// All records of a topic that has this many, read by a separate client: by partition, in order.
pub(crate) fn read_all(
    cluster: &Cluster,
    topic: &str,
    partitions: i32,
    count: usize,
) -> BTreeMap<i32, Vec<ConsumerRecord>> {
    let client = cluster.client();
    let consumer = reader(&client, topic, 0..partitions);
    let mut by_partition = BTreeMap::<i32, Vec<ConsumerRecord>>::new();
    for record in take(&consumer, count) {
        by_partition.entry(record.topic_partition.partition).or_default().push(record);
    }
    let ends = end_offsets(&client, topic, partitions);
    assert_eq!(ends.values().sum::<i64>(), count as i64, "records in the log");
    for records in by_partition.values() {
        assert!((0..).zip(records).all(|(offset, record)| record.offset == offset), "offsets without gaps");
    }
    by_partition
}
