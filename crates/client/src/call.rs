//! One request, tried again until it is answered for good or its limit passes.
//!
//! [`Driver::call`] is what every plain call of the client goes through; [`Retry`] is the part of it that others need
//! alone: the deadline, the back-off between tries and the error that is left in the end.

use std::sync::Arc;
use std::time::Duration;

use kavka_core::backoff::Backoff;
use kavka_core::cluster::{Call, CoordinatorKind, Target};
use kavka_core::error::{Error, ErrorKind, Phase, Place, Result};
use kavka_core::random::Random;
use kavka_core::time::Instant;
use kavka_core::wire::Request;
use kavka_core::wire::messages::FindCoordinatorRequest;
use kavka_core::wire::messages::find_coordinator::FIND_ONE_COORDINATOR;
use tokio::time::{sleep, timeout};

use crate::driver::Driver;

/// No try is given less than this, however little of the limit is left to halve.
const SHORTEST_TRY: Duration = Duration::from_secs(1);

/// After this long without an answer, whoever reads the log is told what is waited for.
const QUIET: Duration = Duration::from_secs(3);

/// What one answer means.
#[derive(Debug)]
pub(crate) enum Verdict<T> {
    /// This is the result.
    Done(T),
    /// Worth another try.
    Again(Error),
    /// No other try can help.
    Failed(Error),
}

impl<T> From<Result<T>> for Verdict<T> {
    fn from(result: Result<T>) -> Self {
        match result {
            Ok(value) => Self::Done(value),
            Err(error) if error.is_retriable() => Self::Again(error),
            Err(error) => Self::Failed(error),
        }
    }
}

/// The tries of one call.
pub(crate) struct Retry {
    driver: Driver,
    backoff: Backoff,
    random: Random,
    deadline: Instant,
    attempts: u32,
    /// Why the last try failed.
    last: Option<Error>,
    /// When the log is told that this takes long; none once it was told.
    tell_at: Option<Instant>,
}

impl Retry {
    /// `limit` is for all tries together.
    pub(crate) fn new(driver: &Driver, limit: Duration) -> Self {
        let config = driver.config();
        let backoff = Backoff { initial: config.retry_backoff, max: config.retry_backoff_max };
        let random = Random::new(driver.next_seed());
        let now = driver.now();
        let (deadline, tell_at) = (now + limit, Some(now + QUIET));
        Self { driver: driver.clone(), backoff, random, deadline, attempts: 0, last: None, tell_at }
    }

    /// How long the answer to one request may take: a connection that died without a word must leave time for a second
    /// try on a new one.
    pub(crate) fn share(&self) -> Duration {
        let left = self.deadline.since(self.driver.now());
        self.driver.config().request_timeout.min((left / 2).max(SHORTEST_TRY))
    }

    /// Waits for one try, but no longer than the limit; then the error is that of the try before, if there was one.
    pub(crate) async fn attempt<T>(&mut self, attempt: impl Future<Output = Result<T>>) -> Result<T> {
        let driver = self.driver.clone();
        driver.with_timers(self.attempt_in_time(attempt)).await
    }

    async fn attempt_in_time<T>(&mut self, attempt: impl Future<Output = Result<T>>) -> Result<T> {
        let mut attempt = std::pin::pin!(attempt);
        if let Some(at) = self.tell_at {
            match timeout(at.min(self.deadline).since(self.driver.now()), attempt.as_mut()).await {
                Ok(outcome) => return outcome,
                Err(_) => self.tell(),
            }
        }
        let tried = timeout(self.deadline.since(self.driver.now()), attempt).await;
        tried.unwrap_or_else(|_| {
            let none = || {
                let error = Error::new(ErrorKind::TimedOut(Phase::Request), "no answer within the limit of the call");
                self.driver.unreachable().into_iter().fold(error, Error::with_source)
            };
            Err(self.last.clone().unwrap_or_else(none))
        })
    }

    /// Waits if another try can help and comes in time, or gives the error back with the number of tries.
    pub(crate) async fn pause(&mut self, error: Error) -> Result<()> {
        self.attempts = self.attempts.saturating_add(1);
        let delay = self.backoff.delay(self.attempts, &mut self.random);
        if !error.is_retriable() || self.driver.now() + delay > self.deadline {
            return Err(self.give_up(error));
        }
        self.last = Some(error);
        if self.tell_at.is_some_and(|at| at <= self.driver.now()) {
            self.tell();
        }
        self.driver.with_timers(async { sleep(delay).await }).await;
        Ok(())
    }

    /// The error that is left when there is no other try.
    pub(crate) fn give_up(&self, error: Error) -> Error {
        error.at(Place { attempts: Some(self.attempts.max(1)), ..Place::default() })
    }

    fn tell(&mut self) {
        self.tell_at = None;
        if self.driver.is_broker_lost() {
            // The log says so already.
            return;
        }
        match self.last.clone().or_else(|| self.driver.unreachable()) {
            Some(error) => log::info!("still trying after {} s: {error}", QUIET.as_secs()),
            None => log::info!("still waiting for a broker's answer after {} s", QUIET.as_secs()),
        }
    }
}

impl Driver {
    /// Sends a request until `classify` says that its answer is final, or `limit` has passed.
    ///
    /// # Errors
    ///
    /// What `classify` makes of the last answer, or why there was none, with the number of tries.
    pub(crate) async fn call<R: Request + Clone, T>(
        &self,
        call: Call<R>,
        limit: Duration,
        classify: impl Fn(R::Response) -> Verdict<T>,
    ) -> Result<T> {
        let mut retry = Retry::new(self, limit);
        loop {
            let call = Call { timeout: Some(retry.share()), failures: retry.attempts, ..call.clone() };
            let target = call.target.clone();
            let verdict = match retry.attempt(self.send(call)).await {
                Ok(response) => classify(response),
                Err(error) => Verdict::from(Err(error)),
            };
            match verdict {
                Verdict::Done(value) => return Ok(value),
                Verdict::Failed(error) => return Err(retry.give_up(error)),
                Verdict::Again(error) => {
                    match &target {
                        Target::Coordinator(key, kind) => self.handle_coordinator_error(key, *kind, &error),
                        // It may be another broker by now.
                        Target::Controller => self.refresh_metadata(),
                        Target::Any | Target::Broker(_) => {}
                    }
                    retry.pause(error).await?;
                }
            }
        }
    }

    /// The broker that coordinates a group or transactional id: the one that is remembered, or asked for once.
    pub(crate) async fn find_coordinator(&self, key: &Arc<str>, kind: CoordinatorKind) -> Result<i32> {
        if let Some(broker_id) = self.known_coordinator(key, kind) {
            return Ok(broker_id);
        }
        let request = FindCoordinatorRequest { key: key.to_string(), key_type: kind.key_type(), ..Default::default() };
        let response = self.send(Call { max_version: FIND_ONE_COORDINATOR, ..Call::new(Target::Any, request) }).await?;
        if let Some(error) = Error::from_code(response.error_code) {
            return Err(error);
        }
        self.learn_coordinator(Arc::clone(key), kind, response.node_id);
        if self.metadata().broker(response.node_id).is_none() {
            // It is newer than our view of the cluster, which has yet to say where it is.
            self.refreshed().await?;
        }
        Ok(response.node_id)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use kavka_broker::Fault;
    use kavka_broker::serve::{Broker, Options};
    use kavka_core::consumer::TopicPartition;
    use kavka_core::wire::{ApiKey, ErrorCode};

    use super::*;
    use crate::{Client, ClientConfig, CommittedOffset, Tcp, WireEvent, WireTap, parse_bootstrap_servers};

    const LIMIT: Duration = Duration::from_secs(20);

    /// A cluster, and a client of it that counts how often it looks a coordinator up.
    struct Rig {
        broker: Broker,
        client: Client,
        lookups: Arc<AtomicUsize>,
    }

    impl Rig {
        /// With the topic "orders".
        fn new() -> Self {
            let rig = Self::of(Broker::start(Options::default()).unwrap());
            let opening = rig.client.clone();
            rig.client.start(async move { opening.topic("orders", true).await }).wait(Some(LIMIT)).unwrap().unwrap();
            rig
        }

        fn of(broker: Broker) -> Self {
            let bootstrap_servers = parse_bootstrap_servers(&broker.bootstrap_servers()).unwrap();
            let lookups = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&lookups);
            let tap: WireTap = Arc::new(move |event| {
                if matches!(event, WireEvent::Sent { key: ApiKey::FindCoordinator, .. }) {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            });
            let config = ClientConfig::default().bootstrap_servers(bootstrap_servers);
            let client = Client::with_network(config, Arc::new(Tcp::default()), Some(tap)).unwrap();
            Self { broker, client, lookups }
        }

        fn commit(&self, limit: Duration) -> Result<()> {
            let client = self.client.clone();
            let offsets = BTreeMap::from([(TopicPartition::new("orders", 0), CommittedOffset::new(7))]);
            let committed = async move { client.commit_offsets("billing", &offsets, limit).await };
            self.client.start(committed).wait(Some(LIMIT)).unwrap()
        }
    }

    #[test]
    fn a_coordinator_is_looked_up_once_and_again_when_it_moved() {
        let rig = Rig::new();
        for _ in 0..3 {
            rig.commit(LIMIT).unwrap();
        }
        assert_eq!(rig.lookups.load(Ordering::Relaxed), 1);
        rig.broker.inject(Fault::fail(ErrorCode::NOT_COORDINATOR).api(ApiKey::OffsetCommit).times(1));
        rig.commit(LIMIT).unwrap();
        assert_eq!(rig.lookups.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_coordinator_is_looked_up_once_although_the_metadata_does_not_name_it_yet() {
        let broker = Broker::start(Options::default()).unwrap();
        broker.with(|cluster, _| cluster.create_topic("orders", 1, 1)).unwrap();
        let rig = Rig::of(broker);
        rig.commit(LIMIT).unwrap();
        assert_eq!(rig.lookups.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn an_answer_that_never_comes_leaves_time_for_a_second_try() {
        let rig = Rig::new();
        rig.commit(LIMIT).unwrap();
        rig.broker.inject(Fault::silence().api(ApiKey::OffsetCommit).times(1));
        rig.commit(Duration::from_secs(3)).unwrap();
    }

    #[test]
    fn an_error_about_a_group_names_the_group() {
        let rig = Rig::new();
        rig.broker.inject(Fault::fail(ErrorCode::GROUP_AUTHORIZATION_FAILED).api(ApiKey::FindCoordinator).times(1));
        let error = rig.commit(LIMIT).unwrap_err();
        assert!(error.to_string().contains("group billing"), "{error}");
    }
}
