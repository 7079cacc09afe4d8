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
use std::io::ErrorKind;
use std::time::Duration;

use kit::{Door, Report};

/// How long it rests. 100 ms: in this time some clients may leave.
pub const REST: Duration = Duration::from_millis(100);

pub struct Ops<D: Door> {
    door: Option<D>,
    spare: Option<D::Spare>,
    limit: usize,
    next: usize,
    /// For each connection: true while it is owed an answer.
    conns: BTreeMap<usize, bool>,
    pub refused: u64,
    rest_until: Option<Duration>,
    /// The deadline of the drain, and its report so far.
    drain: Option<(Duration, Report)>,
}

impl<D: Door> Ops<D> {
    pub fn new(mut door: D, limit: usize) -> Ops<D> {
        let (spare, door, conns) = (door.spare().ok(), Some(door), BTreeMap::new());
        Ops { door, spare, limit, next: 0, conns, refused: 0, rest_until: None, drain: None }
    }

    pub fn accept(&mut self, now: Duration) -> Vec<(usize, D::Socket)> {
        let mut came = Vec::new();
        self.rest_until = self.rest_until.filter(|until| now < *until);
        let (Some(door), None) = (&mut self.door, self.rest_until) else { return came };
        loop {
            match door.accept() {
                Ok(_) if self.conns.len() >= self.limit => self.refused += 1,
                Ok(socket) => {
                    self.conns.insert(self.next, false);
                    came.push((self.next, socket));
                    self.next += 1;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return came,
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(_) => break,
            }
        }
        drop(self.spare.take());
        while door.accept().is_ok() {
            self.refused += 1; // Its socket has been closed, so there is room for the next one.
        }
        (self.spare, self.rest_until) = (door.spare().ok(), Some(now + REST));
        came
    }

    /// A request has come: this connection is owed an answer.
    pub fn asked(&mut self, conn: usize) {
        self.conns.entry(conn).and_modify(|is_owed| *is_owed = true);
    }

    /// It has got its answer. Returns true if it is to be closed now.
    pub fn answered(&mut self, conn: usize) -> bool {
        self.conns.entry(conn).and_modify(|is_owed| *is_owed = false);
        self.drain.is_some() && self.gone(conn)
    }

    /// It has gone. Returns true if it was there.
    pub fn gone(&mut self, conn: usize) -> bool {
        let was_there = self.conns.remove(&conn).is_some();
        if let Some((_, report)) = &mut self.drain {
            report.finished += usize::from(was_there);
        }
        was_there
    }

    pub fn drain(&mut self, now: Duration, grace: Duration) -> Vec<usize> {
        (self.door, self.spare, self.rest_until) = (None, None, None);
        if let Some((deadline, _)) = &mut self.drain {
            *deadline = (*deadline).min(now + grace);
            return Vec::new();
        }
        let connections = self.conns.len();
        let idle = self.conns.iter().filter(|conn| !conn.1).map(|conn| *conn.0).collect::<Vec<_>>();
        self.conns.retain(|_, is_owed| *is_owed);
        let report = Report { connections, idle: idle.len(), ..Report::default() };
        self.drain = Some((now + grace, report));
        idle
    }

    pub fn expire(&mut self, now: Duration) -> Vec<usize> {
        match &mut self.drain {
            Some((deadline, report)) if *deadline <= now => {
                report.aborted += self.conns.len();
                std::mem::take(&mut self.conns).into_keys().collect()
            }
            _ => Vec::new(),
        }
    }

    pub fn report(&self) -> Option<Report> {
        self.drain.filter(|_| self.conns.is_empty()).map(|(_, report)| report)
    }

    pub fn wake_at(&self) -> Option<Duration> {
        let deadline = self.drain.filter(|_| !self.conns.is_empty()).map(|drain| drain.0);
        self.rest_until.or(deadline)
    }

    pub fn why_alive(&self) -> Vec<String> {
        let door = self.door.iter().map(|_| "the door is open".to_owned());
        let conns = self.conns.iter().map(|(conn, is_owed)| {
            format!("connection {conn} is {}", if *is_owed { "owed an answer" } else { "open" })
        });
        door.chain(conns).collect()
    }
}
