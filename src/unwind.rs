//! Panics of foreign code, kept where they happen.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What `action` gives, or `None` if it panics. The panic's payload is disposed of here: its own drop may panic as well.
pub(crate) fn contained<T>(action: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(action)) {
        Ok(outcome) => Some(outcome),
        Err(payload) => {
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
                mem::forget(payload);
            }
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;

    use super::*;

    struct PanicsAgain;

    impl Drop for PanicsAgain {
        fn drop(&mut self) {
            panic_any("again");
        }
    }

    #[test]
    fn a_payload_that_panics_when_it_is_dropped_is_contained_as_well() {
        assert_eq!(contained(|| 1), Some(1));
        assert_eq!(contained(|| panic_any(PanicsAgain)), None::<()>);
    }
}
