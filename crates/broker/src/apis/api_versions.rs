//! `ApiVersions` v0-5: the APIs that the cluster's version of Kafka advertises.
//!
//! An unsupported version of `ApiVersions` is answered with `UNSUPPORTED_VERSION` in v0 (KIP-511). A client that
//! expects another cluster or broker gets `REBOOTSTRAP_REQUIRED` (KIP-1242).
//!
//! Not here: finalized features.

use kavka_core::wire::api::{ApiKey, RequestHeader};
use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::messages::api_versions::ApiVersion;
use kavka_core::wire::messages::{ApiVersionsRequest, ApiVersionsResponse};

use super::{Answer, Context, Handle};
use crate::KafkaVersion;
use crate::state::State;

/// Whether the version of a request is supported.
pub(crate) fn speaks(kafka_version: KafkaVersion, header: &RequestHeader) -> bool {
    let versions = kafka_version.versions(header.key);
    versions.is_some_and(|(first, last)| (first..=last).contains(&header.version))
}

fn is_software_word(word: &str) -> bool {
    let is_edge = |c: char| c.is_ascii_alphanumeric();
    word.starts_with(is_edge) && word.ends_with(is_edge) && word.chars().all(|c| is_edge(c) || c == '-' || c == '.')
}

impl Handle for ApiVersionsRequest {
    fn handle(self, state: &mut State, context: &Context) -> Answer<ApiVersionsResponse> {
        let is_named = is_software_word(&self.client_software_name) && is_software_word(&self.client_software_version);
        if context.version() >= 3 && !is_named {
            return self.refuse(ErrorCode::INVALID_REQUEST).into();
        }
        let is_elsewhere = self.cluster_id.as_ref().is_some_and(|expected| *expected != state.config.cluster_id)
            || self.node_id.is_some_and(|expected| expected != context.broker_id);
        if is_elsewhere {
            return self.refuse(ErrorCode::REBOOTSTRAP_REQUIRED).into();
        }
        let api_keys = state.config.kafka_version.apis().iter().copied().map(describe).collect();
        if let Some(authentication) = &mut state.authentication {
            authentication.handle_versions(context.connection);
        }
        ApiVersionsResponse { api_keys, ..ApiVersionsResponse::default() }.into()
    }

    fn refuse(&self, error_code: ErrorCode) -> ApiVersionsResponse {
        let api_keys = own_versions(KafkaVersion::default());
        ApiVersionsResponse { error_code, api_keys, ..ApiVersionsResponse::default() }
    }
}

/// The versions of `ApiVersions` in an error response, so that the client can ask again.
pub(crate) fn own_versions(kafka_version: KafkaVersion) -> Vec<ApiVersion> {
    kafka_version.apis().iter().copied().filter(|(key, ..)| *key == ApiKey::ApiVersions).map(describe).collect()
}

fn describe((key, min_version, max_version): (ApiKey, i16, i16)) -> ApiVersion {
    ApiVersion { api_key: key.number(), min_version, max_version }
}
