//! A client of one cluster: where everything else begins.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kavka_core::cluster::{Call, Lookup, Metadata, Reachability, Step, Topic};
use kavka_core::config::ClientConfig;
use kavka_core::consumer::TopicPartition;
use kavka_core::error::{Error, ErrorKind, Phase, Place, Result};
use kavka_core::wire::{ErrorCode, Request};
use tokio::time::timeout;

use crate::blocking::Pending;
use crate::driver::{Alive, Driver, Network, Tcp, WireTap};
use crate::memory::Memory;

/// A client of one Kafka cluster. Cheap to clone.
///
/// It owns one engine thread, which ends when the last clone and everything made from it is dropped.
#[derive(Clone)]
pub struct Client {
    pub(crate) driver: Driver,
    pub(crate) alive: Arc<Alive>,
    pub(crate) memory: Memory,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("bootstrap_servers", &self.config().bootstrap_servers).finish_non_exhaustive()
    }
}

impl Client {
    /// Checks the settings and starts the engine; does not wait for the network.
    pub fn new(config: ClientConfig) -> Result<Self> {
        Self::with_network(config, Arc::new(Tcp::default()), None)
    }

    /// The same with a resolver and dialer of the caller's, and with a `tap` that sees every frame.
    pub fn with_network(config: ClientConfig, network: Arc<dyn Network>, tap: Option<WireTap>) -> Result<Self> {
        let seed = getrandom::u64()
            .map_err(|cause| Error::new(ErrorKind::System, "the system gives no random numbers").with_source(cause))?;
        let memory = Memory::new(config.buffer_memory);
        let (driver, alive) = Driver::start(config, network, tap, seed)?;
        Ok(Self { driver, alive, memory })
    }

    /// The settings it was made with.
    pub fn config(&self) -> &ClientConfig {
        self.driver.config()
    }

    /// A client of the cluster that is found at `host:port`, or at one of several with commas between them, with the
    /// default settings. Waits for the first metadata.
    ///
    /// # Errors
    ///
    /// `Config`, naming the server that cannot be read; those of [`ready`](Self::ready).
    pub fn connect(bootstrap_servers: &str) -> impl Future<Output = Result<Self>> + Send + 'static + use<> {
        let config = ClientConfig::new(bootstrap_servers);
        async move {
            let client = Self::new(config?)?;
            client.ready().await?;
            Ok(client)
        }
    }

    /// Waits for the first metadata.
    ///
    /// Every bootstrap server is tried up to three times, or once if they do not even refuse; the error is the last
    /// one's, with its root cause.
    pub fn ready(&self) -> impl Future<Output = Result<Arc<Metadata>>> + Send + 'static + use<> {
        let client = self.clone();
        async move {
            let mut reachability = client.reachability();
            loop {
                match client.refresh_metadata().await {
                    Ok(metadata) => return Ok(metadata),
                    Err(error) => reachability.handle_attempt(client.driver.now(), Err(error))?,
                }
            }
        }
    }

    /// What is known of the cluster now.
    pub fn metadata(&self) -> Arc<Metadata> {
        self.driver.metadata()
    }

    /// Asks for the brokers and every topic, and waits for an answer to a request that was sent after the future was
    /// first polled.
    pub fn refresh_metadata(&self) -> impl Future<Output = Result<Arc<Metadata>>> + Send + 'static + use<> {
        let client = self.clone();
        async move {
            client.driver.refreshed_all().await?;
            Ok(client.driver.metadata())
        }
    }

    fn reachability(&self) -> Reachability {
        let config = self.config();
        Reachability::new(self.driver.now(), config.bootstrap_servers.len(), config.connection_setup_timeout)
    }

    /// Waits until a topic is known and its partitions have leaders.
    ///
    /// A partition that stays without one for a second (with the default back-off) does not keep the topic from being
    /// used, as long as another has one.
    ///
    /// With `create`, a broker that allows it creates the topic (`auto.create.topics.enable`). The limit is
    /// `max.block.ms`; a topic that no broker knows is refused much earlier.
    pub fn topic(&self, name: &str, create: bool) -> impl Future<Output = Result<Arc<Topic>>> + Send + 'static + use<> {
        let (client, name) = (self.clone(), Arc::from(name));
        async move { client.wait_for_topic(name, create).await }
    }

    async fn wait_for_topic(&self, name: Arc<str>, create: bool) -> Result<Arc<Topic>> {
        check_topic_name(&name)?;
        let limit = self.config().max_block;
        let found = self.driver.with_timers(async { timeout(limit, self.find_topic(&name, create)).await });
        found.await.unwrap_or_else(|_| {
            let what = format!("no leader while {}", Phase::Metadata);
            let error = Error::new(ErrorKind::TimedOut(Phase::Metadata), what);
            let error = error.at(Place { topic: Some(Arc::clone(&name)), ..Place::default() });
            Err(match self.driver.metadata_error() {
                Some(cause) => error.with_source(cause),
                None => error,
            })
        })
    }

    async fn find_topic(&self, name: &Arc<str>, create: bool) -> Result<Arc<Topic>> {
        let _in_use = self.driver.hold_topic(name);
        let mut lookup = Lookup::new(Arc::clone(name), create, self.reachability());
        loop {
            let outcome = match lookup.poll_step(&self.driver.metadata()) {
                Step::Found(topic) => return Ok(topic),
                Step::Failed(error) => return Err(error),
                Step::Ask { create: true } => self.driver.refreshed_new(name).await,
                Step::Ask { create: false } => self.driver.refreshed().await,
            };
            lookup.handle_attempt(self.driver.now(), outcome);
        }
    }

    /// The partitions of a topic, in order. It is not created.
    ///
    /// # Errors
    ///
    /// Those of [`topic`](Self::topic).
    pub fn partitions(
        &self,
        topic: &str,
    ) -> impl Future<Output = Result<Vec<TopicPartition>>> + Send + 'static + use<> {
        let found = self.topic(topic, false);
        async move {
            let topic = found.await?;
            let partitions = (0..).zip(&topic.partitions);
            Ok(partitions.map(|(number, _)| TopicPartition::new(Arc::clone(&topic.name), number)).collect())
        }
    }

    /// Sends any request, once, and returns the answer; error codes inside it are the caller's to read.
    pub fn call<R: Request>(
        &self,
        call: Call<R>,
    ) -> impl Future<Output = Result<R::Response>> + Send + 'static + use<R> {
        let client = self.clone();
        async move { client.driver.send(call).await }
    }

    /// Runs a future on the engine thread, for a caller that is a plain thread.
    pub fn start<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> Pending<T> {
        Pending::start(&self.driver, future)
    }

    /// How long calls wait for metadata or buffer memory: `max.block.ms`.
    pub fn max_block(&self) -> Duration {
        self.config().max_block
    }
}

/// Refuses a name that no broker accepts, before anything is sent.
pub fn check_topic_name(name: &str) -> Result<()> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let why = if name.is_empty() {
        "it is empty"
    } else if name == "." || name == ".." {
        "it would be a folder of its own on the broker's disk"
    } else if name.len() > 249 {
        "it is longer than 249 characters"
    } else if !name.chars().all(legal) {
        "it may have ASCII letters, digits, '.', '_' and '-' only"
    } else {
        return Ok(());
    };
    let error = Error::new(ErrorKind::Broker(ErrorCode::INVALID_TOPIC_EXCEPTION), format!("not a topic name: {why}"));
    let topic = Some(name).filter(|name| !name.is_empty());
    Err(error.at(Place { topic: topic.map(Into::into), ..Place::default() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_no_broker_accepts_is_refused_before_anything_is_sent() {
        for name in ["", ".", "..", "a b", "a/b", "grün", "a\0b", &"x".repeat(250)] {
            assert!(check_topic_name(name).is_err(), "{name:?}");
        }
        for name in ["a", "a.b", "a_b-c", &"x".repeat(249)] {
            check_topic_name(name).unwrap();
        }
    }
}
