//! The atomics and locks of what threads share without the lock of a machine. `tests/interleavings.rs` puts loom's in
//! their place.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
pub(crate) use std::sync::{Mutex, MutexGuard};
