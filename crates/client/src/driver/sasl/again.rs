//! Authenticates an open connection again before its session ends (KIP-368).

use std::sync::Arc;
use std::task::{Context, Poll};

use kavka_core::error::{Error, Result};
use kavka_core::link::Connection;
use kavka_core::link::sasl::{Credentials, Worked};
use kavka_core::time::Instant;

use super::Attempt;
use crate::driver::{BoxFuture, ConnectionKey, Switchboard};

/// What is done on another thread for one connection.
pub(in crate::driver) struct Again {
    key: ConnectionKey,
    doing: Option<BoxFuture<'static, Done>>,
    attempt: Option<Attempt>,
}

enum Done {
    Credentials(Result<Credentials>),
    Step(Result<Worked>, Option<Attempt>),
}

impl Again {
    /// For a connection to this broker.
    pub(in crate::driver) fn new(key: ConnectionKey) -> Self {
        Self { key, doing: None, attempt: None }
    }

    /// Goes on with the authentication, or begins it when it is time. Returns whether there is progress.
    ///
    /// The credentials are fetched while requests go on; only then does the connection pause.
    pub(in crate::driver) fn poll(
        &mut self,
        shared: &Arc<Switchboard>,
        connection: &mut Connection,
        context: &mut Context<'_>,
    ) -> Result<bool> {
        let Some(sasl) = &shared.sasl else { return Ok(false) };
        let now = shared.now();
        let is_due = connection.poll_reauthentication(now);
        if self.doing.is_none() {
            let (sasl, shared, key) = (Arc::clone(sasl), Arc::clone(shared), self.key);
            if let Some(work) = connection.poll_work() {
                let mut attempt = self.attempt.take();
                self.doing = Some(Box::pin(async move {
                    let worked = sasl.step(&shared, work, &mut attempt).await;
                    Done::Step(worked, attempt)
                }));
            } else if is_due {
                self.doing = Some(Box::pin(async move {
                    let identity = sasl.identity(true).await;
                    let host = || shared.address(key).map(|(host, _)| host);
                    Done::Credentials(identity.and_then(|identity| identity.credentials(&host()?)))
                }));
            }
        }
        let Some(Poll::Ready(done)) = self.doing.as_mut().map(|doing| doing.as_mut().poll(context)) else {
            return Ok(false);
        };
        self.doing = None;
        match done {
            Done::Credentials(Ok(credentials)) => connection.reauthenticate(now, credentials)?,
            Done::Credentials(Err(error)) => {
                log::warn!("a connection cannot be authenticated again before its session ends: {error}");
            }
            Done::Step(worked, attempt) => {
                self.attempt = attempt;
                connection.handle_worked(now, worked?)?;
                self.attempt.take_if(|_| connection.is_ready());
            }
        }
        Ok(true)
    }

    /// Notes that the connection has ended; with the refusal, if the credentials were refused.
    pub(in crate::driver) fn handle_end(&mut self, now: Instant, refusal: Option<Error>) {
        if let Some(attempt) = self.attempt.take() {
            attempt.end(now, refusal);
        }
    }
}
