//! Creates, deletes (KIP-4), lists and describes topics.
//!
//! Requests go to the controller, and are retried while that can help, for up to `max.block.ms`. If the response to a
//! creation is lost, the retry reports that the topic exists; the caller decides whether that is an error.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kavka_core::cluster::{Call, Target, Topic};
use kavka_core::error::{Error, ErrorKind, Place, Result, printable_reason};
use kavka_core::wire::messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsResponse,
};
use kavka_core::wire::messages::delete_topics::{DELETE_BY_NAME, DeleteTopicsResponse};
use kavka_core::wire::messages::{CreateTopicsRequest, DeleteTopicsRequest};
use kavka_core::wire::{ErrorCode, Request};

use super::Admin;
use crate::client::check_topic_name;

/// A topic to create.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// The number of partitions; `None`: the broker's `num.partitions` (Kafka 2.4 and newer, KIP-464).
    pub partitions: Option<i32>,
    /// The number of replicas of each partition; `None`: the broker's `default.replication.factor` (Kafka 2.4 and
    /// newer).
    pub replication_factor: Option<i16>,
    /// For each partition its number and the ids of the brokers that hold it; replaces the two numbers above.
    pub assignments: Vec<(i32, Vec<i32>)>,
    /// Topic settings that differ from the broker's defaults, such as `cleanup.policy`.
    pub configs: Vec<(String, String)>,
}

impl NewTopic {
    fn to_wire(&self) -> CreatableTopic {
        let config =
            |(name, value): &(String, String)| CreatableTopicConfig { name: name.clone(), value: Some(value.clone()) };
        let assignment = |(partition_index, broker_ids): &(i32, Vec<i32>)| CreatableReplicaAssignment {
            partition_index: *partition_index,
            broker_ids: broker_ids.clone(),
        };
        CreatableTopic {
            name: self.name.clone(),
            num_partitions: self.partitions,
            replication_factor: self.replication_factor,
            assignments: self.assignments.iter().map(assignment).collect(),
            configs: self.configs.iter().map(config).collect(),
        }
    }
}

/// The outcome for each topic of a request, by name.
pub type TopicOutcomes = BTreeMap<String, Result<()>>;

/// A topic in a response: its name, the error code and the controller's message.
type Answered = (String, ErrorCode, Option<String>);

impl Admin {
    /// Creates a topic. Brokers may take a moment to learn of it; [`describe_topic`](Self::describe_topic) waits for
    /// that.
    ///
    /// # Errors
    ///
    /// `Broker` with the controller's code and message: `TOPIC_ALREADY_EXISTS`, `INVALID_REPLICATION_FACTOR`, ...
    pub fn create_topic(&self, topic: &NewTopic) -> impl Future<Output = Result<()>> + Send + 'static + use<> {
        let name = topic.name.clone();
        let created = self.create_topics(std::slice::from_ref(topic), self.half_a_request());
        async move { only(&name, created.await?) }
    }

    /// Creates topics. The controller answers after at most `timeout`, and continues in the background if it has not
    /// finished.
    ///
    /// # Errors
    ///
    /// The reason why there was no response at all; otherwise each topic has its own outcome.
    pub fn create_topics(
        &self,
        topics: &[NewTopic],
        timeout: Duration,
    ) -> impl Future<Output = Result<TopicOutcomes>> + Send + 'static + use<> {
        let (admin, topics) = (self.clone(), topics.to_vec());
        async move { admin.ask_to_create(&topics, timeout).await }
    }

    async fn ask_to_create(&self, topics: &[NewTopic], timeout: Duration) -> Result<TopicOutcomes> {
        topics.iter().try_for_each(|topic| check_topic_name(&topic.name))?;
        let request = CreateTopicsRequest {
            topics: topics.iter().map(NewTopic::to_wire).collect(),
            timeout_ms: i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX),
            ..CreateTopicsRequest::default()
        };
        let names = topics.iter().map(|topic| topic.name.as_str());
        let answered = |response: CreateTopicsResponse| {
            response.topics.into_iter().map(|topic| (topic.name, topic.error_code, topic.error_message)).collect()
        };
        self.ask_controller(Call::new(Target::Controller, request), names, answered).await
    }

    /// Deletes a topic and all its records.
    ///
    /// # Errors
    ///
    /// `Broker` with the controller's code: `UNKNOWN_TOPIC_OR_PARTITION`, `TOPIC_DELETION_DISABLED`, ...
    pub fn delete_topic(&self, name: &str) -> impl Future<Output = Result<()>> + Send + 'static + use<> {
        let name = name.to_owned();
        let deleted = self.delete_topics(std::slice::from_ref(&name), self.half_a_request());
        async move { only(&name, deleted.await?) }
    }

    /// Deletes topics and all their records. The controller answers after at most `timeout`, and continues in the
    /// background if it has not finished.
    ///
    /// # Errors
    ///
    /// The reason why there was no response at all; otherwise each topic has its own outcome.
    pub fn delete_topics(
        &self,
        names: &[String],
        timeout: Duration,
    ) -> impl Future<Output = Result<TopicOutcomes>> + Send + 'static + use<> {
        let (admin, names) = (self.clone(), names.to_vec());
        async move { admin.ask_to_delete(&names, timeout).await }
    }

    /// All topics that this client may see, sorted by name; [`Topic::is_internal`] marks Kafka's own.
    pub fn list_topics(&self) -> impl Future<Output = Result<Vec<Arc<Topic>>>> + Send + 'static + use<> {
        let refreshed = self.0.refresh_metadata();
        async move { Ok(refreshed.await?.topics().map(Arc::clone).collect()) }
    }

    /// The partitions of a topic, with their leaders and replicas.
    ///
    /// # Errors
    ///
    /// Those of [`Client::topic`](crate::Client::topic).
    pub fn describe_topic(&self, name: &str) -> impl Future<Output = Result<Arc<Topic>>> + Send + 'static + use<> {
        self.0.topic(name, false)
    }

    async fn ask_to_delete(&self, names: &[String], timeout: Duration) -> Result<TopicOutcomes> {
        names.iter().try_for_each(|name| check_topic_name(name))?;
        let request = DeleteTopicsRequest {
            topic_names: names.to_vec(),
            timeout_ms: i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX),
            ..DeleteTopicsRequest::default()
        };
        let call = Call { max_version: DELETE_BY_NAME, ..Call::new(Target::Controller, request) };
        let answered = |response: DeleteTopicsResponse| {
            let topics = response.responses.into_iter();
            topics.map(|topic| (topic.name.unwrap_or_default(), topic.error_code, topic.error_message)).collect()
        };
        let outcomes = self.ask_controller(call, names.iter().map(String::as_str), answered).await?;
        for (name, _) in outcomes.iter().filter(|(_, outcome)| outcome.is_ok()) {
            self.0.driver.forget_topic(name);
        }
        Ok(outcomes)
    }

    /// The default `timeout_ms` of a request: half of `request.timeout.ms`, so that the response arrives in time.
    fn half_a_request(&self) -> Duration {
        self.0.config().request_timeout / 2
    }

    /// Sends the request again, for all its topics, while no topic has a final outcome.
    async fn ask_controller<'a, R: Request + Clone>(
        &self,
        call: Call<R>,
        names: impl Iterator<Item = &'a str> + Clone,
        answered: impl Fn(R::Response) -> Vec<Answered>,
    ) -> Result<TopicOutcomes> {
        let asked = self.0.driver.call(call, self.0.max_block(), |response| {
            let mut outcomes: TopicOutcomes = names.clone().map(|name| (name.to_owned(), Err(unnamed(name)))).collect();
            for (name, code, message) in answered(response) {
                let outcome = refused(&name, code, message).map_or(Ok(()), Err);
                outcomes.entry(name).and_modify(|slot| *slot = outcome);
            }
            let again = |outcome: &Result<()>| outcome.as_ref().is_err_and(is_worth_a_retry);
            match outcomes.values().next() {
                Some(Err(error)) if outcomes.values().all(again) => Err(error.clone()),
                _ => Ok(outcomes),
            }
        });
        let topic = names.clone().next().filter(|_| names.clone().count() == 1).map(Arc::from);
        let in_time = |error: Error| match error.kind() {
            ErrorKind::TimedOut(phase) => {
                Error::new(ErrorKind::TimedOut(phase), "no answer from the controller within max.block.ms")
                    .with_source(error)
            }
            _ => error,
        };
        asked.await.map_err(|error| in_time(error).at(Place { topic, ..Place::default() }))
    }
}

/// The outcome of a request for a single topic.
fn only(name: &str, mut outcomes: TopicOutcomes) -> Result<()> {
    outcomes.remove(name).unwrap_or_else(|| Err(unnamed(name)))
}

fn unnamed(name: &str) -> Error {
    let error = Error::new(ErrorKind::Malformed, "the controller's answer does not name the topic");
    error.at(Place { topic: Some(name.into()), ..Place::default() })
}

/// Unlike for a reader, "unknown topic" is final when deleting. After "request timed out", the controller continues in
/// the background, so a retry would only report that the topic exists.
fn is_worth_a_retry(error: &Error) -> bool {
    let is_final = [ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, ErrorCode::REQUEST_TIMED_OUT];
    error.is_retriable() && !error.code().is_some_and(|code| is_final.contains(&code))
}

fn refused(name: &str, code: ErrorCode, message: Option<String>) -> Option<Error> {
    let error = Error::from_code(code)?.at(Place { topic: Some(name.into()), ..Place::default() });
    Some(match message.filter(|message| !message.is_empty()) {
        Some(message) => error.with_source(std::io::Error::other(printable_reason(&message))),
        None => error,
    })
}
