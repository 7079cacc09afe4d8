//! How a response is written: head and body in one write, a large body as fast as its client reads.
//!
//! Knows the exchange and its connection.
//!
//! # Read next
//! `sender.rs`: responses that come in pieces.

use http::StatusCode;

use super::exchange::{Exchange, RequestFlags, ResponseState};
use crate::net::Conn;
use crate::net::Pressure;
use crate::protocols::http::date;
use crate::protocols::http::response::{Coding, Connection, Response};
use crate::reactor::Context;

/// A body, or a piece of one, up to this long is copied behind its head, so that both leave in one
/// write. A longer one is not copied. 16 KiB.
pub(super) const COPIED_BYTES: usize = 16 * 1024;
/// A large body is offered to the kernel in pieces of this size, of which one at most is copied.
const PIECE_BYTES: usize = 128 * 1024;
/// Pieces that leave in one go, as long as the kernel takes them. 8: a mebibyte.
const PIECES_PER_TURN: usize = 8;
/// The buffer for heads is not kept with more capacity than this. 64 KiB: one large head must not
/// cost memory for good.
const HEAD_KEPT_BYTES: usize = 64 * 1024;

impl Exchange {
    /// Sends a whole response. Returns true if the client was still there.
    pub(super) fn respond<S: 'static>(
        &self,
        reactor: &mut Context<S>,
        mut response: Response,
    ) -> bool {
        if self.response.get() != ResponseState::Pending {
            return false;
        }
        if !response.is_final() {
            response = self.replacement(&response);
        }
        let length = response.body.len();
        let bodiless = self.bodiless(&response);
        let coding = bodiless.unwrap_or(Coding::Length(length as u64));
        let has_body = bodiless.is_none() && !self.flags.get().is_head;
        let copied =
            if has_body && length <= COPIED_BYTES { response.body.as_slice() } else { &[] };
        let date = self.common.dates.get(reactor);
        let now = reactor.stamp();
        let Some(conn) = self.conn(reactor) else {
            self.response.set(ResponseState::Dead);
            return false;
        };
        if !self.write_head(conn, &response, coding, copied, &date) {
            return false;
        }
        if !has_body || length <= COPIED_BYTES {
            self.finish(conn, now);
            self.wake_conn();
        } else {
            self.response.set(ResponseState::Sending);
            let bytes = response.body.owned_bytes();
            self.rest.set(Some(Box::new((response.body, 0))));
            self.send_rest(reactor);
            if let Some(id) = self.conn.get()
                && self.response.get() == ResponseState::Sending
            {
                id.charge(reactor, bytes);
            }
        }
        true
    }

    /// Writes the head of a response and `body` behind it. Returns false if that is refused.
    pub(super) fn write_head(
        &self,
        conn: &mut Conn,
        response: &Response,
        coding: Coding,
        body: &[u8],
        date: &date::DateLine,
    ) -> bool {
        let mut flags = self.flags.get();
        flags.keep_alive &= !response.close
            && !conn.is_draining()
            && coding != Coding::UntilClose
            && self.body_left.get() <= self.common.limits.discard_bytes_max;
        self.flags.set(flags);
        let connection = match flags {
            RequestFlags { keep_alive: false, .. } => Connection::Close,
            RequestFlags { is_http10: true, .. } => Connection::KeepAlive,
            _ => Connection::Usual,
        };
        self.put_head(conn, response, coding, connection, body, date)
    }

    /// [`write_head`](Exchange::write_head), with the value for the field `Connection`.
    #[inline]
    pub(super) fn put_head(
        &self,
        conn: &mut Conn,
        response: &Response,
        coding: Coding,
        connection: Connection,
        body: &[u8],
        date: &date::DateLine,
    ) -> bool {
        let mut out = self.common.head.take();
        response.write_head(&mut out, coding, connection, date);
        out.extend_from_slice(body);
        let pressure = conn.write(&out);
        out.clear();
        if out.capacity() <= HEAD_KEPT_BYTES {
            self.common.head.set(out);
        }
        self.blocked.set(pressure == Pressure::AboveHigh);
        if !pressure.is_taken() {
            conn.abort(); // The head exceeds the outbox, or the client has gone and `Closed` comes.
            self.response.set(ResponseState::Dead);
        }
        pressure.is_taken()
    }

    /// The response in place of one that cannot be sent: that has a bad field, or is not final
    /// (1xx).
    #[cold]
    pub(super) fn replacement(&self, response: &Response) -> Response {
        let why = match &response.bad {
            Some(field) => format!("the header field {field:?} cannot be sent"),
            None => format!("{} is no final response", response.code()),
        };
        log::error!("answering {} with 500: {why}", self.peer());
        StatusCode::INTERNAL_SERVER_ERROR.into()
    }

    /// Sends more of a large body, and finishes at its end.
    pub(super) fn send_rest<S: 'static>(&self, reactor: &mut Context<S>) {
        let now = reactor.stamp();
        let Some(mut rest) = self.rest.take() else { return };
        let Some(conn) = self.conn(reactor) else { return };
        let (body, sent) = &mut *rest;
        for _ in 0..PIECES_PER_TURN {
            let left = &body.as_slice()[*sent..];
            if left.is_empty() {
                conn.charge(0);
                self.finish(conn, now);
                return self.wake_conn();
            }
            // Not more, so that `Drained` comes when the kernel has taken these bytes.
            if conn.unsent() > conn.limits().outbox_bytes_low {
                break;
            }
            let room = conn.limits().outbox_bytes_max.saturating_sub(conn.unsent());
            if room == 0 {
                conn.ask_for_drained_when_empty();
                break;
            }
            let piece = &left[..left.len().min(PIECE_BYTES).min(room)];
            match conn.put(piece, 1) {
                Pressure::Closed => return conn.abort(),
                // The budget that connections share has no room for the piece.
                Pressure::Refused => break,
                Pressure::Below | Pressure::AboveHigh => *sent += piece.len(),
            }
        }
        conn.ask_for_drained(); // It goes on then.
        self.rest.set(Some(rest));
    }
}
