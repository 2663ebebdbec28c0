//! The memory of buffered records: the `buffer.memory` of one client, shared by its producers.
//!
//! The pool hands out chunks of 1, 2, 4, 8, 16 and 32 KiB, so that a batch can start small: a thousand open batches
//! with one record each take 1 MiB, not all of `buffer.memory`. A chunk returns to the pool when its last reader drops
//! it. It belongs to exactly one [`Chunk`], and the [`Bytes`] made from it own that [`Chunk`], so a buffer that a
//! socket still reads cannot be overwritten (KAFKA-19012 was that bug). A [`Reservation`] counts memory that does not
//! consist of chunks, for instance a compressed batch.
//!
//! The pool never blocks. A caller that finds it exhausted calls [`BufferPool::notify_on_release`], tries once more,
//! and only then waits for the callback.

use std::fmt;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;

use crate::sync::{AtomicBool, Mutex, MutexGuard, Ordering};

/// The size of the largest chunks, in bytes.
pub const CHUNK_BYTES: usize = 32 * 1024;
/// The size of the smallest chunks, in bytes.
pub(super) const SMALLEST_CHUNK_BYTES: usize = 1024;
/// The number of chunk sizes; each is twice the one before.
const SIZES: usize = (CHUNK_BYTES / SMALLEST_CHUNK_BYTES).ilog2() as usize + 1;

/// Called when memory was released that somebody waits for. It runs in whatever thread drops the last reader of a
/// buffer, so it must be quick, and must not take a lock under which buffers are dropped.
pub type OnRelease = Arc<dyn Fn() + Send + Sync>;

/// A pool of chunks with a size limit. Clones refer to the same pool.
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
    /// Chunks to be reused, by size.
    free: [Vec<Box<[u8]>>; SIZES],
    free_bytes: usize,
}

impl State {
    fn pop(&mut self, size: usize) -> Option<Box<[u8]>> {
        let chunk = self.free.get_mut(size)?.pop()?;
        self.free_bytes = self.free_bytes.saturating_sub(chunk.len());
        Some(chunk)
    }

    /// Removes free chunks, the largest first, until `bytes` more fit into `capacity`.
    fn make_room(&mut self, bytes: usize, capacity: usize) -> Vec<Box<[u8]>> {
        let mut evicted = Vec::new();
        while self.used.saturating_add(self.free_bytes).saturating_add(bytes) > capacity {
            let Some(chunk) = (0..SIZES).rev().find_map(|size| self.pop(size)) else { break };
            evicted.push(chunk);
        }
        evicted
    }
}

/// The index of the smallest chunk size that holds `bytes`, or of the largest size.
fn size_for(bytes: usize) -> usize {
    let doublings = bytes.div_ceil(SMALLEST_CHUNK_BYTES).max(1).next_power_of_two().ilog2() as usize;
    doublings.min(SIZES - 1)
}

impl Pool {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes back `bytes`, and the chunk if they were one.
    fn release(&self, bytes: usize, chunk: Option<Box<[u8]>>) {
        {
            let mut state = self.state();
            state.used = state.used.saturating_sub(bytes);
            if let Some(chunk) = chunk
                && let Some(free) = state.free.get_mut(size_for(chunk.len()))
            {
                free.push(chunk);
                state.free_bytes = state.free_bytes.saturating_add(bytes);
            }
        }
        // A waiter sets the flag before it looks at the pool under the lock. So either it saw these bytes, or we see
        // its flag.
        if self.somebody_waits.swap(false, Ordering::SeqCst) {
            (self.on_release)();
        }
    }
}

impl BufferPool {
    /// A pool of up to `capacity` bytes (Kafka: `buffer.memory`). It calls `on_release` when memory was released that
    /// somebody waits for.
    pub fn new(capacity: usize, on_release: OnRelease) -> Self {
        let state = Mutex::new(State::default());
        Self(Arc::new(Pool { capacity, state, somebody_waits: AtomicBool::new(false), on_release }))
    }

    /// A chunk of at least `bytes`, but at most [`CHUNK_BYTES`]; `None` if it would exceed the capacity.
    pub fn try_acquire(&self, bytes: usize) -> Option<Chunk> {
        let size = size_for(bytes);
        let chunk_bytes = SMALLEST_CHUNK_BYTES << size;
        let (recycled, evicted) = {
            let mut state = self.0.state();
            let used = state.used.saturating_add(chunk_bytes);
            if used > self.0.capacity {
                return None;
            }
            let recycled = state.pop(size);
            // Free chunks count against the capacity, too, so memory of other sizes is returned to the system first.
            let evicted = if recycled.is_none() { state.make_room(chunk_bytes, self.0.capacity) } else { Vec::new() };
            state.used = used;
            (recycled, evicted)
        };
        drop(evicted);
        let buffer = recycled.unwrap_or_else(|| vec![0; chunk_bytes].into());
        Some(Chunk { buffer, written: 0, pool: Arc::clone(&self.0) })
    }

    /// Counts `bytes` of memory that replace chunks about to be released. This cannot fail, because the chunks could
    /// then not be released; so [`used`](Self::used) may exceed [`capacity`](Self::capacity) for a moment.
    pub fn reserve(&self, bytes: usize) -> Reservation {
        let mut state = self.0.state();
        state.used = state.used.saturating_add(bytes);
        Reservation { bytes, pool: Arc::clone(&self.0) }
    }

    /// Requests one call of the callback at the next release. So as not to miss a release, try again after this call
    /// and before waiting.
    pub fn notify_on_release(&self) {
        self.0.somebody_waits.store(true, Ordering::SeqCst);
    }

    /// How many bytes are handed out.
    pub fn used(&self) -> usize {
        self.0.state().used
    }

    /// The limit, in bytes.
    pub fn capacity(&self) -> usize {
        self.0.capacity
    }
}

impl fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferPool").field("used", &self.used()).field("capacity", &self.capacity()).finish()
    }
}

/// A buffer of the pool; dropping it returns it.
pub struct Chunk {
    /// The whole chunk. What is behind `written` is left from an earlier use.
    buffer: Box<[u8]>,
    written: usize,
    pool: Arc<Pool>,
}

impl Chunk {
    /// The part that is not written yet.
    #[inline]
    pub(super) fn space(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.written..).unwrap_or_default()
    }

    /// Counts the first `bytes` of [`space`](Self::space) as written.
    #[inline]
    pub(super) fn advance(&mut self, bytes: usize) {
        self.written = self.written.saturating_add(bytes).min(self.buffer.len());
    }

    /// The bytes written so far.
    pub(super) fn written(&mut self) -> &mut [u8] {
        self.buffer.get_mut(..self.written).unwrap_or_default()
    }

    /// Writes as many of `bytes` as fit; returns how many did.
    pub(super) fn write(&mut self, bytes: &[u8]) -> usize {
        let space = self.space();
        let fitting = bytes.len().min(space.len());
        if let (Some(space), Some(bytes)) = (space.get_mut(..fitting), bytes.get(..fitting)) {
            space.copy_from_slice(bytes);
        }
        self.advance(fitting);
        fitting
    }

    /// Makes the written bytes immutable. The chunk returns to its pool when their last reader is dropped.
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
        let buffer = std::mem::take(&mut self.buffer);
        self.pool.release(buffer.len(), Some(buffer));
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunk").field("written", &self.written).finish_non_exhaustive()
    }
}

/// Memory of the pool that is not a chunk; returned when dropped.
pub struct Reservation {
    bytes: usize,
    pool: Arc<Pool>,
}

impl Reservation {
    /// Turns `buffer` into [`Bytes`] that hold the reservation until their last reader is dropped.
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
        let first = pool.try_acquire(CHUNK_BYTES).unwrap();
        let _second = pool.try_acquire(CHUNK_BYTES).unwrap();
        assert!(pool.try_acquire(CHUNK_BYTES).is_none());
        assert_eq!(pool.used(), pool.capacity());
        drop(first);
        assert!(pool.try_acquire(CHUNK_BYTES).is_some());
    }

    #[test]
    fn a_chunk_is_not_reused_while_anybody_reads_it() {
        let (pool, _) = pool(1);
        let mut chunk = pool.try_acquire(CHUNK_BYTES).unwrap();
        chunk.write(b"precious");
        let bytes = chunk.freeze();
        let slice = bytes.slice(3..);
        drop(bytes);
        assert!(pool.try_acquire(CHUNK_BYTES).is_none(), "a slice of the chunk is alive");
        assert_eq!(&slice[..], b"cious");
        drop(slice);
        let mut chunk = pool.try_acquire(CHUNK_BYTES).unwrap();
        assert_eq!((chunk.as_ref().len(), chunk.space().len()), (0, CHUNK_BYTES));
    }

    #[test]
    fn a_chunk_is_recycled_and_not_allocated_anew() {
        let (pool, _) = pool(1);
        let mut chunk = pool.try_acquire(CHUNK_BYTES).unwrap();
        let address = chunk.space().as_ptr();
        drop(chunk.freeze());
        assert_eq!(pool.try_acquire(CHUNK_BYTES).unwrap().space().as_ptr(), address);
    }

    #[test]
    fn the_callback_is_called_once_and_only_for_somebody_who_waits() {
        let (pool, calls) = pool(2);
        let (first, second) = (pool.try_acquire(CHUNK_BYTES).unwrap(), pool.try_acquire(CHUNK_BYTES).unwrap());
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
        assert!(pool.try_acquire(CHUNK_BYTES).is_none());
        drop(bytes);
        assert_eq!(pool.used(), 0);
    }

    #[test]
    fn small_chunks_take_little_and_what_is_kept_of_other_sizes_makes_way() {
        let (pool, _) = pool(1);
        let small: Vec<_> = (0..32).map(|_| pool.try_acquire(61).unwrap()).collect();
        assert!(small.iter().all(|chunk| chunk.buffer.len() == SMALLEST_CHUNK_BYTES));
        assert!(pool.try_acquire(1).is_none(), "32 of them fill it");
        drop(small);
        let large = pool.try_acquire(1_000_000).unwrap();
        assert_eq!(large.buffer.len(), CHUNK_BYTES);
        let state = pool.0.state();
        assert_eq!((state.used, state.free_bytes), (CHUNK_BYTES, 0), "memory never exceeds the capacity");
    }
}
