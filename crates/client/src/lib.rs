//! kavka.
