//! What happens to a group in one run, as its seed decides.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kavka_broker::Fault;
use kavka_core::group::Strategy;
use kavka_core::group::assignor::{Assignor, RebalanceProtocol};
use kavka_core::random::Random;
use kavka_core::wire::{ApiKey, ErrorCode};

use crate::plan::{BROKERS, BrokerTrouble, Odds, a_session, described};
use crate::trace::FaultKind;

/// The topics of the group; runs with one topic use the first.
pub(crate) const TOPICS: [&str; 2] = ["letters", "parcels"];
/// When the faults end, in milliseconds.
pub(crate) const HEAL_AT: u64 = 25_000;
/// In a calm run, the time after which no member has a reason to join again, in milliseconds.
const SETTLED_AT: u64 = 14_000;
const MOST_MEMBERS: usize = 4;

/// Something that happens to the cluster or to a member.
#[derive(Debug, Clone)]
pub(crate) enum Trouble {
    Broker(BrokerTrouble),
    /// A topic gets another partition.
    Grow,
    /// A topic is deleted, and another one with its name is created this many milliseconds later.
    Renew(&'static str, u64),
    Create(&'static str),
    Start,
    /// The member's process ends without leaving the group.
    Kill(usize),
    /// The process that has the place of this member ends, and another one starts there this many milliseconds later.
    Restart(usize, u64),
    /// The same, but the process leaves the group before it ends.
    Return(usize, u64),
    /// A process starts in the place of this member, whether or not the old process still runs.
    TakePlace(usize),
    Close(usize),
    /// The member's process stands still for this many milliseconds.
    Freeze(usize, u64),
    /// The application asks for no records for this many milliseconds.
    Dawdle(usize, u64),
    /// The application subscribes to nothing for this many milliseconds.
    Unsubscribe(usize, u64),
    Subscribe(usize),
    /// Nothing passes between the member and its coordinator for this many milliseconds. It can still read from the
    /// other brokers.
    CutOff(usize, u64),
    /// The member can reach this broker again.
    Reach(usize, i32),
    /// The next time that the member begins to give up partitions, it crashes, and starts again this many milliseconds
    /// later.
    CrashAtRevoke(usize, u64),
    /// From now on no member has a reason to join again, unless it is restarted.
    Settled,
    Heal,
}

impl Trouble {
    /// What to count it as.
    pub(crate) fn kind(&self) -> Option<FaultKind> {
        match self {
            Self::Grow => Some(FaultKind::Growth),
            Self::Renew(..) => Some(FaultKind::NewTopic),
            Self::Kill(_) | Self::Restart(..) | Self::Return(..) | Self::CrashAtRevoke(..) => Some(FaultKind::Restart),
            Self::Freeze(..) | Self::Dawdle(..) => Some(FaultKind::Pause),
            Self::Unsubscribe(..) => Some(FaultKind::Unsubscription),
            Self::CutOff(..) => Some(FaultKind::CutOff),
            Self::Broker(_)
            | Self::Create(_)
            | Self::Start
            | Self::TakePlace(_)
            | Self::Close(_)
            | Self::Subscribe(_)
            | Self::Reach(..)
            | Self::Settled
            | Self::Heal => None,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broker(trouble) => trouble.fmt(f),
            Self::Grow => write!(f, "a topic gets another partition"),
            Self::Renew(topic, millis) => write!(f, "{topic} is deleted, and created again {millis} ms later"),
            Self::Create(topic) => write!(f, "{topic} is created again"),
            Self::Start => write!(f, "another member starts"),
            Self::Kill(member) => write!(f, "the process of member {member} is killed"),
            Self::Restart(member, millis) => {
                write!(f, "the process of member {member} is killed, and another one starts {millis} ms later")
            }
            Self::Return(member, millis) => {
                write!(f, "member {member} leaves, and its process starts again {millis} ms later")
            }
            Self::TakePlace(member) => write!(f, "a process starts in the place of member {member}"),
            Self::Close(member) => write!(f, "member {member} leaves the group"),
            Self::Freeze(member, millis) => write!(f, "member {member} stands still for {millis} ms"),
            Self::Dawdle(member, millis) => {
                write!(f, "the application of member {member} asks for nothing for {millis} ms")
            }
            Self::Unsubscribe(member, millis) => write!(f, "member {member} unsubscribes for {millis} ms"),
            Self::Subscribe(member) => write!(f, "member {member} subscribes again"),
            Self::CutOff(member, millis) => {
                write!(f, "member {member} cannot reach its coordinator for {millis} ms, and neither is told")
            }
            Self::Reach(member, broker) => write!(f, "member {member} can reach broker {broker} again"),
            Self::CrashAtRevoke(member, millis) => {
                write!(f, "member {member} shall crash when it gives up partitions, and start {millis} ms later")
            }
            Self::Settled => write!(f, "none: from now on no member has a reason to join again"),
            Self::Heal => write!(f, "all of it ends"),
        }
    }
}

/// Which assignors the members use.
#[derive(Debug, Clone, Copy)]
enum Sharing {
    Alike(Assignor),
    /// An assignor that the application defines.
    Custom,
    /// Some members offer both assignors, others only the first: a rolling change from one to the other.
    Changing(Assignor, Assignor),
}

/// Which protocols the members use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocols {
    Classic,
    /// The consumer protocol (KIP-848).
    Consumer,
    /// Each process one of the two: the group migrates back and forth.
    Both,
}

impl Protocols {
    /// The protocols in the run of this seed.
    pub(crate) fn of(seed: u64) -> Self {
        match seed % 4 {
            0 => Self::Consumer,
            3 => Self::Both,
            _ => Self::Classic,
        }
    }

    /// The request that a fault strikes; for members by the consumer protocol a heartbeat takes the place of others.
    fn struck(self, drawn: ApiKey) -> ApiKey {
        match (self, drawn) {
            (Self::Consumer, ApiKey::JoinGroup | ApiKey::SyncGroup | ApiKey::Heartbeat | ApiKey::LeaveGroup)
            | (Self::Both, ApiKey::Heartbeat | ApiKey::LeaveGroup) => ApiKey::ConsumerGroupHeartbeat,
            _ => drawn,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) protocols: Protocols,
    sharing: Sharing,
    /// Whether members have a `group.instance.id` (KIP-345).
    pub(crate) is_static: bool,
    pub(crate) topics: &'static [&'static str],
    /// How many of the first entries of `REVOKE_TIMES` are used.
    pub(crate) revoke_times: usize,
    pub(crate) odds: Odds,
    pub(crate) latency: usize,
    /// If members have to authenticate themselves: how long brokers let them go on until they have to do it again.
    pub(crate) session: Option<Duration>,
    /// Whether a member joins after the last fault. If none does, the group must come to rest without that reason to
    /// rebalance.
    pub(crate) joins_at_heal: bool,
    pub(crate) troubles: BTreeMap<(u64, u64), Trouble>,
    /// The number of the next trouble.
    next: u64,
}

impl Plan {
    pub(crate) fn new(random: &mut Random, protocols: Protocols) -> Self {
        // A group that changes its protocol is never at rest.
        let is_calm = random.below(8) == 0 && protocols != Protocols::Both;
        let sharing = match random.below(9) {
            // When a classic group becomes a consumer group, its coordinator gives away at once what cooperative
            // members are still giving up, because it knows only what was assigned to them last. No client can
            // prevent that.
            number if protocols == Protocols::Both => {
                Sharing::Alike([Assignor::Range, Assignor::RoundRobin, Assignor::Sticky][number % 3])
            }
            0 => Sharing::Alike(Assignor::Range),
            1 => Sharing::Alike(Assignor::RoundRobin),
            2 => Sharing::Alike(Assignor::Sticky),
            3 => Sharing::Custom,
            4 if !is_calm => Sharing::Changing(Assignor::Range, Assignor::CooperativeSticky),
            5 if !is_calm => Sharing::Changing(Assignor::CooperativeSticky, Assignor::Range),
            _ => Sharing::Alike(Assignor::CooperativeSticky),
        };
        let mut plan = Self {
            protocols,
            sharing,
            is_static: is_calm || random.below(3) == 0,
            topics: &TOPICS[..=random.below(2)],
            revoke_times: if is_calm { 3 } else { [3, 4, 5][random.below(3)] },
            odds: if is_calm { Odds::default() } else { odds(random) },
            latency: if is_calm { 3 } else { [3, 20, 200][random.below(3)] },
            session: a_session(random),
            joins_at_heal: random.below(2) == 0,
            troubles: BTreeMap::new(),
            next: 0,
        };
        if !is_calm && random.below(3) == 0 {
            for _ in 0..=random.below(2) {
                let topic = plan.topics[random.below(plan.topics.len())];
                let (at, millis) = (random.below(HEAL_AT as usize) as u64, [0, 100, 3_000][random.below(3)]);
                plan.add(at, Trouble::Renew(topic, random.below(1 + millis) as u64));
            }
        }
        for (at, trouble) in if is_calm { calm(random, protocols) } else { troubles(random, protocols) } {
            plan.add(at, trouble);
        }
        plan.add(HEAL_AT, Trouble::Heal);
        // A static leader that starts again is not told what was shared out (KIP-814). So it cannot know of partitions
        // that were added meanwhile, and an eager group should not stop for the mere chance.
        plan.joins_at_heal |=
            plan.is_static && !matches!(sharing, Sharing::Alike(Assignor::CooperativeSticky) | Sharing::Custom);
        plan
    }

    /// Adds a trouble for this time, in milliseconds; it comes after the others of that time.
    pub(crate) fn add(&mut self, at: u64, trouble: Trouble) {
        self.troubles.insert((at, self.next), trouble);
        self.next += 1;
    }

    /// The assignors that one member offers.
    pub(crate) fn strategies(&self, random: &mut Random) -> Vec<Strategy> {
        match self.sharing {
            Sharing::Alike(assignor) => vec![Strategy::BuiltIn(assignor)],
            Sharing::Custom => {
                let (name, user_data) = (Arc::from("rounds"), Bytes::new());
                vec![Strategy::Custom { name, protocol: RebalanceProtocol::Cooperative, user_data }]
            }
            Sharing::Changing(first, _) if random.below(2) == 0 => vec![Strategy::BuiltIn(first)],
            Sharing::Changing(first, second) => vec![Strategy::BuiltIn(second), Strategy::BuiltIn(first)],
        }
    }
}

fn odds(random: &mut Random) -> Odds {
    let mut sometimes = |percent: usize| if random.below(2) == 0 { 1 + random.below(percent) } else { 0 };
    // Without `late`: a late commit of the same generation would undo a newer one, which no client can prevent.
    Odds { cut: sometimes(3), mute: sometimes(2), partial: sometimes(30), ..Odds::default() }
}

/// Brokers and static members restart, one at a time and in less than a session time-out.
fn calm(random: &mut Random, protocols: Protocols) -> Vec<(u64, Trouble)> {
    let mut troubles = vec![(SETTLED_AT, Trouble::Settled)];
    let members = 2 + random.below(MOST_MEMBERS - 1);
    // Far enough apart that some members join when others have partitions to give up.
    troubles.extend((0..members).map(|_| (random.below(4_000) as u64, Trouble::Start)));
    let is_classic = protocols == Protocols::Classic;
    if is_classic && random.below(4) > 0 {
        let (number, millis) = (random.below(members), 10 + random.below(2_500) as u64);
        troubles.push((0, Trouble::CrashAtRevoke(number, millis)));
    }
    for at in (SETTLED_AT + 500..HEAL_AT - 4_000).step_by(4_000) {
        let at = at + random.below(1_000) as u64;
        if random.below(3) == 0 {
            let broker = 1 + random.below(BROKERS as usize) as i32;
            let until = at + 50 + random.below(1_500) as u64;
            let (down, up) = (BrokerTrouble::Down(broker), BrokerTrouble::Up(broker));
            troubles.extend([(at, Trouble::Broker(down)), (until, Trouble::Broker(up))]);
        } else {
            let (number, millis) = (random.below(members), 10 + random.below(2_500) as u64);
            // By the consumer protocol the name of a member that has crashed is taken until its session ends.
            let comes_back = Trouble::Return(number, 500 + millis);
            troubles.push((at, if is_classic { Trouble::Restart(number, millis) } else { comes_back }));
        }
    }
    troubles
}

fn troubles(random: &mut Random, protocols: Protocols) -> Vec<(u64, Trouble)> {
    let mut troubles = vec![(0, Trouble::Start)];
    let a_time = |random: &mut Random| random.below(HEAL_AT as usize) as u64;
    for _ in 0..random.below(MOST_MEMBERS) {
        troubles.push((a_time(random) / 2, Trouble::Start));
    }
    for _ in 0..random.below(7) {
        let (at, number) = (a_time(random), random.below(MOST_MEMBERS));
        let millis = random.below(12_000) as u64;
        let trouble = match random.below(10) {
            0 => Trouble::Kill(number),
            1 => Trouble::Close(number),
            2 => Trouble::Restart(number, millis),
            3 => Trouble::TakePlace(number),
            4 => Trouble::Dawdle(number, millis),
            5 => Trouble::CutOff(number, 2 * millis),
            6 => Trouble::CrashAtRevoke(number, millis / 2),
            7 => Trouble::Unsubscribe(number, millis / 2),
            _ => Trouble::Freeze(number, millis),
        };
        troubles.push((at, trouble));
    }
    for _ in 0..random.below(4) {
        let (at, broker) = (a_time(random), random.below(BROKERS as usize) as i32 + 1);
        let until = (at + 100 + random.below(8_000) as u64).min(HEAL_AT - 1);
        let (bad, good) = BrokerTrouble::outage(random, broker);
        troubles.extend([(at, Trouble::Broker(bad)), (until, Trouble::Broker(good))]);
    }
    if random.below(2) == 0 {
        for _ in 0..random.below(25) {
            let at = a_time(random);
            troubles.push((at, Trouble::Broker(mishap(random, protocols))));
        }
    }
    for _ in 0..random.below(3) {
        troubles.push((a_time(random), Trouble::Grow));
    }
    troubles
}

fn mishap(random: &mut Random, protocols: Protocols) -> BrokerTrouble {
    const APIS: [ApiKey; 8] = [
        ApiKey::JoinGroup,
        ApiKey::SyncGroup,
        ApiKey::Heartbeat,
        ApiKey::OffsetCommit,
        ApiKey::OffsetFetch,
        ApiKey::LeaveGroup,
        ApiKey::FindCoordinator,
        ApiKey::Metadata,
    ];
    const CODES: [ErrorCode; 3] =
        [ErrorCode::NOT_COORDINATOR, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, ErrorCode::COORDINATOR_NOT_AVAILABLE];
    let api = protocols.struck(APIS[random.below(APIS.len())]);
    let code = CODES[random.below(CODES.len())];
    let fail = |code: ErrorCode| (Fault::fail(code), format!("is refused with {code}"));
    let (fault, what) = match random.below(6) {
        0 => (Fault::silence(), "is not carried out, and not answered".into()),
        1 => (Fault::silence_after_applying(), "is carried out, but not answered".into()),
        2 => (Fault::lose_answer(), "is carried out, but its connection closed".into()),
        3 => {
            let millis = random.below(4_000) as u64;
            (Fault::delay(Duration::from_millis(millis)), format!("is answered {millis} ms later"))
        }
        _ if api == ApiKey::Metadata => fail(ErrorCode::LEADER_NOT_AVAILABLE),
        4 => fail(code),
        _ => (Fault::fail_after_applying(code), format!("is carried out, but refused with {code}")),
    };
    let times = 1 + random.below(3) as u32;
    BrokerTrouble::Mishap(fault.api(api).times(times), described(api, times, &what))
}
