//! The memory that all producers of a client share, and waiting for some of it.
//!
//! Waiting loses no wake-up: take a [`Ticket`], try, and only then wait for what happens after the ticket was taken.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use kavka_core::wire::records::BufferPool;
use tokio::sync::watch;

/// A moment; waiting means waiting for something that was freed after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

/// Tells those who wait that something was freed.
#[derive(Debug)]
pub(crate) struct Room {
    freed: Mutex<u64>,
    threads: Condvar,
    tasks: watch::Sender<u64>,
}

impl Room {
    fn new() -> Self {
        Self { freed: Mutex::new(0), threads: Condvar::new(), tasks: watch::Sender::new(0) }
    }

    /// Wakes everybody who waits. Takes no lock but its own, so it may be called while a producer is locked.
    pub(super) fn signal(&self) {
        let mut freed = self.freed.lock().unwrap_or_else(PoisonError::into_inner);
        *freed += 1;
        self.tasks.send_replace(*freed);
        drop(freed);
        self.threads.notify_all();
    }

    fn ticket(&self) -> Ticket {
        Ticket(*self.freed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Blocks the thread until something is freed or `limit` has passed.
    pub(super) fn wait(&self, ticket: Ticket, limit: Duration) {
        let freed = self.freed.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.threads.wait_timeout_while(freed, limit, |freed| Ticket(*freed) == ticket));
    }

    /// Waits until something is freed.
    pub(super) async fn freed(&self, ticket: Ticket) {
        // The sender is ours: it cannot be gone.
        drop(self.tasks.subscribe().wait_for(|freed| Ticket(*freed) != ticket).await);
    }
}

/// `buffer.memory` of one client.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    pub(super) pool: BufferPool,
    pub(super) room: Arc<Room>,
}

impl Memory {
    pub(crate) fn new(buffer_memory: usize) -> Self {
        let room = Arc::new(Room::new());
        let freed = Arc::clone(&room);
        Self { pool: BufferPool::new(buffer_memory, Arc::new(move || freed.signal())), room }
    }

    /// To be taken before the attempt whose failure is waited out.
    pub(super) fn ticket(&self) -> Ticket {
        let ticket = self.room.ticket();
        self.pool.notify_on_release();
        ticket
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_comes_back_between_the_attempt_and_the_wait_ends_the_wait() {
        let memory = Memory::new(64 << 10);
        let chunk = memory.pool.try_acquire().unwrap();
        let ticket = memory.ticket();
        drop(chunk);
        let started = std::time::Instant::now();
        memory.room.wait(ticket, Duration::from_secs(20));
        assert!(started.elapsed() < Duration::from_secs(10), "it waited for what had happened already");
    }
}
