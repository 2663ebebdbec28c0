//! Commits of a consumer for its group, which never block.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use kavka_core::consumer::Offsets;
use kavka_core::error::{Error, ErrorKind, Result};
use tokio::sync::oneshot;

use super::Consumer;

/// A commit on its way: awaiting it tells how it ended. Dropping it does not stop it.
#[derive(Debug)]
pub struct Commit(oneshot::Receiver<Result<()>>);

impl Commit {
    /// How it ended, if it has; to be asked until there is an answer, and not after.
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
    /// Begins to commit offsets for the group of the consumer (`group.id`), and tries for up to `limit`. Does not wait.
    ///
    /// One commit is on its way at a time; of those that wait behind it the newest offsets win. What
    /// [`Consumer::positions`] gives can be committed as it is. A commit goes on when the consumer is closed.
    ///
    /// # Errors
    ///
    /// `Config` without a group, `Misuse` for a negative offset, `Closed` after [`Consumer::close`]. The [`Commit`] ends
    /// with `Broker` and the coordinator's code if it refuses, and with `TimedOut` at the limit.
    pub fn commit(&self, offsets: Offsets, limit: Duration) -> Result<Commit> {
        let (told, outcome) = oneshot::channel();
        let mut state = self.shared.state();
        if let Some(error) = &state.closed {
            return Err(error.clone());
        }
        let number = state.machine.commit(self.shared.driver.now(), offsets, limit)?;
        state.commits.insert(number, told);
        drop(state);
        self.shared.wake.wake();
        Ok(Commit(outcome))
    }
}
