//! Bugs that other clients had, to see that the simulator finds them.
//!
//! Only the feature `planted-bugs` makes them possible, and only `make plants` turns it on; without it
//! [`is_planted`] is `false` at compile time. One bug at a time, per thread.

/// A bug. Those of the producer come first, then those of the consumer, then those of the group member.
#[cfg_attr(not(feature = "planted-bugs"), allow(unreachable_pub, reason = "the module is private then"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// `NOT_LEADER_OR_FOLLOWER` counts as not written, and the batch gets new sequence numbers (librdkafka #4953).
    NotLeaderIsNotWritten,
    /// A topic that the metadata cannot describe for a moment starts its sequence numbers over (librdkafka #3712).
    SequencesStartOver,
    /// An answer about a partition that the request does not name counts for one that it does.
    ForeignAnswerCounts,
    /// Of several answers about one partition the last one counts.
    LastAnswerCounts,
    /// A partition that the response leaves out counts as stored.
    NoAnswerIsSuccess,
    /// A batch is halved before it is sent again, although it may be in the log (librdkafka #4736).
    RetriesInHalves,
    /// `REQUEST_TIMED_OUT` counts as not written (franz-go #1217).
    TimedOutIsNotWritten,
    /// A request without an answer counts as not written (librdkafka #4134).
    LostAnswerIsNotWritten,
    /// A batch whose delivery time is up is dropped without a report.
    NoReportOnExpiry,
    /// Without sequence numbers several batches of a partition are in flight, although they may be sent again (sarama
    /// #2619).
    RetriesOvertake,
    /// The batches behind one that failed are sent all the same (librdkafka #4134).
    Gaps,
    /// The second batch of a sequence is sent before the first is acknowledged.
    SecondBeforeFirst,
    /// The sequence numbers of a batch that expired are given to the next one (franz-go #1217).
    SequenceOfExpired,
    /// A partition starts its next epoch while batches of the old one are in flight.
    RestartsInFlight,
    /// A batch that may be in a topic is sent again to a new one of the same name.
    SendsToNewTopic,
    /// The position moves to the end of a batch with its first record (kafka-python #2555).
    PositionAhead,
    /// The position stays before offsets that compaction has removed (sarama #3221).
    StuckOnEmpty,
    /// A batch that cannot be read is skipped without an error.
    SkipsDamage,
    /// A producer with an aborted transaction stays hidden after its marker (librdkafka 1.7.0).
    AbortedForEver,
    /// Markers of transactions are handed out.
    GivesMarkers,
    /// Aborted records are handed out if they are compressed (librdkafka #3020).
    GivesAborted,
    /// The answer to a fetch from before a seek is taken.
    LateFetchCounts,
    /// If a leader cannot be asked about an epoch, the offset is reset (librdkafka #4294).
    ResetsOnSilence,
    /// Any refusal to fetch resets the offset (librdkafka #4427).
    ResetsOnRefusal,
    /// Metadata from a broker that lags behind brings an old leader back.
    OldLeaderReturns,
    /// A log that was truncated is read on as if nothing had happened.
    IgnoresTruncation,
    /// The offsets of a deleted topic are used in a new one of the same name.
    TakesNewTopicForOld,
    /// Records of a paused partition are handed out.
    GivesWhilePaused,
    /// The position moves at the end of a partition (librdkafka #4844).
    EndMovesPosition,
    /// The offset of one partition is committed for another (librdkafka #4427).
    OffsetOfAnother,
    /// Commits name the topic, so offsets of a deleted one count for a new one of the same name.
    CommitsByName,
    /// Members claim what they had once, and the assignor believes them (KAFKA-12984).
    OldClaims,
    /// Automatic commits cover records that the application is still at work on (franz-go #57).
    CommitsAtHand,
    /// A member whose coordinator is silent reads on (pykafka #273).
    ReadsOn,
    /// A member joins although its commits are not answered (franz-go before 1.13.2).
    JoinsTooEarly,
    /// Nobody joins again for partitions that a static member gave up and crashed (pykafka #565).
    Orphans,
    /// Offsets of partitions that were lost are kept, and committed later (librdkafka #2782).
    OffsetsOfEarlierShare,
    /// A commit that is refused because the group rebalances costs the member all its partitions (librdkafka #4059).
    CommitCostsShare,
    /// If the committed offsets cannot be read, the member starts as if there were none (librdkafka #4294).
    StartsOver,
}

#[cfg(feature = "planted-bugs")]
impl Bug {
    /// Every bug.
    pub const ALL: [Self; 39] = [
        Self::NotLeaderIsNotWritten,
        Self::SequencesStartOver,
        Self::ForeignAnswerCounts,
        Self::LastAnswerCounts,
        Self::NoAnswerIsSuccess,
        Self::RetriesInHalves,
        Self::TimedOutIsNotWritten,
        Self::LostAnswerIsNotWritten,
        Self::NoReportOnExpiry,
        Self::RetriesOvertake,
        Self::Gaps,
        Self::SecondBeforeFirst,
        Self::SequenceOfExpired,
        Self::RestartsInFlight,
        Self::SendsToNewTopic,
        Self::PositionAhead,
        Self::StuckOnEmpty,
        Self::SkipsDamage,
        Self::AbortedForEver,
        Self::GivesMarkers,
        Self::GivesAborted,
        Self::LateFetchCounts,
        Self::ResetsOnSilence,
        Self::ResetsOnRefusal,
        Self::OldLeaderReturns,
        Self::IgnoresTruncation,
        Self::TakesNewTopicForOld,
        Self::GivesWhilePaused,
        Self::EndMovesPosition,
        Self::OffsetOfAnother,
        Self::CommitsByName,
        Self::OldClaims,
        Self::CommitsAtHand,
        Self::ReadsOn,
        Self::JoinsTooEarly,
        Self::Orphans,
        Self::OffsetsOfEarlierShare,
        Self::CommitCostsShare,
        Self::StartsOver,
    ];

    /// Whether it is a bug of the group member.
    pub fn is_of_group(self) -> bool {
        self as u8 >= Self::OffsetOfAnother as u8
    }
}

#[cfg(feature = "planted-bugs")]
mod planting {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Plants a bug in the machines of this thread, in place of the one before.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    pub(crate) fn is_planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}

#[cfg(feature = "planted-bugs")]
pub(crate) use planting::is_planted;
#[cfg(feature = "planted-bugs")]
pub use planting::plant;

#[cfg(not(feature = "planted-bugs"))]
pub(crate) const fn is_planted(_: Bug) -> bool {
    false
}
