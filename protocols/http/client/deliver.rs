//! How a call delivers its events.
//!
//! Knows the transfer and its callback, which may cancel the call, drop the client, or panic.
//!
//! # Read next
//! `client_response.rs`: the events.

use super::call::{BROKEN, Call};
use super::client_response::CallEvent;
use super::error::Error;
use super::transfer::Transfer;
use crate::reactor::{Context, Readiness, SourceId};

/// The callback that receives a call's events.
pub(super) type OnEvent<S> = Box<dyn FnMut(&mut Context<S>, &mut S, SourceId<Call>, CallEvent<'_>)>;

impl<S: 'static> Transfer<S> {
    /// Delivers an event that is not the last. Returns true if the call goes on.
    pub(super) fn deliver(
        &self,
        reactor: &mut Context<S>,
        state: &mut S,
        call: SourceId<Call>,
        event: CallEvent<'_>,
    ) -> bool {
        let on_event = self.on_event.borrow_mut().take();
        if let Some(on_event) = on_event {
            // A panic has lost the next events, so the call is removed then.
            let put_back = |_: &mut Context<S>, on_event, returned: bool| {
                *self.on_event.borrow_mut() = Some(on_event);
                if !returned {
                    self.control.reaper.send(call, BROKEN);
                }
            };
            reactor.lend(on_event, put_back, |reactor, on_event| {
                on_event(reactor, state, call, event);
            });
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
        self.drop_connection(reactor);
        reactor.remove(call);
        let on_event = self.on_event.borrow_mut().take();
        if let Some(mut on_event) = on_event {
            let last = result.map_or_else(CallEvent::Failed, |()| CallEvent::End);
            on_event(reactor, state, call, last);
        }
    }

    /// Delivers a failure in the next turn, so that no callback runs inside the function that began
    /// the call.
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
