//! `InitProducerId` v0-6: assigns a producer id to an idempotent producer (KIP-98).
//!
//! As in Kafka, a producer without a transactional id gets a new id with epoch 0, even if it sends the id that it has:
//! it bumps its epoch itself (KIP-360).
//!
//! Not here: transactions. A transactional id is refused with an error that every client treats as fatal.

use kavka_core::wire::error_code::ErrorCode;
use kavka_core::wire::messages::{InitProducerIdRequest, InitProducerIdResponse};

use super::{Answer, Context, Handle};
use crate::state::State;

impl Handle for InitProducerIdRequest {
    fn handle(self, state: &mut State, _: &Context) -> Answer<InitProducerIdResponse> {
        if self.transactional_id.is_some() {
            return self.refuse(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED).into();
        }
        if self.producer_id.is_some() != self.producer_epoch.is_some() {
            return self.refuse(ErrorCode::INVALID_REQUEST).into();
        }
        let producer_id = Some(state.next_producer_id);
        state.next_producer_id = state.next_producer_id.saturating_add(1);
        InitProducerIdResponse { producer_id, producer_epoch: 0, ..InitProducerIdResponse::default() }.into()
    }

    fn refuse(&self, error_code: ErrorCode) -> InitProducerIdResponse {
        InitProducerIdResponse { error_code, producer_epoch: -1, ..InitProducerIdResponse::default() }
    }
}
