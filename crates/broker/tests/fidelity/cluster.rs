//! The clusters under test, and common steps of the tests.

use kavka_core::wire::messages::create_topics::{CreatableTopic, CreatableTopicConfig};
use kavka_core::wire::messages::delete_topics::DeleteTopicState;
use kavka_core::wire::messages::list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use kavka_core::wire::messages::metadata::{MetadataRequestTopic, MetadataResponseTopic};
use kavka_core::wire::messages::produce::{PartitionProduceData, PartitionProduceResponse, TopicProduceData};
use kavka_core::wire::messages::{
    CreateTopicsRequest, DeleteTopicsRequest, InitProducerIdRequest, ListOffsetsRequest, MetadataRequest,
    ProduceRequest,
};
use kavka_core::wire::records::Records;
use kavka_core::wire::{ErrorCode, Uuid};
pub(crate) use kavka_test_support::batches::{Batch, batch, sequenced};
use kavka_test_support::brokers::Brokers;
pub(crate) use kavka_test_support::{unique, until};

use crate::connection::Connection;

/// The cluster of a test: two brokers, 1 and 2.
pub(crate) struct Cluster(&'static Brokers);

/// A topic of one test.
#[derive(Debug, Clone)]
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) id: Uuid,
    /// The leader of each partition.
    pub(crate) leaders: Vec<i32>,
}

impl Cluster {
    pub(crate) fn of(brokers: &'static Brokers) -> Self {
        Self(brokers)
    }

    pub(crate) fn connect(&self, broker_id: i32) -> Connection {
        Connection::open(&self.0.addresses()[&broker_id])
    }

    pub(crate) fn connect_to_leader(&self, topic: &Topic) -> Connection {
        self.connect(topic.leaders[0])
    }

    /// The address of a broker that wants SASL.
    pub(crate) fn sasl_address(&self) -> &str {
        self.0.sasl_address()
    }

    pub(crate) fn address(&self, broker_id: i32) -> &str {
        &self.0.addresses()[&broker_id]
    }

    /// A new topic of one partition and one replica.
    pub(crate) fn topic(&self) -> Topic {
        self.create(1, 1, &[])
    }

    pub(crate) fn topic_with(&self, configs: &[(&str, &str)]) -> Topic {
        self.create(1, 1, configs)
    }

    /// A new topic, once all leaders serve it.
    pub(crate) fn create(&self, partitions: i32, replication_factor: i16, configs: &[(&str, &str)]) -> Topic {
        self.create_named(&unique("topic"), partitions, replication_factor, configs)
    }

    /// Deletes a topic of one partition, and creates another one of the same name.
    pub(crate) fn create_again(&self, old: &Topic) -> Topic {
        let topics = vec![DeleteTopicState { name: Some(old.name.clone()), topic_id: Uuid::ZERO }];
        let request = DeleteTopicsRequest { topics, topic_names: Vec::new(), timeout_ms: 15_000 };
        let deleted = self.connect(1).call(&request);
        assert_eq!(deleted.responses[0].error_code, ErrorCode::NONE, "{deleted:?}");
        for broker_id in self.0.addresses().keys() {
            until("the topic to be gone", || {
                let code = metadata_of(&mut self.connect(*broker_id), &old.name).error_code;
                (code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION).then_some(())
            });
        }
        self.create_named(&old.name, 1, 1, &[])
    }

    fn create_named(&self, name: &str, partitions: i32, replication_factor: i16, configs: &[(&str, &str)]) -> Topic {
        let configs = configs
            .iter()
            .map(|(key, value)| CreatableTopicConfig { name: (*key).into(), value: Some((*value).into()) });
        let topic = CreatableTopic {
            name: name.to_owned(),
            num_partitions: Some(partitions),
            replication_factor: Some(replication_factor),
            configs: configs.collect(),
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 15_000, validate_only: false };
        let created = self.connect(1).call(&request);
        // The broker forwards the request to the controller, and does so again if the controller is slow. Names are
        // unique, so a topic that exists already is the one that was asked for.
        let code = created.topics[0].error_code;
        assert!([ErrorCode::NONE, ErrorCode::TOPIC_ALREADY_EXISTS].contains(&code), "{created:?}");
        self.await_topic(name, partitions)
    }

    /// Waits until a topic has this many partitions, and all leaders serve theirs.
    pub(crate) fn await_topic(&self, name: &str, partitions: i32) -> Topic {
        let topic = until("the topic to have leaders", || {
            let known =
                self.0.addresses().keys().map(|id| metadata_of(&mut self.connect(*id), name)).collect::<Vec<_>>();
            let is_whole = |topic: &MetadataResponseTopic| {
                topic.partitions.len() as i32 == partitions
                    && topic.partitions.iter().all(|partition| partition.leader_id.is_some())
            };
            known.iter().all(is_whole).then(|| known.into_iter().next().unwrap())
        });
        let mut leaders: Vec<_> = topic
            .partitions
            .iter()
            .map(|partition| (partition.partition_index, partition.leader_id.unwrap()))
            .collect();
        leaders.sort_unstable();
        let leaders = leaders.into_iter().map(|(_, leader)| leader).collect();
        let topic = Topic { name: name.into(), id: topic.topic_id, leaders };
        for (partition, leader) in topic.leaders.iter().enumerate() {
            until("the leader to serve", || {
                let mut connection = self.connect(*leader);
                (offset_at(&mut connection, &topic, partition as i32, -1).0 == ErrorCode::NONE).then_some(())
            });
        }
        topic
    }

    /// Makes the other broker the leader of partition 0; both must have a replica. Returns the new leader.
    pub(crate) fn move_leader(&self, topic: &Topic) -> i32 {
        let leader = 3 - topic.leaders[0];
        self.0.move_leader(&topic.name, leader);
        until("the new leader to serve", || {
            let is_known = metadata_of(&mut self.connect(leader), &topic.name).partitions[0].leader_id == Some(leader);
            let (error_code, _) = offset_at(&mut self.connect(leader), topic, 0, -1);
            (is_known && error_code == ErrorCode::NONE).then_some(())
        });
        leader
    }
}

pub(crate) fn metadata_request(name: &str) -> MetadataRequest {
    let topic = MetadataRequestTopic { topic_id: Uuid::ZERO, name: Some(name.into()) };
    MetadataRequest { topics: Some(vec![topic]), allow_auto_topic_creation: false, ..MetadataRequest::default() }
}

pub(crate) fn metadata_of(connection: &mut Connection, name: &str) -> MetadataResponseTopic {
    connection.call(&metadata_request(name)).topics.remove(0)
}

/// The error code and offset in the response to a `ListOffsets` for a timestamp; -1 is the end and -2 the beginning.
pub(crate) fn offset_at(
    connection: &mut Connection,
    topic: &Topic,
    partition: i32,
    timestamp: i64,
) -> (ErrorCode, Option<i64>) {
    let partition = ListOffsetsPartition { partition_index: partition, timestamp, ..ListOffsetsPartition::default() };
    let topics = vec![ListOffsetsTopic { name: topic.name.clone(), partitions: vec![partition] }];
    let request = ListOffsetsRequest { replica_id: None, topics, ..ListOffsetsRequest::default() };
    let answer = connection.call(&request).topics.remove(0).partitions.remove(0);
    (answer.error_code, answer.offset)
}

/// The log end offset of partition 0.
pub(crate) fn end_offset(connection: &mut Connection, topic: &Topic) -> i64 {
    offset_at(connection, topic, 0, -1).1.unwrap()
}

/// A new producer id, in epoch 0.
pub(crate) fn producer_id(connection: &mut Connection) -> i64 {
    let request = InitProducerIdRequest { transaction_timeout_ms: 60_000, ..InitProducerIdRequest::default() };
    until("a producer id", || {
        let answer = connection.call(&request);
        // A broker that has just started may not have ids yet.
        (answer.error_code == ErrorCode::NONE).then(|| {
            assert_eq!(answer.producer_epoch, 0);
            answer.producer_id.unwrap()
        })
    })
}

pub(crate) fn produce_request(topic: &Topic, partition: i32, acks: i16, records: Records) -> ProduceRequest {
    let partition_data = vec![PartitionProduceData { index: partition, records: Some(records) }];
    let topic = TopicProduceData { name: topic.name.clone(), topic_id: topic.id, partition_data };
    ProduceRequest { transactional_id: None, acks, timeout_ms: 10_000, topic_data: vec![topic] }
}

/// Produces to partition 0 with `acks=all`.
pub(crate) fn produce(connection: &mut Connection, topic: &Topic, records: Records) -> PartitionProduceResponse {
    connection.call(&produce_request(topic, 0, -1, records)).responses.remove(0).partition_responses.remove(0)
}

/// Produces to partition 0, which must succeed, and returns the base offset.
pub(crate) fn append(connection: &mut Connection, topic: &Topic, records: Records) -> i64 {
    let answer = produce(connection, topic, records);
    assert_eq!(answer.error_code, ErrorCode::NONE, "{answer:?}");
    answer.base_offset
}
