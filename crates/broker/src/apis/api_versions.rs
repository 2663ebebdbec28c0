//! `ApiVersions` v0-5: the APIs and versions that this broker supports.
//!
//! An unsupported version of `ApiVersions` is answered with `UNSUPPORTED_VERSION` in v0 (KIP-511). For an unsupported
//! version of any other API the connection is closed. A client that expects another cluster or broker gets
//! `REBOOTSTRAP_REQUIRED` (KIP-1242).
//!
//! Not here: finalized features.

use kavka_core::wire::api::{ApiKey, RequestHeader};
use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::messages::api_versions::ApiVersion;
use kavka_core::wire::messages::{ApiVersionsRequest, ApiVersionsResponse};

use super::{Answer, Context, Handle};
use crate::state::State;

/// The versions of an API that this broker supports.
fn versions(key: ApiKey) -> (i16, i16) {
    let versions = key.versions();
    let first = match key {
        ApiKey::Fetch => 4,
        _ => *versions.start(),
    };
    (first, *versions.end())
}

/// Whether the version of a request is supported.
pub(crate) fn speaks(header: &RequestHeader) -> bool {
    let (first, last) = versions(header.key);
    (first..=last).contains(&header.version)
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
        let api_keys = ApiKey::ALL.iter().map(|key| describe(*key)).collect();
        if let Some(authentication) = &mut state.authentication {
            authentication.handle_versions(context.connection);
        }
        ApiVersionsResponse { api_keys, ..ApiVersionsResponse::default() }.into()
    }

    fn refuse(&self, error_code: ErrorCode) -> ApiVersionsResponse {
        ApiVersionsResponse { error_code, api_keys: own_versions(), ..ApiVersionsResponse::default() }
    }
}

/// The versions of `ApiVersions` in an error response, so that the client can ask again.
pub(crate) fn own_versions() -> Vec<ApiVersion> {
    vec![describe(ApiKey::ApiVersions)]
}

fn describe(key: ApiKey) -> ApiVersion {
    let (min_version, max_version) = versions(key);
    ApiVersion { api_key: key.number(), min_version, max_version }
}
