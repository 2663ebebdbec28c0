//! The memory that all producers of a client share (`buffer.memory`), and waiting for some to be freed.
//!
//! To miss no wake-up, take a [`Ticket`], try, and only then wait for memory freed after the ticket was taken.
//!
//! This file does not know producers. They are [tenants](Tenant), which are asked to free memory when none is left.

use std::any::Any;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;

use kavka_core::wire::records::BufferPool;
use tokio::sync::watch;

/// A moment in time: a caller waits for memory freed after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

/// Wakes the callers that wait for memory.
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

    /// Wakes all waiting callers. Takes no lock but its own, so it may be called while a producer is locked.
    pub(crate) fn signal(&self) {
        let mut freed = self.freed.lock().unwrap_or_else(PoisonError::into_inner);
        *freed += 1;
        self.tasks.send_replace(*freed);
        drop(freed);
        self.threads.notify_all();
    }

    fn ticket(&self) -> Ticket {
        Ticket(*self.freed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Blocks the thread until memory is freed or `limit` has passed.
    pub(crate) fn wait(&self, ticket: Ticket, limit: Duration) {
        let freed = self.freed.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.threads.wait_timeout_while(freed, limit, |freed| Ticket(*freed) == ticket));
    }

    /// Waits until memory is freed.
    pub(crate) async fn freed(&self, ticket: Ticket) {
        // Cannot fail: we hold the sender.
        drop(self.tasks.subscribe().wait_for(|freed| Ticket(*freed) != ticket).await);
    }
}

/// A user of the memory.
pub(crate) trait Tenant: Any + Send + Sync {
    /// Sends lingering data at once, so that its memory is freed soon. Called without any lock held.
    fn expedite(&self);
}

/// The `buffer.memory` of one client.
#[derive(Clone)]
pub(crate) struct Memory {
    pub(crate) pool: BufferPool,
    pub(crate) room: Arc<Room>,
    tenants: Arc<Mutex<Vec<Weak<dyn Tenant>>>>,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").field("pool", &self.pool).finish_non_exhaustive()
    }
}

impl Memory {
    pub(crate) fn new(buffer_memory: usize) -> Self {
        let room = Arc::new(Room::new());
        let freed = Arc::clone(&room);
        let pool = BufferPool::new(buffer_memory, Arc::new(move || freed.signal()));
        Self { pool, room, tenants: Arc::default() }
    }

    /// Take it before the attempt; if the attempt fails, wait with it.
    pub(crate) fn ticket(&self) -> Ticket {
        let ticket = self.room.ticket();
        self.pool.notify_on_release();
        ticket
    }

    /// The first tenant of type `T` that `accept` accepts; otherwise a new one, from `make`.
    pub(crate) fn tenant<T: Tenant, A>(
        &self,
        accept: impl Fn(&Arc<T>) -> Option<A>,
        make: impl FnOnce() -> (Arc<T>, A),
    ) -> (Arc<T>, A) {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        tenants.retain(|tenant| tenant.strong_count() > 0);
        let known = tenants.iter().filter_map(Weak::upgrade).find_map(|tenant| {
            let any: Arc<dyn Any + Send + Sync> = tenant;
            let tenant = any.downcast::<T>().ok()?;
            let accepted = accept(&tenant)?;
            Some((tenant, accepted))
        });
        known.unwrap_or_else(|| {
            let (tenant, accepted) = make();
            let any: Arc<dyn Tenant> = tenant.clone();
            tenants.push(Arc::downgrade(&any));
            (tenant, accepted)
        })
    }

    /// Asks every tenant to free memory.
    pub(crate) fn expedite(&self) {
        let tenants: Vec<_> = {
            let tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
            tenants.iter().filter_map(Weak::upgrade).collect()
        };
        for tenant in tenants {
            tenant.expedite();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_comes_back_between_the_attempt_and_the_wait_ends_the_wait() {
        let memory = Memory::new(64 << 10);
        let chunk = memory.pool.try_acquire(1).unwrap();
        let ticket = memory.ticket();
        drop(chunk);
        // Longer than a test may last.
        memory.room.wait(ticket, Duration::from_secs(3_600));
    }
}
