//! The API versions that a broker supports.

use std::collections::BTreeMap;

use crate::error::{Error, ErrorKind, Place, Result};
use crate::wire::api::ApiKey;
use crate::wire::messages::ApiVersionsResponse;

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
    pub fn choose(&self, key: ApiKey, ours: (i16, i16)) -> Result<i16> {
        let refuse = |why: String| {
            Err(Error::new(ErrorKind::Unsupported, why)
                .at(Place { api: Some((key.name(), ours.1)), ..Place::default() }))
        };
        let Some(&(min, max)) = self.ranges.get(&key.number()) else {
            let what =
                format!("the broker does not have the API {}, which came with Kafka {}", key.name(), came_with(key));
            return refuse(what);
        };
        if min > ours.1 || max < ours.0 {
            return refuse(format!(
                "no common version of {}: the broker speaks v{min} to v{max}, this client v{} to v{}",
                key.name(),
                ours.0,
                ours.1
            ));
        }
        Ok(max.min(ours.1))
    }

    /// Whether the broker named no API at all.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

/// The version of Kafka that brought an API.
fn came_with(key: ApiKey) -> &'static str {
    match key {
        ApiKey::Produce
        | ApiKey::Fetch
        | ApiKey::ListOffsets
        | ApiKey::Metadata
        | ApiKey::OffsetCommit
        | ApiKey::OffsetFetch
        | ApiKey::FindCoordinator => "0.8.2",
        ApiKey::JoinGroup
        | ApiKey::Heartbeat
        | ApiKey::LeaveGroup
        | ApiKey::SyncGroup
        | ApiKey::DescribeGroups
        | ApiKey::ListGroups => "0.9",
        ApiKey::SaslHandshake | ApiKey::ApiVersions => "0.10.0",
        ApiKey::CreateTopics | ApiKey::DeleteTopics => "0.10.1",
        ApiKey::DeleteRecords | ApiKey::InitProducerId | ApiKey::OffsetForLeaderEpoch | ApiKey::DescribeConfigs => {
            "0.11"
        }
        ApiKey::SaslAuthenticate | ApiKey::CreatePartitions => "1.0",
        ApiKey::DeleteGroups => "1.1",
        ApiKey::IncrementalAlterConfigs => "2.3",
        ApiKey::OffsetDelete => "2.4",
        ApiKey::ConsumerGroupHeartbeat | ApiKey::ConsumerGroupDescribe => "4.0",
    }
}
