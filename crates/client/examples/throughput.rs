//! A million records of 100 bytes, each way: `cargo run --release -p kavka --example throughput -- host:port [count]`.
//!
//! Prints records per second and CPU time per record of this process. The topic `throughput` must exist or be
//! creatable.

use std::time::{Duration, Instant};

use kavka::blocking::{Client, wait};
use kavka::{ConsumerConfig, Error, IsolationLevel, ProducerConfig, Record, StartPosition, TopicPartition};

const TOPIC: &str = "throughput";

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:9092".into());
    let count: u32 = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(1_000_000);
    let client = Client::connect(&address)?;
    let starts = produce(&client, count)?;
    consume(&client, &starts, count)
}

/// The CPU time of the process so far, in seconds.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = |index: usize| stat.rsplit(')').next()?.split_whitespace().nth(index)?.parse::<f64>().ok();
    (ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / 100.0
}

fn report(what: &str, count: u32, started: Instant, cpu: f64) {
    let seconds = started.elapsed().as_secs_f64();
    let count = f64::from(count);
    let cpu = (cpu_seconds() - cpu) / count * 1e9;
    println!("{what}: {:.0} k records/s, {cpu:.0} ns CPU per record", count / seconds / 1e3);
}

/// Returns the offset at which each partition began.
fn produce(client: &Client, count: u32) -> Result<Vec<i64>, Error> {
    let producer = client.producer(ProducerConfig::default())?;
    let topic = producer.topic(TOPIC, true)?;
    let partitions = producer.partition_count(topic) as i32;
    let keys: Vec<TopicPartition> = (0..partitions).map(|partition| TopicPartition::new(TOPIC, partition)).collect();
    let limit = Duration::from_secs(30);
    let ends = wait(client.end_offsets(&keys, IsolationLevel::ReadUncommitted, limit))?;
    let value: Vec<u8> = (0..100).collect();
    let record = Record { value: Some(&value), ..Record::default() };
    let (started, cpu) = (Instant::now(), cpu_seconds());
    let mut last = None;
    for _ in 0..count {
        last = Some(producer.send(topic, &record)?);
    }
    producer.close(Duration::from_secs(60))?;
    report("produce", count, started, cpu);
    if let Some(delivery) = last {
        println!("the last record: {:?}", delivery.outcome());
    }
    Ok(ends.into_values().collect())
}

fn consume(client: &Client, starts: &[i64], count: u32) -> Result<(), Error> {
    let consumer = client.consumer(ConsumerConfig::default())?;
    let (started, cpu) = (Instant::now(), cpu_seconds());
    for (partition, start) in (0..).zip(starts) {
        consumer.add(&TopicPartition::new(TOPIC, partition), StartPosition::Offset(*start))?;
    }
    let (mut records, mut bytes) = (0, 0);
    while records < count {
        let Some(mut batch) = consumer.next_batch(Duration::from_secs(10))? else { break };
        while let Some(record) = batch.next_record() {
            records += 1;
            bytes += record.value.map_or(0, |value| value.range().len());
        }
    }
    report("consume", records, started, cpu);
    println!("{records} records with {bytes} bytes of values");
    Ok(())
}
