//! `DescribeConfigs` v0-4: the settings of topics, brokers and groups.
//!
//! Not here: synonyms, documentation, loggers and client metrics.

use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::messages::describe_configs::{
    DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResult,
};
use kavka_core::wire::messages::{DescribeConfigsRequest, DescribeConfigsResponse};

use super::{Answer, Context, Handle};
use crate::configs::{self, Configs, Setting};
use crate::state::State;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const GROUP: i8 = 32;

/// Kafka's `ConfigSource` numbers.
const SET_FOR_TOPIC: i8 = 1;
const SET_AT_START: i8 = 4;
const DEFAULT: i8 = 5;
const SET_FOR_GROUP: i8 = 8;

impl Handle for DescribeConfigsRequest {
    fn handle(self, state: &mut State, context: &Context) -> Answer<DescribeConfigsResponse> {
        let mut results: Vec<_> = self.resources.iter().map(|resource| describe(state, resource)).collect();
        for setting in results.iter_mut().flat_map(|result| &mut result.configs) {
            setting.is_default = context.version() == 0 && setting.config_source == Some(DEFAULT);
        }
        DescribeConfigsResponse { results, ..DescribeConfigsResponse::default() }.into()
    }

    fn refuse(&self, error_code: ErrorCode) -> DescribeConfigsResponse {
        let results = self.resources.iter().map(|resource| answer(resource, Err(error_code))).collect();
        DescribeConfigsResponse { results, ..DescribeConfigsResponse::default() }
    }
}

fn describe(state: &State, resource: &DescribeConfigsResource) -> DescribeConfigsResult {
    let name = resource.resource_name.as_str();
    let is_asked =
        |setting: &str| resource.configuration_keys.as_ref().is_none_or(|keys| keys.iter().any(|key| key == setting));
    let shown = match resource.resource_type {
        TOPIC => match state.topic(name) {
            None => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            Some(topic) => Ok(show_all(configs::TOPIC, &topic.configs, SET_FOR_TOPIC)),
        },
        GROUP if name.is_empty() => Err(ErrorCode::INVALID_REQUEST),
        GROUP => Ok(show_all(configs::GROUP, state.groups.configs(name), SET_FOR_GROUP)),
        BROKER => match name.parse() {
            Ok(broker_id) if state.is_up(broker_id) => Ok(broker_settings(state, broker_id)),
            _ => Err(ErrorCode::INVALID_REQUEST),
        },
        _ => Err(ErrorCode::INVALID_REQUEST),
    };
    let shown = shown.map(|mut shown: Vec<DescribeConfigsResourceResult>| {
        shown.retain(|setting| is_asked(&setting.name));
        shown
    });
    answer(resource, shown)
}

fn answer(
    resource: &DescribeConfigsResource,
    shown: Result<Vec<DescribeConfigsResourceResult>, ErrorCode>,
) -> DescribeConfigsResult {
    let error_code = shown.as_ref().err().copied().unwrap_or(ErrorCode::NONE);
    DescribeConfigsResult {
        error_code,
        error_message: None,
        resource_type: resource.resource_type,
        resource_name: resource.resource_name.clone(),
        configs: shown.unwrap_or_default(),
    }
}

/// All of these settings; `source` is that of those in `set`, and the others are at their default.
fn show_all(settings: &[Setting], set: &Configs, source: i8) -> Vec<DescribeConfigsResourceResult> {
    let show = |setting: &Setting| match set.get(setting.name) {
        Some(value) => show(setting, value, source),
        None => show(setting, setting.default, DEFAULT),
    };
    settings.iter().map(show).collect()
}

fn show(setting: &Setting, value: &str, source: i8) -> DescribeConfigsResourceResult {
    DescribeConfigsResourceResult {
        name: setting.name.to_owned(),
        value: Some(value.to_owned()),
        config_source: Some(source),
        config_type: setting.config_type,
        ..DescribeConfigsResourceResult::default()
    }
}

fn broker_settings(state: &State, broker_id: i32) -> Vec<DescribeConfigsResourceResult> {
    let config = &state.config;
    let decided = [
        ("auto.create.topics.enable", config.auto_create_topics.to_string(), 1),
        ("broker.id", broker_id.to_string(), 3),
        ("default.replication.factor", config.default_replication_factor.to_string(), 3),
        ("message.max.bytes", config.message_max_bytes.to_string(), 3),
        ("num.partitions", config.default_partitions.to_string(), 3),
    ];
    let decided = decided.into_iter().map(|(name, value, config_type)| {
        let setting = Setting { name, default: "", config_type };
        DescribeConfigsResourceResult { read_only: true, ..show(&setting, &value, SET_AT_START) }
    });
    decided.chain(configs::BROKER.iter().map(|setting| show(setting, setting.default, DEFAULT))).collect()
}
