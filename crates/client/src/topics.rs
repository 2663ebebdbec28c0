//! Topics looked up, made and removed: what a program asks of a cluster beside records.

use std::sync::Arc;

use kavka_core::cluster::Topic;
use kavka_core::consumer::TopicPartition;
use kavka_core::error::Result;

use crate::{Client, NewTopic};

/// Makes, removes, lists and describes topics; from [`Client::admin`].
#[derive(Debug, Clone)]
pub struct Admin(Client);

impl Client {
    /// What is done to topics as a whole.
    pub fn admin(&self) -> Admin {
        Admin(self.clone())
    }

    /// The partitions of a topic, in order. It is not created.
    ///
    /// # Errors
    ///
    /// Those of [`Client::topic`].
    pub async fn partitions(&self, topic: &str) -> Result<Vec<TopicPartition>> {
        let topic = self.topic(topic, false).await?;
        let partitions = (0..).zip(&topic.partitions);
        Ok(partitions.map(|(number, _)| TopicPartition::new(Arc::clone(&topic.name), number)).collect())
    }
}

impl Admin {
    /// Makes a topic. It may take the brokers a moment to know it: [`describe_topic`](Self::describe_topic) waits.
    ///
    /// # Errors
    ///
    /// `Broker` with the controller's code and words: `TOPIC_ALREADY_EXISTS`, `INVALID_REPLICATION_FACTOR`, ...
    pub async fn create_topic(&self, topic: &NewTopic) -> Result<()> {
        self.0.create_topic(topic).await
    }

    /// Removes a topic with everything in it.
    ///
    /// # Errors
    ///
    /// `Broker` with the controller's code: `UNKNOWN_TOPIC_OR_PARTITION`, `TOPIC_DELETION_DISABLED`, ...
    pub async fn delete_topic(&self, name: &str) -> Result<()> {
        self.0.delete_topic(name).await
    }

    /// Every topic that we may see, by name; [`Topic::is_internal`] marks Kafka's own.
    pub async fn list_topics(&self) -> Result<Vec<Arc<Topic>>> {
        let metadata = self.0.refresh_metadata().await?;
        Ok(metadata.topics().map(Arc::clone).collect())
    }

    /// The partitions of one topic with their leaders and replicas.
    ///
    /// # Errors
    ///
    /// Those of [`Client::topic`].
    pub async fn describe_topic(&self, name: &str) -> Result<Arc<Topic>> {
        self.0.topic(name, false).await
    }
}
