//! A client of one cluster: where everything else begins.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kavka_core::cluster::{Call, Metadata, Topic};
use kavka_core::config::ClientConfig;
use kavka_core::error::{Error, ErrorKind, Phase, Place, Result};
use kavka_core::time::Instant;
use kavka_core::wire::{ErrorCode, Request};
use tokio::time::{sleep, timeout};

use crate::blocking::Pending;
use crate::driver::{Alive, Driver, Network, Tcp, WireTap};
use crate::memory::Memory;

/// How often every bootstrap server is tried before a first call gives up.
const CONNECT_ROUNDS: usize = 3;

/// How often a topic that the brokers do not know is asked for before that is believed: a new topic takes a moment to
/// be known to all of them.
const UNKNOWN_TOPIC_TRIES: usize = 4;
/// The same for a topic that the broker was asked to create: it says so until it has (with the default back-off 10 s).
const CREATED_TOPIC_TRIES: usize = 100;

/// How often a topic of which some partitions have no leader is asked for before those that have one are enough.
const LEADERLESS_TRIES: usize = 10;

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
    pub async fn connect(bootstrap_servers: &str) -> Result<Self> {
        let client = Self::new(ClientConfig::new(bootstrap_servers)?)?;
        client.ready().await?;
        Ok(client)
    }

    /// Waits for the first metadata.
    ///
    /// Every bootstrap server is tried up to three times, or once if they do not even refuse; the error is the last
    /// one's, with its root cause.
    pub async fn ready(&self) -> Result<Arc<Metadata>> {
        let started = self.driver.now();
        let mut failures = 0;
        loop {
            match self.refresh_metadata().await {
                Err(error) if error.is_retriable() => {
                    failures += 1;
                    if self.is_unreachable(failures, started) {
                        return Err(error);
                    }
                }
                result => return result,
            }
        }
    }

    /// Whether to believe that nobody answers, after this many failures in a row.
    ///
    /// A refusal comes at once and may be over at once, so each server gets some tries. Silence takes
    /// `socket.connection.setup.timeout.ms` each time, and once is enough.
    fn is_unreachable(&self, failures: usize, started: Instant) -> bool {
        let config = self.config();
        let servers = config.bootstrap_servers.len();
        failures >= servers * CONNECT_ROUNDS
            || failures >= servers && self.driver.now().since(started) >= config.connection_setup_timeout
    }

    /// What is known of the cluster now.
    pub fn metadata(&self) -> Arc<Metadata> {
        self.driver.metadata()
    }

    /// Asks once for the brokers and every topic, and waits for the answer.
    pub async fn refresh_metadata(&self) -> Result<Arc<Metadata>> {
        let attempt = self.driver.next_metadata_attempt();
        self.driver.refresh_all_topics();
        attempt.await
    }

    /// Waits until a topic is known and its partitions have leaders.
    ///
    /// A partition that stays without one for a second (with the default back-off) does not keep the topic from being
    /// used, as long as another has one.
    ///
    /// With `create`, a broker that allows it creates the topic (`auto.create.topics.enable`). The limit is
    /// `max.block.ms`; a topic that no broker knows is refused much earlier.
    pub async fn topic(&self, name: &str, create: bool) -> Result<Arc<Topic>> {
        check_topic_name(name)?;
        let name: Arc<str> = name.into();
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
        let tries = if create { CREATED_TOPIC_TRIES } else { UNKNOWN_TOPIC_TRIES };
        let (mut unknown, mut leaderless) = (0, 0);
        let mut failures = 0;
        let mut was_answered = false;
        let mut started = self.driver.now();
        let mut attempt = self.driver.next_metadata_attempt();
        let is_new = self.driver.add_topic(name, create);
        loop {
            let metadata = self.driver.metadata();
            let code = match metadata.topic(name) {
                Some(topic) if topic.error == ErrorCode::NONE && has_enough_leaders(topic, leaderless) => {
                    return Ok(Arc::clone(topic));
                }
                Some(topic) => topic.error,
                // A snapshot of every topic leaves out those that do not exist.
                None if was_answered => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                None => ErrorCode::NONE,
            };
            match code {
                ErrorCode::NONE | ErrorCode::LEADER_NOT_AVAILABLE => leaderless += 1,
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION if unknown < tries => unknown += 1,
                code => {
                    // One that was in use before stays in use: a producer may be waiting for it to come back.
                    if is_new {
                        self.driver.remove_topic(name);
                    }
                    let place = Place { topic: Some(Arc::clone(name)), ..Place::default() };
                    return Err(Error::new(ErrorKind::Broker(code), format!("the broker answered {code}")).at(place));
                }
            }
            match attempt.await {
                Ok(_) => {
                    was_answered = true;
                    failures = 0;
                    started = self.driver.now();
                }
                Err(error) if !error.is_retriable() => return Err(error),
                Err(error) => {
                    failures += 1;
                    if self.is_unreachable(failures, started) {
                        return Err(error);
                    }
                }
            }
            let settled = self.driver.metadata().topic(name).is_some_and(|topic| topic.error == ErrorCode::NONE);
            if !settled {
                sleep(self.config().retry_backoff).await;
            }
            attempt = self.driver.next_metadata_attempt();
            self.driver.add_topic(name, create);
            self.driver.refresh_metadata();
        }
    }

    /// Sends any request, once, and returns the answer; error codes inside it are the caller's to read.
    pub async fn call<R: Request>(&self, call: Call<R>) -> Result<R::Response> {
        self.driver.send(call).await
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

/// Whether the topic can be used: every partition has a leader, or after so many tries at least one.
fn has_enough_leaders(topic: &Topic, tries: usize) -> bool {
    let led = topic.partitions.iter().filter(|partition| partition.leader.is_some()).count();
    led == topic.partitions.len() || led > 0 && tries >= LEADERLESS_TRIES
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
