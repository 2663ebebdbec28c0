//! Compressed bytes, as they come from a peer, and the same through another reader of the format.
//!
//! What our decompressor accepts, the other reader has read to the same bytes; and no output exceeds its limit. What a
//! compressor wrote comes back as it was. The other reader decodes by the same libraries: so this finds mistakes in
//! frames, limits and fast paths, but none within a library.
#![no_main]

use std::io::Read;

use kavka_core::wire::records::{CompressionType, Decompressor};
use kavka_fuzz::records::{compressed, some_codec};
use kavka_fuzz::{Unstructured, arbitrary, below, within_memory};
use libfuzzer_sys::fuzz_target;

const XERIAL: &[u8] = b"\x82SNAPPY\0";

/// What another reader makes of `bytes`, at most `most` bytes; `None` if it refuses them.
fn reference(codec: CompressionType, bytes: &[u8], most: usize) -> Option<Vec<u8>> {
    let mut output = Vec::new();
    let limit = most as u64 + 1;
    match codec {
        CompressionType::None => return Some(bytes.to_vec()),
        CompressionType::Gzip => flate2::read::MultiGzDecoder::new(bytes).take(limit).read_to_end(&mut output).ok()?,
        CompressionType::Lz4 => lz4(bytes, limit, &mut output)?,
        CompressionType::Zstd => zstd::Decoder::new(bytes).ok()?.take(limit).read_to_end(&mut output).ok()?,
        CompressionType::Snappy => return snappy(bytes),
    };
    Some(output)
}

/// The library reads one frame, so this begins anew for each.
fn lz4(mut bytes: &[u8], limit: u64, output: &mut Vec<u8>) -> Option<usize> {
    while !bytes.is_empty() {
        if let [0x50..=0x5f, 0x2a, 0x4d, 0x18, l0, l1, l2, l3, rest @ ..] = bytes {
            bytes = rest.get(u32::from_le_bytes([*l0, *l1, *l2, *l3]) as usize..)?;
            continue;
        }
        let mut decoder = lz4_flex::frame::FrameDecoder::new(&mut bytes);
        (&mut decoder).take(limit).read_to_end(output).ok()?;
    }
    Some(output.len())
}

fn snappy(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut decoder = snap::raw::Decoder::new();
    let Some(framed) = bytes.strip_prefix(XERIAL) else { return decoder.decompress_vec(bytes).ok() };
    let (mut rest, mut output) = (framed.get(8..)?, Vec::new());
    while let Some((length, behind)) = rest.split_first_chunk() {
        let (block, behind) = behind.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        output.extend(decoder.decompress_vec(block).ok()?);
        rest = behind;
    }
    rest.is_empty().then_some(output)
}

/// Bytes that a compressor wrote, of which the input changes some; or any bytes.
fn some_input(input: &mut Unstructured<'_>, codec: CompressionType) -> arbitrary::Result<Vec<u8>> {
    if input.ratio(1, 4)? {
        return Ok(input.bytes(input.len())?.to_vec());
    }
    let content = kavka_fuzz::some_bytes(input, 4_000)?.repeat(1 + below(input, 20)?);
    let mut bytes = compressed(codec, &content);
    if input.ratio(1, 4)? {
        bytes.extend(compressed(codec, &content));
    } else if input.ratio(1, 4)? {
        let whole = Decompressor::new().decompress(codec, &bytes, content.len());
        assert_eq!(whole.expect("what was compressed is read"), content);
    }
    while !input.is_empty() && !bytes.is_empty() {
        // Most of what can go wrong is at the front or at the end.
        let at = [below(input, 40)?, bytes.len().saturating_sub(below(input, 40)?), below(input, bytes.len())?]
            [below(input, 3)?];
        let change: u8 = input.arbitrary()?;
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= change;
        }
    }
    Ok(bytes)
}

fn run(input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let codec = some_codec(input)?;
    let most = [0, 1, 1_000, 100_000][below(input, 4)?];
    let bytes = some_input(input, codec)?;
    let ours = within_memory(bytes.len(), 3 * most, || Decompressor::new().decompress(codec, &bytes, most));
    let Ok(ours) = ours else { return Ok(()) };
    assert!(ours.len() <= most);
    if bytes.is_empty() {
        // No frame at all: zstd's one-call decoder, which we use, takes that for nothing; its stream reader refuses it.
        assert!(ours.is_empty());
        return Ok(());
    }
    assert_eq!(Some(&ours[..]), reference(codec, &bytes, most).as_deref(), "{codec} of {bytes:02x?}");
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let _ = run(&mut Unstructured::new(data));
});
