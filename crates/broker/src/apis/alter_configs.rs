//! `IncrementalAlterConfigs` v0-1: changes the settings of topics and groups.
//!
//! The changes to one resource are applied together or not at all. A group need not exist to have settings.
//!
//! Not here: broker settings, all of which are read-only; loggers and client metrics.

use std::collections::BTreeSet;

use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterConfigsResourceResponse, AlterableConfig,
};
use kavka_core::wire::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

use super::{Answer, Context, Handle};
use crate::configs::{self, Configs, Setting};
use crate::state::State;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const GROUP: i8 = 32;

/// Kafka's `AlterConfigOp` numbers.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

type Refusal = (ErrorCode, &'static str);

impl Handle for IncrementalAlterConfigsRequest {
    fn handle(self, state: &mut State, _: &Context) -> Answer<IncrementalAlterConfigsResponse> {
        let is_repeated = |resource: &AlterConfigsResource| {
            let is_same = |other: &&AlterConfigsResource| {
                (other.resource_type, &other.resource_name) == (resource.resource_type, &resource.resource_name)
            };
            self.resources.iter().filter(is_same).count() > 1
        };
        let answer = |resource: &AlterConfigsResource| {
            if is_repeated(resource) {
                return answer(resource, Err((ErrorCode::INVALID_REQUEST, "the request has the resource twice")));
            }
            answer(resource, alter(state, resource, self.validate_only))
        };
        let responses = self.resources.iter().map(answer).collect();
        IncrementalAlterConfigsResponse { responses, ..IncrementalAlterConfigsResponse::default() }.into()
    }

    fn refuse(&self, error_code: ErrorCode) -> IncrementalAlterConfigsResponse {
        let refuse = |resource| AlterConfigsResourceResponse { error_code, ..answer(resource, Ok(())) };
        let responses = self.resources.iter().map(refuse).collect();
        IncrementalAlterConfigsResponse { responses, ..IncrementalAlterConfigsResponse::default() }
    }
}

fn answer(resource: &AlterConfigsResource, altered: Result<(), Refusal>) -> AlterConfigsResourceResponse {
    let (error_code, error_message) = match altered {
        Ok(()) => (ErrorCode::NONE, None),
        Err((error_code, message)) => (error_code, Some(message.to_owned())),
    };
    AlterConfigsResourceResponse {
        error_code,
        error_message,
        resource_type: resource.resource_type,
        resource_name: resource.resource_name.clone(),
    }
}

fn alter(state: &mut State, resource: &AlterConfigsResource, validate_only: bool) -> Result<(), Refusal> {
    let name = resource.resource_name.as_str();
    let (settings, current) = match resource.resource_type {
        TOPIC => {
            let unknown = (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "there is no such topic");
            (configs::TOPIC, &mut state.topics.get_mut(name).ok_or(unknown)?.configs)
        }
        GROUP if name.is_empty() => return Err((ErrorCode::INVALID_REQUEST, "the group id is empty")),
        GROUP => (configs::GROUP, state.groups.configs_mut(name)),
        BROKER => return Err((ErrorCode::INVALID_REQUEST, "the settings of this broker cannot be changed")),
        _ => return Err((ErrorCode::INVALID_REQUEST, "only the settings of topics and groups can be changed")),
    };
    let names: BTreeSet<&str> = resource.configs.iter().map(|config| config.name.as_str()).collect();
    if names.len() < resource.configs.len() {
        return Err((ErrorCode::INVALID_REQUEST, "the request changes one setting twice"));
    }
    let mut set = current.clone();
    for config in &resource.configs {
        change(settings, &mut set, config)?;
    }
    if resource.resource_type == GROUP {
        configs::check_group(&set)?;
    }
    if !validate_only {
        *current = set;
    }
    Ok(())
}

/// Applies one change to `set`, the settings that are not at their default.
fn change(settings: &'static [Setting], set: &mut Configs, config: &AlterableConfig) -> Result<(), Refusal> {
    let setting = configs::find(settings, &config.name)?;
    if config.config_operation == DELETE {
        set.remove(&config.name);
        return Ok(());
    }
    let value = config.value.as_deref().ok_or((ErrorCode::INVALID_REQUEST, "the change has no value"))?;
    let current = set.get(&config.name).map_or(setting.default, String::as_str);
    let value = match config.config_operation {
        SET => value.to_owned(),
        APPEND | SUBTRACT => change_list(setting, current, value, config.config_operation == APPEND)?,
        _ => return Err((ErrorCode::INVALID_REQUEST, "there is no such operation")),
    };
    setting.check(&value)?;
    set.insert(config.name.clone(), value);
    Ok(())
}

/// The list `current` with `values` added, unless they are in it, or removed.
fn change_list(setting: &Setting, current: &str, values: &str, is_added: bool) -> Result<String, Refusal> {
    if !setting.is_list() {
        return Err((ErrorCode::INVALID_CONFIG, "only a list can be added to or taken from"));
    }
    let mut list: Vec<&str> = current.split(',').filter(|value| !value.is_empty()).collect();
    let values: Vec<&str> = values.split(',').map(str::trim).collect();
    if is_added {
        let new: Vec<&str> = values.into_iter().filter(|value| !list.contains(value)).collect();
        list.extend(new);
    } else {
        list.retain(|value| !values.contains(value));
    }
    Ok(list.join(","))
}
