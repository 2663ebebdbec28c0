//! The options of the verifiable programs, as Apache Kafka's programs name them.

use clap::Args;
use kavka::Acks;

pub(crate) const PRODUCER_EXAMPLES: &str = "\
Examples:
  kavka verifiable-producer --topic orders --max-messages 1000
  kavka verifiable-producer --topic orders --throughput 500 --value-prefix 1 --repeating-keys 10

The values are 0, 1, 2 and so on. Each record gets one line of JSON, producer_send_success with its partition and
offset, or producer_send_error with an outcome: not_written or maybe_written. Ctrl-C or SIGTERM is the normal end:
what was accepted is delivered and reported first.";

pub(crate) const CONSUMER_EXAMPLES: &str = "\
Examples:
  kavka verifiable-consumer --topic orders --group-id readers
  kavka verifiable-consumer --topic orders --group-id readers --group-protocol consumer --max-messages 1000

It commits what it has written down, and writes a line of JSON for each event: records_consumed, partitions_assigned,
partitions_revoked, offsets_committed, offsets_reset. Ctrl-C or SIGTERM is the normal end: it leaves the group.";

/// The options of `kavka verifiable-producer`.
#[derive(Debug, Args)]
pub(crate) struct ProducerArguments {
    /// The topic; created if the brokers allow it
    #[arg(long, value_name = "NAME")]
    pub(crate) topic: String,
    /// How many records to send; -1: until it is told to end
    #[arg(long, value_name = "COUNT", default_value_t = -1, allow_negative_numbers = true)]
    pub(crate) max_messages: i64,
    /// How many records a second to send at most; -1: as many as possible
    #[arg(long, value_name = "RATE", default_value = "-1", allow_negative_numbers = true, value_parser = throughput)]
    pub(crate) throughput: i64,
    /// Which replicas must have stored a record: all in-sync ones (-1), the leader (1) or none (0)
    #[arg(long, value_name = "-1|1|0", default_value = "-1", allow_negative_numbers = true, value_parser = acks)]
    pub(crate) acks: Acks,
    /// A number that begins every value, with a dot behind it
    #[arg(long, value_name = "NUMBER")]
    pub(crate) value_prefix: Option<u32>,
    /// Keys: 0, 1, 2 and so on up to this number, which is left out, and then again from 0
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) repeating_keys: Option<u64>,
    /// The timestamp of the first record, in milliseconds since 1970; the clock moves on from there
    #[arg(long, value_name = "MILLISECONDS", alias = "create-time", value_parser = clap::value_parser!(i64).range(0..))]
    pub(crate) message_create_time: Option<i64>,
}

/// The options of `kavka verifiable-consumer`.
#[derive(Debug, Args)]
pub(crate) struct ConsumerArguments {
    /// The topic
    #[arg(long, value_name = "NAME")]
    pub(crate) topic: String,
    /// The group to join
    #[arg(long, value_name = "GROUP")]
    pub(crate) group_id: String,
    /// The name of a static member
    #[arg(long, value_name = "NAME")]
    pub(crate) group_instance_id: Option<String>,
    /// classic: a member assigns the partitions; consumer: the brokers do
    #[arg(long, value_name = "PROTOCOL", default_value = "classic", ignore_case = true)]
    #[arg(value_parser = ["classic", "consumer"])]
    pub(crate) group_protocol: String,
    /// The assignor of the brokers, with --group-protocol consumer
    #[arg(long, value_name = "NAME")]
    pub(crate) group_remote_assignor: Option<String>,
    /// Ends after this many records; -1: when it is told to end
    #[arg(long, value_name = "COUNT", default_value_t = -1, allow_negative_numbers = true)]
    pub(crate) max_messages: i64,
    /// The session timeout in milliseconds; with --group-protocol consumer the brokers decide it
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 30_000)]
    pub(crate) session_timeout: u32,
    /// Commits in the background, in place of a commit behind what was written down
    #[arg(long)]
    pub(crate) enable_autocommit: bool,
    /// Where to begin without a committed offset
    #[arg(long, value_name = "POLICY", default_value = "earliest", value_parser = ["earliest", "latest", "none"])]
    pub(crate) reset_policy: String,
    /// The assignors, separated by commas, by their names or Java's classes; with --group-protocol classic
    #[arg(long, value_name = "NAMES", default_value = "range")]
    pub(crate) assignment_strategy: String,
    /// Writes a line for each record
    #[arg(long)]
    pub(crate) verbose: bool,
}

fn throughput(text: &str) -> Result<i64, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("give a number of records a second, or -1".to_owned()),
        Ok(rate) => Ok(rate),
    }
}

fn acks(text: &str) -> Result<Acks, String> {
    match text {
        "-1" | "all" => Ok(Acks::All),
        "1" => Ok(Acks::Leader),
        "0" => Ok(Acks::None),
        _ => Err("give -1, 1 or 0".to_owned()),
    }
}

/// Our names of the assignors, where Java's class names may be given.
pub(crate) fn assignors(names: &str) -> String {
    let ours = |name: &str| match name.trim().trim_start_matches("org.apache.kafka.clients.consumer.") {
        "RangeAssignor" => "range".to_owned(),
        "RoundRobinAssignor" => "roundrobin".to_owned(),
        "StickyAssignor" => "sticky".to_owned(),
        "CooperativeStickyAssignor" => "cooperative-sticky".to_owned(),
        other => other.to_owned(),
    };
    names.split(',').map(ours).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignor_may_be_given_by_its_java_class() {
        let java = "org.apache.kafka.clients.consumer.CooperativeStickyAssignor, \
                    org.apache.kafka.clients.consumer.RangeAssignor";
        assert_eq!(assignors(java), "cooperative-sticky,range");
        assert_eq!(assignors("roundrobin"), "roundrobin");
    }

    #[test]
    fn a_rate_of_nothing_is_refused() {
        assert_eq!(throughput("-1"), Ok(-1));
        assert!(throughput("0").is_err() && throughput("fast").is_err());
    }
}
