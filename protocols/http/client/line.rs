//! A connection of the pool: which call its events are for.
//!
//! # Read next
//! `send.rs`: what the exchange does with them.

use std::cell::RefCell;
use std::rc::Rc;

use super::call::{BROKEN, Call};
use super::exchange::Exchange;
use super::leash::Keeper;
use super::pool::Slot;
use crate::net::{Conn, Event};
use crate::reactor::{Context, SourceId};

/// What a connection of the pool does with its events.
pub(super) struct Line<S: 'static> {
    pub(super) slot: Slot<S>,
    /// So that it is there as long as any connection.
    pub(super) _keeper: Rc<Keeper>,
    pub(super) current: RefCell<Option<Current<S>>>,
}

/// Who uses a connection now.
type Current<S> = (Rc<Exchange<S>>, SourceId<Call>);

impl<S: 'static> Line<S> {
    pub(super) fn key(&self) -> &Rc<str> {
        self.slot.key()
    }

    pub(super) fn handle(
        self: &Rc<Self>,
        reactor: &mut Context<S>,
        state: &mut S,
        conn: SourceId<Conn>,
        event: Event<'_>,
    ) {
        let current = self.current.borrow().clone();
        match current {
            Some((exchange, call)) if reactor.contains(call) => {
                exchange.on_conn(reactor, state, (call, conn), event);
            }
            None if matches!(event, Event::Drained) => {}
            gone => {
                if gone.is_none() {
                    self.slot.forget(conn);
                    if let Some(conn) = reactor.get_mut(conn) {
                        conn.say_goodbye(); // The server may have said its own.
                    }
                }
                self.current.take();
                reactor.remove(conn);
            }
        }
    }
}

/// A connection that is dropped while a call uses it had a handler that panicked: the call goes,
/// too.
impl<S> Drop for Line<S> {
    fn drop(&mut self) {
        if let Some((exchange, call)) = self.current.take()
            && !exchange.control.is_over()
        {
            exchange.control.keeper.send(call, BROKEN);
        }
    }
}
