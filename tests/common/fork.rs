//! Forked processes.

#![allow(unreachable_pub, unsafe_code, reason = "for two test files; the standard library has no fork")]

use std::time::{Duration, Instant};

use super::common::PATIENCE;

unsafe extern "C" {
    safe fn fork() -> i32;
    fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
    safe fn kill(pid: i32, signal: i32) -> i32;
    safe fn _exit(status: i32) -> !;
}

const WITHOUT_WAITING: i32 = 1;

/// Runs `child` in a forked process; whether all that it asked for was so, before its time was over.
pub fn holds_in_a_fork(child: impl FnOnce() -> bool) -> bool {
    let pid = fork();
    assert!(pid >= 0);
    if pid == 0 {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
        _exit(i32::from(!outcome.unwrap_or(false)));
    }
    let begun = Instant::now();
    let mut status = 0;
    // SAFETY: `status` lives longer than the call.
    while unsafe { waitpid(pid, &raw mut status, WITHOUT_WAITING) } != pid {
        if begun.elapsed() > PATIENCE {
            kill(pid, 9);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    status == 0
}
