//! The API versions that a broker supports.

use std::collections::BTreeMap;

use crate::error::{Error, ErrorKind, Place, Result};
use crate::wire::api::ApiKey;
use crate::wire::messages::ApiVersionsResponse;

/// The broker's response to `ApiVersions`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApiVersions {
    ranges: BTreeMap<i16, (i16, i16)>,
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
        Self { ranges }
    }

    /// The newest version of `key` that both sides support; `ours` is this client's range.
    pub fn choose(&self, key: ApiKey, ours: (i16, i16)) -> Result<i16> {
        let refuse = |why: String| {
            Err(Error::new(ErrorKind::Unsupported, why)
                .at(Place { api: Some((key.name(), ours.1)), ..Place::default() }))
        };
        let Some(&(min, max)) = self.ranges.get(&key.number()) else {
            return refuse(format!("the broker does not have the API {}", key.name()));
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
