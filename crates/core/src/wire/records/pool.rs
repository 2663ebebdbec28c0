//! The memory that buffered records live in: `buffer.memory` of one client, shared by its producers.
//!
//! The pool hands out chunks of [`CHUNK_BYTES`] and takes them back when the last reader lets go:
//! a chunk belongs to exactly one [`Chunk`], which a [`Bytes`] made of it owns, so a buffer that a socket
//! still reads cannot be filled anew (KAFKA-19012 was that mistake). Buffers that are not made of chunks, a
//! compressed batch for instance, are counted by a [`Reservation`].
//!
//! The pool never waits. Who finds it exhausted calls [`BufferPool::notify_on_release`], tries again, and
//! only then waits for its callback.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// The size of a chunk in bytes.
pub const CHUNK_BYTES: usize = 32 * 1024;

/// Called when memory came back that somebody waits for. It runs wherever the last reader of a buffer lets
/// go of it, so it must be quick and must take no lock that is held while buffers are dropped.
pub type OnRelease = Arc<dyn Fn() + Send + Sync>;

/// A bounded pool of chunks; cheap to clone, every clone is the same pool.
#[derive(Clone)]
pub struct BufferPool(Arc<Pool>);

struct Pool {
    capacity: usize,
    state: Mutex<State>,
    somebody_waits: AtomicBool,
    on_release: OnRelease,
}

#[derive(Default)]
struct State {
    used: usize,
    free: Vec<Box<[u8]>>,
}

impl Pool {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes back `bytes`, and the chunk they were if they were one.
    fn release(&self, bytes: usize, chunk: Option<Box<[u8]>>) {
        {
            let mut state = self.state();
            state.used = state.used.saturating_sub(bytes);
            state.free.extend(chunk);
        }
        // Whoever waits has set the flag before it looked at the pool under the lock, so either it saw
        // these bytes or we see the flag.
        if self.somebody_waits.swap(false, Ordering::SeqCst) {
            (self.on_release)();
        }
    }
}

impl BufferPool {
    /// A pool that hands out up to `capacity` bytes (Kafka: `buffer.memory`), and calls `on_release` when
    /// bytes come back that were waited for.
    pub fn new(capacity: usize, on_release: OnRelease) -> Self {
        let state = Mutex::new(State::default());
        Self(Arc::new(Pool { capacity, state, somebody_waits: AtomicBool::new(false), on_release }))
    }

    /// A chunk, or none if it would exceed the capacity.
    pub fn try_acquire(&self) -> Option<Chunk> {
        let recycled = {
            let mut state = self.0.state();
            let used = state.used.saturating_add(CHUNK_BYTES);
            if used > self.0.capacity {
                return None;
            }
            state.used = used;
            state.free.pop()
        };
        let buffer = recycled.unwrap_or_else(|| vec![0; CHUNK_BYTES].into());
        Some(Chunk { buffer, written: 0, pool: Arc::clone(&self.0) })
    }

    /// Counts `bytes` that take the place of chunks about to come back. It never fails: the chunks could not
    /// come back if it did. So for a moment [`used`](Self::used) may exceed [`capacity`](Self::capacity).
    pub fn reserve(&self, bytes: usize) -> Reservation {
        let mut state = self.0.state();
        state.used = state.used.saturating_add(bytes);
        Reservation { bytes, pool: Arc::clone(&self.0) }
    }

    /// Asks for one call of the callback at the next release. To lose no wake-up, try once more after this
    /// and before waiting.
    pub fn notify_on_release(&self) {
        self.0.somebody_waits.store(true, Ordering::SeqCst);
    }

    /// Bytes handed out and not yet back.
    pub fn used(&self) -> usize {
        self.0.state().used
    }

    /// The bound, in bytes.
    pub fn capacity(&self) -> usize {
        self.0.capacity
    }
}

impl fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferPool").field("used", &self.used()).field("capacity", &self.capacity()).finish()
    }
}

/// A buffer of at most [`CHUNK_BYTES`] that returns to its pool when dropped.
pub struct Chunk {
    /// [`CHUNK_BYTES`] long. What is behind `written` is left from an earlier use.
    buffer: Box<[u8]>,
    written: usize,
    pool: Arc<Pool>,
}

impl Chunk {
    /// The bytes that are not yet written.
    #[inline]
    pub(super) fn space(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.written..).unwrap_or_default()
    }

    /// Counts the first `bytes` of [`space`](Self::space) as written.
    #[inline]
    pub(super) fn advance(&mut self, bytes: usize) {
        self.written = self.written.saturating_add(bytes).min(self.buffer.len());
    }

    /// The bytes written so far, to be changed.
    pub(super) fn written(&mut self) -> &mut [u8] {
        self.buffer.get_mut(..self.written).unwrap_or_default()
    }

    /// Writes as many of `bytes` as fit and returns how many those are.
    pub(super) fn write(&mut self, bytes: &[u8]) -> usize {
        let space = self.space();
        let fitting = bytes.len().min(space.len());
        if let (Some(space), Some(bytes)) = (space.get_mut(..fitting), bytes.get(..fitting)) {
            space.copy_from_slice(bytes);
        }
        self.advance(fitting);
        fitting
    }

    /// The written bytes, immutable from now on. The chunk returns to its pool with their last reader.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        self.buffer.get(..self.written).unwrap_or_default()
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.pool.release(CHUNK_BYTES, Some(std::mem::take(&mut self.buffer)));
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunk").field("written", &self.written).finish_non_exhaustive()
    }
}

/// Bytes of a pool that are in use outside its chunks; given back when dropped.
pub struct Reservation {
    bytes: usize,
    pool: Arc<Pool>,
}

impl Reservation {
    /// `buffer` as [`Bytes`] that keep the reservation as long as anybody reads them.
    pub fn freeze(self, buffer: Vec<u8>) -> Bytes {
        Bytes::from_owner(Reserved { buffer, _reservation: self })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.pool.release(self.bytes, None);
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

struct Reserved {
    buffer: Vec<u8>,
    _reservation: Reservation,
}

impl AsRef<[u8]> for Reserved {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn pool(chunks: usize) -> (BufferPool, Arc<AtomicUsize>) {
        let calls = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&calls);
        let on_release = Arc::new(move || {
            counter.fetch_add(1, Ordering::SeqCst);
        });
        (BufferPool::new(chunks * CHUNK_BYTES, on_release), calls)
    }

    #[test]
    fn the_capacity_is_never_exceeded_by_chunks() {
        let (pool, _) = pool(2);
        let first = pool.try_acquire().unwrap();
        let _second = pool.try_acquire().unwrap();
        assert!(pool.try_acquire().is_none());
        assert_eq!(pool.used(), pool.capacity());
        drop(first);
        assert!(pool.try_acquire().is_some());
    }

    #[test]
    fn a_chunk_is_not_reused_while_anybody_reads_it() {
        let (pool, _) = pool(1);
        let mut chunk = pool.try_acquire().unwrap();
        chunk.write(b"precious");
        let bytes = chunk.freeze();
        let slice = bytes.slice(3..);
        drop(bytes);
        assert!(pool.try_acquire().is_none(), "a slice of the chunk is alive");
        assert_eq!(&slice[..], b"cious");
        drop(slice);
        let mut chunk = pool.try_acquire().unwrap();
        assert_eq!((chunk.as_ref().len(), chunk.space().len()), (0, CHUNK_BYTES));
    }

    #[test]
    fn a_chunk_is_recycled_and_not_allocated_anew() {
        let (pool, _) = pool(1);
        let mut chunk = pool.try_acquire().unwrap();
        let address = chunk.space().as_ptr();
        drop(chunk.freeze());
        assert_eq!(pool.try_acquire().unwrap().space().as_ptr(), address);
    }

    #[test]
    fn the_callback_is_called_once_and_only_for_somebody_who_waits() {
        let (pool, calls) = pool(2);
        let (first, second) = (pool.try_acquire().unwrap(), pool.try_acquire().unwrap());
        pool.notify_on_release();
        drop(first);
        drop(second);
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        drop(pool.reserve(1));
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        let reservation = pool.reserve(1);
        pool.notify_on_release();
        drop(reservation.freeze(vec![0]));
        assert_eq!(calls.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_reservation_counts_until_its_bytes_are_dropped() {
        let (pool, _) = pool(1);
        let bytes = pool.reserve(100).freeze(vec![7; 100]);
        assert_eq!(pool.used(), 100);
        assert!(pool.try_acquire().is_none());
        drop(bytes);
        assert_eq!(pool.used(), 0);
    }
}
