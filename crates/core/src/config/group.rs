//! The settings of a group member.

use std::time::Duration;

use super::setting::{INT, refuse, settings};
use crate::error::Result;

/// How the members of a group get their partitions. Kafka: `group.protocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum GroupProtocol {
    /// By the consumer protocol if the cluster, the group and the settings allow it, otherwise by the classic one.
    #[default]
    Auto,
    /// One of the members assigns them.
    Classic,
    /// The coordinator assigns them (KIP-848).
    Consumer,
}

settings! {
    /// The settings of a group member. Its group is the `group.id` of its consumer.
    GroupConfig {
        /// Makes the member static (KIP-345): if it restarts under the same name within `session.timeout.ms`, it gets
        /// its partitions back without a rebalance.
        #[setting(kafka = "group.instance.id", pykafka = "group_instance_id")]
        group_instance_id: Option<String> = None;

        /// How long the coordinator waits for a heartbeat before it gives the member's partitions to others. With the
        /// `consumer` protocol the broker decides that (`group.consumer.session.timeout.ms`, 45 s by default), and a
        /// member takes itself for removed after this time, but not before three of the broker's heartbeat intervals
        /// and not later than after nine.
        #[setting(kafka = "session.timeout.ms", pykafka = "session_timeout_ms", pykafka_default = "30000", range = 1..=INT)]
        session_timeout: Duration = 45_000;

        /// The time between two heartbeats. It must be shorter than `session.timeout.ms`, and should be at most a third
        /// of it, so that one lost heartbeat does no harm. With the `consumer` protocol the broker decides
        /// (`group.consumer.heartbeat.interval.ms`).
        #[setting(kafka = "heartbeat.interval.ms", pykafka = "heartbeat_interval_ms", range = 1..=INT)]
        heartbeat_interval: Duration = 3_000;

        /// How long the application may ask for no records before the member leaves its group, and how long members may
        /// take to give up partitions in a rebalance.
        #[setting(kafka = "max.poll.interval.ms", pykafka = "max_poll_interval_ms", range = 1..=INT)]
        max_poll_interval: Duration = 300_000;

        /// The assignors that the member supports, in order of preference, separated by commas: `range`, `roundrobin`,
        /// `sticky`, `cooperative-sticky`. The group uses one that all members support. Members keep their partitions
        /// during a rebalance only if they offer nothing but `cooperative-sticky`.
        #[setting(kafka = "partition.assignment.strategy")]
        partition_assignment_strategy: String = "range,cooperative-sticky";

        /// Whether offsets are committed automatically: at intervals, and before partitions are given up.
        #[setting(kafka = "enable.auto.commit", pykafka = "auto_commit_enable", pykafka_default = "false")]
        enable_auto_commit: bool = true;

        /// The time between two automatic commits.
        #[setting(kafka = "auto.commit.interval.ms", pykafka = "auto_commit_interval_ms", pykafka_default = "60000", range = 1..=INT)]
        auto_commit_interval: Duration = 5_000;

        /// How the group assigns partitions. `classic`: a member does. `consumer`: the brokers do (KIP-848, Kafka 4.0
        /// and newer), and members whose partitions stay read on during a rebalance. `auto`: `consumer` where the
        /// group's brokers have it, unless one of `partition.assignment.strategy`, `session.timeout.ms` and
        /// `heartbeat.interval.ms` is not at its default. Kafka's default is `classic`.
        #[setting(kafka = "group.protocol", pykafka = "group_protocol", pykafka_default = "classic")]
        group_protocol: GroupProtocol = GroupProtocol::Auto;

        /// The broker's assignor that the member asks for with the `consumer` protocol: `uniform`, `range`, or one of
        /// the broker's own. Without it, the broker chooses.
        #[setting(kafka = "group.remote.assignor")]
        group_remote_assignor: Option<String> = None;
    }
}

impl GroupConfig {
    /// Whether the settings that only the classic protocol obeys are at their defaults.
    pub(crate) fn leaves_protocol_open(&self) -> bool {
        let default = Self::default();
        self.partition_assignment_strategy == default.partition_assignment_strategy
            && self.session_timeout == default.session_timeout
            && self.heartbeat_interval == default.heartbeat_interval
    }

    fn check_conflicts(&self) -> Result<()> {
        if self.heartbeat_interval >= self.session_timeout {
            let allowed = format!("less than session.timeout.ms ({} ms)", self.session_timeout.as_millis());
            return Err(refuse("heartbeat.interval.ms", self.heartbeat_interval.as_millis(), allowed));
        }
        let strategy = &self.partition_assignment_strategy;
        if self.group_protocol == GroupProtocol::Consumer && *strategy != Self::default().partition_assignment_strategy
        {
            let allowed =
                "left out with group.protocol=consumer: group.remote.assignor names an assignor of the brokers";
            return Err(refuse("partition.assignment.strategy", strategy, allowed));
        }
        if self.group_protocol == GroupProtocol::Classic && self.group_remote_assignor.is_some() {
            let assignor = self.group_remote_assignor.as_deref().unwrap_or_default();
            return Err(refuse("group.remote.assignor", assignor, "left out with group.protocol=classic"));
        }
        Ok(())
    }
}
