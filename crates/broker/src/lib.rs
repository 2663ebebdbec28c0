//! kavka-broker.
