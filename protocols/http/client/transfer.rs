//! A transfer: the course of one call, from the first connection to the last byte.
//!
//! Knows the loop, the pool and the protocol's two sides, `client_request.rs` and `reader.rs`.
//!
//! ```text
//!   Queue ──▶ Connect ──▶ [Continue] ──▶ Send ──▶ Head ──▶ Body ──▶ End
//!     └───── a connection that idled ─────▶┘  ◀─────────────┘ redirect
//! ```
//!
//! A connection's handler is a [`PooledConn`] (`pooled_conn.rs`): it passes events on to the
//! transfer that uses it now; while it is idle there is none. `send_body.rs` and
//! `receive_response.rs` handle the events.
//!
//! # Rules
//! 1. One of `End` and `Failed` is delivered, once, and is the last event; the call's id is stale
//!    by then. A call that was cancelled, or dropped with the loop or after a panic, gets no event.
//! 2. A call that fails over a connection that had idled, before a byte of the response came, is
//!    made again, once, over a new one, if it is one that may be made twice.
//! 3. A response is delivered as it comes, also while the request is still being sent. When it is
//!    whole the call has ended; a connection that still has something to send is closed then.
//!
//! # Read next
//! `checkout.rs`: how it gets a connection.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use super::Shared;
use super::call::{ADMITTED, BROKEN, Call, CallState, Control, LOOK};
use super::client_request::{ClientRequest, RequestBody};
use super::client_url::ClientUrl;
use super::deliver::OnEvent;
use super::error::{CallStage, Error};
use super::pooled_conn::PooledConn;
use super::reader::Reader;
use super::upload::Upload;
use crate::net::{Conn, Reason};
use crate::reactor::{Context, Options, Place, Readiness, SourceId};
use crate::timers::Tick;

/// The work of one call. It may use several connections, one after another.
pub(super) struct Transfer<S: 'static> {
    pub(super) shared: Rc<Shared<S>>,
    pub(super) control: Rc<Control>,
    pub(super) work: RefCell<Work<S>>,
    /// Taken out while it runs.
    pub(super) on_event: RefCell<Option<OnEvent<S>>>,
    /// Where the program made the call: traces name this place for its connection, too.
    pub(super) place: Place,
}

pub(super) struct Work<S: 'static> {
    pub(super) request: ClientRequest,
    /// `None` if the request is not valid; then `failed` has the error.
    pub(super) target: Option<ClientUrl>,
    pub(super) reader: Reader,
    pub(super) pooled: Weak<PooledConn<S>>,
    /// The host of its last connection, as the pool's key.
    pub(super) place: Option<Rc<str>>,
    /// How many bytes of a body that was given whole were handed to the connection.
    pub(super) sent: usize,
    /// True if its connection was idle before.
    pub(super) reused: bool,
    /// True if something has come over this connection.
    pub(super) received: bool,
    /// True if the call is made a second time: over a new connection, and not a third time.
    pub(super) again: bool,
    /// The next request of this call, to be sent when the present response is read.
    pub(super) next: Option<ClientRequest>,
    pub(super) skipped: usize,
    pub(super) redirects_max: u32,
    /// To be delivered in the next turn.
    pub(super) failed: Option<Error>,
}

impl<S: 'static> Work<S> {
    fn new(
        request: ClientRequest,
        target: Option<ClientUrl>,
        failed: Option<Error>,
        shared: &Shared<S>,
    ) -> Work<S> {
        Work {
            reader: Reader::new(request.method.clone(), shared.limits.heads()),
            redirects_max: request.redirects_max,
            request,
            target,
            pooled: Weak::new(),
            place: None,
            sent: 0,
            reused: false,
            received: false,
            again: false,
            next: None,
            skipped: 0,
            failed,
        }
    }
}

/// Begins a call. No callback comes before the next turn.
#[track_caller]
pub(super) fn begin<S: 'static>(
    shared: &Rc<Shared<S>>,
    reactor: &mut Context<S>,
    request: ClientRequest,
    on_event: OnEvent<S>,
) -> SourceId<Call> {
    let (url, target, failed) = match request.check() {
        Ok(target) => (target.url().clone(), Some(target), None),
        Err(error) => (error.url().unwrap_or("").into(), None, Some(error)),
    };
    let timeout = request.timeout.or(shared.limits.total_timeout);
    let until = timeout.map_or(Tick::NEVER, |timeout| reactor.tick_after(timeout));
    let (reaper, limits) = (shared.reaper(reactor), shared.limits.clone());
    let since = reactor.stamp();
    let control = Rc::new(Control::new(url, &request.body, since, until, limits, reaper));
    let transfer = Rc::new(Transfer {
        shared: shared.clone(),
        control: control.clone(),
        work: RefCell::new(Work::new(request, target, failed, shared)),
        on_event: RefCell::new(Some(on_event)),
        place: Place::caller(),
    });
    let own = transfer.clone();
    let on_call = move |reactor: &mut Context<S>, state: &mut S, call, ready| {
        own.on_call(reactor, state, call, ready);
    };
    let call = reactor.try_own(Call { control }, Options::default(), on_call);
    let call = call.unwrap_or_else(|error| panic!("{error}"));
    transfer.get_connection(reactor, call);
    call
}

impl<S: 'static> Transfer<S> {
    /// The call's own source is called.
    fn on_call(
        self: &Rc<Self>,
        reactor: &mut Context<S>,
        state: &mut S,
        call: SourceId<Call>,
        ready: Readiness,
    ) {
        if ready.has_message::<Call>(BROKEN) {
            reactor.remove(call);
            return;
        }
        let failed = self.work.borrow_mut().failed.take();
        if let Some(error) = failed {
            return self.finish(reactor, state, call, Err(error));
        }
        if ready.has_message::<Call>(ADMITTED) && self.control.state.get() == CallState::Queue {
            return self.get_connection(reactor, call);
        }
        if ready.has_message::<Call>(LOOK) {
            self.look_at_upload(reactor, state, call);
        }
        if ready.contains(Readiness::DEADLINE) && reactor.contains(call) {
            self.on_deadline(reactor, state, call);
        }
    }

    fn on_deadline(self: &Rc<Self>, reactor: &mut Context<S>, state: &mut S, call: SourceId<Call>) {
        let tick = reactor.tick();
        let conn = self.control.conn.get();
        match self.control.is_up(tick) {
            None => self.control.arm(reactor, call),
            Some(CallStage::Send) => {
                // The server has not sent 100: it may not know that (RFC 9110, 10.1.1).
                if let Some(conn) = conn {
                    self.start_body(reactor, call, conn);
                }
            }
            Some(CallStage::Head | CallStage::Body)
                if conn.and_then(|conn| reactor.get(conn)).is_some_and(|c| c.unsent() > 0) =>
            {
                // The request is still being sent: until then the connection's timeout counts.
                self.control.since.set(reactor.stamp());
                self.control.arm(reactor, call);
            }
            Some(stage) => {
                let error = Error::Timeout { url: self.url(), stage };
                self.finish(reactor, state, call, Err(error));
            }
        }
    }

    /// The response is whole. `clean` is true if nothing has come behind it.
    pub(super) fn complete(
        self: &Rc<Self>,
        reactor: &mut Context<S>,
        state: &mut S,
        (call, conn): (SourceId<Call>, SourceId<Conn>),
        clean: bool,
    ) {
        let (pooled, is_sent, keeps) = {
            let work = self.work.borrow();
            let sent_all =
                !matches!(&work.request.body, RequestBody::Bytes(bytes) if work.sent < bytes.len());
            let keeps = work.reader.keeps_alive() && !work.request.closes();
            (work.pooled.upgrade(), sent_all, keeps)
        };
        let upload = self.control.upload.borrow();
        let is_sent = is_sent && upload.open && upload.is_done();
        drop(upload);
        let is_quiet = reactor.get_mut(conn).is_some_and(|conn| conn.is_quiet(false));
        match (pooled, self.control.step.take()) {
            (Some(pooled), Some(guard)) if clean && keeps && is_sent && is_quiet => {
                self.control.conn.set(None);
                pooled.current.take();
                reactor[conn].resume(); // The caller may have paused it at the last byte.
                self.shared.keep_idle(reactor, conn, pooled, guard);
            }
            (_, guard) => {
                if let Some(guard) = guard {
                    self.control.step.put(guard);
                }
                if is_sent && is_quiet {
                    reactor[conn].announce_end();
                }
                self.drop_connection(reactor);
            }
        }
        let next = self.work.borrow_mut().next.take();
        match next {
            Some(request) => self.start_over(reactor, state, call, request),
            None => self.finish(reactor, state, call, Ok(())),
        }
    }

    /// Sends the next request of the call: to the target of a redirect, or the same one in another
    /// form.
    fn start_over(
        self: &Rc<Self>,
        reactor: &mut Context<S>,
        state: &mut S,
        call: SourceId<Call>,
        request: ClientRequest,
    ) {
        let target = match request.check() {
            Ok(target) => target,
            Err(error) => return self.finish(reactor, state, call, Err(error)),
        };
        *self.control.url.borrow_mut() = target.url().clone();
        if !matches!(request.body, RequestBody::Stream(_)) {
            *self.control.upload.borrow_mut() = Upload::new(&request.body);
        } // Otherwise nothing was sent: the written bytes wait for the next connection.
        {
            let work = &mut *self.work.borrow_mut();
            (work.request, work.target) = (request, Some(target));
            (work.again, work.skipped) = (false, 0);
        }
        self.get_connection(reactor, call);
    }

    /// The connection has ended before the response was whole.
    pub(super) fn lose(
        self: &Rc<Self>,
        reactor: &mut Context<S>,
        state: &mut S,
        call: SourceId<Call>,
        reason: Reason,
    ) {
        let timed_out = matches!(reason, Reason::WriteTimeout);
        let again = {
            let work = &mut *self.work.borrow_mut();
            let may = work.reused && !work.again && !work.received && work.request.is_repeatable();
            work.again |= may && !timed_out;
            may && !timed_out
        };
        self.drop_connection(reactor);
        let next = self.work.borrow_mut().next.take();
        if let Some(request) = next {
            // The rest of the redirect is not needed.
            return self.start_over(reactor, state, call, request);
        }
        if again {
            *self.control.upload.borrow_mut() = Upload::new(&self.work.borrow().request.body);
            return self.get_connection(reactor, call);
        }
        let stage = self.control.state.get().stage();
        self.finish(reactor, state, call, Err(Error::Lost { url: self.url(), stage, reason }));
    }

    /// Drops the connection, or the attempt to make one.
    pub(super) fn drop_connection(&self, reactor: &mut Context<S>) {
        if let Some(pooled) = self.work.borrow().pooled.upgrade() {
            pooled.current.take();
        }
        self.control.conn.set(None);
        if let Some(id) = self.control.step.release() {
            reactor.remove(id);
        }
    }

    pub(super) fn url(&self) -> Box<str> {
        (&**self.control.url.borrow()).into()
    }
}
