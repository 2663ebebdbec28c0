//! What a broker reports about the cluster and its topics.

use kavka_core::wire::messages::MetadataRequest;
use kavka_core::wire::messages::metadata::MetadataRequestTopic;
use kavka_core::wire::{ApiKey, ErrorCode, Uuid};

use crate::cluster::{Cluster, metadata_of, metadata_request, unique, until};

on_every_broker!(
    every_version_names_the_brokers_and_the_leader,
    a_topic_that_does_not_exist_is_unknown_and_stays_so,
    a_topic_is_created_when_the_client_allows_it,
    a_name_that_no_topic_can_have_is_invalid,
    an_empty_list_of_topics_means_none_and_null_means_all,
    a_topic_is_found_by_its_id,
    an_id_that_no_topic_has_is_unknown,
);

fn every_version_names_the_brokers_and_the_leader(cluster: &Cluster) {
    let topic = cluster.create(2, 2, &[]);
    let mut connection = cluster.connect(2);
    for version in connection.versions(ApiKey::Metadata).filter(|version| *version >= 4) {
        let told = connection.call_version(version, &metadata_request(&topic.name));
        let mut brokers: Vec<_> =
            told.brokers.iter().map(|broker| (broker.node_id, format!("{}:{}", broker.host, broker.port))).collect();
        brokers.sort();
        assert_eq!(brokers, [(1, cluster.address(1).to_owned()), (2, cluster.address(2).to_owned())]);
        assert!(told.cluster_id.is_some_and(|id| !id.is_empty()));
        assert!(matches!(told.controller_id, Some(1 | 2)));
        let known = &told.topics[0];
        assert_eq!((known.error_code, known.name.as_ref()), (ErrorCode::NONE, Some(&topic.name)));
        assert_eq!((known.is_internal, known.partitions.len()), (false, 2));
        for partition in &known.partitions {
            let leader = topic.leaders[partition.partition_index as usize];
            assert_eq!((partition.error_code, partition.leader_id), (ErrorCode::NONE, Some(leader)));
            assert_eq!(partition.leader_epoch, (version >= 7).then_some(0));
            let mut replicas = partition.replica_nodes.clone();
            replicas.sort_unstable();
            assert_eq!((replicas, partition.isr_nodes.len()), (vec![1, 2], 2));
            assert_eq!(partition.replica_nodes[0], leader, "the first replica is the preferred leader");
        }
    }
}

fn a_topic_that_does_not_exist_is_unknown_and_stays_so(cluster: &Cluster) {
    let name = unique("nowhere");
    let mut connection = cluster.connect(1);
    for _ in 0..2 {
        let told = metadata_of(&mut connection, &name);
        assert_eq!((told.error_code, told.name), (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, Some(name.clone())));
        assert!(told.topic_id.is_zero() && told.partitions.is_empty());
    }
}

fn a_topic_is_created_when_the_client_allows_it(cluster: &Cluster) {
    let request = MetadataRequest { allow_auto_topic_creation: true, ..metadata_request(&unique("on-demand")) };
    let mut connection = cluster.connect(2);
    let told = until("the topic", || {
        let told = connection.call(&request).topics.remove(0);
        let not_yet = [ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, ErrorCode::LEADER_NOT_AVAILABLE];
        (!not_yet.contains(&told.error_code)).then_some(told)
    });
    assert_eq!((told.error_code, told.partitions.len()), (ErrorCode::NONE, 1));
    assert!(!told.topic_id.is_zero());
}

fn a_name_that_no_topic_can_have_is_invalid(cluster: &Cluster) {
    let mut connection = cluster.connect(1);
    for allow_auto_topic_creation in [false, true] {
        let long = "x".repeat(250);
        for name in ["a b", "", "..", "a/b", "ä", &long] {
            let told = connection.call(&MetadataRequest { allow_auto_topic_creation, ..metadata_request(name) });
            assert_eq!(told.topics[0].error_code, ErrorCode::INVALID_TOPIC_EXCEPTION, "{name:?}");
        }
    }
}

fn an_empty_list_of_topics_means_none_and_null_means_all(cluster: &Cluster) {
    let topic = cluster.topic();
    let mut connection = cluster.connect(1);
    let none = connection.call(&MetadataRequest { topics: Some(Vec::new()), ..MetadataRequest::default() });
    assert!(none.topics.is_empty() && none.brokers.len() == 2);
    let all = connection.call(&MetadataRequest { topics: None, ..MetadataRequest::default() });
    assert!(all.topics.iter().any(|known| known.name.as_deref() == Some(&topic.name)));
}

fn by_id(topic_id: Uuid) -> MetadataRequest {
    let topics = Some(vec![MetadataRequestTopic { topic_id, name: None }]);
    MetadataRequest { topics, allow_auto_topic_creation: false, ..MetadataRequest::default() }
}

fn a_topic_is_found_by_its_id(cluster: &Cluster) {
    let topic = cluster.topic();
    let told = cluster.connect(1).call(&by_id(topic.id)).topics.remove(0);
    assert_eq!((told.error_code, told.name), (ErrorCode::NONE, Some(topic.name)));
}

fn an_id_that_no_topic_has_is_unknown(cluster: &Cluster) {
    let told = cluster.connect(1).call(&by_id(Uuid([9; 16]))).topics.remove(0);
    assert_eq!((told.error_code, told.topic_id), (ErrorCode::UNKNOWN_TOPIC_ID, Uuid([9; 16])));
}
