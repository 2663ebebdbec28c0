//! `#[derive(Message)]`: one plain struct is a message's schema, its codec and its documentation.
//!
//! For a struct with named fields, the derive generates the encoding and decoding in every version (`Field`), the
//! default value, and a description that can be compared with Kafka's schemas (`Schema`). A struct with a
//! `#[kafka(...)]` attribute of its own is a whole message; one without is a part of messages, and uses the version of
//! the message around it.
//!
//! On a whole message: `versions = "0-13"`; `flexible = 9`, the first version with compact lengths and
//! tagged fields (KIP-482); and for a request `request = "Produce"`, the name of its `ApiKey`, and
//! `response = ProduceResponse`.
//!
//! On a field:
//!
//! - `since = 3`, `until = 12`: the versions that have it; without them, all;
//! - `nullable = 3`, `nullable_until = 7`: the versions in which an `Option` may be null. An optional integer needs
//!   neither: -1 is its null in every version;
//! - `tag = 0`: it is a tagged field from `since` on, or from `tagged = 5` on if it was a plain field before;
//! - `default = EXPR`: its value if the peer sends none; without it, the type's own default;
//! - `ignorable`: a value that a version cannot carry is silently left out; otherwise it is an error.
//!
//! The generated code names `kavka-core`'s modules through `crate::`, so it works in that crate only.

mod attributes;
mod expand;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Derives the wire format, the default value and the schema of a message or of a part of one.
///
/// The crate's documentation lists the attributes.
#[proc_macro_derive(Message, attributes(kafka))]
pub fn derive_message(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand::message(&input).unwrap_or_else(|error| error.to_compile_error()).into()
}
