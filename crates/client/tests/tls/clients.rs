//! Clients that show a certificate, to brokers that ask for one (mTLS).

use kavka::config::Tls;
use kavka::{Client, ErrorKind};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, date_time_ymd};

use crate::certificates::{Authority, Issued};
use crate::server::{ALL_VERSIONS, Cluster, ONLY_TLS_1_2, Served, with_tls};

/// A broker that demands a certificate of `clients`.
fn demanding(brokers: &Authority, clients: &Authority) -> [Served; 2] {
    [ALL_VERSIONS, ONLY_TLS_1_2].map(|versions| Served::new(&brokers.issue()).demands(clients.pem()).only(versions))
}

fn refuses(clients: &Authority, issued: Option<&Issued>, words: &[&str]) {
    let brokers = Authority::new("Good CA");
    for served in demanding(&brokers, clients) {
        let tls = Tls { identity: issued.map(Issued::identity), ..Tls::with_ca_pem(brokers.pem()) };
        let error = Cluster::patient(served, tls).refusal();
        assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
        let text = error.to_string();
        assert!(words.iter().all(|word| text.contains(word)), "{words:?} are not all in: {text}");
        assert!(text.contains("at kafka.test:9093"), "{text}");
    }
}

#[test]
fn a_client_with_the_right_certificate_is_let_in() {
    let (brokers, clients) = (Authority::new("Good CA"), Authority::new("Client CA"));
    let issued = clients.issue_to_client(|_| {});
    for served in demanding(&brokers, &clients) {
        let cluster = Cluster::new(served, Tls::with_ca_pem(brokers.pem()).identity(issued.identity()));
        cluster.works();
        assert_eq!(cluster.server.seen()[0].client.as_ref(), issued.chain.first());
    }
}

#[test]
fn a_chain_is_sent_as_a_whole() {
    let (brokers, root) = (Authority::new("Good CA"), Authority::new("Client CA"));
    let department = root.intermediate("Department CA", |_| {});
    let mut issued = department.issue_to_client(|_| {});
    issued.pem += department.pem();
    for served in demanding(&brokers, &root) {
        Cluster::new(served, Tls::with_ca_pem(brokers.pem()).identity(issued.identity())).works();
    }
}

/// Whether it is good enough, the broker decides; Kafka's takes it.
#[test]
fn a_client_certificate_of_version_1_is_shown_with_its_key_and_no_other() {
    let brokers = Authority::new("Good CA");
    let v1 = Issued::from_file(include_str!("keys/ec.v1.certificate.pem"));
    let tls = |issued: &Issued| Tls::with_ca_pem(brokers.pem()).identity(issued.identity());
    for versions in [ALL_VERSIONS, ONLY_TLS_1_2] {
        let served = Served::new(&brokers.issue()).demands_any().only(versions);
        let cluster = Cluster::new(served, tls(&v1));
        cluster.works();
        assert_eq!(cluster.server.seen()[0].client.as_ref(), v1.chain.first());
    }
    let other = Issued { key: rcgen::KeyPair::generate().unwrap(), ..v1 };
    let error = Client::new(with_tls(tls(&other))).expect_err("another key").to_string();
    assert!(error.contains("it does not belong to the client's certificate"), "{error}");
}

#[test]
fn a_broker_that_does_not_ask_gets_no_certificate() {
    let authority = Authority::new("Good CA");
    let tls = Tls::with_ca_pem(authority.pem()).identity(authority.issue_to_client(|_| {}).identity());
    let cluster = Cluster::new(Served::new(&authority.issue()), tls);
    cluster.works();
    assert_eq!(cluster.server.seen()[0].client, None);
}

#[test]
fn a_client_without_a_certificate_is_told_what_to_set() {
    let words = ["wants a client certificate, and none is configured", "ssl.keystore.location"];
    refuses(&Authority::new("Client CA"), None, &words);
}

#[test]
fn a_client_with_the_certificate_of_an_unknown_authority_is_told_so() {
    let issued = Authority::new("Stranger CA").issue_to_client(|_| {});
    let words = ["refused the client's certificate: it does not trust its authority"];
    refuses(&Authority::new("Client CA"), Some(&issued), &words);
}

#[test]
fn a_client_with_an_expired_certificate_is_told_so() {
    let authority = Authority::new("Client CA");
    let expired = |params: &mut CertificateParams| params.not_after = date_time_ymd(2024, 2, 29);
    let issued = authority.issue_to_client(expired);
    refuses(&authority, Some(&issued), &["refused the client's certificate: it has expired"]);
}

#[test]
fn a_client_with_the_certificate_of_a_broker_is_told_so() {
    let authority = Authority::new("Client CA");
    let purpose =
        |params: &mut CertificateParams| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let issued = authority.issue_to_client(purpose);
    refuses(&authority, Some(&issued), &["refused the client's certificate", "clientAuth"]);
}
