//! The client of a subcommand, and waits that Ctrl-C interrupts.

use std::future::Future;
use std::time::Duration;

use kavka::{Client, ClientConfig, Result as KavkaResult, TopicPartition};

use crate::failure::Failure;
use crate::signals::Interrupt;

/// How often a wait checks for Ctrl-C.
pub(crate) const STEP: Duration = Duration::from_millis(50);

/// A client, and the state of Ctrl-C.
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) interrupt: Interrupt,
}

impl Session {
    /// Makes the client; sends nothing yet.
    pub(crate) fn new(config: ClientConfig) -> Result<Self, Failure> {
        Ok(Self { client: Client::new(config)?, interrupt: Interrupt::listen()? })
    }

    /// Runs a call of the client; Ctrl-C interrupts it.
    pub(crate) fn wait<T: Send + 'static>(
        &self,
        future: impl Future<Output = KavkaResult<T>> + Send + 'static,
    ) -> Result<T, Failure> {
        let pending = self.client.start(future);
        match pending.wait_in_steps(None, STEP, || self.interrupt.check())? {
            Some(result) => Ok(result?),
            None => Err(Failure::new("the engine has ended")),
        }
    }

    /// These partitions of a topic; all of them if `wanted` is empty.
    pub(crate) fn partitions(&self, topic: &str, wanted: &[i32]) -> Result<Vec<TopicPartition>, Failure> {
        let topic = self.wait(self.client.topic(topic, false))?;
        let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        let mut partitions = wanted.to_vec();
        partitions.sort_unstable();
        partitions.dedup();
        if partitions.is_empty() {
            partitions = (0..count).collect();
        }
        if let Some(beyond) = partitions.iter().find(|partition| **partition >= count) {
            let sentence =
                format!("no such partition: {}-{beyond}; the topic has {count}, numbered from 0", topic.name);
            return Err(Failure::usage(sentence));
        }
        Ok(partitions.into_iter().map(|partition| TopicPartition::new(topic.name.clone(), partition)).collect())
    }
}
