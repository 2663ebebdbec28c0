//! A message that was decoded is the same after it was encoded and decoded again.
#![no_main]

use bytes::Bytes;
use kavka_core::wire::{Encoder, Message};
use kavka_fuzz::{Visit, visit_input};
use libfuzzer_sys::fuzz_target;

struct Repeat;

impl Visit for Repeat {
    fn visit<M: Message>(&self, version: i16, body: Bytes) {
        let Ok(message) = M::decode_exact(version, body) else { return };
        let mut encoder = Encoder::new();
        message.encode(version, &mut encoder).unwrap_or_else(|error| panic!("{error}, although it was decoded"));
        let again = M::decode_exact(version, encoder.finish().concat().into());
        // By what they show, because a float that is no number differs from itself.
        assert_eq!(format!("{:?}", again.as_ref()), format!("{:?}", Ok::<_, ()>(&message)));
    }
}

fuzz_target!(|data: &[u8]| visit_input(data, &Repeat));
