//! SCRAM-SHA-256 and SCRAM-SHA-512 (RFC 5802): the client proves that it knows the password.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq;

use super::{Refusal, SaslMechanism, Step, Taken};

/// The fewest that Kafka allows, for tests should be fast.
const ITERATIONS: u32 = 4_096;

/// What a broker keeps of a password.
#[derive(Clone)]
pub(super) struct Keys {
    salt: [u8; 16],
    stored_key: Vec<u8>,
    server_key: Vec<u8>,
}

/// Without the keys.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy)]
enum Hash {
    Sha256,
    Sha512,
}

impl Hash {
    fn of(mechanism: SaslMechanism) -> Self {
        if mechanism == SaslMechanism::ScramSha512 { Self::Sha512 } else { Self::Sha256 }
    }

    fn digest(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(bytes).to_vec(),
            Self::Sha512 => Sha512::digest(bytes).to_vec(),
        }
    }

    fn hmac(self, key: &[u8], message: &[u8]) -> Vec<u8> {
        fn code<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> Vec<u8> {
            let keyed = M::new_from_slice(key).ok();
            keyed.map(|mac| mac.chain_update(message).finalize().into_bytes().to_vec()).unwrap_or_default()
        }
        match self {
            Self::Sha256 => code::<Hmac<Sha256>>(key, message),
            Self::Sha512 => code::<Hmac<Sha512>>(key, message),
        }
    }

    fn salted(self, password: &[u8], salt: &[u8]) -> Vec<u8> {
        let mut salted = vec![0; if matches!(self, Self::Sha256) { 32 } else { 64 }];
        match self {
            Self::Sha256 => pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, ITERATIONS, &mut salted),
            Self::Sha512 => pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, ITERATIONS, &mut salted),
        }
        salted
    }
}

fn bytes([high, low]: [u64; 2]) -> [u8; 16] {
    ((u128::from(high) << 64) | u128::from(low)).to_be_bytes()
}

impl Keys {
    pub(super) fn new(mechanism: SaslMechanism, password: &str, random: [u64; 2]) -> Self {
        let (hash, salt) = (Hash::of(mechanism), bytes(random));
        let salted = hash.salted(password.as_bytes(), &salt);
        let stored_key = hash.digest(&hash.hmac(&salted, b"Client Key"));
        Self { salt, stored_key, server_key: hash.hmac(&salted, b"Server Key") }
    }
}

/// The broker in one exchange.
#[derive(Debug)]
pub(super) struct Server {
    hash: Hash,
    challenged: Option<Challenged>,
}

/// The client has been asked for its proof.
#[derive(Debug)]
struct Challenged {
    user: String,
    keys: Keys,
    nonce: String,
    /// The client's first message, without its header, and the challenge.
    exchanged: String,
}

impl Server {
    pub(super) fn new(mechanism: SaslMechanism) -> Self {
        Self { hash: Hash::of(mechanism), challenged: None }
    }

    /// `keys` has the keys of a user.
    pub(super) fn handle_token(
        &mut self,
        token: &[u8],
        keys: impl FnOnce(&str) -> Option<Keys>,
        random: [u64; 2],
    ) -> Taken {
        let next = std::str::from_utf8(token).ok().and_then(|text| match self.challenged.take() {
            None => self.challenge(text, keys, random),
            Some(challenged) => self.check(text, challenged),
        });
        next.ok_or(Refusal::Unsaid)
    }

    fn challenge(&mut self, text: &str, keys: impl FnOnce(&str) -> Option<Keys>, random: [u64; 2]) -> Option<Step> {
        let (authorization_id, bare) = text.strip_prefix("n,")?.split_once(',')?;
        let (name, rest) = bare.strip_prefix("n=")?.split_once(',')?;
        let client_nonce = rest.strip_prefix("r=")?.split(',').next()?;
        let user = name.replace("=2C", ",").replace("=3D", "=");
        if !(authorization_id.is_empty() || authorization_id.strip_prefix("a=") == Some(name)) {
            return None;
        }
        let keys = keys(&user)?;
        // The salt must not be the nonce.
        let nonce = format!("{client_nonce}{}", BASE64.encode(bytes(random.map(|word| !word))));
        let challenge = format!("r={nonce},s={},i={ITERATIONS}", BASE64.encode(keys.salt));
        let exchanged = format!("{bare},{challenge}");
        self.challenged = Some(Challenged { user, keys, nonce, exchanged });
        Some(Step::Continue(challenge.into_bytes()))
    }

    fn check(&self, text: &str, challenged: Challenged) -> Option<Step> {
        let Challenged { user, keys, nonce, exchanged } = challenged;
        let (without_proof, proof) = text.rsplit_once(",p=")?;
        let mut parts = without_proof.split(',');
        let header = parts.next()?.strip_prefix("c=")?;
        let is_ours = parts.next()?.strip_prefix("r=")? == nonce;
        if !is_ours || !BASE64.decode(header).ok()?.starts_with(b"n,") {
            return None;
        }
        let exchanged = format!("{exchanged},{without_proof}");
        let signature = self.hash.hmac(&keys.stored_key, exchanged.as_bytes());
        let proof = BASE64.decode(proof).ok().filter(|proof| proof.len() == signature.len())?;
        let client_key: Vec<_> = proof.iter().zip(&signature).map(|(proof, signature)| proof ^ signature).collect();
        if !bool::from(self.hash.digest(&client_key).ct_eq(&keys.stored_key)) {
            return None;
        }
        let server_signature = self.hash.hmac(&keys.server_key, exchanged.as_bytes());
        let token = format!("v={}", BASE64.encode(server_signature)).into_bytes();
        Some(Step::Done { user, token, expires_at_ms: None })
    }
}
