//! The machine that producers with equal settings share, with its lock, and what its task does for it
//! ([`crate::role`]).
//!
//! Outcomes are stored in the order in which the machine decided them, and outside the lock.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kavka_core::backoff::Backoff;
use kavka_core::cluster::{Call, Metadata};
use kavka_core::config::{ClientConfig, ProducerConfig};
use kavka_core::error::{Error, ErrorKind, Result};
use kavka_core::producer::{
    FlushMark, HandleId, ProduceToSend, Producer as Machine, ProducerEvent, ProducerRequest, ProducerResponse, Progress,
};
use kavka_core::time::Instant;
use kavka_core::wire::ApiKey;
use kavka_core::wire::messages::ProduceRequest;
use kavka_core::wire::records::Compressor;
use tokio::sync::watch;

use crate::client::Client;
use crate::driver::clock::Clock;
use crate::driver::{Driver, TopicHold};
use crate::memory::{Memory, Tenant};
use crate::role::{PendingResponse, Role, Turn, Wake};

use super::compression::CompressionThreads;

/// The shortest time limit of a request, however little time its records have left: when the limit of all requests that
/// wait on a connection is over, it is closed.
const SHORTEST_ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Announces up to which mark all records of one handle are reported.
pub(super) type Reported = watch::Receiver<FlushMark>;

/// The state behind the lock.
struct State {
    machine: Machine,
    /// For each handle, announces the progress of its reports. Dropped when everything of the handle is reported.
    reporters: BTreeMap<HandleId, Arc<watch::Sender<FlushMark>>>,
    /// The topics of each handle, which stay in use until its last record is reported.
    topics: BTreeMap<HandleId, Topics>,
}

type Topics = BTreeMap<Arc<str>, TopicHold>;

/// Progress of handles, collected under the lock, to be announced without it.
type Announcements = Vec<(Arc<watch::Sender<FlushMark>>, Progress, Option<Topics>)>;

/// See the module's documentation.
pub(super) struct SharedMachine {
    /// Its number among the client's producer machines, which is that of its connections.
    pub(super) number: u64,
    state: Mutex<State>,
    /// The settings that its producers share: all but the limit on records, which each has for itself.
    config: ProducerConfig,
    wake: Arc<Wake>,
    pub(super) memory: Memory,
    pub(super) clock: Clock,
    pub(super) driver: Driver,
    /// Compresses what is small, on the engine thread.
    compressor: Mutex<Compressor>,
    /// Compress what is large.
    pub(super) compression: Arc<CompressionThreads>,
    /// The time limit of a produce request: little more than the records in it have.
    answer_limit: Duration,
}

/// The time limit of a produce request.
pub(super) fn answer_limit(client: &ClientConfig, producer: &ProducerConfig) -> Duration {
    client.request_timeout.min(producer.delivery_timeout.max(SHORTEST_ANSWER_LIMIT))
}

impl std::fmt::Debug for SharedMachine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedMachine").field("config", &self.config).finish_non_exhaustive()
    }
}

impl SharedMachine {
    /// A machine with these settings, without its task.
    pub(super) fn new(client: &Client, config: ProducerConfig, compressor: Compressor) -> Self {
        let (client_config, driver, memory) = (client.config(), client.driver.clone(), client.memory.clone());
        let answer_limit = answer_limit(client_config, &config);
        let backoff = Backoff { initial: client_config.retry_backoff, max: client_config.retry_backoff_max };
        let number = driver.take_producer_number();
        let machine = Machine::new(config.clone(), backoff, memory.pool.clone(), driver.next_seed());
        let machine = machine.with_number(number);
        let wake = Arc::new(Wake::default());
        let compression = CompressionThreads::new(driver.clone(), config.compression, Arc::clone(&wake));
        Self {
            number,
            state: Mutex::new(State { machine, reporters: BTreeMap::new(), topics: BTreeMap::new() }),
            config,
            wake,
            memory,
            clock: Clock::new(driver.now()),
            driver,
            compressor: Mutex::new(compressor),
            compression,
            answer_limit,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `act` with the machine, under its lock.
    #[inline]
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Machine) -> T) -> T {
        act(&mut self.state().machine)
    }

    /// Keeps a topic in use for as long as the handle lives or has unreported records.
    pub(super) fn hold_topic(&self, handle: HandleId, name: &str) {
        let name: Arc<str> = name.into();
        let held = self.driver.hold_topic(&name);
        let before = self.state().topics.entry(handle).or_default().insert(name, held);
        drop(before);
    }

    /// Wakes its task.
    #[inline]
    pub(super) fn wake(&self) {
        self.wake.wake();
    }

    /// Opens a handle for a producer with these settings; `None` if this machine has other settings, or has ended.
    pub(super) fn open(
        &self,
        config: &ProducerConfig,
        max_queued_records: Option<usize>,
    ) -> Option<(HandleId, Reported)> {
        if self.config != *config {
            return None;
        }
        let mut state = self.state();
        // The machine's task ends with the last handle, and a failed machine sends nothing.
        if state.machine.has_failed() || state.machine.is_over() {
            return None;
        }
        Some(state.open(max_queued_records))
    }

    /// Opens the first handle of a new machine.
    pub(super) fn open_first(&self, max_queued_records: Option<usize>) -> (HandleId, Reported) {
        self.state().open(max_queued_records)
    }
}

impl State {
    fn open(&mut self, max_queued_records: Option<usize>) -> (HandleId, Reported) {
        let handle = self.machine.open(max_queued_records);
        let reporter = Arc::new(watch::Sender::new(self.machine.settled(handle)));
        let receiver = reporter.subscribe();
        self.reporters.insert(handle, reporter);
        (handle, receiver)
    }

    /// The progress of handles, to be announced once the events are carried out.
    fn poll_progress(&mut self, now: Instant) -> Announcements {
        let mut announcements = Vec::new();
        while let Some(progress) = self.machine.poll_progress(now) {
            let (reporter, topics) = if progress.is_over {
                (self.reporters.remove(&progress.handle), self.topics.remove(&progress.handle))
            } else {
                (self.reporters.get(&progress.handle).cloned(), None)
            };
            announcements.extend(reporter.map(|reporter| (reporter, progress, topics)));
        }
        announcements
    }
}

impl Tenant for SharedMachine {
    fn expedite(&self) {
        let now = self.clock.now();
        self.with(|machine| machine.expedite(now));
        self.wake();
    }
}

impl Role for SharedMachine {
    type Request = ProducerRequest;
    type Response = ProducerResponse;

    fn driver(&self) -> &Driver {
        &self.driver
    }

    fn wake(&self) -> &Wake {
        &self.wake
    }

    fn turn(&self, now: Instant, metadata: &Arc<Metadata>, calls: &mut Vec<Call<ProducerRequest>>) -> Turn {
        let compressed = self.compression.take_done();
        let mut state = self.state();
        for batches in compressed {
            state.machine.handle_compressed(now, batches);
        }
        state.machine.handle_metadata(now, metadata);
        calls.extend(std::iter::from_fn(|| state.machine.poll_request(now)));
        let to_compress: Vec<_> = std::iter::from_fn(|| state.machine.poll_compression()).collect();
        let events: Vec<_> = std::iter::from_fn(|| state.machine.poll_event()).collect();
        let announcements = state.poll_progress(now);
        let turn = if state.machine.is_over() { Turn::Ended } else { Turn::Until(state.machine.poll_timeout()) };
        drop(state);
        for batches in to_compress {
            self.compression.add(batches);
        }
        self.carry_out(events, announcements);
        turn
    }

    fn send(&self, call: Call<ProducerRequest>) -> PendingResponse<ProducerResponse> {
        let (call, request) = call.take_body();
        match request {
            ProducerRequest::Versions => {
                let (driver, owner, broker_id) = (self.driver.clone(), call.owner, call.broker_id());
                Box::pin(async move {
                    let unknown = || Error::new(ErrorKind::Internal, "versions are those of one broker");
                    let broker_id = broker_id.ok_or_else(unknown)?;
                    let produce = driver.api_version(broker_id, owner, ApiKey::Produce).await?;
                    Ok(ProducerResponse::Versions { produce })
                })
            }
            ProducerRequest::InitProducerId(request) => {
                let answer = self.driver.send(call.with_body(request));
                Box::pin(async move { answer.await.map(ProducerResponse::InitProducerId) })
            }
            ProducerRequest::Produce(request) => match self.seal(request) {
                Ok(request) => {
                    let answer = self.driver.send(Call { timeout: Some(self.answer_limit), ..call.with_body(request) });
                    Box::pin(async move { answer.await.map(ProducerResponse::Produce) })
                }
                Err(error) => Box::pin(async move { Err(error) }),
            },
        }
    }

    fn handle_response(&self, now: Instant, id: u64, response: Result<ProducerResponse>) {
        self.with(|machine| machine.handle_response(now, id, response));
    }

    fn fail(&self, error: &Error) {
        let now = self.driver.now();
        self.with(|machine| machine.fail_for_good(now, error));
        self.turn(now, &self.driver.metadata(), &mut Vec::new());
        // No more reports will come, so a waiting flush must not wait for them.
        self.state().reporters.clear();
    }
}

impl SharedMachine {
    fn carry_out(&self, events: Vec<ProducerEvent>, announcements: Announcements) {
        for event in events {
            match event {
                ProducerEvent::Completed(completed) => completed.carry_out(),
                ProducerEvent::Notice(notice) => self.driver.take_notice(notice),
                ProducerEvent::OldFormat(topic) => self.driver.tell_of_old_format(&topic),
                ProducerEvent::NoProducerIds(leader) => self.driver.tell_of_no_producer_ids(leader),
            }
        }
        let mut wakes = false;
        for (reporter, Progress { settled, wakes_callers, .. }, _topics) in announcements {
            wakes |= wakes_callers;
            reporter.send_if_modified(|mark| std::mem::replace(mark, settled) != settled);
        }
        if wakes {
            self.memory.room.signal();
        }
    }

    /// Checksums the batches of a request, and compresses the small ones.
    fn seal(&self, request: ProduceToSend) -> Result<ProduceRequest> {
        request.seal(&mut self.compressor.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kavka_broker::Fault;
    use kavka_broker::serve::{Broker, Options};
    use kavka_core::wire::ApiKey;

    use super::super::Record;
    use super::*;
    use crate::role::tests::panicked;
    use crate::{Client, ClientConfig, ProducerConfig, parse_bootstrap_servers};

    #[test]
    fn a_machine_takes_over_the_lowest_number_of_those_that_have_ended() {
        let client = Client::new(ClientConfig::default()).unwrap();
        let take = || client.driver.take_producer_number();
        assert_eq!([take(), take(), take()], [0, 1, 2]);
        client.driver.free_producer_number(1);
        client.driver.free_producer_number(0);
        assert_eq!([take(), take(), take()], [0, 1, 3]);
    }

    #[test]
    fn every_record_gets_its_report_when_the_role_task_panics() {
        let broker = Broker::start(Options::default()).unwrap();
        broker.inject(Fault::silence().api(ApiKey::Produce).always());
        let bootstrap_servers = parse_bootstrap_servers(&broker.bootstrap_servers()).unwrap();
        let client = Client::new(ClientConfig::default().bootstrap_servers(bootstrap_servers)).unwrap();
        let producer = client.producer(ProducerConfig::default()).unwrap();
        let wait = Some(Duration::from_secs(20));
        let opening = producer.clone();
        let topic = client.start(async move { opening.topic("orders", true).await }).wait(wait).unwrap().unwrap();
        let delivery = producer.try_send(topic, &Record { value: Some(b"v"), ..Record::default() }).unwrap();

        client.start(panicked(Arc::clone(&producer.0.machine))).wait(wait).unwrap();

        let error = delivery.outcome().unwrap().unwrap_err();
        assert!(error.to_string().contains("a bug of this library"), "{error}");
    }

    #[test]
    fn the_topics_of_a_producer_that_is_gone_are_let_go_although_others_use_the_machine() {
        let broker = Broker::start(Options::default()).unwrap();
        let bootstrap_servers = parse_bootstrap_servers(&broker.bootstrap_servers()).unwrap();
        let client = Client::new(ClientConfig::default().bootstrap_servers(bootstrap_servers)).unwrap();
        let open = |topic: &'static str| {
            let producer = client.producer(ProducerConfig::default()).unwrap();
            let opening = producer.clone();
            let opened = client.start(async move { opening.topic(topic, true).await.map(drop) });
            opened.wait(Some(Duration::from_secs(20))).unwrap().unwrap();
            producer
        };
        let (stays, goes) = (open("orders"), open("bills"));
        let machine = Arc::clone(&stays.0.machine);
        assert_eq!(machine.state().topics.len(), 2, "they share it");

        drop(goes);
        machine.turn(machine.driver.now(), &machine.driver.metadata(), &mut Vec::new());

        let state = machine.state();
        assert_eq!(state.topics.values().flat_map(Topics::keys).map(AsRef::as_ref).collect::<Vec<_>>(), ["orders"]);
    }
}
