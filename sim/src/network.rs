//! The network, and the cluster behind it.
//!
//! A [`LinkId`] is one TCP connection. The bytes of one direction arrive in order, each piece after a delay of its own;
//! pieces of different links overtake each other. The network decides what happens to them: they arrive, or the link is
//! cut, or it goes mute. A frozen broker accepts connections, but reads nothing until it thaws.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use kavka_broker::{Cluster, ConnectionId, Event};
use kavka_core::random::Random;
use kavka_core::time::Instant;
use kavka_core::wire::api::RequestHeader;
use kavka_core::wire::{ApiKey, Decoder};

use crate::oddities::{damaged_fetch_answer, odd_fetch_answer, odd_produce_answer, throttled, with_wrong_id};
use crate::plan::{BROKERS, BrokerTrouble, Odds};
use crate::trace::{FaultKind, Trace};

/// The longest delay of bytes once there are no faults any more, in milliseconds.
const SHORT_LATENCY: usize = 3;

/// How long after the last fault brokers may still close connections because of one.
const SETTLING: Duration = Duration::from_secs(10);

/// A TCP connection, as numbered by the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LinkId(pub(crate) u64);

/// Something that reaches one end of a link.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// The client's dial succeeds, or is refused.
    Dialled { is_accepted: bool },
    /// Bytes reach the client.
    ToClient(Bytes),
    /// The client learns that the link is cut.
    Broken,
    /// Bytes reach the broker.
    ToBroker(Bytes),
    /// The broker learns that the link is cut.
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Open,
    /// No bytes pass, and neither end knows.
    Mute,
    /// The link is cut; the client will learn of it.
    Breaking,
    /// The client has closed its end; bytes on their way to the broker still arrive.
    Closed,
}

#[derive(Debug)]
struct Link {
    /// The number of the client that has dialled.
    client: usize,
    broker_id: i32,
    at_broker: Option<ConnectionId>,
    condition: Condition,
    /// The requests that the broker has not answered yet.
    unanswered: VecDeque<RequestHeader>,
    /// Bytes that reached the broker but are not a complete frame yet.
    inbox: BytesMut,
    /// When the last piece in each direction arrives.
    to_broker_at: u64,
    to_client_at: u64,
}

#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) cluster: Cluster,
    random: Random,
    odds: Odds,
    latency: usize,
    links: BTreeMap<LinkId, Link>,
    by_connection: BTreeMap<ConnectionId, LinkId>,
    next_link: u64,
    frozen: BTreeSet<i32>,
    /// The clients and brokers between which no bytes pass.
    separated: BTreeSet<(usize, i32)>,
    /// What frozen brokers have yet to read, and to send.
    stalled: VecDeque<(LinkId, Arrival)>,
    stalled_answers: VecDeque<(LinkId, Bytes)>,
    /// What is on its way, by its time of arrival.
    arrivals: BTreeMap<(u64, u64), (LinkId, Arrival)>,
    next_arrival: u64,
    /// How many record batches were damaged on their way.
    damaged: u64,
    /// Whether a response had a wrong correlation id.
    has_wrong_ids: bool,
    /// From when on no broker has a reason to close a connection.
    calm_from: Option<Instant>,
}

impl Network {
    pub(crate) fn new(cluster: Cluster, random: Random, odds: Odds, latency: usize) -> Self {
        Self {
            cluster,
            random,
            odds,
            latency,
            links: BTreeMap::new(),
            by_connection: BTreeMap::new(),
            next_link: 0,
            frozen: BTreeSet::new(),
            separated: BTreeSet::new(),
            stalled: VecDeque::new(),
            stalled_answers: VecDeque::new(),
            arrivals: BTreeMap::new(),
            next_arrival: 0,
            damaged: 0,
            has_wrong_ids: false,
            calm_from: None,
        }
    }

    fn chance(&mut self, percent: usize) -> bool {
        percent > 0 && self.random.below(100) < percent
    }

    fn delay(&mut self) -> u64 {
        1 + self.random.below(self.latency) as u64
    }

    fn arrive(&mut self, at: u64, link: LinkId, arrival: Arrival) {
        self.next_arrival += 1;
        self.arrivals.insert((at, self.next_arrival), (link, arrival));
    }

    /// A client dials a broker; [`Arrival::Dialled`] follows, unless the two are separated.
    pub(crate) fn dial(&mut self, now: Instant, client: usize, broker_id: i32) -> LinkId {
        let link = LinkId(self.next_link);
        self.next_link += 1;
        let at = now.0 + self.delay();
        let is_separated = self.separated.contains(&(client, broker_id));
        let fresh = Link {
            client,
            broker_id,
            at_broker: None,
            condition: if is_separated { Condition::Mute } else { Condition::Open },
            unanswered: VecDeque::new(),
            inbox: BytesMut::new(),
            to_broker_at: at,
            to_client_at: at,
        };
        self.links.insert(link, fresh);
        if is_separated {
            return link;
        }
        let at_broker = self.cluster.handle_connect(broker_id);
        if let (Some(at_broker), Some(known)) = (at_broker, self.links.get_mut(&link)) {
            known.at_broker = Some(at_broker);
            self.by_connection.insert(at_broker, link);
        }
        self.arrive(at, link, Arrival::Dialled { is_accepted: at_broker.is_some() });
        link
    }

    /// How many of `bytes` bytes the client's socket takes now; the rest must be offered again a moment later.
    pub(crate) fn accepts(&mut self, trace: &mut Trace, bytes: usize) -> usize {
        if !self.chance(self.odds.partial) {
            return bytes;
        }
        trace.count(FaultKind::PartialWrite);
        if self.random.below(4) == 0 { 1 } else { 1 + self.random.below(bytes) }
    }

    /// The client writes. This may cut the link or make it mute.
    pub(crate) fn write(&mut self, now: Instant, trace: &mut Trace, link: LinkId, bytes: Bytes) {
        let delay = self.delay();
        let Some(known) = self.links.get_mut(&link) else { return };
        if known.condition != Condition::Open {
            return;
        }
        let at = (now.0 + delay).max(known.to_broker_at);
        known.to_broker_at = at;
        if self.chance(self.odds.mute) {
            return self.mute(now, trace, link);
        }
        let (is_cut, is_late) = (self.chance(self.odds.cut), self.chance(self.odds.late));
        if !is_cut && !is_late {
            return self.arrive(at, link, Arrival::ToBroker(bytes));
        }
        let arrives_at = if is_late { at + 400 + self.random.below(3_000) as u64 } else { at };
        let arrives = match self.random.below(3) {
            _ if is_late => bytes.len(),
            0 => 0,
            1 => self.random.below(bytes.len()),
            _ => bytes.len(),
        };
        trace.fault(
            now,
            if is_late { FaultKind::Late } else { FaultKind::Cut },
            format_args!(
                "link {} is cut; {arrives} of the last {} bytes reach the broker, at {arrives_at} ms",
                link.0,
                bytes.len()
            ),
        );
        if arrives > 0 {
            self.arrive(arrives_at, link, Arrival::ToBroker(bytes.slice(..arrives)));
        }
        self.arrive(arrives_at + 1, link, Arrival::Gone);
        self.arrive(now.0 + 1, link, Arrival::Broken);
        if let Some(known) = self.links.get_mut(&link) {
            known.condition = Condition::Breaking;
        }
    }

    fn mute(&mut self, now: Instant, trace: &mut Trace, link: LinkId) {
        trace.fault(
            now,
            FaultKind::Mute,
            format_args!("link {} goes mute: nothing passes any more, and nobody is told", link.0),
        );
        if let Some(known) = self.links.get_mut(&link) {
            known.condition = Condition::Mute;
        }
    }

    /// The client closes its end. On a mute link the broker does not learn of it.
    pub(crate) fn close(&mut self, now: Instant, link: LinkId) {
        let delay = self.delay();
        let Some(known) = self.links.get_mut(&link).filter(|known| known.condition == Condition::Open) else { return };
        known.condition = Condition::Closed;
        let at = (now.0 + delay).max(known.to_broker_at) + 1;
        self.arrive(at, link, Arrival::Gone);
    }

    /// When something arrives, or the cluster's timer fires.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let arrival = self.arrivals.keys().next().map(|(at, _)| Instant(*at));
        arrival.into_iter().chain(self.cluster.poll_timeout()).min()
    }

    /// Delivers everything that is due; returns what reached the client.
    pub(crate) fn handle_timeout(&mut self, now: Instant, trace: &mut Trace) -> Vec<(LinkId, Arrival)> {
        let mut at_client = Vec::new();
        if self.cluster.poll_timeout().is_some_and(|at| at <= now) {
            self.cluster.handle_timeout(now);
            self.settle(now, trace);
        }
        while let Some(entry) = self.arrivals.first_entry().filter(|entry| entry.key().0 <= now.0) {
            let (link, arrival) = entry.remove();
            match arrival {
                Arrival::ToBroker(_) | Arrival::Gone => self.reach_broker(now, trace, link, arrival),
                Arrival::Dialled { .. } => at_client.push((link, arrival)),
                Arrival::ToClient(_) | Arrival::Broken => {
                    let Some(known) = self.links.get_mut(&link) else { continue };
                    match (known.condition, &arrival) {
                        (Condition::Open, Arrival::ToClient(_)) => {}
                        (Condition::Open | Condition::Breaking, Arrival::Broken) => known.condition = Condition::Closed,
                        _ => continue,
                    }
                    at_client.push((link, arrival));
                }
            }
        }
        at_client
    }

    fn reach_broker(&mut self, now: Instant, trace: &mut Trace, link: LinkId, arrival: Arrival) {
        let Some(known) = self.links.get_mut(&link) else { return };
        if self.frozen.contains(&known.broker_id) {
            return self.stalled.push_back((link, arrival));
        }
        let Some(connection) = known.at_broker else { return };
        match arrival {
            Arrival::ToBroker(_) if known.condition == Condition::Mute => return,
            Arrival::ToBroker(bytes) => {
                known.inbox.extend_from_slice(&bytes);
                let frames = whole_frames(&mut known.inbox);
                for frame in &frames {
                    let header = RequestHeader::decode(&mut Decoder::from(frame.clone()));
                    known.unanswered.push_back(header.expect("the client writes whole headers"));
                }
                for frame in frames {
                    self.cluster.handle_frame(now, connection, frame);
                }
            }
            _ => {
                known.at_broker = None;
                self.by_connection.remove(&connection);
                self.cluster.handle_disconnect(connection);
            }
        }
        self.settle(now, trace);
    }

    /// Puts the cluster's frames on their way.
    pub(crate) fn settle(&mut self, now: Instant, trace: &mut Trace) {
        while let Some(event) = self.cluster.poll_event() {
            match event {
                Event::Response { connection, segments } => {
                    let Some(link) = self.by_connection.get(&connection).copied() else { continue };
                    self.answer(now, trace, link, segments.concat().into());
                }
                Event::Close { connection } => {
                    let Some(link) = self.by_connection.remove(&connection) else { continue };
                    let delay = self.delay();
                    let Some(known) = self.links.get_mut(&link) else { continue };
                    known.at_broker = None;
                    let is_calm = self.calm_from.is_some_and(|from| from <= now);
                    assert!(!is_calm, "nothing is wrong, and yet broker {} closes link {}", known.broker_id, link.0);
                    let at = (now.0 + delay).max(known.to_client_at);
                    self.arrive(at, link, Arrival::Broken);
                }
            }
        }
    }

    fn answer(&mut self, now: Instant, trace: &mut Trace, link: LinkId, mut bytes: Bytes) {
        let delay = self.delay();
        let Some(known) = self.links.get_mut(&link) else { return };
        if self.frozen.contains(&known.broker_id) {
            return self.stalled_answers.push_back((link, bytes));
        }
        if known.condition != Condition::Open {
            return;
        }
        let at = (now.0 + delay).max(known.to_client_at);
        known.to_client_at = at;
        if let Some(header) = known.unanswered.pop_front() {
            bytes = self.spoil(now, trace, &header, bytes);
        }
        if self.chance(self.odds.mute) {
            return self.mute(now, trace, link);
        }
        if !self.chance(self.odds.cut) {
            return self.arrive_in_pieces(at, trace, link, bytes);
        }
        let arrives = if self.random.below(2) == 0 { 0 } else { self.random.below(bytes.len()) };
        trace.fault(
            now,
            FaultKind::Cut,
            format_args!("link {} is cut; {arrives} of the answer's {} bytes reach the client", link.0, bytes.len()),
        );
        if arrives > 0 {
            self.arrive(at, link, Arrival::ToClient(bytes.slice(..arrives)));
        }
        self.arrive(at, link, Arrival::Broken);
        self.arrive(at + 1, link, Arrival::Gone);
    }

    /// Bytes reach the client, all at once or in pieces, the first of which may be a single byte.
    fn arrive_in_pieces(&mut self, at: u64, trace: &mut Trace, link: LinkId, mut bytes: Bytes) {
        let mut at = at;
        if self.chance(self.odds.pieces) {
            trace.count(FaultKind::Pieces);
            for _ in 0..=self.random.below(3) {
                let first = bytes.split_to(self.random.below(bytes.len()).min(1 << self.random.below(12)));
                if !first.is_empty() {
                    self.arrive(at, link, Arrival::ToClient(first));
                }
                at += self.delay();
            }
            if let Some(known) = self.links.get_mut(&link) {
                known.to_client_at = at;
            }
        }
        self.arrive(at, link, Arrival::ToClient(bytes));
    }

    /// Makes something wrong with a response, sometimes.
    fn spoil(&mut self, now: Instant, trace: &mut Trace, header: &RequestHeader, mut bytes: Bytes) -> Bytes {
        let Odds { odd, damage, wrong_id, throttle, .. } = self.odds;
        let (key, id) = (header.key, header.correlation_id);
        let (is_produce, is_fetch) = (key == ApiKey::Produce, key == ApiKey::Fetch);
        if (is_produce || is_fetch) && self.chance(odd) {
            trace.fault(now, FaultKind::Odd, format_args!("the answer to {key:?} {id} names other partitions"));
            let answer = if is_produce { odd_produce_answer } else { odd_fetch_answer };
            bytes = answer(&mut self.random, header, &bytes);
        }
        if is_fetch
            && self.chance(damage)
            && let Some(damaged) = damaged_fetch_answer(&mut self.random, header, &bytes)
        {
            trace.fault(
                now,
                FaultKind::Damage,
                format_args!("a record batch in the answer to {key:?} {id} is damaged"),
            );
            self.damaged += 1;
            bytes = damaged;
        }
        if (is_produce || is_fetch) && self.chance(throttle) {
            let (frame, millis) = throttled(&mut self.random, header, &bytes);
            let sentence = format_args!("the answer to {key:?} {id} tells the client to wait {millis} ms");
            trace.fault(now, FaultKind::Throttle, sentence);
            bytes = frame;
        }
        if self.chance(wrong_id) {
            trace.fault(now, FaultKind::WrongId, format_args!("the answer to {key:?} {id} has another correlation id"));
            self.has_wrong_ids = true;
            bytes = with_wrong_id(&bytes);
        }
        bytes
    }

    /// How many record batches were damaged on their way.
    pub(crate) fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Whether a response had a wrong correlation id.
    pub(crate) fn has_wrong_ids(&self) -> bool {
        self.has_wrong_ids
    }

    /// From now on nothing passes between this client and this broker, and neither is told.
    pub(crate) fn separate(&mut self, client: usize, broker_id: i32) {
        self.separated.insert((client, broker_id));
        let between = |link: &&mut Link| (link.client, link.broker_id) == (client, broker_id);
        for link in self.links.values_mut().filter(between).filter(|link| link.condition == Condition::Open) {
            link.condition = Condition::Mute;
        }
    }

    /// This client can dial this broker again.
    pub(crate) fn reunite(&mut self, client: usize, broker_id: i32) {
        self.separated.remove(&(client, broker_id));
    }

    /// Something happens to a broker.
    pub(crate) fn trouble(&mut self, now: Instant, trace: &mut Trace, trouble: BrokerTrouble) {
        match &trouble {
            BrokerTrouble::Down(_) => trace.count(FaultKind::Down),
            BrokerTrouble::Freeze(_) => trace.count(FaultKind::Frozen),
            BrokerTrouble::Mishap(..) => trace.count(FaultKind::Mishap),
            BrokerTrouble::Up(_) | BrokerTrouble::Thaw(_) => {}
        }
        match trouble {
            BrokerTrouble::Down(broker) => self.cluster.set_broker_down(now, broker),
            BrokerTrouble::Up(broker) => self.cluster.set_broker_up(now, broker),
            BrokerTrouble::Freeze(broker) => drop(self.frozen.insert(broker)),
            BrokerTrouble::Thaw(broker) => self.thaw(now, trace, broker),
            BrokerTrouble::Mishap(fault, _) => self.cluster.faults().add(fault),
        }
    }

    /// Ends all faults: all brokers work, and all clients can dial them. Links that are mute stay so.
    pub(crate) fn heal(&mut self, now: Instant, trace: &mut Trace) {
        (self.odds, self.latency) = (Odds::default(), SHORT_LATENCY);
        self.calm_from = Some(now + SETTLING);
        self.cluster.faults().clear();
        self.separated.clear();
        for broker in 1..=BROKERS {
            self.cluster.end_lag(broker);
            self.cluster.set_broker_up(now, broker);
            self.thaw(now, trace, broker);
        }
    }

    /// Resumes a broker's process, with everything that has arrived meanwhile.
    fn thaw(&mut self, now: Instant, trace: &mut Trace, broker_id: i32) {
        self.frozen.remove(&broker_id);
        for (link, bytes) in std::mem::take(&mut self.stalled_answers) {
            self.answer(now, trace, link, bytes);
        }
        for (link, arrival) in std::mem::take(&mut self.stalled) {
            self.reach_broker(now, trace, link, arrival);
        }
    }
}

/// Cuts complete frames off the front, without their size fields.
fn whole_frames(inbox: &mut BytesMut) -> Vec<Bytes> {
    let mut frames = Vec::new();
    while let Some((size, rest)) = inbox.split_first_chunk::<4>() {
        let size = u32::from_be_bytes(*size) as usize;
        if rest.len() < size {
            break;
        }
        inbox.advance(4);
        frames.push(inbox.split_to(size).freeze());
    }
    frames
}
