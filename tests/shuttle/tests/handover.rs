//! The hand-over between a pager and its thread, in every order of the two that a seed draws.

#[path = "../../../ring0-core/vac-core/src/memory/fetch/handover.rs"]
mod given;

use std::collections::VecDeque;

use given::Handover;
use shuttle::sync::Arc;
use shuttle::thread;

use crate::in_orders;

/// Two callers give and wait in different orders; the worker doubles, and falls at its `falls`-th piece of work.
fn work(falls: Option<u64>) {
    let shared: Arc<Handover<u64, u64>> = Arc::new(Handover::default());
    let worker = thread::spawn({
        let shared = Arc::clone(&shared);
        move || {
            let mut finished = 0;
            'all: while let Some(jobs) = shared.take() {
                let mut queue = VecDeque::from(jobs);
                loop {
                    if queue.is_empty() {
                        queue.extend(shared.take_more());
                    }
                    let Some((id, job)) = queue.pop_front() else { break };
                    if falls == Some(finished) {
                        break 'all;
                    }
                    finished += 1;
                    shared.finish(id, job * 2);
                }
            }
            shared.leave();
        }
    });
    let caller = |ids: [u64; 3]| {
        let shared = Arc::clone(&shared);
        thread::spawn(move || {
            shared.give(ids[..2].iter().map(|id| (*id, id + 100)));
            let first = shared.wait(ids[1]);
            shared.give([(ids[2], ids[2] + 100)]);
            let got = [(ids[1], first), (ids[2], shared.wait(ids[2])), (ids[0], shared.wait(ids[0]))];
            for (id, got) in got {
                match got {
                    Some(got) => assert_eq!(got, (id + 100) * 2),
                    None => assert!(falls.is_some(), "nothing is lost while the worker stands"),
                }
            }
        })
    };
    let callers = [caller([1, 2, 3]), caller([4, 5, 6])];
    callers.into_iter().for_each(|caller| caller.join().unwrap());
    shared.close();
    worker.join().unwrap();
}

#[test]
fn nothing_is_lost_and_nobody_waits_for_ever() {
    in_orders(2000, || work(None));
}

#[test]
fn a_worker_that_falls_lets_go_of_all_that_wait() {
    for falls in 0..4 {
        in_orders(250, move || work(Some(falls)));
    }
}
