//! Creating, growing and deleting topics.

use kavka_core::wire::messages::create_partitions::CreatePartitionsTopic;
use kavka_core::wire::messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreatableTopicResult,
};
use kavka_core::wire::messages::delete_topics::DeleteTopicState;
use kavka_core::wire::messages::{CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest};
use kavka_core::wire::{ApiKey, ErrorCode, Uuid};

use crate::cluster::{Cluster, append, batch, end_offset, metadata_of, unique, until};

on_every_broker!(
    a_created_topic_is_described,
    every_version_creates_and_deletes,
    the_defaults_are_the_brokers,
    replicas_can_be_placed_by_hand,
    what_cannot_be_created_says_why,
    a_trial_run_creates_nothing,
    partitions_are_added,
    partitions_cannot_be_taken_away,
    a_deleted_topic_is_gone_and_a_new_one_of_its_name_is_another,
    a_topic_is_deleted_by_its_id,
    what_does_not_exist_cannot_be_deleted,
);

fn wanted(name: &str, partitions: i32, replication_factor: i16) -> CreatableTopic {
    CreatableTopic {
        name: name.into(),
        num_partitions: Some(partitions).filter(|number| *number != -1),
        replication_factor: Some(replication_factor).filter(|number| *number != -1),
        ..CreatableTopic::default()
    }
}

fn request(topic: CreatableTopic) -> CreateTopicsRequest {
    CreateTopicsRequest { topics: vec![topic], timeout_ms: 15_000, validate_only: false }
}

fn create(cluster: &Cluster, topic: CreatableTopic) -> CreatableTopicResult {
    cluster.connect(1).call(&request(topic)).topics.remove(0)
}

fn a_created_topic_is_described(cluster: &Cluster) {
    let name = unique("described");
    let mut topic = wanted(&name, 3, 2);
    topic.configs = vec![CreatableTopicConfig { name: "retention.ms".into(), value: Some("12345".into()) }];
    let created = create(cluster, topic);
    assert_eq!((created.error_code, &created.name), (ErrorCode::NONE, &name));
    assert_eq!((created.num_partitions, created.replication_factor), (Some(3), Some(2)));
    let configs = created.configs.unwrap();
    let config = configs.iter().find(|config| config.name == "retention.ms").unwrap();
    assert_eq!(config.value.as_deref(), Some("12345"));
    assert_eq!(cluster.await_topic(&name, 3).id, created.topic_id);
}

fn every_version_creates_and_deletes(cluster: &Cluster) {
    let mut connection = cluster.connect(1);
    let versions = connection.versions(ApiKey::CreateTopics).filter(|version| *version >= 2);
    for version in versions.collect::<Vec<_>>() {
        let name = unique("versioned");
        let created = connection.call_version(version, &request(wanted(&name, 1, 1)));
        assert_eq!(created.topics[0].error_code, ErrorCode::NONE, "v{version}");
        cluster.await_topic(&name, 1);
        let version = version.min(*connection.versions(ApiKey::DeleteTopics).end());
        let delete = DeleteTopicsRequest {
            topics: if version >= 6 {
                vec![DeleteTopicState { name: Some(name.clone()), topic_id: Uuid::ZERO }]
            } else {
                vec![]
            },
            topic_names: vec![name.clone()],
            timeout_ms: 15_000,
        };
        let deleted = connection.call_version(version, &delete);
        assert_eq!(deleted.responses[0].error_code, ErrorCode::NONE, "v{version}");
    }
}

fn the_defaults_are_the_brokers(cluster: &Cluster) {
    let name = unique("defaults");
    let created = create(cluster, wanted(&name, -1, -1));
    assert_eq!((created.error_code, created.num_partitions), (ErrorCode::NONE, Some(1)));
    cluster.await_topic(&name, 1);
}

fn replicas_can_be_placed_by_hand(cluster: &Cluster) {
    let name = unique("placed");
    let mut topic = wanted(&name, -1, -1);
    topic.assignments = vec![
        CreatableReplicaAssignment { partition_index: 0, broker_ids: vec![2] },
        CreatableReplicaAssignment { partition_index: 1, broker_ids: vec![1] },
    ];
    assert_eq!(create(cluster, topic).error_code, ErrorCode::NONE);
    assert_eq!(cluster.await_topic(&name, 2).leaders, [2, 1]);
}

fn what_cannot_be_created_says_why(cluster: &Cluster) {
    let existing = cluster.topic();
    let fresh = unique("refused");
    let placed = |brokers: &[&[i32]]| {
        let mut topic = wanted(&fresh, -1, -1);
        topic.assignments = (0..)
            .zip(brokers)
            .map(|(partition_index, ids)| CreatableReplicaAssignment { partition_index, broker_ids: ids.to_vec() })
            .collect();
        topic
    };
    let configured = |name: &str, value: &str| {
        let mut topic = wanted(&fresh, 1, 1);
        topic.configs = vec![CreatableTopicConfig { name: name.into(), value: Some(value.into()) }];
        topic
    };
    let cases = [
        (wanted(&existing.name, 1, 1), ErrorCode::TOPIC_ALREADY_EXISTS),
        (wanted("a b", 1, 1), ErrorCode::INVALID_TOPIC_EXCEPTION),
        (wanted("", 1, 1), ErrorCode::INVALID_TOPIC_EXCEPTION),
        (wanted(&"x".repeat(250), 1, 1), ErrorCode::INVALID_TOPIC_EXCEPTION),
        (wanted(&existing.name.replace('-', "_").replace('_', "."), 0, 1), ErrorCode::INVALID_PARTITIONS),
        (wanted(&fresh, 0, 1), ErrorCode::INVALID_PARTITIONS),
        (wanted(&fresh, 1, 0), ErrorCode::INVALID_REPLICATION_FACTOR),
        (wanted(&fresh, 1, 3), ErrorCode::INVALID_REPLICATION_FACTOR),
        (placed(&[&[1, 1]]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (placed(&[&[7]]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (placed(&[&[]]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (configured("no.such.setting", "1"), ErrorCode::INVALID_CONFIG),
        (configured("max.message.bytes", "many"), ErrorCode::INVALID_CONFIG),
    ];
    for (topic, error_code) in cases {
        let answer = create(cluster, topic.clone());
        assert_eq!(answer.error_code, error_code, "{topic:?}: {:?}", answer.error_message);
        assert!(answer.error_message.is_some_and(|message| !message.is_empty()), "{topic:?}");
    }
}

fn a_trial_run_creates_nothing(cluster: &Cluster) {
    let name = unique("trial");
    let trial = CreateTopicsRequest { validate_only: true, ..request(wanted(&name, 2, 1)) };
    let answer = cluster.connect(1).call(&trial).topics.remove(0);
    assert_eq!((answer.error_code, answer.num_partitions), (ErrorCode::NONE, Some(2)));
    assert_eq!(create(cluster, wanted(&name, 1, 1)).error_code, ErrorCode::NONE, "it does not exist yet");
}

fn grow(cluster: &Cluster, name: &str, count: i32) -> ErrorCode {
    let topic = CreatePartitionsTopic { name: name.into(), count, assignments: None };
    let request = CreatePartitionsRequest { topics: vec![topic], timeout_ms: 15_000, validate_only: false };
    cluster.connect(1).call(&request).results[0].error_code
}

fn partitions_are_added(cluster: &Cluster) {
    let topic = cluster.topic();
    append(&mut cluster.connect_to_leader(&topic), &topic, batch(&["kept"]));
    assert_eq!(grow(cluster, &topic.name, 3), ErrorCode::NONE);
    let grown = cluster.await_topic(&topic.name, 3);
    assert_eq!((grown.id, grown.leaders[0]), (topic.id, topic.leaders[0]));
    assert_eq!(end_offset(&mut cluster.connect_to_leader(&topic), &topic), 1);
}

fn partitions_cannot_be_taken_away(cluster: &Cluster) {
    let topic = cluster.create(2, 1, &[]);
    for count in [2, 1, 0, -1] {
        assert_eq!(grow(cluster, &topic.name, count), ErrorCode::INVALID_PARTITIONS, "{count}");
    }
    assert_eq!(grow(cluster, &unique("nowhere"), 3), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
}

fn delete(cluster: &Cluster, name: Option<&str>, topic_id: Uuid) -> ErrorCode {
    let topics = vec![DeleteTopicState { name: name.map(Into::into), topic_id }];
    let request = DeleteTopicsRequest { topics, topic_names: Vec::new(), timeout_ms: 15_000 };
    cluster.connect(1).call(&request).responses[0].error_code
}

fn await_absence(cluster: &Cluster, name: &str) {
    for broker_id in [1, 2] {
        let mut connection = cluster.connect(broker_id);
        until("the topic to be gone", || {
            let error_code = metadata_of(&mut connection, name).error_code;
            (error_code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION).then_some(())
        });
    }
}

fn a_deleted_topic_is_gone_and_a_new_one_of_its_name_is_another(cluster: &Cluster) {
    let topic = cluster.topic();
    append(&mut cluster.connect_to_leader(&topic), &topic, batch(&["old"]));
    assert_eq!(delete(cluster, Some(&topic.name), Uuid::ZERO), ErrorCode::NONE);
    await_absence(cluster, &topic.name);
    assert_eq!(create(cluster, wanted(&topic.name, 1, 1)).error_code, ErrorCode::NONE);
    let again = cluster.await_topic(&topic.name, 1);
    assert_ne!(again.id, topic.id);
    assert_eq!(end_offset(&mut cluster.connect_to_leader(&again), &again), 0);
}

fn a_topic_is_deleted_by_its_id(cluster: &Cluster) {
    let topic = cluster.topic();
    assert_eq!(delete(cluster, None, topic.id), ErrorCode::NONE);
    await_absence(cluster, &topic.name);
}

fn what_does_not_exist_cannot_be_deleted(cluster: &Cluster) {
    let name = unique("nowhere");
    assert_eq!(delete(cluster, Some(&name), Uuid::ZERO), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(delete(cluster, None, Uuid([9; 16])), ErrorCode::UNKNOWN_TOPIC_ID);
}
