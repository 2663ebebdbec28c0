//! The Rust side of the harness, on the newest Kafka.

use kavka_test_kafka::{Kafka, Options};

#[test]
#[ignore = "`make kafka-test` runs it"]
fn a_cluster_obeys_and_is_gone_when_it_is_dropped() {
    let kafka = Kafka::start(&Options::default());
    assert_eq!(kafka.broker_ids(), [1]);
    kafka.create_topic("orders", 2, 1, &[("retention.ms", "-1")]);
    assert_eq!(kafka.leader("orders", 1), 1);

    kafka.freeze(1);
    kafka.thaw(1);
    kafka.kill(1);
    kafka.restart(1);
    kafka.tool("console-producer", &["--topic", "orders"], b"it's here\n");
    let dumped = kafka.dump_log("orders", 0) + &kafka.dump_log("orders", 1);
    assert!(dumped.contains("payload: it's here"), "{dumped}");

    let data = kafka.log_dir(1);
    assert!(data.exists());
    drop(kafka);
    assert!(!data.exists());
}

#[test]
#[ignore = "`make kafka-test` runs it"]
#[should_panic(expected = "no number")]
fn a_broker_that_does_not_start_fails_the_test_with_its_own_words() {
    let _ = Kafka::start(&Options {
        version: "0.8.2.2",
        settings: &[("num.network.threads", "no number")],
        ..Options::default()
    });
}
