//! `ApiVersions`: the API versions that a broker supports (KIP-35, KIP-511), and its features (KIP-584).

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;

/// Asks for the versions that a broker supports; the first request on every connection.
///
/// A broker that does not know the version answers in version 0, with `UNSUPPORTED_VERSION` and its versions.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "ApiVersions", response = ApiVersionsResponse, versions = "0-5", flexible = 3)]
pub struct ApiVersionsRequest {
    /// The client's name, `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?` (KIP-511).
    #[kafka(since = 3, ignorable)]
    pub client_software_name: String,
    /// The client's version, of the same form.
    #[kafka(since = 3, ignorable)]
    pub client_software_version: String,
    /// The cluster that the client expects; a broker of another one refuses the request (KIP-1242).
    #[kafka(since = 5, nullable = 5, ignorable)]
    pub cluster_id: Option<String>,
    /// The broker id that the client expects; another broker refuses the request (KIP-1242).
    #[kafka(since = 5, ignorable)]
    pub node_id: Option<i32>,
}

/// The versions that the broker supports. Its header is always that of version 0 (KIP-511).
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-5", flexible = 3)]
pub struct ApiVersionsResponse {
    /// `UNSUPPORTED_VERSION` if the broker does not know the request's version.
    pub error_code: ErrorCode,
    /// The APIs that the broker supports.
    pub api_keys: Vec<ApiVersion>,
    /// How long the client must send nothing on this connection because of a quota, in milliseconds (KIP-219).
    #[kafka(since = 1, ignorable)]
    pub throttle_time_ms: i32,
    /// What the broker supports.
    #[kafka(since = 3, tag = 0, ignorable)]
    pub supported_features: Vec<SupportedFeatureKey>,
    /// Grows with every change of the finalized features; `None` if they are unknown.
    #[kafka(since = 3, tag = 1, ignorable)]
    pub finalized_features_epoch: Option<i64>,
    /// What the cluster agreed on. Valid only together with an epoch.
    #[kafka(since = 3, tag = 2, ignorable)]
    pub finalized_features: Vec<FinalizedFeatureKey>,
    /// Whether a `KRaft` controller can take over from ZooKeeper (KIP-866).
    #[kafka(since = 3, tag = 3, ignorable)]
    pub zk_migration_ready: bool,
}

/// The versions of one API.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ApiVersion {
    /// The API's number.
    pub api_key: i16,
    /// The lowest that is supported.
    pub min_version: i16,
    /// The highest that is supported.
    pub max_version: i16,
}

/// The levels of one feature that the broker supports (KIP-584).
#[derive(Debug, Clone, PartialEq, Message)]
pub struct SupportedFeatureKey {
    /// The feature's name.
    #[kafka(since = 3)]
    pub name: String,
    /// The lowest that is supported.
    #[kafka(since = 3)]
    pub min_version: i16,
    /// The highest that is supported.
    #[kafka(since = 3)]
    pub max_version: i16,
}

/// The levels of one feature that the whole cluster agreed on (KIP-584).
#[derive(Debug, Clone, PartialEq, Message)]
pub struct FinalizedFeatureKey {
    /// The feature's name.
    #[kafka(since = 3)]
    pub name: String,
    /// The highest level in use.
    #[kafka(since = 3)]
    pub max_version_level: i16,
    /// The lowest level in use.
    #[kafka(since = 3)]
    pub min_version_level: i16,
}
