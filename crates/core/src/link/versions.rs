//! The API versions that a broker supports.

use std::collections::BTreeMap;

use crate::error::{Error, ErrorKind, Place, Result};
use crate::wire::api::ApiKey;
use crate::wire::messages::ApiVersionsResponse;
use crate::wire::messages::join_group::STATIC_MEMBERS_SINCE;

/// The broker's response to `ApiVersions`, or what is assumed of a broker that does not have it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApiVersions {
    ranges: BTreeMap<i16, (i16, i16)>,
    /// Whether the broker could not be asked.
    is_assumed: bool,
}

impl ApiVersions {
    /// The version ranges in the response. A range with its minimum above its maximum is ignored.
    pub fn new(response: &ApiVersionsResponse) -> Self {
        let ranges = response
            .api_keys
            .iter()
            .filter(|api| api.min_version <= api.max_version)
            .map(|api| (api.api_key, (api.min_version, api.max_version)))
            .collect();
        Self { ranges, is_assumed: false }
    }

    /// These APIs, each from version 0 to the given one.
    pub(super) fn assumed(newest: impl Iterator<Item = (ApiKey, i16)>) -> Self {
        Self { ranges: newest.map(|(key, newest)| (key.number(), (0, newest))).collect(), is_assumed: true }
    }

    /// Whether the broker could not be asked, because it is older than Kafka 0.10.
    pub fn is_assumed(&self) -> bool {
        self.is_assumed
    }

    /// The newest version of `key` that both sides support; `ours` is this client's range.
    ///
    /// # Errors
    ///
    /// `Unsupported`; it names the feature that needs a newer broker.
    pub fn choose(&self, key: ApiKey, ours: (i16, i16)) -> Result<i16> {
        let known = self.ranges.get(&key.number()).copied();
        match known {
            Some((min, max)) if min <= ours.1 && max >= ours.0 => return Ok(max.min(ours.1)),
            _ => {}
        }
        let is_older = known.is_none_or(|(_, max)| max < ours.0);
        let error = match (feature(key, ours.0), known) {
            (Some((needs, since, hint)), _) if is_older => {
                let what = format!("{needs} a broker of Kafka {since} or newer, and this one is older");
                let error = Error::new(ErrorKind::Unsupported, what);
                hint.into_iter().fold(error, Error::with_hint)
            }
            (_, Some((min, max))) => {
                let what = format!(
                    "no common version of {}: the broker speaks v{min} to v{max}, this client v{} to v{}",
                    key.name(),
                    ours.0,
                    ours.1
                );
                Error::new(ErrorKind::Unsupported, what)
            }
            (_, None) => {
                let what = format!("the broker does not have the API {}, which every broker of Kafka has", key.name());
                Error::new(ErrorKind::Unsupported, what)
            }
        };
        Err(error.at(Place { api: Some((key.name(), ours.1)), ..Place::default() }))
    }

    /// Whether the broker named no API at all.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

/// What a user misses if a broker does not have an API, or only versions older than `min_version`; the version of Kafka
/// that brought it, and what does without it. `None` for the APIs that all brokers have.
fn feature(key: ApiKey, min_version: i16) -> Option<(&'static str, &'static str, Option<&'static str>)> {
    let (needs, since, hint) = match key {
        ApiKey::Produce
        | ApiKey::Fetch
        | ApiKey::ListOffsets
        | ApiKey::Metadata
        | ApiKey::OffsetCommit
        | ApiKey::OffsetFetch
        | ApiKey::FindCoordinator => return None,
        ApiKey::JoinGroup if min_version >= STATIC_MEMBERS_SINCE => {
            ("group.instance.id needs", "2.3", "leave out group.instance.id")
        }
        ApiKey::JoinGroup | ApiKey::Heartbeat | ApiKey::LeaveGroup | ApiKey::SyncGroup => {
            let hint = "read certain partitions without joining a group, or, in Python, share them through ZooKeeper \
                        (zookeeper_hosts)";
            ("consumer groups need", "0.9", hint)
        }
        ApiKey::DescribeGroups | ApiKey::ListGroups => ("listing and describing groups needs", "0.9", ""),
        ApiKey::SaslHandshake => ("SASL needs", "0.10", ""),
        ApiKey::ApiVersions => ("asking for versions needs", "0.10", ""),
        ApiKey::CreateTopics => {
            let hint = "write to the topic, which creates it if auto.create.topics.enable is set, or use Kafka's tool";
            ("creating topics needs", "0.10.1", hint)
        }
        ApiKey::DeleteTopics => ("deleting topics needs", "0.10.1", "use Kafka's tool"),
        ApiKey::DeleteRecords => ("deleting records needs", "0.11", ""),
        ApiKey::InitProducerId => ("producer ids need", "0.11", "leave out enable.idempotence, or set it to false"),
        ApiKey::OffsetForLeaderEpoch => ("looking for truncated logs needs", "0.11", ""),
        ApiKey::DescribeConfigs => ("describing settings needs", "0.11", ""),
        ApiKey::SaslAuthenticate => ("errors of SASL need", "1.0", ""),
        ApiKey::CreatePartitions => ("adding partitions needs", "1.0", "use Kafka's tool"),
        ApiKey::DeleteGroups => ("deleting groups needs", "1.1", ""),
        ApiKey::IncrementalAlterConfigs => ("changing single settings needs", "2.3", "use Kafka's tool"),
        ApiKey::OffsetDelete => ("deleting offsets of a group needs", "2.4", ""),
        ApiKey::ConsumerGroupHeartbeat => {
            ("group.protocol=consumer needs", "4.0", "set group.protocol to classic, or to auto")
        }
        ApiKey::ConsumerGroupDescribe => ("describing groups with group.protocol=consumer needs", "4.0", ""),
    };
    Some((needs, since, (!hint.is_empty()).then_some(hint)))
}
