//! What a peer can make happen as often as it likes: logged once a connection and cause, and counted from then on.

use std::fmt;
use std::net::SocketAddr;

use log::{trace, warn};

use super::LOG;
use crate::protocol::Rejection;

/// How often each cause has occurred on one connection.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    too_short: u32,
    not_authentic: u32,
    skipped: u32,
}

impl Repeats {
    pub(super) fn record_rejection(&mut self, peer: SocketAddr, rejection: Rejection) {
        let count = match rejection {
            Rejection::TooShort => &mut self.too_short,
            Rejection::NotAuthentic => &mut self.not_authentic,
        };
        if is_first(count) {
            warn!(target: LOG, "{peer}: a message was rejected: {rejection}");
        }
    }

    pub(super) fn record_skipped(&mut self, peer: SocketAddr, kind: u8) {
        if is_first(&mut self.skipped) {
            trace!(target: LOG, "{peer}: skipped a byte of the unregistered type {kind}");
        }
    }

    /// Logs how often each cause came again.
    pub(super) fn log_further(&self, peer: SocketAddr) {
        let further = |count: u32, what: &dyn fmt::Display| {
            if count > 1 {
                warn!(target: LOG, "{peer}: {} further messages were rejected: {what}", count - 1);
            }
        };
        further(self.too_short, &Rejection::TooShort);
        further(self.not_authentic, &Rejection::NotAuthentic);
        if self.skipped > 1 {
            trace!(target: LOG, "{peer}: skipped {} further bytes of unregistered types", self.skipped - 1);
        }
    }
}

fn is_first(count: &mut u32) -> bool {
    *count = count.saturating_add(1);
    *count == 1
}
