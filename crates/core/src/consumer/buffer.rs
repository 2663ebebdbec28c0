//! The fetched batches of one partition that the position has not passed yet, in the order of their offsets.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::error::Error;
use crate::wire::records::RawBatch;

use super::handout::Pinned;
use super::lease::Lease;

#[derive(Debug)]
struct Buffered {
    last_offset: i64,
    bytes: usize,
    content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    Batch(RawBatch, Arc<Pinned>),
    /// A control batch, or a batch of an aborted transaction: never handed out, the position skips it.
    Hidden,
    /// What was fetched here cannot be read, and neither can anything behind it.
    Bad(Error),
}

/// What the front of the buffer is, after everything behind the position was dropped.
#[derive(Debug, PartialEq)]
pub(super) enum Front {
    Nothing,
    /// A batch, but the application still holds the one before it.
    Held,
    Batch,
    Bad,
}

#[derive(Debug, Default)]
pub(super) struct Buffer {
    queue: VecDeque<Buffered>,
    bytes: usize,
}

impl Buffer {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The size of the buffered record batches, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the last entry cannot be read, so that fetching further is pointless.
    pub(super) fn ends_bad(&self) -> bool {
        self.queue.back().is_some_and(|back| matches!(back.content, Content::Bad(_)))
    }

    pub(super) fn push(&mut self, last_offset: i64, content: Content) {
        // Skipped batches do not count against the fetch buffer, so a long run of them must not take more memory than
        // one.
        if matches!(content, Content::Hidden)
            && let Some(back) = self.queue.back_mut().filter(|back| matches!(back.content, Content::Hidden))
        {
            back.last_offset = last_offset;
            return;
        }
        let bytes = if let Content::Batch(batch, _) = &content { batch.bytes().len() } else { 0 };
        self.bytes += bytes;
        self.queue.push_back(Buffered { last_offset, bytes, content });
    }

    /// Drops what the position has passed, moves the position past skipped batches, and says what is in front now.
    pub(super) fn settle(&mut self, lease: &Lease) -> Front {
        while let Some(front) = self.queue.front() {
            let Some(position) = lease.position() else { return Front::Nothing };
            match front.content {
                Content::Batch(..) if front.last_offset >= position => {
                    return if lease.is_open() { Front::Held } else { Front::Batch };
                }
                Content::Bad(_) => return if lease.is_open() { Front::Held } else { Front::Bad },
                Content::Batch(..) => {}
                Content::Hidden => {
                    if lease.is_open() {
                        return Front::Held;
                    }
                    lease.claim(position, position.max(front.last_offset.saturating_add(1)));
                }
            }
            self.bytes = self.bytes.saturating_sub(front.bytes);
            self.queue.pop_front();
        }
        Front::Nothing
    }

    /// The batch at the front, if [`Buffer::settle`] found one.
    pub(super) fn batch(&self) -> Option<(RawBatch, Arc<Pinned>)> {
        let Content::Batch(batch, pinned) = &self.queue.front()?.content else { return None };
        Some((batch.clone(), Arc::clone(pinned)))
    }

    /// The error at the front, if the front cannot be read.
    pub(super) fn take_bad_front(&mut self) -> Option<Error> {
        let Content::Bad(error) = &self.queue.front()?.content else { return None };
        let error = error.clone();
        self.queue.pop_front();
        Some(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_hidden_batches_takes_the_place_of_one() {
        let (mut buffer, lease) = (Buffer::default(), Lease::new(0));
        (0..1_000).for_each(|offset| buffer.push(offset, Content::Hidden));
        assert_eq!(buffer.queue.len(), 1);
        assert_eq!(buffer.settle(&lease), Front::Nothing);
        assert_eq!(lease.position(), Some(1_000));
    }
}
