//! Phase 3 from the inside: the loop asks for ready sources, and sleeps while there are none.
//!
//! The kernel can report readiness in two ways. *Level-triggered*, it reports the state, in each
//! poll: there are unread bytes. *Edge-triggered*, as mio asks it to, it reports the change, once:
//! bytes have come.
//!
//! ```text
//!                     600 bytes come    you read 500, and stop    50 bytes come
//!   unread            600               100                       150
//!   level-triggered   ready             ready     ready           ready
//!   edge-triggered    ready             (silent)  (silent)        ready
//! ```
//!
//! Edges are cheaper: a connection is registered once, for both directions, and is not reported
//! again and again while its bytes stay unread. In return, a callback must read until the kernel
//! returns `WouldBlock`, or ask for another call with [`resume`](super::Context::resume).
//!
//! # Read next
//! `dispatch.rs`: where callbacks are called. Beside the path: `readiness.rs`, the reports.

use std::io;
use std::time::Duration;

use super::{Reactor, Script};
use crate::timers::{Clock, ManualClock};

/// The longest single wait. The kernel takes milliseconds in 32 bits, 24.8 days; a day is simpler,
/// and waking once a day costs nothing.
#[cfg(not(all(test, loom)))]
const WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

impl<S: 'static> Reactor<S> {
    /// Phase 3.
    pub(super) fn poll(&mut self, wait: Option<Duration>) -> io::Result<()> {
        if let Some(scripted) = self.script.as_ref().and_then(Script::next) {
            self.scripted = scripted;
            return self.poll_kernel(Some(Duration::ZERO));
        }
        if wait == Some(Duration::ZERO) {
            return self.poll_kernel(wait);
        }
        if let Clock::Manual(clock) = &self.context.time.clock {
            let clock = clock.clone();
            return self.poll_by_hand(&clock, wait);
        }
        if let Some(at_most) = self.spin
            && self.spin(at_most, wait)?
        {
            return Ok(());
        }
        self.sleep(wait)
    }

    /// Moves the manual clock, which does not go by itself, in place of a sleep. It is not moved if
    /// something is ready, or while work outside of the loop has a result to post.
    #[cold]
    fn poll_by_hand(&mut self, clock: &ManualClock, wait: Option<Duration>) -> io::Result<()> {
        self.poll_kernel(Some(Duration::ZERO))?;
        let nothing = self.events.is_empty() && !self.context.is_queued();
        match wait {
            _ if !nothing => Ok(()),
            Some(wait) if !clock.is_held() && self.context.outside == 0 => {
                clock.advance(wait);
                Ok(())
            }
            // The manual clock stands still; the real sleep lasts `wait` at most.
            _ => self.sleep(wait),
        }
    }

    /// Polls without sleeping. Returns true if it found something or used up the whole wait.
    #[cold]
    fn spin(&mut self, at_most: Duration, wait: Option<Duration>) -> io::Result<bool> {
        let limit = wait.map_or(at_most, |wait| wait.min(at_most));
        if matches!(self.context.time.clock, Clock::Paced(_)) {
            return Ok(false); // It may stand still.
        }
        let start = self.context.time.clock.now();
        loop {
            self.poll_kernel(Some(Duration::ZERO))?;
            if !self.events.is_empty() || self.context.is_queued() {
                return Ok(true);
            }
            if self.context.time.clock.now() - start >= limit {
                return Ok(wait == Some(limit));
            }
        }
    }

    /// Sleeps, and announces it first, so that a post from now on wakes the loop.
    fn sleep(&mut self, wait: Option<Duration>) -> io::Result<()> {
        if !self.context.remotes {
            return self.poll_kernel(wait);
        }
        self.context.mailbox.fall_asleep();
        let waiting = self.context.mailbox.is_waiting();
        let polled = self.poll_kernel(if waiting { Some(Duration::ZERO) } else { wait });
        self.context.mailbox.be_awake();
        polled
    }

    /// Asks the kernel. A wait that a signal interrupts (EINTR) goes on with the time that is left.
    #[cfg(not(all(test, loom)))]
    fn poll_kernel(&mut self, wait: Option<Duration>) -> io::Result<()> {
        let mut wait = wait.map(|wait| wait.min(WAIT_MAX));
        let sleeps = wait.filter(|wait| !wait.is_zero());
        let end = sleeps.map(|wait| self.context.time.clock.now() + wait);
        loop {
            match self.poll.poll(&mut self.events, wait) {
                // The rest of the wait is not known by this clock; the next turn asks again.
                Err(error)
                    if error.kind() == io::ErrorKind::Interrupted
                        && matches!(self.context.time.clock, Clock::Paced(_)) =>
                {
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    wait = end
                        .map(|end| end.saturating_duration_since(self.context.time.clock.now()))
                        .or(wait);
                }
                polled => return polled,
            }
        }
    }
}
