//! The settings that `DescribeConfigs` returns, and `CreateTopics` and `IncrementalAlterConfigs` accept, with Kafka's
//! names and defaults.
//!
//! Only the settings that have a constant here have an effect; the others are stored and shown.

use std::collections::BTreeMap;

use kavka_core::wire::error_code::ErrorCode;

/// The settings of a topic or a group that are not at their default, by Kafka's names.
pub(crate) type Configs = BTreeMap<String, String>;

/// One setting.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) default: &'static str,
    /// Kafka's number of its type: 1 boolean, 2 string, 3 int, 5 long, 6 double, 7 list.
    pub(crate) config_type: i8,
}

const fn setting(name: &'static str, default: &'static str, config_type: i8) -> Setting {
    Setting { name, default, config_type }
}

/// With `LogAppendTime`, appended records get the broker's time instead of the producer's.
pub(crate) const MESSAGE_TIMESTAMP_TYPE: &str = "message.timestamp.type";
/// The largest batch, in bytes.
pub(crate) const MAX_MESSAGE_BYTES: &str = "max.message.bytes";
/// With `acks=all`, a write is refused while fewer replicas than this are up.
pub(crate) const MIN_INSYNC_REPLICAS: &str = "min.insync.replicas";
/// The size above which the oldest batches of a partition are deleted; -1: no limit.
pub(crate) const RETENTION_BYTES: &str = "retention.bytes";

/// The settings of a topic.
pub(crate) const TOPIC: &[Setting] = &[
    setting("cleanup.policy", "delete", 7),
    setting("compression.type", "producer", 2),
    setting("delete.retention.ms", "86400000", 5),
    setting("file.delete.delay.ms", "60000", 5),
    setting("flush.messages", "9223372036854775807", 5),
    setting("flush.ms", "9223372036854775807", 5),
    setting("index.interval.bytes", "4096", 3),
    setting("local.retention.bytes", "-2", 5),
    setting("local.retention.ms", "-2", 5),
    setting("max.compaction.lag.ms", "9223372036854775807", 5),
    setting(MAX_MESSAGE_BYTES, "1048588", 3),
    setting("message.timestamp.after.max.ms", "3600000", 5),
    setting("message.timestamp.before.max.ms", "9223372036854775807", 5),
    setting(MESSAGE_TIMESTAMP_TYPE, "CreateTime", 2),
    setting("min.cleanable.dirty.ratio", "0.5", 6),
    setting("min.compaction.lag.ms", "0", 5),
    setting(MIN_INSYNC_REPLICAS, "1", 3),
    setting("preallocate", "false", 1),
    setting("remote.storage.enable", "false", 1),
    setting(RETENTION_BYTES, "-1", 5),
    setting("retention.ms", "604800000", 5),
    setting("segment.bytes", "1073741824", 3),
    setting("segment.index.bytes", "10485760", 3),
    setting("segment.jitter.ms", "0", 5),
    setting("segment.ms", "604800000", 5),
    setting("unclean.leader.election.enable", "false", 1),
];

/// After this long without a heartbeat, a member of a consumer group is removed, in milliseconds.
pub(crate) const CONSUMER_SESSION_TIMEOUT_MS: &str = "consumer.session.timeout.ms";
/// How often members of a consumer group send heartbeats, in milliseconds.
pub(crate) const CONSUMER_HEARTBEAT_INTERVAL_MS: &str = "consumer.heartbeat.interval.ms";

/// The settings of a group.
///
/// Kafka's default interval is 5 s. Members move to their shares by heartbeats, and whoever embeds a broker does not
/// want to wait for that.
pub(crate) const GROUP: &[Setting] =
    &[setting(CONSUMER_HEARTBEAT_INTERVAL_MS, "1000", 3), setting(CONSUMER_SESSION_TIMEOUT_MS, "45000", 3)];

/// The bounds of a group's session timeout and heartbeat interval. The upper ones are the defaults of Kafka's
/// `group.consumer.max.session.timeout.ms` and `group.consumer.max.heartbeat.interval.ms`; Kafka's lower ones, 45 s and
/// 5 s, would make every test of a session slow.
const CONSUMER_SESSION_TIMEOUT_BOUNDS: std::ops::RangeInclusive<u32> = 1_000..=60_000;
const CONSUMER_HEARTBEAT_INTERVAL_BOUNDS: std::ops::RangeInclusive<u32> = 100..=15_000;

/// The settings of a broker, except those taken from [`ClusterConfig`](crate::ClusterConfig).
pub(crate) const BROKER: &[Setting] = &[
    setting("log.cleanup.policy", "delete", 7),
    setting("log.retention.hours", "168", 3),
    setting("log.segment.bytes", "1073741824", 3),
    setting(MIN_INSYNC_REPLICAS, "1", 3),
    setting("offsets.topic.replication.factor", "1", 3),
    setting("socket.request.max.bytes", "104857600", 3),
    setting("unclean.leader.election.enable", "false", 1),
];

impl Setting {
    /// `INVALID_CONFIG` unless `value` has the setting's type.
    pub(crate) fn check(&self, value: &str) -> Result<(), (ErrorCode, &'static str)> {
        let is_of_type = match self.config_type {
            1 => matches!(value, "true" | "false"),
            3 => value.parse::<i32>().is_ok(),
            5 => value.parse::<i64>().is_ok(),
            6 => value.parse::<f64>().is_ok(),
            _ if self.name == MESSAGE_TIMESTAMP_TYPE => matches!(value, "CreateTime" | "LogAppendTime"),
            _ => true,
        };
        if is_of_type { Ok(()) } else { Err((ErrorCode::INVALID_CONFIG, "the value is not one of the setting's type")) }
    }

    /// Whether its value is a comma-separated list.
    pub(crate) fn is_list(&self) -> bool {
        self.config_type == 7
    }
}

/// The setting with this name, from [`TOPIC`] or [`GROUP`]; `INVALID_CONFIG` if there is none.
pub(crate) fn find(settings: &'static [Setting], name: &str) -> Result<&'static Setting, (ErrorCode, &'static str)> {
    let setting = settings.iter().find(|setting| setting.name == name);
    setting.ok_or((ErrorCode::INVALID_CONFIG, "there is no setting of that name"))
}

/// A number among a group's settings; `set` holds those that are not at their default.
pub(crate) fn group_number(set: &Configs, name: &str) -> u32 {
    let default = || GROUP.iter().find(|setting| setting.name == name).map(|setting| setting.default);
    let value = set.get(name).map(String::as_str).or_else(default);
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// `INVALID_CONFIG` unless a group's settings are within their bounds and fit together.
pub(crate) fn check_group(set: &Configs) -> Result<(), (ErrorCode, &'static str)> {
    let session_timeout_ms = group_number(set, CONSUMER_SESSION_TIMEOUT_MS);
    let heartbeat_interval_ms = group_number(set, CONSUMER_HEARTBEAT_INTERVAL_MS);
    let invalid = if !CONSUMER_SESSION_TIMEOUT_BOUNDS.contains(&session_timeout_ms) {
        "the session timeout is out of bounds"
    } else if !CONSUMER_HEARTBEAT_INTERVAL_BOUNDS.contains(&heartbeat_interval_ms) {
        "the heartbeat interval is out of bounds"
    } else if session_timeout_ms <= heartbeat_interval_ms {
        "the session timeout must be longer than the heartbeat interval"
    } else {
        return Ok(());
    };
    Err((ErrorCode::INVALID_CONFIG, invalid))
}
