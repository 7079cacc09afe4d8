//! The limits on a request's time, on one timer for each connection.
//!
//! The timer is armed for the first moment at which a limit could run out. Most events only move
//! that moment to a later time, and then the timer is not re-armed: it fires early, checks, and is
//! armed for the time that is left. So a request costs no timer.
//!
//! Bytes that have come by then count, even if the loop was late and has not read them: a client
//! that has kept a limit must not pay for the handler of another one.
//!
//! # Read next
//! `service.rs`: the handlers that answer.

use std::rc::Rc;
use std::time::Duration;

use super::conn::Session;
use super::exchange::{Exchange, Phase};
use crate::protocols::http::limits::Limits;
use crate::protocols::http::refusal::Refusal;
use crate::reactor::{Context, Missed, Priority};
use crate::timers::{Stamp, TICK, Tick};

/// The limits on time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    Idle,
    Head,
    Body,
    Reply,
}

impl Limit {
    /// The answer to the client when it is up; `None` is no answer.
    pub(super) fn refusal(self) -> Option<Refusal> {
        match self {
            Limit::Idle => None,
            Limit::Head => Some(Refusal::new(408, "the head took too long")),
            Limit::Body => Some(Refusal::new(408, "the body came too slowly")),
            Limit::Reply => Some(Refusal::new(503, "no answer was found in time")),
        }
    }
}

/// How long a connection may be without a request. One connection too many (`crowded`) has the time
/// of a head: its request should be on its way.
pub(super) fn patience(limits: &Limits, crowded: bool) -> Duration {
    if crowded { limits.head_timeout } else { limits.idle_timeout }
}

/// Starts the timer of a connection, which makes the session look at its limits. It ends with the
/// connection. Returns the tick for which it is armed.
pub(super) fn start<S: 'static>(
    reactor: &mut Context<S>,
    exchange: &Rc<Exchange>,
    patience: Duration,
) -> Tick {
    let period = patience.max(TICK);
    let of = Rc::downgrade(exchange);
    let timer = reactor.every(period, Missed::Delay, move |reactor, _, occurrence| {
        let conn = of.upgrade().and_then(|of| of.conn.get().map(|conn| (of, conn)));
        match conn {
            Some((of, conn)) if reactor.contains(conn) => {
                conn.look(reactor);
                reactor.enqueue(Priority::Low, move |_, _| of.ring());
            }
            _ => {
                reactor.cancel(occurrence.timer);
            }
        }
    });
    let first = reactor.tick_after(patience);
    reactor.rearm_at(timer, first);
    reactor.unref(timer);
    exchange.timer.set(Some(timer));
    first
}

/// Bytes of a body have come, so the next may come later: by what the bytes have earned, and never
/// later than the grace from now.
pub(super) fn earn(exchange: &Exchange, now: Stamp, bytes: usize) {
    let limits = &exchange.common.limits;
    let nanos = (bytes as u64).saturating_mul(1_000_000_000);
    let earned = nanos.div_ceil(limits.body_bytes_per_second.max(1));
    let until = exchange.body_until.get().plus(Duration::from_nanos(earned));
    exchange.body_until.set(until.min(now.plus(limits.body_grace)));
}

impl<S: 'static> Session<S> {
    /// The limit that is up first, and the tick at which it is.
    fn due(&self) -> Option<(Tick, Limit)> {
        let exchange = &*self.exchange;
        let limits = &exchange.common.limits;
        let phase = exchange.phase.get();
        if exchange.closing.get() || phase == Phase::Dead {
            return None;
        }
        let body = self.intake.is_body() && !exchange.body_paused.get();
        let body = body.then(|| (exchange.body_until.get().next(), Limit::Body));
        let since = exchange.since.get();
        let own = match phase {
            Phase::Pending => {
                limits.reply_timeout.map(|timeout| (since.after(timeout), Limit::Reply))
            }
            Phase::Idle if self.intake.is_body() || exchange.blocked.get() => None,
            Phase::Idle if self.partial => Some((since.after(limits.head_timeout), Limit::Head)),
            Phase::Idle => Some((since.after(patience(limits, self.crowd.is_some())), Limit::Idle)),
            _ => None,
        };
        [body, own].into_iter().flatten().min_by_key(|(tick, _)| *tick)
    }

    /// The limit that is up, if the timer has fired.
    pub(super) fn is_up(&mut self, reactor: &Context<S>) -> Option<Limit> {
        if !self.exchange.alarm.take() {
            return None;
        }
        self.armed = Tick::NEVER;
        let (tick, limit) = self.due()?;
        (tick <= reactor.tick()).then_some(limit)
    }

    /// Arms the timer for the first limit, unless it fires before that anyway.
    pub(super) fn arm(&mut self, reactor: &mut Context<S>) {
        if let Some((tick, _)) = self.due()
            && tick < self.armed
            && let Some(timer) = self.exchange.timer.get()
        {
            reactor.rearm_at(timer, tick);
            self.armed = tick;
        }
    }
}
