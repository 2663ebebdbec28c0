//! Brokers that are who they say they are, and others.
//!
//! Whoever is refused is told why, by its host name, and gets not a byte of Kafka's protocol.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use kavka::blocking::GroupConsumer;
use kavka::config::{Security, Tls, TlsVersion, Trust};
use kavka::{
    Client, ClientConfig, ConsumerConfig, Error, ErrorKind, GroupConfig, GroupOptions, Phase, ProducerConfig, Record,
    StartPosition,
};
use kavka_test_support::LIMIT;
use kavka_test_support::rig::{self, TOPIC};
use rcgen::{ExtendedKeyUsagePurpose, IsCa, date_time_ymd};
use rustls::{HandshakeKind, ProtocolVersion};

use crate::certificates::{Authority, Issued, self_signed};
use crate::server::{
    ALL_VERSIONS, Cluster, LeadsTo, ONLY_TLS_1_2, Served, answers, client, client_of, patient, patient_client, raw,
    refusal, with_tls,
};
use crate::{listen_to_log, warned};

fn trusting(authority: &Authority) -> Tls {
    Tls::with_ca_pem(authority.pem())
}

/// Checks that the broker is refused at once, with an error that says all this.
fn refuses(served: Served, tls: Tls, words: &[&str]) {
    let cluster = Cluster::patient(served, tls);
    let error = cluster.refusal();
    says(&error, ErrorKind::Authentication, words);
    says(&error, ErrorKind::Authentication, &["at kafka.test:9093 (127.0.0.1)"]);
    assert!(cluster.server.failure().contains("received fatal alert"), "the broker's log says it, too");
}

fn says(error: &Error, kind: ErrorKind, words: &[&str]) {
    assert_eq!(error.kind(), kind, "{error}");
    let text = error.to_string();
    assert!(words.iter().all(|word| text.contains(word)), "{words:?} are not all in: {text}");
}

fn refuses_issued(issued: impl FnOnce(&Authority) -> Issued, words: &[&str]) {
    let authority = Authority::new("Good CA");
    refuses(Served::new(&issued(&authority)), trusting(&authority), words);
}

#[test]
fn a_record_goes_out_and_comes_back_over_tls() {
    let authority = Authority::new("Good CA");
    let cluster = Cluster::new(Served::new(&authority.issue()), trusting(&authority));
    cluster.works();
    let seen = &cluster.server.seen()[0];
    assert_eq!(seen.name.as_deref(), Some("kafka.test"), "the server name is sent (SNI)");
    assert_eq!(seen.version, Some(ProtocolVersion::TLSv1_3));
    assert!(!seen.names_protocols, "Kafka has no name for ALPN, and a server may refuse names that it does not know");
}

#[test]
fn a_broker_with_tls_1_2_is_good_enough_unless_the_settings_ask_for_more() {
    let authority = Authority::new("Good CA");
    let served = || Served::new(&authority.issue()).only(ONLY_TLS_1_2);
    let cluster = Cluster::new(served(), trusting(&authority));
    cluster.works();
    assert_eq!(cluster.server.seen()[0].version, Some(ProtocolVersion::TLSv1_2));
    let tls = Tls { min_version: TlsVersion::V1_3, ..trusting(&authority) };
    says(&Cluster::patient(served(), tls).refusal(), ErrorKind::Authentication, &["no version of TLS"]);
}

#[test]
fn later_connections_resume_the_session_of_the_first() {
    for versions in [ALL_VERSIONS, ONLY_TLS_1_2] {
        let authority = Authority::new("Good CA");
        let cluster = Cluster::new(
            Served::new(&authority.issue_for(&["127.0.0.1", "kafka.test"])).only(versions),
            trusting(&authority),
        );
        cluster.works();
        // To the broker itself: the produce connection and the fetch connection, at least.
        let handshakes: Vec<_> = cluster.server.seen().into_iter().filter_map(|seen| seen.handshake).collect();
        assert!(handshakes.contains(&HandshakeKind::Resumed), "{handshakes:?}");
    }
}

#[test]
fn an_unknown_authority_is_named() {
    let served = Served::new(&Authority::new("Other CA").issue());
    refuses(served, trusting(&Authority::new("Good CA")), &["CN=broker-1", "unknown authority", "CN=Other CA"]);
}

#[test]
fn long_names_in_a_certificate_are_cut() {
    let authority = Authority::new(&"authority".repeat(500));
    let unknown = Served::new(
        &authority.issue_with(|params| params.distinguished_name.push(rcgen::DnType::CommonName, "broker".repeat(500))),
    );
    let elsewhere = Served::new(&authority.issue_for(&["host".repeat(500).as_str(); 20]));
    for (served, trust) in [(unknown, &Authority::new("Good CA")), (elsewhere, &authority)] {
        let error = Cluster::patient(served, trusting(trust)).refusal();
        let text = error.to_string();
        assert!(error.kind() == ErrorKind::Authentication && text.contains("...") && text.len() < 4_000, "{text}");
    }
}

#[test]
fn an_authority_of_the_same_name_with_another_key_is_unknown() {
    let served = Served::new(&Authority::new("Good CA").issue());
    refuses(served, trusting(&Authority::new("Good CA")), &["another key than the trusted one"]);
}

#[test]
fn the_authorities_of_the_system_do_not_vouch_for_a_private_one() {
    let served = Served::new(&Authority::new("Private CA").issue());
    refuses(served, Tls { trust: Trust::System, ..Tls::default() }, &["CN=Private CA"]);
}

#[test]
fn a_self_signed_certificate_is_refused_unless_it_is_the_trusted_one() {
    let issued = self_signed(|_| {});
    refuses(Served::new(&issued), trusting(&Authority::new("Good CA")), &["self-signed"]);
    Cluster::new(Served::new(&issued), Tls::with_ca_pem(&issued.pem)).works();
}

#[test]
fn a_self_signed_certificate_as_openssl_makes_it_is_accepted_only_if_it_is_the_trusted_one() {
    let openssl = |not_after: i32| {
        self_signed(|params| {
            params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            params.not_after = date_time_ymd(not_after, 1, 1);
        })
    };
    let issued = openssl(4000);
    Cluster::new(Served::new(&issued), Tls::with_ca_pem(&issued.pem)).works();
    refuses(Served::new(&openssl(4000)), Tls::with_ca_pem(&issued.pem), &["CN=broker-1"]);
    let expired = openssl(2020);
    refuses(Served::new(&expired), Tls::with_ca_pem(&expired.pem), &["expired on 2020-01-01"]);
}

#[test]
fn the_certificate_of_an_authority_is_not_one_of_a_broker() {
    let ca = |params: &mut rcgen::CertificateParams| params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    refuses_issued(|authority| authority.issue_with(ca), &["that of an authority"]);
}

#[test]
fn an_expired_certificate_says_when_it_expired() {
    let expired = |params: &mut rcgen::CertificateParams| params.not_after = date_time_ymd(2024, 2, 29);
    refuses_issued(|authority| authority.issue_with(expired), &["expired on 2024-02-29", "now"]);
}

#[test]
fn a_certificate_that_is_not_valid_yet_says_when_it_will_be() {
    let early = |params: &mut rcgen::CertificateParams| params.not_before = date_time_ymd(3000, 1, 1);
    refuses_issued(|authority| authority.issue_with(early), &["not valid before 3000-01-01"]);
}

#[test]
fn a_certificate_for_clients_is_not_one_for_brokers() {
    let purpose =
        |params: &mut rcgen::CertificateParams| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    refuses_issued(|authority| authority.issue_with(purpose), &["not one for servers"]);
}

#[test]
fn an_intermediate_without_the_basic_constraint_of_an_authority_signs_nothing() {
    let root = Authority::new("Good CA");
    for is_ca in [IsCa::NoCa, IsCa::ExplicitNoCa] {
        let impostor = root.intermediate("No CA", |params| params.is_ca = is_ca);
        let served = Served::new(&impostor.issue().followed_by(&impostor));
        refuses(served, trusting(&root), &["was signed with one that is not an authority's"]);
    }
}

#[test]
fn a_broker_must_send_the_intermediate_certificate() {
    let root = Authority::new("Good CA");
    let intermediate = root.intermediate("Department CA", |_| {});
    Cluster::new(Served::new(&intermediate.issue().followed_by(&intermediate)), trusting(&root)).works();
    let words = ["CN=Department CA", "should send"];
    refuses(Served::new(&intermediate.issue()), trusting(&root), &words);
}

#[test]
fn a_chain_without_end_is_refused_at_once() {
    let root = Authority::new("Good CA");
    let mut authorities = vec![Authority::new("Unknown CA")];
    for _ in 0..30 {
        let next = authorities.last().unwrap().intermediate("Unknown CA", |_| {});
        authorities.push(next);
    }
    let issued = authorities.iter().rev().fold(authorities.last().unwrap().issue(), Issued::followed_by);
    refuses(Served::new(&issued), trusting(&root), &["too many certificates of authorities", "CN=broker-1"]);
}

#[test]
fn at_most_six_authorities_may_stand_between_a_broker_and_the_trusted_one() {
    let root = Authority::new("Good CA");
    for (between, is_accepted) in [(6, true), (7, false)] {
        let mut authorities = vec![root.intermediate("CA 1", |_| {})];
        for number in 2..=between {
            let next = authorities.last().unwrap().intermediate(&format!("CA {number}"), |_| {});
            authorities.push(next);
        }
        let issued = authorities.iter().rev().fold(authorities.last().unwrap().issue(), Issued::followed_by);
        if is_accepted {
            Cluster::new(Served::new(&issued), trusting(&root)).works();
        } else {
            refuses(Served::new(&issued), trusting(&root), &["too many certificates of authorities", "at most six"]);
        }
    }
}

#[test]
fn a_certificate_of_version_1_is_named_so_however_it_is_verified() {
    let v1 = include_str!("keys/ec.v1.certificate.pem");
    let trusted = Tls::with_ca_pem(v1);
    for (verify_certificate, verify_host_name) in [(true, true), (true, false), (false, false)] {
        for versions in [ALL_VERSIONS, ONLY_TLS_1_2] {
            let tls = Tls { verify_certificate, verify_host_name, ..trusted.clone() };
            let served = Served::new(&Issued::from_file(v1)).only(versions);
            refuses(served, tls, &["CN=broker-1", "an X.509 version 1 certificate", "-extfile", "subjectAltName"]);
        }
    }
    let root = Authority::new("Good CA");
    let served = Served::new(&root.intermediate("broker-1", |_| {}).issue().followed_by_file(v1));
    refuses(
        served,
        trusting(&root),
        &["above the broker's certificate (CN=broker-1) is an X.509 version 1 certificate"],
    );
}

#[test]
fn a_signature_with_sha_1_is_refused_in_a_few_words() {
    let sha1 = include_str!("keys/ec.sha1.certificate.pem");
    let cluster = Cluster::patient(Served::new(&Issued::from_file(sha1)), Tls::with_ca_pem(sha1));
    let text = cluster.refusal().to_string();
    assert!(text.contains("signed with SHA-1 and ECDSA, which is not accepted") && text.len() < 300, "{text}");
}

#[test]
fn an_authority_with_a_short_rsa_key_is_told_from_one_with_another_key() {
    let issued = Issued::from_file(include_str!("keys/ec.by-rsa-1024.certificate.pem"));
    let tls = Tls::with_ca_pem(include_str!("keys/rsa.1024.certificate.pem"));
    let words = ["signed by an authority (CN=Weak CA) that has an RSA key of 1024 bits", "2,048 to 8,192 bits"];
    refuses(Served::new(&issued), tls, &words);
}

#[test]
fn an_uncommon_fault_of_a_certificate_is_told_with_the_command_that_shows_it() {
    let unknown = |params: &mut rcgen::CertificateParams| {
        let mut extension = rcgen::CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
        extension.set_criticality(true);
        params.custom_extensions.push(extension);
    };
    let words = ["unsupported critical extension", "openssl s_client -showcerts -connect kafka.test:9093"];
    refuses_issued(|authority| authority.issue_with(unknown), &words);
}

#[test]
fn a_wrong_host_name_says_what_was_asked_for_and_what_the_certificate_has() {
    let hosts = ["other.example", "10.1.2.3", "fd00::7"];
    let words = ["not for kafka.test, but for other.example, 10.1.2.3, fd00::7", "advertised.listeners"];
    refuses_issued(|authority| authority.issue_for(&hosts), &words);
}

#[test]
fn the_common_name_does_not_count() {
    let common_name = |params: &mut rcgen::CertificateParams| {
        params.subject_alt_names.clear();
        params.distinguished_name.push(rcgen::DnType::CommonName, "kafka.test");
    };
    refuses_issued(|authority| authority.issue_with(common_name), &["CN=kafka.test", "no subject alternative names"]);
}

#[test]
fn names_match_as_they_should() {
    let cases = [
        ("kafka-1.example", "kafka-1.example", true),
        ("KAFKA-1.Example", "kafka-1.example", true),
        ("kafka-1.example.", "kafka-1.example", true),
        ("kafka-1.corp.example", "*.corp.example", true),
        ("a.kafka-1.corp.example", "*.corp.example", false),
        ("corp.example", "*.corp.example", false),
        ("kafka-1.corp.example", "kafka-*.corp.example", false),
        ("kafka-1.corp.example", "kafka-1.*.example", false),
        ("kafka_1.example", "kafka_1.example", true),
        ("127.0.0.1", "127.0.0.1", true),
        ("127.0.0.2", "127.0.0.1", false),
        ("::1", "::1", true),
        ("xn--kfka-5qa.example", "xn--kfka-5qa.example", true),
    ];
    let authority = Authority::new("Good CA");
    for (host, name, is_accepted) in cases {
        let cluster = Cluster::with(Served::new(&authority.issue_for(&[name])), |address| {
            client_of(host, address, patient(with_tls(trusting(&authority))))
        });
        let client = &cluster.rig.client;
        let error = rig::wait(client, client.ready()).err();
        assert_eq!(error.is_none(), is_accepted, "{host} with a certificate for {name}: {error:?}");
        if let Some(error) = error {
            assert_eq!(cluster.server.application_bytes(), 0, "{error}");
            says(&error, ErrorKind::Authentication, &["is not for", name]);
            continue;
        }
        let is_name = host.parse::<std::net::IpAddr>().is_err();
        let sent = is_name.then(|| host.trim_end_matches('.').to_lowercase());
        let seen = cluster.server.seen()[0].name.as_ref().map(|name| name.to_lowercase());
        assert_eq!(seen, sent, "the name that is sent (SNI)");
    }
}

#[test]
fn a_host_that_no_certificate_can_name_is_told_so() {
    let authority = Authority::new("Good CA");
    let cluster = Cluster::with(Served::new(&authority.issue()), |address| {
        client_of("käfka.example", address, patient(with_tls(trusting(&authority))))
    });
    says(&cluster.refusal(), ErrorKind::Authentication, &["käfka.example", "xn--"]);
}

/// A cluster whose bootstrap server has a good certificate, and whose broker, named 127.0.0.1 by the metadata, has not.
fn misnamed(authority: &Authority) -> Cluster {
    let cluster = Cluster::patient(Served::new(&authority.issue_for(&["kafka.test"])), trusting(authority));
    rig::wait(&cluster.rig.client, cluster.rig.client.ready()).unwrap();
    cluster
}

/// Checks that a call failed at once because of the name.
fn is_misnamed<T>(outcome: kavka::Result<T>) {
    let error = outcome.err().expect("the broker must be refused");
    says(&error, ErrorKind::Authentication, &["not for 127.0.0.1, but for kafka.test"]);
}

#[test]
fn the_host_of_a_broker_from_the_metadata_is_verified_by_its_own_name() {
    let cluster = misnamed(&Authority::new("Good CA"));
    let client = &cluster.rig.client;
    let admin = client.admin();
    is_misnamed(rig::wait(client, async move { admin.group_offsets("billing").await }));
    let to_bootstrap = cluster.server.seen().into_iter().filter(|seen| seen.name.is_some());
    let bytes: usize = to_bootstrap.map(|seen| seen.application_bytes).sum();
    assert!(bytes > 0 && bytes == cluster.server.application_bytes(), "the broker got nothing");
}

#[test]
fn producers_and_consumers_are_told_at_once_that_a_broker_is_refused() {
    let cluster = misnamed(&Authority::new("Good CA"));
    for idempotence in [true, false] {
        let (producer, topic) = cluster.rig.producer(ProducerConfig::default().idempotence(Some(idempotence)));
        let delivery = producer.send_within(topic, &Record::new("a"), LIMIT);
        is_misnamed(delivery.and_then(|delivery| delivery.wait_for(LIMIT).expect("an outcome")));
    }
    is_misnamed(cluster.rig.consumer(1, StartPosition::Earliest).next_record(LIMIT));
    let config = ConsumerConfig::default().group_id(Some("billing".into()));
    let member = cluster.rig.client.group_consumer(config, GroupConfig::default(), GroupOptions::default()).unwrap();
    member.subscribe(&[TOPIC]).unwrap();
    is_misnamed(GroupConsumer::from(member).next_record(LIMIT));
}

#[test]
fn verification_is_off_only_if_the_settings_say_so() {
    listen_to_log();
    let served = || Served::new(&Authority::new("Other CA").issue_for(&["other.example"]));
    let tls = Tls { verify_certificate: false, ..Tls::default() };
    Cluster::new(served(), tls).works();
    warned("certificates of brokers are not verified").expect("a warning");

    let authority = Authority::new("Good CA");
    let tls = Tls { verify_host_name: false, ..trusting(&authority) };
    refuses(served(), tls.clone(), &["unknown authority"]);
    Cluster::new(Served::new(&authority.issue_for(&["other.example"])), tls).works();
    warned("host names of brokers are not verified").expect("a warning");
}

/// Checks that a server with these first bytes is refused at once, having heard nothing but TLS, and returns why.
fn refuses_answer(answer: &'static [u8]) -> Error {
    let (address, heard) = answers(answer);
    let error = refusal(&patient_client(address, trusting(&Authority::new("Good CA"))));
    heard.only_a_handshake();
    error
}

#[test]
fn a_broker_with_tls_1_1_is_told_from_others() {
    let alert: &[u8] = &[0x15, 3, 1, 0, 2, 2, 70];
    // The start of a handshake in TLS 1.1: version, random, no session, a cipher, no compression.
    let mut hello = vec![0x16, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 0x2f, 0]);
    for answer in [alert, hello.leak()] {
        let error = refuses_answer(answer);
        says(&error, ErrorKind::Authentication, &["no version of TLS", "TLS 1.2", "ssl.enabled.protocols"]);
    }
}

#[test]
fn a_plaintext_port_is_recognized() {
    for (answer, hint) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "it speaks HTTP, not Kafka: check the port"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "it speaks SSH: check the port"),
        (&[0, 0, 0, 6, 0, 0, 0, 0, 0, 35], "security.protocol"),
    ] {
        let error = refuses_answer(answer);
        says(&error, ErrorKind::Authentication, &["the broker answered without TLS", "at kafka.test:9093", hint]);
    }
}

#[test]
fn a_broker_that_hangs_up_during_the_handshake_may_be_merely_down() {
    let error = refusal(&client(raw(drop), trusting(&Authority::new("Good CA"))));
    says(&error, ErrorKind::Disconnected, &["closed during the TLS handshake", "security.protocol"]);
    let reset = raw(|mut stream| drop(stream.read(&mut [0; 10])));
    let error = refusal(&client(reset, trusting(&Authority::new("Good CA"))));
    says(&error, ErrorKind::Disconnected, &["during the TLS handshake"]);
}

/// A time-out would mean that somebody can keep the client busy until then.
#[test]
fn a_peer_that_floods_the_handshake_with_records_that_mean_nothing_is_given_up() {
    let farewell: &[u8] = &[0x15, 3, 3, 0, 2, 1, 0];
    let warning: &[u8] = &[0x15, 3, 3, 0, 2, 1, 100];
    let change_of_ciphers: &[u8] = &[0x14, 3, 3, 0, 1, 1];
    let empty_handshake: &[u8] = &[0x16, 3, 3, 0, 0];
    let endless_handshake: &[u8] = &[0x16, 3, 3, 0xff, 0xff];
    for record in [farewell, warning, change_of_ciphers, empty_handshake, endless_handshake] {
        let flood = raw(move |mut stream| {
            drop(stream.read(&mut [0; 1024]));
            while stream.write_all(record).is_ok() {}
        });
        let error = refusal(&client(flood, trusting(&Authority::new("Good CA"))));
        assert!(matches!(error.kind(), ErrorKind::Authentication | ErrorKind::Disconnected), "{record:x?}: {error}");
        assert!(!error.to_string().contains("plaintext"), "{record:x?} is a record of TLS: {error}");
    }
}

#[test]
fn a_silent_handshake_ends_at_the_limit_of_connecting() {
    let silent = raw(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
    let config = ClientConfig::default().connection_setup_timeout(Duration::from_millis(400));
    let config = config.with_security(Security::tls(trusting(&Authority::new("Good CA"))));
    let error = refusal(&client_of("kafka.test", silent, config));
    says(&error, ErrorKind::TimedOut(Phase::Connect), &["no answer to the TLS handshake", "security.protocol"]);
}

#[test]
fn a_refusal_at_one_address_is_told_even_if_another_cannot_be_reached() {
    let server = Cluster::new(Served::new(&Authority::new("Other CA").issue()), Tls::default()).server;
    // Bound, so that nobody else gets the port, but not listening.
    let closed = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    closed.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let nowhere = closed.local_addr().unwrap().as_socket().unwrap();
    let security = Security::tls(trusting(&Authority::new("Good CA")));
    let config = ClientConfig::default().with_security(security).bootstrap_servers(vec![("kafka.test".into(), 9093)]);
    for addresses in [vec![server.address, nowhere], vec![nowhere, server.address]] {
        let client = Client::with_network(config.clone(), Arc::new(LeadsTo(addresses)), None).unwrap();
        says(&refusal(&client), ErrorKind::Authentication, &["unknown authority"]);
    }
}

#[test]
fn a_plaintext_client_of_a_tls_port_is_told_which_setting_to_change() {
    let authority = Authority::new("Good CA");
    let cluster = Cluster::with(Served::new(&authority.issue()), |address| {
        client_of("kafka.test", address, ClientConfig::default())
    });
    says(
        &cluster.refusal(),
        ErrorKind::Malformed,
        &["answered with a TLS alert", "it requires TLS: set security.protocol to SSL or SASL_SSL"],
    );
}

#[test]
fn a_broker_that_is_refused_is_dialled_once_in_five_seconds_and_the_error_comes_at_once() {
    let authority = Authority::new("Good CA");
    let cluster = Cluster::new(Served::new(&Authority::new("Other CA").issue()), trusting(&authority));
    let begin = std::time::Instant::now();
    let mut calls = 0;
    while begin.elapsed() < Duration::from_secs(2) || calls < 5 {
        says(&refusal(&cluster.rig.client), ErrorKind::Authentication, &["unknown authority"]);
        calls += 1;
    }
    let (dialled, seconds) = (cluster.server.seen().len(), begin.elapsed().as_secs() as usize);
    assert!(dialled <= 1 + seconds / 5, "{dialled} connections in {seconds} s");
    assert!(begin.elapsed() < LIMIT, "no call waits for a time limit");
}
