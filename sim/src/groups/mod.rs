//! The members of one group join, leave, crash, freeze and stall, while brokers and connections fail.
//!
//! Every member is a client of its own: the real group member and consumer machines, plus what the steward does in a
//! real client ([`member`]). The [`judge`] sees what all of them do. The seed decides by which protocol members join:
//! the classic one, the consumer protocol (KIP-848), or each process by one of the two, so that the group migrates back
//! and forth.

mod convert;
mod judge;
mod member;
mod plan;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use kavka_broker::{Cluster, ClusterConfig};
use kavka_core::config::GroupProtocol;
use kavka_core::consumer::TopicPartition;
use kavka_core::group::Strategy;
use kavka_core::group::assignor::Assignor;
use kavka_core::random::Random;
use kavka_core::time::Instant;

use crate::adapter::MachineEvent;
use crate::client::{Client, Surroundings, admits};
use crate::ledger::Ledger;
use crate::network::{Arrival, LinkId, Network};
use crate::plan::BROKERS;
use crate::trace::Trace;
use crate::{Outcome, Print};
use judge::Judge;
use member::{Action, Application, GROUP, MemberMachine};
use plan::{HEAL_AT, Plan, Protocols, Trouble};

pub(crate) const SESSION: Duration = Duration::from_secs(6);
pub(crate) const MAX_POLL_INTERVAL: Duration = Duration::from_secs(8);
/// The greatest age of metadata. It decides how soon the leader sees that a topic has got more partitions.
const METADATA_AGE: Duration = Duration::from_secs(3);
/// How long after the last fault, in milliseconds, every partition must be read by a stable member.
const END: u64 = 60_000;
/// How long applications take to give up partitions, in milliseconds; the last one is longer than
/// `max.poll.interval.ms`, so the coordinator removes that member.
const REVOKE_TIMES: [u64; 5] = [0, 0, 50, 3_000, 9_000];
/// A machine that takes more steps at one moment is due again at once every time.
const MOST_STEPS: u32 = 5_000;
/// How often each partition gets another batch before the last fault, in milliseconds.
const WRITES_EVERY: u64 = 300;

#[derive(Debug)]
struct Participant {
    client: Client<MemberMachine>,
    /// If members are static, their `group.instance.id` contains this number. A process that replaces a member has the
    /// same number.
    place: usize,
    /// What arrived while the member stood still.
    arrived: Vec<(LinkId, Arrival)>,
    frozen_until: u64,
    reads_at: u64,
    /// What it subscribes to, unless it has unsubscribed for a while.
    topics: &'static [&'static str],
    is_gone: bool,
}

#[derive(Debug)]
struct World {
    now: Instant,
    random: Random,
    plan: Plan,
    network: Network,
    members: Vec<Participant>,
    /// The topics that were deleted and are not created again yet.
    missing: BTreeSet<&'static str>,
    /// How many topics were created.
    created: u32,
    /// The batches of each partition that are not written yet.
    unwritten: BTreeMap<TopicPartition, VecDeque<Bytes>>,
    writes_at: u64,
    /// The member that crashes when it next begins to give up partitions, and how much later it starts again.
    crash_at_revoke: Option<(usize, u64)>,
    judge: Judge,
    trace: Trace,
    seed: u64,
}

/// Runs one seed of the group world to its end.
///
/// # Panics
///
/// If a promise is broken.
pub fn run_group(seed: u64, print: Print) -> Outcome {
    let mut world = World::new(seed, print);
    world.run();
    Outcome {
        trace_hash: world.trace.hash(),
        events: world.trace.sentences(),
        delivered: world.judge.delivered(),
        failed: 0,
        faults: world.trace.faults(),
        took: world.now.since(Instant(0)),
    }
}

impl World {
    fn new(seed: u64, print: Print) -> Self {
        let mut random = Random::new(seed);
        let plan = Plan::new(&mut random, Protocols::of(seed));
        let config = ClusterConfig {
            brokers: BROKERS as u16,
            auto_create_topics: false,
            sasl: plan.session.map(admits),
            seed,
            ..ClusterConfig::default()
        };
        let judge = Judge::new(plan.protocols);
        let network = Random::new(random.next_u64());
        let mut cluster = Cluster::new(config);
        let session_ms = SESSION.as_millis().to_string();
        cluster.set_group_config(GROUP, "consumer.session.timeout.ms", &session_ms).expect("a setting that exists");
        let mut world = Self {
            now: Instant(0),
            network: Network::new(cluster, network, plan.odds, plan.latency),
            plan,
            members: Vec::new(),
            missing: BTreeSet::new(),
            created: 0,
            unwritten: BTreeMap::new(),
            writes_at: 0,
            crash_at_revoke: None,
            judge,
            trace: Trace::new(print),
            random,
            seed,
        };
        for topic in world.plan.topics {
            assert!(world.create(topic), "a new topic can be created while all brokers are up");
        }
        world
    }

    /// Creates a topic. Returns false if too few brokers are up.
    fn create(&mut self, topic: &'static str) -> bool {
        let partitions = 1 + self.random.below(6) as i32;
        let is_created = self.network.cluster.create_topic(topic, partitions, BROKERS as i16).is_ok();
        if is_created {
            self.missing.remove(topic);
            self.created += 1;
            (0..partitions).for_each(|partition| self.fill(topic, partition));
        }
        is_created
    }

    fn delete(&mut self, topic: &'static str) {
        self.network.cluster.delete_topic(self.now, topic);
        self.missing.insert(topic);
        self.unwritten.retain(|key, _| *key.topic != *topic);
        self.judge.deleted(topic);
    }

    fn fill(&mut self, topic: &str, partition: i32) {
        let key = TopicPartition::new(topic, partition);
        let ledger = Ledger::written(&mut self.random, &format!("{key} of topic {}, offset", self.created));
        self.unwritten.insert(key.clone(), ledger.batches.into());
        self.judge.written(key, ledger.visible);
    }

    /// Writes the next batch of each partition; all of them after the last fault.
    fn write(&mut self) {
        let count = if self.now.0 < HEAL_AT { 1 } else { usize::MAX };
        for (key, batches) in &mut self.unwritten {
            for batch in batches.drain(..count.min(batches.len())) {
                let written = self.network.cluster.replicate(self.now, &key.topic, key.partition, batch);
                written.expect("a whole batch");
            }
        }
        self.writes_at = self.now.0 + WRITES_EVERY;
        self.network.settle(self.now, &mut self.trace);
    }

    fn run(&mut self) {
        self.run_to_rest();
        let shares = self.shares();
        assert!(self.is_even(), "every assignor shares one topic out evenly, yet: {shares:?}");
    }

    /// How many partitions each place has.
    fn shares(&self) -> Vec<usize> {
        let mut shares: BTreeMap<usize, usize> = BTreeMap::new();
        for (number, member) in self.members.iter().enumerate().filter(|(_, member)| !member.is_gone) {
            // A static member whose name another process took may not know it yet.
            let place = if self.plan.is_static { member.place } else { number };
            *shares.entry(place).or_default() += member.client.machines.assignment().len();
        }
        shares.into_values().collect()
    }

    /// Whether the partitions are shared out evenly, as every assignor does with a single topic.
    fn is_even(&self) -> bool {
        let shares = self.shares();
        let is_even = shares.iter().max().zip(shares.iter().min()).is_some_and(|(most, least)| most - least <= 1);
        is_even || self.plan.topics.len() > 1
    }

    fn run_to_rest(&mut self) {
        let mut steps = 0;
        while !self.is_over() {
            let members = self.members.iter().filter(|member| !member.is_gone).flat_map(|member| {
                let due = member.client.poll_timeout(self.now).into_iter().chain([Instant(member.reads_at)]);
                due.map(|due| due.max(Instant(member.frozen_until)))
            });
            let trouble = self.plan.troubles.keys().next().map(|(at, _)| Instant(*at));
            let write =
                Some(Instant(self.writes_at)).filter(|_| self.unwritten.values().any(|batches| !batches.is_empty()));
            let next = members.chain(trouble).chain(write).chain(self.network.poll_timeout()).min();
            let next = next.expect("something is always due").max(self.now);
            steps = if next == self.now { steps + 1 } else { 0 };
            assert!(steps < MOST_STEPS, "at {} ms something is due again and again: {self:?}", self.now.0);
            self.now = next;
            assert!(self.now.0 < HEAL_AT + END, "{}", self.standing());
            self.step();
        }
    }

    fn step(&mut self) {
        for (link, arrival) in self.network.handle_timeout(self.now, &mut self.trace) {
            // What arrives for a process that has ended is dropped.
            if let Some(member) = self.members.iter_mut().find(|member| member.client.owns(link)) {
                member.arrived.push((link, arrival));
            }
        }
        while let Some(entry) = self.plan.troubles.first_entry().filter(|entry| entry.key().0 <= self.now.0) {
            let trouble = entry.remove();
            self.make(trouble);
        }
        if self.writes_at <= self.now.0 {
            self.write();
        }
        for number in 0..self.members.len() {
            self.drive(number);
            self.read(number);
        }
        let all = self.plan.topics;
        let reads_all = |member: &Participant| !member.is_gone && member.topics == all;
        if self.now.0 >= HEAL_AT && !self.members.iter().any(reads_all) {
            self.start(self.members.len());
        }
        self.judge.look_at_commits(&self.network.cluster);
    }

    fn drive(&mut self, number: usize) {
        let member = &mut self.members[number];
        if member.is_gone || member.frozen_until > self.now.0 {
            return;
        }
        member.client.machines.hangs_at_revoke = self.crash_at_revoke.is_some_and(|(crashes, _)| crashes == number);
        let mut around = Surroundings { now: self.now, network: &mut self.network, trace: &mut self.trace };
        for (link, arrival) in std::mem::take(&mut member.arrived) {
            member.client.handle_arrival(&mut around, link, arrival);
        }
        member.client.drive(&mut around);
        while let Some(event) = member.client.events.pop_front() {
            around.trace.say(around.now, format_args!("the application of member {number} is told: {event:?}"));
            if let MachineEvent::PartitionError(key, _) = event {
                self.judge.told(number, &key);
                member.client.machines.begin_anew(&key);
            }
        }
        let mut begins_to_revoke = false;
        while let Some(action) = member.client.machines.actions.pop_front() {
            around.trace.say(around.now, format_args!("member {number}: {action:?}"));
            self.judge.look_at(around.now, number, &action);
            begins_to_revoke |= matches!(&action, Action::RevokeBegan(keys) if !keys.is_empty());
        }
        self.judge.heard(number, member.client.machines.heard_at());
        if member.client.machines.has_ended() {
            around.trace.say(around.now, format_args!("member {number} has ended"));
            member.client.kill(&mut around);
            member.is_gone = true;
            self.judge.gone(number);
        }
        if begins_to_revoke && let Some((_, millis)) = self.crash_at_revoke.take_if(|(crashes, _)| *crashes == number) {
            self.trace.say(self.now, format_args!("member {number} crashes while it gives up partitions"));
            self.restart(number, millis);
        }
    }

    /// The application of a member asks for a few records.
    fn read(&mut self, number: usize) {
        let member = &mut self.members[number];
        if member.is_gone || member.frozen_until > self.now.0 || member.reads_at > self.now.0 {
            return;
        }
        let is_calm = self.now.0 > HEAL_AT;
        let limit = if is_calm { usize::MAX } else { 1 + self.random.below(4) };
        if let Some(done) = member.client.machines.put_down() {
            self.judge.processed(&done);
        }
        if let Some((key, given)) = member.client.machines.take(self.now, limit) {
            let offsets: Vec<i64> = given.iter().map(|given| given.offset).collect();
            self.trace.say(self.now, format_args!("member {number} hands out {offsets:?} of {key}"));
            self.judge.given(self.now, number, &key, given);
        }
        if self.random.below(16) == 0 {
            member.client.machines.commit_now(self.now);
        }
        member.reads_at = self.now.0 + 1 + self.random.below(if is_calm { 40 } else { 200 }) as u64;
    }

    fn make(&mut self, trouble: Trouble) {
        self.trace.say(self.now, format_args!("trouble: {trouble}"));
        let now = self.now;
        if let Some(kind) = trouble.kind() {
            self.trace.count(kind);
        }
        match trouble {
            Trouble::Broker(trouble) => self.network.trouble(now, &mut self.trace, trouble),
            Trouble::Grow => {
                let topic = self.plan.topics[self.random.below(self.plan.topics.len())];
                let count = self.judge.partitions().filter(|key| *key.topic == *topic).count() as i32;
                if self.network.cluster.add_partition(topic).is_ok() {
                    self.fill(topic, count);
                }
            }
            Trouble::Renew(topic, millis) => {
                if !self.missing.contains(topic) {
                    self.delete(topic);
                    self.plan.add((now.0 + millis).min(HEAL_AT), Trouble::Create(topic));
                }
            }
            Trouble::Create(topic) => {
                if !self.create(topic) {
                    self.plan.add(now.0 + 500, Trouble::Create(topic));
                }
            }
            Trouble::Start => self.start(self.members.len()),
            Trouble::Kill(number) => self.kill(number),
            Trouble::Restart(number, millis) => self.restart(self.holder(number), millis),
            Trouble::Return(number, millis) => self.come_back(number, millis),
            Trouble::TakePlace(number) => self.take_place(number),
            Trouble::CutOff(number, millis) => self.cut_off(number, millis),
            Trouble::Reach(number, broker) => self.network.reunite(number, broker),
            Trouble::CrashAtRevoke(number, millis) => self.crash_at_revoke = Some((number, millis)),
            Trouble::Settled => {
                self.crash_at_revoke = None;
                self.judge.settled();
            }
            Trouble::Close(number) => self.close(number),
            Trouble::Freeze(number, millis) => {
                if let Some(member) = self.members.get_mut(number) {
                    member.frozen_until = now.0 + millis;
                }
            }
            Trouble::Dawdle(number, millis) => {
                if let Some(member) = self.members.get_mut(number) {
                    member.reads_at = now.0 + millis;
                }
            }
            Trouble::Unsubscribe(number, millis) => self.unsubscribe(number, millis),
            Trouble::Subscribe(number) => {
                let Participant { client, topics, .. } = &mut self.members[number];
                client.machines.subscribe(now, topics);
            }
            Trouble::Heal => self.heal(),
        }
        self.network.settle(now, &mut self.trace);
    }

    fn start(&mut self, place: usize) {
        let seed = self.seed.wrapping_mul(31).wrapping_add(self.members.len() as u64);
        let is_calm = self.now.0 >= HEAL_AT;
        // A member that takes over a place runs the same program as the one before.
        let mut random = Random::new(self.seed.wrapping_add(place as u64));
        let revoke_times = if is_calm { &REVOKE_TIMES[..1] } else { &REVOKE_TIMES[..self.plan.revoke_times] };
        let revoke_time = Duration::from_millis(revoke_times[self.random.below(revoke_times.len())]);
        let all = self.plan.topics;
        let topics = if is_calm || random.below(2) == 0 { all } else { &all[random.below(all.len())..] };
        let protocol = self.protocol();
        let strategies = match protocol {
            GroupProtocol::Consumer => vec![Strategy::BuiltIn(Assignor::Range)],
            _ => self.plan.strategies(&mut random),
        };
        let instance = self.plan.is_static.then(|| format!("desk-{place}"));
        let application = Application { topics, strategies, protocol, instance: instance.clone(), revoke_time };
        let machine = MemberMachine::new(self.now, application, seed);
        self.judge.started(machine.joins_empty(), instance);
        // A real client only fetches the metadata of topics that its member names. Here every member knows all topics.
        let mut client = Client::new(self.members.len(), machine, all, METADATA_AGE, i16::MAX, seed);
        if self.plan.session.is_some() {
            client = client.with_password();
        }
        self.members.push(Participant {
            client,
            place,
            arrived: Vec::new(),
            frozen_until: 0,
            reads_at: self.now.0,
            topics,
            is_gone: false,
        });
    }

    /// The protocol of the next process.
    fn protocol(&mut self) -> GroupProtocol {
        match self.plan.protocols {
            Protocols::Classic => GroupProtocol::Classic,
            Protocols::Both if self.random.below(2) == 0 => GroupProtocol::Classic,
            Protocols::Consumer | Protocols::Both => GroupProtocol::Consumer,
        }
    }

    fn cut_off(&mut self, number: usize, millis: u64) {
        let coordinator = self.members.get(number).and_then(|member| member.client.machines.coordinator());
        if let Some(broker) = coordinator {
            self.network.separate(number, broker);
            self.plan.add(self.now.0 + millis, Trouble::Reach(number, broker));
        }
    }

    /// The process that has the place of this member.
    fn holder(&self, number: usize) -> usize {
        let place = self.members.get(number).map(|member| member.place);
        let holder = self.members.iter().rposition(|member| Some(member.place) == place && !member.is_gone);
        holder.unwrap_or(number)
    }

    fn close(&mut self, number: usize) {
        if let Some(member) = self.members.get_mut(number) {
            if let Some(done) = member.client.machines.put_down() {
                self.judge.processed(&done);
            }
            member.client.machines.close();
        }
    }

    /// A process starts in the place of this member.
    fn take_place(&mut self, number: usize) {
        if let Some(member) = self.members.get(number) {
            self.start(member.place);
        }
        if self.now.0 >= HEAL_AT {
            self.end_namesakes();
        }
    }

    /// The application of a member subscribes to nothing for a while.
    fn unsubscribe(&mut self, number: usize, millis: u64) {
        if let Some(member) = self.members.get_mut(number) {
            member.client.machines.subscribe(self.now, &[]);
            self.plan.add((self.now.0 + millis).min(HEAL_AT), Trouble::Subscribe(number));
        }
    }

    /// A process leaves the group and ends, and another one takes its place later.
    fn come_back(&mut self, number: usize, millis: u64) {
        let holder = self.holder(number);
        self.judge.restarts(holder);
        self.close(holder);
        self.plan.add(self.now.0 + millis, Trouble::TakePlace(number));
    }

    /// A process ends, and another one takes its place later.
    fn restart(&mut self, number: usize, millis: u64) {
        self.kill(number);
        self.judge.restarts(number);
        self.plan.add(self.now.0 + millis, Trouble::TakePlace(number));
    }

    fn kill(&mut self, number: usize) {
        if let Some(member) = self.members.get_mut(number).filter(|member| !member.is_gone) {
            let mut around = Surroundings { now: self.now, network: &mut self.network, trace: &mut self.trace };
            member.client.kill(&mut around);
            member.is_gone = true;
            self.judge.gone(number);
        }
    }

    fn heal(&mut self) {
        self.network.heal(self.now, &mut self.trace);
        self.crash_at_revoke = None;
        for member in &mut self.members {
            (member.frozen_until, member.reads_at) = (member.frozen_until.min(self.now.0), self.now.0);
            member.client.machines.hurry();
        }
        self.end_namesakes();
        self.judge.unsettled();
        if self.plan.joins_at_heal {
            self.start(self.members.len());
        }
    }

    /// Ends the older processes of each place: by the consumer protocol they keep the newer ones out of the group.
    fn end_namesakes(&mut self) {
        if self.plan.protocols == Protocols::Classic {
            return;
        }
        for number in 0..self.members.len() {
            let member = &self.members[number];
            let is_old = self.members[number + 1..].iter().any(|other| other.place == member.place && !other.is_gone);
            if is_old {
                self.kill(number);
            }
        }
    }

    /// Whether there are no faults any more, every partition has a reader, and everything has been read.
    fn is_over(&self) -> bool {
        let alive = || self.members.iter().filter(|member| !member.is_gone);
        let owned: Vec<&TopicPartition> = alive().flat_map(|member| member.client.machines.assignment()).collect();
        self.now.0 > HEAL_AT
            && self.missing.is_empty()
            && alive().all(|member| member.client.machines.is_stable())
            && owned.len() == self.judge.partitions().count()
            && owned.iter().copied().collect::<BTreeSet<_>>().into_iter().eq(self.judge.partitions())
            && self.judge.missing().is_none()
            // By the consumer protocol a member has its share, which is empty, before others give something up for it.
            && (self.plan.protocols == Protocols::Classic || self.is_even())
    }

    /// What is still wrong, for the message of a panic.
    fn standing(&self) -> String {
        let missing = self.judge.missing();
        let members = self.members.iter().enumerate().filter(|(_, member)| !member.is_gone).map(|(number, member)| {
            let machine = &member.client.machines;
            format!("member {number} is stable: {}, and has {:?}", machine.is_stable(), machine.assignment())
        });
        format!("the group does not come to rest. Not read: {missing:?}. {}", members.collect::<Vec<_>>().join("; "))
    }
}
