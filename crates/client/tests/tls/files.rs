//! The files of the settings: broken ones, ones in other formats, and ones that change.

use std::path::{Path, PathBuf};

use kavka::config::{Identity, Security, Tls};
use kavka::{Client, ClientConfig, ErrorKind, StartPosition};
use kavka_test_support::{LIMIT, rig, unique, until};

use crate::certificates::Authority;
use crate::server::{Cluster, Served, refusal};
use crate::{listen_to_log, warned};

/// A file in the folder for the files of tests.
pub(crate) fn file(name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique(&format!("tls-{}", std::process::id())));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

/// Checks that these settings are refused at once, with an error that says all this.
fn refuses(tls: Tls, words: &[&str]) {
    let error = Client::new(ClientConfig::default().with_security(Security::tls(tls))).expect_err("a bad file");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    let text = error.to_string();
    assert!(words.iter().all(|word| text.contains(word)), "{words:?} are not all in: {text}");
    assert!(!text.contains("MII"), "an error shows nothing of a file: {text}");
}

fn refuses_ca(path: impl Into<PathBuf>, words: &[&str]) {
    let path = path.into();
    let name = path.display().to_string();
    refuses(Tls::with_ca_file(path), &[words, &["the CA certificates in", &name]].concat());
}

/// The settings with these files.
fn shows(certificates: &Path, key: &Path) -> Tls {
    Tls { verify_certificate: false, ..Tls::default() }.identity(Identity::files(certificates, key))
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_the_reason() {
    let good = Authority::new("CA").pem().to_owned();
    refuses_ca("/nowhere/ca.pem", &["cannot be read", "No such file"]);
    refuses_ca(file("ca.pem", &good).join("below"), &["cannot be read", "Not a directory"]);
    refuses_ca(env!("CARGO_TARGET_TMPDIR"), &["is a directory"]);
    refuses_ca(file("ca.pem", " \n"), &["it is empty"]);
    refuses_ca(file("ca.pem", "ca = good\n"), &["not in PEM format", "-----BEGIN"]);
    refuses_ca(file("ca.pem", [0xff; 100]), &["not in PEM format"]);
    refuses_ca(file("ca.pem", &good[..good.len() / 2]), &["damaged"]);
    refuses_ca(file("ca.pem", format!("{good}{}", &good[..good.len() / 2])), &["damaged", "the end of a block"]);
    refuses_ca(file("ca.pem", good.replacen("MII", "M?I", 1)), &["damaged"]);
    let not_x509 = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    refuses_ca(file("ca.pem", format!("{good}{not_x509}")), &["certificate 2 in it is not a valid X.509"]);
    refuses_ca(file("ca.pem", include_str!("keys/ec.pkcs8.pem")), &["no certificate in it"]);
}

#[test]
fn the_files_of_the_client_certificate_are_checked_in_the_same_way() {
    let issued = Authority::new("CA").issue_to_client(|_| {});
    let (certificate, key) = (file("client.crt", &issued.pem), file("client.key", issued.key.serialize_pem()));
    let other = file("other.key", Authority::new("CA").issue_to_client(|_| {}).key.serialize_pem());
    let both = file("both.pem", issued.key.serialize_pem() + &issued.pem);
    for path in [(&certificate, &key), (&both, &both)] {
        Client::new(ClientConfig::default().with_security(Security::tls(shows(path.0, path.1)))).unwrap();
    }
    let named = |path: &Path| path.display().to_string();
    refuses(shows(Path::new("/nowhere"), &key), &["the client's certificate in /nowhere cannot be read"]);
    refuses(shows(&certificate, Path::new("/nowhere")), &["the client's private key in /nowhere cannot be read"]);
    refuses(shows(&key, &key), &["the client's certificate in", &named(&key), "no certificate in it"]);
    refuses(
        shows(&certificate, &certificate),
        &["the client's private key in", &named(&certificate), "no private key"],
    );
    refuses(shows(&certificate, &other), &[&named(&other), "does not belong to the client's certificate"]);
}

#[test]
fn a_password_in_place_of_a_path_is_not_shown_and_the_name_of_a_file_that_is_there_is() {
    let issued = Authority::new("CA").issue_to_client(|_| {});
    let certificate = file("client.crt", &issued.pem);
    let error = |tls| Client::new(ClientConfig::default().with_security(Security::tls(tls))).unwrap_err().to_string();
    let refused = error(shows(&certificate, Path::new("hunter2-canary")));
    assert!(refused.contains("the client's private key in *** cannot be read"), "{refused}");
    assert!(refused.contains("may be a password") && !refused.contains("hunter2"), "{refused}");
    let folder = std::env::current_dir().unwrap();
    let bare = unique("bare");
    std::fs::write(folder.join(&bare), "").unwrap();
    let refused = error(Tls::with_ca_file(bare.as_str()));
    std::fs::remove_file(folder.join(&bare)).unwrap();
    assert!(refused.contains(&format!("the CA certificates in {bare} cannot be used: it is empty")), "{refused}");
    let refused = error(Tls::with_ca_file(""));
    assert_eq!(refused, "ssl.truststore.location is empty; give the path of a file, or leave it out");
}

#[test]
fn keystores_of_java_and_der_files_are_refused_with_the_command_that_converts_them() {
    let jks = |name| file(name, [&[0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2][..], &[7; 50]].concat());
    let pkcs12 = |name| file(name, [&[0x30, 0x82, 1, 0, 2, 1, 3][..], &[7; 50]].concat());
    let (store, name) = (jks("trust.jks"), "keytool -list -rfc -keystore ");
    refuses_ca(&store, &["a JKS keystore", &format!("{name}{} > ca.pem", store.display())]);
    let store = pkcs12("trust.p12");
    refuses_ca(&store, &["a PKCS#12 keystore", &format!("openssl pkcs12 -in {} -nokeys", store.display())]);
    let spaced = pkcs12("my trust.p12");
    refuses_ca(&spaced, &[&format!("-in '{}' -nokeys", spaced.display())]);
    let store = pkcs12("client.p12");
    refuses(shows(&store, &store), &[&format!("openssl pkcs12 -in {} -out client.pem", store.display())]);
    let store = jks("client.jks");
    refuses(shows(&store, &store), &[&format!("keytool -importkeystore -srckeystore {}", store.display())]);
    let der = Authority::new("CA").issue_to_client(|_| {}).chain[0].to_vec();
    refuses_ca(file("ca.der", der), &["DER", "openssl x509 -inform der"]);
}

#[test]
fn a_ca_file_that_is_replaced_counts_without_a_restart() {
    let (old, new) = (Authority::new("Old CA"), Authority::new("New CA"));
    let path = file("ca.pem", old.pem());
    let cluster = Cluster::new(Served::new(&new.issue()), Tls::with_ca_file(&path));
    assert_eq!(refusal(&cluster.rig.client).kind(), ErrorKind::Authentication);
    std::fs::write(&path, format!("{}\n\n{}", old.pem(), new.pem())).unwrap();
    let client = cluster.rig.client.clone();
    until("the new authority to count", || rig::wait(&client, client.ready()).ok());
    cluster.works();
}

#[test]
fn a_client_certificate_that_is_replaced_is_shown_by_new_connections_and_a_broken_one_is_not() {
    listen_to_log();
    let authority = Authority::new("CA");
    let (first, second) = (authority.issue_to_client(|_| {}), authority.issue_to_client(|_| {}));
    let (certificate, key) = (file("client.crt", &first.pem), file("client.key", first.key.serialize_pem()));
    let tls = Tls::with_ca_pem(authority.pem()).identity(Identity::files(&certificate, &key));
    let cluster = Cluster::new(Served::new(&authority.issue()).demands(authority.pem()), tls);
    cluster.works();
    let connect = || {
        let consumer = cluster.rig.consumer(1, StartPosition::Earliest);
        consumer.next_record(LIMIT).unwrap().expect("a record");
        cluster.server.seen().pop().and_then(|seen| seen.client)
    };
    assert_eq!(connect().as_ref(), first.chain.first());
    // Certificate and key do not fit together for a moment.
    std::fs::write(&certificate, &second.pem).unwrap();
    until("a warning about the file", || {
        assert_eq!(connect().as_ref(), first.chain.first());
        warned(&key.display().to_string())
    });
    std::fs::write(&key, second.key.serialize_pem()).unwrap();
    until("the new certificate", || (connect().as_ref() == second.chain.first()).then_some(()));
}
