//! Single requests, for what has no method of its own.

use kavka::{Call, Client, Target};
use kavka_core::wire::Uuid;
use kavka_core::wire::messages::MetadataRequest;
use kavka_core::wire::messages::metadata::MetadataRequestTopic;
use kavka_test_support::on_every_listener;
use kavka_test_support::rig::wait;

use crate::cluster::Cluster;

on_every_listener!(a_call_goes_in_no_newer_version_than_it_allows);

/// The newest version of `Metadata` without topic ids.
const WITHOUT_IDS: i16 = 9;

fn topic_id(client: &Client, topic: &str, max_version: i16) -> Uuid {
    let topics = Some(vec![MetadataRequestTopic { topic_id: Uuid::ZERO, name: Some(topic.into()) }]);
    let request = MetadataRequest { topics, ..MetadataRequest::default() };
    let call = Call { max_version, ..Call::new(Target::Any, request) };
    let owned = client.clone();
    wait(client, async move { owned.call(call).await.unwrap() }).topics[0].topic_id
}

fn a_call_goes_in_no_newer_version_than_it_allows(cluster: &Cluster) {
    let (client, topic) = (cluster.client(), cluster.topic(1));
    assert_ne!(topic_id(&client, &topic, i16::MAX), Uuid::ZERO);
    assert_eq!(topic_id(&client, &topic, WITHOUT_IDS), Uuid::ZERO);
}
