//! All error codes that brokers return, one per line, with everything that a code says.
//!
//! Code that reacts to a whole class of codes asks for the class by its name, for instance
//! [`ErrorCode::appends_nothing`], and lists no codes itself. It names a code only to do what is special to that code.
//! An unknown code is kept as its number: it is neither retriable nor a success.

use std::fmt;

/// A broker's error code; [`ErrorCode::NONE`] is success.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ErrorCode(pub i16);

/// What a client can do about an error code.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// Give up: a retry gives the same response.
    Fail,
    /// Retry after a back-off.
    Retry,
    /// Refresh the metadata, then retry.
    Refresh,
    /// Look up the coordinator again, then retry.
    FindCoordinator,
}

/// What else a code says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fact {
    /// The broker does not know the topic or the partition.
    UnknownTopic,
    /// The client lacks a permission that it needs for a topic. It may be granted while the client runs.
    Denied,
    /// A reader asks again, as the Java consumer does, although the code is not retriable.
    RetriedByReaders,
    /// As the answer to a produce request: nothing of the batch was appended.
    NothingAppended,
    /// As the answer to a produce request: the broker expects another sequence number or producer epoch.
    BrokenSequence,
    /// As the answer to a produce request: a record or the batch is too large.
    TooLarge,
    /// As the answer to a produce request: some of the batch's records are invalid.
    InvalidRecords,
    /// The member is not in the group, or not in its present generation.
    NotMember,
    /// The group is rebalancing, and the member is still in it.
    Rebalancing,
    /// The cluster or the group has only the classic protocol of groups.
    ClassicOnly,
}

macro_rules! error_codes {
    ($($(#[$meta:meta])* $code:literal $name:ident $then:ident $($fact:ident)*,)*) => {
        impl ErrorCode {
            $($(#[$meta])* #[doc = concat!("Kafka's code ", stringify!($code), ".")] pub const $name: Self = Self($code);)*

            /// Kafka's name of the code, if it is known.
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($code => Some(stringify!($name)),)*
                    _ => None,
                }
            }

            fn then(self) -> Then {
                match self.0 {
                    $($code => Then::$then,)*
                    _ => Then::Fail,
                }
            }

            fn facts(self) -> &'static [Fact] {
                match self.0 {
                    $($code => &[$(Fact::$fact),*],)*
                    _ => &[],
                }
            }

            /// Every known code.
            pub const ALL: &[Self] = &[$(Self($code)),*];
        }
    };
}

impl ErrorCode {
    /// Whether the same request can succeed later.
    pub fn is_retriable(self) -> bool {
        self.then() != Then::Fail
    }

    /// Whether it means that our metadata is out of date.
    pub fn refreshes_metadata(self) -> bool {
        self.then() == Then::Refresh
    }

    /// Whether it may mean that another broker coordinates the group or transactional id now.
    pub fn moves_coordinator(self) -> bool {
        self.then() == Then::FindCoordinator
    }

    fn says(self, fact: Fact) -> bool {
        self.facts().contains(&fact)
    }

    /// Whether it means that the broker does not know the topic or the partition.
    pub fn is_unknown_topic(self) -> bool {
        self.says(Fact::UnknownTopic)
    }

    /// Whether the client lacks a permission that it needs for a topic.
    pub fn denies_topic(self) -> bool {
        self.says(Fact::Denied)
    }

    /// Whether a reader should ask again.
    pub fn is_retriable_for_readers(self) -> bool {
        self.is_retriable() || self.says(Fact::RetriedByReaders)
    }

    /// Whether a broker that refuses a batch with it has appended nothing of the batch.
    pub fn appends_nothing(self) -> bool {
        self.says(Fact::NothingAppended)
    }

    /// Whether a broker that refuses a batch with it expects another sequence number or producer epoch.
    pub fn breaks_sequence(self) -> bool {
        self.says(Fact::BrokenSequence)
    }

    /// Whether it refuses single records, and not the partition or the producer.
    pub fn is_about_records(self) -> bool {
        self.is_about_size() || self.says(Fact::InvalidRecords)
    }

    /// Whether a record or a batch is too large.
    pub fn is_about_size(self) -> bool {
        self.says(Fact::TooLarge)
    }

    /// Whether the coordinator denies that the sender is a member of the group in its present generation.
    pub fn denies_membership(self) -> bool {
        self.says(Fact::NotMember)
    }

    /// Whether the group is rebalancing and the sender is still a member of it.
    pub fn is_rebalancing(self) -> bool {
        self.says(Fact::Rebalancing)
    }

    /// Whether the cluster or the group has only the classic protocol of groups.
    pub fn has_only_classic_groups(self) -> bool {
        self.says(Fact::ClassicOnly)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({})", self.0),
            None => write!(f, "the unknown error code {}", self.0),
        }
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

error_codes! {
    -1 UNKNOWN_SERVER_ERROR Fail RetriedByReaders,
    0 NONE Fail,
    1 OFFSET_OUT_OF_RANGE Fail,
    2 CORRUPT_MESSAGE Retry NothingAppended,
    3 UNKNOWN_TOPIC_OR_PARTITION Refresh UnknownTopic,
    4 INVALID_FETCH_SIZE Fail,
    5 LEADER_NOT_AVAILABLE Refresh,
    6 NOT_LEADER_OR_FOLLOWER Refresh,
    7 REQUEST_TIMED_OUT Retry,
    8 BROKER_NOT_AVAILABLE Fail,
    9 REPLICA_NOT_AVAILABLE Refresh,
    10 MESSAGE_TOO_LARGE Fail NothingAppended TooLarge,
    11 STALE_CONTROLLER_EPOCH Fail,
    12 OFFSET_METADATA_TOO_LARGE Fail,
    13 NETWORK_EXCEPTION Refresh,
    14 COORDINATOR_LOAD_IN_PROGRESS Retry,
    15 COORDINATOR_NOT_AVAILABLE FindCoordinator,
    16 NOT_COORDINATOR FindCoordinator,
    17 INVALID_TOPIC_EXCEPTION Fail NothingAppended,
    18 RECORD_LIST_TOO_LARGE Fail NothingAppended TooLarge,
    19 NOT_ENOUGH_REPLICAS Retry NothingAppended,
    20 NOT_ENOUGH_REPLICAS_AFTER_APPEND Retry,
    21 INVALID_REQUIRED_ACKS Fail NothingAppended,
    22 ILLEGAL_GENERATION Fail NotMember,
    23 INCONSISTENT_GROUP_PROTOCOL Fail,
    24 INVALID_GROUP_ID Fail,
    25 UNKNOWN_MEMBER_ID Fail NotMember,
    26 INVALID_SESSION_TIMEOUT Fail,
    27 REBALANCE_IN_PROGRESS Fail Rebalancing,
    28 INVALID_COMMIT_OFFSET_SIZE Fail,
    29 TOPIC_AUTHORIZATION_FAILED Fail Denied NothingAppended,
    30 GROUP_AUTHORIZATION_FAILED Fail,
    31 CLUSTER_AUTHORIZATION_FAILED Fail Denied NothingAppended,
    32 INVALID_TIMESTAMP Fail NothingAppended InvalidRecords,
    33 UNSUPPORTED_SASL_MECHANISM Fail,
    34 ILLEGAL_SASL_STATE Fail,
    35 UNSUPPORTED_VERSION Fail NothingAppended ClassicOnly,
    36 TOPIC_ALREADY_EXISTS Fail,
    37 INVALID_PARTITIONS Fail,
    38 INVALID_REPLICATION_FACTOR Fail,
    39 INVALID_REPLICA_ASSIGNMENT Fail,
    40 INVALID_CONFIG Fail,
    41 NOT_CONTROLLER Retry,
    42 INVALID_REQUEST Fail NothingAppended,
    43 UNSUPPORTED_FOR_MESSAGE_FORMAT Fail NothingAppended,
    44 POLICY_VIOLATION Fail NothingAppended,
    45 OUT_OF_ORDER_SEQUENCE_NUMBER Fail NothingAppended BrokenSequence,
    46 DUPLICATE_SEQUENCE_NUMBER Fail,
    47 INVALID_PRODUCER_EPOCH Fail NothingAppended BrokenSequence,
    48 INVALID_TXN_STATE Fail,
    49 INVALID_PRODUCER_ID_MAPPING Fail NothingAppended BrokenSequence,
    50 INVALID_TRANSACTION_TIMEOUT Fail,
    51 CONCURRENT_TRANSACTIONS Retry,
    52 TRANSACTION_COORDINATOR_FENCED Fail,
    53 TRANSACTIONAL_ID_AUTHORIZATION_FAILED Fail NothingAppended,
    54 SECURITY_DISABLED Fail,
    55 OPERATION_NOT_ATTEMPTED Fail,
    56 KAFKA_STORAGE_ERROR Refresh,
    57 LOG_DIR_NOT_FOUND Fail,
    58 SASL_AUTHENTICATION_FAILED Fail,
    59 UNKNOWN_PRODUCER_ID Fail NothingAppended BrokenSequence,
    60 REASSIGNMENT_IN_PROGRESS Fail,
    61 DELEGATION_TOKEN_AUTH_DISABLED Fail,
    62 DELEGATION_TOKEN_NOT_FOUND Fail,
    63 DELEGATION_TOKEN_OWNER_MISMATCH Fail,
    64 DELEGATION_TOKEN_REQUEST_NOT_ALLOWED Fail,
    65 DELEGATION_TOKEN_AUTHORIZATION_FAILED Fail,
    66 DELEGATION_TOKEN_EXPIRED Fail,
    67 INVALID_PRINCIPAL_TYPE Fail,
    68 NON_EMPTY_GROUP Fail,
    69 GROUP_ID_NOT_FOUND Fail ClassicOnly,
    70 FETCH_SESSION_ID_NOT_FOUND Retry,
    71 INVALID_FETCH_SESSION_EPOCH Retry,
    72 LISTENER_NOT_FOUND Refresh,
    73 TOPIC_DELETION_DISABLED Fail,
    74 FENCED_LEADER_EPOCH Refresh,
    75 UNKNOWN_LEADER_EPOCH Retry,
    76 UNSUPPORTED_COMPRESSION_TYPE Fail NothingAppended,
    77 STALE_BROKER_EPOCH Fail,
    78 OFFSET_NOT_AVAILABLE Retry,
    79 MEMBER_ID_REQUIRED Fail,
    80 PREFERRED_LEADER_NOT_AVAILABLE Refresh,
    81 GROUP_MAX_SIZE_REACHED Fail,
    82 FENCED_INSTANCE_ID Fail NotMember,
    83 ELIGIBLE_LEADERS_NOT_AVAILABLE Refresh,
    84 ELECTION_NOT_NEEDED Refresh,
    85 NO_REASSIGNMENT_IN_PROGRESS Fail,
    86 GROUP_SUBSCRIBED_TO_TOPIC Fail,
    87 INVALID_RECORD Fail NothingAppended InvalidRecords,
    88 UNSTABLE_OFFSET_COMMIT Retry,
    89 THROTTLING_QUOTA_EXCEEDED Retry,
    90 PRODUCER_FENCED Fail NothingAppended,
    91 RESOURCE_NOT_FOUND Fail,
    92 DUPLICATE_RESOURCE Fail,
    93 UNACCEPTABLE_CREDENTIAL Fail,
    94 INCONSISTENT_VOTER_SET Fail,
    95 INVALID_UPDATE_VERSION Fail,
    96 FEATURE_UPDATE_FAILED Fail,
    97 PRINCIPAL_DESERIALIZATION_FAILURE Fail,
    98 SNAPSHOT_NOT_FOUND Fail,
    99 POSITION_OUT_OF_RANGE Fail,
    100 UNKNOWN_TOPIC_ID Refresh UnknownTopic NothingAppended,
    101 DUPLICATE_BROKER_REGISTRATION Fail,
    102 BROKER_ID_NOT_REGISTERED Fail,
    103 INCONSISTENT_TOPIC_ID Refresh,
    104 INCONSISTENT_CLUSTER_ID Fail,
    105 TRANSACTIONAL_ID_NOT_FOUND Fail,
    106 FETCH_SESSION_TOPIC_ID_ERROR Retry,
    107 INELIGIBLE_REPLICA Fail,
    108 NEW_LEADER_ELECTED Fail,
    109 OFFSET_MOVED_TO_TIERED_STORAGE Fail,
    110 FENCED_MEMBER_EPOCH Fail NotMember,
    111 UNRELEASED_INSTANCE_ID Fail,
    112 UNSUPPORTED_ASSIGNOR Fail,
    113 STALE_MEMBER_EPOCH Fail Rebalancing,
    114 MISMATCHED_ENDPOINT_TYPE Fail,
    115 UNSUPPORTED_ENDPOINT_TYPE Fail,
    116 UNKNOWN_CONTROLLER_ID Fail,
    117 UNKNOWN_SUBSCRIPTION_ID Fail,
    118 TELEMETRY_TOO_LARGE Fail,
    119 INVALID_REGISTRATION Fail,
    120 TRANSACTION_ABORTABLE Fail,
    121 INVALID_RECORD_STATE Fail,
    122 SHARE_SESSION_NOT_FOUND Retry,
    123 INVALID_SHARE_SESSION_EPOCH Retry,
    124 FENCED_STATE_EPOCH Fail,
    125 INVALID_VOTER_KEY Fail,
    126 DUPLICATE_VOTER Fail,
    127 VOTER_NOT_FOUND Fail,
    128 INVALID_REGULAR_EXPRESSION Fail,
    129 REBOOTSTRAP_REQUIRED Fail,
    130 STREAMS_INVALID_TOPOLOGY Fail,
    131 STREAMS_INVALID_TOPOLOGY_EPOCH Fail,
    132 STREAMS_TOPOLOGY_FENCED Fail,
    133 SHARE_SESSION_LIMIT_REACHED Retry,
    134 GROUP_DELETION_FAILED Fail,
    135 STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED Fail,
    136 CONTROLLER_ID_NOT_REGISTERED Fail,
}
