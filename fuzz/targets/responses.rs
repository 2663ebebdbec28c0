//! Any bytes as any request or response in any version: decoded or refused, in bounded memory.
#![no_main]

use bytes::Bytes;
use kavka_core::wire::{Decoder, Message};
use kavka_fuzz::{Visit, visit_input, within_memory};
use libfuzzer_sys::fuzz_target;

struct Decode;

impl Visit for Decode {
    fn visit<M: Message>(&self, version: i16, body: Bytes) {
        let bytes = body.len();
        within_memory(bytes, 0, || {
            let mut decoder = Decoder::from(body);
            let decoded = M::decode(version, &mut decoder);
            assert!(decoder.remaining() <= bytes);
            decoded.is_ok()
        });
    }
}

fuzz_target!(|data: &[u8]| visit_input(data, &Decode));
