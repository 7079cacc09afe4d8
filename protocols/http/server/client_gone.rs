//! How a connection ends from the client's side: it has finished sending, or it is gone.
//!
//! Knows the connection. A client that has finished sending may still be there: it gets the
//! response that it waits for.
//!
//! # Read next
//! `request_time.rs`: the limits on time.

use super::exchange::ResponseState;
use super::server_conn::{Intake, ServerConn};
use crate::net::Conn;
use crate::protocols::http::refusal::Refusal;
use crate::reactor::{Context, SourceId};

impl<S: 'static> ServerConn<S> {
    /// The client has finished sending. If a response is pending, the client gets it.
    pub(super) fn eof(&mut self, reactor: &mut Context<S>, state: &mut S, id: SourceId<Conn>) {
        if matches!(&self.intake, Intake::Flow(flow) if flow.decoder.left() == 0) {
            // All of it has come. Its handler paused at the last byte, so it has not got the end.
            while self.step(reactor, state, id, &[]).is_some() {}
        }
        if self.intake.is_body() {
            return self.cut_body(reactor, state, id);
        }
        let busy =
            self.exchange.response.get() != ResponseState::Idle || self.exchange.blocked.get();
        let waits = busy || self.spent;
        let Some(conn) = reactor.get_mut(id) else { return };
        let unread = conn.backlog().len();
        if !waits && unread == 0 {
            return self.exchange.close(conn);
        }
        conn.unread(unread);
        if waits {
            return self.call_on_gone(reactor, state);
        }
        // The response was written in this turn, and the bytes behind its request are still unread.
        id.nudge(reactor);
    }

    /// The client has finished in the middle of a body. Half a request is not answered, but a
    /// response that was begun goes on.
    pub(super) fn cut_body(&mut self, reactor: &mut Context<S>, state: &mut S, id: SourceId<Conn>) {
        const GONE: Refusal = Refusal::bad("the client has finished in the middle of a body");
        log::info!("{}: {GONE}", self.exchange.peer());
        self.fail_body(reactor, state, GONE);
        self.call_on_gone(reactor, state);
        let Some(conn) = reactor.get_mut(id) else { return self.exchange.end() };
        match self.exchange.response.get() {
            ResponseState::Sending | ResponseState::Streaming => {}
            // Its sender was dropped just now: a reset, so that it looks cut off.
            ResponseState::Torn => conn.abort(),
            ResponseState::Idle => self.exchange.close(conn),
            _ => {
                self.exchange.end();
                self.exchange.close(conn);
            }
        }
    }

    fn call_on_gone(&self, reactor: &mut Context<S>, state: &mut S) {
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
impl<S: 'static> Drop for ServerConn<S> {
    fn drop(&mut self) {
        self.exchange.end();
    }
}
