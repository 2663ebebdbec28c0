//! `FindCoordinator` v0-6: which broker coordinates a group.
//!
//! Not here: share groups, for which it answers `COORDINATOR_NOT_AVAILABLE`; transactions, for which it answers
//! `TRANSACTIONAL_ID_AUTHORIZATION_FAILED`. That is the only error that makes `init_transactions` fail at once in both
//! the Java client and librdkafka; after any other error they ask again.

use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::messages::find_coordinator::Coordinator;
use kavka_core::wire::messages::{FindCoordinatorRequest, FindCoordinatorResponse};

use super::{Answer, Context, Handle};
use crate::state::State;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

impl Handle for FindCoordinatorRequest {
    fn handle(self, state: &mut State, context: &Context) -> Answer<FindCoordinatorResponse> {
        answered(&self, context.version() >= 4, |key| find(state, self.key_type, key)).into()
    }

    fn refuse(&self, error_code: ErrorCode) -> FindCoordinatorResponse {
        answered(self, !self.coordinator_keys.is_empty(), |key| missing(key, error_code))
    }
}

fn answered(
    request: &FindCoordinatorRequest,
    is_batch: bool,
    find: impl Fn(&str) -> Coordinator,
) -> FindCoordinatorResponse {
    if is_batch {
        let coordinators = request.coordinator_keys.iter().map(|key| find(key)).collect();
        return FindCoordinatorResponse { coordinators, ..FindCoordinatorResponse::default() };
    }
    let Coordinator { node_id, host, port, error_code, error_message, .. } = find(&request.key);
    FindCoordinatorResponse { error_code, error_message, node_id, host, port, ..FindCoordinatorResponse::default() }
}

fn find(state: &State, key_type: i8, key: &str) -> Coordinator {
    match state.coordinator(key) {
        _ if key_type == TRANSACTION => Coordinator {
            error_message: Some("this broker has no transactions".to_owned()),
            ..missing(key, ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
        },
        Some(broker) if key_type == GROUP => Coordinator {
            key: key.to_owned(),
            node_id: broker.id,
            host: broker.host.clone(),
            port: broker.port.into(),
            ..Coordinator::default()
        },
        _ => missing(key, ErrorCode::COORDINATOR_NOT_AVAILABLE),
    }
}

fn missing(key: &str, error_code: ErrorCode) -> Coordinator {
    Coordinator { key: key.to_owned(), node_id: -1, port: -1, error_code, ..Coordinator::default() }
}
