//! How a call delivers its events.
//!
//! Knows the exchange and its callback, which may do anything: cancel the call, drop the client,
//! panic.
//!
//! # Read next
//! `answer.rs`: the events.

use super::answer::CallEvent;
use super::call::{BROKEN, Call};
use super::error::Error;
use super::exchange::Exchange;
use crate::reactor::{Context, Readiness, SourceId};

/// The callback that receives a call's events.
pub(super) type Sink<S> = Box<dyn FnMut(&mut Context<S>, &mut S, SourceId<Call>, CallEvent<'_>)>;

impl<S: 'static> Exchange<S> {
    /// Delivers an event that is not the last. Returns true if the call goes on.
    pub(super) fn tell(
        &self,
        reactor: &mut Context<S>,
        state: &mut S,
        call: SourceId<Call>,
        event: CallEvent<'_>,
    ) -> bool {
        let sink = self.sink.borrow_mut().take();
        if let Some(sink) = sink {
            let mut lent = Lent { sink: Some(sink), exchange: self, call };
            if let Some(sink) = &mut lent.sink {
                sink(reactor, state, call, event);
            }
        }
        reactor.contains(call)
    }

    /// Delivers the last event.
    pub(super) fn finish(
        &self,
        reactor: &mut Context<S>,
        state: &mut S,
        call: SourceId<Call>,
        result: Result<(), Error>,
    ) {
        self.let_go(reactor);
        reactor.remove(call);
        let sink = self.sink.borrow_mut().take();
        if let Some(mut sink) = sink {
            let last = result.map_or_else(CallEvent::Failed, |()| CallEvent::End);
            sink(reactor, state, call, last);
        }
    }

    /// Delivers a failure in the next turn: nobody is called back from inside the call that began
    /// it.
    pub(super) fn fail_later(
        &self,
        reactor: &mut Context<S>,
        call: SourceId<Call>,
        error: Option<Error>,
    ) {
        if let Some(error) = error {
            self.work.borrow_mut().failed = Some(error);
        }
        reactor.resume(call, Readiness::READABLE);
    }
}

/// A callback while it runs, put back when it ends. One that panics takes its call along: the
/// events that were to come next went with the panic.
struct Lent<'a, S: 'static> {
    sink: Option<Sink<S>>,
    exchange: &'a Exchange<S>,
    call: SourceId<Call>,
}

impl<S> Drop for Lent<'_, S> {
    fn drop(&mut self) {
        *self.exchange.sink.borrow_mut() = self.sink.take();
        if std::thread::panicking() {
            self.exchange.control.keeper.send(self.call, BROKEN);
        }
    }
}
