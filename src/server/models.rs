//! The hand-overs between threads, run by a model checker in every order that sequential consistency allows. The code
//! under model is the code that serves; a lost wake-up shows as a deadlock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::Token;
use shuttle::{check_dfs, thread};

use super::acceptor::watchdog::Watchdog;
use super::connection::deferred::{Deferral, DeferralLimits, Outbox};
use super::shared::{AdmissionLimits, LoadGuard, StopPhase, Waker};
use super::worker::{Delivery, Mailbox, Pool};
use crate::Key;
use crate::keyring::Keyring;

const SECOND: Duration = Duration::from_secs(1);

/// What the threads of a server of one worker share.
fn pool() -> Arc<Pool> {
    let keyring = Keyring::new();
    keyring.add("key", &Key::from_bytes([1; 32])).unwrap();
    let echo = |message: &[u8]| message.to_vec();
    Arc::new(
        Pool::new(
            2,
            (Arc::new(echo), None),
            AdmissionLimits::default(),
            DeferralLimits::default(),
            Arc::new(keyring),
            Waker::default(),
        )
        .unwrap(),
    )
}

/// A worker's way from its last look to the end of its wait; returns when `is_done`.
fn wait_until(pool: &Pool, is_done: impl Fn() -> bool) {
    let mailbox = &pool.workers[0].mailbox;
    loop {
        let seen = pool.seen();
        if is_done() {
            return;
        }
        // A look at the sockets, which takes a wake-up.
        mailbox.forget_wake();
        if pool.may_block(0, seen) {
            mailbox.wait();
        }
        mailbox.end_waiting();
    }
}

#[test]
fn a_delivery_is_seen_by_a_worker_that_begins_to_wait() {
    let model = || {
        let mailbox = Arc::new(Mailbox::new(Waker::default()));
        let acceptor = thread::spawn({
            let mailbox = Arc::clone(&mailbox);
            move || mailbox.deliver(7)
        });
        let delivered = loop {
            if let Some(delivered) = mailbox.take() {
                break delivered;
            }
            mailbox.forget_wake();
            if mailbox.begin_waiting(|| false) {
                mailbox.wait();
            }
            mailbox.end_waiting();
        };
        assert_eq!(delivered, 7);
        acceptor.join().unwrap();
    };
    check_dfs(model, None);
}

#[test]
fn a_stop_is_seen_by_a_worker_that_is_about_to_wait() {
    let model = || {
        let pool = pool();
        let stopper = thread::spawn({
            let pool = Arc::clone(&pool);
            move || pool.stop(Duration::ZERO)
        });
        wait_until(&pool, || pool.stop.phase() != StopPhase::Running);
        stopper.join().unwrap();
    };
    check_dfs(model, None);
}

#[test]
fn a_withdrawal_is_seen_by_a_worker_that_is_about_to_wait() {
    let model = || {
        let pool = pool();
        let before = pool.keyring.withdrawals();
        let owner = thread::spawn({
            let pool = Arc::clone(&pool);
            move || {
                pool.keyring.withdraw("key");
                pool.wake_workers();
            }
        });
        wait_until(&pool, || pool.keyring.withdrawals() != before);
        owner.join().unwrap();
    };
    check_dfs(model, None);
}

#[test]
fn the_watchdog_is_not_parked_while_a_worker_is_at_a_turn() {
    let model = || {
        let pool = pool();
        let loads = &pool.counters.loads;
        let _two_connections = [1, 2].map(|id| LoadGuard::new(loads, id, 0));
        let mut watchdog = Watchdog::new(2);
        let begun = Instant::now();
        let tick = |watchdog: &mut Watchdog, ticks: u32| watchdog.tick(&pool, begun + SECOND * ticks);
        pool.clock.stay_awake();
        (1..10).for_each(|ticks| tick(&mut watchdog, ticks));
        let worker = thread::spawn({
            let pool = Arc::clone(&pool);
            move || pool.begin_turn(0)
        });
        // At this tick it would be parked.
        tick(&mut watchdog, 10);
        worker.join().unwrap();
        assert!(!pool.clock.is_parked(), "nobody watches the turn");
    };
    check_dfs(model, None);
}

#[test]
fn a_deadline_is_promised_or_its_worker_has_a_time_out_of_its_own() {
    let model = || {
        let (pool, now) = (pool(), Instant::now());
        // An early promise, for a deadline that has moved to later since.
        pool.alarm.will_ring(1, Some(now + SECOND), || {});
        pool.alarm.promise(now);
        pool.alarm.will_ring(1, Some(now + 100 * SECOND), || {});
        let worker = thread::spawn({
            let pool = Arc::clone(&pool);
            move || pool.alarm.will_ring(0, Some(now + 10 * SECOND), || {})
        });
        let promised = pool.alarm.promise(now);
        let has_no_timeout = worker.join().unwrap();
        assert!(!has_no_timeout || promised.is_some_and(|promised| promised <= 10 * SECOND));
    };
    check_dfs(model, None);
}

#[test]
fn an_answer_that_comes_later_reaches_a_connection_that_ends_its_turn() {
    let model = || {
        let mailbox = Arc::new(Mailbox::<Delivery>::new(Waker::default()));
        let owner = Arc::<Mailbox<Delivery>>::clone(&mailbox);
        let deferral = Deferral { owner, limits: DeferralLimits::default(), awaited: Arc::default() };
        let now = Instant::now();
        let outbox = Arc::new(Outbox::new(&deferral, Token(0), None));
        let replies = [outbox.defer(None, now), outbox.defer(None, now)];
        let replier = thread::spawn(move || {
            // The last one first, so that the first one gives two at once.
            for reply in replies.into_iter().rev() {
                reply.send([7]).unwrap();
            }
        });
        let mut taken = 0;
        loop {
            // A turn, at whose end both answers may come.
            outbox.begin_turn(&deferral, Token(0));
            while outbox.take(now, true).is_some() {
                taken += 1;
            }
            if taken == 2 {
                break;
            }
            while mailbox.take().is_none() {
                if mailbox.begin_waiting(|| false) {
                    mailbox.wait();
                }
                mailbox.end_waiting();
            }
        }
        replier.join().unwrap();
    };
    check_dfs(model, None);
}
