//! Real Apache Kafka from Rust tests.
//!
//! ```no_run
//! use kavka_test_kafka::{Kafka, LATEST_3, Options};
//!
//! let kafka = Kafka::start(&Options { version: LATEST_3, brokers: 3, ..Options::default() });
//! kafka.create_topic("orders", 3, 3, &[("max.message.bytes", "2000000")]);
//! kafka.kill(kafka.leader("orders", 0));
//! ```
//!
//! A thin wrapper of the harness, `kafka.py` in this folder. The harness is a separate process, which ends together
//! with its brokers and their data when the [`Kafka`] is dropped, and also when the test's process dies, so a `static`
//! one is fine.
//!
//! Everything panics with the harness's error when it fails: a test that needs Kafka and does not get it fails. Nothing
//! here uses our Kafka client, which is what the tests test.

// Said once above: everything here panics if the harness fails.
#![allow(clippy::missing_panics_doc)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

/// The newest Kafka, on which everything is tested.
pub const LATEST: &str = include_str!("../versions/latest").trim_ascii();

/// The last Kafka 3: the newest that supports the request versions that Kafka 4 has dropped.
pub const LATEST_3: &str = include_str!("../versions/latest_3").trim_ascii();

/// The options of a cluster.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// `"0.8.2.2"` to [`LATEST`] (the default). Before 3.3 it comes with ZooKeeper.
    pub version: &'a str,
    /// The number of brokers; default 1. Kafka's internal topics get min(3, this) replicas; with 3 brokers or more,
    /// `min.insync.replicas` is 2.
    pub brokers: u32,
    /// Uses ZooKeeper mode with versions that support both (3.3 to 3.9).
    pub zookeeper: bool,
    /// Broker settings by Kafka's names, over the harness's own.
    pub settings: &'a [(&'a str, &'a str)],
    /// Heap of each broker in MiB; default 256.
    pub heap_mib: u32,
    /// Options for the brokers' Java, like `-XX:TieredStopAtLevel=4` for measurements: by default it compiles for a
    /// fast start only.
    pub java_options: &'a [&'a str],
    /// Adds the listeners SSL, MTLS, `SASL_PLAINTEXT`, `SASL_SSL`, `SASL_MTLS`, REAUTH (`SASL_SSL` with sessions of ten
    /// seconds) and OIDC (`SASL_SSL` with signed tokens): see [`Kafka::secure_listener`] and [`Kafka::security`].
    pub secure: bool,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options {
            version: LATEST,
            brokers: 1,
            zookeeper: false,
            settings: &[],
            heap_mib: 256,
            java_options: &[],
            secure: false,
        }
    }
}

/// A running Kafka cluster. Dropping it ends all processes and removes all files.
///
/// Any thread may run commands; they are executed one after the other.
#[derive(Debug)]
pub struct Kafka {
    harness: Child,
    /// `None` only while it is being dropped: closing the harness's stdin ends it.
    pipes: Mutex<Option<Pipes>>,
    about: Value,
}

#[derive(Debug)]
struct Pipes {
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// The state of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The leader's broker id; `None` while there is none.
    pub leader: Option<i32>,
    /// The broker ids of all replicas, the preferred leader first.
    pub replicas: Vec<i32>,
    /// The broker ids of the replicas that are in sync.
    pub in_sync_replicas: Vec<i32>,
}

impl Kafka {
    /// Starts a cluster, and returns when it is ready. Fetches that version of Kafka first if it was never used here.
    /// Panics with the end of the brokers' logs if it does not start.
    #[must_use]
    pub fn start(options: &Options<'_>) -> Self {
        let mut command = Command::new("python3");
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("kafka.py")).arg("run");
        command.args(["--version", options.version, "--brokers", &options.brokers.to_string()]);
        command.args(["--heap", &options.heap_mib.to_string()]);
        if options.zookeeper {
            command.arg("--zookeeper");
        }
        if options.secure {
            command.arg("--secure");
        }
        for (name, value) in options.settings {
            command.arg(format!("--set={name}={value}"));
        }
        command.args(options.java_options.iter().map(|option| format!("--java-option={option}")));
        // A process group of its own: Ctrl-C ends the test, and the harness ends with it.
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0).spawn();
        let mut harness = started.expect("real Kafka needs `python3`, 3.11 or later, on the PATH");
        let (commands, answers) = harness.stdin.take().zip(harness.stdout.take()).expect("both were asked to be pipes");
        let mut pipes = Pipes { commands, answers: BufReader::new(answers) };
        let about = pipes.answer("run");
        Kafka { harness, pipes: Mutex::new(Some(pipes)), about }
    }

    /// The addresses of all brokers, as `bootstrap.servers` takes them.
    pub fn bootstrap(&self) -> &str {
        self.about["bootstrap"].as_str().expect("the harness tells bootstrap")
    }

    /// The address of each broker, by id; ids start at 1.
    pub fn brokers(&self) -> BTreeMap<i32, String> {
        let told = self.about["brokers"].as_object().expect("the harness tells brokers");
        told.iter().map(|(id, address)| (broker_id(id), text(address).to_owned())).collect()
    }

    /// The addresses of a secure listener on all brokers.
    pub fn secure_listener(&self, name: &str) -> &str {
        text(&self.about["secure_listeners"][name])
    }

    /// What a client of the secure listeners needs: `user`, `password`, and the path of `ca`, the authority's
    /// certificate; `certificate` and `key` are a client's.
    pub fn security(&self, what: &str) -> &str {
        text(&self.about["security"][what])
    }

    /// The ids of all brokers, running or not.
    pub fn broker_ids(&self) -> Vec<i32> {
        self.brokers().into_keys().collect()
    }

    /// SIGKILL: the broker is gone at once and tells nobody.
    pub fn kill(&self, broker_id: i32) {
        self.command(&["kill", &broker_id.to_string()]);
    }

    /// SIGTERM: the broker hands over its partitions and ends; returns when it has ended.
    pub fn stop(&self, broker_id: i32) {
        self.command(&["stop", &broker_id.to_string()]);
    }

    /// SIGSTOP: the broker keeps its connections but does not respond.
    pub fn freeze(&self, broker_id: i32) {
        self.command(&["freeze", &broker_id.to_string()]);
    }

    /// SIGCONT: a frozen broker continues.
    pub fn thaw(&self, broker_id: i32) {
        self.command(&["thaw", &broker_id.to_string()]);
    }

    /// Starts a killed or stopped broker, with its data and address, and waits until it is ready.
    pub fn restart(&self, broker_id: i32) {
        self.restart_without_waiting(broker_id);
        self.wait_ready();
    }

    /// Starts a killed or stopped broker, with its data and address.
    pub fn restart_without_waiting(&self, broker_id: i32) {
        self.command(&["start", &broker_id.to_string()]);
    }

    /// Waits until all running brokers answer, and each sees all of them and a controller.
    pub fn wait_ready(&self) {
        self.command(&["wait-ready"]);
    }

    /// Waits until all replicas of all partitions are in sync.
    pub fn wait_in_sync(&self) {
        self.command(&["wait-in-sync"]);
    }

    /// Creates a topic with `settings` of its own; returns when all running brokers know a leader for each partition.
    pub fn create_topic(&self, topic: &str, partitions: u32, replication_factor: u16, settings: &[(&str, &str)]) {
        let settings: Vec<_> = settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let (partitions, replication_factor) = (partitions.to_string(), replication_factor.to_string());
        let mut words = vec!["topic", "create", topic, &partitions, &replication_factor];
        words.extend(settings.iter().map(String::as_str));
        self.command(&words);
    }

    /// The state of each partition of a topic.
    pub fn describe_topic(&self, topic: &str) -> BTreeMap<i32, Partition> {
        let answer = self.command(&["topic", "describe", topic]);
        let told = answer["partitions"].as_object().expect("the harness tells partitions");
        let place = |about: &Value| Partition {
            leader: Some(integer(&about["leader"])).filter(|&leader| leader >= 0),
            replicas: integers(&about["replicas"]),
            in_sync_replicas: integers(&about["in_sync_replicas"]),
        };
        told.iter().map(|(partition, about)| (broker_id(partition), place(about))).collect()
    }

    /// The id of the broker that leads a partition.
    pub fn leader(&self, topic: &str, partition: i32) -> i32 {
        let place = self.describe_topic(topic).remove(&partition);
        let place = place.unwrap_or_else(|| panic!("topic {topic} has no partition {partition}"));
        place.leader.unwrap_or_else(|| panic!("{topic}-{partition} has no leader"))
    }

    /// Makes a broker the leader of a partition; returns when all running brokers know that. Needs Kafka 2.4.
    pub fn move_leader(&self, topic: &str, partition: i32, broker_id: i32) {
        self.command(&["topic", "lead", topic, &partition.to_string(), &broker_id.to_string()]);
    }

    /// The folder with a broker's partition logs.
    pub fn log_dir(&self, broker_id: i32) -> PathBuf {
        PathBuf::from(text(&self.about["log_dirs"][broker_id.to_string()]))
    }

    /// A broker's console output.
    pub fn output(&self, broker_id: i32) -> String {
        let written = std::fs::read(text(&self.about["outputs"][broker_id.to_string()]));
        String::from_utf8_lossy(&written.expect("a broker that was started has an output")).into_owned()
    }

    /// Runs one of Kafka's tools on this cluster with `input` on its stdin; returns its output.
    ///
    /// `tool` is `console-producer`, `console-consumer`, `topics`, `configs`, `consumer-groups`, `get-offsets` or
    /// `dump-log`; the arguments for connecting are added. Waits until the tool ends, so give a consumer
    /// `--max-messages` and `--timeout-ms`. Panics if its exit status is not 0.
    pub fn tool(&self, tool: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let answer = self.command(&["tool", tool]);
        let words: Vec<_> = answer["command"].as_array().into_iter().flatten().map(text).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = command.spawn().expect("Kafka's tools need Java");
        let mut stdin = running.stdin.take().expect("it was asked to be a pipe");
        let done = std::thread::scope(|scope| {
            // If a tool ends before it has read everything, its status shows it.
            scope.spawn(move || stdin.write_all(input).ok());
            running.wait_with_output().expect("a child can be waited for")
        });
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{tool}: {}: {}{said}", done.status, String::from_utf8_lossy(&done.stdout));
        done.stdout
    }

    /// The output of Kafka's `DumpLogSegments` for a partition's log on its leader, with the contents of records.
    pub fn dump_log(&self, topic: &str, partition: i32) -> String {
        let folder = self.log_dir(self.leader(topic, partition)).join(format!("{topic}-{partition}"));
        let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let paths = files.flatten().map(|file| file.path());
        let mut segments: Vec<_> = paths.filter(|path| path.extension().is_some_and(|kind| kind == "log")).collect();
        segments.sort();
        let segments: Vec<_> = segments.iter().map(|path| path.display().to_string()).collect();
        let arguments = ["--print-data-log", "--deep-iteration", "--files", &segments.join(",")];
        String::from_utf8_lossy(&self.tool("dump-log", &arguments, b"")).into_owned()
    }

    fn command(&self, words: &[&str]) -> Value {
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        let pipes = pipes.as_mut().expect("only drop takes the pipes");
        let line =
            words.iter().map(|word| format!("'{}'", word.replace('\'', r#"'"'"'"#))).collect::<Vec<_>>().join(" ");
        // If the harness is gone, its answer is missing, too, and that is reported.
        writeln!(pipes.commands, "{line}").ok();
        pipes.answer(&line)
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        drop(self.pipes.get_mut().unwrap_or_else(PoisonError::into_inner).take());
        self.harness.wait().ok();
    }
}

impl Pipes {
    fn answer(&mut self, asked: &str) -> Value {
        let mut line = String::new();
        self.answers.read_line(&mut line).ok();
        assert!(!line.is_empty(), "the Kafka harness ended before it answered {asked}; its stderr says why");
        let answer: Value = serde_json::from_str(&line).expect("the harness answers in JSON");
        if let Some(error) = answer["error"].as_str() {
            panic!("{asked}: {error}");
        }
        answer
    }
}

fn broker_id(text: &str) -> i32 {
    text.parse().expect("the harness's keys are numbers")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("the harness tells a text here; is there such a broker?")
}

fn integer(value: &Value) -> i32 {
    value.as_i64().and_then(|number| number.try_into().ok()).expect("the harness tells an integer here")
}

fn integers(value: &Value) -> Vec<i32> {
    value.as_array().into_iter().flatten().map(integer).collect()
}
