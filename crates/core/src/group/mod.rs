//! A member of a consumer group: when to join, which partitions it owns, and which it must give up.
//!
//! [`Member`] is a machine. It talks to the group coordinator, and tells its driver which partitions to start and which
//! to give up. The driver adds them to, and removes them from, a [`Consumer`](crate::consumer::Consumer), which reads
//! them.
//!
//! Rules:
//!
//! - Partitions are given up in two steps: [`MemberEvent::Revoked`] asks for it, and [`Member::handle_released`] says
//!   that no more records are handed out. Once all commits for them have ended, the member joins again. So no other
//!   member starts earlier (guarantee R13).
//! - A member that gets no answer from its coordinator for `session.timeout.ms` must assume that others have its
//!   partitions. They are *lost*: without asking the application first, and without further commits (R14).
//! - A member whose application asks for no records for `max.poll.interval.ms` leaves the group. It joins again as soon
//!   as the application asks.
//! - The broker may hold `JoinGroup` and `SyncGroup` for as long as the slowest member needs. Requests that must not
//!   wait behind them use another connection.
//! - Commits carry the generation of the member. A commit that is refused only because of a rebalance is sent again in
//!   the next generation, if the member still owns the partition.
//! - A group has one of two protocols: the classic one, in which a member assigns the partitions (`classic`), or the
//!   consumer protocol, in which the coordinator does (`consumer`, KIP-848). The driver does not notice which.
//!
//! KIP-62 (heartbeats), KIP-345 (static members), KIP-394 (member ids), KIP-429 (cooperative rebalancing), KIP-792
//! (generations of owned partitions), KIP-800 (reasons).

pub mod assignor;
mod awake;
mod classic;
mod commits;
mod consumer;
mod leaving;
mod liveness;
mod membership;
mod release;
mod subscription;
mod topics;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::cluster::{Call, CoordinatorKind, Metadata, Owner, Target};
use crate::config::{ConsumerConfig, GroupConfig};
use crate::consumer::{Commits, Offsets, TopicPartition};
use crate::error::{Error, ErrorKind, Place, Result};
use crate::planted::{Bug, is_planted};
use crate::random::Random;
use crate::time::Instant;
use crate::wire::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, HeartbeatRequest, HeartbeatResponse,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupResponse, OffsetCommitRequest, OffsetCommitResponse,
    SyncGroupRequest, SyncGroupResponse,
};

use assignor::{PartitionCounts, RebalanceProtocol, Subscriber};

pub use consumer::needs_classic;
pub use subscription::{Subscription, decode_assignment, encode_assignment};
pub use topics::TopicPattern;

/// How often a lasting error is repeated to the application, and the failed request tried again.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// How partitions are assigned, as a member offers it to the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Strategy {
    /// One of Kafka's assignors.
    BuiltIn(assignor::Assignor),
    /// An assignor of the application, which [`MemberEvent::AssignmentWanted`] asks.
    Custom {
        /// The protocol name, on which the members of a group must agree.
        name: Arc<str>,
        /// Whether members keep their partitions during a rebalance.
        protocol: RebalanceProtocol,
        /// The user data that the member sends to the leader.
        user_data: bytes::Bytes,
    },
}

impl Strategy {
    fn name(&self) -> &str {
        match self {
            Self::BuiltIn(assignor) => assignor.name(),
            Self::Custom { name, .. } => name,
        }
    }

    fn protocol(&self) -> RebalanceProtocol {
        match self {
            Self::BuiltIn(assignor) => assignor.protocol(),
            Self::Custom { protocol, .. } => *protocol,
        }
    }
}

/// A request to the coordinator.
#[derive(Debug, Clone)]
pub enum MemberRequest {
    /// Joins the group; answered once the other members have joined, too.
    Join(JoinGroupRequest),
    /// Asks for the member's share; the leader also sends the shares of all.
    Sync(SyncGroupRequest),
    /// Keeps the session alive.
    Heartbeat(HeartbeatRequest),
    /// Says what is new about a member by the consumer protocol: that it joins, lives or leaves, and what it owns.
    ConsumerGroupHeartbeat(ConsumerGroupHeartbeatRequest),
    /// Leaves a classic group. The driver builds the message, which differs by version.
    Leave(Leave),
    /// Asks for the group's committed offsets of these partitions, and waits for transactions that are committing some.
    Committed(Vec<TopicPartition>),
    /// Commits offsets.
    OffsetCommit(OffsetCommitRequest),
}

/// What `LeaveGroup` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leave {
    /// The member id that the coordinator assigned.
    pub member_id: String,
    /// The reason, for the broker's log (KIP-800).
    pub reason: &'static str,
}

/// A response to a [`MemberRequest`].
#[derive(Debug)]
pub enum MemberResponse {
    /// To [`MemberRequest::Join`].
    Join(JoinGroupResponse),
    /// To [`MemberRequest::Sync`].
    Sync(SyncGroupResponse),
    /// To [`MemberRequest::Heartbeat`].
    Heartbeat(HeartbeatResponse),
    /// To [`MemberRequest::ConsumerGroupHeartbeat`].
    ConsumerGroupHeartbeat(ConsumerGroupHeartbeatResponse),
    /// To [`MemberRequest::Leave`].
    Leave(LeaveGroupResponse),
    /// To [`MemberRequest::Committed`]; partitions without a committed offset are left out.
    Committed(Offsets),
    /// To [`MemberRequest::OffsetCommit`].
    OffsetCommit(OffsetCommitResponse),
}

/// What the driver must do: in this order, one after the other.
#[derive(Debug, Clone)]
pub enum MemberEvent {
    /// Start these partitions, at the committed offset if there is one. Also sent with no partitions, when a rebalance
    /// has ended without new ones.
    Assigned {
        /// The partitions that are new to the member.
        partitions: Vec<TopicPartition>,
        /// Their committed offsets.
        committed: Offsets,
    },
    /// Stop handing out records of these partitions, let the application commit, then call [`Member::handle_released`].
    Revoked {
        /// The partitions to give up.
        partitions: Vec<TopicPartition>,
    },
    /// Stop handing out records of these partitions at once: other members may already have them.
    Lost {
        /// The lost partitions.
        partitions: Vec<TopicPartition>,
        /// Why.
        error: Error,
    },
    /// The member leads the group, and a custom strategy is to assign the partitions: see
    /// [`Member::handle_assignment`].
    AssignmentWanted {
        /// The protocol name of the strategy.
        strategy: Arc<str>,
        /// The members of the group.
        members: Vec<Subscriber>,
        /// The number of partitions of each topic.
        counts: PartitionCounts,
    },
    /// The metadata of these topics is needed; replaces the previous set.
    Topics(BTreeSet<Arc<str>>),
    /// The coordinator knows topics otherwise than the metadata: refresh it.
    MetadataWanted,
    /// A commit has ended.
    Committed {
        /// The number that [`Member::commit`] returned.
        number: u64,
        /// The outcome.
        outcome: Result<()>,
        /// If it failed: the partitions for which the coordinator may not have taken the offset. It has taken the
        /// others.
        left: BTreeSet<TopicPartition>,
    },
    /// An error keeps the member from its work. Repeated at intervals while it lasts, unless it has ended the member.
    /// An error that costs the member partitions is told by [`MemberEvent::Lost`] instead.
    Failed(Error),
}

/// What a member is doing.
#[derive(Debug)]
enum State {
    /// It is not in the group: nothing is subscribed, or the application asks for no records.
    Away,
    /// It is about to join.
    Unjoined,
    /// `JoinGroup` is in flight; the coordinator waits for the other members.
    Joining,
    /// It leads the group, and assigns the partitions.
    Assigning(Box<classic::Assigning>),
    /// `SyncGroup` is in flight.
    Syncing,
    /// It waits for the application to give up partitions.
    Releasing {
        gone: BTreeSet<TopicPartition>,
        then: release::Then,
        /// Whether the application has; commits for them may still be in flight.
        is_released: bool,
    },
    /// It asks for the committed offsets of its new partitions.
    Beginning {
        added: BTreeSet<TopicPartition>,
        /// Whether that request is in flight.
        asked: bool,
    },
    /// It has its share.
    Stable,
    /// `LeaveGroup` is to be sent or in flight.
    Leaving,
    /// It has left, or has failed for good.
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InFlight {
    Join,
    Sync,
    Heartbeat,
    Probe,
    Leave,
    Committed,
    Commit,
}

/// A request without an answer.
#[derive(Debug, Clone, Copy)]
struct Sent {
    what: InFlight,
    /// The [`Member::attempt`] that it belongs to.
    attempt: u64,
    at: Instant,
}

/// The machine behind one member of a group; see the module's documentation.
#[derive(Debug)]
pub struct Member {
    config: GroupConfig,
    client_rack: Option<String>,
    strategies: Vec<Strategy>,
    group_id: Arc<str>,
    number: u64,
    backoff: Backoff,
    random: Random,
    metadata: Arc<Metadata>,
    topics: BTreeSet<Arc<str>>,
    /// What the topics must match, if they are not given by name.
    pattern: Option<TopicPattern>,
    state: State,
    membership: membership::State,
    liveness: liveness::Liveness,
    /// `None` in a classic group.
    consumer_group: Option<Box<consumer::Reconciliation>>,
    /// The partitions that the application may read.
    owned: BTreeSet<TopicPartition>,
    /// Why the member must join again although it has a share.
    rejoin: Option<&'static str>,
    /// If this member is the leader: the topics of the whole group, as they were when they were assigned.
    shared_out: Option<topics::SharedOut>,
    /// If this member is the leader: whether it has asked for topics that only other members read.
    watches_others: bool,
    /// If this member is the leader, and partitions may be without an owner: when to join again if no other member
    /// does.
    follow_up_at: Option<Instant>,
    /// How many [`MemberEvent::AssignmentWanted`], and how many [`MemberEvent::Revoked`], are not answered yet. Only
    /// the answer to the last one counts.
    assignments_wanted: u32,
    releases_wanted: u32,
    /// The assignor that the group agreed on.
    chosen: Option<String>,
    /// The share that the member got last, and its generation; sticky assignors are told of it.
    last_share: Option<(Vec<TopicPartition>, i32)>,
    in_flight: BTreeMap<u64, Sent>,
    awake: awake::Awake,
    /// Responses to requests of an earlier attempt are ignored.
    attempt: u64,
    next_id: u64,
    retry_at: Instant,
    failures: u32,
    polled_at: Instant,
    /// Whether it left because the application asked for no records.
    is_idle: bool,
    told_at: Option<Instant>,
    commits: Commits,
    /// The partitions that the commit request without an answer names, also after its commits have been given up.
    committing: BTreeSet<TopicPartition>,
    events: VecDeque<MemberEvent>,
    departure: release::Departure,
    /// The request that leaves the group and is not answered yet.
    pending_leave: Option<leaving::PendingLeave>,
}

impl Member {
    /// A member of the group `group.id`, which uses coordinator connection `number`. It joins once it has topics.
    /// `backoff` is the time between attempts (`retry.backoff.ms`), `seed` the seed of its jitter.
    ///
    /// # Errors
    ///
    /// `Config` if a setting is out of range, or if there is no `group.id` or no strategy.
    pub fn new(
        config: GroupConfig,
        consumer: &ConsumerConfig,
        strategies: Vec<Strategy>,
        backoff: Backoff,
        number: u64,
        seed: u64,
    ) -> Result<Self> {
        config.validate()?;
        if strategies.is_empty() {
            return Err(Error::new(ErrorKind::Config, "partition.assignment.strategy names no assignor"));
        }
        let no_group = || Error::new(ErrorKind::Config, "a member of a group needs a group.id");
        let group_id: Arc<str> = consumer.group_id.as_deref().filter(|id| !id.is_empty()).ok_or_else(no_group)?.into();
        Ok(Self {
            client_rack: consumer.client_rack.clone(),
            commits: Commits::new(Arc::clone(&group_id), backoff),
            membership: membership::State::new(config.group_instance_id.clone()),
            liveness: liveness::Liveness::default(),
            consumer_group: consumer::Reconciliation::chosen(&config, &strategies)?,
            config,
            strategies,
            group_id,
            number,
            backoff,
            random: Random::new(seed),
            metadata: Arc::default(),
            topics: BTreeSet::new(),
            pattern: None,
            state: State::Away,
            owned: BTreeSet::new(),
            rejoin: None,
            shared_out: None,
            watches_others: false,
            follow_up_at: None,
            assignments_wanted: 0,
            releases_wanted: 0,
            chosen: None,
            last_share: None,
            in_flight: BTreeMap::new(),
            awake: awake::Awake::default(),
            attempt: 0,
            next_id: 0,
            retry_at: Instant::default(),
            failures: 0,
            polled_at: Instant::default(),
            is_idle: false,
            told_at: None,
            committing: BTreeSet::new(),
            events: VecDeque::new(),
            departure: release::Departure::None,
            pending_leave: None,
        })
    }

    /// The application asked for records, or is waiting for some.
    pub fn handle_poll(&mut self, now: Instant) {
        self.polled_at = now;
        self.is_idle = false;
        if matches!(self.state, State::Away) {
            self.state = self.outside();
        }
    }

    /// Whether it left the group because the application asked for no records. The next [`Member::handle_poll`] brings
    /// it back.
    pub fn is_idle(&self) -> bool {
        self.is_idle
    }

    /// Whether a commit is pending.
    pub fn is_committing(&self) -> bool {
        self.commits.is_busy() && !is_planted(Bug::JoinsTooEarly)
    }

    /// Gives up all partitions in order, then leaves the group; [`Member::has_ended`] says when that is done.
    pub fn close(&mut self) {
        if !self.is_closing() {
            self.depart(release::Departure::Closing);
        }
    }

    /// Whether the member has left, or has failed for good.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// The partitions that the application may read.
    pub fn assignment(&self) -> &BTreeSet<TopicPartition> {
        &self.owned
    }

    /// Whether the member has its share of the current generation, and no rebalance is going on.
    pub fn is_stable(&self) -> bool {
        let is_settled = self.consumer_group.as_ref().is_none_or(|group| group.is_settled());
        matches!(self.state, State::Stable) && self.rejoin.is_none() && is_settled
    }

    /// How much of the session is left if the coordinator does not answer again: that long no other member gets its
    /// partitions.
    pub fn session_left(&self, now: Instant) -> Duration {
        self.membership.left(now, self.session_timeout())
    }

    /// The member id; empty before the member first joins.
    pub fn member_id(&self) -> &str {
        self.membership.member_id()
    }

    /// The generation of the group that the member is in; its member epoch by the consumer protocol.
    pub fn generation_id(&self) -> Option<i32> {
        self.membership.generation_id()
    }

    /// The next request to send; call it until it returns `None`.
    pub fn poll_request(&mut self, now: Instant) -> Option<Call<MemberRequest>> {
        self.awake.note(now, self.longest_pause());
        self.handle_time(now);
        let commit = self.commits.poll_request(now, &self.metadata);
        self.tell_outcomes();
        self.go_on();
        self.join_if_due();
        if let Some((request, limit)) = commit {
            return Some(self.send_commit(request, limit));
        }
        self.poll_membership(now)
    }

    /// Handles expired sessions and limits.
    fn handle_time(&mut self, now: Instant) {
        if self.membership.has_expired(now, self.session_timeout()) && !is_planted(Bug::ReadsOn) {
            let what = "no heartbeat was answered for session.timeout.ms: others may have the partitions by now";
            let error = Error::new(ErrorKind::Fenced, what);
            if !self.is_in_flight(InFlight::Join) {
                self.lose(&error, "its session expired");
            } else if !self.owned.is_empty() {
                // If the `JoinGroup` in flight succeeds, the member is back.
                self.lose_partitions(&error);
            }
        }
        if matches!(self.state, State::Stable) && self.follow_up_at.take_if(|at| *at <= now).is_some() {
            self.rejoin.get_or_insert("partitions were given up, and their owner did not say so");
        }
        let is_idle = now.since(self.polled_at) > self.config.max_poll_interval;
        if is_idle && self.membership.is_member() && !self.is_closing() {
            let what = "the application asked for no records for max.poll.interval.ms, so the member left its group";
            let error = Error::new(ErrorKind::Fenced, what).at(self.place());
            let error = error.with_hint(
                "ask for records more often, or raise max.poll.interval.ms; the next request for records joins again",
            );
            self.lose_and_tell(&error, "");
            self.is_idle = true;
            self.leave("max.poll.interval.ms passed without a poll");
        }
    }

    /// Takes the response to a request, or why there is none. An unknown `id` is ignored: the request was answered
    /// before, or nobody wants its answer any more.
    pub fn handle_response(&mut self, now: Instant, id: u64, response: Result<MemberResponse>) {
        let Some(Sent { what: in_flight, attempt, at }) = self.in_flight.remove(&id) else { return };
        let is_late = attempt != self.attempt;
        let since = self.awake.answered_since(at);
        match (in_flight, response) {
            (InFlight::Commit, Ok(MemberResponse::OffsetCommit(response))) => self.handle_committed(now, Ok(response)),
            (InFlight::Commit, Err(error)) => self.handle_committed(now, Err(error)),
            (InFlight::Leave, response) => self.handle_left(now, response),
            (InFlight::Probe, response) if !is_late => self.handle_probe(now, response),
            _ if is_late => {}
            (InFlight::Join | InFlight::Heartbeat, response) if self.consumer_group.is_some() => {
                self.handle_consumer_heartbeat(now, in_flight, response);
            }
            (InFlight::Join, Ok(MemberResponse::Join(response))) => self.handle_joined(now, since, response),
            (InFlight::Sync, Ok(MemberResponse::Sync(response))) => self.handle_synced(now, since, &response),
            (InFlight::Heartbeat, Ok(MemberResponse::Heartbeat(response))) => {
                self.handle_heartbeat(now, Error::from_code(response.error_code));
            }
            (InFlight::Committed, Ok(MemberResponse::Committed(committed))) => self.handle_begun(committed),
            (InFlight::Heartbeat, Err(error)) => self.handle_silence(now, error),
            (InFlight::Committed, Err(_)) if is_planted(Bug::StartsOver) => self.handle_begun(Offsets::new()),
            (in_flight, Ok(_)) => {
                self.handle_failure(
                    now,
                    in_flight,
                    Error::new(ErrorKind::Malformed, "the answer is to another request"),
                );
            }
            (in_flight, Err(error)) => self.handle_failure(now, in_flight, error),
        }
    }

    /// The next event; call it until it returns `None`.
    pub fn poll_event(&mut self) -> Option<MemberEvent> {
        self.events.pop_front()
    }

    /// When to call [`Member::poll_request`] again if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let is_member = self.membership.is_member();
        let poll = Some(self.polled_at + self.config.max_poll_interval + Duration::from_millis(1));
        let poll = poll.filter(|_| is_member && !self.is_closing());
        let follow_up = self.follow_up_at.filter(|_| matches!(self.state, State::Stable));
        let retry = Some(self.retry_at).filter(|_| self.waits_for_retry());
        let is_beating = self.must_prove_itself() && !self.is_in_flight(InFlight::Heartbeat);
        let session = self.membership.expires_at(self.session_timeout()).filter(|_| self.must_prove_itself());
        let session = session.filter(|_| !is_planted(Bug::ReadsOn));
        let membership = self.membership.beats_at().filter(|_| is_beating).into_iter().chain(session).min();
        let outside = [self.leave_timeout(), self.probe_timeout(), self.metadata_timeout()];
        [poll, retry, membership, follow_up, self.commits.poll_timeout()].into_iter().chain(outside).flatten().min()
    }

    fn place(&self) -> Place {
        Place { group: Some(Arc::clone(&self.group_id)), ..Place::default() }
    }

    fn is_in_flight(&self, what: InFlight) -> bool {
        self.in_flight.values().any(|sent| sent.what == what && sent.attempt == self.attempt)
    }

    /// The strictest protocol among the strategies that the member offers.
    fn protocol(&self) -> RebalanceProtocol {
        self.strategies.iter().map(Strategy::protocol).min().unwrap_or(RebalanceProtocol::Eager)
    }

    fn send(&mut self, in_flight: InFlight, body: MemberRequest) -> Call<MemberRequest> {
        self.next_id += 1;
        let sent = Sent { what: in_flight, attempt: self.attempt, at: self.awake.now() };
        self.in_flight.insert(self.next_id, sent);
        let target = Target::Coordinator(Arc::clone(&self.group_id), CoordinatorKind::Group);
        Call { id: self.next_id, owner: Owner::Coordinator(self.number), ..Call::new(target, body) }
    }

    /// Reports a lasting error to the application, at intervals.
    fn report(&mut self, now: Instant, error: Error) {
        if self.told_at.is_none_or(|told| now.since(told) >= TOLD_EVERY) {
            self.told_at = Some(now);
            self.events.push_back(MemberEvent::Failed(error));
        }
    }
}
