//! The role task of one producer: it asks the machine what to do and does it.
//!
//! It runs on the engine thread, alone: requests are queued on their connections in the order the machine gave them,
//! and outcomes are written in the order the machine decided them. The producer's lock is held only to ask.
//!
//! It sleeps when the machine has nothing for it. `asleep` is set under the lock that appends take too, so whoever
//! appends knows whether to wake it, and only then pays for it.

use std::future::Future;
use std::sync::Arc;

use kavka_core::cluster::Metadata;
use kavka_core::error::{Error, ErrorKind, Result};
use kavka_core::producer::{FlushMark, ProduceToSend, ProducerEvent, ProducerRequest};
use kavka_core::time::Instant;
use kavka_core::wire::messages::{InitProducerIdRequest, ProduceRequest};
use kavka_core::wire::records::Compressor;

use super::Inner;
use crate::driver::{Alive, CallOptions, Owner};

/// Batches with more to compress than this are sealed on another thread.
const SEAL_HERE_BYTES: usize = 64 << 10;

/// What the machine wants done.
struct Turn {
    requests: Vec<ProducerRequest>,
    events: Vec<ProducerEvent>,
    /// What is reported when the events are carried out.
    settled: FlushMark,
    due: Option<Instant>,
    ended: bool,
}

/// Sees to it that every record gets its report even if `role`, the role task, panics (guarantee R18).
pub(super) async fn supervise(inner: Arc<Inner>, alive: Arc<Alive>, role: impl Future<Output = ()> + Send + 'static) {
    if tokio::spawn(role).await.is_err() {
        let what = "the producer's engine failed, which is a bug of this library: what is not acknowledged is given up";
        let turn = inner.last_turn(&Error::new(ErrorKind::Closed, what));
        inner.carry_out(turn.events, turn.settled);
    }
    drop(alive);
}

/// Serves the producer until it is closed and everything is reported.
pub(super) async fn run(inner: Arc<Inner>, compressor: Compressor) {
    let mut compressor = Some(compressor);
    loop {
        let metadata = inner.driver.metadata();
        let turn = inner.turn(&metadata);
        let idle = turn.requests.is_empty() && turn.events.is_empty();
        inner.carry_out(turn.events, turn.settled);
        for request in turn.requests {
            match request {
                ProducerRequest::InitProducerId(request) => inner.send_init_producer_id(request),
                ProducerRequest::Produce(request) => {
                    let id = request.id;
                    let options = inner.options(&request);
                    let broker_id = request.broker_id;
                    match seal(&inner, &mut compressor, request).await {
                        Ok(request) => inner.send_produce(id, broker_id, options, request),
                        Err(error) => inner.lock().machine.handle_response(inner.driver.now(), id, Err(error)),
                    }
                }
            }
        }
        if turn.ended {
            break;
        }
        if idle {
            let wait = turn.due.map_or(std::time::Duration::MAX, |due| due.since(inner.driver.now()));
            tokio::select! {
                () = inner.wake.notified() => {}
                () = tokio::time::sleep(wait) => {}
                _ = inner.driver.metadata_newer_than(metadata.version) => {}
            }
        }
    }
}

/// Compresses and checksums what the request carries, elsewhere if it would keep the engine thread for long.
async fn seal(inner: &Inner, compressor: &mut Option<Compressor>, request: ProduceToSend) -> Result<ProduceRequest> {
    let mut own = match compressor.take() {
        Some(compressor) => compressor,
        None => Compressor::new(inner.compression)?,
    };
    if !inner.compresses || request.unsealed_bytes() <= SEAL_HERE_BYTES {
        let sealed = request.seal(&mut own);
        *compressor = Some(own);
        return sealed;
    }
    let elsewhere = inner.driver.runtime().spawn_blocking(move || {
        let sealed = request.seal(&mut own);
        (sealed, own)
    });
    let (sealed, own) = elsewhere
        .await
        .map_err(|cause| Error::new(ErrorKind::Misuse, "compressing a batch was interrupted").with_source(cause))?;
    *compressor = Some(own);
    sealed
}

impl Inner {
    fn last_turn(&self, cause: &Error) -> Turn {
        self.lock().machine.abandon(self.driver.now(), cause);
        self.turn(&self.driver.metadata())
    }

    fn turn(&self, metadata: &Metadata) -> Turn {
        let now = self.driver.now();
        let mut state = self.lock();
        state.machine.handle_metadata(now, metadata);
        let requests: Vec<_> = std::iter::from_fn(|| state.machine.poll_request(now)).collect();
        let events: Vec<_> = std::iter::from_fn(|| state.machine.poll_event()).collect();
        state.asleep = requests.is_empty() && events.is_empty();
        Turn {
            requests,
            events,
            settled: state.machine.settled(),
            due: state.machine.poll_timeout(),
            ended: state.machine.is_closed() && state.machine.is_idle(),
        }
    }

    fn carry_out(&self, events: Vec<ProducerEvent>, settled: FlushMark) {
        let mut reported = false;
        for event in events {
            match event {
                ProducerEvent::Completed(completed) => {
                    reported = true;
                    completed.carry_out();
                }
                ProducerEvent::RefreshMetadata => self.driver.refresh_metadata(),
                ProducerEvent::LeaderHints { hints, endpoints } => self.driver.apply_leader_hints(&hints, endpoints),
            }
        }
        self.reported.send_if_modified(|mark| std::mem::replace(mark, settled) != settled);
        if reported && self.bounds_records {
            self.memory.room.signal();
        }
    }

    fn options(&self, request: &ProduceToSend) -> CallOptions {
        CallOptions {
            max_version: request.max_version.unwrap_or(i16::MAX),
            is_answered: request.expects_response,
            timeout: Some(self.answer_limit),
            ..CallOptions::on(Owner::Produce)
        }
    }

    fn send_init_producer_id(self: &Arc<Self>, request: InitProducerIdRequest) {
        let inner = Arc::clone(self);
        self.driver.spawn(async move {
            let failures = inner.lock().machine.identity_failures();
            let answer = inner.driver.ask_any(request, failures).await;
            inner.lock().machine.handle_init_producer_id(inner.driver.now(), answer);
            inner.wake.notify_one();
        });
    }

    fn send_produce(self: &Arc<Self>, id: u64, broker_id: i32, options: CallOptions, request: ProduceRequest) {
        // Queued now, so that requests keep their order; awaited on the side.
        let answer = self.driver.begin(broker_id, options, request);
        let inner = Arc::clone(self);
        self.driver.spawn(async move {
            let answer = answer.await;
            inner.lock().machine.handle_response(inner.driver.now(), id, answer);
            inner.wake.notify_one();
        });
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
    use crate::{Client, ClientConfig, ProducerConfig, parse_bootstrap_servers};

    #[test]
    fn every_record_gets_its_report_when_the_role_task_panics() {
        let broker = Broker::start(Options::default()).unwrap();
        broker.inject(Fault::silence().api(ApiKey::Produce).always());
        let bootstrap_servers = parse_bootstrap_servers(&broker.bootstrap_servers()).unwrap();
        let client = Client::new(ClientConfig { bootstrap_servers, ..ClientConfig::default() }).unwrap();
        let producer = client.producer(ProducerConfig::default()).unwrap();
        let wait = Some(Duration::from_secs(20));
        let opening = producer.clone();
        let topic = client.start(async move { opening.topic("orders", true).await }).wait(wait).unwrap().unwrap();
        let delivery = producer.try_enqueue(topic, &Record { value: Some(b"v"), ..Record::default() }).unwrap();

        let role = async { panic!("planted") };
        let supervised = supervise(Arc::clone(&producer.0.inner), Arc::clone(&client.alive), role);
        client.start(supervised).wait(wait).unwrap();

        let error = delivery.outcome().unwrap().unwrap_err();
        assert!(error.to_string().contains("a bug of this library"), "{error}");
    }
}
