//! Private keys in all formats.
//!
//! The files in `keys/` are one RSA and one EC key, made by OpenSSL 3.0 for these tests alone:
//!
//! - `pkcs8`: `openssl genpkey`; encrypted by `openssl pkcs8 -topk8` with `-v2 aes256`, `-v2 aes128 -v2prf
//!   hmacWithSHA1`, `-v2 des3`, `-scrypt` and `-v1 PBE-SHA1-3DES`;
//! - `pkcs1`: `openssl rsa -traditional`, with `-aes128`, `-aes192`, `-aes256` and `-des3`;
//! - `sec1`: `openssl ec`, with `-aes256`.
//!
//! The others, and certificates for the EC key, are of kinds that the client refuses, or brokers:
//!
//! - keys: `rsa.1024`, `rsa.pss` and `ec.secp256k1`;
//! - `ec.v1.certificate`: `openssl x509 -req -signkey`; `ec.sha1.certificate`: `openssl req -x509 -sha1`;
//! - `ec.by-rsa-1024.certificate`: signed with the key of `rsa.1024.certificate`.

use kavka::config::{Identity, Security, Tls};
use kavka::{Client, ClientConfig, Error, ErrorKind};
use kavka_core::secret::Secret;
use rcgen::KeyPair;

use crate::certificates::Authority;
use crate::server::{Cluster, Served};

const PASSWORD: &str = "correct-horse";

const RSA: &str = include_str!("keys/rsa.pkcs8.pem");
const EC: &str = include_str!("keys/ec.pkcs8.pem");

/// The unencrypted key, and the files that have the same one.
const PLAIN: &[(&str, &str)] = &[
    (RSA, RSA),
    (RSA, include_str!("keys/rsa.pkcs1.pem")),
    (EC, EC),
    // Has a block of parameters ahead of the key.
    (EC, include_str!("keys/ec.sec1.pem")),
];

const ENCRYPTED: &[(&str, &str)] = &[
    (RSA, include_str!("keys/rsa.pkcs8.aes256.pem")),
    (RSA, include_str!("keys/rsa.pkcs8.aes128.sha1.pem")),
    (RSA, include_str!("keys/rsa.pkcs8.des3.pem")),
    (EC, include_str!("keys/ec.pkcs8.scrypt.pem")),
    (RSA, include_str!("keys/rsa.pkcs1.aes128.pem")),
    (RSA, include_str!("keys/rsa.pkcs1.aes192.pem")),
    (RSA, include_str!("keys/rsa.pkcs1.aes256.pem")),
    (RSA, include_str!("keys/rsa.pkcs1.des3.pem")),
    (EC, include_str!("keys/ec.sec1.aes256.pem")),
];

/// The identity of a client with this key, whose certificate `authority` has signed.
fn identity(authority: &Authority, key: &str, text: &str) -> Identity {
    let issued = authority.issue_to_key(KeyPair::from_pem(key).unwrap(), |_| {});
    Identity::pem(issued.pem, Secret::new(text))
}

fn refusal(identity: Identity) -> Error {
    let tls = Tls { verify_certificate: false, ..Tls::default() }.identity(identity);
    let error = Client::new(ClientConfig::default().with_security(Security::tls(tls))).expect_err("a bad key");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    error
}

fn lets_in(authority: &Authority, identity: Identity) {
    let served = Served::new(&authority.issue()).demands(authority.pem());
    Cluster::new(served, Tls::with_ca_pem(authority.pem()).identity(identity)).works();
}

#[test]
fn an_unencrypted_key_of_every_format_lets_the_client_in_and_needs_no_password() {
    let authority = Authority::new("CA");
    for (key, text) in PLAIN {
        lets_in(&authority, identity(&authority, key, text));
        lets_in(&authority, identity(&authority, key, text).key_password(Secret::new("for another file")));
    }
}

#[test]
fn an_ed25519_key_lets_the_client_in() {
    let authority = Authority::new("CA");
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
    lets_in(&authority, identity(&authority, &key, &key));
}

#[test]
fn an_encrypted_key_of_every_format_lets_the_client_in_with_the_right_password() {
    let authority = Authority::new("CA");
    for (key, text) in ENCRYPTED {
        lets_in(&authority, identity(&authority, key, text).key_password(Secret::new(PASSWORD)));
    }
}

#[test]
fn a_wrong_or_missing_password_is_told_so_without_showing_it() {
    let authority = Authority::new("CA");
    for (key, text) in ENCRYPTED {
        let identity = identity(&authority, key, text);
        let error = refusal(identity.clone().key_password(Secret::new("wrong-battery"))).to_string();
        assert!(error.contains("the client's private key in the settings cannot be used"), "{error}");
        assert!(error.contains("is ssl.key.password the right one?") && !error.contains("battery"), "{error}");
        for missing in [identity.clone(), identity.key_password(Secret::new(""))] {
            let error = refusal(missing).to_string();
            assert!(error.contains("it is encrypted; set ssl.key.password"), "{error}");
        }
    }
}

#[test]
fn a_wrong_password_that_leaves_a_right_padding_is_not_taken_for_the_right_one() {
    let identity = identity(&Authority::new("CA"), RSA, include_str!("keys/rsa.pkcs1.des3.pem"));
    // One in 256 does.
    for number in 0..1_500 {
        let password = Secret::new(format!("wrong-battery-{number}"));
        let error = refusal(identity.clone().key_password(password)).to_string();
        assert!(error.contains("is ssl.key.password the right one?"), "{number}: {error}");
    }
}

#[test]
fn windows_line_ends_and_text_around_the_blocks_do_no_harm() {
    let authority = Authority::new("CA");
    for (key, text) in [(RSA, include_str!("keys/rsa.pkcs1.aes256.pem")), (EC, EC)] {
        let text = format!("Bag Attributes\n    friendlyName: client\n{text}\n# the end\n").replace('\n', "\r\n");
        lets_in(&authority, identity(&authority, key, &text).key_password(Secret::new(PASSWORD)));
    }
}

#[test]
fn a_text_on_one_line_works_as_in_a_java_properties_file() {
    let authority = Authority::new("CA");
    lets_in(&authority, identity(&authority, RSA, &RSA.replace('\n', " ")));
    let issued = authority.issue_to_key(KeyPair::from_pem(RSA).unwrap(), |_| {});
    lets_in(&authority, Identity::pem(issued.pem.replace('\n', " "), Secret::new(RSA)));
}

#[test]
fn an_outdated_encryption_is_refused_with_the_command_that_changes_it() {
    let authority = Authority::new("CA");
    let identity = identity(&authority, EC, include_str!("keys/ec.pkcs8.pbes1.pem"));
    let error = refusal(identity.key_password(Secret::new(PASSWORD))).to_string();
    assert!(error.contains("openssl pkcs8 -topk8 -v2"), "{error}");
}

#[test]
fn a_key_that_takes_too_much_work_to_decrypt_is_refused() {
    let mut der = pem::parse(include_str!("keys/ec.pkcs8.scrypt.pem")).unwrap().into_contents();
    // The cost 16,384, the block size 8 and the parallelization 1 of scrypt, whose memory is then gone through 127
    // times.
    let parameters = [2, 2, 0x40, 0, 2, 1, 8, 2, 1, 1];
    let at = der.windows(parameters.len()).position(|window| window == parameters).unwrap();
    der[at + parameters.len() - 1] = 127;
    let text = pem::encode(&pem::Pem::new("ENCRYPTED PRIVATE KEY", der));
    let identity = identity(&Authority::new("CA"), EC, &text).key_password(Secret::new(PASSWORD));
    let error = refusal(identity).to_string();
    assert!(error.contains("more work or memory than is allowed"), "{error}");
}

#[test]
fn a_key_must_belong_to_its_certificate() {
    let error = refusal(identity(&Authority::new("CA"), RSA, EC)).to_string();
    assert!(error.contains("it does not belong to the client's certificate"), "{error}");
    assert!(error.contains("the client's own certificate must be the first one in its file"), "{error}");
}

#[test]
fn kinds_of_keys_that_are_not_supported_are_named() {
    let authority = Authority::new("CA");
    let nothing = |tag: &str| format!("-----BEGIN {tag}-----\nAAAA\n-----END {tag}-----\n");
    for (text, words) in [
        (nothing("DSA PRIVATE KEY"), "a DSA PRIVATE KEY is not supported"),
        (nothing("PRIVATE KEY"), "damaged, or of a kind that is not supported"),
        (include_str!("keys/rsa.1024.pem").into(), "it is an RSA key of 1024 bits, which is not supported"),
        (include_str!("keys/rsa.pss.pem").into(), "it is an RSA-PSS key, which is not supported"),
        (
            include_str!("keys/ec.secp256k1.pem").into(),
            "it is an EC key on the curve secp256k1, which is not supported",
        ),
    ] {
        let error = refusal(identity(&authority, RSA, &text)).to_string();
        assert!(error.contains(words) && error.contains("; use an RSA key of 2,048 to 8,192 bits"), "{error}");
    }
}
