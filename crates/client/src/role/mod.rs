//! The task that serves one machine: a producer's or a consumer's.
//!
//! A [`Role`] is a machine behind its lock, together with what it takes to carry out what the machine wants. [`run`]
//! drives it: it tells the machine of metadata, answers and time, sends what the machine asks for and sleeps until one of
//! them, or the application ([`Wake`]), has something new. It runs on the engine thread, one task per machine, so
//! requests reach their connections in the order the machine gave them.

mod wake;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use kavka_core::cluster::{Call, Metadata};
use kavka_core::error::{Error, ErrorKind, Result};
use kavka_core::time::Instant;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::driver::Driver;

pub(crate) use wake::Wake;

/// What the wake protocol is made of. Its test puts loom's in their place.
mod sync {
    pub(super) use std::sync::atomic::{AtomicBool, Ordering};
    pub(super) use tokio::sync::Notify;
}

/// What a machine wants after a look at it.
#[derive(Debug)]
pub(crate) enum Turn {
    /// To be looked at again at this time, or when something happens.
    Until(Option<Instant>),
    /// It has ended, and everything is reported.
    Ended,
}

/// The answer to a request on its way, by the request's id.
pub(crate) type Answer<R> = Pin<Box<dyn Future<Output = Result<R>> + Send>>;

/// A machine, its lock, and what is done for it.
pub(crate) trait Role: Send + Sync + 'static {
    /// What the machine sends.
    type Request: Send + 'static;
    /// What it is answered.
    type Response: Send + 'static;

    /// The engine it runs on.
    fn driver(&self) -> &Driver;

    /// The bell of its task.
    fn wake(&self) -> &Wake;

    /// Under one lock: tells the machine of metadata and polls what it wants, requests into `calls`. Then, without the
    /// lock, carries out its events.
    fn turn(&self, now: Instant, metadata: &Arc<Metadata>, calls: &mut Vec<Call<Self::Request>>) -> Turn;

    /// Queues a request on its connection. What comes back is the wait for its answer, which need not be started for the
    /// request to go.
    fn send(&self, call: Call<Self::Request>) -> impl Future<Output = Answer<Self::Response>> + Send;

    /// Tells the machine how a request ended.
    fn handle_response(&self, now: Instant, id: u64, response: Result<Self::Response>);

    /// Gives up: whoever waits for the machine is told why.
    fn fail(&self, error: &Error);

    /// What is left to do when the task has ended.
    fn finish(&self) {}
}

/// Runs a role until it ends, on the engine thread. If it panics, whoever waits for it is told (guarantee R18).
pub(crate) fn start<R: Role>(role: Arc<R>) -> impl Future<Output = ()> + Send + 'static {
    let running = run(Arc::clone(&role));
    supervise(role, running)
}

async fn supervise<R: Role>(role: Arc<R>, running: impl Future<Output = ()> + Send + 'static) {
    if tokio::spawn(running).await.is_err() {
        let what = "the engine failed, which is a bug of this library: what is not done is given up";
        role.fail(&Error::new(ErrorKind::Closed, what));
    }
    role.finish();
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
            let answer = role.send(call).await;
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
    // The task that awaits an answer does not panic, and is aborted only together with this one.
    if let Ok((id, response)) = answer {
        role.handle_response(role.driver().now(), id, response);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What happens when the task of a role panics.
    pub(crate) async fn panicked<R: Role>(role: Arc<R>) {
        supervise(role, async { panic!("planted") }).await;
    }
}
