//! The versions of Kafka that the cluster can be.
//!
//! One row for each: the format of its log, and the APIs that it advertises, which were read from the real broker. What
//! a row does not have, the cluster refuses like that broker. Where else an API depends on the version, its file
//! compares [`KafkaVersion`]s, which are in order.
//!
//! Not here: that Kafka 0.8.2 and 0.9 take some requests of a version that they do not know for one of the newest that
//! they know, and that `OffsetCommit` and `OffsetFetch` v0 have a store of their own.

use std::fmt;
use std::str::FromStr;

use kavka_core::wire::api::ApiKey;
use kavka_core::wire::records::Format;

use crate::sasl::SaslMechanism;

macro_rules! profiles {
    ($(
        $(#[$about:meta])* $version:ident $name:literal $format:ident $session:literal:
        $($key:ident $first:literal-$last:literal),*;
    )*) => {
        /// A version of Kafka to be. Its patch releases do not differ in what it is about here.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub enum KafkaVersion {
            $($(#[$about])* $version,)*
        }

        impl KafkaVersion {
            /// All versions, from the oldest to the newest.
            pub const ALL: &[Self] = &[$(Self::$version),*];

            fn profile(self) -> &'static Profile {
                match self {
                    $(Self::$version => &Profile {
                        name: $name,
                        format: Format::$format,
                        max_session_timeout_ms: $session,
                        apis: &[$((ApiKey::$key, $first, $last)),*],
                    },)*
                }
            }
        }
    };
}

/// What a version has.
struct Profile {
    name: &'static str,
    /// The format in which it stores records.
    format: Format,
    /// The longest session timeout of a member (Kafka: `group.max.session.timeout.ms`).
    max_session_timeout_ms: i32,
    /// The first and the last version of each API.
    apis: &'static [(ApiKey, i16, i16)],
}

// The name, the format of the log, the longest session timeout, and the versions of each API.
profiles! {
    /// Consumers commit offsets, and there are no groups. It hangs up on what it does not know.
    V0_8_2 "0.8.2" V0 30_000:
        Produce 0-0, Fetch 0-0, ListOffsets 0-0, Metadata 0-0, OffsetCommit 0-1, OffsetFetch 0-1,
        FindCoordinator 0-0;
    /// Groups. It does not answer what it does not know.
    V0_9 "0.9" V0 30_000:
        Produce 0-1, Fetch 0-1, ListOffsets 0-0, Metadata 0-0, OffsetCommit 0-2, OffsetFetch 0-1,
        FindCoordinator 0-0, JoinGroup 0-0, Heartbeat 0-0, LeaveGroup 0-0, SyncGroup 0-0, DescribeGroups 0-0,
        ListGroups 0-0;
    /// Timestamps, offsets in compressed messages that are relative, `ApiVersions`, SASL.
    V0_10_0 "0.10.0" V1 300_000:
        Produce 0-2, Fetch 0-2, ListOffsets 0-0, Metadata 0-1, OffsetCommit 0-2, OffsetFetch 0-1,
        FindCoordinator 0-0, JoinGroup 0-0, Heartbeat 0-0, LeaveGroup 0-0, SyncGroup 0-0, DescribeGroups 0-0,
        ListGroups 0-0, SaslHandshake 0-0, ApiVersions 0-0;
    /// Creating topics, offsets by time.
    V0_10_2 "0.10.2" V1 300_000:
        Produce 0-2, Fetch 0-3, ListOffsets 0-1, Metadata 0-2, OffsetCommit 0-2, OffsetFetch 0-2,
        FindCoordinator 0-0, JoinGroup 0-1, Heartbeat 0-0, LeaveGroup 0-0, SyncGroup 0-0, DescribeGroups 0-0,
        ListGroups 0-0, SaslHandshake 0-0, ApiVersions 0-0, CreateTopics 0-1, DeleteTopics 0-0;
    /// Record batches, headers, idempotent producers.
    V0_11 "0.11" V2 300_000:
        Produce 0-3, Fetch 0-5, ListOffsets 0-2, Metadata 0-4, OffsetCommit 0-3, OffsetFetch 0-3,
        FindCoordinator 0-1, JoinGroup 0-2, Heartbeat 0-1, LeaveGroup 0-1, SyncGroup 0-1, DescribeGroups 0-1,
        ListGroups 0-1, SaslHandshake 0-0, ApiVersions 0-1, CreateTopics 0-2, DeleteTopics 0-1, DeleteRecords 0-0,
        InitProducerId 0-0, OffsetForLeaderEpoch 0-0, DescribeConfigs 0-0;
    /// Fetch sessions, SASL in requests.
    V1_1 "1.1" V2 300_000:
        Produce 0-5, Fetch 0-7, ListOffsets 0-2, Metadata 0-5, OffsetCommit 0-3, OffsetFetch 0-3,
        FindCoordinator 0-1, JoinGroup 0-2, Heartbeat 0-1, LeaveGroup 0-1, SyncGroup 0-1, DescribeGroups 0-1,
        ListGroups 0-1, SaslHandshake 0-1, ApiVersions 0-1, CreateTopics 0-2, DeleteTopics 0-1, DeleteRecords 0-0,
        InitProducerId 0-0, OffsetForLeaderEpoch 0-0, DescribeConfigs 0-1, SaslAuthenticate 0-0,
        CreatePartitions 0-0, DeleteGroups 0-0;
    /// Leader epochs of clients, zstd.
    V2_1 "2.1" V2 300_000:
        Produce 0-7, Fetch 0-10, ListOffsets 0-4, Metadata 0-7, OffsetCommit 0-6, OffsetFetch 0-5,
        FindCoordinator 0-2, JoinGroup 0-3, Heartbeat 0-2, LeaveGroup 0-2, SyncGroup 0-2, DescribeGroups 0-2,
        ListGroups 0-2, SaslHandshake 0-1, ApiVersions 0-2, CreateTopics 0-3, DeleteTopics 0-3, DeleteRecords 0-1,
        InitProducerId 0-1, OffsetForLeaderEpoch 0-2, DescribeConfigs 0-2, SaslAuthenticate 0-0,
        CreatePartitions 0-1, DeleteGroups 0-1;
    /// Static members, topic ids in metadata.
    V2_8 "2.8" V2 1_800_000:
        Produce 0-9, Fetch 0-12, ListOffsets 0-6, Metadata 0-11, OffsetCommit 0-8, OffsetFetch 0-7,
        FindCoordinator 0-3, JoinGroup 0-7, Heartbeat 0-4, LeaveGroup 0-4, SyncGroup 0-5, DescribeGroups 0-5,
        ListGroups 0-4, SaslHandshake 0-1, ApiVersions 0-3, CreateTopics 0-7, DeleteTopics 0-6, DeleteRecords 0-2,
        InitProducerId 0-4, OffsetForLeaderEpoch 0-4, DescribeConfigs 0-4, SaslAuthenticate 0-2,
        CreatePartitions 0-3, DeleteGroups 0-2, IncrementalAlterConfigs 0-1, OffsetDelete 0-0;
    /// Topic ids in fetches, new leaders in responses.
    V3_9 "3.9" V2 1_800_000:
        Produce 0-11, Fetch 0-17, ListOffsets 0-9, Metadata 0-12, OffsetCommit 0-9, OffsetFetch 0-9,
        FindCoordinator 0-6, JoinGroup 0-9, Heartbeat 0-4, LeaveGroup 0-5, SyncGroup 0-5, DescribeGroups 0-5,
        ListGroups 0-5, SaslHandshake 0-1, ApiVersions 0-4, CreateTopics 0-7, DeleteTopics 0-6, DeleteRecords 0-2,
        InitProducerId 0-5, OffsetForLeaderEpoch 0-4, DescribeConfigs 0-4, SaslAuthenticate 0-2,
        CreatePartitions 0-3, DeleteGroups 0-2, IncrementalAlterConfigs 0-1, OffsetDelete 0-0,
        ConsumerGroupHeartbeat 0-0, ConsumerGroupDescribe 0-0;
    /// Groups in which the coordinator assigns (KIP-848). Old versions of requests are gone.
    #[default]
    V4_4 "4.4" V2 1_800_000:
        Produce 0-13, Fetch 4-18, ListOffsets 1-11, Metadata 0-13, OffsetCommit 2-10, OffsetFetch 1-10,
        FindCoordinator 0-6, JoinGroup 0-9, Heartbeat 0-4, LeaveGroup 0-5, SyncGroup 0-5, DescribeGroups 0-6,
        ListGroups 0-5, SaslHandshake 0-1, ApiVersions 0-5, CreateTopics 2-7, DeleteTopics 1-6, DeleteRecords 0-2,
        InitProducerId 0-5, OffsetForLeaderEpoch 2-4, DescribeConfigs 1-4, SaslAuthenticate 0-2,
        CreatePartitions 0-3, DeleteGroups 0-3, IncrementalAlterConfigs 0-1, OffsetDelete 0-0,
        ConsumerGroupHeartbeat 0-1, ConsumerGroupDescribe 0-1;
}

impl KafkaVersion {
    /// Its name, like `0.8.2`.
    pub fn name(self) -> &'static str {
        self.profile().name
    }

    /// The format in which it stores records.
    pub(crate) fn format(self) -> Format {
        self.profile().format
    }

    /// The longest session timeout of a member, in milliseconds.
    pub(crate) fn max_session_timeout_ms(self) -> i32 {
        self.profile().max_session_timeout_ms
    }

    /// The APIs that it has, with the first and the last version of each.
    pub fn apis(self) -> &'static [(ApiKey, i16, i16)] {
        self.profile().apis
    }

    /// The first and the last version of an API, if it has the API.
    pub fn versions(self, key: ApiKey) -> Option<(i16, i16)> {
        self.apis().iter().find(|(known, ..)| *known == key).map(|(_, first, last)| (*first, *last))
    }

    /// Whether its brokers can speak TLS.
    pub fn has_tls(self) -> bool {
        self >= Self::V0_9
    }

    /// Whether its brokers support a SASL mechanism.
    pub fn has_mechanism(self, mechanism: SaslMechanism) -> bool {
        let since = match mechanism {
            SaslMechanism::Plain => Self::V0_10_0,
            SaslMechanism::ScramSha256 | SaslMechanism::ScramSha512 => Self::V0_10_2,
            SaslMechanism::OAuthBearer => Self::V2_1,
        };
        self >= since
    }
}

impl fmt::Display for KafkaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A version that is none of [`KafkaVersion::ALL`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownVersion(String);

impl fmt::Display for UnknownVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = KafkaVersion::ALL.iter().map(|version| version.name()).collect::<Vec<_>>().join(", ");
        write!(f, "the embedded broker cannot be Kafka {:?}; it can be {known}", self.0)
    }
}

impl std::error::Error for UnknownVersion {}

/// Takes also a patch release, like `0.9.0.1`.
impl FromStr for KafkaVersion {
    type Err = UnknownVersion;

    fn from_str(text: &str) -> Result<Self, UnknownVersion> {
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let is_it = |version: &Self| {
            let patch = text.strip_prefix(version.name());
            patch.is_some_and(|patch| {
                patch.is_empty() || patch.strip_prefix('.').is_some_and(|patch| patch.split('.').all(is_number))
            })
        };
        Self::ALL.iter().copied().find(is_it).ok_or_else(|| UnknownVersion(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_is_found_by_its_name_and_by_that_of_a_patch_release() {
        for version in KafkaVersion::ALL {
            assert_eq!(version.name().parse(), Ok(*version));
            assert_eq!(format!("{version}.7").parse(), Ok(*version));
        }
        assert_eq!("0.9.0.1".parse(), Ok(KafkaVersion::V0_9));
    }

    #[test]
    fn an_unknown_version_is_refused_with_the_names_of_those_that_are_known() {
        for text in ["", "0.9.", "0.9.x", "0.91", "0.10", "4", "5.0", "4.4.0-rc1", " 4.4"] {
            let error = text.parse::<KafkaVersion>().unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")) && error.contains("0.8.2, 0.9, 0.10.0"), "{error}");
        }
    }

    #[test]
    fn a_version_has_only_requests_that_can_be_read() {
        for version in KafkaVersion::ALL {
            for (key, first, last) in version.apis() {
                assert!(first <= last && key.versions().contains(first) && key.versions().contains(last), "{key:?}");
            }
        }
    }
}
