//! The command line of `kavka`. Clap makes the parser and the help of it: the doc comments are the help texts.

use clap::{Args, Parser, Subcommand};
use kavka::{Acks, Compression, CompressionType};

use crate::escapes::{self, Separator};
use crate::start::{self, Start};
use crate::template::Template;

const EXIT_CODES: &str = "\
Exit codes: 0 all went well, 1 something failed, 2 wrong usage, 130 after Ctrl-C.

Without -b the cluster is the one in $KAVKA_BOOTSTRAP_SERVERS, else 127.0.0.1:9092.";

const PRODUCE_EXAMPLES: &str = "\
Examples:
  kavka produce letters < lines.txt
  printf 'k1:a\\nk2:b\\n' | kavka produce letters --key-separator :
  kavka produce letters --compression zstd:9 --print-offsets < lines.txt
  kavka produce letters -X linger.ms=100 -X max.request.size=4000000 < lines.txt

The exit code is 0 when every record was delivered, 1 when some were not, 130 after Ctrl-C, which ends the reading;
what was accepted by then is still delivered. A second Ctrl-C ends at once.";

const CONSUME_EXAMPLES: &str = "\
Examples:
  kavka consume letters --exit-at-end
  kavka consume letters --from @2024-01-31T12:00:00Z -n 10 --format '%p %o %k=%v'
  kavka consume letters --from -10 --exit-at-end
  kavka consume letters --from latest --json | jq .value

--from -10 begins ten offsets before the end of each partition; an offset that compaction or a transaction has left
empty counts as one of them.

In --format: %v value, %k key, %t topic, %p partition, %o offset, %T timestamp in milliseconds since 1970, %h headers,
%% a percent sign; \\n, \\t, \\0 and \\xHH as usual.";

const TOPICS_EXAMPLES: &str = "\
Examples:
  kavka topics
  kavka topics create letters --partitions 3 -c retention.ms=3600000
  kavka topics describe letters";

const BROKER_EXAMPLES: &str = "\
Example:
  kavka broker --partitions 3 &
  printf 'a\\nb\\n' | kavka produce letters
  kavka consume letters --exit-at-end

The first line on standard output ends with what to give to -b. Nothing is kept on disk; Ctrl-C or SIGTERM ends it.";

/// Reads and writes Kafka from the command line
#[derive(Debug, Parser)]
#[command(name = "kavka", version, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    #[command(subcommand)]
    pub(crate) command: Command,
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
    /// Runs a Kafka in memory, for trying things out
    #[command(after_help = BROKER_EXAMPLES)]
    Broker(BrokerArguments),
}

#[derive(Debug, Args)]
pub(crate) struct Cluster {
    /// Where to find the cluster: host:port, with commas between several
    #[arg(short, long, value_name = "HOST:PORT", global = true)]
    pub(crate) bootstrap_server: Option<String>,
    /// A setting by Kafka's name, such as client.id=me; may be repeated; docs/reference/configuration.md lists them
    #[arg(short = 'X', long = "property", value_name = "NAME=VALUE", global = true, value_parser = assignment)]
    pub(crate) properties: Vec<(String, String)>,
}

/// Where the cluster is, when no argument says so.
const BOOTSTRAP_VARIABLE: &str = "KAVKA_BOOTSTRAP_SERVERS";

impl Cluster {
    /// All settings by name, of which the last of a name counts: a command's own defaults come first, `-b` last.
    pub(crate) fn settings(&self, defaults: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let server = |list: String| ("bootstrap.servers".to_owned(), list);
        let from_environment = std::env::var(BOOTSTRAP_VARIABLE).ok().map(server);
        let from_arguments = self.bootstrap_server.clone().map(server);
        let defaults = defaults.iter().map(owned).chain(from_environment);
        defaults.chain(self.properties.iter().cloned()).chain(from_arguments).collect()
    }
}

#[derive(Debug, Args)]
pub(crate) struct ProduceArguments {
    /// The topic; brokers that allow it create it
    pub(crate) topic: String,
    /// The key of every record
    #[arg(short, long, conflicts_with = "key_separator")]
    pub(crate) key: Option<String>,
    /// Ends the key in each line; a line without it is a value alone
    #[arg(long, value_name = "SEP", value_parser = escapes::separator)]
    pub(crate) key_separator: Option<Separator>,
    /// Ends each record
    #[arg(long, value_name = "SEP", default_value = r"\n", value_parser = escapes::separator)]
    pub(crate) separator: Separator,
    /// A key or value that is exactly this is null (a null value is a tombstone)
    #[arg(long, value_name = "TEXT")]
    pub(crate) null_marker: Option<String>,
    /// A header of every record; without '=' its value is null; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE")]
    pub(crate) headers: Vec<String>,
    /// The partition of every record; without it the key decides, or else one partition per batch
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    pub(crate) partition: Option<i32>,
    /// none (the default), gzip, snappy, lz4 or zstd, with its level behind a colon
    #[arg(short = 'z', long, value_name = "CODEC[:LEVEL]", value_parser = compression)]
    pub(crate) compression: Option<Compression>,
    /// How many replicas must have stored a record: all that are in sync (the default), the leader (1), or none (0)
    #[arg(long, value_name = "all|1|0", value_parser = acks)]
    pub(crate) acks: Option<Acks>,
    /// Fails if the topic does not exist
    #[arg(long)]
    pub(crate) no_create: bool,
    /// Prints partition and offset of each record to standard output, in the order of the input
    #[arg(long)]
    pub(crate) print_offsets: bool,
    /// Leaves out the summary on standard error
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ConsumeArguments {
    /// The topic
    pub(crate) topic: String,
    /// Where to begin: earliest, latest, an offset, -N for the last N records, or @ and a time
    #[arg(short, long, value_name = "START", default_value = "earliest", allow_negative_numbers = true)]
    #[arg(value_parser = start::parse)]
    pub(crate) from: Start,
    /// A partition to read; may be repeated; all of them without it
    #[arg(short, long = "partition", value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    pub(crate) partitions: Vec<i32>,
    /// Ends after this many records
    #[arg(short = 'n', long, value_name = "COUNT")]
    pub(crate) count: Option<u64>,
    /// Ends when everything that was there at the start is printed
    #[arg(short, long)]
    pub(crate) exit_at_end: bool,
    /// What to print of each record
    #[arg(long, value_name = "TEXT", default_value = "%v", conflicts_with = "json", value_parser = Template::parse)]
    pub(crate) format: Template,
    /// Prints each record as a JSON object; bytes that are not UTF-8 are in base64, in a field with that ending
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
    /// Prints name and number of partitions of each topic (what `kavka topics` does)
    List {
        /// Shows Kafka's own topics too
        #[arg(long)]
        internal: bool,
    },
    /// Prints leader, replicas and offsets of each partition
    Describe {
        /// The topic
        name: String,
    },
    /// Makes a topic
    Create {
        /// The topic
        name: String,
        /// How many partitions; the broker's default without it
        #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
        partitions: Option<i32>,
        /// How many replicas of each partition; the broker's default without it
        #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i16).range(1..))]
        replication_factor: Option<i16>,
        /// A setting of the topic; may be repeated
        #[arg(short, long = "config", value_name = "NAME=VALUE", value_parser = assignment)]
        configs: Vec<(String, String)>,
    },
    /// Removes a topic with everything in it
    Delete {
        /// The topic
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct BrokerArguments {
    /// The port of the first broker; the others take the next ones; 0 takes free ones
    #[arg(long, default_value_t = 9092)]
    pub(crate) port: u16,
    /// How many brokers to run
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(crate) brokers: u16,
    /// How many partitions a topic has that is made without a number
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    pub(crate) partitions: i32,
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

fn assignment(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("give NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_codec_may_have_a_level() {
        assert_eq!(compression("zstd:9").unwrap(), Compression::new(CompressionType::Zstd, Some(9)).unwrap());
        for text in ["zip", "zstd:", "zstd:99", "snappy:1", "ZSTD"] {
            assert!(compression(text).is_err(), "{text}");
        }
    }
}
