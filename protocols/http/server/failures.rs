//! Failures: a request is refused or too slow, its reply is dropped, its handler panics.
//!
//! Knows the connection; in each case it answers if it can, logs the reason and the peer once, and
//! closes the connection.
//!
//! # Read next
//! `client_gone.rs`: when the client goes.

use std::mem;

use http::StatusCode;

use super::Body;
use super::exchange::ResponseState;
use super::request_time::Limit;
use super::server_conn::{Intake, ServerConn};
use crate::net::Conn;
use crate::protocols::http::refusal::Refusal;
use crate::reactor::{Context, SourceId};

impl<S: 'static> ServerConn<S> {
    /// Refuses a request. This is the last response on the connection.
    pub(super) fn refuse(
        &mut self,
        reactor: &mut Context<S>,
        id: SourceId<Conn>,
        refusal: Refusal,
    ) {
        self.intake = Intake::Ignore;
        let exchange = &*self.exchange;
        let (peer, status) = (exchange.peer(), refusal.status());
        exchange.set_last();
        match exchange.response.get() {
            ResponseState::Idle | ResponseState::Pending | ResponseState::Dropped => {
                log::info!("{peer}: answered with {status}: {refusal}");
                exchange.response.set(ResponseState::Pending);
                // As from a handler: no nudge is needed.
                exchange.run(reactor, |reactor| {
                    exchange.respond(reactor, refusal.response());
                });
            }
            // Its response has begun, and cannot be completed.
            _ => {
                log::info!("{peer}: cut off in its response: {refusal}");
                reactor[id].abort();
            }
        }
    }

    /// Ends a streamed body in the middle: its handler may answer, otherwise the server does.
    pub(super) fn refuse_body(
        &mut self,
        reactor: &mut Context<S>,
        state: &mut S,
        id: SourceId<Conn>,
        refusal: Refusal,
    ) {
        let streams = matches!(self.intake, Intake::Flow(_));
        self.fail_body(reactor, state, refusal);
        let Some(conn) = reactor.get_mut(id) else { return self.exchange.end() };
        match self.exchange.response.get() {
            _ if conn.is_closing() => {}
            // The handler has answered, and this is the last response.
            ResponseState::Idle if streams => self.exchange.close(conn),
            ResponseState::Sending => {}
            _ => self.refuse(reactor, id, refusal),
        }
    }

    /// Reports to the handler of a body that no more will come. Its response is the last.
    pub(super) fn fail_body(&mut self, reactor: &mut Context<S>, state: &mut S, why: Refusal) {
        self.exchange.set_last();
        let wanted = matches!(
            self.exchange.response.get(),
            ResponseState::Pending | ResponseState::Streaming
        );
        if let Intake::Flow(mut flow) = mem::replace(&mut self.intake, Intake::Ignore)
            && wanted
        {
            self.exchange.run(reactor, |reactor| {
                (flow.handler)(reactor, state, Body::Failed(why));
            });
        }
    }

    /// A limit on time is up.
    pub(super) fn time_out(
        &mut self,
        reactor: &mut Context<S>,
        state: &mut S,
        id: SourceId<Conn>,
        limit: Limit,
    ) {
        let discards = matches!(self.intake, Intake::Discard(_));
        match limit.refusal() {
            Some(refusal) if !discards => self.refuse_body(reactor, state, id, refusal),
            _ => {
                self.intake = Intake::Ignore;
                self.exchange.close(&mut reactor[id]);
            }
        }
    }

    /// The handler has dropped its reply.
    #[cold]
    pub(super) fn respond_for_dropped(&mut self, reactor: &mut Context<S>, id: SourceId<Conn>) {
        let exchange = &*self.exchange;
        exchange.response.set(ResponseState::Pending);
        if reactor[id].is_read_out() && exchange.has_callbacks.get() {
            // The handler got the end of the client's input, and gave up.
            log::debug!("{}: its request was dropped", exchange.peer());
            exchange.response.set(ResponseState::Idle);
            let conn = &mut reactor[id];
            conn.release();
            return exchange.close(conn);
        }
        log::error!("{}: answered with 500: the reply was dropped", exchange.peer());
        exchange.run(reactor, |reactor| {
            exchange.respond(reactor, StatusCode::INTERNAL_SERVER_ERROR.into());
        });
    }

    /// The handler has panicked, and its input is lost: no request can follow.
    #[cold]
    pub(super) fn give_up(&mut self, reactor: &mut Context<S>, id: SourceId<Conn>) {
        self.intake = Intake::Ignore;
        self.exchange.set_last();
        if self.exchange.response.get() == ResponseState::Idle {
            self.exchange.close(&mut reactor[id]);
        }
    }
}
