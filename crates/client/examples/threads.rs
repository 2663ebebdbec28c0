//! Writes and reads without async, from two threads: `cargo run -p kavka --example threads -- host:9092 topic`.

use std::thread;
use std::time::Duration;

use kavka::blocking::Client;
use kavka::{ConsumerConfig, ProducerConfig, Record, Result, StartPosition};

pub(crate) fn run(bootstrap_servers: &str, topic: &str) -> Result<()> {
    let client = Client::connect(bootstrap_servers)?;
    let producer = client.producer(ProducerConfig::default())?;
    let letters = producer.topic(topic, true)?;
    let consumer = client.consumer(ConsumerConfig::default())?;
    for partition in client.partitions(topic)? {
        consumer.add(&partition, StartPosition::Earliest)?;
    }

    thread::scope(|scope| {
        let writer = scope.spawn(move || {
            (0..10).try_for_each(|number: u32| {
                let delivery = producer.send(letters, &Record::new(&number.to_string()))?;
                delivery.wait().map(drop)
            })
        });
        for record in consumer.records(Duration::from_secs(5)).take(10) {
            println!("{:?}", record?.value);
        }
        writer.join().expect("the writer does not panic")
    })
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    run(&arguments[1], &arguments[2])
}
