//! Prints the first ten records of a topic: `cargo run -p kavka --example consume -- host:9092 topic`.

use kavka::{Client, ConsumerConfig, Result, StartPosition};

pub(crate) async fn run(bootstrap_servers: &str, topic: &str) -> Result<()> {
    let client = Client::connect(bootstrap_servers).await?;
    let consumer = client.consumer(ConsumerConfig::default())?;
    for partition in client.partitions(topic).await? {
        consumer.add(&partition, StartPosition::Earliest)?;
    }

    let mut records = consumer.records();
    for _ in 0..10 {
        match records.next().await {
            Some(Ok(record)) => println!("{} {}: {:?}", record.topic_partition, record.offset, record.value),
            Some(Err(error)) => eprintln!("{error}"),
            None => break,
        }
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    run(&arguments[1], &arguments[2]).await
}
