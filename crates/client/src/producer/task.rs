//! What is done for one producer machine by its task ([`crate::role`]).
//!
//! Outcomes are written in the order the machine decided them. The producer's lock is held only to ask.

use std::sync::{Arc, PoisonError};

use kavka_core::cluster::{Call, Metadata};
use kavka_core::error::{Error, ErrorKind, Result};
use kavka_core::producer::{FlushMark, ProduceToSend, ProducerEvent, ProducerRequest, ProducerResponse};
use kavka_core::time::Instant;
use kavka_core::wire::messages::ProduceRequest;
use kavka_core::wire::records::Compressor;

use super::Inner;
use crate::driver::Driver;
use crate::role::{Answer, Role, Turn, Wake};

/// Batches with more to compress than this are sealed on another thread.
const SEAL_HERE_BYTES: usize = 64 << 10;

impl Role for Inner {
    type Request = ProducerRequest;
    type Response = ProducerResponse;

    fn driver(&self) -> &Driver {
        &self.driver
    }

    fn wake(&self) -> &Wake {
        &self.wake
    }

    fn turn(&self, now: Instant, metadata: &Arc<Metadata>, calls: &mut Vec<Call<ProducerRequest>>) -> Turn {
        let mut machine = self.lock();
        machine.handle_metadata(now, metadata);
        calls.extend(std::iter::from_fn(|| machine.poll_request(now)));
        let events: Vec<_> = std::iter::from_fn(|| machine.poll_event()).collect();
        let settled = machine.settled();
        let has_ended = machine.is_closed() && machine.is_idle();
        let turn = if has_ended { Turn::Ended } else { Turn::Until(machine.poll_timeout()) };
        drop(machine);
        self.carry_out(events, settled);
        turn
    }

    async fn send(&self, call: Call<ProducerRequest>) -> Answer<ProducerResponse> {
        let (call, request) = call.take_body();
        match request {
            ProducerRequest::InitProducerId(request) => {
                let answer = self.driver.send(call.with_body(request));
                Box::pin(async move { answer.await.map(ProducerResponse::InitProducerId) })
            }
            ProducerRequest::Produce(request) => match self.seal(request).await {
                Ok(request) => {
                    let answer = self.driver.send(Call { timeout: Some(self.answer_limit), ..call.with_body(request) });
                    Box::pin(async move { answer.await.map(ProducerResponse::Produce) })
                }
                Err(error) => Box::pin(async move { Err(error) }),
            },
        }
    }

    fn handle_response(&self, now: Instant, id: u64, response: Result<ProducerResponse>) {
        self.lock().handle_response(now, id, response);
    }

    fn fail(&self, error: &Error) {
        let now = self.driver.now();
        self.lock().abandon(now, error);
        self.turn(now, &self.driver.metadata(), &mut Vec::new());
    }
}

impl Inner {
    fn carry_out(&self, events: Vec<ProducerEvent>, settled: FlushMark) {
        let mut reported = false;
        for event in events {
            match event {
                ProducerEvent::Completed(completed) => {
                    reported = true;
                    completed.carry_out();
                }
                ProducerEvent::Notice(notice) => self.driver.take_notice(notice),
            }
        }
        self.reported.send_if_modified(|mark| std::mem::replace(mark, settled) != settled);
        if reported && self.bounds_records {
            self.memory.room.signal();
        }
    }

    /// Compresses and checksums what the request carries, elsewhere if it would keep the engine thread for long.
    async fn seal(&self, request: ProduceToSend) -> Result<ProduceRequest> {
        let kept = self.compressor.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut compressor = kept.map_or_else(|| Compressor::new(self.compression), Ok)?;
        let (sealed, compressor) = if !self.compresses || request.unsealed_bytes() <= SEAL_HERE_BYTES {
            (request.seal(&mut compressor), compressor)
        } else {
            let elsewhere = self.driver.runtime().spawn_blocking(move || {
                let sealed = request.seal(&mut compressor);
                (sealed, compressor)
            });
            let interrupted =
                |cause| Error::new(ErrorKind::Misuse, "compressing a batch was interrupted").with_source(cause);
            elsewhere.await.map_err(interrupted)?
        };
        *self.compressor.lock().unwrap_or_else(PoisonError::into_inner) = Some(compressor);
        sealed
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

        client.start(panicked(Arc::clone(&producer.0.inner))).wait(wait).unwrap();

        let error = delivery.outcome().unwrap().unwrap_err();
        assert!(error.to_string().contains("a bug of this library"), "{error}");
    }
}
