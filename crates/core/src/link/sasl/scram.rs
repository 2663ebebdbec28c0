//! SCRAM-SHA-256 and SCRAM-SHA-512 (RFC 5802, RFC 7677): both sides prove that they know the password, or something
//! made from it, and neither sends it.
//!
//! Channel binding is neither used nor claimed: Kafka has no mechanism with it. Names and passwords are used as they
//! are, without the preparation that the RFC asks for (`SASLprep`, RFC 4013): Kafka's brokers do not prepare them
//! either, and would refuse a prepared password (`½` becomes `1⁄2`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{Mechanism, Move, refuse, superfluous};
use crate::config::ScramHash;
use crate::error::{Error, ErrorKind, Result, printable, printable_reason};
use crate::secret::Secret;

/// How many unpredictable bytes an exchange needs. They are sent in Base64, which has no comma.
pub const NONCE_BYTES: usize = 24;

/// A broker with fewer iterations would make it easy to guess the password from what was sent.
const MIN_ITERATIONS: u32 = 4_096;

/// A broker with more would keep this machine busy.
const MAX_ITERATIONS: u32 = 1_000_000;

/// No channel binding, and no other user to act for.
const HEADER: &str = "n,,";

type Digested = Zeroizing<Vec<u8>>;

impl ScramHash {
    fn digest(self, bytes: &[u8]) -> Digested {
        Zeroizing::new(match self {
            Self::Sha256 => Sha256::digest(bytes).to_vec(),
            Self::Sha512 => Sha512::digest(bytes).to_vec(),
        })
    }

    fn hmac(self, key: &[u8], message: &[u8]) -> Result<Digested> {
        fn keyed<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> Result<Digested> {
            let mac = M::new_from_slice(key).map_err(|_| Error::new(ErrorKind::Internal, "HMAC refuses a key"))?;
            Ok(Zeroizing::new(mac.chain_update(message).finalize().into_bytes().to_vec()))
        }
        match self {
            Self::Sha256 => keyed::<Hmac<Sha256>>(key, message),
            Self::Sha512 => keyed::<Hmac<Sha512>>(key, message),
        }
    }

    /// `Hi()` of the RFC. With the most iterations it takes about a second.
    fn salted_password(self, password: &[u8], salt: &[u8], iterations: u32) -> Digested {
        match self {
            Self::Sha256 => {
                let mut salted = Zeroizing::new(vec![0; 32]);
                pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, iterations, &mut salted);
                salted
            }
            Self::Sha512 => {
                let mut salted = Zeroizing::new(vec![0; 64]);
                pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, iterations, &mut salted);
                salted
            }
        }
    }
}

#[derive(Debug)]
enum Stage {
    Begin,
    /// The client's first message was sent, this one without its header.
    First(String),
    /// The client's proof was sent; the broker must answer with this signature.
    Proof(Vec<u8>),
    Last,
}

#[derive(Debug)]
pub(super) struct Scram {
    hash: ScramHash,
    username: String,
    password: Secret,
    nonce: String,
    stage: Stage,
}

/// What the broker's first message says.
#[derive(Debug, PartialEq, Eq)]
struct ServerFirst<'a> {
    nonce: &'a str,
    salt: Vec<u8>,
    iterations: u32,
}

impl Scram {
    pub(super) fn new(hash: ScramHash, username: String, password: Secret, nonce: [u8; NONCE_BYTES]) -> Self {
        Self { hash, username, password, nonce: BASE64.encode(nonce), stage: Stage::Begin }
    }

    fn first_bare(&self) -> Result<String> {
        let username = &self.username;
        if username.is_empty() || self.password.reveal().is_empty() {
            return Err(refuse("the user name or the password for SASL SCRAM is empty"));
        }
        if username.contains('\0') {
            return Err(refuse("the user name for SASL SCRAM contains a NUL character"));
        }
        let username = username.replace('=', "=3D").replace(',', "=2C");
        Ok(format!("n={username},r={}", self.nonce))
    }

    /// The client's last message, with its proof, and the signature that must come back.
    fn prove(&self, first_bare: &str, server_first: &str) -> Result<(String, Vec<u8>)> {
        let ServerFirst { nonce, salt, iterations } = server_first_of(server_first, &self.nonce)?;
        let last = format!("c={},r={nonce}", BASE64.encode(HEADER));
        let signed = format!("{first_bare},{server_first},{last}");
        let salted = self.hash.salted_password(self.password.reveal(), &salt, iterations);
        let client_key = self.hash.hmac(&salted, b"Client Key")?;
        let client_signature = self.hash.hmac(&self.hash.digest(&client_key), signed.as_bytes())?;
        let proof: Vec<u8> = client_key.iter().zip(client_signature.iter()).map(|(key, mask)| key ^ mask).collect();
        let server_key = self.hash.hmac(&salted, b"Server Key")?;
        let server_signature = self.hash.hmac(&server_key, signed.as_bytes())?;
        Ok((format!("{last},p={}", BASE64.encode(proof)), server_signature.to_vec()))
    }
}

fn unreadable(which: &str) -> Error {
    refuse(format!("the broker's {which} SCRAM message is not one"))
}

/// Reads the broker's first message, whose nonce must continue `ours`.
fn server_first_of<'a>(message: &'a str, ours: &str) -> Result<ServerFirst<'a>> {
    refuse_special(message)?;
    let mut attributes = message.split(',');
    let mut take = |name| attributes.next().and_then(|attribute| attribute.strip_prefix(name));
    let (Some(nonce), Some(salt), Some(iterations)) = (take("r="), take("s="), take("i=")) else {
        return Err(unreadable("first"));
    };
    if nonce.len() <= ours.len() || !nonce.starts_with(ours) || !nonce.bytes().all(|byte| byte.is_ascii_graphic()) {
        // Otherwise it may be the repetition of an earlier exchange.
        return Err(refuse("the broker's SCRAM nonce does not continue the client's"));
    }
    let salt = BASE64.decode(salt).ok().filter(|salt| !salt.is_empty()).ok_or_else(|| unreadable("first"))?;
    let is_number = iterations.bytes().all(|byte| byte.is_ascii_digit());
    let number = iterations.parse().ok().filter(|_| is_number);
    let Some(iterations @ MIN_ITERATIONS..=MAX_ITERATIONS) = number else {
        let iterations: String = printable(iterations).chars().take(20).collect();
        let why = format!("the broker wants {iterations} iterations of SCRAM");
        return Err(refuse(why).with_hint("kavka accepts 4,096 to 1,000,000: set the user's iterations on the broker"));
    };
    Ok(ServerFirst { nonce, salt, iterations })
}

/// Refuses a message that reports an error, or that needs an extension which this client does not know.
fn refuse_special(message: &str) -> Result<()> {
    if let Some(error) = message.split(',').find_map(|attribute| attribute.strip_prefix("e=")) {
        return Err(refuse(format!("the broker refused the SCRAM exchange: {}", printable_reason(error))));
    }
    if message.split(',').any(|attribute| attribute.starts_with("m=")) {
        return Err(refuse("the broker requires a SCRAM extension that this client does not know"));
    }
    Ok(())
}

/// Checks the broker's last message, which shows that it knows the user's keys.
fn check_server_final(message: &str, expected: &[u8]) -> Result<()> {
    refuse_special(message)?;
    let signature = message.split(',').next().and_then(|attribute| attribute.strip_prefix("v="));
    let signature = signature.and_then(|text| BASE64.decode(text).ok()).ok_or_else(|| unreadable("last"))?;
    if signature.ct_eq(expected).into() {
        return Ok(());
    }
    Err(refuse("the broker could not prove that it knows the user's SCRAM keys: its signature is wrong")
        .with_hint("somebody may be pretending to be the broker"))
}

impl Mechanism for Scram {
    fn step(&mut self, message: &[u8]) -> Result<Move> {
        let text = |which| std::str::from_utf8(message).map_err(|_| unreadable(which));
        let (stage, next) = match &self.stage {
            Stage::Begin => {
                let bare = self.first_bare()?;
                let message = format!("{HEADER}{bare}");
                (Stage::First(bare), Move::Send(message.into_bytes().into()))
            }
            Stage::First(bare) => {
                let (message, signature) = self.prove(bare, text("first")?)?;
                (Stage::Proof(signature), Move::Send(message.into_bytes().into()))
            }
            Stage::Proof(signature) => {
                check_server_final(text("last")?, signature)?;
                (Stage::Last, Move::Done)
            }
            Stage::Last => return Err(superfluous("SCRAM")),
        };
        self.stage = stage;
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scram(hash: ScramHash, username: &str, password: &str, nonce: &str) -> Scram {
        let nonce = nonce.into();
        Scram { hash, username: username.into(), password: Secret::new(password), nonce, stage: Stage::Begin }
    }

    fn sent(scram: &mut Scram, message: &str) -> Result<String> {
        match scram.step(message.as_bytes())? {
            Move::Send(bytes) => Ok(String::from_utf8(bytes.to_vec()).unwrap()),
            Move::Done => panic!("the exchange has ended"),
        }
    }

    const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    /// The exchange of RFC 7677, up to its proof.
    fn proven() -> Scram {
        let mut scram = scram(ScramHash::Sha256, "user", "pencil", "rOprNGfwEbeRWgbNEkqO");
        assert_eq!(sent(&mut scram, "").unwrap(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let proof = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                     p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(sent(&mut scram, SERVER_FIRST).unwrap(), proof);
        scram
    }

    #[test]
    fn the_example_of_rfc_7677_is_reproduced() {
        let mut scram = proven();
        assert_eq!(scram.step(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").unwrap(), Move::Done);
        assert!(scram.step(b"").is_err(), "the exchange is over");
    }

    #[test]
    fn an_exchange_with_sha_512_agrees_with_another_implementation() {
        // Computed with Python's hashlib and hmac by the formulas of RFC 5802.
        let mut scram = scram(ScramHash::Sha512, "user", "pencil", "rOprNGfwEbeRWgbNEkqO");
        sent(&mut scram, "").unwrap();
        let proof = sent(&mut scram, SERVER_FIRST).unwrap();
        assert!(
            proof.ends_with(
                ",p=gMGXRcevScNtxZ6/8lQYpGtnsNAc3mGcmNomv+xnoOMw+3R2xNJdMNnzMlTN8PPC6wdp6dybEmDYXYTxwnYPJQ=="
            )
        );
        let signature = "v=ZQnYEgWQMFmmsM8aQMF0nDDCy/AgCzkwk8CmMZYcMg0vSVlKDanekLtifDSeVGT4+5ZxXnJq199RVG2rR7N7Zw==";
        assert_eq!(scram.step(signature.as_bytes()).unwrap(), Move::Done);
    }

    #[test]
    fn a_nonce_of_random_bytes_has_no_comma() {
        let credentials = Scram::new(ScramHash::Sha256, "user".into(), Secret::new("pencil"), [0xff; NONCE_BYTES]);
        assert_eq!(credentials.first_bare().unwrap(), format!("n=user,r={}", "/".repeat(32)));
    }

    #[test]
    fn a_name_with_the_characters_of_the_format_is_escaped() {
        assert_eq!(sent(&mut scram(ScramHash::Sha256, "a,b=c", "x", "n"), "").unwrap(), "n,,n=a=2Cb=3Dc,r=n");
        for (username, password) in [("", "x"), ("a", ""), ("a\0b", "x")] {
            assert!(scram(ScramHash::Sha256, username, password, "n").step(b"").is_err());
        }
    }

    #[test]
    fn names_and_passwords_are_used_as_they_are() {
        // SASLprep would change each of these, and brokers do not.
        for text in ["p\u{bd}ss", "a\u{a0}b", "cafe\u{301}", "I\u{ad}X", "\u{2168}"] {
            let scram = Scram::new(ScramHash::Sha256, text.into(), Secret::new(text), [0; NONCE_BYTES]);
            let first_bare = scram.first_bare().unwrap();
            assert_eq!(first_bare, format!("n={text},r={}", scram.nonce));
            let server_first = format!("r={}theirs,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", scram.nonce);
            let (_, signature) = scram.prove(&first_bare, &server_first).unwrap();
            let salted = ScramHash::Sha256.salted_password(
                text.as_bytes(),
                &BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap(),
                4096,
            );
            let server_key = ScramHash::Sha256.hmac(&salted, b"Server Key").unwrap();
            let signed = format!("{first_bare},{server_first},c=biws,r={}theirs", scram.nonce);
            assert_eq!(signature, *ScramHash::Sha256.hmac(&server_key, signed.as_bytes()).unwrap());
        }
    }

    #[test]
    fn a_first_message_that_makes_the_exchange_weak_is_refused() {
        let salt = "W22ZaJ0SNY7soEsUEjb6gQ==";
        let cases = [
            (format!("r=ours,s={salt},i=4096"), "does not continue"),
            (format!("r=theirs,s={salt},i=4096"), "does not continue"),
            (format!("r=ours\u{1},s={salt},i=4096"), "does not continue"),
            (format!("r=oursX,s={salt},i=1"), "wants 1 iterations"),
            (format!("r=oursX,s={salt},i=4095"), "wants 4095 iterations"),
            (format!("r=oursX,s={salt},i=1000001"), "wants 1000001 iterations"),
            (format!("r=oursX,s={salt},i=2147483647"), "wants 2147483647 iterations"),
            (format!("r=oursX,s={salt},i=+5000"), "wants +5000 iterations"),
            (format!("r=oursX,s={salt},i=-1"), "wants -1 iterations"),
            (format!("r=oursX,s={salt},i="), "wants  iterations"),
            (format!("m=x,r=oursX,s={salt},i=4096"), "extension"),
            (format!("r=oursX,s={salt},i=4096,m=x"), "extension"),
            ("r=oursX,s=,i=4096".into(), "is not one"),
            ("r=oursX,s=?,i=4096".into(), "is not one"),
            ("r=oursX".into(), "is not one"),
            (String::new(), "is not one"),
            ("e=other-error".into(), "other-error"),
        ];
        for (message, why) in cases {
            let error = server_first_of(&message, "ours").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Authentication);
            assert!(error.to_string().contains(why), "{message:?}: {error}");
        }
    }

    #[test]
    fn the_bounds_of_the_iterations_are_accepted_and_further_attributes_ignored() {
        for iterations in [MIN_ITERATIONS, MAX_ITERATIONS] {
            let message = format!("r=oursX,s=c2FsdA==,i={iterations},x=y");
            let expected = ServerFirst { nonce: "oursX", salt: b"salt".to_vec(), iterations };
            assert_eq!(server_first_of(&message, "ours").unwrap(), expected);
        }
    }

    #[test]
    fn a_broker_that_cannot_prove_itself_is_refused() {
        let signature = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        let wrong = signature.replace("v=6", "v=7");
        let cases = [
            (wrong.as_str(), "its signature is wrong"),
            ("v=", "its signature is wrong"),
            ("v=6rri", "its signature is wrong"),
            ("", "is not one"),
            ("x=y", "is not one"),
            ("v=?", "is not one"),
            ("e=invalid-proof\x1b[31m", "invalid-proof\\u{1b}[31m"),
        ];
        for (message, why) in cases {
            let error = proven().step(message.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(why), "{message:?}: {error}");
        }
        assert!(proven().step(&[0xff]).is_err());
        let extended = format!("m=x,{signature}");
        assert!(proven().step(extended.as_bytes()).is_err());
    }
}
