//! What threads share without the lock of a machine, in all interleavings of their steps (loom).
//!
//! The modules are those of the crate, with the atomics and locks of loom. Their unit tests cannot run with those, so
//! this program has no test harness (`harness = false` in `Cargo.toml`), and prints what one would.

#[path = "../src/producer/completion.rs"]
#[allow(dead_code, unreachable_pub, unused_imports, reason = "its unit tests, and what only the crate uses")]
mod completion;
#[path = "../src/consumer/lease.rs"]
#[allow(dead_code, unreachable_pub, unused_imports, reason = "its unit tests, and what only the crate uses")]
mod lease;
#[path = "../src/wire/records/pool.rs"]
#[allow(dead_code, unreachable_pub, unused_imports, reason = "its unit tests, and what only the crate uses")]
mod pool;
#[path = "../src/consumer/returned.rs"]
#[allow(dead_code, unreachable_pub, unused_imports, reason = "its unit tests, and what only the crate uses")]
mod returned;

mod sync {
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
    pub(crate) use loom::sync::{Mutex, MutexGuard};
}

mod error {
    #[allow(unused_imports, reason = "the unit tests, which are compiled but not run, import `ErrorKind`")]
    pub(crate) use kavka_core::error::{Error, ErrorKind, Result};
}

mod partitions {
    /// There is one partition.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct PartitionId;

    impl PartitionId {
        pub(crate) const fn numbered(_: u32) -> Self {
            Self
        }
    }
}

use std::sync::Arc;
use std::task::{Wake, Waker};

use completion::{Acknowledged, Completed, Completion};
use lease::{Lease, OpenLease};
use loom::sync::{Condvar, Mutex};
use loom::thread;
use partitions::PartitionId;
use pool::{BufferPool, CHUNK_BYTES};
use returned::{Note, Returned};

/// Wakes a thread that waits; like a permit, it is not lost if the thread waits only later.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.rung.lock().unwrap() = true;
        self.changed.notify_one();
    }

    /// Loom reports a thread that waits for ever.
    fn wait(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.changed.wait(rung).unwrap();
        }
        *rung = false;
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }
}

/// Claims records one by one until a claim fails.
fn claim_all(lease: &Lease, from: i64, until: i64) -> Vec<i64> {
    (from..until).take_while(|offset| lease.claim(*offset, offset + 1)).collect()
}

/// The application reads records while the machine pauses the partition, and reads on under the next lease.
fn every_record_is_handed_out_once_whenever_the_lease_is_renewed() {
    let lease = Lease::new(0);
    let machine = {
        let lease = Arc::clone(&lease);
        thread::spawn(move || {
            let next = lease.renew();
            let position = next.position().unwrap();
            assert!(!lease.claim(position, position + 1), "nothing is handed out under a lease that has ended");
            (position, claim_all(&next, position, 3))
        })
    };
    let mut handed_out = claim_all(&lease, 0, 3);
    let (position, later) = machine.join().unwrap();
    assert_eq!(i64::try_from(handed_out.len()), Ok(position), "the position is behind what was handed out");
    handed_out.extend(later);
    assert_eq!(handed_out, [0, 1, 2]);
}

/// The application drops its batch while the machine renews the lease, and then reads the notes.
fn a_batch_whose_return_is_noted_is_no_longer_at_hand() {
    let (lease, notes) = (Lease::new(0), Returned::default());
    let open = OpenLease::new(Arc::clone(&lease), PartitionId::numbered(0), notes.clone());
    let application = thread::spawn(move || {
        assert!(open.claim(0, 1) || open.position().is_none());
        open.settle();
        drop(open);
    });
    let next = lease.renew();
    let position = next.position().unwrap();
    assert!((0..=1).contains(&position));
    // What is committed meanwhile: never more than the application has settled, or has not been given.
    assert!(next.opened_at().is_none_or(|at| at <= position));
    let returned = notes.take();
    if matches!(returned.as_slice(), [Note::Dropped(_)]) {
        assert_eq!(next.opened_at(), None);
    }
    application.join().unwrap();
    assert_eq!(next.opened_at(), None);
}

fn resolved(completion: &Arc<Completion>, end: u32, base_offset: i64) -> Completed {
    let outcome = Ok(Acknowledged { base_offset: Some(base_offset), log_append_time_ms: None });
    Completed { completion: Arc::clone(completion), end, count: 1, outcome }
}

/// A thread waits for the second record of a batch that was split, and looks again after each wake-up.
fn whoever_waits_for_a_record_is_woken_and_finds_its_outcome() {
    let completion = Arc::new(Completion::new("t".into(), 0));
    let waiting = {
        let completion = Arc::clone(&completion);
        thread::spawn(move || {
            let bell = Arc::new(Bell::default());
            let waker = Waker::from(Arc::clone(&bell));
            while completion.subscribe(1, &waker) {
                bell.wait();
            }
            assert_eq!((completion.offset(0), completion.offset(1)), (Some(5), Some(9)));
        })
    };
    resolved(&completion, 1, 5).carry_out();
    resolved(&completion, 2, 9).carry_out();
    waiting.join().unwrap();
}

/// A thread wants the only chunk of a pool, and waits while another one reads it.
fn whoever_waits_for_memory_gets_it_when_it_comes_back() {
    let bell = Arc::new(Bell::default());
    let ringing = Arc::clone(&bell);
    let pool = BufferPool::new(CHUNK_BYTES, Arc::new(move || ringing.ring()));
    let mut chunk = pool.try_acquire(CHUNK_BYTES).unwrap();
    chunk.write(b"precious");
    let bytes = chunk.freeze();
    let reader = thread::spawn(move || {
        assert_eq!(&bytes[..], b"precious", "a chunk that somebody reads belongs to nobody else");
        drop(bytes);
    });
    let mut chunk = loop {
        pool.notify_on_release();
        if let Some(chunk) = pool.try_acquire(CHUNK_BYTES) {
            break chunk;
        }
        bell.wait();
    };
    chunk.write(b"replaced");
    reader.join().unwrap();
    drop(chunk);
    assert_eq!(pool.used(), 0);
}

type Model = (&'static str, fn());

const MODELS: [Model; 4] = [
    (
        "every_record_is_handed_out_once_whenever_the_lease_is_renewed",
        every_record_is_handed_out_once_whenever_the_lease_is_renewed,
    ),
    ("a_batch_whose_return_is_noted_is_no_longer_at_hand", a_batch_whose_return_is_noted_is_no_longer_at_hand),
    (
        "whoever_waits_for_a_record_is_woken_and_finds_its_outcome",
        whoever_waits_for_a_record_is_woken_and_finds_its_outcome,
    ),
    ("whoever_waits_for_memory_gets_it_when_it_comes_back", whoever_waits_for_memory_gets_it_when_it_comes_back),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_wanted = |name: &str| {
        let mut filters = arguments.iter().filter(|argument| !argument.starts_with('-')).peekable();
        filters.peek().is_none() || filters.any(|filter| name.contains(filter.as_str()))
    };
    // Tests that are ignored are those that need real Kafka; there are none here.
    if arguments.iter().any(|argument| argument == "--ignored" || argument == "--list") {
        return;
    }
    for (name, model) in MODELS.into_iter().filter(|(name, _)| is_wanted(name)) {
        let mut builder = loom::model::Builder::new();
        // All interleavings take minutes; more than three preemptions per thread find nothing new.
        builder.preemption_bound = Some(3);
        builder.check(model);
        println!("test {name} ... ok");
    }
}
