//! The role task of a consumer: sends what its machine asks for, and tells it of answers, metadata and time.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kavka_core::consumer::{BrokerVersions, ConsumerRequest, ConsumerResponse, RequestBody};
use kavka_core::error::{Error, ErrorKind, Result};
use kavka_core::wire::{ApiKey, ErrorCode};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Shared;
use crate::driver::{CallOptions, Driver, Owner};

type Answers = JoinSet<(u64, Result<ConsumerResponse>)>;

/// The longest time without a look at the machine.
const IDLE: Duration = Duration::from_secs(60);

/// Sees to it that nobody waits in vain for a consumer whose `role`, the role task, panics (guarantee R18).
pub(super) async fn supervise(shared: Arc<Shared>, role: impl Future<Output = ()> + Send + 'static) {
    if tokio::spawn(role).await.is_err() {
        let what = "the consumer's engine failed, which is a bug of this library";
        shared.state().closed.get_or_insert_with(|| Error::new(ErrorKind::Closed, what));
        shared.arrived.notify_waiters();
    }
    shared.driver.close_connections(shared.owner);
}

/// Runs until the consumer is closed.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut answers = Answers::new();
    let mut seen = None;
    loop {
        // Whoever changes something from here on wakes us.
        shared.role_sleeps.store(true, Ordering::Release);
        let metadata = shared.driver.metadata();
        let version = metadata.version;
        let timeout = {
            let mut state = shared.state();
            if state.closed.is_some() {
                break;
            }
            if seen.replace(version) != Some(version) {
                state.machine.handle_metadata(&metadata);
            }
            let now = shared.driver.now();
            while let Some(request) = state.machine.poll_request(now) {
                send(&shared.driver, shared.owner, request, &mut answers);
            }
            let events = Shared::drain_events(&mut state);
            let has_news = state.machine.has_batch() || !state.errors.is_empty();
            let timeout = state.machine.poll_timeout().map_or(IDLE, |at| at.since(now));
            drop(state);
            shared.act(events);
            if has_news {
                shared.arrived.notify_waiters();
            }
            timeout
        };
        tokio::select! {
            Some(answer) = answers.join_next() => handle(&shared, answer),
            () = shared.role.notified() => {}
            _ = shared.driver.metadata_newer_than(version) => {}
            () = sleep(timeout) => {}
        }
        while let Some(answer) = answers.try_join_next() {
            handle(&shared, answer);
        }
    }
}

fn handle(shared: &Shared, answer: std::result::Result<(u64, Result<ConsumerResponse>), tokio::task::JoinError>) {
    // A task that sends a request neither panics nor is aborted while we are here.
    let Ok((id, response)) = answer else { return };
    let mut state = shared.state();
    state.machine.handle_response(shared.driver.now(), id, response);
    let has_news = state.machine.has_batch();
    drop(state);
    if has_news {
        shared.arrived.notify_waiters();
    }
}

/// Puts a request on its connection at once; the answer arrives in `answers`.
fn send(driver: &Driver, owner: Owner, request: ConsumerRequest, answers: &mut Answers) {
    let ConsumerRequest { id, broker_id, max_version, body } = request;
    let control = CallOptions::on(Owner::Control);
    match body {
        RequestBody::Versions => {
            let driver = driver.clone();
            answers.spawn(async move {
                let versions = versions(&driver, owner, broker_id).await;
                (id, versions.map(ConsumerResponse::Versions))
            });
        }
        RequestBody::Fetch(fetch) => {
            let max_version = max_version.unwrap_or(i16::MAX);
            // The broker may hold it for that long before request.timeout.ms counts.
            let held = Duration::from_millis(u64::try_from(fetch.max_wait_ms).unwrap_or(0));
            let timeout = Some(driver.config().request_timeout.saturating_add(held));
            let options = CallOptions { max_version, timeout, ..CallOptions::on(owner) };
            let answer = driver.begin(broker_id, options, *fetch);
            answers.spawn(async move { (id, answer.await.map(Box::new).map(ConsumerResponse::Fetch)) });
        }
        RequestBody::ListOffsets(question) => {
            let answer = driver.begin(broker_id, control, question);
            answers.spawn(async move { (id, answer.await.map(ConsumerResponse::ListOffsets)) });
        }
        RequestBody::OffsetForLeaderEpoch(question) => {
            let answer = driver.begin(broker_id, control, question);
            answers.spawn(async move { (id, answer.await.map(ConsumerResponse::OffsetForLeaderEpoch)) });
        }
        other => {
            let error = Error::new(ErrorKind::Broker(ErrorCode::UNSUPPORTED_VERSION), format!("unknown: {other:?}"));
            answers.spawn(async move { (id, Err(error)) });
        }
    }
}

async fn versions(driver: &Driver, owner: Owner, broker_id: i32) -> Result<BrokerVersions> {
    let fetch = driver.api_version(broker_id, owner, ApiKey::Fetch).await?;
    let list_offsets = driver.api_version(broker_id, owner, ApiKey::ListOffsets).await?;
    Ok(BrokerVersions { fetch, list_offsets })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Client, ClientConfig, ConsumerConfig};

    #[test]
    fn who_waits_for_records_is_told_when_the_role_task_panics() {
        let client = Client::new(ClientConfig::default()).unwrap();
        let consumer = Arc::new(client.consumer(ConsumerConfig::default()).unwrap());
        let supervised = supervise(Arc::clone(&consumer.shared), async { panic!("planted") });
        let wait = Duration::from_secs(20);
        client.start(supervised).wait(Some(wait)).unwrap();
        let error = consumer.poll_batch(wait).unwrap_err();
        assert!(error.to_string().contains("a bug of this library"), "{error}");
    }
}
