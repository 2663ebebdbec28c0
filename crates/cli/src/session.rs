//! The client that a subcommand uses, and waiting for it in a way that Ctrl-C interrupts.

use std::future::Future;
use std::time::Duration;

use kavka::{Client, ClientConfig, Result as KavkaResult};

use crate::failure::Failure;
use crate::signals::Interrupt;

/// How often a wait checks for Ctrl-C.
pub(crate) const STEP: Duration = Duration::from_millis(50);

/// A client, and whether Ctrl-C came.
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) interrupt: Interrupt,
}

impl Session {
    /// Makes the client; nothing is sent yet.
    pub(crate) fn new(config: ClientConfig) -> Result<Self, Failure> {
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
