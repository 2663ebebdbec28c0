//! Faults between a client and its brokers, and what is in the log afterwards.
//!
//! The embedded broker can lose a response after appending, answer with an error with or without appending, close
//! connections, delay, stop responding, move leaders and go down. The tests read the log from the broker's memory.
//! Nothing may be lost, duplicated or out of order, and every record gets one true report.

mod checked;

use std::time::{Duration, Instant};

use checked::{Run, Workload, error_of, fast};
use kavka::blocking::Delivery;
use kavka::{ErrorCode, ErrorKind, Phase, ProducerConfig, Record, Written};
use kavka_broker::Fault;
use kavka_core::wire::ApiKey;

/// A fault that hits some produce requests and some fetches, early and late.
fn scattered(run: &Run, fault: &Fault) {
    for api in [ApiKey::Produce, ApiKey::Fetch] {
        for after in [0, 3, 10] {
            run.broker.inject(fault.clone().api(api).after(after));
        }
    }
}

fn survives(fault: &Fault) {
    let run = Run::new(&Workload::default());
    scattered(&run, fault);
    let injected = run.finish(|_, _| ());
    assert!(injected >= 6, "only {injected} faults met a request");
}

#[test]
fn answers_lost_after_the_records_were_appended() {
    survives(&Fault::lose_answer());
}

#[test]
fn connections_closed_before_the_request_is_carried_out() {
    survives(&Fault::close());
}

#[test]
fn requests_never_answered() {
    survives(&Fault::silence());
}

#[test]
fn requests_carried_out_and_never_answered() {
    survives(&Fault::silence_after_applying());
}

#[test]
fn answers_that_come_late() {
    survives(&Fault::delay(Duration::from_millis(150)));
}

#[test]
fn answers_that_come_after_their_limit() {
    survives(&Fault::delay(fast().request_timeout * 2));
}

const RETRIABLE: [ErrorCode; 7] = [
    ErrorCode::NOT_LEADER_OR_FOLLOWER,
    ErrorCode::LEADER_NOT_AVAILABLE,
    ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
    ErrorCode::REQUEST_TIMED_OUT,
    ErrorCode::NETWORK_EXCEPTION,
    ErrorCode::KAFKA_STORAGE_ERROR,
    ErrorCode::NOT_ENOUGH_REPLICAS,
];

#[test]
fn errors_of_requests_that_were_not_carried_out() {
    for code in RETRIABLE {
        let run = Run::new(&Workload { records: 1000, ..Workload::default() });
        for after in [0, 2, 5] {
            run.broker.inject(Fault::fail(code).api(ApiKey::Produce).after(after));
        }
        assert_eq!(run.finish(|_, _| ()), 3, "{code}");
    }
}

#[test]
fn errors_of_requests_that_were_carried_out() {
    for code in RETRIABLE.into_iter().filter(|code| *code != ErrorCode::NOT_ENOUGH_REPLICAS) {
        let run = Run::new(&Workload { records: 1000, ..Workload::default() });
        for after in [0, 2, 5] {
            run.broker.inject(Fault::fail_after_applying(code).api(ApiKey::Produce).after(after));
        }
        assert_eq!(run.finish(|_, _| ()), 3, "{code}");
    }
}

#[test]
fn leaders_that_move() {
    Run::new(&Workload::default()).finish(|run, number| {
        if number % 300 == 150 {
            run.move_leader((number / 300) as i32 % 3);
        }
    });
}

#[test]
fn brokers_that_go_down_and_come_back() {
    Run::new(&Workload::default()).finish(|run, number| match number % 1000 {
        250 => run.broker.set_broker_down(1 + number as i32 / 1000 % 3),
        750 => run.broker.set_broker_up(1 + number as i32 / 1000 % 3),
        _ => {}
    });
}

#[test]
fn everything_at_once_in_any_order() {
    for seed in 0..12_u64 {
        let mut random = seed;
        let mut next = |bound: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % bound
        };
        eprintln!("seed {seed}");
        let run = Run::new(&Workload { records: 2000, ..Workload::default() });
        run.finish(|run, number| {
            if number % 50 != 0 {
                return;
            }
            let api = [ApiKey::Produce, ApiKey::Produce, ApiKey::Fetch, ApiKey::Metadata][next(4) as usize];
            let code = RETRIABLE[next(6) as usize];
            let fault = match next(7) {
                0 => Fault::lose_answer(),
                1 => Fault::close(),
                2 => Fault::silence_after_applying(),
                3 => Fault::delay(Duration::from_millis(next(100))),
                4 => Fault::fail(code),
                5 => Fault::fail_after_applying(code),
                _ => return run.move_leader(next(3) as i32),
            };
            run.broker.inject(fault.api(api).after(next(4) as u32));
        });
    }
}

#[test]
fn an_error_code_nobody_knows_fails_what_is_behind_it_and_leaves_no_hole() {
    for (fault, is_stored) in [
        (Fault::fail(ErrorCode(999)), false),
        (Fault::fail_after_applying(ErrorCode(999)), true),
        (Fault::fail_after_applying(ErrorCode::UNKNOWN_SERVER_ERROR), true),
    ] {
        let run = Run::new(&Workload { partitions: 1, records: 0, ..Workload::default() });
        run.broker.inject(fault.api(ApiKey::Produce));
        let first = run.send(0);
        let error = error_of(first.wait());
        assert_eq!(error.written(), Written::Maybe, "{error}");
        let second = run.send(1).wait().unwrap();
        let stored: Vec<_> = run.log(0).into_iter().map(|(_, value)| value).collect();
        assert_eq!(stored, if is_stored { vec!["0", "1"] } else { vec!["1"] });
        assert_eq!(second.offset, Some(i64::from(is_stored)));
    }
}

#[test]
fn what_a_silent_broker_was_sent_may_be_written_and_the_rest_is_not() {
    let producer = ProducerConfig::default().delivery_timeout(Duration::from_secs(3)).batch_size(200);
    let run = Run::new(&Workload { partitions: 1, records: 0, producer, ..Workload::default() });
    run.send(0).wait().unwrap();
    run.broker.inject(Fault::silence_after_applying().api(ApiKey::Produce).always());
    let deliveries: Vec<_> = (1..200).map(|number| run.send(number)).collect();
    let outcomes: Vec<_> = deliveries.into_iter().map(Delivery::wait).collect();
    let stored: Vec<_> = run.log(0).into_iter().map(|(_, value)| value).collect();
    let mut written = [0; 2];
    for (outcome, number) in outcomes.into_iter().zip(1..) {
        let error = error_of(outcome);
        let is_maybe = error.written() == Written::Maybe;
        written[usize::from(is_maybe)] += 1;
        assert!(is_maybe || !stored.contains(&number.to_string()), "{number} is in the log: {error}");
        assert!(matches!(error.kind(), ErrorKind::TimedOut(Phase::Delivery) | ErrorKind::NotDelivered), "{error}");
    }
    assert!(written[0] > 0 && written[1] > 0, "{written:?}");
    run.broker.with(|cluster, _| cluster.faults().clear());
    assert!((200..220).any(|number| run.send(number).wait().is_ok()), "the producer goes on when the broker does");
}

#[test]
fn while_no_broker_can_be_reached_every_record_fails_in_time_and_names_that() {
    let producer = ProducerConfig::default().delivery_timeout(Duration::from_secs(3));
    let run = Run::new(&Workload { partitions: 1, records: 0, producer, ..Workload::default() });
    run.send(0).wait().unwrap();
    for broker_id in 1..=3 {
        run.broker.set_broker_down(broker_id);
    }
    let errors = [1, 2, 3].map(|number| run.send(number)).map(|delivery| error_of(delivery.wait()));
    for (error, number) in errors.iter().zip(1..) {
        // The first one's time is up first; those in a later batch then fail with it, if theirs is not.
        let is_behind = number > 1 && error.kind() == ErrorKind::NotDelivered;
        assert!(is_behind || error.kind() == ErrorKind::TimedOut(Phase::Delivery), "{number}: {error}");
        assert!(error.to_string().contains("refused"), "{error}");
    }
    for broker_id in 1..=3 {
        run.broker.set_broker_up(broker_id);
    }
    let stored = (4..20).find(|number| run.send(*number).wait().is_ok()).expect("one is stored");
    assert_eq!(run.log(0).pop().map(|(_, value)| value), Some(stored.to_string()));
}

#[test]
fn memory_is_bounded_while_the_broker_is_silent() {
    const BUFFER_MEMORY: usize = 2 << 20;
    let client = fast().buffer_memory(BUFFER_MEMORY);
    let run = Run::new(&Workload { partitions: 3, records: 0, client, producer: ProducerConfig::default() });
    run.broker.inject(Fault::silence().always());
    let value = [b'x'; 1000];
    let record = Record { value: Some(&value), ..Record::default() };
    let mut deliveries = Vec::new();
    let error = loop {
        match run.producer.try_send(run.topic, &record) {
            Ok(delivery) => deliveries.push(delivery),
            Err(error) => break error,
        }
        assert!(deliveries.len() * value.len() <= BUFFER_MEMORY, "the limit has no effect");
    };
    assert_eq!(error.kind(), ErrorKind::BufferFull, "{error}");
    assert!(deliveries.len() * value.len() > BUFFER_MEMORY / 2, "most of the memory can be used");
    let begin = Instant::now();
    let limit = Duration::from_millis(300);
    assert_eq!(run.producer.send_within(run.topic, &record, limit).unwrap_err().kind(), ErrorKind::BufferFull);
    assert!(begin.elapsed() >= limit);
    run.broker.with(|cluster, _| cluster.faults().clear());
    for delivery in deliveries {
        delivery.wait().unwrap();
    }
}

#[test]
fn closing_a_producer_whose_broker_is_silent_reports_everything() {
    let run = Run::new(&Workload { partitions: 3, records: 0, ..Workload::default() });
    run.broker.inject(Fault::silence().api(ApiKey::Produce).always());
    let deliveries: Vec<_> = (0..1000).map(|number| run.send(number)).collect();
    let error = run.producer.close(Duration::from_millis(500)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut(Phase::Close), "{error}");
    for delivery in &deliveries {
        let error = error_of(delivery.outcome().expect("it is reported when close returns"));
        assert!(error.to_string().contains("written"), "{error}");
    }
}
