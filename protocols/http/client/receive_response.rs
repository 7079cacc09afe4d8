//! A call receives its response.
//!
//! Knows the transfer; the protocol is in `reader.rs`.
//!
//! # Read next
//! `redirect.rs`: a response that leads to another request.

use std::rc::Rc;

use http::StatusCode;

use super::call::{Call, CallState};
use super::client_request::{ClientRequest, RequestBody};
use super::client_response::{CallEvent, ClientResponseHead};
use super::error::Error;
use super::reader::Step;
use super::transfer::Transfer;
use crate::net::{Conn, Event, Reason};
use crate::protocols::http::Refusal;
use crate::protocols::http::framing::Framing;
use crate::protocols::http::head::{self, ResponseHead};
use crate::reactor::{Context, SourceId};

/// Bytes of a redirect's own body that are read so that its connection can be used again. 64 KiB.
const SKIPPED_BYTES_MAX: usize = 64 * 1024;

impl<S: 'static> Transfer<S> {
    /// The connection that carries this call has an event.
    pub(super) fn on_conn(
        self: &Rc<Self>,
        reactor: &mut Context<S>,
        state: &mut S,
        ids: (SourceId<Call>, SourceId<Conn>),
        event: Event<'_>,
    ) {
        let (call, conn) = ids;
        match event {
            Event::Data(bytes) => self.read(reactor, state, ids, bytes),
            Event::Drained => {
                self.feed(reactor, call, conn);
                let drained_due = std::mem::take(&mut self.control.upload.borrow_mut().drained_due);
                if drained_due && !self.deliver(reactor, state, call, CallEvent::Drained) {
                    self.drop_connection(reactor);
                }
            }
            // `Closed` will report that, and soon: the server will not respond to unsent bytes.
            Event::Eof if reactor.get(conn).is_some_and(Conn::is_cut) => {
                let conn = &mut reactor[conn];
                if conn.unsent() > 0 { conn.abort() } else { conn.close() }
            }
            Event::Eof => {
                let rest = reactor.get(conn).map_or(&[][..], |conn| conn.backlog());
                let finished = self.work.borrow_mut().reader.finish(rest);
                match finished {
                    Ok(true) => self.complete(reactor, state, ids, false),
                    Ok(false) => self.lose(reactor, state, call, Reason::Finished),
                    Err(refusal) => self.refuse(reactor, state, call, refusal),
                }
            }
            Event::Closed(reason) => self.lose(reactor, state, call, reason),
        }
    }

    /// Takes in bytes of the response.
    fn read(
        self: &Rc<Self>,
        reactor: &mut Context<S>,
        state: &mut S,
        ids: (SourceId<Call>, SourceId<Conn>),
        mut rest: &[u8],
    ) {
        let (call, conn) = ids;
        self.work.borrow_mut().received = true;
        if self.control.state.get() == CallState::Body {
            self.control.since.set(reactor.stamp()); // Pieces of a head do not renew its time.
        }
        loop {
            if self.control.paused.get() && !self.work.borrow().reader.is_done() {
                return reactor[conn].unread(rest.len());
            }
            let mut room = head::room();
            let step = self.work.borrow_mut().reader.step(rest, &mut room);
            let (used, step) = match step {
                Ok(step) => step,
                Err(refusal) => return self.refuse(reactor, state, call, refusal),
            };
            rest = &rest[used..];
            let goes_on = match step {
                Step::More => return reactor[conn].unread(rest.len()),
                Step::Interim(status) => {
                    if status == StatusCode::CONTINUE {
                        self.start_body(reactor, call, conn);
                    }
                    true
                }
                Step::Head(head) if head.status == StatusCode::SWITCHING_PROTOCOLS => {
                    return self.switch(reactor, state, call, &head, rest);
                }
                Step::Head(head) => self.on_head(reactor, state, call, &head),
                Step::Data(bytes) => match self.skips(bytes.len()) {
                    None => self.deliver(reactor, state, call, CallEvent::Data(bytes)),
                    Some(true) => true,
                    Some(false) => return self.complete(reactor, state, ids, false),
                },
                Step::End => return self.complete(reactor, state, ids, rest.is_empty()),
            };
            if !goes_on {
                return self.drop_connection(reactor);
            }
        }
    }

    /// The server speaks the other protocol from here on: the callback takes the connection, or the
    /// call fails.
    fn switch(
        self: &Rc<Self>,
        reactor: &mut Context<S>,
        state: &mut S,
        call: SourceId<Call>,
        head: &ResponseHead<'_>,
        behind: &[u8],
    ) {
        *self.control.behind.borrow_mut() = Some(behind.to_vec());
        if self.on_head(reactor, state, call, head) {
            let why = Refusal::bad("its connection was not taken over");
            self.refuse(reactor, state, call, why);
        } else if self.control.behind.take().is_some() {
            self.drop_connection(reactor); // The call was cancelled.
        }
    }

    fn refuse(
        &self,
        reactor: &mut Context<S>,
        state: &mut S,
        call: SourceId<Call>,
        refusal: Refusal,
    ) {
        let error = Error::Refused { url: self.url(), refusal };
        self.finish(reactor, state, call, Err(error));
    }

    /// If this is the body of a redirect: true while it is still worth reading.
    fn skips(&self, bytes: usize) -> Option<bool> {
        let work = &mut *self.work.borrow_mut();
        work.next.as_ref()?;
        work.skipped += bytes;
        Some(work.skipped <= SKIPPED_BYTES_MAX)
    }

    /// The head is there. Returns true if the call goes on.
    fn on_head(
        self: &Rc<Self>,
        reactor: &mut Context<S>,
        state: &mut S,
        call: SourceId<Call>,
        head: &ResponseHead<'_>,
    ) -> bool {
        self.control.enter(reactor, call, CallState::Body);
        match self.follow_up(head) {
            Ok(Some(next)) => {
                self.work.borrow_mut().next = Some(next);
                return true;
            }
            Ok(None) => {}
            Err(why) => {
                let error = Error::Redirect { url: self.url(), why: why.into() };
                self.finish(reactor, state, call, Err(error));
                return false;
            }
        }
        let body_bytes = match head.body {
            Framing::Length(length) => Some(length),
            _ => None,
        };
        let (status, version, headers) = (head.status, head.version, head.headers);
        let head = ClientResponseHead { status, version, headers, body_bytes };
        self.deliver(reactor, state, call, CallEvent::Head(&head))
    }

    /// The next request, if this response is not the last.
    fn follow_up(&self, head: &ResponseHead<'_>) -> Result<Option<ClientRequest>, String> {
        if head.status == StatusCode::EXPECTATION_FAILED
            && let Some(request) = self.unexpecting()
        {
            return Ok(Some(request));
        }
        self.redirect(head)
    }

    /// The same request without `Expect`, which a proxy on the way does not know (RFC 9110,
    /// 10.1.1); if it had one, and all of its body is still there.
    fn unexpecting(&self) -> Option<ClientRequest> {
        let work = self.work.borrow();
        let is_there = self.is_unsent() || !matches!(work.request.body, RequestBody::Stream(_));
        let again = work.request.waits_for_continue() && is_there;
        again.then(|| ClientRequest { expects_continue: false, ..work.request.clone() })
    }

    /// The next request, if the response is a redirect and the caller wants to follow it.
    fn redirect(&self, head: &ResponseHead<'_>) -> Result<Option<ClientRequest>, String> {
        let work = self.work.borrow();
        let status = head.status.as_u16();
        let location = head.headers.get_bytes("location");
        let (301 | 302 | 303 | 307 | 308, Some(location)) = (status, location) else {
            return Ok(None);
        };
        match (&work.target, work.redirects_max, work.request.redirects_max) {
            (None, ..) | (_, 0, _) => Ok(None),
            (_, most, 0) => Err(format!("more than {most} redirects")),
            (Some(target), ..) => {
                work.request.redirected(target, status, location, self.is_unsent()).map(Some)
            }
        }
    }

    /// Returns true if nothing of the body has gone to the connection.
    fn is_unsent(&self) -> bool {
        !self.control.upload.borrow().open
    }
}
