//! How a connection ends from the client's side: it has finished sending, or it is gone.
//!
//! Knows the session; a client that waits for an answer gets it as long as it may be there.
//!
//! # Read next
//! `time.rs`: what is too slow.

use super::conn::{Intake, Session};
use super::exchange::Phase;
use crate::net::Conn;
use crate::protocols::http::refusal::Refusal;
use crate::reactor::{Context, SourceId};

impl<S: 'static> Session<S> {
    /// The client has finished sending. If it waits for its answer, it gets it.
    pub(super) fn eof(&mut self, reactor: &mut Context<S>, state: &mut S, id: SourceId<Conn>) {
        if matches!(&self.intake, Intake::Flow(flow) if flow.decoder.left() == 0) {
            // All of it has come. Its handler paused at the last byte, so it has not got the end.
            while self.step(reactor, state, id, &[]).is_some() {}
        }
        if self.intake.is_body() {
            return self.cut_body(reactor, state, id);
        }
        let busy = self.exchange.phase.get() != Phase::Idle || self.exchange.blocked.get();
        let waits = busy || self.spent;
        let Some(conn) = reactor.get_mut(id) else { return };
        let unread = conn.backlog().len();
        if !waits && unread == 0 {
            return self.exchange.close(conn);
        }
        conn.unread(unread);
        if waits {
            return self.tell_gone(reactor, state);
        }
        // The answer is of this turn, and what stood behind its request was not looked at yet.
        id.nudge(reactor);
    }

    /// The client has finished in the middle of a body. Half a request is not answered, but an
    /// answer that was begun goes on.
    pub(super) fn cut_body(&mut self, reactor: &mut Context<S>, state: &mut S, id: SourceId<Conn>) {
        const GONE: Refusal = Refusal::bad("the client has finished in the middle of a body");
        log::info!("{}: {GONE}", self.exchange.peer());
        self.fail_body(reactor, state, GONE);
        self.tell_gone(reactor, state);
        let Some(conn) = reactor.get_mut(id) else { return self.exchange.end() };
        match self.exchange.phase.get() {
            Phase::Sending | Phase::Streaming => {}
            // Its sender was dropped just now: a reset, so that it looks cut off.
            Phase::Torn => conn.abort(),
            Phase::Idle => self.exchange.close(conn),
            _ => {
                self.exchange.end();
                self.exchange.close(conn);
            }
        }
    }

    fn tell_gone(&self, reactor: &mut Context<S>, state: &mut S) {
        if let Some(gone) = self.exchange.take_gone::<S>() {
            gone(reactor, state);
        }
    }

    /// The connection is no more.
    pub(super) fn closed(&mut self, reactor: &mut Context<S>, state: &mut S) {
        self.exchange.timer.take().map(|timer| reactor.cancel(timer));
        self.fail_body(reactor, state, Refusal::bad("the client has gone"));
        let gone = self.exchange.take_gone::<S>();
        self.exchange.end();
        if let Some(gone) = gone {
            gone(reactor, state);
        }
    }
}

/// However the connection leaves the loop, the exchange ends.
impl<S: 'static> Drop for Session<S> {
    fn drop(&mut self) {
        self.exchange.end();
    }
}
