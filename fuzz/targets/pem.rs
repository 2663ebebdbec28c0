//! Files in PEM format: certificates, and private keys of all kinds, also encrypted ones.
//!
//! They are read, or refused as a configuration error that shows neither the password nor a line of the file, nor
//! anything that a terminal obeys. Decrypting a key takes no more memory than is allowed.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use kavka::fuzzing::{certificates, key};
use kavka::{Error, ErrorKind, Secret};
use kavka_fuzz::within_memory;
use libfuzzer_sys::fuzz_target;

const PASSWORD: &str = "correct-horse";

const TAGS: [&str; 5] = ["PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "CERTIFICATE"];

/// What scrypt may take.
const SCRYPT_BYTES: usize = 257 << 20;

fn check(error: &Error, text: &[u8]) {
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(!error.to_string().chars().any(char::is_control), "{error:?}");
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains(PASSWORD), "{shown}");
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let secret = lines.filter(|line| line.len() >= 40 && !line.starts_with(b"-")).find_map(|line| {
        let line = std::str::from_utf8(line).ok()?;
        shown.contains(line).then_some(line)
    });
    assert_eq!(secret, None, "{shown}");
}

fn read(text: &[u8]) {
    if let Err(error) = within_memory(text.len(), 0, || certificates(text)) {
        check(&error, text);
    }
    let password = Secret::new(PASSWORD);
    for (password, extra_bytes) in [(None, 0), (Some(&password), SCRYPT_BYTES)] {
        if let Err(error) = within_memory(text.len(), extra_bytes, || key(text, password)) {
            check(&error, text);
        }
    }
}

fuzz_target!(|data: &[u8]| {
    // A text, or what a block of it holds.
    match data {
        [tag, der @ ..] if usize::from(*tag) < TAGS.len() => {
            let tag = TAGS[usize::from(*tag)];
            read(format!("-----BEGIN {tag}-----\n{}\n-----END {tag}-----\n", BASE64.encode(der)).as_bytes());
        }
        text => read(text),
    }
});
