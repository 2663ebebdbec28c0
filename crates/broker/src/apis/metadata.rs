//! `Metadata` v0-13: the brokers, and the leader of each partition.
//!
//! A topic is created if a client asks for it by name and allows it (v4 and newer), and the cluster allows it
//! (`auto.create.topics.enable`). The response already contains it, while Kafka tells the client to ask again.
//!
//! A broker that lags behind ([`Cluster::begin_lag`](crate::Cluster::begin_lag)) answers from its snapshot.
//!
//! A topic can be asked for by its id alone from v12 on. Before that, such a request closes the connection.
//!
//! Not here: authorized operations, racks.

use std::collections::BTreeMap;

use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::messages::metadata::{
    MetadataRequestTopic, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kavka_core::wire::messages::{MetadataRequest, MetadataResponse};

use super::{Answer, Context, Handle};
use crate::state::{Partition, State, Topic};

impl Handle for MetadataRequest {
    fn handle(self, state: &mut State, context: &Context) -> Answer<MetadataResponse> {
        let is_by_id = |topic: &MetadataRequestTopic| topic.name.is_none();
        if context.version() < 12 && self.topics.iter().flatten().any(is_by_id) {
            return Answer::Close;
        }
        let is_all = |topics: &Vec<_>| topics.is_empty() && context.version() == 0;
        let asked = self.topics.filter(|topics| !is_all(topics));
        if let Some(snapshot) = state.lagging.get(&context.broker_id) {
            return from_the_past(snapshot, asked).into();
        }
        let topics = match asked {
            None => state.topics.values().map(|topic| describe(state, topic)).collect(),
            Some(asked) => {
                let may_create = self.allow_auto_topic_creation && state.config.auto_create_topics;
                asked.into_iter().map(|topic| answer(state, topic, may_create)).collect()
            }
        };
        response(state, topics).into()
    }

    fn refuse(&self, error_code: ErrorCode) -> MetadataResponse {
        let refuse = |topic: &MetadataRequestTopic| failed(topic.clone(), error_code);
        let topics = self.topics.as_deref().unwrap_or_default().iter().map(refuse).collect();
        MetadataResponse { topics, error_code, ..MetadataResponse::default() }
    }
}

fn response(state: &State, topics: Vec<MetadataResponseTopic>) -> MetadataResponse {
    let describe = |broker: &crate::state::Broker| MetadataResponseBroker {
        node_id: broker.id,
        host: broker.host.clone(),
        port: broker.port.into(),
        rack: None,
    };
    MetadataResponse {
        brokers: state.alive().map(describe).collect(),
        cluster_id: Some(state.config.cluster_id.clone()),
        controller_id: state.controller(),
        topics,
        ..MetadataResponse::default()
    }
}

/// All of the metadata as it is now.
pub(crate) fn snapshot(state: &State) -> MetadataResponse {
    response(state, state.topics.values().map(|topic| describe(state, topic)).collect())
}

fn from_the_past(snapshot: &MetadataResponse, asked: Option<Vec<MetadataRequestTopic>>) -> MetadataResponse {
    let Some(asked) = asked else { return snapshot.clone() };
    let find = |asked: MetadataRequestTopic| {
        let is_same = |topic: &&MetadataResponseTopic| match &asked.name {
            Some(name) => topic.name.as_ref() == Some(name),
            None => topic.topic_id == asked.topic_id,
        };
        let known = snapshot.topics.iter().find(is_same).cloned();
        known.unwrap_or_else(|| failed(asked, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION))
    };
    MetadataResponse { topics: asked.into_iter().map(find).collect(), ..snapshot.clone() }
}

fn answer(state: &mut State, asked: MetadataRequestTopic, may_create: bool) -> MetadataResponseTopic {
    let Some(name) = asked.name.as_deref() else {
        return match state.topic_by_id(asked.topic_id) {
            Some(topic) => describe(state, topic),
            None => failed(asked, ErrorCode::UNKNOWN_TOPIC_ID),
        };
    };
    if state.topic(name).is_none() {
        match state.check_topic_name(name) {
            Err((error_code, _)) => return failed(asked, error_code),
            Ok(()) if !may_create => return failed(asked, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            Ok(()) => match state.assign(None, None) {
                Ok(assignment) => state.create_topic(name, assignment, BTreeMap::new()),
                Err((error_code, _)) => return failed(asked, error_code),
            },
        };
    }
    match state.topic(name) {
        Some(topic) => describe(state, topic),
        None => failed(asked, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
    }
}

fn failed(asked: MetadataRequestTopic, error_code: ErrorCode) -> MetadataResponseTopic {
    let MetadataRequestTopic { topic_id, name } = asked;
    MetadataResponseTopic { error_code, name, topic_id, ..MetadataResponseTopic::default() }
}

fn describe(state: &State, topic: &Topic) -> MetadataResponseTopic {
    let describe = |(index, partition)| describe_partition(state, index, partition);
    MetadataResponseTopic {
        name: Some(topic.name.to_string()),
        topic_id: topic.topic_id,
        partitions: (0..).zip(&topic.partitions).map(describe).collect(),
        ..MetadataResponseTopic::default()
    }
}

fn describe_partition(state: &State, partition_index: i32, partition: &Partition) -> MetadataResponsePartition {
    let (living, stopped) = partition.replicas.iter().partition(|id| state.is_up(**id));
    MetadataResponsePartition {
        error_code: if partition.leader.is_none() { ErrorCode::LEADER_NOT_AVAILABLE } else { ErrorCode::NONE },
        partition_index,
        leader_id: partition.leader,
        leader_epoch: Some(partition.leader_epoch),
        replica_nodes: partition.replicas.clone(),
        isr_nodes: living,
        offline_replicas: stopped,
    }
}
