//! A connection of the pool: it delivers its events to the call that uses it.
//!
//! # Read next
//! `send_body.rs`: how the transfer handles them.

use std::cell::RefCell;
use std::rc::Rc;

use super::call::{BROKEN, Call};
use super::client_pool::Permit;
use super::source_guard::Reaper;
use super::transfer::Transfer;
use crate::net::{Conn, Event};
use crate::reactor::{Context, SourceId};

/// The handler of a connection of the pool.
pub(super) struct PooledConn<S: 'static> {
    pub(super) permit: Permit<S>,
    /// Keeps the reaper in the loop as long as there is a connection.
    pub(super) _reaper: Rc<Reaper>,
    pub(super) current: RefCell<Option<Current<S>>>,
}

/// The call that uses a connection now.
type Current<S> = (Rc<Transfer<S>>, SourceId<Call>);

impl<S: 'static> PooledConn<S> {
    pub(super) fn key(&self) -> &Rc<str> {
        self.permit.key()
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
            Some((transfer, call)) if reactor.contains(call) => {
                transfer.on_conn(reactor, state, (call, conn), event);
            }
            None if matches!(event, Event::Drained) => {}
            gone => {
                if gone.is_none() {
                    self.permit.forget(conn);
                    if let Some(conn) = reactor.get_mut(conn) {
                        conn.announce_end(); // The server may have announced its own end.
                    }
                }
                self.current.take();
                reactor.remove(conn);
            }
        }
    }
}

/// If a connection is dropped while a call uses it, its handler has panicked: the call ends, too.
impl<S> Drop for PooledConn<S> {
    fn drop(&mut self) {
        if let Some((transfer, call)) = self.current.take()
            && !transfer.control.is_over()
        {
            transfer.control.reaper.send(call, BROKEN);
        }
    }
}
