//! The built command against its own broker: output, errors and exit codes.

mod support;

use std::io::{BufReader, Read, Write};
use std::process::Child;

use kavka_broker::KafkaVersion;
use support::{Broker, assert_one_sentence, read_line, signal, text};

/// Stops a process, and waits until all its threads have stopped.
#[cfg(target_os = "linux")]
fn freeze(child: &Child) {
    signal("STOP", child);
    let stat = format!("/proc/{}/stat", child.id());
    while !std::fs::read_to_string(&stat).unwrap().contains(") T ") {}
}

/// `line 0`, `line 1`, ...
fn numbered_lines(count: u32) -> String {
    (0..count).flat_map(|number| ["line ".to_owned(), number.to_string(), "\n".to_owned()]).collect()
}

#[test]
fn lines_come_back_byte_by_byte_whatever_they_hold() {
    let broker = Broker::start(&[]);
    let lines = b"plain\n\n\x00\xff\xfe\r\n last without an end";
    let output = broker.run(&["produce", "lines"], lines);
    assert_eq!((output.status.code(), output.stdout), (Some(0), Vec::new()));
    assert!(text(&output.stderr).starts_with("kavka: delivered 4 records, "), "{}", text(&output.stderr));
    let printed = broker.succeed(&["consume", "lines", "--exit-at-end"], b"");
    assert_eq!(printed, [&lines[..], b"\n"].concat());
}

#[test]
fn records_may_be_separated_by_something_else_than_a_line() {
    let broker = Broker::start(&[]);
    broker.succeed(&["produce", "blocks", "--separator", r"\0"], b"two\nlines\0one\0");
    assert_eq!(broker.consume(&["blocks", "--separator", "|"]), "two\nlines|one|");
}

#[test]
fn keys_headers_and_tombstones_come_back() {
    let broker = Broker::start(&[]);
    let shape = ["--key-separator", ":", "--null-marker", "NULL", "-H", "a=1", "-H", "b", "-H", "a="];
    broker.succeed(&[&["produce", "keyed"], &shape[..]].concat(), b"k:v\nk:NULL\nNULL:\nbare\n");
    let format = ["--format", "%t %p %o %k=%v [%h]", "--null-marker", "NULL"];
    let printed = broker.consume(&[&["keyed"], &format[..]].concat());
    let expected =
        ["0 k=v", "1 k=NULL", "2 NULL=", "3 NULL=bare"].map(|record| format!("keyed 0 {record} [a=1,b=NULL,a=]"));
    assert_eq!(printed.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn json_tells_null_from_empty_and_text_from_bytes() {
    let broker = Broker::start(&[]);
    broker.succeed(&["produce", "json", "-H", "h=\"1\""], b"\n\xff\x00\n");
    let printed = broker.consume(&["json", "--json"]);
    let lines: Vec<&str> = printed.lines().collect();
    assert!(lines[0].starts_with(r#"{"topic":"json","partition":0,"offset":0,"timestamp":"#), "{}", lines[0]);
    let headers = r#""headers":[{"name":"h","value":"\"1\""}]}"#;
    assert!(lines[0].ends_with(&format!(r#","key":null,"value":"",{headers}"#)), "{}", lines[0]);
    assert!(lines[1].ends_with(&format!(r#","key":null,"value_base64":"/wA=",{headers}"#)), "{}", lines[1]);
}

#[test]
fn every_codec_brings_back_what_it_was_given() {
    let broker = Broker::start(&["--partitions", "2"]);
    for codec in ["none", "gzip:9", "snappy", "lz4", "zstd:9"] {
        let topic = format!("topic-{}", codec.replace(':', "-"));
        let lines = numbered_lines(2_000);
        broker.succeed(&["produce", &topic, "-z", codec, "--partition", "1"], lines.as_bytes());
        assert!(broker.consume(&[&topic]) == lines, "{codec}");
    }
}

#[test]
fn partition_and_offset_are_printed_in_the_order_of_the_input() {
    let broker = Broker::start(&["--partitions", "2"]);
    assert_eq!(broker.succeed(&["produce", "t", "-p", "1", "--print-offsets"], b"a\nb\n"), b"1\t0\n1\t1\n");
    assert_eq!(broker.succeed(&["produce", "t", "-p", "0", "--print-offsets", "--acks", "1"], b"c\n"), b"0\t0\n");
    assert_eq!(broker.succeed(&["produce", "t", "-p", "0", "--print-offsets", "--acks", "0"], b"d\n"), b"0\t?\n");
}

#[test]
fn reading_begins_and_ends_where_it_is_told_to() {
    let broker = Broker::start(&["--partitions", "2"]);
    broker.succeed(&["produce", "range", "--partition", "0"], b"a\nb\nc\nd\n");
    broker.succeed(&["produce", "range", "--partition", "1"], b"other\n");
    assert_eq!(broker.consume(&["range", "-p", "0", "--from", "1", "-n", "2"]), "b\nc\n");
    assert_eq!(broker.consume(&["range", "-p", "0", "--from", "4"]), "");
    assert_eq!(broker.consume(&["range", "--from", "latest"]), "");
    assert_eq!(broker.consume(&["range", "-p", "1", "--from", "@2020-01-01"]), "other\n");
    assert_eq!(broker.consume(&["range", "-n", "0"]), "");
    assert_eq!(broker.consume(&["range", "-p", "0", "--from", "-2"]), "c\nd\n");
    assert_eq!(broker.consume(&["range", "-p", "0", "-f-0"]), "");
    let all = broker.consume(&["range", "--from=-10"]);
    assert_eq!(all.lines().count(), 5, "{all}");
    let beyond = broker.run(&["consume", "range", "-p", "0", "--from", "99"], b"");
    assert_eq!(beyond.status.code(), Some(1));
    assert_one_sentence(&beyond, "range-0");
}

#[test]
fn a_record_that_is_too_large_fails_alone_and_is_counted() {
    let broker = Broker::start(&[]);
    let input = [b"before\n".as_slice(), &vec![b'x'; 2_000_000], b"\nafter\n"].concat();
    let output = broker.run(&["produce", "large"], &input);
    assert_eq!(output.status.code(), Some(1));
    assert_one_sentence(&output, "1 of 3 records were not delivered: ");
    assert_eq!(broker.consume(&["large"]), "before\nafter\n");
}

#[test]
fn topics_are_made_listed_described_and_removed() {
    let broker = Broker::start(&["--brokers", "3"]);
    assert_eq!(broker.bootstrap_servers.split(',').count(), 3);
    broker.succeed(&["topics", "create", "made", "--partitions", "2", "-c", "retention.ms=1000"], b"");
    assert_eq!(broker.succeed(&["topics"], b""), b"made\t2\n");
    broker.succeed(&["produce", "made", "--partition", "1"], b"a\n");
    let description = text(&broker.succeed(&["topics", "describe", "made"], b""));
    assert!(description.starts_with("made: partitions 2, replication factor 3\n"), "{description}");
    assert!(description.trim_end().ends_with("  0         1"), "{description}");
    let again = broker.run(&["topics", "create", "made"], b"");
    assert_eq!(again.status.code(), Some(1));
    assert_one_sentence(&again, "TOPIC_ALREADY_EXISTS");
    broker.succeed(&["topics", "delete", "made"], b"");
    assert_eq!(broker.succeed(&["topics", "list"], b""), b"");
}

#[test]
fn the_cluster_may_be_named_before_and_after_the_subcommand() {
    let broker = Broker::start(&[]);
    let address = broker.bootstrap_servers.as_str();
    broker.succeed(&["topics", "create", "t"], b"");
    let nobody = "127.0.0.1:1";
    for arguments in [
        ["-b", address, "topics", "list"],
        ["topics", "-b", address, "list"],
        ["topics", "list", "-b", address],
        ["topics", "list", "--bootstrap-server", address],
    ] {
        let output = broker.command(&arguments).env("KAVKA_BOOTSTRAP_SERVERS", nobody).output().unwrap();
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "t\t1\n".into()), "{arguments:?}");
    }
    let refused = broker.run(&["broker", "-b", address], b"");
    assert_eq!(refused.status.code(), Some(2));
    assert_one_sentence(&refused, "--bootstrap-server");
}

#[test]
fn an_unknown_topic_is_an_error_unless_it_may_be_created() {
    let broker = Broker::start(&[]);
    let attempts: [&[&str]; 4] = [
        &["consume", "typo"],
        &["produce", "typo", "--no-create"],
        &["topics", "describe", "typo"],
        &["topics", "delete", "typo"],
    ];
    for arguments in attempts {
        let output = broker.run(arguments, b"a\n");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert_one_sentence(&output, "UNKNOWN_TOPIC_OR_PARTITION (3): typo");
    }
    assert_eq!(broker.succeed(&["topics"], b""), b"");
}

#[test]
fn a_wrong_host_is_an_error_with_its_cause() {
    let broker = Broker::start(&[]);
    let nobody = "127.0.0.1:1";
    for arguments in [["topics", "-b", nobody, "list"], ["consume", "t", "-b", nobody], ["produce", "t", "-b", nobody]]
    {
        let output = broker.run(&arguments, b"a\n");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert_one_sentence(&output, &format!("{nobody}; because Connection refused"));
    }
}

#[test]
fn wrong_usage_is_told_from_failure() {
    let broker = Broker::start(&[]);
    let wrong: [&[&str]; 9] = [
        &[],
        &["produce"],
        &["produce", "t", "--acks", "2"],
        &["produce", "t", "--compression", "zip"],
        &["produce", "t", "-b", "h:0"],
        &["produce", "t", "--partition", "7"],
        &["consume", "t", "--from", "yesterday"],
        &["consume", "t", "--format", "%q"],
        &["broker", "--brokers", "0"],
    ];
    for arguments in wrong {
        let output = broker.run(arguments, b"a\n");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output.stderr));
    }
    assert_one_sentence(&broker.run(&["topics", "-b", "good:1,h:0"], b""), "`h:0` has a port");
}

#[test]
fn every_setting_can_be_given_by_its_kafka_name() {
    let broker = Broker::start(&[]);
    let large = vec![b'x'; 1_000_100];
    let refused = broker.run(&["produce", "-X", "max.request.size=1000000", "t"], &large);
    assert_eq!(refused.status.code(), Some(1));
    assert_one_sentence(&refused, "max.request.size");
    broker.succeed(&["-X", "max.request.size=1000200", "produce", "t", "-X", "acks=1", "-X", "linger.ms=0"], &large);
    let committed = broker.consume(&["t", "-X", "isolation.level=read_uncommitted", "-Xfetch.max.wait.ms=10"]);
    assert_eq!(committed.len(), large.len() + 1);
    broker.succeed(&["topics", "--property", "client.id=me", "-X", "request.timeout.ms=5000"], b"");
    let elsewhere = format!("bootstrap.servers={}", broker.bootstrap_servers);
    let mut command = broker.command(&["topics", "-X", &elsewhere]);
    assert_eq!(command.env("KAVKA_BOOTSTRAP_SERVERS", "127.0.0.1:1").status().unwrap().code(), Some(0));
}

#[test]
fn a_setting_that_does_not_exist_is_refused_with_the_nearest_one() {
    let broker = Broker::start(&[]);
    let wrong: [(&[&str], &str); 5] = [
        (&["produce", "t", "-X", "lingr.ms=5"], "did you mean linger.ms?"),
        (&["produce", "t", "-X", "linger.ms=soon"], "linger.ms must be 0 or more, not soon"),
        (&["produce", "t", "-X", "fetch.min.bytes=1"], "fetch.min.bytes"),
        (&["produce", "t", "--acks", "1", "-X", "enable.idempotence=true"], "enable.idempotence"),
        (&["broker", "-X", "client.id=me"], "--property"),
    ];
    for (arguments, part) in wrong {
        let output = broker.run(arguments, b"");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_one_sentence(&output, part);
    }
}

#[test]
fn a_reader_that_has_enough_is_no_error() {
    let broker = Broker::start(&[]);
    let lines = numbered_lines(50_000);
    broker.succeed(&["produce", "many"], lines.as_bytes());
    let mut consume = broker.spawn(&["consume", "many"]);
    let mut stdout = BufReader::new(consume.stdout.take().unwrap());
    assert_eq!(read_line(&mut stdout), "line 0\n");
    drop(stdout);
    let output = consume.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
}

#[test]
fn records_are_printed_as_they_come_until_ctrl_c() {
    let broker = Broker::start(&[]);
    broker.succeed(&["topics", "create", "live"], b"");
    let mut consume = broker.spawn(&["consume", "live"]);
    let mut stdout = BufReader::new(consume.stdout.take().unwrap());
    for line in ["one\n", "two\n"] {
        broker.succeed(&["produce", "live"], line.as_bytes());
        assert_eq!(read_line(&mut stdout), line);
    }
    signal("INT", &consume);
    let output = consume.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert_one_sentence(&output, "interrupted");
}

#[test]
fn ctrl_c_ends_the_reading_and_delivers_what_was_read() {
    let broker = Broker::start(&[]);
    let mut produce = broker.spawn(&["produce", "half", "--print-offsets"]);
    let mut stdin = produce.stdin.take().unwrap();
    let mut stdout = BufReader::new(produce.stdout.take().unwrap());
    stdin.write_all(b"one\ntwo\nhalf a li").unwrap();
    assert_eq!(read_line(&mut stdout), "0\t0\n");
    signal("INT", &produce);
    let output = produce.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert_one_sentence(&output, "interrupted; all that was accepted is delivered: 2 records");
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "0\t1\n");
    assert_eq!(broker.consume(&["half"]), "one\ntwo\n");
}

#[cfg(target_os = "linux")]
#[test]
fn a_second_ctrl_c_gives_up_what_no_broker_acknowledges() {
    let broker = Broker::start(&[]);
    let mut produce = broker.spawn(&["produce", "frozen", "--print-offsets"]);
    let mut stdin = produce.stdin.take().unwrap();
    let mut stdout = BufReader::new(produce.stdout.take().unwrap());
    let mut stderr = BufReader::new(produce.stderr.take().unwrap());
    stdin.write_all(b"one\n").unwrap();
    assert_eq!(read_line(&mut stdout), "0\t0\n");
    freeze(&broker.process);
    // More than a pipe holds: when all of it is written, the command has accepted some.
    stdin.write_all("line\n".repeat(100_000).as_bytes()).unwrap();
    signal("INT", &produce);
    let notice = read_line(&mut stderr);
    assert!(notice.starts_with("kavka: interrupted; ") && notice.contains("Ctrl-C again"), "{notice}");
    signal("INT", &produce);
    assert_eq!(produce.wait().unwrap().code(), Some(130));
}

#[test]
fn a_broker_ends_well_when_it_is_told_to() {
    for name in ["INT", "TERM"] {
        let mut broker = Broker::start(&[]);
        signal(name, &broker.process);
        assert_eq!(broker.process.wait().unwrap().code(), Some(0), "{name}");
    }
}

#[test]
fn a_broker_is_the_version_of_kafka_that_is_asked_for_or_says_which_there_are() {
    let broker = Broker::start(&["--kafka-version", "0.9.0.1"]);
    broker.succeed(&["produce", "t"], b"old\n");
    assert_eq!(broker.consume(&["t"]), "old\n");
    let output = broker.run(&["produce", "t", "-H", "a=1"], b"new\n");
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("record headers need a broker of Kafka 0.11 or newer, and this one is older"), "{said}");
    let output = broker.run(&["broker", "--port", "0", "--kafka-version", "0.7"], b"");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("--kafka-version") && said.contains("0.7"), "{said}");
    for version in KafkaVersion::ALL {
        assert!(said.contains(version.name()), "{} is not among them: {said}", version.name());
    }
}

#[test]
fn a_port_that_is_taken_is_an_error_with_a_way_out() {
    let broker = Broker::start(&[]);
    let port = broker.bootstrap_servers.rsplit(':').next().unwrap();
    let output = broker.run(&["broker", "--port", port], b"");
    assert_eq!(output.status.code(), Some(1));
    assert_one_sentence(&output, "choose another --port");
}
