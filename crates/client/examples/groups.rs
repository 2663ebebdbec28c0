//! Lists the groups, prints the lag of one, and moves it to the end of its partitions.
//!
//! `cargo run -p kavka --example groups -- host:9092 group`

use kavka::{Client, CommittedOffset, Offsets, Result};

pub(crate) async fn run(bootstrap_servers: &str, group: &str) -> Result<i64> {
    let client = Client::connect(bootstrap_servers).await?;
    let admin = client.admin();
    for listed in admin.list_groups().await? {
        println!("{}: {}", listed.group_id, listed.state.as_deref().unwrap_or("state unknown"));
    }

    let lag = admin.group_lag(group).await?;
    for partition in &lag {
        println!("{}: {:?} behind", partition.topic_partition, partition.lag());
    }

    let end = |end: Option<i64>| end.map(CommittedOffset::new);
    let ends: Offsets = lag.iter().filter_map(|one| Some((one.topic_partition.clone(), end(one.end)?))).collect();
    // Refused while the group has live members.
    admin.alter_group_offsets(group, &ends).await?;
    Ok(lag.iter().filter_map(kavka::PartitionLag::lag).sum())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    run(&arguments[1], &arguments[2]).await.map(drop)
}
