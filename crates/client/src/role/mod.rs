//! The task that runs one machine: a producer's, a consumer's or a group member's.
//!
//! A [`Role`] is a machine with its lock, and the code that carries out what the machine wants. [`run`] drives it: it
//! passes in metadata, responses and the time, sends the machine's requests, and sleeps until one of these, or the
//! application ([`Wake`]), has something new. It runs on the engine thread, one task per machine, so requests reach
//! their connections in the order in which the machine returned them.

mod wake;

use std::future::Future;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::Arc;

use kavka_core::cluster::{Call, Metadata};
use kavka_core::error::{Error, ErrorKind, Result};
use kavka_core::time::Instant;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::driver::Driver;

pub(crate) use wake::Wake;

/// The primitives of the wake protocol; its test replaces them with loom's.
mod sync {
    pub(super) use std::sync::atomic::{AtomicBool, Ordering};
    pub(super) use tokio::sync::Notify;
}

/// When a role must take its next turn.
#[derive(Debug)]
pub(crate) enum Turn {
    /// Another turn at this time, or earlier if something happens.
    Until(Option<Instant>),
    /// Never: the machine has ended, and everything is reported.
    Ended,
}

/// The wait for the response to a request in flight.
pub(crate) type PendingResponse<R> = Pin<Box<dyn Future<Output = Result<R>> + Send>>;

/// A machine with its lock, and how to carry out what it wants.
pub(crate) trait Role: Send + Sync + 'static {
    /// The machine's requests.
    type Request: Send + 'static;
    /// The responses to them.
    type Response: Send + 'static;

    /// The engine it runs on.
    fn driver(&self) -> &Driver;

    /// Wakes the task.
    fn wake(&self) -> &Wake;

    /// Takes the lock, passes in the metadata, and collects the machine's requests in `calls`. Then carries out its
    /// events without the lock.
    fn turn(&self, now: Instant, metadata: &Arc<Metadata>, calls: &mut Vec<Call<Self::Request>>) -> Turn;

    /// Queues a request on its connection. Returns the wait for the response; the request is sent even if that is never
    /// polled. What takes long must be in that wait: meanwhile the machine gets no turn.
    fn send(&self, call: Call<Self::Request>) -> PendingResponse<Self::Response>;

    /// Passes the outcome of a request to the machine.
    fn handle_response(&self, now: Instant, id: u64, response: Result<Self::Response>);

    /// Gives up: everybody who waits for the machine gets this error.
    fn fail(&self, error: &Error);

    /// What to do when the task has ended.
    fn finish(&self) {}
}

/// Runs a role until it ends, on the engine thread. If it panics, everybody who waits for it gets an error (guarantee
/// R18).
pub(crate) fn start<R: Role>(role: Arc<R>) -> impl Future<Output = ()> + Send + 'static {
    let running = run(Arc::clone(&role));
    supervise(role, running)
}

async fn supervise<R: Role>(role: Arc<R>, running: impl Future<Output = ()> + Send + 'static) {
    if let Some(error) = outcome(running).await {
        role.fail(&error);
    }
    role.finish();
}

/// Runs a task on the engine thread until it ends. If it panics, returns the error for whoever waits for it.
pub(crate) async fn outcome(running: impl Future<Output = ()> + Send + 'static) -> Option<Error> {
    let what = "the engine failed, which is a bug of this library: pending work is given up";
    tokio::spawn(running).await.is_err().then(|| Error::new(ErrorKind::Closed, what))
}

async fn run<R: Role>(role: Arc<R>) {
    let mut answers: JoinSet<(u64, Result<R::Response>)> = JoinSet::new();
    let mut snapshots = role.driver().watch_metadata();
    let mut calls = Vec::new();
    loop {
        role.wake().arm();
        let metadata = Arc::clone(&snapshots.borrow_and_update());
        let turn = role.turn(role.driver().now(), &metadata, &mut calls);
        for call in calls.drain(..) {
            let id = call.id;
            let answer = role.send(call);
            answers.spawn(async move { (id, answer.await) });
        }
        let Turn::Until(due) = turn else { return };
        let wait = due.map_or(std::time::Duration::MAX, |due| due.since(role.driver().now()));
        tokio::select! {
            Some(answer) = answers.join_next() => handle(role.as_ref(), answer),
            () = role.wake().woken() => {}
            _ = snapshots.changed() => {}
            () = sleep(wait) => {}
        }
        while let Some(answer) = answers.try_join_next() {
            handle(role.as_ref(), answer);
        }
    }
}

fn handle<R: Role>(role: &R, answer: std::result::Result<(u64, Result<R::Response>), tokio::task::JoinError>) {
    match answer {
        Ok((id, response)) => role.handle_response(role.driver().now(), id, response),
        // The machine would wait for this response for ever, so the role ends with an error for everybody who waits.
        Err(failed) if failed.is_panic() => resume_unwind(failed.into_panic()),
        // Aborted together with the runtime, which ends this task, too.
        Err(_) => {}
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use kavka_core::wire::messages::MetadataResponse;

    use super::*;
    use crate::{Client, ClientConfig};

    /// Handles the panic of a role's task.
    pub(crate) async fn panicked<R: Role>(role: Arc<R>) {
        supervise(role, async { panic!("planted") }).await;
    }

    #[test]
    fn a_panic_while_a_response_is_awaited_ends_the_role() {
        let client = Client::new(ClientConfig::default()).unwrap();
        let driver = client.driver.clone();
        let awaiting = client.start(async move {
            let mut answers = JoinSet::<(u64, Result<MetadataResponse>)>::new();
            answers.spawn(async { panic!("planted") });
            let answer = answers.join_next().await.unwrap();
            catch_unwind(AssertUnwindSafe(|| handle(&driver, answer))).is_err()
        });
        assert!(awaiting.wait(Some(std::time::Duration::from_secs(20))).unwrap());
    }
}
