//! What the task of a consumer does for its machine (see [`crate::role`]).

use std::sync::Arc;
use std::time::Duration;

use kavka_core::cluster::{Call, Metadata, Owner, Target};
use kavka_core::consumer::{BrokerVersions, ConsumerRequest, ConsumerResponse};
use kavka_core::error::{Error, ErrorKind, Result};
use kavka_core::time::Instant;
use kavka_core::wire::ApiKey;
use kavka_core::wire::messages::OffsetCommitResponse;

use super::{SharedMachine, lock};
use crate::driver::Driver;
use crate::role::{PendingResponse, Role, Turn, Wake};

impl Role for SharedMachine {
    type Request = ConsumerRequest;
    type Response = ConsumerResponse;

    fn driver(&self) -> &Driver {
        &self.driver
    }

    fn wake(&self) -> &Wake {
        &self.wake
    }

    fn turn(&self, now: Instant, metadata: &Arc<Metadata>, calls: &mut Vec<Call<ConsumerRequest>>) -> Turn {
        let mut state = self.state();
        // Commits from before the close are completed, and their outcomes reported.
        if state.closed.is_some() && !state.machine.is_committing() {
            self.drain_events(&mut state);
            drop(state);
            // Until now, metadata had to say whether the topics of the commits still exist.
            lock(&self.topics).clear();
            return Turn::Ended;
        }
        state.machine.handle_metadata(now, metadata);
        calls.extend(std::iter::from_fn(|| state.machine.poll_request(now)));
        let notices = self.drain_events(&mut state);
        let has_news = state.machine.has_batch() || !state.errors.is_empty();
        let due = state.machine.poll_timeout();
        drop(state);
        self.act(notices);
        if has_news {
            self.arrived.notify_waiters();
        }
        Turn::Until(due)
    }

    fn send(&self, call: Call<ConsumerRequest>) -> PendingResponse<ConsumerResponse> {
        let (call, request) = call.take_body();
        match request {
            ConsumerRequest::Versions => {
                let (driver, owner, broker_id) = (self.driver.clone(), call.owner, call.broker_id());
                Box::pin(async move {
                    let unknown = || Error::new(ErrorKind::Internal, "versions are those of one broker");
                    let broker_id = broker_id.ok_or_else(unknown)?;
                    versions(&driver, owner, broker_id).await.map(ConsumerResponse::Versions)
                })
            }
            ConsumerRequest::Fetch(fetch) => {
                // The broker may hold the fetch for this long; `request.timeout.ms` comes on top of it.
                let held = Duration::from_millis(u64::try_from(fetch.max_wait_ms).unwrap_or(0));
                let timeout = Some(self.driver.config().request_timeout.saturating_add(held));
                let answer = self.driver.send(Call { timeout, ..call.with_body(*fetch) });
                Box::pin(async move { answer.await.map(Box::new).map(ConsumerResponse::Fetch) })
            }
            ConsumerRequest::ListOffsets(question) => {
                let answer = self.driver.send(call.with_body(question));
                Box::pin(async move { answer.await.map(ConsumerResponse::ListOffsets) })
            }
            ConsumerRequest::OffsetForLeaderEpoch(question) => {
                let answer = self.driver.send(call.with_body(question));
                Box::pin(async move { answer.await.map(ConsumerResponse::OffsetForLeaderEpoch) })
            }
            ConsumerRequest::OffsetCommit(request) => {
                let (driver, target) = (self.driver.clone(), call.target.clone());
                let call = self.driver.within_request_timeout(call.with_body(request));
                let answer = self.driver.send(call);
                Box::pin(async move {
                    let answer = answer.await;
                    if let (Target::Coordinator(group, kind), Some(error)) = (target, refusal(&answer)) {
                        driver.handle_coordinator_error(&group, kind, &error);
                    }
                    answer.map(ConsumerResponse::OffsetCommit)
                })
            }
        }
    }

    fn handle_response(&self, now: Instant, id: u64, response: Result<ConsumerResponse>) {
        let mut state = self.state();
        state.machine.handle_response(now, id, response);
        let has_news = state.machine.has_batch();
        drop(state);
        if has_news {
            self.arrived.notify_waiters();
        }
    }

    fn fail(&self, error: &Error) {
        let mut state = self.state();
        state.closed.get_or_insert_with(|| error.clone());
        state.commits.clear();
        drop(state);
        lock(&self.topics).clear();
        self.arrived.notify_waiters();
    }
}

/// Why a commit failed; `None` if it succeeded.
fn refusal(answer: &Result<OffsetCommitResponse>) -> Option<Error> {
    match answer {
        Ok(response) => {
            let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
            partitions.map(|partition| partition.error_code).find_map(Error::from_code)
        }
        Err(error) => Some(error.clone()),
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
    use crate::blocking::wait_for;
    use crate::role::tests::panicked;
    use crate::{Client, ClientConfig, ConsumerConfig};

    #[test]
    fn who_waits_for_records_is_told_when_the_role_task_panics() {
        let client = Client::new(ClientConfig::default()).unwrap();
        let consumer = Arc::new(client.consumer(ConsumerConfig::default()).unwrap());
        let wait = Duration::from_secs(20);
        client.start(panicked(Arc::clone(&consumer.shared))).wait(Some(wait)).unwrap();
        let error = wait_for(consumer.next_batch(), wait).unwrap().unwrap_err();
        assert!(error.to_string().contains("a bug of this library"), "{error}");
    }
}
