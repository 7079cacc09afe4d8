//! Sending: from a payload to bytes in the outbox.
//!
//! Knows the connection's outbox, whose limits bound the bytes that wait.
//!
//! # Rules
//! 1. A frame is taken whole or not at all.
//! 2. A Close and the pong to the last ping are not lost if there is no room: they are pending, and
//!    sent when there is some. So a flood of pings makes no more pongs than the outbox's high-water
//!    mark has room for, and one.
//!
//! # Read next
//! `timeouts.rs`: the timeouts of a WebSocket.

use super::close::ClosePayload;
use super::frame::{Kind, Role, head};
use super::mask::{self, Mask};
use super::socket::{Pending, Socket};
use crate::net::{Conn, Pressure};
use crate::reactor::Context;

/// Bytes that are masked at a time, on the stack.
const MASKED_BYTES: usize = 4096;

/// Sends a whole message or a control frame.
#[inline]
pub(super) fn frame(socket: &Socket, conn: &mut Conn, kind: Kind, payload: &[u8]) -> Pressure {
    let mask = (socket.0.role == Role::Client).then(mask::fresh);
    let head = head(kind, payload.len(), mask);
    let pressure = match mask {
        Some(mask) => masked(conn, head.bytes(), mask, payload),
        None => conn.write_all(&[head.bytes(), payload]),
    };
    if pressure.is_taken() {
        socket.0.timeouts.wrote(head.bytes().len() + payload.len());
    }
    pressure
}

fn masked(conn: &mut Conn, head: &[u8], mut mask: Mask, payload: &[u8]) -> Pressure {
    if !conn.admits(head.len() + payload.len()) {
        return conn.refusal();
    }
    let mut taken = conn.write(head);
    let mut room = [0; MASKED_BYTES];
    for piece in payload.chunks(MASKED_BYTES) {
        let bytes = &mut room[..piece.len()];
        bytes.copy_from_slice(piece);
        mask = mask::apply(bytes, mask);
        taken = conn.write(bytes);
    }
    taken
}

/// Answers a ping with a pong, at once or when less is unsent.
pub(super) fn pong<S: 'static>(socket: &Socket, reactor: &mut Context<S>, payload: &[u8]) {
    let Some(conn) = socket.conn_mut(reactor) else { return };
    if conn.unsent() > conn.limits().outbox_bytes_high {
        conn.ask_for_drained();
    } else if frame(socket, conn, Kind::Pong, payload).is_taken() {
        *socket.0.pending.borrow_mut() = None; // The pong to an older ping would come behind it.
        return;
    }
    socket.0.pending.borrow_mut().get_or_insert_default().pong = Some(payload.into());
}

/// Sends a Close, at once or when there is room; `end` closes the connection behind it.
pub(super) fn close<S: 'static>(
    socket: &Socket,
    reactor: &mut Context<S>,
    payload: ClosePayload,
    end: bool,
) {
    let Some(conn) = socket.conn_mut(reactor) else { return };
    if frame(socket, conn, Kind::Close, payload.bytes()).is_taken() {
        *socket.0.pending.borrow_mut() = None; // A pong would come behind it.
        if end {
            conn.close();
        }
        return;
    }
    let pending = Pending { pong: None, close: Some(payload), end };
    *socket.0.pending.borrow_mut() = Some(Box::new(pending));
}

/// Closes the connection, behind a Close that is still pending.
pub(super) fn end<S: 'static>(socket: &Socket, reactor: &mut Context<S>) {
    match &mut *socket.0.pending.borrow_mut() {
        Some(pending) if pending.close.is_some() => pending.end = true,
        _ => {
            if let Some(conn) = socket.conn_mut(reactor) {
                conn.close();
            }
        }
    }
}

/// The outbox has room again: sends the pong or the Close that had none.
pub(super) fn send_pending<S: 'static>(socket: &Socket, reactor: &mut Context<S>) {
    let pending = socket.0.pending.borrow_mut().take();
    let Some(pending) = pending else { return };
    if let Some(payload) = pending.close {
        close(socket, reactor, payload, pending.end);
    } else if let Some(payload) = &pending.pong
        && let Some(conn) = socket.conn_mut(reactor)
        && !frame(socket, conn, Kind::Pong, payload).is_taken()
    {
        *socket.0.pending.borrow_mut() = Some(pending);
    }
}
