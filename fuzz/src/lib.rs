//! What the fuzz targets share: the memory they count, and bytes as choices.
//!
//! A target is a program of libFuzzer (`targets/`). It turns an input into calls of `kavka-core`, and panics if an
//! answer breaks a promise. `make fuzz TARGET=batches SECONDS=60` runs one.

pub mod records;

pub use libfuzzer_sys::arbitrary::{self, Unstructured};
use peak_alloc::PeakAlloc;

/// Counts what Rust code allocates. The contexts of zstd, which is C, do not count.
#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Runs `work` on an input of `input_bytes` bytes, and panics if at any time it had allocated more than 64 KiB, 16
/// times the input and `extra_bytes`.
pub fn within_memory<T>(input_bytes: usize, extra_bytes: usize, work: impl FnOnce() -> T) -> T {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let done = work();
    let most = MEMORY.peak_usage().saturating_sub(before);
    let bound = (64 << 10) + 16 * input_bytes + extra_bytes;
    assert!(most <= bound, "an input of {input_bytes} bytes takes {most} bytes of memory, over {bound}");
    done
}

/// Takes up to `most` bytes from the input, by a length in the input.
pub fn some_bytes<'a>(input: &mut Unstructured<'a>, most: usize) -> arbitrary::Result<&'a [u8]> {
    let length = input.int_in_range(0..=most)?.min(input.len());
    input.bytes(length)
}

/// A number of the input below `limit`.
pub fn below(input: &mut Unstructured<'_>, limit: usize) -> arbitrary::Result<usize> {
    input.int_in_range(0..=limit.saturating_sub(1))
}
