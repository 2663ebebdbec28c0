//! Random scripts of requests, whose outcome must be the same on the embedded broker and on real Kafka.
//!
//! A seed decides a script: which requests, in which versions, right ones and wrong ones. Each step writes a line with
//! the error code and all of the outcome that does not depend on the cluster, such as offsets and records, but not ids.
//! A script asks again for what takes a while on real Kafka, and for nothing else, so both write the same lines.
//!
//! `SCRIPT_SEED=7 cargo test -p kavka-broker --test fidelity scripts -- --ignored` runs one script; with `SCRIPTS=200`
//! as many run on each version of Kafka.

mod groups;
mod logs;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, thread};

use kavka_core::random::Random;
use kavka_core::wire::ApiKey;
use kavka_test_support::brokers::{self, Brokers};

use crate::cluster::{Cluster, producer_id, unique};
use crate::connection::Connection;

/// How many steps a script has.
const STEPS: usize = 30;

/// How the scripts run on one version of Kafka.
struct Plan {
    /// How many run, unless `SCRIPTS` says so.
    scripts: u64,
    /// How many run at the same time: they wait a lot.
    threads: usize,
    /// How often a script is run until both outcomes are the same.
    attempts: usize,
}

const LATEST: Plan = Plan { scripts: 200, threads: 6, attempts: 1 };

/// Wherever a topic is deleted, the coordinators of Kafka 3 forget all groups that have neither members nor offsets,
/// also those of other scripts and tests. So one script runs at a time, and a difference counts only if it comes every
/// time.
const LATEST_3: Plan = Plan { scripts: 25, threads: 1, attempts: 3 };

#[test]
fn a_script_has_the_same_outcome_every_time() {
    let versions = common(brokers::embedded(), brokers::embedded());
    for seed in 0..20 {
        let first = run(brokers::embedded(), &versions, seed);
        assert_eq!(first, run(brokers::embedded(), &versions, seed), "seed {seed}");
        assert!(first.len() >= STEPS);
    }
}

#[test]
#[ignore = "`make kafka-test` runs it"]
fn scripts_have_the_same_outcome_on_the_newest_kafka() {
    compare(brokers::embedded(), brokers::kafka_latest(), &LATEST);
}

#[test]
#[ignore = "`make kafka-test` runs it"]
fn scripts_have_the_same_outcome_on_the_last_kafka_3() {
    compare(brokers::embedded_3(), brokers::kafka_latest_3(), &LATEST_3);
}

type Versions = BTreeMap<ApiKey, RangeInclusive<i16>>;

/// The versions of each API that both clusters have.
fn common(one: &'static Brokers, other: &'static Brokers) -> Versions {
    let (one, other) = (Cluster::of(one).connect(1), Cluster::of(other).connect(1));
    let both = |key: &ApiKey| {
        let (one, other) = (one.versions(*key), other.versions(*key));
        (*key, *one.start().max(other.start())..=*one.end().min(other.end()))
    };
    ApiKey::ALL.iter().map(both).collect()
}

/// Runs all scripts on both clusters. Panics with the lines up to the first that differs, of each script that differs.
fn compare(embedded: &'static Brokers, kafka: &'static Brokers, plan: &Plan) {
    let versions = common(embedded, kafka);
    // A broker that has just started has no ids yet.
    producer_id(&mut Cluster::of(kafka).connect(1));
    let number = |name: &str| env::var(name).ok().map(|number| number.parse::<u64>().unwrap());
    let (only, scripts) = (number("SCRIPT_SEED"), number("SCRIPTS").unwrap_or(plan.scripts));
    let (next, last) = (AtomicU64::new(only.unwrap_or(0)), only.unwrap_or(scripts - 1));
    let attempt = |seed| difference(seed, &run(embedded, &versions, seed), &run(kafka, &versions, seed));
    let work = || {
        let mut differences = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > last {
                return differences;
            }
            let attempts: Option<Vec<String>> = (0..plan.attempts).map(|_| attempt(seed)).collect();
            differences.extend(attempts.and_then(|mut attempts| attempts.pop()));
        }
    };
    let differences = thread::scope(|scope| {
        let threads: Vec<_> = (0..plan.threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(differences.is_empty(), "{} scripts differ:\n{}", differences.len(), differences.join("\n"));
}

fn difference(seed: u64, embedded: &[String], kafka: &[String]) -> Option<String> {
    let at = embedded.iter().zip(kafka).position(|(one, other)| one != other)?;
    let before = embedded[..at].join("\n    ");
    Some(format!("seed {seed}:\n    {before}\n  embedded: {}\n  Kafka:    {}", embedded[at], kafka[at]))
}

fn run(brokers: &'static Brokers, versions: &Versions, seed: u64) -> Vec<String> {
    let mut script = Script {
        cluster: Cluster::of(brokers),
        versions,
        random: Random::new(seed),
        lines: Vec::new(),
        topics: vec![logs::Slot::new(unique("script")), logs::Slot::new(unique("script"))],
        producers: Vec::new(),
        group: groups::Scripted::default(),
        connections: BTreeMap::new(),
    };
    script.create_topic(0, 2, 1);
    while script.lines.len() < STEPS {
        script.step();
    }
    script.lines
}

/// A script at work on a cluster.
struct Script<'a> {
    cluster: Cluster,
    versions: &'a Versions,
    random: Random,
    lines: Vec<String>,
    topics: Vec<logs::Slot>,
    producers: Vec<logs::Producer>,
    group: groups::Scripted,
    connections: BTreeMap<i32, Connection>,
}

impl Script<'_> {
    fn step(&mut self) {
        match self.random.below(20) {
            0..5 => self.produce(),
            5..7 => self.fetch(),
            7 => self.list_offsets(),
            8 => self.delete_records(),
            9 => self.change_topics(),
            10 => self.init_producer(),
            11 => self.look_up_epoch(),
            _ => self.step_of_group(),
        }
    }

    fn note(&mut self, line: String) {
        self.lines.push(line);
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.random.below(choices.len())]
    }

    /// Any version of an API that both clusters have, from `least` on and up to `most`.
    fn version(&mut self, key: ApiKey, least: i16, most: i16) -> i16 {
        let versions = &self.versions[&key];
        let (oldest, newest) = ((*versions.start()).max(least), (*versions.end()).min(most));
        oldest + self.random.below((newest - oldest + 1) as usize) as i16
    }

    fn connection(&mut self, broker_id: i32) -> &mut Connection {
        let cluster = &self.cluster;
        self.connections.entry(broker_id).or_insert_with(|| cluster.connect(broker_id))
    }
}
