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
//! `service.rs`: the handlers.

use std::rc::Rc;
use std::time::Duration;

use super::exchange::{Exchange, ResponseState};
use super::server_conn::ServerConn;
use crate::protocols::http::refusal::Refusal;
use crate::protocols::http::server_limits::Limits;
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
    /// The response to the client when the limit has been reached; `None` is no response.
    pub(super) fn refusal(self) -> Option<Refusal> {
        match self {
            Limit::Idle => None,
            Limit::Head => Some(Refusal::new(408, "the head took too long")),
            Limit::Body => Some(Refusal::new(408, "the body came too slowly")),
            Limit::Reply => Some(Refusal::new(503, "no response was ready in time")),
        }
    }
}

/// How long a connection may be without a request. One connection too many (`over_limit`) has the
/// time of a head: its request should be on its way.
pub(super) fn time_for_request(limits: &Limits, over_limit: bool) -> Duration {
    if over_limit { limits.head_timeout } else { limits.idle_timeout }
}

/// Starts the timer of a connection, which makes the connection check its limits. It ends with the
/// connection. Returns the tick for which it is armed.
pub(super) fn start<S: 'static>(
    reactor: &mut Context<S>,
    exchange: &Rc<Exchange>,
    time_for_request: Duration,
) -> Tick {
    let period = time_for_request.max(TICK);
    let of = Rc::downgrade(exchange);
    let timer = reactor.every(period, Missed::Delay, move |reactor, _, occurrence| {
        let conn = of.upgrade().and_then(|of| of.conn.get().map(|conn| (of, conn)));
        match conn {
            Some((of, conn)) if reactor.contains(conn) => {
                conn.look(reactor);
                reactor.enqueue(Priority::Low, move |_, _| of.on_timer());
            }
            _ => {
                reactor.cancel(occurrence.timer);
            }
        }
    });
    let first = reactor.tick_after(time_for_request);
    reactor.rearm_at(timer, first);
    reactor.unref(timer);
    exchange.timer.set(Some(timer));
    first
}

/// Bytes of a body have come, so the next may come later: by the time that they have earned, and
/// never later than the grace from now.
pub(super) fn earn(exchange: &Exchange, now: Stamp, bytes: usize) {
    let limits = &exchange.common.limits;
    let nanos = (bytes as u64).saturating_mul(1_000_000_000);
    let earned = nanos.div_ceil(limits.body_bytes_per_second.max(1));
    let until = exchange.body_until.get().plus(Duration::from_nanos(earned));
    exchange.body_until.set(until.min(now.plus(limits.body_grace)));
}

impl<S: 'static> ServerConn<S> {
    /// The limit that is up first, and the tick at which it is.
    fn due(&self) -> Option<(Tick, Limit)> {
        let exchange = &*self.exchange;
        let limits = &exchange.common.limits;
        let response = exchange.response.get();
        if exchange.closing.get() || response == ResponseState::Dead {
            return None;
        }
        let body = self.intake.is_body() && !exchange.body_paused.get();
        let body = body.then(|| (exchange.body_until.get().next(), Limit::Body));
        let since = exchange.since.get();
        let own = match response {
            ResponseState::Pending => {
                limits.reply_timeout.map(|timeout| (since.after(timeout), Limit::Reply))
            }
            ResponseState::Idle if self.intake.is_body() || exchange.blocked.get() => None,
            ResponseState::Idle if self.partial => {
                Some((since.after(limits.head_timeout), Limit::Head))
            }
            ResponseState::Idle => {
                Some((since.after(time_for_request(limits, self.excess.is_some())), Limit::Idle))
            }
            _ => None,
        };
        [body, own].into_iter().flatten().min_by_key(|(tick, _)| *tick)
    }

    /// The limit that is up, if the timer has fired.
    pub(super) fn is_up(&mut self, reactor: &Context<S>) -> Option<Limit> {
        if !self.exchange.timer_fired.take() {
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
