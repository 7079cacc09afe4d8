//! A call sends the body of its request.
//!
//! Knows the transfer; the framing is in `upload.rs`.
//!
//! # Read next
//! `receive_response.rs`: the other direction.

use std::rc::Rc;

use super::call::{Call, CallState, LOOK};
use super::client_request::RequestBody;
use super::client_response::CallEvent;
use super::error::Error;
use super::transfer::Transfer;
use crate::net::{Conn, Pressure};
use crate::reactor::{Context, SourceId};

/// Bytes of a body that are handed to the connection at a time.
const PIECE_BYTES: usize = 64 * 1024;

impl<S: 'static> Transfer<S> {
    /// Begins to send the body.
    pub(super) fn start_body(
        &self,
        reactor: &mut Context<S>,
        call: SourceId<Call>,
        conn: SourceId<Conn>,
    ) {
        let Some(connection) = reactor.get_mut(conn) else { return };
        let mut upload = self.control.upload.borrow_mut();
        if upload.open {
            return;
        }
        upload.open(connection);
        let drained_due = upload.drained_due;
        drop(upload);
        self.control.enter(reactor, call, CallState::Send);
        self.feed(reactor, call, conn);
        if drained_due {
            reactor.send_message(call, LOOK);
        }
    }

    /// Hands a body that was given whole to the connection, as much as it takes; notes the end.
    pub(super) fn feed(
        &self,
        reactor: &mut Context<S>,
        call: SourceId<Call>,
        conn: SourceId<Conn>,
    ) {
        let Some(connection) = reactor.get_mut(conn) else { return };
        let work = &mut *self.work.borrow_mut();
        let upload = self.control.upload.borrow();
        if !upload.open {
            return;
        }
        let mut done = upload.is_done();
        if let RequestBody::Bytes(bytes) = &work.request.body {
            for piece in bytes[work.sent..].chunks(PIECE_BYTES) {
                let pressure = connection.write(piece);
                if pressure.is_taken() {
                    work.sent += piece.len();
                }
                if pressure != Pressure::Below {
                    break;
                }
            }
            done &= work.sent == bytes.len();
        }
        if done && self.control.state.get() == CallState::Send {
            self.control.enter(reactor, call, CallState::Head);
        }
    }

    /// The caller has ended the body, or is due to get `Drained`.
    pub(super) fn look_at_upload(
        self: &Rc<Self>,
        reactor: &mut Context<S>,
        state: &mut S,
        call: SourceId<Call>,
    ) {
        if self.control.upload.borrow().is_short {
            let why = "its body is shorter than its length".into();
            let error = Error::Request { url: self.url(), why };
            return self.finish(reactor, state, call, Err(error));
        }
        let Some(conn) = self.control.conn.get() else { return };
        self.feed(reactor, call, conn);
        let has_room =
            reactor.get(conn).is_some_and(|c| c.unsent() <= c.limits().outbox_bytes_high);
        let mut upload = self.control.upload.borrow_mut();
        if upload.open && upload.drained_due && has_room {
            upload.drained_due = false;
            drop(upload);
            self.deliver(reactor, state, call, CallEvent::Drained);
        }
    }
}
