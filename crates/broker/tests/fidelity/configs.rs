//! Settings of topics and brokers.

use kavka_core::wire::ErrorCode;
use kavka_core::wire::messages::DescribeConfigsRequest;
use kavka_core::wire::messages::describe_configs::{DescribeConfigsResource, DescribeConfigsResult};

use crate::cluster::{Cluster, unique};

on_every_broker!(
    the_settings_of_a_topic_say_where_they_come_from,
    only_the_settings_asked_for_are_described,
    the_settings_of_a_broker_are_described,
    what_does_not_exist_has_no_settings,
);

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
/// `config_source` of a setting made for the topic, and of one that nobody made.
const DYNAMIC_TOPIC_CONFIG: i8 = 1;

fn describe(cluster: &Cluster, resource_type: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsResult {
    let resource = DescribeConfigsResource {
        resource_type,
        resource_name: name.into(),
        configuration_keys: keys.map(|keys| keys.iter().map(|key| (*key).into()).collect()),
    };
    let request = DescribeConfigsRequest { resources: vec![resource], ..DescribeConfigsRequest::default() };
    cluster.connect(1).call(&request).results.remove(0)
}

fn the_settings_of_a_topic_say_where_they_come_from(cluster: &Cluster) {
    let topic = cluster.topic_with(&[("retention.ms", "12345")]);
    let told = describe(cluster, TOPIC, &topic.name, None);
    assert_eq!((told.error_code, told.resource_name), (ErrorCode::NONE, topic.name));
    let setting = |name: &str| told.configs.iter().find(|config| config.name == name).unwrap();
    let retention = setting("retention.ms");
    assert_eq!(retention.value.as_deref(), Some("12345"));
    assert_eq!(retention.config_source, Some(DYNAMIC_TOPIC_CONFIG));
    let largest = setting("max.message.bytes");
    assert_eq!(largest.value.as_deref(), Some("1048588"));
    assert_ne!(largest.config_source, Some(DYNAMIC_TOPIC_CONFIG));
}

fn only_the_settings_asked_for_are_described(cluster: &Cluster) {
    let topic = cluster.topic();
    let told = describe(cluster, TOPIC, &topic.name, Some(&["cleanup.policy", "no.such.setting"]));
    let names: Vec<_> = told.configs.iter().map(|config| (config.name.as_str(), config.value.as_deref())).collect();
    assert_eq!((told.error_code, names), (ErrorCode::NONE, vec![("cleanup.policy", Some("delete"))]));
}

fn the_settings_of_a_broker_are_described(cluster: &Cluster) {
    let told = describe(cluster, BROKER, "1", Some(&["message.max.bytes"]));
    assert_eq!(told.error_code, ErrorCode::NONE);
    let values: Vec<_> = told.configs.iter().map(|config| (config.name.as_str(), config.value.as_deref())).collect();
    assert_eq!(values, [("message.max.bytes", Some("1048588"))]);
}

fn what_does_not_exist_has_no_settings(cluster: &Cluster) {
    let told = describe(cluster, TOPIC, &unique("nowhere"), None);
    assert_eq!(told.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(describe(cluster, 77, "1", None).error_code, ErrorCode::INVALID_REQUEST);
}
