//! The client that a subcommand uses, and waiting for it in a way that Ctrl-C interrupts.

use std::future::Future;
use std::time::Duration;

use kavka::{Client, ClientConfig, Result as KavkaResult, parse_bootstrap_servers};

use crate::arguments::Cluster;
use crate::failure::Failure;
use crate::signals::Interrupt;

/// Where the cluster is, when no argument says so.
const BOOTSTRAP_VARIABLE: &str = "KAVKA_BOOTSTRAP_SERVERS";

/// How often a wait checks for Ctrl-C.
pub(crate) const STEP: Duration = Duration::from_millis(50);

/// A client, and whether Ctrl-C came.
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) interrupt: Interrupt,
}

impl Session {
    /// Reads where the cluster is; nothing is sent yet.
    pub(crate) fn new(cluster: &Cluster) -> Result<Self, Failure> {
        let from_environment = std::env::var(BOOTSTRAP_VARIABLE).ok();
        let list = cluster.bootstrap_server.as_deref().or(from_environment.as_deref()).unwrap_or("127.0.0.1:9092");
        let config = ClientConfig { bootstrap_servers: parse_bootstrap_servers(list)?, ..ClientConfig::default() };
        Ok(Self { client: Client::new(config)?, interrupt: Interrupt::listen()? })
    }

    /// Runs a call of the client; Ctrl-C ends the wait.
    pub(crate) fn wait<T: Send + 'static>(
        &self,
        future: impl Future<Output = KavkaResult<T>> + Send + 'static,
    ) -> Result<T, Failure> {
        let pending = self.client.start(future);
        match pending.wait_in_steps(None, STEP, || self.interrupt.check())? {
            Some(result) => Ok(result?),
            None => Err(Failure::new("the engine has ended")),
        }
    }
}
