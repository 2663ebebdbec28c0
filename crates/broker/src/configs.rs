//! The settings that `DescribeConfigs` returns, and `CreateTopics` and `IncrementalAlterConfigs` accept, with Kafka's
//! names and defaults.
//!
//! Only the settings that have a constant here have an effect; the others are stored and shown.

use kavka_core::wire::error_code::ErrorCode;

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

/// The topic setting with this name; `INVALID_CONFIG` if there is none.
pub(crate) fn topic_setting(name: &str) -> Result<&'static Setting, (ErrorCode, &'static str)> {
    let setting = TOPIC.iter().find(|setting| setting.name == name);
    setting.ok_or((ErrorCode::INVALID_CONFIG, "a topic has no setting of that name"))
}
