//! `DescribeConfigs`: the settings of topics and brokers (KIP-133). A broker answers for itself, any broker for topics.

use kavka_derive::Message;

use crate::wire::error_code::ErrorCode;

/// Asks for the settings of some resources.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(request = "DescribeConfigs", response = DescribeConfigsResponse, versions = "0-4", flexible = 4)]
pub struct DescribeConfigsRequest {
    /// What to describe.
    pub resources: Vec<DescribeConfigsResource>,
    /// Whether to return the other places that set a value.
    #[kafka(since = 1)]
    pub include_synonyms: bool,
    /// Whether to return a description of each setting (KIP-569).
    #[kafka(since = 3)]
    pub include_documentation: bool,
}

/// One topic, broker or other resource.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DescribeConfigsResource {
    /// 2 for a topic, 4 for a broker, 8 for a broker's loggers.
    pub resource_type: i8,
    /// A topic's name or a broker's id.
    pub resource_name: String,
    /// The settings to return; `None`: all.
    #[kafka(nullable = 0)]
    pub configuration_keys: Option<Vec<String>>,
}

/// The settings of each resource.
#[derive(Debug, Clone, PartialEq, Message)]
#[kafka(versions = "0-4", flexible = 4)]
pub struct DescribeConfigsResponse {
    /// How long the client must send nothing on this connection because of a quota, in milliseconds (KIP-219).
    pub throttle_time_ms: i32,
    /// One entry per resource.
    pub results: Vec<DescribeConfigsResult>,
}

/// The settings of one resource.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DescribeConfigsResult {
    /// The error, or `NONE`.
    pub error_code: ErrorCode,
    /// The broker's error message, if it sends one.
    #[kafka(nullable = 0)]
    pub error_message: Option<String>,
    /// 2 for a topic, 4 for a broker, 8 for a broker's loggers.
    pub resource_type: i8,
    /// A topic's name or a broker's id.
    pub resource_name: String,
    /// One entry per setting.
    pub configs: Vec<DescribeConfigsResourceResult>,
}

/// One setting.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DescribeConfigsResourceResult {
    /// The setting's name.
    pub name: String,
    /// The value; `None` if unset or, in a response, sensitive.
    #[kafka(nullable = 0)]
    pub value: Option<String>,
    /// Whether it cannot be changed while the broker runs.
    pub read_only: bool,
    /// Whether the value is the default; version 0 only, `config_source` since.
    #[kafka(until = 0)]
    pub is_default: bool,
    /// Where the value comes from: 1 topic, 2 one broker, 3 all brokers, 4 the broker's file, 5 the default (KIP-226).
    #[kafka(since = 1, ignorable)]
    pub config_source: Option<i8>,
    /// Whether it is a secret, whose value is never returned.
    pub is_sensitive: bool,
    /// All places that set a value; the effective one comes first.
    #[kafka(since = 1, ignorable)]
    pub synonyms: Vec<DescribeConfigsSynonym>,
    /// 1 boolean, 2 string, 3 int, 4 short, 5 long, 6 double, 7 list, 8 class, 9 password; 0 unknown (KIP-569).
    #[kafka(since = 3, ignorable)]
    pub config_type: i8,
    /// Its description, if requested.
    #[kafka(since = 3, nullable = 0, ignorable)]
    pub documentation: Option<String>,
}

/// A place that sets a value (KIP-226).
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DescribeConfigsSynonym {
    /// The name of the setting in that place.
    #[kafka(since = 1)]
    pub name: String,
    /// The value; `None` if unset or, in a response, sensitive.
    #[kafka(since = 1, nullable = 0)]
    pub value: Option<String>,
    /// The place, with the numbers of `config_source`.
    #[kafka(since = 1)]
    pub source: i8,
}
