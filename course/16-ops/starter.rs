//! When may it go down? Who is let in, why it still runs, and how it ends.
//!
//! # Contract
//! * `accept` lets in all who wait, and numbers them from 0 on. With `limit` connections one more is
//!   closed at once, and counted as refused. Who has gone in the meantime stops nobody.
//! * Any other error concerns all who wait: it gives up the spare, closes all of them, counts them as
//!   refused, and takes a spare again. Then it rests: for `REST`, `accept` does not ask the door.
//! * `drain` closes the door and the spare, and gives the connections that are owed no answer, to be
//!   closed now. The others are closed with their answer: then `answered` is true. Who is left at the
//!   deadline is given by `expire`, and aborted. A second `drain` can only make the deadline earlier.
//! * `report` comes when a drain has no connection left. Each counts once: idle when the drain began,
//!   finished if it has gone by itself or with its answer, or aborted.
//! * `wake_at` is when there is something to do without an event: the end of the rest, or the deadline
//!   of a drain that has connections left.
//! * `why_alive` names what holds the loop: the door, and each connection. With nothing it may end.

use std::collections::BTreeMap;
use std::time::Duration;

use kit::{Door, Report};

/// How long it rests. 100 ms: in this time some clients may leave.
pub const REST: Duration = Duration::from_millis(100);

pub struct Ops<D: Door> {
    door: Option<D>,
    limit: usize,
    next: usize,
    /// For each connection: true while it is owed an answer.
    conns: BTreeMap<usize, bool>,
    pub refused: u64,
}

impl<D: Door> Ops<D> {
    pub fn new(door: D, limit: usize) -> Ops<D> {
        Ops { door: Some(door), limit, next: 0, conns: BTreeMap::new(), refused: 0 }
    }

    pub fn accept(&mut self, _now: Duration) -> Vec<(usize, D::Socket)> {
        let mut came = Vec::new();
        let Some(door) = &mut self.door else { return came };
        // Yours: the limit. Then: which errors are there, and what does each of them mean?
        while let Ok(socket) = door.accept() {
            self.conns.insert(self.next, false);
            came.push((self.next, socket));
            self.next += 1;
        }
        came
    }

    /// A request has come: this connection is owed an answer.
    pub fn asked(&mut self, conn: usize) {
        self.conns.entry(conn).and_modify(|is_owed| *is_owed = true);
    }

    /// It has got its answer. Returns true if it is to be closed now.
    pub fn answered(&mut self, conn: usize) -> bool {
        self.conns.entry(conn).and_modify(|is_owed| *is_owed = false);
        false
    }

    /// It has gone. Returns true if it was there.
    pub fn gone(&mut self, conn: usize) -> bool {
        self.conns.remove(&conn).is_some()
    }

    pub fn drain(&mut self, _now: Duration, _grace: Duration) -> Vec<usize> {
        self.door = None;
        std::mem::take(&mut self.conns).into_keys().collect()
    }

    pub fn expire(&mut self, _now: Duration) -> Vec<usize> {
        Vec::new()
    }

    pub fn report(&self) -> Option<Report> {
        None
    }

    pub fn wake_at(&self) -> Option<Duration> {
        None
    }

    pub fn why_alive(&self) -> Vec<String> {
        Vec::new()
    }
}
