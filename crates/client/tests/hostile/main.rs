//! Brokers that break the protocol: each breach ends in one error that names it, without panic, hot loop or large
//! allocation, and without a record that was not there.

mod server;

mod answers;
mod connections;
mod fetched;
