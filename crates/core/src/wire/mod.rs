//! Bytes on the wire: primitives, APIs, messages, error codes and records.
//!
//! A message is one struct in [`messages`] with `#[derive(Message)]`; [`api`] puts the headers around it.

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
