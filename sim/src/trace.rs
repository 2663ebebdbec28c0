//! What happened in a run: sentences, a hash of them all, and a count of the faults by kind.

use std::fmt::{Arguments, Write};

use kavka_core::time::Instant;

use crate::Print;

macro_rules! kinds {
    ($($(#[$about:meta])* $kind:ident $name:literal,)*) => {
        /// A kind of fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum FaultKind {
            $($(#[$about])* $kind,)*
        }

        impl FaultKind {
            /// Every kind, in the order of the declaration.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$kind),*];

            /// What to call it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }
        }
    };
}

kinds! {
    /// The bytes on their way are lost, or arrive in part or completely.
    Cut "connection cut, with bytes on their way",
    /// The last bytes of a cut connection reach the broker seconds later.
    Late "request that arrives after its connection was cut",
    /// Nothing passes any more, and nobody is told.
    Mute "connection that falls silent",
    /// The socket takes a part of what there is to write.
    PartialWrite "write that is taken in part",
    /// A response reaches the client in pieces.
    Pieces "response in pieces",
    /// A response is well-formed but wrong.
    Odd "response with missing, foreign or repeated partitions",
    /// The response does not belong to the request.
    WrongId "response with a wrong correlation id",
    /// A record batch in a response to a fetch is damaged.
    Damage "damaged record batch",
    /// A broker demands that the client waits.
    Throttle "throttled client",
    /// The session of a connection is about to end.
    Session "connection that has to authenticate again",
    /// A broker stops, and comes back.
    Down "broker down",
    /// A broker's process stands still.
    Frozen "frozen broker",
    /// A broker answers with an error, late or never.
    Mishap "request refused, delayed or not answered",
    /// Another broker leads a partition.
    LeaderMove "leader moved",
    /// The metadata of a broker stays as it was, or lacks a topic.
    Lag "broker with old metadata",
    /// Records are deleted as by retention.
    Deletion "records deleted",
    /// A topic gets another partition.
    Growth "partition added",
    /// A log loses records, as by an unclean leader election.
    Truncation "log truncated",
    /// A topic is deleted, and another one created with its name.
    NewTopic "topic deleted and created again",
    /// All brokers become those of another version.
    Version "cluster of another version",
    /// A member's process ends or starts again.
    Restart "member killed or restarted",
    /// A member subscribes to nothing for a while, so it leaves the group.
    Unsubscription "member that unsubscribes for a while",
    /// A member or its application stands still.
    Pause "member that stands still",
    /// Nothing passes between a member and its coordinator.
    CutOff "member cut off from its coordinator",
}

/// How many faults of each kind there were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FaultCounts([u64; FaultKind::ALL.len()]);

impl FaultCounts {
    /// How many of this kind.
    pub fn of(&self, kind: FaultKind) -> u64 {
        self.0[kind as usize]
    }

    /// How many of all kinds.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(count, other)| *count += other);
    }
}

/// The trace of a run.
#[derive(Debug)]
pub(crate) struct Trace {
    print: Print,
    line: String,
    /// FNV-1a over all sentences.
    hash: u64,
    sentences: u64,
    faults: FaultCounts,
}

impl Trace {
    pub(crate) fn new(print: Print) -> Self {
        let faults = FaultCounts::default();
        Self { print, line: String::new(), hash: 0xcbf2_9ce4_8422_2325, sentences: 0, faults }
    }

    /// Adds an event; the sentence has no full stop.
    pub(crate) fn say(&mut self, now: Instant, sentence: Arguments<'_>) {
        self.line.clear();
        // Writing to a string cannot fail.
        let _ = write!(self.line, "{:>6} ms  {sentence}", now.0);
        for byte in self.line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.sentences += 1;
        if self.print == Print::Trace {
            println!("{}", self.line);
        }
    }

    /// Adds a fault, and counts it.
    pub(crate) fn fault(&mut self, now: Instant, kind: FaultKind, sentence: Arguments<'_>) {
        self.count(kind);
        self.say(now, sentence);
    }

    /// Counts a fault that is not worth a sentence.
    pub(crate) fn count(&mut self, kind: FaultKind) {
        self.faults.0[kind as usize] += 1;
    }

    /// Counts a fault if it has happened.
    pub(crate) fn count_if(&mut self, has_happened: bool, kind: FaultKind) {
        if has_happened {
            self.count(kind);
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn sentences(&self) -> u64 {
        self.sentences
    }

    pub(crate) fn faults(&self) -> FaultCounts {
        self.faults
    }
}
