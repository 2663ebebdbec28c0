//! Creates a topic, and lists all topics: `cargo run -p kavka --example topics -- host:9092 topic`.

use kavka::{Client, NewTopic, Result};

pub(crate) async fn run(bootstrap_servers: &str, topic: &str) -> Result<()> {
    let client = Client::connect(bootstrap_servers).await?;
    let admin = client.admin();
    let letters = NewTopic { name: topic.to_owned(), partitions: Some(3), ..NewTopic::default() };
    admin.create_topic(&letters).await?;

    let created = admin.describe_topic(topic).await?;
    for (number, partition) in created.partitions.iter().enumerate() {
        println!("{topic}-{number}: leader {:?}, replicas {:?}", partition.leader, partition.replicas);
    }
    for topic in admin.list_topics().await? {
        println!("{} with {} partitions", topic.name, topic.partitions.len());
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    run(&arguments[1], &arguments[2]).await
}
