//! The settings of a client: where its cluster is, and the limits of what it does there.

use std::time::Duration;

use super::servers::parse_bootstrap_servers;
use super::setting::{INT, LONG, refuse, settings};
use crate::error::Result;

settings! {
    /// What a client needs before it can talk to a cluster.
    ClientConfig {
        /// Where to begin, as `(host, port)` pairs; the rest of the cluster is found from there.
        #[setting(kafka = "bootstrap.servers", pykafka = "hosts")]
        bootstrap_servers: Vec<(String, u16)> = ("127.0.0.1", 9092);

        /// What the brokers' logs and quotas call this program; at most 32,767 bytes, without control characters.
        #[setting(kafka = "client.id")]
        client_id: String = "kavka";

        /// How long one request may take, its wait at the broker included.
        #[setting(kafka = "request.timeout.ms", pykafka = "socket_timeout_ms", range = 1..=LONG)]
        request_timeout: Duration = 30_000;

        /// How long looking up a name, connecting and shaking hands may take together.
        #[setting(kafka = "socket.connection.setup.timeout.ms", pykafka = "socket_timeout_ms", range = 1..=LONG)]
        connection_setup_timeout: Duration = 10_000;

        /// The wait before a failed request is tried again; it doubles with each failure in a row.
        #[setting(kafka = "retry.backoff.ms", range = 1..=LONG)]
        retry_backoff: Duration = 100;

        /// The longest wait before a failed request is tried again.
        #[setting(kafka = "retry.backoff.max.ms", range = 1..=LONG)]
        retry_backoff_max: Duration = 1_000;

        /// The wait before a broker that could not be reached is dialled again; it doubles with each failure in a row.
        /// Kafka's default is 50.
        #[setting(kafka = "reconnect.backoff.ms", range = 1..=LONG)]
        reconnect_backoff: Duration = 100;

        /// The longest wait before a broker is dialled again.
        #[setting(kafka = "reconnect.backoff.max.ms", range = 1..=LONG)]
        reconnect_backoff_max: Duration = 1_000;

        /// How long a connection may be idle before the client closes it. Brokers close theirs after ten minutes.
        #[setting(kafka = "connections.max.idle.ms", range = 1..=LONG)]
        connections_max_idle: Duration = 540_000;

        /// How old the client's view of the cluster may become before it asks again without another reason.
        #[setting(kafka = "metadata.max.age.ms", range = 1..=LONG)]
        metadata_max_age: Duration = 300_000;

        /// How many bytes an answer may have: a longer one is refused before it is read.
        #[setting(ours = "max.response.bytes", pykafka = "max_response_bytes", range = 1..=INT)]
        max_response_bytes: usize = 100_000_000;

        /// How many bytes all producers of the client may buffer together.
        #[setting(kafka = "buffer.memory", pykafka = "buffer_memory", range = 65_536..=LONG)]
        buffer_memory: usize = 33_554_432;

        /// How long a call waits for metadata, or for room in the buffer.
        #[setting(kafka = "max.block.ms", pykafka = "max_block_ms", range = 0..=LONG)]
        max_block: Duration = 60_000;
    }
}

impl ClientConfig {
    /// The defaults, for the cluster that is found at `bootstrap_servers`: `host:port`, with commas between several.
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
