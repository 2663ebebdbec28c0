//! Settings of topics and brokers.

use kavka_core::wire::messages::describe_configs::{DescribeConfigsResource, DescribeConfigsResult};
use kavka_core::wire::messages::incremental_alter_configs::{AlterConfigsResource, AlterableConfig};
use kavka_core::wire::messages::{DescribeConfigsRequest, IncrementalAlterConfigsRequest};
use kavka_core::wire::{ApiKey, ErrorCode};

use crate::cluster::{Cluster, Topic, unique, until};

on_every_broker!(
    the_settings_of_a_topic_say_where_they_come_from,
    only_the_settings_asked_for_are_described,
    the_settings_of_a_broker_are_described,
    what_does_not_exist_has_no_settings,
    a_setting_of_a_topic_is_set_and_taken_back,
    lists_are_added_to_and_taken_from,
    a_request_that_only_validates_changes_nothing,
    of_changes_with_a_mistake_among_them_none_is_made,
    changes_that_cannot_be_are_refused,
    what_does_not_exist_cannot_be_changed,
    a_setting_of_a_group_is_set_and_taken_back,
    settings_of_a_group_that_do_not_fit_together_are_refused,
);

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const GROUP: i8 = 32;
/// The `config_source` of a setting that was set for the topic or the group.
const DYNAMIC_TOPIC_CONFIG: i8 = 1;
const DYNAMIC_GROUP_CONFIG: i8 = 8;

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

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// A change: the setting, the operation, and its value.
type Change<'a> = (&'a str, i8, Option<&'a str>);

fn alter(
    cluster: &Cluster,
    (resource_type, name): (i8, &str),
    changes: &[Change<'_>],
    validate_only: bool,
) -> ErrorCode {
    let change = |(name, config_operation, value): &Change<'_>| AlterableConfig {
        name: (*name).into(),
        config_operation: *config_operation,
        value: value.map(Into::into),
    };
    let configs = changes.iter().map(change).collect();
    let resources = vec![AlterConfigsResource { resource_type, resource_name: name.into(), configs }];
    let answer = cluster.connect(1).call(&IncrementalAlterConfigsRequest { resources, validate_only });
    assert_eq!((answer.responses[0].resource_type, answer.responses[0].resource_name.as_str()), (resource_type, name));
    answer.responses[0].error_code
}

fn change(cluster: &Cluster, topic: &Topic, setting: &str, operation: i8, value: Option<&str>) -> ErrorCode {
    alter(cluster, (TOPIC, &topic.name), &[(setting, operation, value)], false)
}

fn value_of(cluster: &Cluster, topic: &Topic, setting: &str) -> String {
    describe(cluster, TOPIC, &topic.name, Some(&[setting])).configs.remove(0).value.unwrap()
}

/// Waits until the broker that is asked knows the change.
fn await_value(cluster: &Cluster, topic: &Topic, setting: &str, value: &str) {
    until("the setting to change", || (value_of(cluster, topic, setting) == value).then_some(()));
}

fn a_setting_of_a_topic_is_set_and_taken_back(cluster: &Cluster) {
    let topic = cluster.topic();
    assert_eq!(change(cluster, &topic, "max.message.bytes", SET, Some("12345")), ErrorCode::NONE);
    await_value(cluster, &topic, "max.message.bytes", "12345");
    assert_eq!(change(cluster, &topic, "max.message.bytes", DELETE, None), ErrorCode::NONE);
    await_value(cluster, &topic, "max.message.bytes", "1048588");
}

fn lists_are_added_to_and_taken_from(cluster: &Cluster) {
    let topic = cluster.topic();
    assert_eq!(change(cluster, &topic, "cleanup.policy", APPEND, Some("compact")), ErrorCode::NONE);
    await_value(cluster, &topic, "cleanup.policy", "delete,compact");
    assert_eq!(change(cluster, &topic, "cleanup.policy", SUBTRACT, Some("delete")), ErrorCode::NONE);
    await_value(cluster, &topic, "cleanup.policy", "compact");
    assert_eq!(change(cluster, &topic, "retention.ms", APPEND, Some("1")), ErrorCode::INVALID_CONFIG);
}

fn a_request_that_only_validates_changes_nothing(cluster: &Cluster) {
    let topic = cluster.topic();
    let resource = (TOPIC, topic.name.as_str());
    assert_eq!(alter(cluster, resource, &[("max.message.bytes", SET, Some("12345"))], true), ErrorCode::NONE);
    // Brokers apply changes in order: once a later one is known, the earlier ones are, too.
    assert_eq!(change(cluster, &topic, "flush.messages", SET, Some("7")), ErrorCode::NONE);
    await_value(cluster, &topic, "flush.messages", "7");
    assert_eq!(value_of(cluster, &topic, "max.message.bytes"), "1048588");
}

fn of_changes_with_a_mistake_among_them_none_is_made(cluster: &Cluster) {
    let topic = cluster.topic();
    let changes = [("max.message.bytes", SET, Some("12345")), ("segment.bytes", SET, Some("many"))];
    assert_eq!(alter(cluster, (TOPIC, &topic.name), &changes, false), ErrorCode::INVALID_CONFIG);
    assert_eq!(change(cluster, &topic, "flush.messages", SET, Some("7")), ErrorCode::NONE);
    await_value(cluster, &topic, "flush.messages", "7");
    assert_eq!(value_of(cluster, &topic, "max.message.bytes"), "1048588");
}

fn changes_that_cannot_be_are_refused(cluster: &Cluster) {
    let topic = cluster.topic();
    assert_eq!(change(cluster, &topic, "no.such.setting", SET, Some("1")), ErrorCode::INVALID_CONFIG);
    assert_eq!(change(cluster, &topic, "retention.ms", SET, None), ErrorCode::INVALID_REQUEST);
    let twice = [("retention.ms", SET, Some("1")), ("retention.ms", DELETE, None)];
    assert_eq!(alter(cluster, (TOPIC, &topic.name), &twice, false), ErrorCode::INVALID_REQUEST);
}

fn what_does_not_exist_cannot_be_changed(cluster: &Cluster) {
    let changes = [("retention.ms", SET, Some("1"))];
    let error_code = alter(cluster, (TOPIC, &unique("nowhere")), &changes, false);
    assert_eq!(error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(alter(cluster, (77, "1"), &changes, false), ErrorCode::INVALID_REQUEST);
    assert_eq!(alter(cluster, (BROKER, "1"), &[("broker.id", SET, Some("9"))], false), ErrorCode::INVALID_REQUEST);
}

/// Whether groups have settings. Kafka 3 refuses to change any.
fn have_groups_settings(cluster: &Cluster) -> bool {
    let is_kafka_3 = *cluster.connect(1).versions(ApiKey::Produce).end() < 13;
    if is_kafka_3 {
        let changes = [("consumer.session.timeout.ms", SET, Some("50000"))];
        assert_eq!(alter(cluster, (GROUP, &unique("group")), &changes, false), ErrorCode::INVALID_REQUEST);
    }
    !is_kafka_3
}

/// The value of a group's setting, and where it comes from.
fn group_setting(cluster: &Cluster, group_id: &str, setting: &str) -> (String, Option<i8>) {
    let told = describe(cluster, GROUP, group_id, Some(&[setting])).configs.remove(0);
    (told.value.unwrap(), told.config_source)
}

fn a_setting_of_a_group_is_set_and_taken_back(cluster: &Cluster) {
    if !have_groups_settings(cluster) {
        return;
    }
    let group_id = unique("group");
    let change = |operation, value| {
        let changes = [("consumer.heartbeat.interval.ms", operation, value)];
        alter(cluster, (GROUP, &group_id), &changes, false)
    };
    let setting = || group_setting(cluster, &group_id, "consumer.heartbeat.interval.ms");
    let (default, source) = setting();
    assert_ne!(source, Some(DYNAMIC_GROUP_CONFIG));
    assert_eq!(group_setting(cluster, &group_id, "consumer.session.timeout.ms").0, "45000");
    assert_eq!(change(SET, Some("2500")), ErrorCode::NONE, "the group need not exist");
    until("the setting to change", || (setting() == ("2500".to_owned(), Some(DYNAMIC_GROUP_CONFIG))).then_some(()));
    assert_eq!(change(DELETE, None), ErrorCode::NONE);
    until("the setting to go back", || (setting() == (default.clone(), source)).then_some(()));
}

fn settings_of_a_group_that_do_not_fit_together_are_refused(cluster: &Cluster) {
    if !have_groups_settings(cluster) {
        return;
    }
    let group_id = unique("group");
    let set = |name: &str, value: &str| alter(cluster, (GROUP, &group_id), &[(name, SET, Some(value))], false);
    assert_eq!(set("no.such.setting", "1"), ErrorCode::INVALID_CONFIG);
    assert_eq!(set("consumer.session.timeout.ms", "long"), ErrorCode::INVALID_CONFIG);
    assert_eq!(set("consumer.session.timeout.ms", "900"), ErrorCode::INVALID_CONFIG);
    assert_eq!(set("consumer.session.timeout.ms", "60001"), ErrorCode::INVALID_CONFIG);
    assert_eq!(set("consumer.heartbeat.interval.ms", "1"), ErrorCode::INVALID_CONFIG);
    assert_eq!(set("consumer.heartbeat.interval.ms", "15001"), ErrorCode::INVALID_CONFIG);
    assert_eq!(group_setting(cluster, &group_id, "consumer.session.timeout.ms").0, "45000");
    let nameless = alter(cluster, (GROUP, ""), &[("consumer.session.timeout.ms", SET, Some("50000"))], false);
    assert_eq!(nameless, ErrorCode::INVALID_REQUEST);
    assert_eq!(describe(cluster, GROUP, "", None).error_code, ErrorCode::INVALID_REQUEST);
}
