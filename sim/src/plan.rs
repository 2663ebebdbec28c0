//! What a seed decides before the run: the sizes of things, and which faults strike when.
//!
//! Each kind of fault is on in about half of the seeds (*swarm testing*), so that some runs are calm enough to get far,
//! and others have few faults that meet in unusual ways. All faults end at [`Plan::heal_at`].

use std::time::Duration;

use kavka_broker::Fault;
use kavka_core::random::Random;
use kavka_core::wire::ApiKey;
use kavka_core::wire::error_code::ErrorCode;

pub(crate) const BROKERS: i32 = 3;
pub(crate) const PARTITIONS: i32 = 3;

/// The limit of a topic that accepts small batches only: room for one or two records.
const SMALL_BATCH_BYTES: usize = 130;

/// Something that happens to a broker.
#[derive(Debug, Clone)]
pub(crate) enum BrokerTrouble {
    Down(i32),
    Up(i32),
    /// The process stops: its sockets stay open, and the kernel still accepts connections.
    Freeze(i32),
    Thaw(i32),
    /// The broker answers a request with an error, late or not at all, or its response is lost.
    Mishap(Fault),
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
    /// The response to a produce request has one entry too few or too many.
    pub(crate) odd: usize,
    /// The socket takes only a part of what there is to write, and the rest a moment later.
    pub(crate) partial: usize,
}

/// The sizes and faults of one run.
#[derive(Debug)]
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
    /// The number of fetch sessions; if it is smaller than the number of brokers, sessions are lost all the time.
    pub(crate) fetch_sessions: usize,
}

impl Plan {
    pub(crate) fn new(random: &mut Random) -> Self {
        let heal_at = 8_000;
        let is_curable = random.below(3) == 0;
        let mut plan = Self {
            heal_at,
            odds: odds(random),
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
            fetch_sessions: if random.below(4) == 0 { 1 } else { 100 },
        };
        plan.add_outages(random);
        plan.add_leader_moves(random);
        plan.add_mishaps(random);
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

    fn add_outages(&mut self, random: &mut Random) {
        for _ in 0..random.below(5) {
            let broker = random.below(BROKERS as usize) as i32 + 1;
            let begin = self.a_time(random);
            let end = (begin + 100 + random.below(4_000) as u64).min(self.heal_at);
            let (bad, good) = BrokerTrouble::outage(random, broker);
            self.troubles.extend([(begin, Trouble::Broker(bad)), (end, Trouble::Broker(good))]);
        }
    }

    fn add_leader_moves(&mut self, random: &mut Random) {
        if random.below(2) == 0 {
            for _ in 0..random.below(12) {
                let partition = random.below(2 * PARTITIONS as usize) as i32;
                self.troubles.push((self.a_time(random), Trouble::MoveLeader(partition)));
            }
        }
    }

    fn add_mishaps(&mut self, random: &mut Random) {
        if random.below(2) == 0 {
            for _ in 0..random.below(40) {
                let at = self.a_time(random);
                let mishap = BrokerTrouble::Mishap(mishap(random, self.is_curable));
                self.troubles.push((at, Trouble::Broker(mishap)));
            }
        }
    }
}

fn odds(random: &mut Random) -> Odds {
    let mut sometimes = |percent: usize| if random.below(2) == 0 { 1 + random.below(percent) } else { 0 };
    Odds { cut: sometimes(5), late: sometimes(3), mute: sometimes(6), odd: sometimes(5), partial: sometimes(30) }
}

fn mishap(random: &mut Random, is_curable: bool) -> Fault {
    const APIS: [ApiKey; 6] = [
        ApiKey::Produce,
        ApiKey::Produce,
        ApiKey::Fetch,
        ApiKey::Metadata,
        ApiKey::ListOffsets,
        ApiKey::InitProducerId,
    ];
    let api = APIS[random.below(APIS.len())];
    let fault = match random.below(6) {
        0 => Fault::silence(),
        1 => Fault::silence_after_applying(),
        2 => Fault::lose_answer(),
        3 => Fault::delay(Duration::from_millis(random.below(4_000) as u64)),
        _ => refusal(random, api, is_curable),
    };
    fault.api(api).times(1 + random.below(3) as u32)
}

/// A fault with an error code; for some codes the batch is in the log anyway.
fn refusal(random: &mut Random, api: ApiKey, is_curable: bool) -> Fault {
    if api == ApiKey::InitProducerId {
        return Fault::fail(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
    }
    if api == ApiKey::Metadata {
        let codes = [ErrorCode::LEADER_NOT_AVAILABLE, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION];
        return Fault::fail(codes[random.below(codes.len())]);
    }
    if api != ApiKey::Produce {
        let codes = [ErrorCode::NOT_LEADER_OR_FOLLOWER, ErrorCode::KAFKA_STORAGE_ERROR];
        return Fault::fail(codes[random.below(codes.len())]);
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
        0 => Fault::fail(definite[random.below(if is_curable { 1 } else { definite.len() })]),
        1 => Fault::fail(indefinite[random.below(4)]),
        _ => Fault::fail_after_applying(indefinite[random.below(if is_curable { 4 } else { 5 })]),
    }
}
