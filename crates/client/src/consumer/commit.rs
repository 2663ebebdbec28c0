//! A consumer's offset commits, which never block.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use kavka_core::consumer::Offsets;
use kavka_core::error::{Error, ErrorKind, Result};
use tokio::sync::oneshot;

use super::Consumer;

/// A pending commit; await it for the outcome. Dropping it does not cancel the commit.
#[derive(Debug)]
pub struct Commit(oneshot::Receiver<Result<()>>);

impl Commit {
    pub(super) fn new(outcome: oneshot::Receiver<Result<()>>) -> Self {
        Self(outcome)
    }

    /// The outcome, if the commit has ended. Do not call it again after it has returned the outcome.
    pub fn outcome(&mut self) -> Option<Result<()>> {
        match self.0.try_recv() {
            Ok(outcome) => Some(outcome),
            Err(oneshot::error::TryRecvError::Empty) => None,
            Err(oneshot::error::TryRecvError::Closed) => Some(Err(ended())),
        }
    }
}

impl Future for Commit {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.0).poll(context).map(|outcome| outcome.unwrap_or_else(|_| Err(ended())))
    }
}

fn ended() -> Error {
    Error::new(ErrorKind::Closed, "the consumer ended before its commit was answered")
}

impl Consumer {
    /// Starts to commit offsets for the consumer's group (`group.id`), and retries for up to `limit`. Does not wait.
    ///
    /// One commit is in flight at a time; later ones wait and are merged, with the newest offset of each partition. The
    /// result of [`Consumer::positions`] can be passed in as it is. Closing the consumer does not cancel a commit.
    ///
    /// # Errors
    ///
    /// `Config` without a group, `Misuse` if an offset is negative, `Closed` after [`Consumer::close`]. The [`Commit`]
    /// ends with `Broker` and the coordinator's code if it is refused, and with `TimedOut` at the limit.
    pub fn commit(&self, offsets: Offsets, limit: Duration) -> Result<Commit> {
        let (sender, outcome) = oneshot::channel();
        let mut state = self.shared.state();
        if let Some(error) = &state.closed {
            return Err(error.clone());
        }
        let number = state.machine.commit(self.shared.driver.now(), offsets, limit)?;
        state.commits.insert(number, sender);
        drop(state);
        self.shared.wake.wake();
        Ok(Commit(outcome))
    }
}
