//! What a seed decides before the run: the sizes of things, and which faults strike when.
//!
//! Each kind of fault is on in about half of the seeds (*swarm testing*), so that some runs are calm enough to get far,
//! and others have few faults that meet in unusual ways. All faults end at [`Plan::heal_at`].

use std::fmt;
use std::time::Duration;

use kavka_broker::{Fault, KafkaVersion};
use kavka_core::random::Random;
use kavka_core::wire::ApiKey;
use kavka_core::wire::error_code::ErrorCode;

use crate::adapter::{JOURNAL, JOURNALS, LEDGER, READ, TOPIC, place};

pub(crate) const BROKERS: i32 = 3;
pub(crate) const PARTITIONS: i32 = 3;

/// The limit of a topic that accepts small batches only: room for one or two records.
const SMALL_BATCH_BYTES: usize = 130;

/// The first version of Fetch that names topics by their ids.
const TOPIC_IDS_SINCE: i16 = 13;

/// The versions of Kafka that brokers may be; most runs have the last one.
const VERSIONS: [KafkaVersion; 3] = [KafkaVersion::V2_8, KafkaVersion::V3_9, KafkaVersion::V4_4];

/// Something that happens to a broker.
#[derive(Debug, Clone)]
pub(crate) enum BrokerTrouble {
    Down(i32),
    Up(i32),
    /// The process stops: its sockets stay open, and the kernel still accepts connections.
    Freeze(i32),
    Thaw(i32),
    /// A broker answers a request with an error, late or not at all, or its response is lost. The text says which.
    Mishap(Fault, String),
}

impl fmt::Display for BrokerTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Down(broker) => write!(f, "broker {broker} stops"),
            Self::Up(broker) => write!(f, "broker {broker} starts"),
            Self::Freeze(broker) => write!(f, "broker {broker} freezes: it accepts connections and reads nothing"),
            Self::Thaw(broker) => write!(f, "broker {broker} goes on"),
            Self::Mishap(_, what) => f.write_str(what),
        }
    }
}

impl BrokerTrouble {
    /// What begins an outage of this broker, and what ends it.
    pub(crate) fn outage(random: &mut Random, broker: i32) -> (Self, Self) {
        if random.below(2) == 0 {
            (Self::Down(broker), Self::Up(broker))
        } else {
            (Self::Freeze(broker), Self::Thaw(broker))
        }
    }
}

/// Something that happens to the cluster rather than to one connection.
#[derive(Debug, Clone)]
pub(crate) enum Trouble {
    Broker(BrokerTrouble),
    /// Another broker becomes the leader of the partition. Clients are not told.
    MoveLeader(i32),
    /// The first half of the log is deleted, as by retention.
    DeleteRecords(i32),
    /// The broker's metadata stays as it is, and may lack this topic.
    BeginLag(i32, Option<&'static str>),
    EndLag(i32),
    /// The topic that the producer writes gets another partition.
    Grow,
    /// The topic that the producer writes is deleted, and created again when the journal is next written to, or later.
    Renew,
    /// The last records of a partition of the journal are lost in an unclean leader election.
    Truncate(i32),
    /// The journal is deleted.
    DeleteJournal,
    /// A topic with the journal's name is created, unless it is there.
    CreateJournal,
    /// All brokers become those of this version.
    ChangeVersion(KafkaVersion),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broker(trouble) => trouble.fmt(f),
            Self::MoveLeader(number) => {
                write!(f, "another broker shall lead {}-{}", place(*number).0, place(*number).1)
            }
            Self::DeleteRecords(partition) => write!(f, "the first half of {TOPIC}-{partition} is deleted"),
            Self::BeginLag(broker, None) => write!(f, "from now on the metadata of broker {broker} is old"),
            Self::BeginLag(broker, Some(topic)) => {
                write!(f, "from now on the metadata of broker {broker} is old, and lacks {topic}")
            }
            Self::EndLag(broker) => write!(f, "the metadata of broker {broker} is up to date again"),
            Self::Grow => write!(f, "{TOPIC} gets another partition"),
            Self::Renew => write!(f, "{TOPIC} is deleted, and soon created again"),
            Self::Truncate(partition) => write!(f, "{JOURNAL}-{partition} loses its last records"),
            Self::DeleteJournal => write!(f, "{JOURNAL} is deleted"),
            Self::CreateJournal => write!(f, "{JOURNAL} is created again"),
            Self::ChangeVersion(version) => write!(f, "all brokers are replaced by those of Kafka {version}"),
        }
    }
}

/// The chance, in percent, that something happens to a connection when bytes pass over it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Odds {
    /// The connection breaks. The bytes on their way are lost, or arrive in part or completely.
    pub(crate) cut: usize,
    /// Like `cut`, but the bytes on their way to the broker arrive seconds later.
    pub(crate) late: usize,
    /// No bytes pass in either direction any more, and neither end is told.
    pub(crate) mute: usize,
    /// The response to a produce or fetch request has an entry too few or too many.
    pub(crate) odd: usize,
    /// A record batch in the response to a fetch is damaged.
    pub(crate) damage: usize,
    /// The response has a wrong correlation id.
    pub(crate) wrong_id: usize,
    /// The response tells the client to wait.
    pub(crate) throttle: usize,
    /// The response arrives in pieces.
    pub(crate) pieces: usize,
    /// The socket takes only a part of what there is to write, and the rest a moment later.
    pub(crate) partial: usize,
}

/// The sizes and faults of one run.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub(crate) struct Plan {
    pub(crate) heal_at: u64,
    pub(crate) odds: Odds,
    /// The longest delay of bytes, in milliseconds, while there are faults.
    pub(crate) latency: usize,
    pub(crate) troubles: Vec<(u64, Trouble)>,
    /// Whether retries cure every fault and have enough time: every record must then be stored.
    pub(crate) is_curable: bool,
    pub(crate) delivery_timeout: Duration,
    pub(crate) batch_bytes: usize,
    pub(crate) linger: Duration,
    pub(crate) is_compressed: bool,
    /// Whether some batches are so large that they are compressed before they go into a request.
    pub(crate) has_huge_batches: bool,
    /// The largest batch that the topic accepts; larger ones must be split. `None`: the default.
    pub(crate) max_message_bytes: Option<usize>,
    pub(crate) fetch_bytes: u32,
    pub(crate) fetch_buffer: usize,
    /// The newest version of Fetch to use; below 7 there are no fetch sessions.
    pub(crate) fetch_version: i16,
    /// Whether batches have sequence numbers.
    pub(crate) is_idempotent: bool,
    /// The Kafka that the brokers are at first.
    pub(crate) kafka_version: KafkaVersion,
    /// The oldest one that they may be or become.
    pub(crate) least_version: KafkaVersion,
    /// How many records are produced before the last fault.
    pub(crate) records: usize,
    /// If clients have to authenticate themselves: how long brokers let them go on until they have to do it again.
    pub(crate) session: Option<Duration>,
    /// The number of fetch sessions; if it is smaller than the number of brokers, sessions are lost all the time.
    pub(crate) fetch_sessions: usize,
}

impl Plan {
    pub(crate) fn new(random: &mut Random) -> Self {
        let heal_at = 8_000;
        let is_curable = random.below(3) == 0;
        let is_idempotent = random.below(4) > 0;
        let mut plan = Self {
            heal_at,
            odds: odds(random, is_idempotent || !is_curable),
            latency: [3, 20, 200][random.below(3)],
            troubles: Vec::new(),
            is_curable,
            delivery_timeout: Duration::from_millis(if is_curable {
                60_000
            } else {
                [1_500, 5_000, 20_000][random.below(3)]
            }),
            batch_bytes: [120, 200, 400][random.below(3)],
            linger: Duration::from_millis([0, 5, 30][random.below(3)]),
            is_compressed: random.below(3) == 0,
            has_huge_batches: false,
            max_message_bytes: (!is_curable && random.below(2) == 0).then_some(SMALL_BATCH_BYTES),
            fetch_bytes: 100 + random.below(2_000) as u32,
            fetch_buffer: 4_000 + random.below(20_000),
            fetch_version: if random.below(4) == 0 { 6 } else { 18 },
            is_idempotent,
            least_version: VERSIONS[0],
            kafka_version: VERSIONS[random.below(2 * VERSIONS.len()).min(VERSIONS.len() - 1)],
            fetch_sessions: if random.below(4) == 0 { 1 } else { 100 },
            records: if random.below(8) == 0 { 2_000 } else { 250 },
            session: a_session(random),
        };
        plan.add_outages(random);
        plan.add_leader_moves(random);
        plan.add_mishaps(random);
        plan.add_lags(random);
        plan.add_history(random);
        let becomes = (random.below(8) == 0).then(|| VERSIONS[random.below(VERSIONS.len())].max(plan.least_version));
        plan.least_version = becomes.unwrap_or(plan.kafka_version).min(plan.kafka_version);
        if let Some(version) = becomes {
            plan.troubles.push((plan.a_time(random), Trouble::ChangeVersion(version)));
        }
        if random.below(8) == 0 {
            plan.make_batches_huge();
        }
        if random.below(4) == 0 {
            let partition = random.below(PARTITIONS as usize) as i32;
            plan.troubles.push((plan.a_time(random), Trouble::DeleteRecords(partition)));
        }
        plan
    }

    fn make_batches_huge(&mut self) {
        (self.has_huge_batches, self.is_compressed) = (true, true);
        self.batch_bytes = 150_000;
        self.max_message_bytes = None;
    }

    fn a_time(&self, random: &mut Random) -> u64 {
        random.below(self.heal_at as usize) as u64
    }

    /// Brokers whose metadata is old for up to ten seconds, and may lack a topic.
    fn add_lags(&mut self, random: &mut Random) {
        if random.below(2) == 0 {
            for _ in 0..=random.below(3) {
                let broker = random.below(BROKERS as usize) as i32 + 1;
                let (begin, lasts) = (self.a_time(random), 100 + random.below(10_000) as u64);
                let hidden = [None, None, Some(TOPIC), Some(LEDGER)][random.below(4)];
                let end = (begin + lasts).min(self.heal_at);
                self.troubles.extend([(begin, Trouble::BeginLag(broker, hidden)), (end, Trouble::EndLag(broker))]);
            }
        }
    }

    /// What changes partitions: more of them, truncated logs, a topic that is created again.
    fn add_history(&mut self, random: &mut Random) {
        if random.below(4) == 0 {
            self.troubles.push((self.a_time(random), Trouble::Grow));
        }
        // Before version 9 a fetch has no leader epoch, and before version 13 it names a topic by its name. Nobody can
        // tell the log from the one before then, so no client can keep the promise.
        if self.fetch_version < TOPIC_IDS_SINCE {
            return;
        }
        if random.below(3) == 0 {
            for _ in 0..=random.below(2) {
                let partition = random.below(JOURNALS as usize) as i32;
                self.troubles.push((self.a_time(random), Trouble::Truncate(partition)));
            }
        }
        if random.below(6) == 0 {
            self.has_topic_ids();
            let begin = self.a_time(random);
            let end = (begin + random.below(5_000) as u64).min(self.heal_at - 1);
            self.troubles.extend([(begin, Trouble::DeleteJournal), (end, Trouble::CreateJournal)]);
        }
        if !self.is_curable && random.below(6) == 0 {
            self.has_topic_ids();
            self.troubles.push((self.a_time(random), Trouble::Renew));
        }
    }

    /// From now on every broker names topics by their ids.
    fn has_topic_ids(&mut self) {
        self.least_version = KafkaVersion::V3_9;
        self.kafka_version = self.kafka_version.max(self.least_version);
    }

    fn add_outages(&mut self, random: &mut Random) {
        self.add_long_outage(random);
        for _ in 0..random.below(5) {
            let broker = random.below(BROKERS as usize) as i32 + 1;
            let begin = self.a_time(random);
            let end = (begin + 100 + random.below(4_000) as u64).min(self.heal_at);
            let (bad, good) = BrokerTrouble::outage(random, broker);
            self.troubles.extend([(begin, Trouble::Broker(bad)), (end, Trouble::Broker(good))]);
        }
    }

    /// All brokers fail, one after the other, and come back in another order.
    fn add_long_outage(&mut self, random: &mut Random) {
        if random.below(6) > 0 {
            return;
        }
        let (mut begin, mut end) = (self.a_time(random) / 2, self.heal_at / 2);
        let (turn, is_frozen) = (random.below(BROKERS as usize) as i32, random.below(2) == 0);
        for step in 0..BROKERS {
            let (first, last) = (step + 1, (BROKERS + turn - step) % BROKERS + 1);
            let (bad, good) = if is_frozen {
                (BrokerTrouble::Freeze(first), BrokerTrouble::Thaw(last))
            } else {
                (BrokerTrouble::Down(first), BrokerTrouble::Up(last))
            };
            self.troubles.extend([(begin, Trouble::Broker(bad)), (end, Trouble::Broker(good))]);
            begin += random.below(300) as u64;
            end += random.below(900) as u64;
        }
    }

    fn add_leader_moves(&mut self, random: &mut Random) {
        if random.below(2) == 0 {
            for _ in 0..random.below(12) {
                let partition = random.below(READ as usize) as i32;
                self.troubles.push((self.a_time(random), Trouble::MoveLeader(partition)));
            }
        }
    }

    fn add_mishaps(&mut self, random: &mut Random) {
        if random.below(2) == 0 {
            for _ in 0..random.below(40) {
                let at = self.a_time(random);
                let mishap = mishap(random, self.is_curable);
                self.troubles.push((at, Trouble::Broker(mishap)));
            }
        }
    }
}

/// In some runs clients have to authenticate themselves, again and again.
pub(crate) fn a_session(random: &mut Random) -> Option<Duration> {
    (random.below(4) == 0).then(|| Duration::from_millis(2_000 + random.below(8_000) as u64))
}

/// Without sequence numbers a record is not sent again after a response that makes no sense.
fn odds(random: &mut Random, may_make_no_sense: bool) -> Odds {
    let mut sometimes = |percent: usize| if random.below(2) == 0 { 1 + random.below(percent) } else { 0 };
    let odds = Odds {
        cut: sometimes(5),
        late: sometimes(3),
        mute: sometimes(6),
        odd: sometimes(5),
        partial: sometimes(30),
        damage: sometimes(2),
        wrong_id: sometimes(2) / 2,
        throttle: sometimes(2) / 2,
        pieces: sometimes(30),
    };
    if may_make_no_sense { odds } else { Odds { odd: 0, wrong_id: 0, ..odds } }
}

fn mishap(random: &mut Random, is_curable: bool) -> BrokerTrouble {
    const APIS: [ApiKey; 6] = [
        ApiKey::Produce,
        ApiKey::Produce,
        ApiKey::Fetch,
        ApiKey::Metadata,
        ApiKey::ListOffsets,
        ApiKey::InitProducerId,
    ];
    let api = APIS[random.below(APIS.len())];
    let (fault, what) = match random.below(6) {
        0 => (Fault::silence(), "is not carried out, and not answered".into()),
        1 => (Fault::silence_after_applying(), "is carried out, but not answered".into()),
        2 => (Fault::lose_answer(), "is carried out, but its connection closed".into()),
        3 => {
            let millis = random.below(4_000) as u64;
            (Fault::delay(Duration::from_millis(millis)), format!("is answered {millis} ms later"))
        }
        _ => refusal(random, api, is_curable),
    };
    let times = 1 + random.below(3) as u32;
    BrokerTrouble::Mishap(fault.api(api).times(times), described(api, times, &what))
}

/// Says what happens to the next requests of one kind.
pub(crate) fn described(api: ApiKey, times: u32, what: &str) -> String {
    if times == 1 { format!("the next {api:?} {what}") } else { format!("each of the next {times} {api:?} {what}") }
}

/// A fault with an error code, and what it does; for some codes the batch is in the log anyway.
fn refusal(random: &mut Random, api: ApiKey, is_curable: bool) -> (Fault, String) {
    let fail = |code: ErrorCode| (Fault::fail(code), format!("is refused with {code}"));
    if api == ApiKey::InitProducerId {
        return fail(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
    }
    if api == ApiKey::Metadata {
        let codes = [ErrorCode::LEADER_NOT_AVAILABLE, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION];
        return fail(codes[random.below(codes.len())]);
    }
    if api != ApiKey::Produce {
        let codes = [ErrorCode::NOT_LEADER_OR_FOLLOWER, ErrorCode::KAFKA_STORAGE_ERROR];
        return fail(codes[random.below(codes.len())]);
    }
    // Only these codes say for certain that nothing was written.
    let definite = [ErrorCode::NOT_ENOUGH_REPLICAS, ErrorCode::MESSAGE_TOO_LARGE, ErrorCode::INVALID_RECORD];
    let indefinite = [
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ErrorCode::REQUEST_TIMED_OUT,
        ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        ErrorCode::KAFKA_STORAGE_ERROR,
        ErrorCode(999),
    ];
    match random.below(3) {
        0 => fail(definite[random.below(if is_curable { 1 } else { definite.len() })]),
        1 => fail(indefinite[random.below(4)]),
        _ => {
            let code = indefinite[random.below(if is_curable { 4 } else { 5 })];
            (Fault::fail_after_applying(code), format!("is carried out, but refused with {code}"))
        }
    }
}
