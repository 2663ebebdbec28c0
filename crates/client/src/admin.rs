//! Topics made and removed, as plain `async` functions over [`Client::call`] (KIP-4).
//!
//! A call is sent to the controller, and sent again while that can help and `max.block.ms` has not passed. A topic
//! whose creation was asked for twice because the first answer was lost is reported as existing: the caller decides
//! whether that is a fault.

use std::sync::Arc;
use std::time::Duration;

use kavka_core::cluster::{Call, Target};
use kavka_core::error::{Error, ErrorKind, Phase, Place, Result, printable};
use kavka_core::wire::messages::create_topics::{CreatableTopic, CreatableTopicConfig};
use kavka_core::wire::messages::delete_topics::DeleteTopicState;
use kavka_core::wire::messages::{CreateTopicsRequest, DeleteTopicsRequest};
use kavka_core::wire::primitives::Uuid;
use kavka_core::wire::{ErrorCode, Request};
use tokio::time::{sleep, timeout};

use crate::client::{Client, check_topic_name};

/// A topic to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; `None` leaves it to the broker (`num.partitions`), from Kafka 2.4 on (KIP-464).
    pub partitions: Option<i32>,
    /// How many replicas of each; `None` leaves it to the broker (`default.replication.factor`), from Kafka 2.4 on.
    pub replication_factor: Option<i16>,
    /// Settings that differ from the broker's defaults, such as `cleanup.policy`.
    pub configs: Vec<(String, String)>,
}

impl Client {
    /// Makes a topic. It may take the brokers a moment to know it: [`Client::topic`] waits for that.
    ///
    /// # Errors
    ///
    /// `Broker` with the controller's code and words: `TOPIC_ALREADY_EXISTS`, `INVALID_REPLICATION_FACTOR`, ...
    pub async fn create_topic(&self, topic: &NewTopic) -> Result<()> {
        check_topic_name(&topic.name)?;
        let config =
            |(name, value): &(String, String)| CreatableTopicConfig { name: name.clone(), value: Some(value.clone()) };
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: topic.name.clone(),
                num_partitions: topic.partitions,
                replication_factor: topic.replication_factor,
                configs: topic.configs.iter().map(config).collect(),
                ..CreatableTopic::default()
            }],
            timeout_ms: self.controller_timeout_ms(),
            ..CreateTopicsRequest::default()
        };
        self.ask_controller(&topic.name, request, |response| {
            response.topics.into_iter().next().map(|topic| (topic.error_code, topic.error_message))
        })
        .await
    }

    /// Removes a topic with everything in it.
    ///
    /// # Errors
    ///
    /// `Broker` with the controller's code: `UNKNOWN_TOPIC_OR_PARTITION`, `TOPIC_DELETION_DISABLED`, ...
    pub async fn delete_topic(&self, name: &str) -> Result<()> {
        check_topic_name(name)?;
        let request = DeleteTopicsRequest {
            topics: vec![DeleteTopicState { name: Some(name.to_owned()), topic_id: Uuid::ZERO }],
            topic_names: vec![name.to_owned()],
            timeout_ms: self.controller_timeout_ms(),
        };
        self.ask_controller(name, request, |response| {
            response.responses.into_iter().next().map(|topic| (topic.error_code, topic.error_message))
        })
        .await?;
        self.driver.remove_topic(name);
        Ok(())
    }

    /// How long the controller may work on it; the answer still has to travel.
    fn controller_timeout_ms(&self) -> i32 {
        i32::try_from(self.config().request_timeout.as_millis() / 2).unwrap_or(i32::MAX)
    }

    /// Asks about one topic until the answer is final.
    async fn ask_controller<R: Request + Clone>(
        &self,
        topic: &str,
        request: R,
        verdict: impl Fn(R::Response) -> Option<(ErrorCode, Option<String>)>,
    ) -> Result<()> {
        self.driver.with_timers(self.ask_controller_in_time(topic, request, verdict)).await
    }

    async fn ask_controller_in_time<R: Request + Clone>(
        &self,
        topic: &str,
        request: R,
        verdict: impl Fn(R::Response) -> Option<(ErrorCode, Option<String>)>,
    ) -> Result<()> {
        let deadline = self.driver.now() + self.max_block();
        let mut backoff = self.config().retry_backoff;
        let mut last: Option<Error> = None;
        loop {
            let call = self.call(Call::new(Target::Controller, request.clone()));
            let answer = timeout(deadline.since(self.driver.now()), call).await.unwrap_or_else(|_| {
                let what = "no answer from the controller within max.block.ms";
                let error = Error::new(ErrorKind::TimedOut(Phase::Request), what);
                Err(last.take().map_or(error.clone(), |last| error.with_source(last)))
            });
            let error = match answer.map(&verdict) {
                Ok(Some((ErrorCode::NONE, _))) => return Ok(()),
                Ok(Some((code, message))) => refused(code, message),
                Ok(None) => Error::new(ErrorKind::Malformed, "the controller's answer does not name the topic"),
                Err(error) => error,
            };
            let error = error.at(Place { topic: Some(Arc::from(topic)), ..Place::default() });
            let left = deadline.since(self.driver.now());
            if !is_worth_a_retry(&error) || backoff >= left {
                return Err(error);
            }
            // The controller may be another broker by now.
            let attempt = self.driver.next_metadata_attempt();
            self.driver.refresh_metadata();
            if timeout(left, async { (attempt.await.is_ok(), sleep(backoff).await) }).await.is_err() {
                return Err(error);
            }
            last = Some(error);
            backoff = (backoff * 2).min(self.config().retry_backoff_max).max(Duration::from_millis(1));
        }
    }
}

/// A topic that is unknown when it shall be removed stays unknown, although a client that reads should ask again.
fn is_worth_a_retry(error: &Error) -> bool {
    error.is_retriable() && error.code() != Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
}

fn refused(code: ErrorCode, message: Option<String>) -> Error {
    let error = Error::new(ErrorKind::Broker(code), format!("the controller answered {code}"));
    match message.filter(|message| !message.is_empty()) {
        Some(message) => error.with_source(std::io::Error::other(printable(&message))),
        None => error,
    }
}
