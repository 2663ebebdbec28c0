//! What a large group costs, on real Kafka with `make bench-members`, or on any cluster with
//! `cargo run --release -p kavka --example group_cost -- host:9092 [members] [topics] [partitions]`.
//!
//! Members of one client share, by default, 2,000 partitions of 20 topics. Prints how long they take to join and to
//! take over when one leaves, and the CPU use of the idle group. Creates the topics if they do not exist.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use kavka::{
    Client, ConsumerConfig, Error, ErrorCode, ErrorKind, GroupConfig, GroupConsumer, GroupOptions, NewTopic, Phase,
    Result,
};

/// How long the idle group is observed.
const WATCHED: Duration = Duration::from_secs(20);

/// How long a rebalance may take.
const LIMIT: Duration = Duration::from_secs(120);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, default: usize| arguments.get(index).and_then(|n| n.parse().ok()).unwrap_or(default);
    let bootstrap_servers = arguments.first().map_or("127.0.0.1:9092", String::as_str);
    let (members, topics, partitions) = (number(1, 50), number(2, 20), number(3, 2_000));
    let client = Client::connect(bootstrap_servers).await?;
    let names: Vec<String> = (0..topics).map(|number| format!("group-{number}")).collect();
    make(&client, &names, partitions / topics).await?;

    let started = Instant::now();
    let mut group = (0..members).map(|_| join(&client, &names)).collect::<Result<Vec<_>>>()?;
    settle(&group, partitions).await?;
    report("join", started);

    let started = Instant::now();
    if let Some(member) = group.pop() {
        member.close(LIMIT).await?;
    }
    settle(&group, partitions).await?;
    report("one leaves", started);

    let started = Instant::now();
    group.push(join(&client, &names)?);
    settle(&group, partitions).await?;
    report("one joins", started);

    let before = cpu_seconds();
    tokio::time::sleep(WATCHED).await;
    println!("idle: {:.1} % of a processor", (cpu_seconds() - before) / WATCHED.as_secs_f64() * 100.0);
    Ok(())
}

fn report(what: &str, started: Instant) {
    println!("{what}: {:.2} s, {:.2} s CPU since the start", started.elapsed().as_secs_f64(), cpu_seconds());
}

/// The CPU time of the process so far, in seconds.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = |index: usize| stat.rsplit(')').next()?.split_whitespace().nth(index)?.parse::<f64>().ok();
    (ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / 100.0
}

async fn make(client: &Client, names: &[String], partitions: usize) -> Result<()> {
    let admin = client.admin();
    for name in names {
        let partitions = i32::try_from(partitions).ok();
        let topic = NewTopic { name: name.clone(), partitions, replication_factor: Some(1), ..NewTopic::default() };
        match admin.create_topic(&topic).await {
            Err(error) if error.code() != Some(ErrorCode::TOPIC_ALREADY_EXISTS) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn join(client: &Client, names: &[String]) -> Result<GroupConsumer> {
    let consumer = ConsumerConfig::default().group_id(Some("large".to_owned()));
    let member = client.group_consumer(consumer, GroupConfig::default(), GroupOptions::default())?;
    member.subscribe(names)?;
    Ok(member)
}

/// Waits until the members share all partitions, each with one owner, and nobody has much less than the others. At
/// first the members that came early have everything, so a group with a full assignment is not settled yet.
async fn settle(group: &[GroupConsumer], partitions: usize) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    let least = partitions / (group.len() + 1);
    loop {
        let shares: Vec<_> = group.iter().map(GroupConsumer::assignment).collect();
        let all: BTreeSet<_> = shares.iter().flatten().collect();
        let is_complete = shares.iter().map(Vec::len).sum::<usize>() == partitions && all.len() == partitions;
        let is_even = is_complete && shares.iter().all(|share| share.len() >= least);
        if is_even && group.iter().all(GroupConsumer::is_stable) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Error::new(
                ErrorKind::TimedOut(Phase::Request),
                format!("{} of {partitions} are shared out", all.len()),
            ));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
