//! Brokers that violate the protocol: each violation leads to one error that names it, without a panic, a hot loop, a
//! large allocation, or a record that was not there.

mod server;

mod answers;
mod authentication;
mod connections;
mod fetched;
mod groups;
mod metadata;
mod versions;
