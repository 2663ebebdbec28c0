//! An embedded cluster with one topic, and a client of it: what a test of the client begins with.

use std::future::Future;
use std::sync::Arc;

use kavka::{
    Client, ClientConfig, Consumer, ConsumerConfig, Producer, ProducerConfig, ProducerTopic, Record, StartPosition,
    Tcp, TopicPartition, WireTap,
};
use kavka_broker::serve::Broker;

use crate::{LIMIT, batches, brokers};

/// The topic that a [`Rig`] has.
pub const TOPIC: &str = "orders";

/// An embedded cluster with the topic [`TOPIC`], and a client of it.
pub struct Rig {
    /// The cluster.
    pub broker: Broker,
    /// The client.
    pub client: Client,
}

impl Rig {
    /// So many brokers and partitions, of one replica each.
    pub fn new(brokers: u16, partitions: i32) -> Self {
        Self::with(brokers, partitions, ClientConfig::default())
    }

    /// With settings for the client, whose bootstrap servers are replaced.
    pub fn with(brokers: u16, partitions: i32, config: ClientConfig) -> Self {
        Self::of(cluster(brokers, partitions), config, None)
    }

    /// A client of this cluster, whose wire events go to `tap`.
    pub fn of(broker: Broker, config: ClientConfig, tap: Option<WireTap>) -> Self {
        let config = config.bootstrap_servers(servers(&broker));
        let client = Client::with_network(config, Arc::new(Tcp::default()), tap).unwrap();
        Self { broker, client }
    }

    /// Runs a future on the client's engine thread and waits for it.
    pub fn wait<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> T {
        wait(&self.client, future)
    }

    /// A producer, and its handle of [`TOPIC`].
    pub fn producer(&self, config: ProducerConfig) -> (Producer, ProducerTopic) {
        let producer = self.client.producer(config).unwrap();
        let topic = find_topic(&self.client, &producer, TOPIC, false).unwrap();
        (producer, topic)
    }

    /// Writes the numbers of this range as values to each of the first partitions.
    pub fn write(&self, partitions: i32, from: u32, to: u32) {
        let (producer, topic) = self.producer(ProducerConfig::default());
        for number in from..to {
            let value = number.to_string();
            for partition in 0..partitions {
                let record = Record { partition: Some(partition), value: Some(value.as_bytes()), ..Record::default() };
                producer.enqueue(topic, &record, LIMIT).unwrap();
            }
        }
        self.flush(&producer);
    }

    /// A consumer of the first partitions.
    pub fn consumer(&self, partitions: i32, start: StartPosition) -> Consumer {
        let consumer = self.client.consumer(ConsumerConfig::default()).unwrap();
        for partition in 0..partitions {
            consumer.add(&key(partition), start).unwrap();
        }
        consumer
    }

    /// Waits until everything is reported.
    pub fn flush(&self, producer: &Producer) {
        self.wait(producer.flush());
    }

    /// Offset and value of each record in a partition, out of the broker's memory.
    pub fn log(&self, partition: i32) -> Vec<(i64, Vec<u8>)> {
        batches::stored(self.broker.with(|cluster, _| cluster.batches(TOPIC, partition)))
    }
}

/// An embedded cluster with the topic [`TOPIC`], whose partitions have one replica.
pub fn cluster(brokers: u16, partitions: i32) -> Broker {
    let broker = brokers::start(brokers);
    broker.with(|cluster, _| cluster.create_topic(TOPIC, partitions, 1)).unwrap();
    broker
}

/// Where to find a cluster, as [`ClientConfig`] takes it.
pub fn servers(broker: &Broker) -> Vec<(String, u16)> {
    kavka::parse_bootstrap_servers(&broker.bootstrap_servers()).unwrap()
}

/// A partition of [`TOPIC`].
pub fn key(partition: i32) -> TopicPartition {
    TopicPartition::new(TOPIC, partition)
}

/// Runs a future on the engine thread of a client and waits for it.
pub fn wait<T: Send + 'static>(client: &Client, future: impl Future<Output = T> + Send + 'static) -> T {
    client.start(future).wait(Some(LIMIT)).expect("the engine answers within the limit")
}

/// A producer's handle of a topic, which the brokers may create if `create` says so.
pub fn find_topic(client: &Client, producer: &Producer, name: &str, create: bool) -> kavka::Result<ProducerTopic> {
    let (producer, name) = (producer.clone(), name.to_owned());
    wait(client, async move { producer.topic(&name, create).await })
}
