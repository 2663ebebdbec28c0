//! A consumer whose partitions are assigned by its group.
//!
//! [`GroupConsumer`] is a [`Consumer`] plus a group member ([`kavka_core::group`]). The member has its own role task. A
//! second task, the *steward*, carries out the member's decisions one at a time and in order: it adds and removes
//! partitions, commits offsets, and calls the application's [`RebalanceListener`] on a thread that may block.

mod acknowledgements;
mod machine;
mod partitions;
mod steward;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use kavka_core::backoff::Backoff;
use kavka_core::cluster::Owner;
use kavka_core::config::{ConsumerConfig, GroupConfig};
use kavka_core::consumer::{AutomaticCommits, CommittedOffset, Done, Offsets, StartPosition, TopicPartition};
use kavka_core::error::{Error, ErrorKind, Phase, Place, Result};
use kavka_core::group::assignor::{Assignment, Assignor, PartitionCounts, RebalanceProtocol, Subscriber};
use kavka_core::group::{Member, MemberEvent, Strategy, TopicPattern};
use kavka_core::time::Instant;
use tokio::sync::{Notify, mpsc, oneshot};

pub use acknowledgements::{Acknowledgement, Acknowledgements};

use super::commit::Commit;
use super::{Batch, Consumer, ConsumerRecord, Records, Reset, lock};
use crate::Client;
use crate::driver::{AllTopicsHold, Driver, TopicHold};
use crate::role::{self, Wake};

/// Learns when partitions are assigned and taken away. By default, every method does nothing.
///
/// The calls come one at a time, on a thread that may block. No record of a new partition is handed out before
/// `on_assigned` has returned, and none of a revoked or lost partition once `on_revoked` or `on_lost` was called.
pub trait RebalanceListener: Send + Sync + 'static {
    /// A rebalance has ended. `partitions` are the new ones, which may be sought.
    fn on_assigned(&self, consumer: &GroupConsumer, partitions: &[TopicPartition]) {
        let _ = (consumer, partitions);
    }

    /// Other members get these partitions after this has returned: the last chance to commit their offsets.
    fn on_revoked(&self, consumer: &GroupConsumer, partitions: &[TopicPartition]) {
        let _ = (consumer, partitions);
    }

    /// Other members may already have these partitions; their offsets can no longer be committed. Positions are
    /// still those at which reading stopped. Those that were just being revoked are left out, even if that leaves none.
    fn on_lost(&self, consumer: &GroupConsumer, partitions: &[TopicPartition]) {
        let _ = (consumer, partitions);
    }
}

/// An assignor of the application. Every member of the group must offer it.
pub trait CustomAssignor: Send + Sync + 'static {
    /// The protocol name, on which the members of the group must agree.
    fn name(&self) -> &str;

    /// Whether members keep their partitions during a rebalance.
    fn protocol(&self) -> RebalanceProtocol {
        RebalanceProtocol::Eager
    }

    /// Data that this member sends to the group's leader.
    fn user_data(&self) -> Bytes {
        Bytes::new()
    }

    /// Assigns partitions to members. Called on the group's leader, on a thread that may block.
    ///
    /// # Errors
    ///
    /// Any error; the member reports it and tries again later.
    fn assign(&self, counts: &PartitionCounts, members: &[Subscriber]) -> Result<Assignment>;
}

/// Options of a group consumer besides its settings.
#[derive(Clone, Default)]
pub struct GroupOptions {
    listener: Option<Arc<dyn RebalanceListener>>,
    assignor: Option<Arc<dyn CustomAssignor>>,
    acknowledgements: Option<Acknowledgements>,
}

impl std::fmt::Debug for GroupOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupOptions").finish_non_exhaustive()
    }
}

impl GroupOptions {
    /// Sets the listener for assigned and revoked partitions.
    #[must_use]
    pub fn listener(mut self, listener: impl RebalanceListener) -> Self {
        self.listener = Some(Arc::new(listener));
        self
    }

    /// Offers `assignor` to the group, in place of those in `partition.assignment.strategy`.
    #[must_use]
    pub fn assignor(mut self, assignor: impl CustomAssignor) -> Self {
        self.assignor = Some(Arc::new(assignor));
        self
    }

    /// Commits automatically what is acknowledged here, in place of what was read. Each member needs its own.
    #[must_use]
    pub fn acknowledgements(mut self, acknowledgements: &Acknowledgements) -> Self {
        self.acknowledgements = Some(acknowledgements.clone());
        self
    }
}

struct State {
    machine: Member,
    /// Who waits for the outcome of each commit.
    commits: BTreeMap<u64, oneshot::Sender<Result<()>>>,
    topics: BTreeMap<Arc<str>, TopicHold>,
    /// Set while the member subscribes to a pattern, because any topic may match it.
    all_topics: Option<AllTopicsHold>,
    /// The consumer's activity counter when last checked, and when that was.
    activity: (u64, Instant),
    automatic: AutomaticCommits,
    /// Partitions for which the group has committed nothing, and whose first offset is not known yet.
    unplaced: BTreeSet<TopicPartition>,
    /// The first offset of such partitions, once known: it is committed until something is acknowledged.
    starts: Offsets,
    /// What the group had committed for the newest partitions when they were assigned.
    assigned_at: Offsets,
    /// Lost partitions that the steward has not removed from the consumer yet, with the number of times they were lost
    /// since. The member may own them again, but the consumer's positions are still those from before the loss.
    being_lost: BTreeMap<TopicPartition, usize>,
}

/// Shared by the member's role task, the steward and the handles.
struct SharedMember {
    driver: Driver,
    group_id: Arc<str>,
    config: GroupConfig,
    start: Option<StartPosition>,
    options: GroupOptions,
    consumer: Consumer,
    state: Mutex<State>,
    wake: Arc<Wake>,
    /// Brings the member's decisions to the steward task; `None` once the member has ended.
    decisions: Mutex<Option<mpsc::UnboundedSender<MemberEvent>>>,
    /// Notified when the member or a commit has ended.
    changed: Notify,
}

/// Reads the partitions that its group assigns to it. Threads and tasks may share it by reference.
///
/// It commits automatically (`enable.auto.commit`): every `auto.commit.interval.ms`, and once more before partitions
/// are given up. A batch that is still being processed is never included. Close it to leave the group at once; when
/// dropped, it leaves in the background.
///
/// If several threads or tasks ask for records with [`GroupConsumer::next_records`], automatic commits need
/// [`Acknowledgements`]: each call says that what earlier calls returned is done, whoever made them, and so does
/// [`GroupConsumer::close`].
pub struct GroupConsumer {
    shared: Arc<SharedMember>,
    /// `None` in a handle for a listener, which must not keep the member in its group.
    _guard: Option<LeaveOnDrop>,
}

/// Makes the member leave its group when the application drops its consumer.
struct LeaveOnDrop(Arc<SharedMember>);

impl Drop for LeaveOnDrop {
    fn drop(&mut self) {
        self.0.state().machine.close();
        self.0.wake.wake();
    }
}

impl std::fmt::Debug for GroupConsumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupConsumer")
            .field("group_id", &self.shared.group_id)
            .field("assignment", &self.assignment())
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Makes a member of the group `group.id` of `consumer`, with connections of its own. It joins the group once it
    /// has subscribed.
    ///
    /// # Errors
    ///
    /// `Config` without a `group.id`, if a setting is out of range, or if an assignor's name is unknown.
    pub fn group_consumer(
        &self,
        consumer: ConsumerConfig,
        group: GroupConfig,
        options: GroupOptions,
    ) -> Result<GroupConsumer> {
        let strategies = strategies(&group, &options)?;
        let config = self.config();
        let backoff = Backoff { initial: config.retry_backoff, max: config.retry_backoff_max };
        let number = self.driver.next_owner();
        let machine = Member::new(group.clone(), &consumer, strategies, backoff, number, self.driver.next_seed())?;
        let group_id = consumer.group_id.as_deref().unwrap_or_default().into();
        let start = steward::start_of(consumer.auto_offset_reset);
        let (decisions, decided) = mpsc::unbounded_channel();
        let state = State {
            machine,
            commits: BTreeMap::new(),
            topics: BTreeMap::new(),
            all_topics: None,
            activity: (0, Instant::default()),
            automatic: AutomaticCommits::new(group.auto_commit_interval, config.request_timeout),
            unplaced: BTreeSet::new(),
            starts: Offsets::new(),
            assigned_at: Offsets::new(),
            being_lost: BTreeMap::new(),
        };
        let shared = Arc::new(SharedMember {
            driver: self.driver.clone(),
            group_id,
            config: group,
            start,
            options,
            consumer: self.consumer(consumer)?,
            state: Mutex::new(state),
            wake: Arc::default(),
            decisions: Mutex::new(Some(decisions)),
            changed: Notify::new(),
        });
        shared.consumer.serve_member(&shared.wake);
        let (running, driver) = (role::start(Arc::clone(&shared)), self.driver.clone());
        self.driver.spawn(async move {
            running.await;
            driver.close_connections(Owner::Coordinator(number));
        });
        self.driver.spawn(steward::start(Arc::clone(&shared), decided));
        let guard = Some(LeaveOnDrop(Arc::clone(&shared)));
        Ok(GroupConsumer { shared, _guard: guard })
    }
}

fn strategies(group: &GroupConfig, options: &GroupOptions) -> Result<Vec<Strategy>> {
    if let Some(custom) = &options.assignor {
        let (name, protocol, user_data) = (custom.name().into(), custom.protocol(), custom.user_data());
        return Ok(vec![Strategy::Custom { name, protocol, user_data }]);
    }
    let names = group.partition_assignment_strategy.split(',').map(str::trim).filter(|name| !name.is_empty());
    let strategy = |name: &str| {
        let known = || Assignor::ALL.map(Assignor::name).join(", ");
        let unknown =
            || Error::new(ErrorKind::Config, format!("partition.assignment.strategy knows {}, not {name:?}", known()));
        Assignor::by_name(name).map(Strategy::BuiltIn).ok_or_else(unknown)
    };
    names.map(strategy).collect()
}

impl SharedMember {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn commit(&self, mut offsets: Offsets, limit: Duration) -> Result<Commit> {
        self.consumer.identify(&mut offsets);
        let (sender, outcome) = oneshot::channel();
        let mut state = self.state();
        if let Some(key) = offsets.keys().find(|key| state.being_lost.contains_key(*key)) {
            return Err(self.just_lost(key));
        }
        let number = state.machine.commit(self.driver.now(), offsets, limit)?;
        state.commits.insert(number, sender);
        drop(state);
        self.wake.wake();
        Ok(Commit::new(outcome))
    }

    fn just_lost(&self, key: &TopicPartition) -> Error {
        let what = "the partition was lost, so what was read of it before is no longer this member's to commit";
        let place = Place { group: Some(Arc::clone(&self.group_id)), ..Place::default() };
        let error = Error::new(ErrorKind::Fenced, what).at(place).at_partition(&key.topic, key.partition);
        error.with_hint("commit only what is read after the partition is assigned again")
    }

    /// What to commit automatically for a partition.
    fn done(&self, starts: &Offsets, key: &TopicPartition) -> Done {
        let done = self.consumer.done(key);
        let Some(acknowledgements) = &self.options.acknowledgements else { return done };
        let epoch = match done {
            Done::Until(done) | Done::ForNow(Some(done)) => done.leader_epoch,
            Done::Nothing | Done::ForNow(None) => None,
        };
        let acknowledged = acknowledgements.offset(key);
        let acknowledged = acknowledged.map(|offset| CommittedOffset { leader_epoch: epoch, ..offset });
        acknowledged.or_else(|| starts.get(key).cloned()).map_or(Done::Nothing, Done::Until)
    }

    /// What to commit for these partitions before they are given up.
    fn done_with(&self, partitions: &[TopicPartition]) -> Offsets {
        let state = self.state();
        let done = |key: &TopicPartition| match self.done(&state.starts, key) {
            Done::Until(done) | Done::ForNow(Some(done)) => Some((key.clone(), done)),
            Done::Nothing | Done::ForNow(None) => None,
        };
        partitions.iter().filter_map(done).collect()
    }

    /// The partitions for which [`done`](Self::done) may have changed since the last call.
    fn take_changed(&self) -> BTreeSet<TopicPartition> {
        let mut changed = self.consumer.take_changed();
        changed.extend(self.options.acknowledgements.iter().flat_map(Acknowledgements::take_changed));
        changed
    }

    /// Adds partitions that the member now owns. Returns the errors of those that cannot be read.
    ///
    /// If the application acknowledges records, the partitions must be withheld at first: a record that is handed out
    /// before [`Acknowledgements`] knows its partition would not be counted.
    fn add(&self, partitions: &[(TopicPartition, Option<StartPosition>)], is_withheld: bool) -> Vec<Error> {
        let added = self.consumer.add_for_group(partitions, is_withheld);
        let mut errors = Vec::new();
        for ((key, _), added) in partitions.iter().zip(added) {
            match (added, &self.options.acknowledgements) {
                (Ok(id), Some(acknowledgements)) => acknowledgements.begin(key, id),
                (Ok(_), None) => {}
                (Err(error), _) => errors.push(error),
            }
        }
        errors
    }

    /// Partitions are no longer the member's.
    fn remove(&self, partitions: &[TopicPartition]) {
        self.consumer.remove_for_group(partitions);
        if let Some(acknowledgements) = &self.options.acknowledgements {
            for key in partitions {
                acknowledgements.forget(key);
            }
        }
    }

    /// A handle to pass to the application's callbacks.
    fn handle(self: &Arc<Self>) -> GroupConsumer {
        GroupConsumer { shared: Arc::clone(self), _guard: None }
    }
}

impl GroupConsumer {
    /// Subscribes to these topics; replaces the previous subscription. With no topics the member leaves the group. Does
    /// not wait: partitions come when the group has rebalanced.
    ///
    /// # Errors
    ///
    /// `Broker` if no broker would accept a topic's name.
    pub fn subscribe<T: AsRef<str>>(&self, topics: &[T]) -> Result<()> {
        let mut names = BTreeSet::new();
        for topic in topics {
            crate::check_topic_name(topic.as_ref())?;
            names.insert(Arc::from(topic.as_ref()));
        }
        let mut state = self.shared.state();
        let all_topics = state.all_topics.take();
        state.machine.subscribe(self.shared.driver.now(), names);
        drop(state);
        drop(all_topics);
        self.shared.wake.wake();
        Ok(())
    }

    /// Subscribes to the topics whose whole names match this regular expression; replaces the previous subscription.
    /// Internal topics such as `__consumer_offsets` never match. Does not wait.
    ///
    /// With `group.protocol=consumer` the brokers match it (Kafka 4.0), and notice topics that are created later within
    /// about ten seconds; brokers read it as RE2/J, which is nearly the syntax of the crate `regex`, but has no `(?x)`,
    /// no `\b{start}` and no classes in classes. In all other cases, and if an internal topic would match, the client
    /// matches: it notices new topics within `metadata.max.age.ms` (5 minutes), or after [`Client::refresh_metadata`].
    ///
    /// # Errors
    ///
    /// `Misuse` if it is not a regular expression of the crate `regex`.
    pub fn subscribe_pattern(&self, pattern: &str) -> Result<()> {
        let pattern = TopicPattern::new(pattern)?;
        let all_topics = self.shared.driver.hold_all_topics();
        let mut state = self.shared.state();
        let before = state.all_topics.replace(all_topics);
        state.machine.subscribe_pattern(self.shared.driver.now(), pattern);
        drop(state);
        drop(before);
        self.shared.wake.wake();
        Ok(())
    }

    /// The assigned partitions, sorted. A partition that was lost and is already assigned again is left out until
    /// [`RebalanceListener::on_lost`] has returned.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        let state = self.shared.state();
        state.machine.assignment().iter().filter(|key| !state.being_lost.contains_key(*key)).cloned().collect()
    }

    /// For a [`RebalanceListener::on_assigned`]: the offsets that the group had committed for the new partitions, where
    /// they start. A partition for which nothing was committed is left out.
    pub fn assigned_at(&self) -> Offsets {
        self.shared.state().assigned_at.clone()
    }

    /// Whether the member has its share, and no rebalance is going on.
    pub fn is_stable(&self) -> bool {
        self.shared.state().machine.is_stable()
    }

    /// How long no other member gets these partitions, even if the coordinator does not answer again (guarantee R14).
    ///
    /// From that time on nothing is handed out, and the engine takes the partitions away. If the whole program is
    /// frozen behind a call that handed out records, they may be another member's by the time the program goes on. An
    /// application that must not process a single one of those checks here first.
    pub fn session_left(&self) -> Duration {
        self.shared.state().machine.session_left(self.shared.driver.now())
    }

    /// The member id; empty before the member first joins.
    pub fn member_id(&self) -> String {
        self.shared.state().machine.member_id().to_owned()
    }

    /// The generation of the group that the member is in; its member epoch by the consumer protocol.
    pub fn generation_id(&self) -> Option<i32> {
        self.shared.state().machine.generation_id()
    }

    /// Starts to commit offsets, and retries for up to `limit`. Does not wait. The result of
    /// [`GroupConsumer::positions`] can be passed in as it is.
    ///
    /// # Errors
    ///
    /// `Misuse` if an offset is negative, `Fenced` if a partition is not in [`GroupConsumer::assignment`]. The
    /// [`Commit`] ends with `Fenced` if the coordinator has removed the member from the group.
    pub fn commit(&self, offsets: Offsets, limit: Duration) -> Result<Commit> {
        self.shared.commit(offsets, limit)
    }

    /// Gives up all partitions in order, commits what was read (`enable.auto.commit`) and leaves the group, all within
    /// `limit`. From the call on, no records are handed out.
    ///
    /// # Errors
    ///
    /// `TimedOut` at the limit. The coordinator then removes the member after `session.timeout.ms`.
    pub fn close(&self, limit: Duration) -> impl Future<Output = Result<()>> + Send + 'static + use<> {
        let shared = Arc::clone(&self.shared);
        shared.consumer.end_reading();
        shared.state().machine.close();
        shared.wake.wake();
        async move {
            let driver = shared.driver.clone();
            let ended = async {
                loop {
                    let changed = shared.changed.notified();
                    tokio::pin!(changed);
                    changed.as_mut().enable();
                    if lock(&shared.decisions).is_none() {
                        return;
                    }
                    changed.await;
                }
            };
            let in_time = driver.within(limit, ended).await;
            shared.consumer.close();
            in_time.ok_or_else(|| Error::new(ErrorKind::TimedOut(Phase::Close), "the member could not leave in time"))
        }
    }
}

/// Methods that [`Consumer`] has, too.
impl GroupConsumer {
    /// As [`Consumer::try_batch`].
    ///
    /// # Errors
    ///
    /// An error of a partition (once) or of the group (at intervals); reading goes on.
    pub fn try_batch(&self) -> Result<Option<Batch>> {
        self.shared.consumer.try_batch()
    }

    /// As [`Consumer::next_batch`].
    ///
    /// # Errors
    ///
    /// As [`GroupConsumer::try_batch`].
    pub fn next_batch(&self) -> impl Future<Output = Result<Batch>> + Send + 'static + use<> {
        self.shared.consumer.next_batch()
    }

    /// As [`Consumer::try_records`].
    ///
    /// # Errors
    ///
    /// As [`GroupConsumer::try_batch`].
    pub fn try_records(&self, max: usize) -> Result<Vec<ConsumerRecord>> {
        self.shared.consumer.try_records(max)
    }

    /// As [`Consumer::next_records`].
    ///
    /// # Errors
    ///
    /// As [`GroupConsumer::try_batch`].
    pub fn next_records(
        &self,
        max: usize,
    ) -> impl Future<Output = Result<Vec<ConsumerRecord>>> + Send + 'static + use<> {
        self.shared.consumer.next_records(max)
    }

    /// As [`Consumer::records`].
    pub fn records(&self) -> Records {
        self.shared.consumer.records()
    }

    /// As [`Consumer::seek`].
    ///
    /// # Errors
    ///
    /// `Misuse` if the partition is not assigned to this member, or if the offset or timestamp is negative.
    pub fn seek(&self, topic_partition: &TopicPartition, start: StartPosition) -> Result<()> {
        self.shared.consumer.seek(topic_partition, start)
    }

    /// As [`Consumer::pause`].
    ///
    /// # Errors
    ///
    /// `Misuse` if the partition is not assigned to this member.
    pub fn pause(&self, topic_partition: &TopicPartition) -> Result<()> {
        self.shared.consumer.pause(topic_partition)
    }

    /// As [`Consumer::resume`].
    ///
    /// # Errors
    ///
    /// `Misuse` if the partition is not assigned to this member.
    pub fn resume(&self, topic_partition: &TopicPartition) -> Result<()> {
        self.shared.consumer.resume(topic_partition)
    }

    /// As [`Consumer::position`].
    pub fn position(&self, topic_partition: &TopicPartition) -> Option<i64> {
        self.shared.consumer.position(topic_partition)
    }

    /// As [`Consumer::positions`]. Contains lost partitions, too, until [`RebalanceListener::on_lost`] has returned.
    pub fn positions(&self) -> Offsets {
        self.shared.consumer.positions()
    }

    /// As [`Consumer::take_resets`].
    pub fn take_resets(&self) -> Vec<Reset> {
        self.shared.consumer.take_resets()
    }

    /// As [`Consumer::lag`].
    pub fn lag(&self, topic_partition: &TopicPartition) -> Option<u64> {
        self.shared.consumer.lag(topic_partition)
    }
}
