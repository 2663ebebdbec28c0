//! The command line of `kavka`. Clap derives parser and help from it: the doc comments are the help texts.

use std::env;
use std::path::PathBuf;

use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue};
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use kavka::FilePath;
use kavka::{Acks, Compression, CompressionType};
use kavka_broker::KafkaVersion;

use crate::cluster::{Cluster, assignment};
use crate::escapes::{self, Separator};
use crate::failure::Failure;
use crate::start::{self, Start};
use crate::template::Template;
use crate::verifiable::arguments::{CONSUMER_EXAMPLES, ConsumerArguments, PRODUCER_EXAMPLES, ProducerArguments};

const EXIT_CODES: &str = "\
Exit codes: 0 success, 1 failure, 2 wrong usage, 130 after Ctrl-C.

Without -b, the cluster is the one in $KAVKA_BOOTSTRAP_SERVERS or, without that, 127.0.0.1:9092.";

const PRODUCE_EXAMPLES: &str = "\
Examples:
  kavka produce letters < lines.txt
  printf 'k1:a\\nk2:b\\n' | kavka produce letters --key-separator :
  kavka produce letters --compression zstd:9 --print-offsets < lines.txt
  kavka produce letters -X linger.ms=100 -X max.request.size=4000000 < lines.txt

The exit code is 0 if all records were delivered, 1 if some were not, and 130 after Ctrl-C. Ctrl-C stops reading the
input and delivers the records read so far; a second Ctrl-C ends at once.";

const CONSUME_EXAMPLES: &str = "\
Examples:
  kavka consume letters --exit-at-end
  kavka consume letters --from @2024-01-31T12:00:00Z -n 10 --format '%p %o %k=%v'
  kavka consume letters --from -10 --exit-at-end
  kavka consume letters --from latest --json | jq .value
  kavka consume letters -G readers
  kavka consume letters -G readers --exit-at-end
  kavka consume --pattern 'letters-.*' -G readers -X group.protocol=classic

--from -10 starts ten offsets before the end of each partition. Offsets without a record, which compaction and
transactions leave, count.

In --format: %v value, %k key, %t topic, %p partition, %o offset, %T timestamp in milliseconds since 1970, %h headers,
%% a percent sign; \\n, \\t, \\0 and \\xHH as usual.";

const TOPICS_EXAMPLES: &str = "\
Examples:
  kavka topics
  kavka topics create letters --partitions 3 -c retention.ms=3600000
  kavka topics describe letters";

const GROUPS_EXAMPLES: &str = "\
Examples:
  kavka groups
  kavka groups describe billing
  kavka groups lag billing --watch
  kavka groups reset billing --topic orders --to @2024-01-31T12:00:00Z --dry-run
  kavka groups reset billing --to earliest
  kavka groups delete billing

A group with live members is neither reset nor deleted: stop its members first.";

const BROKER_EXAMPLES: &str = "\
Example:
  kavka broker --partitions 3 &
  printf 'a\\nb\\n' | kavka produce letters
  kavka consume letters --exit-at-end
  kavka broker --tls ca.pem --users-file users.txt &    # with a line alice:alice-secret

The first line of output ends with the addresses for -b. Nothing is stored on disk; Ctrl-C or SIGTERM ends it.";

/// Reads and writes Kafka from the command line
#[derive(Debug, Parser)]
#[command(name = "kavka", version, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Arguments {
    /// Those of the process. Prints help if they ask for it, or what is wrong with them, and ends the process; but what
    /// may be the content of a file with a secret is not printed.
    pub(crate) fn read() -> Result<Self, Failure> {
        let parsed = command().try_get_matches().and_then(|matches| Self::from_arg_matches(&matches));
        parsed.map_err(|error| {
            let given: Vec<_> = env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
            match content_among(&given, &error.to_string()) {
                Some(option) => Failure::usage(format!("{option} is the content of a file, and not its path")),
                None => without_secret(&error).unwrap_or_else(|| error.exit()),
            }
        })
    }
}

/// The command line. The broker's help leaves out the options for its clients, which it refuses.
fn command() -> clap::Command {
    let command = Arguments::command();
    let for_clients = command.get_arguments().filter(|argument| argument.is_global_set());
    let hidden: Vec<_> = for_clients.map(|argument| argument.clone().hide(true)).collect();
    command.mut_subcommand("broker", |broker| broker.args(hidden))
}

/// What is wrong with an argument that may have a password in it, which clap would show.
fn without_secret(error: &clap::Error) -> Option<Failure> {
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else { return None };
    let form = argument.split_once(" <").map_or("", |(_, form)| form.trim_end_matches('>'));
    let why = std::error::Error::source(error).filter(|_| [NAME_AND_VALUE, NAME_AND_PASSWORD].contains(&form))?;
    Some(Failure::usage(format!("the value of {argument} is not shown, because it may be secret: {why}")))
}

/// The forms of arguments that may have a password in them.
pub(crate) const NAME_AND_VALUE: &str = "NAME=VALUE";
const NAME_AND_PASSWORD: &str = "NAME:PASSWORD";

/// The option whose value is the content of a file, if `text` repeats it.
fn content_among(given: &[String], text: &str) -> Option<String> {
    let is_repeated = |line: &str| line.len() >= 8 && text.contains(line);
    let is_content = |value: &str| FilePath::is_content(value) && value.lines().any(is_repeated);
    let place = given.iter().position(|argument| is_content(option_and_value(argument).1))?;
    let within = option_and_value(given.get(place)?).0;
    let before = || given.get(place.checked_sub(1)?).map(String::as_str).filter(|before| before.starts_with('-'));
    let option = within.or_else(before);
    Some(option.map_or_else(|| "an argument".to_owned(), |option| format!("the value of {option}")))
}

/// Takes apart `--option=value` and `-Ovalue`; anything else is a value.
fn option_and_value(argument: &str) -> (Option<&str>, &str) {
    let parts = if argument.starts_with("-----") {
        None
    } else if argument.starts_with("--") {
        argument.split_once('=')
    } else if argument.starts_with('-') {
        argument.split_at_checked(2)
    } else {
        None
    };
    parts.map_or((None, argument), |(option, value)| (Some(option), value))
}

/// Parses the path of a file.
pub(crate) fn file() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| {
        let is_content = FilePath::is_content(&path.to_string_lossy());
        match path.to_str() {
            _ if is_content => Err("give the path of a file, not its content"),
            Some("-") => Err("give the path of a file; that of standard input is /dev/stdin"),
            _ => Ok(path),
        }
    })
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Writes each line of standard input to a topic
    #[command(after_help = PRODUCE_EXAMPLES)]
    Produce(ProduceArguments),
    /// Prints the records of a topic
    #[command(after_help = CONSUME_EXAMPLES)]
    Consume(ConsumeArguments),
    /// Lists, describes, creates and deletes topics
    #[command(after_help = TOPICS_EXAMPLES)]
    Topics(TopicsArguments),
    /// Lists, describes, resets and deletes consumer groups, and shows their lag
    #[command(after_help = GROUPS_EXAMPLES)]
    Groups(GroupsArguments),
    /// Runs a Kafka in memory, to try things out
    #[command(after_help = BROKER_EXAMPLES)]
    Broker(BrokerArguments),
    /// Sends numbers, and prints the report of each as JSON, as Kafka's program of this name does
    #[command(after_help = PRODUCER_EXAMPLES)]
    VerifiableProducer(ProducerArguments),
    /// Reads as a member of a group, and prints each event as JSON, as Kafka's program of this name does
    #[command(after_help = CONSUMER_EXAMPLES)]
    VerifiableConsumer(ConsumerArguments),
}

#[derive(Debug, Args)]
pub(crate) struct ProduceArguments {
    /// The topic; created if the brokers allow it
    pub(crate) topic: String,
    /// The key of every record
    #[arg(short, long, conflicts_with = "key_separator")]
    pub(crate) key: Option<String>,
    /// Separates the key from the value in each line; a line without it has no key
    #[arg(long, value_name = "SEP", value_parser = escapes::separator)]
    pub(crate) key_separator: Option<Separator>,
    /// Separates the records
    #[arg(long, value_name = "SEP", default_value = r"\n", value_parser = escapes::separator)]
    pub(crate) separator: Separator,
    /// A key or value that equals this is null (a null value is a tombstone)
    #[arg(long, value_name = "TEXT")]
    pub(crate) null_marker: Option<String>,
    /// A header for every record; without '=' its value is null; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE")]
    pub(crate) headers: Vec<String>,
    /// The partition for every record; by default the key decides or, without a key, each batch goes to another
    /// partition
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    pub(crate) partition: Option<i32>,
    /// none (default), gzip, snappy, lz4 or zstd, optionally with a level, such as zstd:3
    #[arg(short = 'z', long, value_name = "CODEC[:LEVEL]", value_parser = compression)]
    pub(crate) compression: Option<Compression>,
    /// Which replicas must have stored a record: all in-sync ones (all, the default), the leader (1) or none (0)
    #[arg(long, value_name = "all|1|0", value_parser = acks)]
    pub(crate) acks: Option<Acks>,
    /// Fails if the topic does not exist
    #[arg(long)]
    pub(crate) no_create: bool,
    /// Prints the partition and offset of each record to standard output, in the order of the input
    #[arg(long)]
    pub(crate) print_offsets: bool,
    /// Prints no summary to standard error
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ConsumeArguments {
    /// The topic
    #[arg(required_unless_present = "pattern", default_value = "", hide_default_value = true)]
    pub(crate) topic: String,
    /// With -G, reads every topic whose whole name matches this regular expression, also those that are created later
    #[arg(long, value_name = "REGEX", requires = "group", conflicts_with = "topic")]
    pub(crate) pattern: Option<String>,
    /// Where to start: earliest, latest, an offset, -N for the last N records, or @ followed by a time
    #[arg(short, long, value_name = "START", default_value = "earliest", allow_negative_numbers = true)]
    #[arg(value_parser = start::parse)]
    pub(crate) from: Start,
    /// Joins this group, which assigns the partitions and stores the position; --from then applies only without a
    /// committed offset, and is earliest or latest
    #[arg(short = 'G', long, value_name = "GROUP", conflicts_with = "partitions")]
    pub(crate) group: Option<String>,
    /// A partition to read; may be repeated; by default all
    #[arg(short, long = "partition", value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    pub(crate) partitions: Vec<i32>,
    /// Ends after this many records
    #[arg(short = 'n', long, value_name = "COUNT")]
    pub(crate) count: Option<u64>,
    /// Ends when everything that was there at the start has been printed; with -G, when the group has read all of it
    #[arg(short, long)]
    pub(crate) exit_at_end: bool,
    /// What to print of each record
    #[arg(long, value_name = "TEXT", default_value = "%v", conflicts_with = "json", value_parser = Template::parse)]
    pub(crate) format: Template,
    /// Prints each record as a JSON object; a key or value that is not UTF-8 is in `key_base64` or `value_base64`
    #[arg(long)]
    pub(crate) json: bool,
    /// Printed after each record
    #[arg(long, value_name = "SEP", default_value = r"\n", value_parser = escapes::ending)]
    pub(crate) separator: Separator,
    /// Printed for a key or value that is null
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) null_marker: String,
}

#[derive(Debug, Args)]
pub(crate) struct TopicsArguments {
    #[command(subcommand)]
    pub(crate) action: Option<TopicsAction>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TopicsAction {
    /// Prints the name and number of partitions of each topic (the default of `kavka topics`)
    List {
        /// Also shows Kafka's internal topics
        #[arg(long)]
        internal: bool,
    },
    /// Prints the leader, replicas and offsets of each partition
    Describe {
        /// The topic
        name: String,
    },
    /// Creates a topic
    Create {
        /// The topic
        name: String,
        /// The number of partitions; by default the broker decides
        #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
        partitions: Option<i32>,
        /// The number of replicas of each partition; by default the broker decides
        #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i16).range(1..))]
        replication_factor: Option<i16>,
        /// A setting of the topic; may be repeated
        #[arg(short, long = "config", value_name = NAME_AND_VALUE, value_parser = assignment)]
        configs: Vec<(String, String)>,
    },
    /// Deletes a topic and all its records
    Delete {
        /// The topic
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct GroupsArguments {
    #[command(subcommand)]
    pub(crate) action: Option<GroupsAction>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum GroupsAction {
    /// Prints each group with its state, type and protocol type (the default of `kavka groups`)
    List {
        /// Only groups in this state, such as Stable or Empty; may be repeated
        #[arg(long = "state", value_name = "STATE")]
        states: Vec<String>,
    },
    /// Prints a group's members and the partitions they have
    Describe {
        /// The group
        group: String,
    },
    /// Prints the lag of a group in each partition
    Lag {
        /// The group
        group: String,
        /// Repeats until Ctrl-C; on a terminal, updates in place
        #[arg(short, long)]
        watch: bool,
        /// Seconds between two updates
        #[arg(long, value_name = "SECONDS", default_value_t = 1, requires = "watch")]
        #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
        interval: u64,
    },
    /// Moves the committed offsets of a group
    Reset(ResetArguments),
    /// Deletes a group and its committed offsets
    Delete {
        /// The group
        group: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ResetArguments {
    /// The group; created if it does not exist
    pub(crate) group: String,
    /// The topic; by default all topics for which the group has committed offsets
    #[arg(short, long)]
    pub(crate) topic: Option<String>,
    /// A partition of the topic; may be repeated; by default all
    #[arg(short, long = "partition", value_name = "N", requires = "topic")]
    #[arg(value_parser = clap::value_parser!(i32).range(0..))]
    pub(crate) partitions: Vec<i32>,
    /// The new position: earliest, latest, an offset, -N for the last N records, or @ followed by a time
    #[arg(long, value_name = "START", allow_negative_numbers = true, value_parser = start::parse)]
    pub(crate) to: Start,
    /// Only prints what would change
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BrokerArguments {
    /// The port of the first broker; the others use the ports after it; 0: any free ports
    #[arg(long, default_value_t = 9092)]
    pub(crate) port: u16,
    /// The version of Kafka to be, from 0.8.2 on: with its APIs and its format of the log, and no more
    #[arg(long, value_name = "VERSION", default_value_t)]
    pub(crate) kafka_version: KafkaVersion,
    /// The number of brokers
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(crate) brokers: u16,
    /// The number of partitions of a topic that is created without one
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    pub(crate) partitions: i32,
    /// Speaks TLS, and writes the certificate that clients must trust, which is made anew each time, to this file
    #[arg(long, value_name = "FILE", value_parser = file())]
    pub(crate) tls: Option<PathBuf>,
    /// Wants clients to authenticate with SASL, as this user; may be repeated
    #[arg(long = "user", value_name = NAME_AND_PASSWORD, value_parser = user)]
    pub(crate) users: Vec<(String, String)>,
    /// The same from a file with a user in each line: everybody on a machine sees the arguments of its programs
    #[arg(long, value_name = "FILE", value_parser = file())]
    pub(crate) users_file: Option<PathBuf>,
}

pub(crate) fn user(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        None => Err("write it like alice:alice-secret".into()),
        Some(("", _)) => Err("the name ahead of the colon is missing".into()),
        Some((_, "")) => Err("the password behind the colon is missing".into()),
        Some((name, password)) => Ok((name.to_owned(), password.to_owned())),
    }
}

fn compression(text: &str) -> Result<Compression, String> {
    let (name, level) = match text.split_once(':') {
        Some((name, level)) => (name, Some(level.parse().map_err(|_| "the level must be a number")?)),
        None => (text, None),
    };
    let codec = CompressionType::from_name(name).ok_or("give none, gzip, snappy, lz4 or zstd")?;
    Compression::new(codec, level).map_err(|error| error.to_string())
}

fn acks(text: &str) -> Result<Acks, String> {
    match text {
        "all" | "-1" => Ok(Acks::All),
        "1" => Ok(Acks::Leader),
        "0" => Ok(Acks::None),
        _ => Err("give all, 1 or 0".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        command().debug_assert();
    }

    #[test]
    fn the_help_of_the_broker_has_no_options_for_clients_and_no_password_on_a_command_line() {
        let help = |name: &str| {
            let shown = command().try_get_matches_from(["kavka", name, "--help"]).unwrap_err().to_string();
            shown.split("Example").map(str::to_owned).collect::<Vec<_>>()
        };
        let broker = help("broker");
        for option in ["--bootstrap-server", "--property", "--sasl-mechanism", "--tls-ca", "--command-config"] {
            assert!(!broker[0].contains(option), "{}", broker[0]);
            assert!(help("topics")[0].contains(option));
        }
        assert!(broker[0].contains("--users-file") && !broker[1].contains("--user "), "{}", broker[1]);
    }

    #[test]
    fn a_codec_may_have_a_level() {
        assert_eq!(compression("zstd:9").unwrap(), Compression::new(CompressionType::Zstd, Some(9)).unwrap());
        for text in ["zip", "zstd:", "zstd:99", "snappy:1", "ZSTD"] {
            assert!(compression(text).is_err(), "{text}");
        }
    }
}
