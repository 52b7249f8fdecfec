//! Foreign code that may panic: handlers, loggers, callbacks.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `action`; `None` if it panicked.
pub(crate) fn contained<T>(action: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(action)).map_err(dispose).ok()
}

/// The payload of a panic is a type of whoever panicked, and even its drop may panic.
fn dispose(payload: Box<dyn Any + Send>) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct PanicsWhenDropped;

    impl Drop for PanicsWhenDropped {
        fn drop(&mut self) {
            panic!("in the drop of a payload");
        }
    }

    #[test]
    fn what_panics_gives_nothing_and_its_payload_does_no_harm() {
        assert_eq!(contained(|| 7), Some(7));
        assert_eq!(contained(|| -> u8 { panic!("on purpose") }), None);
        assert_eq!(contained(|| -> u8 { std::panic::panic_any(PanicsWhenDropped) }), None);
    }
}
