//! What a group member does with the partitions of its consumer.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use kavka_core::consumer::{
    CommittedOffset, Consumer as Machine, Done, Offsets, PartitionId, StartPosition, TopicPartition,
};
use kavka_core::error::{Error, ErrorKind, Result};
use kavka_core::time::Instant;

use crate::consumer::{Consumer, lock};
use crate::role::Wake;

impl Consumer {
    /// Sets whom the consumer wakes: the task of the group member. It is woken when [`Consumer::take_placed`] has
    /// something new, and by the next call for records if it has asked [`Consumer::activity`] for that.
    pub(in crate::consumer) fn serve_member(&self, wake: &Arc<Wake>) {
        self.shared.member.get_or_init(|| Arc::clone(wake));
    }

    /// [`Consumer::add`] for many partitions at once; with `is_withheld`, no records are handed out until
    /// [`Consumer::release`]. Without a start position a partition is paused until the application seeks and resumes
    /// it.
    pub(in crate::consumer) fn add_for_group(
        &self,
        partitions: &[(TopicPartition, Option<StartPosition>)],
        is_withheld: bool,
    ) -> Vec<Result<PartitionId>> {
        let add = |machine: &mut Machine, key: &TopicPartition, start: Option<StartPosition>| {
            self.begin_in(machine, key, start.unwrap_or(StartPosition::Earliest), |machine| {
                if start.is_none() {
                    machine.pause(key)?;
                }
                if is_withheld { machine.withhold(key) } else { Ok(()) }
            })?;
            machine.partition_id(key).ok_or_else(|| Error::new(ErrorKind::Internal, "a partition was not added"))
        };
        self.change(|machine| partitions.iter().map(|(key, start)| add(machine, key, *start)).collect())
    }

    /// Hands out no records of these partitions, even if the application resumes them.
    pub(in crate::consumer) fn withhold(&self, partitions: &[TopicPartition]) {
        self.change(|machine| {
            for key in partitions {
                // Fails only if the partition is already removed.
                drop(machine.withhold(key));
            }
        });
    }

    /// Ends [`Consumer::withhold`].
    pub(in crate::consumer) fn release(&self, partitions: &[TopicPartition]) {
        self.change(|machine| {
            for key in partitions {
                // Fails only if the partition is already removed.
                drop(machine.release(key));
            }
        });
        self.shared.state().located.extend_from_slice(partitions);
        if let Some(member) = self.shared.member.get() {
            member.wake();
        }
    }

    pub(in crate::consumer) fn remove_for_group(&self, partitions: &[TopicPartition]) {
        self.change(|machine| {
            for key in partitions {
                // Fails only if the partition is already removed.
                drop(self.remove_in(machine, key));
            }
        });
    }

    pub(in crate::consumer) fn is_withheld(&self, key: &TopicPartition) -> bool {
        self.shared.state().machine.is_withheld(key)
    }

    /// The partitions that have become readable since the last call: they have a position, and are not withheld.
    pub(in crate::consumer) fn take_placed(&self) -> Vec<TopicPartition> {
        let mut state = self.shared.state();
        let mut placed = std::mem::take(&mut state.located);
        placed.retain(|key| state.machine.position(key).is_some() && !state.machine.is_withheld(key));
        placed
    }

    /// From this time on nothing is handed out.
    pub(in crate::consumer) fn fence(&self, at: Option<Instant>) {
        if self.shared.fence.put(at) {
            // Callers that found the old fence reached may have the buffered records now: wake them.
            self.shared.arrived.notify_waiters();
        }
    }

    /// Up to where the application is done with a partition.
    pub(in crate::consumer) fn done(&self, key: &TopicPartition) -> Done {
        let state = self.shared.state();
        let Some(done) = state.machine.done_position(key) else { return Done::Nothing };
        let working = lock(&self.shared.working);
        match working.get(key).filter(|(id, _)| state.machine.partition_id(key) == Some(*id)) {
            // The epoch is that of the record before the position.
            Some((_, offset)) if *offset < done.offset => {
                Done::ForNow(Some(CommittedOffset { topic_id: done.topic_id, ..CommittedOffset::new(*offset) }))
            }
            Some(_) => Done::ForNow(Some(done)),
            None => Done::Until(done),
        }
    }

    /// Says of offsets that have no topic id to which topic they belong: to the one that is read.
    pub(in crate::consumer) fn identify(&self, offsets: &mut Offsets) {
        self.shared.state().machine.identify(offsets);
    }

    /// The partitions for which [`Consumer::done`] may have changed since the last call, besides those for which it
    /// said that it may change without a word.
    pub(in crate::consumer) fn take_changed(&self) -> BTreeSet<TopicPartition> {
        self.shared.state().machine.take_changed()
    }

    /// Hands out nothing any more. The application is done with every record that it was handed.
    pub(in crate::consumer) fn end_reading(&self) {
        self.shared.fence.close();
        drop(lock(&self.shared.current).take());
        lock(&self.shared.working).clear();
    }

    /// Returns this error from a call for records.
    pub(in crate::consumer) fn report(&self, error: Error) {
        self.shared.state().errors.put(error);
        self.shared.arrived.notify_waiters();
    }

    /// A counter that changes with every record handed out and every call for records; `None` while a caller is
    /// waiting, because it asks for records all the time. With `wakes`, the next call for records wakes the member.
    pub(in crate::consumer) fn activity(&self, wakes: bool) -> Option<u64> {
        let shared = &self.shared;
        shared.wakes_member.store(wakes, Ordering::SeqCst);
        let asked = shared.asked.load(Ordering::SeqCst);
        let is_waited_for = shared.waiting.load(Ordering::Relaxed) > 0;
        (!is_waited_for).then(|| shared.state().machine.progress().wrapping_add(asked))
    }
}

#[cfg(test)]
impl Consumer {
    pub(in crate::consumer) fn wakes_member(&self) -> bool {
        self.shared.wakes_member.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::task::{Context, Poll, Wake, Waker};
    use std::time::Duration;

    use kavka_broker::serve::{Broker, Options};

    use super::*;
    use crate::{Client, ClientConfig, ConsumerConfig, ProducerConfig, Record, blocking};

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_has_given_up_waiting_for_the_next_record_does_not_ask_for_records_any_more() {
        let client = crate::Client::new(crate::ClientConfig::default()).unwrap();
        let consumer = client.consumer(ConsumerConfig::default()).unwrap();
        let mut records = consumer.records();
        {
            let mut next = pin!(records.next());
            assert!(next.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            assert_eq!(consumer.activity(false), None, "it waits");
        }
        assert!(consumer.activity(false).is_some());
    }

    #[test]
    fn who_waits_beside_fetched_records_is_woken_when_the_session_turns_out_to_go_on() {
        let broker = Broker::start(Options::default()).unwrap();
        let client = blocking::Client::connect(&broker.bootstrap_servers()).unwrap();
        let producer = client.producer(ProducerConfig::default()).unwrap();
        let topic = producer.topic("orders", true).unwrap();
        producer.send(topic, &Record { partition: Some(0), ..Record::new(b"v") }).unwrap().wait().unwrap();
        let consumer = client.consumer(ConsumerConfig::default()).unwrap();
        consumer.add(&TopicPartition::new("orders", 0), StartPosition::Offset(0)).unwrap();
        // Dropped unread, so it comes again.
        drop(consumer.next_batch(Duration::from_secs(30)).unwrap().unwrap());

        consumer.fence(Some(Instant::default()));
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut waiting = pin!((*consumer).next_batch());
        assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        woken.0.store(false, Ordering::Relaxed);
        consumer.fence(None);
        assert!(woken.0.load(Ordering::Relaxed));
        assert!(matches!(waiting.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Ready(Ok(_))));
    }

    #[test]
    fn the_next_call_for_records_wakes_a_member_that_left_because_there_were_none() {
        let client = Client::new(ClientConfig::default()).unwrap();
        let consumer = client.consumer(ConsumerConfig::default()).unwrap();
        let member = Arc::default();
        consumer.serve_member(&member);
        let is_woken = |wakes: bool| {
            consumer.activity(wakes);
            member.arm();
            drop(consumer.try_batch());
            pin!(member.woken()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
        };
        assert!(is_woken(true));
        assert!(!is_woken(false), "a member of the group looks by itself, at intervals");
    }

    #[test]
    fn only_what_is_not_withheld_is_handed_out() {
        let client = Client::new(ClientConfig::default()).unwrap();
        let consumer = client.consumer(ConsumerConfig::default()).unwrap();
        let keys = [0, 1].map(|partition| TopicPartition::new("orders", partition));
        let starts = keys.clone().map(|key| (key, Some(StartPosition::Offset(5))));
        assert!(consumer.add_for_group(&starts, false).into_iter().all(|added| added.is_ok()));
        consumer.withhold(&keys[..1]);
        assert_eq!(keys.each_ref().map(|key| consumer.is_withheld(key)), [true, false]);
        assert!(keys.iter().all(|key| consumer.done(key) != Done::Nothing));
    }

    #[test]
    fn an_error_that_lasts_is_kept_once_for_an_application_that_does_not_ask() {
        let client = Client::new(ClientConfig::default()).unwrap();
        let consumer = client.consumer(ConsumerConfig::default()).unwrap();
        let error = |what: &str| Error::new(ErrorKind::Misuse, what);
        (0..1_000).for_each(|_| consumer.report(error("planted")));
        consumer.report(error("another one"));
        for what in ["planted", "another one"] {
            assert!(consumer.try_batch().unwrap_err().to_string().contains(what));
        }
        assert!(consumer.try_batch().unwrap().is_none());
    }

    #[test]
    fn the_partitions_of_a_rebalance_are_added_withheld_released_and_removed_in_one_change_each() {
        let client = Client::new(ClientConfig::default()).unwrap();
        let consumer = client.consumer(ConsumerConfig::default()).unwrap();
        let keys: Vec<_> = (0..1_000).map(|partition| TopicPartition::new("orders", partition)).collect();
        let starts: Vec<_> = keys.iter().map(|key| (key.clone(), Some(StartPosition::Offset(0)))).collect();
        assert!(consumer.add_for_group(&starts, true).into_iter().all(|added| added.is_ok()));
        consumer.release(&keys);
        assert_eq!(consumer.take_placed(), keys, "they have a position, and are not withheld any more");
        consumer.withhold(&keys);
        consumer.remove_for_group(&keys);
        assert_eq!(consumer.partitions(), []);
        assert_eq!(consumer.shared.changes.load(Ordering::Relaxed), 4);
    }
}
