//! Shares a topic with the other members of a group, and works on several records at once:
//! `cargo run -p kavka --example group -- host:9092 topic group`.

use std::time::Duration;

use kavka::{
    Acknowledgements, Client, ConsumerConfig, ConsumerRecord, GroupConfig, GroupConsumer, GroupOptions,
    RebalanceListener, Result, TopicPartition,
};

/// How long to wait for records before leaving the group.
const IDLE: Duration = Duration::from_secs(3);

struct Talkative;

impl RebalanceListener for Talkative {
    fn on_assigned(&self, _: &GroupConsumer, partitions: &[TopicPartition]) {
        println!("new: {partitions:?}");
    }

    fn on_revoked(&self, _: &GroupConsumer, partitions: &[TopicPartition]) {
        println!("given up: {partitions:?}");
    }
}

fn work(record: &ConsumerRecord) {
    println!("{} {:?}", record.topic_partition, record.value);
}

pub(crate) async fn run(bootstrap_servers: &str, topic: &str, group: &str) -> Result<usize> {
    let client = Client::connect(bootstrap_servers).await?;
    let acknowledgements = Acknowledgements::new();
    let options = GroupOptions::default().listener(Talkative).acknowledgements(&acknowledgements);
    let consumer = ConsumerConfig::default().group_id(Some(group.to_owned()));
    let member = client.group_consumer(consumer, GroupConfig::default(), options)?;
    member.subscribe(&[topic])?;

    let mut workers = tokio::task::JoinSet::new();
    let mut records = member.records();
    while let Ok(Some(record)) = tokio::time::timeout(IDLE, records.next()).await {
        let record = record?;
        let acknowledgement = acknowledgements.track(&record);
        workers.spawn(async move {
            work(&record);
            // From here on the record counts as done: in whatever order the workers end, none is skipped.
            acknowledgement.acknowledge();
        });
    }
    let count = workers.join_all().await.len();
    // Commits what is acknowledged, and hands the partitions to the other members at once.
    member.close(Duration::from_secs(10)).await?;
    Ok(count)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    run(&arguments[1], &arguments[2], &arguments[3]).await.map(drop)
}
