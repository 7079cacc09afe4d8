//! What can go wrong: a request is refused or too slow, its reply is dropped, its handler panics.
//!
//! Knows the session; in each case it answers if it can, logs the reason and the peer once, and
//! closes the connection.
//!
//! # Read next
//! `end.rs`: when the client goes.

use std::mem;

use http::StatusCode;

use super::Body;
use super::conn::{Intake, Session};
use super::exchange::{Phase, Running};
use super::time::Limit;
use crate::net::Conn;
use crate::protocols::http::refusal::Refusal;
use crate::reactor::{Context, SourceId};

impl<S: 'static> Session<S> {
    /// Refuses a request: the last answer on this connection.
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
        match exchange.phase.get() {
            Phase::Idle | Phase::Pending | Phase::Dropped => {
                log::info!("{peer}: answered with {status}: {refusal}");
                exchange.phase.set(Phase::Pending);
                let running = Running::begin(exchange); // No nudge is needed.
                exchange.answer(reactor, refusal.response());
                drop(running);
            }
            // Its answer has begun, and cannot be completed as it was meant.
            _ => {
                log::info!("{peer}: cut off in its answer: {refusal}");
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
        match self.exchange.phase.get() {
            _ if conn.is_closing() => {}
            // Answered by the handler, and that is the last answer.
            Phase::Idle if streams => self.exchange.close(conn),
            Phase::Sending => {}
            _ => self.refuse(reactor, id, refusal),
        }
    }

    /// Delivers to the handler of a body that no more will come. What it answers is the last.
    pub(super) fn fail_body(&mut self, reactor: &mut Context<S>, state: &mut S, why: Refusal) {
        self.exchange.set_last();
        let wanted = matches!(self.exchange.phase.get(), Phase::Pending | Phase::Streaming);
        if let Intake::Flow(mut flow) = mem::replace(&mut self.intake, Intake::Ignore)
            && wanted
        {
            let running = Running::begin(&self.exchange);
            (flow.handler)(reactor, state, Body::Failed(why));
            drop(running);
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
    pub(super) fn answer_for_dropped(&mut self, reactor: &mut Context<S>, id: SourceId<Conn>) {
        let exchange = &*self.exchange;
        exchange.phase.set(Phase::Pending);
        if reactor[id].is_read_out() && exchange.has_callbacks.get() {
            // The handler got the end of the client's input, and gave up.
            log::debug!("{}: its request was dropped", exchange.peer());
            exchange.phase.set(Phase::Idle);
            let conn = &mut reactor[id];
            conn.release();
            return exchange.close(conn);
        }
        log::error!("{}: answered with 500: the reply was dropped", exchange.peer());
        let running = Running::begin(exchange);
        exchange.answer(reactor, StatusCode::INTERNAL_SERVER_ERROR.into());
        drop(running);
    }

    /// The handler has panicked, and what it was given is lost: no request can follow.
    #[cold]
    pub(super) fn give_up(&mut self, reactor: &mut Context<S>, id: SourceId<Conn>) {
        self.intake = Intake::Ignore;
        self.exchange.set_last();
        if self.exchange.phase.get() == Phase::Idle {
            self.exchange.close(&mut reactor[id]);
        }
    }
}
