//! Bugs that other clients had, to see that the simulator finds them.
//!
//! Only the feature `planted-bugs` makes them possible, and only `make plants` turns it on; without it
//! [`is_planted`] is `false` at compile time. One bug at a time, per thread.

/// A bug of a group member.
#[cfg_attr(not(feature = "planted-bugs"), allow(unreachable_pub, reason = "the module is private then"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// The offset of one partition is committed for another (librdkafka #4427).
    OffsetOfAnother,
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
    pub const ALL: [Self; 9] = [
        Self::OffsetOfAnother,
        Self::OldClaims,
        Self::CommitsAtHand,
        Self::ReadsOn,
        Self::JoinsTooEarly,
        Self::Orphans,
        Self::OffsetsOfEarlierShare,
        Self::CommitCostsShare,
        Self::StartsOver,
    ];
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
