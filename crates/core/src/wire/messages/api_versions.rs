//! DOC

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "ApiVersions", response = ApiVersionsResponse, versions = "0-5", flexible = 3)]
pub struct ApiVersionsRequest {
    /// DOC
    #[kafka(since = 3, ignorable)]
    pub client_software_name: String,
    /// DOC
    #[kafka(since = 3, ignorable)]
    pub client_software_version: String,
    /// DOC
    #[kafka(since = 5, nullable = 5, ignorable)]
    pub cluster_id: Option<String>,
    /// DOC
    #[kafka(since = 5, ignorable)]
    pub node_id: Option<i32>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-5", flexible = 3)]
pub struct ApiVersionsResponse {
    /// DOC
    pub error_code: ErrorCode,
    /// DOC
    pub api_keys: Vec<ApiVersion>,
    /// DOC
    #[kafka(since = 1, ignorable)]
    pub throttle_time_ms: i32,
    /// DOC
    #[kafka(since = 3, tag = 0, ignorable)]
    pub supported_features: Vec<SupportedFeatureKey>,
    /// DOC
    #[kafka(since = 3, tag = 1, ignorable)]
    pub finalized_features_epoch: Option<i64>,
    /// DOC
    #[kafka(since = 3, tag = 2, ignorable)]
    pub finalized_features: Vec<FinalizedFeatureKey>,
    /// DOC
    #[kafka(since = 3, tag = 3, ignorable)]
    pub zk_migration_ready: bool,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ApiVersion {
    /// DOC
    pub api_key: i16,
    /// DOC
    pub min_version: i16,
    /// DOC
    pub max_version: i16,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct SupportedFeatureKey {
    /// DOC
    #[kafka(since = 3)]
    pub name: String,
    /// DOC
    #[kafka(since = 3)]
    pub min_version: i16,
    /// DOC
    #[kafka(since = 3)]
    pub max_version: i16,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct FinalizedFeatureKey {
    /// DOC
    #[kafka(since = 3)]
    pub name: String,
    /// DOC
    #[kafka(since = 3)]
    pub max_version_level: i16,
    /// DOC
    #[kafka(since = 3)]
    pub min_version_level: i16,
}
