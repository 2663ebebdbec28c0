//! The wire format: primitives, APIs, messages, error codes and records.
//!
//! Each message is one struct in [`messages`] with `#[derive(Message)]`; [`api`] adds the headers.

pub mod api;
pub mod error_code;
pub mod message;
pub mod messages;
pub mod primitives;
pub mod records;
pub mod schema;

pub use api::ApiKey;
pub use error_code::ErrorCode;
pub use message::{AnyRequest, Message, Request};
pub use primitives::{DecodeError, Decoder, EncodeError, Encoder, Uuid};
