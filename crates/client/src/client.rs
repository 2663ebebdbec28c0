//! The client of one cluster, from which producers and consumers are made.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kavka_core::cluster::{Call, Lookup, Metadata, Reachability, Step, Target, Topic};
use kavka_core::config::ClientConfig;
use kavka_core::consumer::TopicPartition;
use kavka_core::error::{Error, ErrorKind, Phase, Place, Result};
use kavka_core::wire::messages::DescribeConfigsRequest;
use kavka_core::wire::messages::describe_configs::DescribeConfigsResource;
use kavka_core::wire::{ErrorCode, Request};

use crate::blocking::Pending;
use crate::call::Retry;
use crate::driver::{Alive, Driver, Network, Tcp, WireTap};
use crate::memory::Memory;

/// `DescribeConfigs` for a broker.
const BROKER: i8 = 4;

/// How long a broker may take to say whether it creates topics.
const AUTO_CREATE_WAIT: Duration = Duration::from_secs(1);

/// A client of one Kafka cluster. Cheap to clone.
///
/// It owns one engine thread, which ends when the last clone, and everything made from it, is dropped.
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
        // If it is no valid address, the check of the settings rejects it.
        let source = config.source_address.parse().ok().map(|address| SocketAddr::new(address, 0));
        Self::with_network(config, Arc::new(Tcp { source }), None)
    }

    /// Like [`new`](Self::new), with a custom resolver and dialer, to which `source.address` does not apply. `tap` sees
    /// every frame.
    pub fn with_network(config: ClientConfig, network: Arc<dyn Network>, tap: Option<WireTap>) -> Result<Self> {
        let seed = getrandom::u64()
            .map_err(|cause| Error::new(ErrorKind::System, "the system gives no random numbers").with_source(cause))?;
        let memory = Memory::new(config.buffer_memory);
        let (driver, alive) = Driver::start(config, network, tap, seed)?;
        Ok(Self { driver, alive, memory })
    }

    /// The client's settings.
    pub fn config(&self) -> &ClientConfig {
        self.driver.config()
    }

    /// A client with default settings. `bootstrap_servers` is one `host:port`, or several separated by commas. Waits
    /// for the first metadata.
    ///
    /// # Errors
    ///
    /// `Config`, with the entry that cannot be parsed; those of [`ready`](Self::ready).
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
    /// Tries every bootstrap server up to three times, or once if connections time out instead of being refused. The
    /// error is that of the last attempt, with its root cause.
    pub fn ready(&self) -> impl Future<Output = Result<Arc<Metadata>>> + Send + 'static + use<> {
        let client = self.clone();
        async move { client.ask_for_all().await }
    }

    /// The current metadata snapshot; does not wait.
    pub fn metadata(&self) -> Arc<Metadata> {
        self.driver.metadata()
    }

    /// Refreshes the metadata of all brokers and topics, with a request sent after the future was first polled, and
    /// waits for the answer.
    ///
    /// While a broker fails, others are asked. The limit is the longer of `max.block.ms` and `request.timeout.ms`.
    ///
    /// # Errors
    ///
    /// That of the last attempt, once every known broker and bootstrap server has failed; `TimedOut` at the limit, with
    /// the last attempt's error as its cause.
    pub fn refresh_metadata(&self) -> impl Future<Output = Result<Arc<Metadata>>> + Send + 'static + use<> {
        let client = self.clone();
        async move {
            let config = client.config();
            // A producer that must not block has a `max.block.ms` that is too short for any request.
            let limit = config.max_block.max(config.request_timeout);
            let refreshed = client.driver.within(limit, Box::pin(client.ask_for_all())).await;
            refreshed.unwrap_or_else(|| {
                let error = Error::new(ErrorKind::TimedOut(Phase::Request), "no broker answered a metadata request");
                Err(client.driver.metadata_error().into_iter().fold(error, Error::with_source))
            })
        }
    }

    /// Asks one broker after the other for all metadata, until one answers or the cluster counts as unreachable.
    async fn ask_for_all(&self) -> Result<Arc<Metadata>> {
        let mut reachability = self.reachability();
        // `reachability` decides when to give up; `retry` only logs that it takes long.
        let mut retry = Retry::new(&self.driver, Duration::MAX);
        loop {
            match retry.attempt(self.driver.refreshed_all()).await {
                Ok(()) => return Ok(self.driver.metadata()),
                Err(error) => reachability.handle_attempt(self.driver.now(), Err(error))?,
            }
        }
    }

    fn reachability(&self) -> Reachability {
        let config = self.config();
        Reachability::new(self.driver.now(), config.bootstrap_servers.len(), config.connection_setup_timeout)
            .with_brokers(self.driver.metadata().brokers().count())
    }

    /// Waits until a topic is known and its partitions have leaders.
    ///
    /// If some partitions still have no leader after a second (with the default back-off), one partition with a leader
    /// is enough.
    ///
    /// With `create`, a broker that allows it creates the topic (`auto.create.topics.enable`). The limit is
    /// `max.block.ms`; a topic that no broker knows is refused much earlier: within a second without `create`, or if a
    /// broker says that `auto.create.topics.enable` is off.
    pub fn topic(&self, name: &str, create: bool) -> impl Future<Output = Result<Arc<Topic>>> + Send + 'static + use<> {
        let (client, name) = (self.clone(), Arc::from(name));
        async move { client.wait_for_topic(name, create).await }
    }

    async fn wait_for_topic(&self, name: Arc<str>, create: bool) -> Result<Arc<Topic>> {
        check_topic_name(&name)?;
        let limit = self.config().max_block;
        let finding = Box::pin(self.driver.unless_closed(self.find_topic(&name, create)));
        let found = self.driver.within(limit, finding);
        found.await.unwrap_or_else(|| {
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
        // `lookup` decides when to give up; `retry` only logs that it takes long.
        let mut retry = Retry::new(&self.driver, Duration::MAX);
        loop {
            let outcome = match lookup.poll_step(&self.driver.metadata()) {
                Step::Found(topic) => return Ok(topic),
                Step::Failed(error) => return Err(error),
                Step::AskAutoCreate => {
                    lookup.handle_auto_create(self.auto_create().await);
                    continue;
                }
                Step::Ask { create: true } => retry.attempt(self.driver.refreshed_new(name)).await,
                Step::Ask { create: false } => retry.attempt(self.driver.refreshed_topic(name)).await,
            };
            if outcome.is_ok() {
                retry.note(self.why_not_found(name));
            }
            lookup.handle_attempt(self.driver.now(), outcome);
        }
    }

    /// Whether brokers create topics on request, if one says so soon. Without the permission to see that, none does.
    async fn auto_create(&self) -> Option<bool> {
        let metadata = self.driver.metadata();
        let id = metadata.brokers().map(|broker| broker.id).find(|id| self.driver.is_reachable(*id))?;
        let setting = "auto.create.topics.enable";
        let broker = DescribeConfigsResource {
            resource_type: BROKER,
            resource_name: id.to_string(),
            configuration_keys: Some(vec![setting.to_owned()]),
        };
        let request = DescribeConfigsRequest { resources: vec![broker], ..DescribeConfigsRequest::default() };
        let answer = self.driver.send(Call::new(Target::Broker(id), request));
        let described = self.driver.within(AUTO_CREATE_WAIT, answer).await?.ok()?;
        let mut settings = described.results.into_iter().flat_map(|result| result.configs);
        settings.find(|config| config.name == setting)?.value?.parse().ok()
    }

    /// What the brokers answered about a topic that is not usable.
    fn why_not_found(&self, name: &Arc<str>) -> Error {
        let code = match self.driver.metadata().topic(name).map(|topic| topic.error) {
            None => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            Some(ErrorCode::NONE) => ErrorCode::LEADER_NOT_AVAILABLE,
            Some(code) => code,
        };
        let place = Place { topic: Some(Arc::clone(name)), ..Place::default() };
        Error::new(ErrorKind::Broker(code), format!("the brokers answer {code}")).at(place)
    }

    /// The partitions of a topic, in order. Does not create the topic.
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
            let partitions = (0..).zip(topic.partitions.iter());
            Ok(partitions.map(|(number, _)| TopicPartition::new(Arc::clone(&topic.name), number)).collect())
        }
    }

    /// Sends any request once and returns the response. The caller checks the error codes in it.
    pub fn call<R: Request>(
        &self,
        call: Call<R>,
    ) -> impl Future<Output = Result<R::Response>> + Send + 'static + use<R> {
        let client = self.clone();
        async move { client.driver.send(call).await }
    }

    /// False if the last attempt to reach this broker failed.
    #[doc(hidden)]
    pub fn is_reachable(&self, broker_id: i32) -> bool {
        self.driver.is_reachable(broker_id)
    }

    /// A number for a connection that no other part of the client uses.
    #[doc(hidden)]
    pub fn next_connection(&self) -> u64 {
        self.driver.next_owner()
    }

    /// Runs a future on the engine thread, for a caller that is a plain thread.
    pub fn start<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> Pending<T> {
        Pending::start(&self.driver, future)
    }

    /// Ends look-ups of topics, those under way and later ones, with `Closed`. So nothing new begins, and no thread
    /// waits for a topic any more. Producers and consumers go on with what they have: close them, too.
    pub fn close(&self) {
        self.driver.close();
    }

    /// How long calls wait for metadata or buffer memory: `max.block.ms`.
    pub fn max_block(&self) -> Duration {
        self.config().max_block
    }
}

/// Refuses a topic name that no broker accepts, before anything is sent.
pub fn check_topic_name(name: &str) -> Result<()> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let why = if name.is_empty() {
        "it is empty"
    } else if name == "." || name == ".." {
        "the broker could not store it as a folder"
    } else if name.len() > 249 {
        "it is longer than 249 characters"
    } else if !name.chars().all(legal) {
        "it may only have ASCII letters, digits, '.', '_' and '-'"
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
