//! A stream of any bytes, cut anywhere: the same frames and the same refusal as a reader that sees it whole, and no
//! buffer for a frame beyond the limit.
#![no_main]

use bytes::Bytes;
use kavka_core::link::{FrameReader, ReadPool};
use kavka_fuzz::{Unstructured, arbitrary, within_memory};
use libfuzzer_sys::fuzz_target;

const STAGING_BYTES: usize = 64 << 10;
const LIMITS: [usize; 4] = [0, 1_000, STAGING_BYTES - 4, 300_000];

/// The frames of a stream, and whether it ends with a length that must be refused.
fn frames(mut stream: &[u8], most: usize) -> (Vec<&[u8]>, bool) {
    let mut frames = Vec::new();
    while let Some((prefix, rest)) = stream.split_first_chunk() {
        let Some(length) = usize::try_from(i32::from_be_bytes(*prefix)).ok().filter(|length| *length <= most) else {
            return (frames, true);
        };
        let Some((frame, behind)) = rest.split_at_checked(length) else { break };
        frames.push(frame);
        stream = behind;
    }
    (frames, false)
}

/// The stream: bytes of the input, and long frames of zeros, which the input need not spell out.
fn stream(input: &mut Unstructured<'_>) -> arbitrary::Result<Vec<u8>> {
    let mut stream = Vec::new();
    while !input.is_empty() && stream.len() < 1 << 20 {
        match input.int_in_range(0..=3_u8)? {
            0 => {
                let length = input.int_in_range(0..=300_000_usize)?;
                stream.extend((length as u32).to_be_bytes());
                stream.resize(stream.len() + length, 0);
            }
            1 => stream.extend([0; 64]),
            _ => stream.extend(kavka_fuzz::some_bytes(input, 64)?),
        }
    }
    Ok(stream)
}

/// Appends the frames of a stream to `read`. Returns whether the reader refuses the rest.
fn read(reader: &mut FrameReader, stream: &[u8], cuts: &mut Unstructured<'_>, read: &mut Vec<Bytes>) -> bool {
    let mut rest = stream;
    while !rest.is_empty() {
        let step = cuts.int_in_range(0..=200_000_usize).unwrap_or(0).max(1);
        let space = reader.space();
        let count = rest.len().min(step.max(rest.len() / 64)).min(space.len());
        space[..count].copy_from_slice(&rest[..count]);
        rest = &rest[count..];
        if reader.handle_read(count, read).is_err() {
            return true;
        }
    }
    false
}

fn run(input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let most = LIMITS[kavka_fuzz::below(input, LIMITS.len())?];
    let cuts = kavka_fuzz::some_bytes(input, 64)?;
    let stream = stream(input)?;
    let (expected, is_refused) = frames(&stream, most);
    // What it holds beside the frames: the staging buffer, and one buffer for the frame that is on its way.
    let own = STAGING_BYTES + most.next_multiple_of(STAGING_BYTES);
    // The list is the caller's: an empty frame takes four bytes of the stream, and eight times as many in a list.
    let mut found = Vec::with_capacity(expected.len());
    let failed = within_memory(stream.len(), own, || {
        let mut reader = FrameReader::new(ReadPool::default(), most);
        read(&mut reader, &stream, &mut Unstructured::new(cuts), &mut found)
    });
    assert_eq!(failed, is_refused);
    assert_eq!(found, expected);
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let _ = run(&mut Unstructured::new(data));
});
