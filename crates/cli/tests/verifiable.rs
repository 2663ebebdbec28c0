//! The verifiable programs against an embedded broker: their lines, and how they end.

mod support;

use std::io::{BufRead, BufReader, Read};

use support::{Broker, read_line, signal, text};

/// A line without its time, and without the age of a record.
fn event(line: &str) -> String {
    let (begin, rest) = line.trim_end().split_once(',').unwrap();
    let time = begin.strip_prefix(r#"{"timestamp":"#).unwrap();
    assert!(time.parse::<u64>().unwrap() > 1_700_000_000_000, "{line}");
    let Some((before, age)) = rest.split_once(r#","age_ms":"#) else { return format!("{{{rest}") };
    let digits = age.find(|character: char| !character.is_ascii_digit()).unwrap();
    assert!(age[..digits].parse::<u64>().unwrap() < 60_000, "{line}");
    format!("{{{before}{}", &age[digits..])
}

fn events(output: &[u8]) -> Vec<String> {
    text(output).lines().map(event).collect()
}

/// The next line with this name.
fn next_event(stdout: &mut BufReader<impl Read>, name: &str) -> String {
    loop {
        let line = event(&read_line(stdout));
        if line.starts_with(&format!(r#"{{"name":"{name}""#)) {
            return line;
        }
    }
}

#[test]
fn a_producer_tells_where_each_number_is_and_how_many_it_sent() {
    let broker = Broker::start(&[]);
    let shape = ["--max-messages", "3", "--value-prefix", "7", "--repeating-keys", "2"];
    let printed = broker.succeed(&[&["verifiable-producer", "--topic", "t"], &shape[..]].concat(), b"");
    let lines = events(&printed);
    assert_eq!(lines[0], r#"{"name":"startup_complete"}"#);
    let success = |key, number| {
        format!(
            r#"{{"name":"producer_send_success","key":"{key}","value":"7.{number}","topic":"t","partition":0,"offset":{number}}}"#
        )
    };
    assert_eq!(lines[1..4], [success(0, 0), success(1, 1), success(0, 2)]);
    assert_eq!(lines[4], r#"{"name":"shutdown_complete"}"#);
    let data = r#"{"name":"tool_data","sent":3,"acked":3,"target_throughput":-1,"avg_throughput":"#;
    assert!(lines[5].starts_with(data) && lines.len() == 6, "{lines:?}");
    assert_eq!(broker.consume(&["t", "--format", "%k=%v"]), "0=7.0\n1=7.1\n0=7.2\n");
}

#[test]
fn a_record_that_is_not_stored_is_an_error_with_its_outcome() {
    let broker = Broker::start(&[]);
    let limits = ["-X", "delivery.timeout.ms=1000", "-X", "request.timeout.ms=500", "-X", "linger.ms=0"];
    let mut produce =
        broker.spawn(&[&["verifiable-producer", "--topic", "t", "--throughput", "50"], &limits[..]].concat());
    let mut stdout = BufReader::new(produce.stdout.take().unwrap());
    next_event(&mut stdout, "producer_send_success");
    signal("STOP", &broker.process);
    let error = next_event(&mut stdout, "producer_send_error");
    let begin = r#""topic":"t","partition":0,"accepted":"#;
    let parts = [begin, r#","exception":"#, r#""message":""#, r#""outcome":"maybe_written"}"#];
    assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    signal("CONT", &broker.process);
    signal("TERM", &produce);
    let rest: Vec<String> = stdout.lines().map(|line| event(&line.unwrap())).collect();
    assert_eq!(rest[rest.len() - 2], r#"{"name":"shutdown_complete"}"#);
    assert_eq!(produce.wait().unwrap().code(), Some(0));
}

#[test]
fn a_member_writes_down_what_it_is_given_reads_and_commits() {
    let broker = Broker::start(&[]);
    broker.succeed(&["produce", "t", "--key-separator", ":", "--quiet"], b"a:x\nb:y\n");
    let member = ["verifiable-consumer", "--topic", "t", "--group-id", "g", "--max-messages", "2", "--verbose"];
    for protocol in ["classic", "consumer"] {
        broker.succeed(&["groups", "reset", "g", "--topic", "t", "--to", "earliest"], b"");
        let lines = events(&broker.succeed(&[&member[..], &["--group-protocol", protocol]].concat(), b""));
        let data = |key, value, offset| {
            format!(
                r#"{{"name":"record_data","key":"{key}","value":"{value}","topic":"t","partition":0,"offset":{offset}}}"#
            )
        };
        // The checksum is that of "0 a x\n1 b y\n", from Python's zlib.crc32.
        let expected = [
            r#"{"name":"startup_complete"}"#.to_owned(),
            r#"{"name":"partitions_assigned","partitions":[{"topic":"t","partition":0}]}"#.to_owned(),
            data("a", "x", 0),
            data("b", "y", 1),
            r#"{"name":"records_consumed","count":2,"partitions":[{"topic":"t","partition":0,"count":2,"minOffset":0,"maxOffset":1,"crc32":937225983}]}"#.to_owned(),
            r#"{"name":"offsets_committed","offsets":[{"topic":"t","partition":0,"offset":2}],"success":true}"#
                .to_owned(),
            r#"{"name":"partitions_revoked","partitions":[{"topic":"t","partition":0}]}"#.to_owned(),
            r#"{"name":"shutdown_complete"}"#.to_owned(),
        ];
        assert_eq!(lines, expected, "{protocol}");
    }
}

#[test]
fn members_share_the_partitions_until_one_is_told_to_end() {
    let broker = Broker::start(&["--partitions", "2"]);
    broker.succeed(&["topics", "create", "t"], b"");
    let member = ["verifiable-consumer", "--topic", "t", "--group-id", "g", "--enable-autocommit"];
    let start = || {
        let mut process = broker.spawn(&member);
        let stdout = BufReader::new(process.stdout.take().unwrap());
        (process, stdout)
    };
    let (mut first, mut first_lines) = start();
    assert!(next_event(&mut first_lines, "partitions_assigned").contains(r#""partition":1"#));
    let (mut second, mut second_lines) = start();
    assert!(next_event(&mut first_lines, "partitions_revoked").contains(r#""partition":1"#));
    assert_eq!(next_event(&mut second_lines, "partitions_assigned").matches(r#""partition""#).count(), 1);
    signal("TERM", &second);
    next_event(&mut second_lines, "shutdown_complete");
    assert_eq!(second.wait().unwrap().code(), Some(0));
    while next_event(&mut first_lines, "partitions_assigned").matches(r#""partition""#).count() < 2 {}
    signal("INT", &first);
    next_event(&mut first_lines, "shutdown_complete");
    assert_eq!(first.wait().unwrap().code(), Some(0));
}
