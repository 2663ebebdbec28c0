//! `kavka topics`: lists, describes, creates and deletes topics.

use std::fmt::Write as _;

use kavka::{Client, ClientConfig, IsolationLevel, NewTopic, Result as KavkaResult, Topic, TopicPartition};

use crate::arguments::{TopicsAction, TopicsArguments};
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::output::Output;
use crate::session::Session;
use crate::table::table;

/// Runs one of the topic subcommands, and prints its result.
pub(crate) fn run(cluster: &Cluster, arguments: TopicsArguments) -> Result<(), Failure> {
    let session = Session::new(ClientConfig::from_properties(cluster.settings(&[], &[])?)?)?;
    let client = session.client.clone();
    let text = session.wait(async move {
        match arguments.action.unwrap_or(TopicsAction::List { internal: false }) {
            TopicsAction::List { internal } => list(&client, internal).await,
            TopicsAction::Describe { name } => describe(&client, &name).await,
            TopicsAction::Create { name, partitions, replication_factor, configs } => {
                client.ready().await?;
                let topic = NewTopic { name, partitions, replication_factor, configs, ..NewTopic::default() };
                client.admin().create_topic(&topic).await?;
                Ok(String::new())
            }
            TopicsAction::Delete { name } => {
                client.ready().await?;
                client.admin().delete_topic(&name).await?;
                Ok(String::new())
            }
        }
    })?;
    Output::print(&text)
}

async fn list(client: &Client, internal: bool) -> KavkaResult<String> {
    let metadata = client.ready().await?;
    let topics = metadata.topics().filter(|topic| internal || !topic.is_internal);
    Ok(topics.fold(String::new(), |mut text, topic| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}\t{}", topic.name, topic.partitions.len());
        text
    }))
}

async fn describe(client: &Client, name: &str) -> KavkaResult<String> {
    let topic = client.topic(name, false).await?;
    let keys: Vec<TopicPartition> =
        (0..topic.partitions.len()).map(|partition| TopicPartition::new(name, partition as i32)).collect();
    let limit = client.max_block();
    let beginnings = client.beginning_offsets(&keys, limit).await?;
    let ends = client.end_offsets(&keys, IsolationLevel::ReadUncommitted, limit).await?;
    let offset = |found: Option<&i64>| found.map_or_else(|| "?".to_owned(), i64::to_string);
    let rows = topic.partitions.iter().zip(&keys).map(|(partition, key)| {
        [
            key.partition.to_string(),
            partition.leader.map_or_else(|| "none".to_owned(), |leader| leader.to_string()),
            ids(&partition.replicas),
            ids(&partition.in_sync_replicas),
            offset(beginnings.get(key)),
            offset(ends.get(key)),
        ]
    });
    let head = ["partition", "leader", "replicas", "in-sync", "earliest", "end"];
    Ok(format!("{}\n{}", title(&topic), table(head, rows)))
}

fn title(topic: &Topic) -> String {
    let replicas = topic.partitions.first().map_or(0, |partition| partition.replicas.len());
    format!("{}: partitions {}, replication factor {replicas}", topic.name, topic.partitions.len())
}

fn ids(ids: &[i32]) -> String {
    ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",")
}
