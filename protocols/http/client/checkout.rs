//! How a transfer gets its connection, and sends its head.
//!
//! Knows the transfer and the pool; how a new one is made is in `dial.rs`.
//!
//! # Read next
//! `pooled_conn.rs`: how a connection's events get here.

use std::cell::RefCell;
use std::rc::Rc;

use super::call::{Call, CallState};
use super::client_pool::{Checkout, Permit};
use super::dial::dial;
use super::error::Error;
use super::pooled_conn::PooledConn;
use super::reader::Reader;
use super::source_guard::SourceGuard;
use super::transfer::Transfer;
use crate::net::{Conn, Limits, Stream};
use crate::reactor::{Context, SourceId};

/// The buffer for heads is not kept with more capacity than this. 64 KiB, as the server's.
const HEAD_KEPT_BYTES: usize = 64 * 1024;

impl<S: 'static> Transfer<S> {
    /// Gets a connection, or goes on when there is one.
    pub(super) fn get_connection(self: &Rc<Self>, reactor: &mut Context<S>, call: SourceId<Call>) {
        let (key, fresh, probe, was_there) = {
            let work = self.work.borrow();
            let Some(target) = &work.target else { return self.fail_later(reactor, call, None) };
            let key = self.shared.key(target);
            let was_there = work.place.as_ref() == Some(&key);
            (key, work.again, !work.request.is_repeatable(), was_there)
        };
        match self.shared.check_out(reactor, &key, call, fresh, probe, was_there) {
            Checkout::Reuse(conn, pooled, guard) => {
                self.work.borrow_mut().reused = true;
                self.attach(reactor, call, conn, pooled, guard);
            }
            Checkout::Connect(permit) => self.dial(reactor, call, permit),
            Checkout::Wait => self.wait(reactor, call),
            Checkout::Full => {
                let why = "too many calls wait for a connection".into();
                let error = Error::Request { url: self.url(), why };
                self.fail_later(reactor, call, Some(error));
            }
        }
    }

    /// Waits in the queue; a call that does so again has waited since the first time.
    fn wait(&self, reactor: &mut Context<S>, call: SourceId<Call>) {
        if self.control.state.get() != CallState::Queue {
            self.control.state.set(CallState::Queue);
            self.control.since.set(reactor.stamp());
        }
        self.control.arm(reactor, call);
    }

    fn dial(self: &Rc<Self>, reactor: &mut Context<S>, call: SourceId<Call>, permit: Permit<S>) {
        let Some(target) = self.work.borrow().target.clone() else { return };
        let (transfer, step) = (self.clone(), self.control.step.clone());
        let connected = Box::new(move |reactor: &mut Context<S>, state: &mut S, result| {
            if !reactor.contains(call) {
                return; // Cancelled in this turn.
            }
            match result {
                Ok(stream) => transfer.connected(reactor, call, stream, permit),
                Err(error) => {
                    let url = transfer.url();
                    transfer.finish(reactor, state, call, Err(Error::Connect { url, error }));
                }
            }
        });
        if let Err(error) = dial(&self.shared, reactor, &target, step, connected) {
            let error = Error::Connect { url: self.url(), error };
            return self.fail_later(reactor, call, Some(error));
        }
        // Armed behind the race's own deadline, whose error says more. A dialer may be done
        // already.
        if self.control.conn.get().is_none() && reactor.contains(call) {
            self.control.enter(reactor, call, CallState::Connect);
        }
    }

    /// A new connection is there.
    fn connected(
        self: &Rc<Self>,
        reactor: &mut Context<S>,
        call: SourceId<Call>,
        stream: Stream,
        permit: Permit<S>,
    ) {
        let reaper = self.shared.reaper(reactor);
        let pooled =
            Rc::new(PooledConn { permit, _reaper: reaper.clone(), current: RefCell::new(None) });
        let write_timeout = self.shared.limits.write_timeout;
        let stream = stream.adjust_limits(|limits| {
            limits.write_timeout = write_timeout;
            let least = Limits::default().outbox_bytes_max; // For a head, and the early body bytes.
            limits.outbox_bytes_max = limits.outbox_bytes_max.max(least);
        });
        let own = pooled.clone();
        let conn = stream.open_with_eof_at_cut(reactor, move |reactor, state, conn, event| {
            own.handle(reactor, state, conn, event);
        });
        self.work.borrow_mut().reused = false;
        let guard = reaper.guard(conn);
        self.attach(reactor, call, conn, pooled, guard);
    }

    /// Sends the request over this connection.
    fn attach(
        self: &Rc<Self>,
        reactor: &mut Context<S>,
        call: SourceId<Call>,
        conn: SourceId<Conn>,
        pooled: Rc<PooledConn<S>>,
        guard: SourceGuard,
    ) {
        *pooled.current.borrow_mut() = Some((self.clone(), call));
        self.control.step.put(guard);
        self.control.conn.set(Some(conn));
        reactor.set_place(conn, self.place);
        let mut head = self.shared.head.take();
        let waits = {
            let work = &mut *self.work.borrow_mut();
            let Some(target) = &work.target else { return };
            work.pooled = Rc::downgrade(&pooled);
            work.place = Some(pooled.key().clone());
            let reader = Reader::new(work.request.method.clone(), self.shared.limits.heads());
            work.reader = reader.upgrading(work.request.upgrade.is_some());
            (work.sent, work.received) = (0, false);
            let proxy = self.shared.settings.proxy.as_ref().filter(|_| !target.secure);
            work.request.encode(target, proxy, &mut head);
            work.request.waits_for_continue()
        };
        let _ = reactor[conn].write(&head); // It fits into an empty outbox.
        if head.capacity() <= HEAD_KEPT_BYTES {
            head.clear();
            self.shared.head.set(head);
        }
        if self.control.paused.get() {
            reactor[conn].pause();
        }
        if waits {
            return self.control.enter(reactor, call, CallState::Continue);
        }
        self.start_body(reactor, call, conn);
    }
}
