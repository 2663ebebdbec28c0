//! `CreateTopics` v0-7, `DeleteTopics` v0-6, `CreatePartitions` v0-3.
//!
//! Every broker accepts them, as in KRaft. They take effect at once, so the requests' time-outs are ignored.
//!
//! Not here: policies, and deletion by a topic id whose topic now has another name.

use std::collections::{BTreeMap, BTreeSet};

use kavka_core::wire::Uuid;
use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::messages::create_partitions::{CreatePartitionsTopic, CreatePartitionsTopicResult};
use kavka_core::wire::messages::create_topics::{CreatableTopic, CreatableTopicConfigs, CreatableTopicResult};
use kavka_core::wire::messages::delete_topics::{DeletableTopicResult, DeleteTopicState};
use kavka_core::wire::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest,
    DeleteTopicsResponse,
};

use super::{Answer, Context, Handle};
use crate::configs;
use crate::state::State;

type Refusal = (ErrorCode, &'static str);

impl Handle for CreateTopicsRequest {
    fn handle(self, state: &mut State, _: &Context) -> Answer<CreateTopicsResponse> {
        let is_repeated = |name: &str| self.topics.iter().filter(|topic| topic.name == name).count() > 1;
        let mut topics: Vec<CreatableTopicResult> = Vec::with_capacity(self.topics.len());
        for topic in &self.topics {
            if topics.iter().any(|answered| answered.name == topic.name) {
                continue;
            }
            let planned = if is_repeated(&topic.name) {
                Err((ErrorCode::INVALID_REQUEST, "the request has the topic more than once"))
            } else {
                plan(state, topic)
            };
            topics.push(match planned {
                Err((error_code, message)) => refused(topic, error_code, Some(message)),
                Ok(assignment) => create(state, topic, assignment, self.validate_only),
            });
        }
        CreateTopicsResponse { topics, ..CreateTopicsResponse::default() }.into()
    }

    fn refuse(&self, error_code: ErrorCode) -> CreateTopicsResponse {
        let topics = self.topics.iter().map(|topic| refused(topic, error_code, None)).collect();
        CreateTopicsResponse { topics, ..CreateTopicsResponse::default() }
    }
}

fn refused(topic: &CreatableTopic, error_code: ErrorCode, message: Option<&str>) -> CreatableTopicResult {
    CreatableTopicResult {
        name: topic.name.clone(),
        error_code,
        error_message: message.map(str::to_owned),
        ..CreatableTopicResult::default()
    }
}

/// The replicas for each partition of a topic, if it may be created.
fn plan(state: &State, topic: &CreatableTopic) -> Result<Vec<Vec<i32>>, Refusal> {
    state.check_topic_name(&topic.name)?;
    for config in &topic.configs {
        let no_value = (ErrorCode::INVALID_CONFIG, "the setting has no value");
        configs::find(configs::TOPIC, &config.name)?.check(config.value.as_deref().ok_or(no_value)?)?;
    }
    if topic.assignments.is_empty() {
        return state.assign(topic.num_partitions, topic.replication_factor);
    }
    if topic.num_partitions.is_some() || topic.replication_factor.is_some() {
        let why = "with an assignment, the number of partitions and the replication factor must be absent";
        return Err((ErrorCode::INVALID_REQUEST, why));
    }
    let by_index: BTreeMap<i32, &Vec<i32>> =
        topic.assignments.iter().map(|assignment| (assignment.partition_index, &assignment.broker_ids)).collect();
    if by_index.len() != topic.assignments.len() || !by_index.keys().copied().eq(0..topic.assignments.len() as i32) {
        return Err((ErrorCode::INVALID_REPLICA_ASSIGNMENT, "the partitions are not numbered from 0 without gaps"));
    }
    by_index.into_values().map(|broker_ids| check_replicas(state, broker_ids)).collect()
}

fn check_replicas(state: &State, broker_ids: &[i32]) -> Result<Vec<i32>, Refusal> {
    let distinct: BTreeSet<i32> = broker_ids.iter().copied().collect();
    let is_known = broker_ids.iter().all(|id| state.brokers.contains_key(id));
    if broker_ids.is_empty() || distinct.len() != broker_ids.len() || !is_known {
        return Err((ErrorCode::INVALID_REPLICA_ASSIGNMENT, "the replicas must be different brokers of the cluster"));
    }
    Ok(broker_ids.to_vec())
}

fn create(
    state: &mut State,
    topic: &CreatableTopic,
    assignment: Vec<Vec<i32>>,
    validate_only: bool,
) -> CreatableTopicResult {
    let set: BTreeMap<String, String> =
        topic.configs.iter().filter_map(|config| Some((config.name.clone(), config.value.clone()?))).collect();
    let describe = |setting: &configs::Setting| CreatableTopicConfigs {
        name: setting.name.to_owned(),
        value: Some(set.get(setting.name).map_or(setting.default, String::as_str).to_owned()),
        config_source: Some(if set.contains_key(setting.name) { 1 } else { 5 }),
        ..CreatableTopicConfigs::default()
    };
    let mut result = CreatableTopicResult {
        name: topic.name.clone(),
        num_partitions: Some(assignment.len() as i32),
        replication_factor: assignment.first().map(|replicas| replicas.len() as i16),
        configs: Some(configs::TOPIC.iter().map(describe).collect()),
        ..CreatableTopicResult::default()
    };
    if !validate_only {
        result.topic_id = state.create_topic(&topic.name, assignment, set);
    }
    result
}

impl Handle for DeleteTopicsRequest {
    fn handle(self, state: &mut State, _: &Context) -> Answer<DeleteTopicsResponse> {
        let responses = named(&self).into_iter().map(|topic| delete(state, topic)).collect();
        DeleteTopicsResponse { responses, ..DeleteTopicsResponse::default() }.into()
    }

    fn refuse(&self, error_code: ErrorCode) -> DeleteTopicsResponse {
        let refuse = |DeleteTopicState { name, topic_id }| DeletableTopicResult {
            name,
            topic_id,
            error_code,
            ..DeletableTopicResult::default()
        };
        let responses = named(self).into_iter().map(refuse).collect();
        DeleteTopicsResponse { responses, ..DeleteTopicsResponse::default() }
    }
}

/// The topics of a request, in the form of the newer versions.
fn named(request: &DeleteTopicsRequest) -> Vec<DeleteTopicState> {
    let by_name = |name: &String| DeleteTopicState { name: Some(name.clone()), topic_id: Uuid::ZERO };
    request.topics.iter().cloned().chain(request.topic_names.iter().map(by_name)).collect()
}

fn delete(state: &mut State, topic: DeleteTopicState) -> DeletableTopicResult {
    let found = match &topic.name {
        Some(name) => state.topic(name).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        None => state.topic_by_id(topic.topic_id).ok_or(ErrorCode::UNKNOWN_TOPIC_ID),
    };
    let DeleteTopicState { name, topic_id } = topic;
    match found.map(|topic| (topic.name.clone(), topic.topic_id)) {
        Err(error_code) => DeletableTopicResult { name, topic_id, error_code, ..DeletableTopicResult::default() },
        Ok((name, topic_id)) => {
            state.delete_topic(&name);
            DeletableTopicResult { name: Some(name.to_string()), topic_id, ..DeletableTopicResult::default() }
        }
    }
}

impl Handle for CreatePartitionsRequest {
    fn handle(self, state: &mut State, _: &Context) -> Answer<CreatePartitionsResponse> {
        let add = |topic: &CreatePartitionsTopic| match plan_partitions(state, topic) {
            Err((error_code, message)) => refused_partitions(topic, error_code, Some(message)),
            Ok(assignment) => {
                if !self.validate_only {
                    state.add_partitions(&topic.name, assignment);
                }
                refused_partitions(topic, ErrorCode::NONE, None)
            }
        };
        let results = self.topics.iter().map(add).collect();
        CreatePartitionsResponse { results, ..CreatePartitionsResponse::default() }.into()
    }

    fn refuse(&self, error_code: ErrorCode) -> CreatePartitionsResponse {
        let results = self.topics.iter().map(|topic| refused_partitions(topic, error_code, None)).collect();
        CreatePartitionsResponse { results, ..CreatePartitionsResponse::default() }
    }
}

fn refused_partitions(
    topic: &CreatePartitionsTopic,
    error_code: ErrorCode,
    message: Option<&str>,
) -> CreatePartitionsTopicResult {
    CreatePartitionsTopicResult { name: topic.name.clone(), error_code, error_message: message.map(str::to_owned) }
}

/// The replicas for each new partition.
fn plan_partitions(state: &State, asked: &CreatePartitionsTopic) -> Result<Vec<Vec<i32>>, Refusal> {
    let unknown = (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "there is no such topic");
    let topic = state.topic(&asked.name).ok_or(unknown)?;
    let added = usize::try_from(asked.count).unwrap_or(0).saturating_sub(topic.partitions.len());
    if added == 0 {
        return Err((ErrorCode::INVALID_PARTITIONS, "the topic has as many partitions already, or more"));
    }
    let Some(assignments) = &asked.assignments else {
        let replication_factor = topic.partitions.first().map(|partition| partition.replicas.len() as i16);
        return state.assign(i32::try_from(added).ok(), replication_factor);
    };
    if assignments.len() != added {
        return Err((ErrorCode::INVALID_REPLICA_ASSIGNMENT, "there must be one assignment for each new partition"));
    }
    assignments.iter().map(|assignment| check_replicas(state, &assignment.broker_ids)).collect()
}
