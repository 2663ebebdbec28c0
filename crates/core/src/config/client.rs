//! The settings of a client: the addresses of its cluster, and its limits.

use std::time::Duration;

use super::servers::parse_bootstrap_servers;
use super::setting::{INT, LONG, refuse, settings};
use crate::error::Result;

settings! {
    /// The settings of a client.
    ClientConfig {
        /// The first brokers to ask, as `(host, port)` pairs; they name the rest of the cluster.
        #[setting(kafka = "bootstrap.servers", pykafka = "hosts")]
        bootstrap_servers: Vec<(String, u16)> = ("127.0.0.1", 9092);

        /// The name of this program in the brokers' logs and quotas; at most 32,767 bytes, without control characters.
        #[setting(kafka = "client.id")]
        client_id: String = "kavka";

        /// How long one request may take, including its wait at the broker.
        #[setting(kafka = "request.timeout.ms", pykafka = "socket_timeout_ms", range = 1..=LONG)]
        request_timeout: Duration = 30_000;

        /// How long resolving, connecting and the handshake may take together. In PyKafka this is at most 10 s.
        #[setting(kafka = "socket.connection.setup.timeout.ms", pykafka = "socket_timeout_ms", pykafka_default = "30000", range = 1..=LONG)]
        connection_setup_timeout: Duration = 10_000;

        /// The wait before a failed request is retried; doubles with each failure in a row.
        #[setting(kafka = "retry.backoff.ms", range = 1..=LONG)]
        retry_backoff: Duration = 100;

        /// The longest wait before a failed request is retried.
        #[setting(kafka = "retry.backoff.max.ms", range = 1..=LONG)]
        retry_backoff_max: Duration = 1_000;

        /// The wait before an unreachable broker is dialled again; doubles with each failure in a row. Kafka's default
        /// is 50.
        #[setting(kafka = "reconnect.backoff.ms", range = 1..=LONG)]
        reconnect_backoff: Duration = 100;

        /// The longest wait before an unreachable broker is dialled again.
        #[setting(kafka = "reconnect.backoff.max.ms", range = 1..=LONG)]
        reconnect_backoff_max: Duration = 1_000;

        /// How long a connection may be idle before the client closes it. Brokers close theirs after ten minutes.
        #[setting(kafka = "connections.max.idle.ms", range = 1..=LONG)]
        connections_max_idle: Duration = 540_000;

        /// How old metadata may get before it is refreshed without another reason.
        #[setting(kafka = "metadata.max.age.ms", range = 1..=LONG)]
        metadata_max_age: Duration = 300_000;

        /// The local IP address to connect from; if empty, the system chooses.
        #[setting(ours = "source.address", pykafka = "source_address")]
        source_address: String = "";

        /// The longest response, in bytes; a longer one is refused before it is read.
        #[setting(ours = "max.response.bytes", pykafka = "max_response_bytes", range = 1..=INT)]
        max_response_bytes: usize = 100_000_000;

        /// How many bytes all producers of the client together may buffer.
        #[setting(kafka = "buffer.memory", pykafka = "buffer_memory", range = 65_536..=LONG)]
        buffer_memory: usize = 33_554_432;

        /// How long a call waits for metadata, or for room in the buffer.
        #[setting(kafka = "max.block.ms", pykafka = "max_block_ms", range = 0..=LONG)]
        max_block: Duration = 60_000;
    }
}

impl ClientConfig {
    /// The default settings, with these servers: one or more `host:port`, separated by commas.
    ///
    /// # Errors
    ///
    /// Those of [`parse_bootstrap_servers`].
    pub fn new(bootstrap_servers: &str) -> Result<Self> {
        Ok(Self::default().bootstrap_servers(parse_bootstrap_servers(bootstrap_servers)?))
    }

    fn check_conflicts(&self) -> Result<()> {
        if self.bootstrap_servers.is_empty() {
            return Err(refuse("bootstrap.servers", "empty", "at least one host:port"));
        }
        if self.client_id.len() > i16::MAX as usize || self.client_id.contains(char::is_control) {
            let shown = crate::error::printable(&self.client_id);
            return Err(refuse("client.id", shown, "at most 32,767 bytes without control characters"));
        }
        if !self.source_address.is_empty() && self.source_address.parse::<core::net::IpAddr>().is_err() {
            let shown = crate::error::printable(&self.source_address);
            return Err(refuse("source.address", shown, "an IP address of this machine, without a port"));
        }
        for (setting, least, bound, most) in [
            ("retry.backoff.ms", self.retry_backoff, "retry.backoff.max.ms", self.retry_backoff_max),
            ("reconnect.backoff.ms", self.reconnect_backoff, "reconnect.backoff.max.ms", self.reconnect_backoff_max),
        ] {
            if least > most {
                return Err(refuse(setting, format!("{least:?}"), format!("at most {bound} ({most:?})")));
            }
        }
        Ok(())
    }
}
