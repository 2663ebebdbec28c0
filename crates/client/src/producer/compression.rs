//! Compresses large batches on threads of their own, several at once.
//!
//! The task of the machine puts batches in and takes them out, and is woken when some are done. It never waits for
//! them.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kavka_core::producer::BatchesToCompress;
use kavka_core::wire::records::{Compression, Compressor};

use crate::driver::{Driver, cores};
use crate::role::Wake;

/// How many threads compress at most for one machine, however many cores there are: others need some, too.
const MOST_AT_WORK: usize = 8;

/// Compresses the batches of one machine.
pub(super) struct CompressionThreads {
    driver: Driver,
    compression: Compression,
    wake: Arc<Wake>,
    state: Mutex<State>,
}

struct State {
    /// How many threads may be at work.
    limit: usize,
    at_work: usize,
    waiting: VecDeque<BatchesToCompress>,
    done: Vec<BatchesToCompress>,
    /// Kept for the next batches.
    unused: Vec<Compressor>,
}

impl CompressionThreads {
    /// Threads of this driver, which wake the task when they have done something.
    pub(super) fn new(driver: Driver, compression: Compression, wake: Arc<Wake>) -> Arc<Self> {
        let limit = cores().min(MOST_AT_WORK);
        let state = State { limit, at_work: 0, waiting: VecDeque::new(), done: Vec::new(), unused: Vec::new() };
        Arc::new(Self { driver, compression, wake, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Compresses these batches after those that were added before.
    pub(super) fn add(self: &Arc<Self>, batches: BatchesToCompress) {
        let mut state = self.state();
        state.waiting.push_back(batches);
        self.start(&mut state);
    }

    /// The batches that are compressed, or have failed to be.
    pub(super) fn take_done(&self) -> Vec<BatchesToCompress> {
        std::mem::take(&mut self.state().done)
    }

    fn start(self: &Arc<Self>, state: &mut State) {
        while state.at_work < state.limit
            && let Some(batches) = state.waiting.pop_front()
        {
            state.at_work += 1;
            let (threads, compressor) = (Arc::clone(self), state.unused.pop());
            // One piece of work at a time, because these threads also resolve names.
            self.driver.start_on_a_thread(move || threads.compress(batches, compressor));
        }
    }

    fn compress(self: Arc<Self>, mut batches: BatchesToCompress, kept: Option<Compressor>) {
        // If a codec fails, the machine finds the batches uncompressed and reports them.
        let compressing = || {
            let mut compressor = kept.map_or_else(|| Compressor::new(self.compression), Ok).ok()?;
            batches.compress(&mut compressor);
            Some(compressor)
        };
        let compressor = catch_unwind(AssertUnwindSafe(compressing)).ok().flatten();
        let mut state = self.state();
        state.done.push(batches);
        state.unused.extend(compressor);
        state.at_work -= 1;
        self.start(&mut state);
        drop(state);
        self.wake.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kavka_broker::serve::{Broker, Options};
    use kavka_core::error::{ErrorKind, Phase};
    use kavka_core::wire::records::CompressionType;

    use super::*;
    use crate::producer::{Delivery, Producer, ProducerTopic, Record};
    use crate::{Client, ClientConfig, ProducerConfig, parse_bootstrap_servers};

    const WAIT: Option<Duration> = Some(Duration::from_secs(20));

    fn limit(threads: &Arc<CompressionThreads>, limit: usize) {
        let mut state = threads.state();
        state.limit = limit;
        threads.start(&mut state);
    }

    fn open(client: &Client, config: &ProducerConfig, topic: &'static str) -> (Producer, ProducerTopic) {
        let producer = client.producer(config.clone()).unwrap();
        let opening = producer.clone();
        let opened = client.start(async move { opening.topic(topic, true).await }).wait(WAIT);
        (producer, opened.unwrap().unwrap())
    }

    fn send((producer, topic): &(Producer, ProducerTopic), bytes: usize) -> Delivery {
        producer.try_send(*topic, &Record { value: Some(&vec![b'v'; bytes]), ..Record::default() }).unwrap()
    }

    #[test]
    fn while_a_batch_is_compressed_other_producers_go_on_and_the_time_limit_of_its_records_holds() {
        let broker = Broker::start(Options::default()).unwrap();
        let bootstrap_servers = parse_bootstrap_servers(&broker.bootstrap_servers()).unwrap();
        let client = Client::new(ClientConfig::default().bootstrap_servers(bootstrap_servers)).unwrap();
        let config = ProducerConfig::default()
            .compression(CompressionType::Gzip.into())
            .delivery_timeout(Duration::from_secs(4));
        let (slow, quick) = (open(&client, &config, "slow"), open(&client, &config, "quick"));
        let machine = Arc::clone(&slow.0.0.machine);
        assert!(Arc::ptr_eq(&machine, &quick.0.0.machine));
        limit(&machine.compression, 0);

        let held = send(&slow, 500_000);
        // To the same broker, because there is only one.
        for _ in 0..3 {
            client.start(send(&quick, 1)).wait(WAIT).unwrap().unwrap();
        }
        send(&quick, 1);
        client.start(quick.0.flush()).wait(WAIT).unwrap();
        assert!(held.outcome().is_none());

        let error = client.start(held).wait(WAIT).unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut(Phase::Delivery));
        limit(&machine.compression, 1);
        let stored = client.start(send(&slow, 500_000)).wait(WAIT).unwrap().unwrap();
        assert_eq!(stored.offset, Some(0), "the record that failed was never sent");
    }
}
