//! The steward: carries out the member's decisions one after the other, and calls the application's listener.

use std::collections::BTreeSet;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use kavka_core::config::AutoOffsetReset;
use kavka_core::consumer::{Offsets, StartPosition, TopicPartition, is_of_lost_topic};
use kavka_core::error::{Error, ErrorKind, Hint, Place, Result};
use kavka_core::group::MemberEvent;
use kavka_core::group::assignor::{Assignment, PartitionCounts, Subscriber};
use tokio::sync::mpsc;

use super::{GroupConsumer, RebalanceListener, SharedMember};
use crate::role;

/// How long the last commit before partitions are given up may take.
const LAST_COMMIT: Duration = Duration::from_secs(30);

/// Where to start without a committed offset; `None` if the application must decide (`auto.offset.reset=none`).
pub(super) fn start_of(reset: AutoOffsetReset) -> Option<StartPosition> {
    match reset {
        AutoOffsetReset::Latest => Some(StartPosition::Latest),
        AutoOffsetReset::Earliest => Some(StartPosition::Earliest),
        AutoOffsetReset::None => None,
    }
}

/// Runs on the engine thread until the member has ended. If it panics, whoever waits for the member gets an error
/// (guarantee R18).
pub(super) fn start(
    shared: Arc<SharedMember>,
    decided: mpsc::UnboundedReceiver<MemberEvent>,
) -> impl Future<Output = ()> + Send + 'static {
    let running = run(Arc::clone(&shared), decided);
    supervise(shared, running)
}

async fn supervise(shared: Arc<SharedMember>, running: impl Future<Output = ()> + Send + 'static) {
    if let Some(error) = role::outcome(running).await {
        shared.consumer.end(error.clone());
        shared.state().machine.abandon(&error);
        shared.wake.wake();
    }
    shared.consumer.close();
    shared.changed.notify_waiters();
}

async fn run(shared: Arc<SharedMember>, mut decided: mpsc::UnboundedReceiver<MemberEvent>) {
    while let Some(decision) = decided.recv().await {
        match decision {
            MemberEvent::Assigned { partitions, committed } => assigned(&shared, partitions, &committed).await,
            MemberEvent::Revoked { partitions } => revoked(&shared, partitions).await,
            MemberEvent::Lost { partitions, error } => lost(&shared, partitions, error).await,
            MemberEvent::AssignmentWanted { members, counts, .. } => assign(&shared, members, counts).await,
            // The role task has handled these already.
            MemberEvent::Topics(_)
            | MemberEvent::MetadataWanted
            | MemberEvent::Committed { .. }
            | MemberEvent::Failed(_) => {}
        }
    }
}

async fn assigned(shared: &Arc<SharedMember>, partitions: Vec<TopicPartition>, committed: &Offsets) {
    let must_wait = shared.options.listener.is_some() || shared.options.acknowledgements.is_some();
    let start_of = |key: &TopicPartition| committed.get(key).map(StartPosition::from).or(shared.start);
    let starts: Vec<_> = partitions.iter().map(|key| (key.clone(), start_of(key))).collect();
    for error in shared.add(&starts, must_wait) {
        shared.consumer.report(error);
    }
    for (key, _) in starts.iter().filter(|(_, start)| start.is_none()) {
        shared.consumer.report(without_a_start(shared, key));
    }
    if must_wait {
        shared.state().assigned_at = committed.clone();
        let partitions = call_listener(shared, partitions, RebalanceListener::on_assigned).await;
        shared.consumer.release(&partitions);
    }
}

/// Says that a partition is paused because it has no committed offset and no `auto.offset.reset` (guarantee R15).
fn without_a_start(shared: &SharedMember, key: &TopicPartition) -> Error {
    let what = "the group has committed nothing for the partition, and auto.offset.reset is none";
    let place = Place { group: Some(Arc::clone(&shared.group_id)), ..Place::default() };
    let error = Error::new(ErrorKind::Misuse, what).at(place).at_partition(&key.topic, key.partition);
    error.with_hint(Hint::SeekAndResume)
}

async fn revoked(shared: &Arc<SharedMember>, partitions: Vec<TopicPartition>) {
    shared.consumer.withhold(&partitions);
    let partitions = call_listener(shared, partitions, RebalanceListener::on_revoked).await;
    if shared.config.enable_auto_commit {
        let done = shared.done_with(&partitions);
        if let Err(error) = commit(shared, done).await
            && !is_of_lost_topic(&error)
        {
            shared.consumer.report(error.with_hint("another member reads its records again"));
        }
    }
    shared.remove(&partitions);
    shared.state().machine.handle_released();
    shared.wake.wake();
}

async fn commit(shared: &Arc<SharedMember>, offsets: Offsets) -> Result<()> {
    if offsets.is_empty() {
        return Ok(());
    }
    shared.commit(offsets, LAST_COMMIT)?.await
}

async fn lost(shared: &Arc<SharedMember>, partitions: Vec<TopicPartition>, error: Error) {
    // `assigned` may have released them after they were lost. The listener can still ask for their positions.
    shared.consumer.withhold(&partitions);
    shared.consumer.report(error);
    // Partitions that the listener was just giving up when they were lost are removed: it knows of them. It is told of
    // the loss even if that leaves none.
    let kept = BTreeSet::from_iter(shared.consumer.partitions());
    let told: Vec<_> = partitions.iter().filter(|key| kept.contains(*key)).cloned().collect();
    let told = call_listener(shared, told, RebalanceListener::on_lost).await;
    shared.remove(&told);
    let mut state = shared.state();
    for key in partitions {
        if let Entry::Occupied(mut times) = state.being_lost.entry(key) {
            *times.get_mut() -= 1;
            if *times.get() == 0 {
                times.remove();
            }
        }
    }
}

/// Calls the listener on a thread that may block; returns the partitions.
async fn call_listener(
    shared: &Arc<SharedMember>,
    partitions: Vec<TopicPartition>,
    call: fn(&(dyn RebalanceListener + 'static), &GroupConsumer, &[TopicPartition]),
) -> Vec<TopicPartition> {
    let Some(listener) = shared.options.listener.clone() else { return partitions };
    let (consumer, keys) = (shared.handle(), partitions.clone());
    let called = shared.driver.on_a_thread(move || call(listener.as_ref(), &consumer, &keys)).await;
    if called.is_none() {
        let what = "the rebalance listener panicked";
        shared.consumer.report(
            Error::new(ErrorKind::Misuse, what)
                .with_hint("fix it; the member continues without calling it for this rebalance"),
        );
    }
    partitions
}

async fn assign(shared: &Arc<SharedMember>, members: Vec<Subscriber>, counts: PartitionCounts) {
    let Some(custom) = shared.options.assignor.clone() else { return };
    let called = shared.driver.on_a_thread(move || custom.assign(&counts, &members)).await;
    let panicked = || Err(Error::new(ErrorKind::Misuse, "the custom assignor panicked"));
    let outcome: Result<Assignment> = called.unwrap_or_else(panicked);
    shared.state().machine.handle_assignment(shared.driver.now(), outcome);
    shared.wake.wake();
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use kavka_broker::Fault;
    use kavka_broker::serve::{Broker, Options};
    use kavka_core::wire::{ApiKey, ErrorCode};

    use super::*;
    use crate::blocking::{self, wait_for};
    use crate::consumer::lock;
    use crate::role::tests::panicked;
    use crate::{CommittedOffset, ConsumerConfig, GroupConfig, GroupOptions, GroupProtocol, ProducerConfig};

    pub(in crate::consumer::group) const LIMIT: Duration = Duration::from_secs(30);

    fn member() -> (Broker, blocking::Client, GroupConsumer) {
        member_of(GroupConfig::default())
    }

    /// A member that owns partitions of the topic `orders`.
    pub(in crate::consumer::group) fn member_of(config: GroupConfig) -> (Broker, blocking::Client, GroupConsumer) {
        member_with(config, GroupOptions::default())
    }

    fn member_with(config: GroupConfig, options: GroupOptions) -> (Broker, blocking::Client, GroupConsumer) {
        let broker = Broker::start(Options::default()).unwrap();
        let client = blocking::Client::connect(&broker.bootstrap_servers()).unwrap();
        client.producer(ProducerConfig::default()).unwrap().topic("orders", true).unwrap();
        let consumer = ConsumerConfig::default().group_id(Some("workers".into()));
        let member = (*client).group_consumer(consumer, config, options).unwrap();
        member.subscribe(&["orders"]).unwrap();
        let owns = async {
            while member.assignment().is_empty() {
                member.shared.changed.notified().await;
            }
        };
        wait_for(owns, LIMIT).unwrap();
        (broker, client, member)
    }

    /// Whoever asks for records is told why there are none, again and again, and the member ends.
    fn is_told(member: &GroupConsumer, why: &str) {
        let asks = || {
            let error = wait_for(member.next_batch(), LIMIT).unwrap().unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        };
        asks();
        asks();
        let ends = async {
            while lock(&member.shared.decisions).is_some() {
                member.shared.changed.notified().await;
            }
        };
        wait_for(ends, LIMIT).unwrap();
        asks();
    }

    #[test]
    fn a_member_that_ends_for_good_says_why_whenever_it_is_asked_for_records() {
        let config = GroupConfig::default().group_protocol(GroupProtocol::Classic);
        let config = config.group_instance_id(Some("same".into())).heartbeat_interval(Duration::from_millis(100));
        let (broker, _client, member) = member_of(config);
        broker.inject(Fault::fail(ErrorCode::FENCED_INSTANCE_ID).api(ApiKey::Heartbeat).times(1));
        is_told(&member, "joined with the same group.instance.id");
    }

    #[test]
    fn who_waits_for_records_is_told_when_the_task_of_the_member_panics() {
        let (_broker, client, member) = member();
        client.start(panicked(Arc::clone(&member.shared))).wait(Some(LIMIT)).unwrap();
        is_told(&member, "a bug of this library");
    }

    #[test]
    fn who_waits_for_records_is_told_when_the_steward_panics() {
        let (_broker, client, member) = member();
        let panicking = supervise(Arc::clone(&member.shared), async { panic!("planted") });
        client.start(panicking).wait(Some(LIMIT)).unwrap();
        is_told(&member, "a bug of this library");
    }

    /// What happened to which partitions.
    type Event = (&'static str, Vec<TopicPartition>);

    /// Writes down what it is told.
    #[derive(Clone, Default)]
    struct Told(Arc<Mutex<Vec<Event>>>);

    impl RebalanceListener for Told {
        fn on_revoked(&self, _: &GroupConsumer, partitions: &[TopicPartition]) {
            lock(&self.0).push(("revoked", partitions.to_vec()));
        }

        fn on_lost(&self, _: &GroupConsumer, partitions: &[TopicPartition]) {
            lock(&self.0).push(("lost", partitions.to_vec()));
        }
    }

    #[test]
    fn what_is_lost_while_the_listener_gives_it_up_is_not_told_again() {
        let told = Told::default();
        let (_broker, _client, member) =
            member_with(GroupConfig::default(), GroupOptions::default().listener(told.clone()));
        let keys = [0, 1].map(|partition| TopicPartition::new("elsewhere", partition));
        let starts: Vec<_> = keys.iter().map(|key| (key.clone(), Some(StartPosition::Offset(0)))).collect();
        assert!(member.shared.add(&starts, false).is_empty());
        let error = || Error::new(ErrorKind::Fenced, "planted");
        let both_are_lost_while_one_is_given_up = async {
            revoked(&member.shared, vec![keys[0].clone()]).await;
            lost(&member.shared, keys.to_vec(), error()).await;
            lost(&member.shared, keys.to_vec(), error()).await;
        };
        wait_for(both_are_lost_while_one_is_given_up, LIMIT).unwrap();
        assert_eq!(
            *lock(&told.0),
            [("revoked", vec![keys[0].clone()]), ("lost", vec![keys[1].clone()]), ("lost", Vec::new())]
        );
    }

    /// Announces that `on_lost` was called, and returns from it when it is told to.
    struct SlowToLose {
        called: SyncSender<()>,
        may_return: Mutex<Receiver<()>>,
    }

    impl RebalanceListener for SlowToLose {
        fn on_lost(&self, _: &GroupConsumer, _: &[TopicPartition]) {
            self.called.send(()).unwrap();
            self.may_return.lock().unwrap().recv_timeout(LIMIT).unwrap();
        }
    }

    #[test]
    fn what_was_read_before_a_loss_is_not_committed_when_the_partition_is_back_before_the_listener_has_returned() {
        let ((called, is_called), (returns, may_return)) = (sync_channel(1), sync_channel(1));
        let listener = SlowToLose { called, may_return: Mutex::new(may_return) };
        let config = GroupConfig::default().group_protocol(GroupProtocol::Consumer).enable_auto_commit(false);
        let (broker, _client, member) = member_with(config, GroupOptions::default().listener(listener));
        let until = |is_so: &dyn Fn() -> bool| {
            let waiting = async {
                loop {
                    let changed = member.shared.changed.notified();
                    if is_so() {
                        return;
                    }
                    changed.await;
                }
            };
            wait_for(waiting, LIMIT).unwrap();
        };
        let key = TopicPartition::new("orders", 0);
        let commit = || {
            let offsets = Offsets::from([(key.clone(), CommittedOffset::new(0))]);
            wait_for(async { member.commit(offsets, LIMIT)?.await }, LIMIT).unwrap()
        };

        broker.inject(Fault::fail(ErrorCode::FENCED_MEMBER_EPOCH).api(ApiKey::ConsumerGroupHeartbeat).times(1));
        is_called.recv_timeout(LIMIT).unwrap();
        until(&|| member.shared.state().machine.assignment().contains(&key));
        let error = commit().unwrap_err();
        assert!(error.kind() == ErrorKind::Fenced && error.to_string().contains("was lost"), "{error}");
        assert!(member.assignment().is_empty());

        returns.send(()).unwrap();
        until(&|| member.assignment().contains(&key));
        commit().unwrap();
    }
}
