//! Cuts the incoming bytes into frames.
//!
//! Small frames are copied out of a staging buffer. A large frame is read from the socket straight into a pooled buffer
//! of its own, and all that is decoded from it refers to ranges of that buffer. Pooling pays: touching a fresh mebibyte
//! costs twenty times as much as touching a used one.
//!
//! A frame's length is checked before memory is allocated for it.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Hint, Result};

/// The size of the staging buffer; a frame at least this large gets its own buffer.
const STAGING_BYTES: usize = 64 << 10;

/// How much free memory a pool keeps.
const KEPT_BYTES: usize = 16 << 20;

/// Buffers for large frames; each is reused once nothing refers to it any more.
#[derive(Debug, Clone, Default)]
pub struct ReadPool(Arc<Mutex<Vec<Vec<u8>>>>);

/// A buffer on loan: it returns to the pool when its last `Bytes` is dropped.
struct Loan {
    buffer: Vec<u8>,
    frame_bytes: usize,
    pool: ReadPool,
}

impl AsRef<[u8]> for Loan {
    fn as_ref(&self) -> &[u8] {
        self.buffer.get(..self.frame_bytes).unwrap_or_default()
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let mut free = self.pool.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept: usize = free.iter().map(Vec::len).sum();
        if kept + self.buffer.len() <= KEPT_BYTES {
            free.push(std::mem::take(&mut self.buffer));
        }
    }
}

impl ReadPool {
    fn take(&self, bytes: usize) -> Vec<u8> {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A buffer much larger than the frame would tie up memory that nobody uses.
        let fits = |buffer: &Vec<u8>| buffer.len() >= bytes && buffer.len() / 4 <= bytes;
        match free.iter().position(fits) {
            Some(index) => free.swap_remove(index),
            None => vec![0; bytes.next_multiple_of(STAGING_BYTES)],
        }
    }
}

/// Cuts a stream of bytes into frames.
#[derive(Debug)]
pub struct FrameReader {
    pool: ReadPool,
    max_frame_bytes: usize,
    staging: Vec<u8>,
    staged: usize,
    large: Option<Large>,
}

#[derive(Debug)]
struct Large {
    buffer: Vec<u8>,
    frame_bytes: usize,
    filled: usize,
}

impl FrameReader {
    /// A reader that refuses frames longer than `max_frame_bytes`.
    pub fn new(pool: ReadPool, max_frame_bytes: usize) -> Self {
        Self { pool, max_frame_bytes, staging: vec![0; STAGING_BYTES], staged: 0, large: None }
    }

    /// Changes the limit, for example after authentication.
    pub fn set_max_frame_bytes(&mut self, max_frame_bytes: usize) {
        self.max_frame_bytes = max_frame_bytes;
    }

    /// The buffer for the next bytes of the stream; never empty.
    pub fn space(&mut self) -> &mut [u8] {
        match &mut self.large {
            Some(large) => large.buffer.get_mut(large.filled..large.frame_bytes).unwrap_or_default(),
            None => self.staging.get_mut(self.staged..).unwrap_or_default(),
        }
    }

    /// Notes that `bytes` bytes were written to [`space`](Self::space), and appends the frames that are now complete.
    pub fn handle_read(&mut self, bytes: usize, frames: &mut Vec<Bytes>) -> Result<()> {
        if let Some(mut large) = self.large.take() {
            large.filled += bytes;
            if large.filled < large.frame_bytes {
                self.large = Some(large);
            } else {
                let Large { buffer, frame_bytes, .. } = large;
                frames.push(Bytes::from_owner(Loan { buffer, frame_bytes, pool: self.pool.clone() }));
            }
            return Ok(());
        }
        self.staged += bytes;
        self.cut(frames)
    }

    fn cut(&mut self, frames: &mut Vec<Bytes>) -> Result<()> {
        let mut start = 0;
        while let Some((prefix, rest)) =
            self.staging.get(start..self.staged).and_then(|staged| staged.split_first_chunk::<4>())
        {
            let frame_bytes = self.frame_bytes(*prefix)?;
            if let Some(frame) = rest.get(..frame_bytes) {
                frames.push(Bytes::copy_from_slice(frame));
                start += 4 + frame_bytes;
            } else if frame_bytes + 4 > STAGING_BYTES {
                let mut buffer = self.pool.take(frame_bytes);
                let filled = rest.len();
                buffer.get_mut(..filled).unwrap_or_default().copy_from_slice(rest);
                self.large = Some(Large { buffer, frame_bytes, filled });
                start = self.staged;
            } else {
                break;
            }
        }
        self.staging.copy_within(start..self.staged, 0);
        self.staged -= start;
        Ok(())
    }

    fn frame_bytes(&self, prefix: [u8; 4]) -> Result<usize> {
        let length = i32::from_be_bytes(prefix);
        if let [0x15, 3, _, _] = &prefix {
            return Err(Error::new(ErrorKind::Malformed, "the peer answered with a TLS alert").with_hint(Hint::UseTls));
        }
        let hint = match &prefix {
            b"HTTP" => Some("the peer speaks HTTP, not Kafka: check the port"),
            b"SSH-" => Some("the peer speaks SSH, not Kafka: check the port"),
            _ => None,
        };
        let refuse = |why: String| {
            let error = Error::new(ErrorKind::Malformed, why);
            Err(hint.map_or(error.clone(), |hint| error.with_hint(hint)))
        };
        match usize::try_from(length) {
            Err(_) => refuse(format!("the peer announced a frame of {length} bytes")),
            Ok(bytes) if bytes > self.max_frame_bytes => refuse(format!(
                "the peer announced a frame of {bytes} bytes, more than the limit of {}",
                self.max_frame_bytes
            )),
            Ok(bytes) => Ok(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(reader: &mut FrameReader, mut bytes: &[u8], step: usize) -> Result<Vec<Bytes>> {
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            let space = reader.space();
            let count = bytes.len().min(step).min(space.len());
            space[..count].copy_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            reader.handle_read(count, &mut frames)?;
        }
        Ok(frames)
    }

    fn framed(bodies: &[Vec<u8>]) -> Vec<u8> {
        bodies.iter().flat_map(|body| [&(body.len() as u32).to_be_bytes()[..], body].concat()).collect()
    }

    #[test]
    fn frames_come_out_whole_however_the_stream_is_cut() {
        let bodies = vec![
            vec![1; 10],
            vec![],
            vec![2; 200_000],
            vec![3; STAGING_BYTES - 4],
            vec![4; STAGING_BYTES - 3],
            vec![5; 1],
        ];
        for step in [1, 3, 4, 5, 1_000, STAGING_BYTES, usize::MAX] {
            let mut reader = FrameReader::new(ReadPool::default(), 1 << 20);
            let frames = feed(&mut reader, &framed(&bodies), step).unwrap();
            assert_eq!(frames, bodies, "with steps of {step} bytes");
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_anything_is_allocated_for_it() {
        let mut reader = FrameReader::new(ReadPool::default(), 100_000_000);
        let error = feed(&mut reader, &i32::MAX.to_be_bytes(), 4).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed);
        assert!(reader.large.is_none());
    }

    #[test]
    fn a_negative_length_is_refused() {
        let mut reader = FrameReader::new(ReadPool::default(), 1_000);
        assert!(feed(&mut reader, &(-1_i32).to_be_bytes(), 4).is_err());
    }

    #[test]
    fn a_peer_that_speaks_http_is_named() {
        let mut reader = FrameReader::new(ReadPool::default(), 100_000_000);
        let error = feed(&mut reader, b"HTTP/1.1 400 Bad Request\r\n", 100).unwrap_err();
        assert!(error.to_string().contains("speaks HTTP"), "{error}");
    }

    #[test]
    fn a_buffer_is_used_again_only_when_its_frame_is_dropped() {
        let pool = ReadPool::default();
        let mut reader = FrameReader::new(pool.clone(), 1 << 20);
        let first = feed(&mut reader, &framed(&[vec![7; 100_000]]), usize::MAX).unwrap();
        let second = feed(&mut reader, &framed(&[vec![8; 100_000]]), usize::MAX).unwrap();
        assert_ne!(first[0].as_ptr(), second[0].as_ptr());
        let address = first[0].as_ptr();
        drop(first);
        let third = feed(&mut reader, &framed(&[vec![9; 90_000]]), usize::MAX).unwrap();
        assert_eq!(third[0].as_ptr(), address);
        assert_eq!(third[0], vec![9; 90_000]);
    }
}
