//! Writes ten records and prints the report of each: `cargo run -p kavka --example produce -- host:9092 topic`.

use kavka::{Client, ProducerConfig, Record, Result};

pub(crate) async fn run(bootstrap_servers: &str, topic: &str) -> Result<()> {
    let client = Client::connect(bootstrap_servers).await?;
    let producer = client.producer(ProducerConfig::default())?;
    let topic = producer.topic(topic, true).await?;

    let mut deliveries = Vec::new();
    for number in 0..10 {
        let value = format!("letter {number}");
        deliveries.push(producer.send(topic, &Record::new(&value).key("greeting")).await?);
    }
    for delivery in deliveries {
        match delivery.await {
            Ok(stored) => println!("stored in partition {} at offset {:?}", stored.partition, stored.offset),
            Err(error) => eprintln!("{error}"),
        }
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    run(&arguments[1], &arguments[2]).await
}
