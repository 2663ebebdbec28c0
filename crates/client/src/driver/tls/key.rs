//! Private keys: their PEM formats, and their decryption.
//!
//! A key is PKCS#8, PKCS#1 (RSA) or SEC1 (EC). Encrypted keys are PKCS#8 with PBES2, or have the headers of OpenSSL's
//! traditional format (`Proc-Type: 4,ENCRYPTED`).

use std::sync::Arc;

use cbc::Decryptor;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt, KeyIvInit};
use kavka_core::error::{Error, Result, printable};
use kavka_core::secret::Secret;
use md5::{Digest as _, Md5};
use pem::Pem;
use pkcs8::der::asn1::{ObjectIdentifier, OctetStringRef, UintRef};
use pkcs8::der::{self, Decode as _, Reader, SliceReader, TagMode, TagNumber};
use pkcs8::pkcs5::pbes2::Kdf;
use pkcs8::{EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};
use rustls::sign::SigningKey;

use super::pem::Source;

/// The hint for every key that cannot be used.
pub(super) const USABLE_KEYS: &str =
    "use an RSA key of 2,048 to 8,192 bits, an EC key on P-256, P-384 or P-521, or an Ed25519 key";

const RSA: &str = "1.2.840.113549.1.1.1";
const EC: &str = "1.2.840.10045.2.1";

/// Other kinds of keys, and what people call them.
const OTHER_KINDS: &[(&str, &str)] = &[
    ("1.2.840.113549.1.1.10", "an RSA-PSS key"),
    ("1.2.840.10040.4.1", "a DSA key"),
    ("1.2.840.113549.1.3.1", "a Diffie-Hellman key"),
    ("1.3.101.110", "an X25519 key"),
    ("1.3.101.111", "an X448 key"),
    ("1.3.101.113", "an Ed448 key"),
];

/// The curves that can be used: P-256, P-384 and P-521.
const CURVES: &[&str] = &["1.2.840.10045.3.1.7", "1.3.132.0.34", "1.3.132.0.35"];

/// Other curves, and what OpenSSL calls them.
const OTHER_CURVES: &[(&str, &str)] = &[
    ("1.3.132.0.10", "secp256k1"),
    ("1.3.132.0.33", "secp224r1"),
    ("1.2.840.10045.3.1.1", "prime192v1"),
    ("1.3.36.3.3.2.8.1.1.7", "brainpoolP256r1"),
    ("1.3.36.3.3.2.8.1.1.11", "brainpoolP384r1"),
    ("1.3.36.3.3.2.8.1.1.13", "brainpoolP512r1"),
];

const PASSWORD_IS_WRONG: &str = "it cannot be decrypted: is ssl.key.password the right one?";

/// The most hashes of PBKDF2, which take a few seconds.
const MAX_ITERATIONS: u32 = 10_000_000;

/// The most memory of scrypt, and the most that it may go through in all, which takes a few seconds. OpenSSL uses
/// 16 MiB of memory once.
const MAX_SCRYPT_BYTES: (u64, u64) = (256 << 20, 1 << 30);

/// How much of an unknown tag an error repeats.
const MAX_TAG_CHARS: usize = 40;

/// Why a key cannot be decrypted.
enum Refusal {
    WrongPassword,
    TooCostly,
    UnknownAlgorithm,
}

/// Reads the first private key of a source.
pub(in crate::driver) fn read(source: &Source, password: Option<&Secret>) -> Result<Arc<dyn SigningKey>> {
    let is_key = |block: &Pem| block.tag().ends_with("PRIVATE KEY");
    let Some(block) = source.blocks()?.into_iter().find(is_key) else {
        return Err(source.fault("it has no private key in it"));
    };
    let is_traditional = block.headers().get("Proc-Type").is_some_and(|kind| kind.ends_with("ENCRYPTED"));
    let is_encrypted = is_traditional || block.tag() == "ENCRYPTED PRIVATE KEY";
    let (tag, algorithm) = (block.tag().to_owned(), block.headers().get("DEK-Info").unwrap_or_default().to_owned());
    let contents = Secret::new(block.into_contents());
    let der = if is_encrypted {
        let password = password.filter(|password| !password.reveal().is_empty());
        let Some(password) = password else {
            return Err(source.fault("it is encrypted").with_hint("set ssl.key.password"));
        };
        let decrypted = if is_traditional {
            decrypt_traditional(&algorithm, password, &contents)
        } else {
            decrypt_pkcs8(password, &contents)
        };
        decrypted.map_err(|refusal| refused(source, &refusal))?
    } else {
        contents
    };
    let der = der.reveal();
    let key = match tag.as_str() {
        "RSA PRIVATE KEY" => PrivateKeyDer::from(PrivatePkcs1KeyDer::from(der)),
        "EC PRIVATE KEY" => PrivateKeyDer::from(PrivateSec1KeyDer::from(der)),
        "PRIVATE KEY" | "ENCRYPTED PRIVATE KEY" => PrivateKeyDer::from(PrivatePkcs8KeyDer::from(der)),
        other => {
            let shown: String = printable(other).chars().take(MAX_TAG_CHARS).collect();
            return Err(source.fault(format_args!("a {shown} is not supported")).with_hint(USABLE_KEYS));
        }
    };
    // The cause says nothing that the user could act on.
    any_supported_type(&key).map_err(|_| match unsupported_private(&key) {
        Some(kind) => source.fault(format_args!("it is {kind}, which is not supported")).with_hint(USABLE_KEYS),
        // A wrong password can look right to the padding, and leave garbage.
        None if is_encrypted => source.fault(PASSWORD_IS_WRONG),
        None => source.fault("it is damaged, or of a kind that is not supported").with_hint(USABLE_KEYS),
    })
}

/// What people call a private key that this client cannot use; `None` if it should be usable, or is no key.
fn unsupported_private(key: &PrivateKeyDer<'_>) -> Option<String> {
    match key {
        PrivateKeyDer::Pkcs1(key) => unsupported(RSA, None, key.secret_pkcs1_der()),
        PrivateKeyDer::Sec1(key) => unsupported(EC, curve(key.secret_sec1_der()).ok()?, &[]),
        PrivateKeyDer::Pkcs8(key) => {
            let key = PrivateKeyInfoRef::try_from(key.secret_pkcs8_der()).ok()?;
            let curve = key.algorithm.parameters.and_then(|parameters| parameters.decode_as().ok());
            unsupported(&key.algorithm.oid.to_string(), curve, key.private_key.as_bytes())
        }
        _ => None,
    }
}

/// What people call a key that this client cannot use; `None` if it should be usable. `rsa` is an RSA key in the form
/// of PKCS#1.
pub(super) fn unsupported(algorithm: &str, curve: Option<ObjectIdentifier>, rsa: &[u8]) -> Option<String> {
    let named = |names: &[(&str, &str)], number: &str| {
        names.iter().find_map(|(known, name)| (*known == number).then(|| (*name).to_owned()))
    };
    match algorithm {
        RSA => {
            let bits = rsa_bits(rsa).ok()?;
            (!(2_048..=8_192).contains(&bits)).then(|| format!("an RSA key of {bits} bits"))
        }
        EC => {
            let curve = curve?.to_string();
            let name = || named(OTHER_CURVES, &curve).unwrap_or_else(|| curve.clone());
            (!CURVES.contains(&curve.as_str())).then(|| format!("an EC key on the curve {}", name()))
        }
        other => named(OTHER_KINDS, other),
    }
}

/// The length of an RSA key in the form of PKCS#1, private or public.
fn rsa_bits(key: &[u8]) -> der::Result<usize> {
    SliceReader::new(key)?.sequence(|numbers| {
        // A private key begins with a version of 0, and then the modulus; a public one with the modulus.
        let (first, second) = (UintRef::decode(numbers)?, UintRef::decode(numbers)?);
        numbers.read_slice(numbers.remaining_len())?;
        let modulus = [first.as_bytes(), second.as_bytes()].into_iter().max_by_key(|number| number.len());
        let modulus = modulus.unwrap_or_default();
        let unused = modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
        Ok(modulus.len() * 8 - unused)
    })
}

/// The curve that an EC key in the form of SEC1 names.
fn curve(key: &[u8]) -> der::Result<Option<ObjectIdentifier>> {
    SliceReader::new(key)?.sequence(|fields| {
        UintRef::decode(fields)?;
        <&OctetStringRef>::decode(fields)?;
        let curve = fields.context_specific(TagNumber(0), TagMode::Explicit)?;
        fields.read_slice(fields.remaining_len())?;
        Ok(curve)
    })
}

fn refused(source: &Source, refusal: &Refusal) -> Error {
    match refusal {
        Refusal::WrongPassword => source.fault(PASSWORD_IS_WRONG),
        Refusal::TooCostly => source
            .fault("its password is protected by more work or memory than is allowed")
            .with_hint("encrypt it with: openssl pkcs8 -topk8 -v2 aes-256-cbc -in OLD -out NEW"),
        Refusal::UnknownAlgorithm => source
            .fault("it is encrypted in a way that is not supported")
            .with_hint("encrypt it with: openssl pkcs8 -topk8 -v2 aes-256-cbc -in OLD -out NEW"),
    }
}

fn decrypt_pkcs8(password: &Secret, der: &Secret) -> std::result::Result<Secret, Refusal> {
    let encrypted = EncryptedPrivateKeyInfoRef::try_from(der.reveal()).map_err(|_| Refusal::UnknownAlgorithm)?;
    let scheme = encrypted.encryption_algorithm.pbes2().ok_or(Refusal::UnknownAlgorithm)?;
    if !is_affordable(&scheme.kdf) {
        return Err(Refusal::TooCostly);
    }
    let decrypted = scheme.decrypt(password.reveal(), encrypted.encrypted_data.as_bytes());
    decrypted.map(Secret::new).map_err(|error| match error {
        pkcs8::pkcs5::Error::UnsupportedAlgorithm { .. } => Refusal::UnknownAlgorithm,
        _ => Refusal::WrongPassword,
    })
}

/// Whether the key derivation ends soon, and does not use up the memory: the file says how much it needs.
fn is_affordable(kdf: &Kdf) -> bool {
    match kdf {
        Kdf::Pbkdf2(params) => params.iteration_count <= MAX_ITERATIONS,
        Kdf::Scrypt(params) => {
            let memory = params.cost_parameter.saturating_mul(u64::from(params.block_size) * 128);
            let in_all = memory.saturating_mul(u64::from(params.parallelization));
            memory <= MAX_SCRYPT_BYTES.0 && in_all <= MAX_SCRYPT_BYTES.1
        }
        // Which it is, the decryption says.
        _ => true,
    }
}

/// Decrypts what `openssl rsa -aes256 -traditional` writes. `algorithm` is the value of the header `DEK-Info`: the
/// cipher and, in hexadecimal, the initialization vector.
fn decrypt_traditional(algorithm: &str, password: &Secret, encrypted: &Secret) -> std::result::Result<Secret, Refusal> {
    let (cipher, iv) = algorithm.split_once(',').ok_or(Refusal::UnknownAlgorithm)?;
    let iv = hexadecimal(iv.trim()).ok_or(Refusal::UnknownAlgorithm)?;
    match cipher.trim() {
        "AES-128-CBC" => decrypt::<Decryptor<aes::Aes128>>(16, password, &iv, encrypted),
        "AES-192-CBC" => decrypt::<Decryptor<aes::Aes192>>(24, password, &iv, encrypted),
        "AES-256-CBC" => decrypt::<Decryptor<aes::Aes256>>(32, password, &iv, encrypted),
        "DES-EDE3-CBC" => decrypt::<Decryptor<des::TdesEde3>>(24, password, &iv, encrypted),
        _ => Err(Refusal::UnknownAlgorithm),
    }
}

fn decrypt<C>(
    key_bytes: usize,
    password: &Secret,
    iv: &[u8],
    encrypted: &Secret,
) -> std::result::Result<Secret, Refusal>
where
    C: KeyIvInit + BlockModeDecrypt,
{
    let salt = iv.get(..8).ok_or(Refusal::UnknownAlgorithm)?;
    let key = derive_key(key_bytes, password, salt);
    let cipher = C::new_from_slices(key.reveal(), iv).map_err(|_| Refusal::UnknownAlgorithm)?;
    let mut buffer = encrypted.reveal().to_vec();
    let bytes = cipher.decrypt_padded::<Pkcs7>(&mut buffer).map_err(|_| Refusal::WrongPassword)?.len();
    buffer.truncate(bytes);
    Ok(Secret::new(buffer))
}

/// The key derivation of the traditional format (`EVP_BytesToKey` with MD5 and one round).
fn derive_key(bytes: usize, password: &Secret, salt: &[u8]) -> Secret {
    let mut key = Vec::with_capacity(bytes.next_multiple_of(16));
    while key.len() < bytes {
        let last = key.len().saturating_sub(16);
        let mut hash = Md5::new();
        hash.update(key.get(last..).unwrap_or_default());
        hash.update(password.reveal());
        hash.update(salt);
        key.extend_from_slice(&hash.finalize());
    }
    key.truncate(bytes);
    Secret::new(key)
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).map(|digit| digit as u8);
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    pairs.iter().map(|[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect()
}

#[cfg(test)]
mod tests {
    use pkcs8::pkcs5::pbes2::Pbkdf2Params;

    use super::super::pem::Purpose;
    use super::*;

    #[test]
    fn a_tag_that_nobody_knows_is_escaped_and_cut() {
        let odd = format!("\u{1b}[31m {} PRIVATE KEY", "X".repeat(1_000));
        let text = format!("-----BEGIN {odd}-----\nAAAA\n-----END {odd}-----\n");
        let error = read(&Source::text(Purpose::Key, Secret::new(text)), None).unwrap_err().to_string();
        assert!(error.contains("a \\u{1b}[31m XXX") && error.len() < 300, "{error}");
    }

    #[test]
    fn the_number_of_hashes_that_a_file_asks_for_is_limited() {
        let is_affordable = |hashes| is_affordable(&Kdf::Pbkdf2(Pbkdf2Params::hmac_sha256(hashes, b"salt").unwrap()));
        assert_eq!((is_affordable(MAX_ITERATIONS), is_affordable(MAX_ITERATIONS + 1)), (true, false));
    }
}
