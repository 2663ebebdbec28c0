//! Continues where a group has left off, and commits its positions.
//!
//! `cargo run -p kavka --example resume -- host:9092 topic group`

use std::time::Duration;

use kavka::{Client, ConsumerConfig, Result, StartPosition};

const LIMIT: Duration = Duration::from_secs(10);

pub(crate) async fn run(bootstrap_servers: &str, topic: &str, group: &str) -> Result<usize> {
    let client = Client::connect(bootstrap_servers).await?;
    let partitions = client.partitions(topic).await?;
    let committed = client.committed_offsets(group, &partitions, LIMIT).await?;
    let consumer = client.consumer(ConsumerConfig::default())?;
    for partition in &partitions {
        let start = committed.get(partition).map(StartPosition::from);
        consumer.add(partition, start.unwrap_or(StartPosition::Earliest))?;
    }

    let mut records = consumer.records();
    let mut count = 0;
    while let Ok(Some(record)) = tokio::time::timeout(Duration::from_secs(1), records.next()).await {
        println!("{:?}", record?.value);
        count += 1;
    }
    client.commit_offsets(group, &consumer.positions(), LIMIT).await?;
    Ok(count)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    run(&arguments[1], &arguments[2], &arguments[3]).await.map(drop)
}
