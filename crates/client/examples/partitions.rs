//! The cost of a consumer, by the number of its partitions.
//!
//! `cargo run --release -p kavka --example partitions -- [counts]`
//!
//! Starts an embedded cluster of three brokers, writes two million records of 100 bytes to topics of 10, 1,000 and
//! 10,000 partitions, in batches of about a hundred, and reads each back. Prints the CPU time per record of the
//! client's threads (the reading thread and the engine, without the brokers), and the CPU use of an idle consumer.

use std::time::{Duration, Instant};

use kavka::blocking::Client;
use kavka::{ConsumerConfig, Error, ErrorKind, ProducerConfig, Record, StartPosition, TopicPartition};
use kavka_broker::ClusterConfig;
use kavka_broker::serve::{Broker, Options};

const RECORDS: i32 = 2_000_000;
const BATCH_RECORDS: i32 = 100;
const IDLE: Duration = Duration::from_secs(5);

fn main() -> Result<(), Error> {
    let counts: Vec<i32> = std::env::args().skip(1).filter_map(|count| count.parse().ok()).collect();
    let counts = if counts.is_empty() { vec![10, 1_000, 10_000] } else { counts };
    for count in counts {
        let cluster = ClusterConfig { brokers: 3, ..ClusterConfig::default() };
        let cannot = |cause| Error::new(ErrorKind::Misuse, "the brokers cannot be started").with_source(cause);
        let broker = Broker::start(Options { cluster, ..Options::default() }).map_err(cannot)?;
        broker.with(|cluster, _| cluster.create_topic("many", count, 1)).expect("a new cluster has no topics");
        let client = Client::connect(&broker.bootstrap_servers())?;
        produce(&client, count)?;
        consume(&client, count)?;
    }
    Ok(())
}

/// The CPU time of the client's threads so far, in nanoseconds.
fn client_cpu_nanos() -> f64 {
    let mut total = 0.0;
    for task in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let read = |name: &str| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        if matches!(read("comm").trim(), "kavka" | "partitions") {
            total += read("schedstat").split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0.0);
        }
    }
    total
}

fn produce(client: &Client, partitions: i32) -> Result<(), Error> {
    let config = ProducerConfig::default().batch_size(11_000);
    let producer = client.producer(config)?;
    let topic = producer.topic("many", false)?;
    let value = [b'v'; 100];
    for turn in 0..RECORDS / BATCH_RECORDS {
        let record = Record { partition: Some(turn.rem_euclid(partitions)), value: Some(&value), ..Record::default() };
        for _ in 0..BATCH_RECORDS {
            drop(producer.send(topic, &record)?);
        }
    }
    producer.close(Duration::from_secs(60))
}

fn consume(client: &Client, partitions: i32) -> Result<(), Error> {
    let consumer = client.consumer(ConsumerConfig::default())?;
    let (started, cpu) = (Instant::now(), client_cpu_nanos());
    for partition in 0..partitions {
        consumer.add(&TopicPartition::new("many", partition), StartPosition::Offset(0))?;
    }
    let added = (client_cpu_nanos() - cpu) / 1e6;
    let mut records = 0;
    while records < RECORDS {
        let Some(mut batch) = consumer.next_batch(Duration::from_secs(10))? else { break };
        while batch.next_record().is_some() {
            records += 1;
        }
    }
    let (nanos, seconds) = (client_cpu_nanos() - cpu, started.elapsed().as_secs_f64());
    let idle = client_cpu_nanos();
    std::thread::sleep(IDLE);
    let idle = (client_cpu_nanos() - idle) / (IDLE.as_secs_f64() * 1e9) * 100.0;
    println!(
        "{partitions} partitions: {records} records in {seconds:.2} s, {:.0} ns CPU per record (adding the partitions \
         took {added:.0} ms); idle {idle:.2} % of a core",
        nanos / f64::from(records)
    );
    Ok(())
}
