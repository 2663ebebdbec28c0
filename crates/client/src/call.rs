//! Retries a call until it has a final answer or its time limit is over.
//!
//! Every plain call of the client goes through [`Driver::call`]; a call whose attempt is more than one request goes
//! through [`Retry::until_done`], which has the only loop. Metadata is asked for by rules of its own; for that
//! [`Retry::attempt`] only logs what it waits for.

use std::time::Duration;

use kavka_core::backoff::Backoff;
use kavka_core::cluster::{Call, Owner, Target, limit_of_one_attempt};
use kavka_core::error::{Error, ErrorKind, Phase, Place, Result};
use kavka_core::random::Random;
use kavka_core::time::Instant;
use kavka_core::wire::{ApiKey, Request};

use crate::driver::Driver;

/// After this long without an answer, a log message says what the call waits for.
const QUIET: Duration = Duration::from_secs(3);

/// What an attempt has to know of the call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt {
    /// How long it may take.
    pub(crate) limit: Duration,
    /// How many attempts have failed before it.
    pub(crate) failures: u32,
}

/// The attempts of one call.
pub(crate) struct Retry {
    driver: Driver,
    backoff: Backoff,
    random: Random,
    deadline: Instant,
    attempts: u32,
    /// Why the last attempt failed.
    last: Option<Error>,
    /// When to log that the call takes long; `None` once that is done.
    log_at: Option<Instant>,
}

impl Retry {
    /// `limit` covers all attempts together.
    pub(crate) fn new(driver: &Driver, limit: Duration) -> Self {
        let config = driver.config();
        let backoff = Backoff { initial: config.retry_backoff, max: config.retry_backoff_max };
        let random = Random::new(driver.next_seed());
        let now = driver.now();
        let (deadline, log_at) = (now + limit, Some(now + QUIET));
        Self { driver: driver.clone(), backoff, random, deadline, attempts: 0, last: None, log_at }
    }

    /// The time limit of one attempt. If the connection turns out to be dead, it leaves time for a second attempt on a
    /// new one.
    fn share(&self) -> Duration {
        let left = self.deadline.since(self.driver.now());
        self.driver.config().request_timeout.min(limit_of_one_attempt(left))
    }

    /// Waits for one attempt, up to the limit. At the limit the error is that of the previous attempt, if there was
    /// one.
    pub(crate) async fn attempt<T>(&mut self, attempt: impl Future<Output = Result<T>>) -> Result<T> {
        let mut attempt = std::pin::pin!(attempt);
        if let Some(at) = self.log_at {
            match self.driver.within(at.min(self.deadline).since(self.driver.now()), attempt.as_mut()).await {
                Some(outcome) => return outcome,
                None => self.log_that_it_takes_long(),
            }
        }
        let tried = self.driver.within(self.deadline.since(self.driver.now()), attempt).await;
        tried.unwrap_or_else(|| {
            let none = || {
                let error = Error::new(ErrorKind::TimedOut(Phase::Request), "no answer within the limit of the call");
                self.driver.unreachable().into_iter().fold(error, Error::with_source)
            };
            Err(self.last.clone().unwrap_or_else(none))
        })
    }

    /// Notes why another attempt is needed although the last one was answered.
    pub(crate) fn note(&mut self, why: Error) {
        self.last = Some(why);
    }

    /// Waits for the back-off, or returns the error, with the number of attempts, if another attempt cannot help or
    /// would come too late.
    async fn pause(&mut self, error: Error) -> Result<()> {
        self.attempts = self.attempts.saturating_add(1);
        let delay = self.backoff.delay(self.attempts, &mut self.random);
        if !error.is_retriable() || self.driver.now() + delay > self.deadline {
            return Err(self.give_up(error));
        }
        self.last = Some(error);
        if self.log_at.is_some_and(|at| at <= self.driver.now()) {
            self.log_that_it_takes_long();
        }
        self.driver.sleep(delay).await;
        Ok(())
    }

    /// Attempts until one succeeds, fails with an error that another attempt cannot cure, or the time is over.
    ///
    /// `note` is called with the error of each attempt that fails.
    pub(crate) async fn until_done<T, F: Future<Output = Result<T>>>(
        mut self,
        attempt: impl Fn(Attempt) -> F,
        note: impl Fn(&Error),
    ) -> Result<T> {
        loop {
            let this = Attempt { limit: self.share(), failures: self.attempts };
            let error = match self.attempt(attempt(this)).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            note(&error);
            self.pause(error).await?;
        }
    }

    /// The final error.
    fn give_up(&self, error: Error) -> Error {
        error.at(Place { attempts: Some(self.attempts.max(1)), ..Place::default() })
    }

    fn log_that_it_takes_long(&mut self) {
        self.log_at = None;
        match self.last.clone().or_else(|| self.driver.unreachable()) {
            Some(error) => log::info!("still trying after {} s: {error}", QUIET.as_secs()),
            None => log::info!("still waiting for a broker's answer after {} s", QUIET.as_secs()),
        }
    }
}

impl Driver {
    /// Sends a request until `classify` gives its result, or an error that another attempt cannot cure, or `limit` has
    /// passed.
    ///
    /// # Errors
    ///
    /// The error that `classify` returns for the last answer, or the reason why there was no answer, with the number of
    /// attempts.
    pub(crate) async fn call<R: Request + Clone, T>(
        &self,
        call: Call<R>,
        limit: Duration,
        classify: impl Fn(R::Response) -> Result<T>,
    ) -> Result<T> {
        let attempt = |Attempt { limit, failures }| {
            let sent = self.send(Call { timeout: Some(limit), failures, ..call.clone() });
            let classify = &classify;
            async move { classify(sent.await?) }
        };
        Retry::new(self, limit).until_done(attempt, |error| self.handle_failed_attempt(&call.target, error)).await
    }

    fn handle_failed_attempt(&self, target: &Target, error: &Error) {
        match target {
            Target::Coordinator(key, kind) => self.handle_coordinator_error(key, *kind, error),
            // Another broker may be the controller by now.
            Target::Controller if error.is_retriable() => self.refresh_metadata(),
            Target::Controller | Target::Any | Target::Broker(_) => {}
        }
    }

    /// The version of an API on a broker's control connection, and what is left of `limit` once it is known.
    ///
    /// # Errors
    ///
    /// `TimedOut`, with the broker's id, if the connection is not ready within the limit.
    pub(crate) async fn api_version_within(
        &self,
        limit: Duration,
        broker_id: i32,
        key: ApiKey,
    ) -> Result<(i16, Duration)> {
        let deadline = self.now() + limit;
        let known = self.within(limit, self.api_version(broker_id, Owner::Control, key)).await;
        let version = known.unwrap_or_else(|| {
            let what = format!("no connection within the {} ms of an attempt", limit.as_millis());
            let error = Error::new(ErrorKind::TimedOut(Phase::Connect), what);
            let error = error.at(Place { broker_id: Some(broker_id), ..Place::default() });
            Err(self.why_unreachable(broker_id).into_iter().fold(error, Error::with_source))
        })?;
        Ok((version, deadline.since(self.now())))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use kavka_broker::Fault;
    use kavka_broker::serve::{Broker, Options};
    use kavka_core::consumer::TopicPartition;
    use kavka_core::wire::ErrorCode;

    use super::*;
    use crate::blocking::Pending;
    use crate::{Client, ClientConfig, CommittedOffset, Tcp, WireEvent, WireTap, parse_bootstrap_servers};

    const LIMIT: Duration = Duration::from_secs(20);

    /// A cluster, and a client that notes what it sends.
    struct Rig {
        broker: Broker,
        client: Client,
        sent: Arc<Mutex<Vec<ApiKey>>>,
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
            let sent = Arc::new(Mutex::new(Vec::new()));
            let noted = Arc::clone(&sent);
            let tap: WireTap = Arc::new(move |event| {
                if let WireEvent::Sent { key, .. } = event {
                    noted.lock().unwrap().push(*key);
                }
            });
            let config = ClientConfig::default().bootstrap_servers(bootstrap_servers);
            let client = Client::with_network(config, Arc::new(Tcp::default()), Some(tap)).unwrap();
            Self { broker, client, sent }
        }

        fn commit(&self, limit: Duration) -> Result<()> {
            self.start_commit(limit).wait(Some(LIMIT)).unwrap()
        }

        fn start_commit(&self, limit: Duration) -> Pending<Result<()>> {
            let client = self.client.clone();
            let offsets = BTreeMap::from([(TopicPartition::new("orders", 0), CommittedOffset::new(7))]);
            self.client.start(async move { client.commit_offsets("billing", &offsets, limit).await })
        }

        /// How many requests of this kind were sent.
        fn count(&self, key: ApiKey) -> usize {
            self.sent.lock().unwrap().iter().filter(|sent| **sent == key).count()
        }
    }

    #[test]
    fn a_coordinator_is_looked_up_once_and_again_when_it_moved() {
        let rig = Rig::new();
        for _ in 0..3 {
            rig.commit(LIMIT).unwrap();
        }
        assert_eq!(rig.count(ApiKey::FindCoordinator), 1);
        rig.broker.inject(Fault::fail(ErrorCode::NOT_COORDINATOR).api(ApiKey::OffsetCommit).times(1));
        rig.commit(LIMIT).unwrap();
        assert_eq!(rig.count(ApiKey::FindCoordinator), 2);
    }

    #[test]
    fn the_address_of_a_coordinator_that_the_metadata_does_not_name_yet_costs_no_other_request() {
        let broker = Broker::start(Options::default()).unwrap();
        broker.with(|cluster, _| cluster.create_topic("orders", 1, 1)).unwrap();
        let rig = Rig::of(broker);
        rig.commit(LIMIT).unwrap();
        assert_eq!((rig.count(ApiKey::FindCoordinator), rig.count(ApiKey::Metadata)), (1, 0));
    }

    #[test]
    fn many_callers_at_once_look_up_a_coordinator_once() {
        let rig = Rig::new();
        let committing: Vec<_> = (0..20).map(|_| rig.start_commit(LIMIT)).collect();
        for committed in committing {
            committed.wait(Some(LIMIT)).unwrap().unwrap();
        }
        assert_eq!((rig.count(ApiKey::FindCoordinator), rig.count(ApiKey::OffsetCommit)), (1, 20));
    }

    #[test]
    fn an_attempt_takes_no_longer_than_the_request_timeout() {
        let config = ClientConfig::default().request_timeout(Duration::from_secs(1));
        let client = Client::new(config).unwrap();
        let limits = [None, Some(Duration::from_secs(30)), Some(Duration::from_millis(500))];
        let capped = limits.map(|timeout| {
            client.driver.within_request_timeout(Call { timeout, ..Call::new(Target::Any, ()) }).timeout
        });
        assert_eq!(capped, [1_000, 1_000, 500].map(|limit| Some(Duration::from_millis(limit))));
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
