//! What to say when there are too few descriptors to start.

use std::io;

/// Of the acceptor: the listener, what it waits with, and what wakes it.
const ACCEPTOR: usize = 3;

/// Of each worker: what it waits with, and what wakes it.
const WORKER: usize = 2;

/// The error of the operating system, with what was needed and what there is if it is for want of descriptors.
pub(super) fn explained(source: io::Error, workers: usize) -> io::Error {
    if !is_for_want_of_descriptors(&source) {
        return source;
    }
    let needed = workers.saturating_mul(WORKER).saturating_add(ACCEPTOR);
    let limit =
        limit().map_or_else(String::new, |limit| format!(" of the {limit} that this process may have"));
    let text = format!(
        "{workers} workers need {needed} descriptors, {WORKER} each and {ACCEPTOR} to accept,{limit} beside those that are \
         open and one for each connection: set fewer workers, or a higher limit (`ulimit -n`, LimitNOFILE= of systemd): {source}"
    );
    io::Error::new(source.kind(), text)
}

#[cfg(unix)]
fn is_for_want_of_descriptors(error: &io::Error) -> bool {
    // ENFILE and EMFILE, which have these numbers on every Unix that is supported.
    matches!(error.raw_os_error(), Some(23 | 24))
}

#[cfg(not(unix))]
fn is_for_want_of_descriptors(_: &io::Error) -> bool {
    false
}

/// The soft limit of this process, where the system tells it in a file.
fn limit() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_was_needed_and_what_there_is() {
        let limit = limit().expect("Linux tells it").to_string();
        let error = explained(io::Error::from_raw_os_error(24), 600);
        let text = error.to_string();
        assert!(text.contains("600 workers need 1203 descriptors") && text.contains(&limit), "{text}");
        let other = explained(io::Error::from_raw_os_error(13), 600);
        assert_eq!(other.raw_os_error(), Some(13));
    }
}
