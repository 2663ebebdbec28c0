//! DOC

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "DescribeConfigs", response = DescribeConfigsResponse, versions = "0-4", flexible = 4)]
pub struct DescribeConfigsRequest {
    /// DOC
    pub resources: Vec<DescribeConfigsResource>,
    /// DOC
    #[kafka(since = 1)]
    pub include_synonyms: bool,
    /// DOC
    #[kafka(since = 3)]
    pub include_documentation: bool,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DescribeConfigsResource {
    /// DOC
    pub resource_type: i8,
    /// DOC
    pub resource_name: String,
    /// DOC
    #[kafka(nullable = 0)]
    pub configuration_keys: Option<Vec<String>>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-4", flexible = 4)]
pub struct DescribeConfigsResponse {
    /// DOC
    pub throttle_time_ms: i32,
    /// DOC
    pub results: Vec<DescribeConfigsResult>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DescribeConfigsResult {
    /// DOC
    pub error_code: ErrorCode,
    /// DOC
    #[kafka(nullable = 0)]
    pub error_message: Option<String>,
    /// DOC
    pub resource_type: i8,
    /// DOC
    pub resource_name: String,
    /// DOC
    pub configs: Vec<DescribeConfigsResourceResult>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DescribeConfigsResourceResult {
    /// DOC
    pub name: String,
    /// DOC
    #[kafka(nullable = 0)]
    pub value: Option<String>,
    /// DOC
    pub read_only: bool,
    /// DOC
    #[kafka(until = 0)]
    pub is_default: bool,
    /// DOC
    #[kafka(since = 1, ignorable)]
    pub config_source: Option<i8>,
    /// DOC
    pub is_sensitive: bool,
    /// DOC
    #[kafka(since = 1, ignorable)]
    pub synonyms: Vec<DescribeConfigsSynonym>,
    /// DOC
    #[kafka(since = 3, ignorable)]
    pub config_type: i8,
    /// DOC
    #[kafka(since = 3, nullable = 0, ignorable)]
    pub documentation: Option<String>,
}

/// DOC
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DescribeConfigsSynonym {
    /// DOC
    #[kafka(since = 1)]
    pub name: String,
    /// DOC
    #[kafka(since = 1, nullable = 0)]
    pub value: Option<String>,
    /// DOC
    #[kafka(since = 1)]
    pub source: i8,
}
