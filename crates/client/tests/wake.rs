//! Checks the wake protocol of `src/role/wake.rs` with loom, in all interleavings of its two sides.

// The protocol needs only what is used here.
#[path = "../src/role/wake.rs"]
mod wake;

/// Loom's atomics, and a notification with one permit, like tokio's. It blocks the thread, which has nothing else to
/// do.
mod sync {
    use loom::sync::{Condvar, Mutex};

    pub(super) use loom::sync::atomic::{AtomicBool, Ordering};

    #[derive(Debug, Default)]
    pub(super) struct Notify {
        permit: Mutex<bool>,
        rung: Condvar,
    }

    impl Notify {
        pub(super) fn notify_one(&self) {
            *self.permit.lock().unwrap() = true;
            self.rung.notify_one();
        }

        pub(super) fn notified(&self) -> impl Future<Output = ()> {
            std::future::poll_fn(|_| {
                let mut permit = self.permit.lock().unwrap();
                while !*permit {
                    permit = self.rung.wait(permit).unwrap();
                }
                *permit = false;
                std::task::Poll::Ready(())
            })
        }
    }
}

use loom::sync::{Arc, Mutex};
use loom::thread;
use wake::Wake;

/// Appends find the task awake, about to sleep, or asleep. It must see all of them; otherwise loom finds it asleep for
/// ever.
#[test]
fn a_change_is_never_slept_through() {
    let mut model = loom::model::Builder::new();
    // All interleavings take minutes; more than two preemptions per thread find nothing new.
    model.preemption_bound = Some(2);
    model.check(|| {
        let machine = Arc::new((Mutex::new(0), Wake::default()));
        let callers: Vec<_> = (0..2)
            .map(|_| {
                let machine = Arc::clone(&machine);
                thread::spawn(move || {
                    *machine.0.lock().unwrap() += 1;
                    machine.1.wake();
                })
            })
            .collect();
        loom::future::block_on(async {
            loop {
                machine.1.arm();
                if *machine.0.lock().unwrap() == 2 {
                    break;
                }
                machine.1.woken().await;
            }
        });
        for caller in callers {
            caller.join().unwrap();
        }
    });
}
