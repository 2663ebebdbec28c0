//! Passwords, tokens and private keys in memory.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// A password, a token or a private key.
///
/// Its memory is overwritten with zeros when the last clone is dropped. It has no `Display` and cannot be serialized,
/// `Debug` shows `***`, and comparing two of the same length takes the same time wherever they differ.
#[derive(Clone)]
pub struct Secret(Arc<Zeroizing<Vec<u8>>>);

impl Secret {
    /// Takes the bytes. A `String` or a `Vec<u8>` is moved; of anything else, the caller's copy stays in memory.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Arc::new(Zeroizing::new(bytes.into())))
    }

    /// The bytes, for the one place that needs them.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }

    /// The text of a peer to which this was sent, without it: as it is, and in Base64, also of a longer message. What
    /// could be a word of the peer's own stays (`Invalid username or password`), because the gap would tell what the
    /// secret is.
    pub fn hide_in(&self, text: &str) -> String {
        let Some(plain) = std::str::from_utf8(self.reveal()).ok().filter(|plain| !may_be_a_word(plain)) else {
            return text.to_owned();
        };
        let encoded = Zeroizing::new(BASE64.encode(plain));
        let hidden = text.replace(plain, HIDDEN).replace(encoded.trim_end_matches('='), HIDDEN);
        (0..3).fold(hidden, |hidden, before| hide_encoded_behind(before, plain, &hidden))
    }
}

/// Hides `plain` in Base64 of a message in which so many bytes, and multiples of three, come before it.
fn hide_encoded_behind(before: usize, plain: &str, text: &str) -> String {
    let message = Zeroizing::new(["-".repeat(before).as_bytes(), plain.as_bytes()].concat());
    let encoded = Zeroizing::new(BASE64.encode(&*message));
    // The characters that depend on nothing else.
    let (begin, end) = ((before * 8).div_ceil(6), message.len() * 8 / 6);
    match encoded.get(begin..end) {
        Some(own) if own.len() >= 4 => text.replace(own, HIDDEN),
        _ => text.to_owned(),
    }
}

fn may_be_a_word(text: &str) -> bool {
    text.len() < 4 || text.len() < 12 && text.bytes().all(|byte| byte.is_ascii_alphabetic())
}

const HIDDEN: &str = "***";

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.reveal().ct_eq(other.reveal()).into()
    }
}

impl Eq for Secret {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_a_secret() {
        assert_eq!(format!("{:?}", Some(Secret::new("hunter2"))), "Some(***)");
    }

    #[test]
    fn a_secret_that_a_peer_repeats_is_not_shown() {
        let secret = Secret::new("hunter2");
        assert_eq!(secret.hide_in("no user \0tim\0hunter2, hunter2!"), "no user \0tim\0***, ***!");
        assert_eq!(secret.hide_in("auth: aHVudGVyMg=="), "auth: ***==");
        for message in ["\0tim\0hunter2", "\0tom!\0hunter2!", "\0alice\0hunter2"] {
            let shown = secret.hide_in(&BASE64.encode(message));
            assert!(shown.contains(HIDDEN) && shown.len() < 20, "{message:?}: {shown}");
        }
        for word in ["e", "user", "password"] {
            assert_eq!(Secret::new(word).hide_in("wrong user or password"), "wrong user or password");
        }
    }

    #[test]
    fn secrets_are_equal_if_their_bytes_are() {
        assert_eq!(Secret::new("a"), Secret::new(vec![b'a']));
        assert_ne!(Secret::new("a"), Secret::new("b"));
        assert_ne!(Secret::new("a"), Secret::new("aa"));
    }
}
