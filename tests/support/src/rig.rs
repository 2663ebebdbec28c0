//! An embedded cluster with one topic, and a client: the usual start of a client test.

use std::future::Future;
use std::sync::Arc;

use kavka::blocking::{Consumer, Producer};
use kavka::{
    Client, ClientConfig, ConsumerConfig, ProducerConfig, ProducerTopic, Record, StartPosition, Tcp, TopicPartition,
    WireTap,
};
use kavka_broker::serve::Broker;

use crate::{LIMIT, batches, brokers};

/// The topic of a [`Rig`].
pub const TOPIC: &str = "orders";

/// An embedded cluster with the topic [`TOPIC`], and a client of it.
pub struct Rig {
    /// The cluster.
    pub broker: Broker,
    /// The client.
    pub client: Client,
}

impl Rig {
    /// With this many brokers and partitions, of one replica each.
    pub fn new(brokers: u16, partitions: i32) -> Self {
        Self::with(brokers, partitions, ClientConfig::default())
    }

    /// With these client settings, except for the bootstrap servers.
    pub fn with(brokers: u16, partitions: i32, config: ClientConfig) -> Self {
        Self::of(cluster(brokers, partitions), config, None)
    }

    /// A client of this cluster; its wire events go to `tap`.
    pub fn of(broker: Broker, config: ClientConfig, tap: Option<WireTap>) -> Self {
        let config = config.bootstrap_servers(servers(&broker));
        let client = Client::with_network(config, Arc::new(Tcp::default()), tap).unwrap();
        Self { broker, client }
    }

    /// Runs a future on the client's engine thread, and waits for it.
    pub fn wait<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> T {
        wait(&self.client, future)
    }

    /// A producer, and its handle for [`TOPIC`].
    pub fn producer(&self, config: ProducerConfig) -> (Producer, ProducerTopic) {
        self.producer_of(TOPIC, config)
    }

    /// A producer, and its handle for an existing topic.
    pub fn producer_of(&self, topic: &str, config: ProducerConfig) -> (Producer, ProducerTopic) {
        let producer = Producer::from(self.client.producer(config).unwrap());
        let topic = find_topic(&self.client, &producer, topic, false).unwrap();
        (producer, topic)
    }

    /// Creates a topic with one partition and one replica.
    pub fn create_topic(&self, name: &str) {
        self.broker.with(|cluster, _| cluster.create_topic(name, 1, 1)).unwrap();
    }

    /// Writes the numbers of this range, as values, to each of the first partitions.
    pub fn write(&self, partitions: i32, from: u32, to: u32) {
        let (producer, topic) = self.producer(ProducerConfig::default());
        for number in from..to {
            let value = number.to_string();
            for partition in 0..partitions {
                let record = Record { partition: Some(partition), value: Some(value.as_bytes()), ..Record::default() };
                producer.send_within(topic, &record, LIMIT).unwrap();
            }
        }
        producer.flush();
    }

    /// A consumer of the first partitions.
    pub fn consumer(&self, partitions: i32, start: StartPosition) -> Consumer {
        let consumer = Consumer::from(self.client.consumer(ConsumerConfig::default()).unwrap());
        for partition in 0..partitions {
            consumer.add(&key(partition), start).unwrap();
        }
        consumer
    }

    /// The offset and value of each record of a partition, from the broker's memory.
    pub fn log(&self, partition: i32) -> Vec<(i64, Vec<u8>)> {
        batches::stored(self.broker.with(|cluster, _| cluster.batches(TOPIC, partition)))
    }
}

/// An embedded cluster with [`TOPIC`], whose partitions have one replica.
pub fn cluster(brokers: u16, partitions: i32) -> Broker {
    let broker = brokers::start(brokers);
    broker.with(|cluster, _| cluster.create_topic(TOPIC, partitions, 1)).unwrap();
    broker
}

/// The addresses of a cluster, as [`ClientConfig`] takes them.
pub fn servers(broker: &Broker) -> Vec<(String, u16)> {
    kavka::parse_bootstrap_servers(&broker.bootstrap_servers()).unwrap()
}

/// A partition of [`TOPIC`].
pub fn key(partition: i32) -> TopicPartition {
    TopicPartition::new(TOPIC, partition)
}

/// Runs a future on the engine thread of a client, and waits for it.
pub fn wait<T: Send + 'static>(client: &Client, future: impl Future<Output = T> + Send + 'static) -> T {
    client.start(future).wait(Some(LIMIT)).expect("the engine answers within the limit")
}

/// A producer's handle for a topic; with `create`, the brokers may create it.
pub fn find_topic(
    client: &Client,
    producer: &kavka::Producer,
    name: &str,
    create: bool,
) -> kavka::Result<ProducerTopic> {
    wait(client, producer.topic(name, create))
}
