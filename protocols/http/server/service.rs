//! Services: a handler that gets whole requests, or one that gets the head and returns another
//! handler for the body.
//!
//! Knows handlers and replies; never mentions a connection.
//!
//! # Read next
//! `reply.rs`: how a handler answers.

use super::exchange::ResponseState;
use super::{Body, BodyHandler, Reply, Request};
use crate::reactor::Context;

/// Answers requests.
pub(super) trait Service<S> {
    /// Returns true if the body of this request is to be streamed.
    fn streams(&self, request: &Request<'_>) -> bool;

    /// Handles a request with its body.
    fn call(&mut self, reactor: &mut Context<S>, state: &mut S, request: Request<'_>, reply: Reply);

    /// Handles a request whose body is to come; the body goes to the handler that is returned.
    fn stream(
        &mut self,
        reactor: &mut Context<S>,
        state: &mut S,
        request: Request<'_>,
        reply: Reply,
    ) -> BodyHandler<S>;
}

/// A handler of whole requests.
pub(super) struct Collecting<F>(pub(super) F);

impl<S: 'static, F> Service<S> for Collecting<F>
where
    F: FnMut(&mut Context<S>, &mut S, &Request<'_>, Reply),
{
    fn streams(&self, _: &Request<'_>) -> bool {
        false
    }

    fn call(
        &mut self,
        reactor: &mut Context<S>,
        state: &mut S,
        request: Request<'_>,
        reply: Reply,
    ) {
        (self.0)(reactor, state, &request, reply);
    }

    fn stream(
        &mut self,
        reactor: &mut Context<S>,
        state: &mut S,
        request: Request<'_>,
        reply: Reply,
    ) -> BodyHandler<S> {
        self.call(reactor, state, request, reply);
        Box::new(|_, _, _| {})
    }
}

/// A handler of heads, which returns a handler of the body.
pub(super) struct Streaming<F>(pub(super) F);

impl<S: 'static, F, B> Service<S> for Streaming<F>
where
    F: FnMut(&mut Context<S>, &mut S, &Request<'_>, Reply) -> B,
    B: FnMut(&mut Context<S>, &mut S, Body<'_>) + 'static,
{
    fn streams(&self, _: &Request<'_>) -> bool {
        true
    }

    fn call(
        &mut self,
        reactor: &mut Context<S>,
        state: &mut S,
        request: Request<'_>,
        reply: Reply,
    ) {
        let exchange = reply.exchange();
        let mut body = (self.0)(reactor, state, &request, reply);
        if !matches!(exchange.response.get(), ResponseState::Idle | ResponseState::Dead) {
            body(reactor, state, Body::End);
        }
    }

    fn stream(
        &mut self,
        reactor: &mut Context<S>,
        state: &mut S,
        request: Request<'_>,
        reply: Reply,
    ) -> BodyHandler<S> {
        Box::new((self.0)(reactor, state, &request, reply))
    }
}
