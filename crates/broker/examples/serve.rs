//! Serves a cluster until its standard input ends: `cargo run -p kavka-broker --example serve -- 3`, for three brokers.

use std::io::Read;

use kavka_broker::ClusterConfig;
use kavka_broker::serve::{Broker, Options};

fn main() -> std::io::Result<()> {
    let brokers = std::env::args().nth(1).and_then(|number| number.parse().ok()).unwrap_or(1);
    let cluster = ClusterConfig { brokers, default_partitions: 3, ..ClusterConfig::default() };
    let broker = Broker::start(Options { cluster, ports: Vec::new() })?;
    println!("{}", broker.bootstrap_servers());
    std::io::stdin().read_to_end(&mut Vec::new())?;
    broker.stop();
    Ok(())
}
