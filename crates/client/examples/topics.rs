//! Prints the brokers and topics of a cluster: `cargo run -p kavka --example topics -- host:port`.

use kavka::{Client, ClientConfig, Error};

fn main() -> Result<(), Error> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9092".into());
    let (host, port) = address.rsplit_once(':').unwrap_or((&address, "9092"));
    let bootstrap_servers = vec![(host.to_owned(), port.parse().unwrap_or(9092))];
    let client = Client::new(ClientConfig { bootstrap_servers, ..ClientConfig::default() })?;
    let connecting = client.clone();
    let connected = client.start(async move { connecting.connect().await }).wait(None);
    let Some(metadata) = connected.transpose()? else { return Ok(()) };
    for broker in metadata.brokers() {
        println!("broker {} at {}:{}", broker.id, broker.host, broker.port);
    }
    for topic in metadata.topics() {
        println!("topic {} with {} partitions", topic.name, topic.partitions.len());
    }
    Ok(())
}
