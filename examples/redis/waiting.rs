//! BLPOP and BRPOP: a reply that is parked until there is something to reply.
//!
//! The client is not asked to wait, and nothing blocks: its requests stay unread until its list
//! has an element, its time is up, or it goes.

use std::time::Duration;

use waterwheel::net::Conn;
use waterwheel::{Context, SourceId};

use super::commands::SYNTAX;
use super::db::{Bytes, Done, Key};
use super::resp::Replies;
use super::server::Server;
use super::session::{Session, Turn};

/// A client that waits for a list.
pub struct Waiter {
    pub conn: SourceId<Conn>,
    resp3: bool,
    at_front: bool,
}

/// BLPOP and BRPOP: takes an element now, or parks the client until there is one.
pub fn await_list(session: &mut Session, turn: &mut Turn<'_>) -> Done {
    let [name, keys @ .., timeout] = turn.args else { return Err(SYNTAX) };
    let seconds = std::str::from_utf8(timeout).ok().and_then(|text| text.parse::<f64>().ok());
    let timeout = match seconds {
        Some(seconds) if seconds < 0.0 => return Err("ERR timeout is negative"),
        Some(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        None => None,
    }
    .ok_or("ERR timeout is not a float or out of range")?;
    let at_front = name.eq_ignore_ascii_case(b"blpop");
    for key in keys {
        if let Some(item) = turn.server.pop(key, at_front)? {
            turn.server.replies.array(2);
            turn.server.replies.string(key);
            turn.server.replies.string(&item);
            return Ok(());
        }
    }
    if session.executes {
        turn.server.replies.null_array();
        return Ok(());
    }
    turn.server.block(turn.reactor, (turn.conn, session.resp3), (keys, at_front), timeout);
    Ok(())
}

impl Server {
    /// Takes an element from one end of a list.
    pub fn pop(&mut self, key: &[u8], at_front: bool) -> Done<Option<Bytes>> {
        if self.db.list(key)?.is_none() {
            return Ok(None);
        }
        self.db.edit_list(key, |list, change| {
            let item = if at_front { list.pop_front() } else { list.pop_back() };
            item.iter().for_each(|item| change.removed(item.len()));
            Ok(item)
        })
    }

    #[inline]
    pub fn is_blocked(&self, conn: SourceId<Conn>) -> bool {
        !self.blocked.is_empty() && self.blocked.contains_key(&conn)
    }

    /// Parks a client until one of these lists has an element, or the time is up; zero is without
    /// end.
    pub fn block(
        &mut self,
        reactor: &mut Context<Server>,
        (conn, resp3): (SourceId<Conn>, bool),
        (keys, at_front): (&[&[u8]], bool),
        timeout: Duration,
    ) {
        let timer = (!timeout.is_zero()).then(|| {
            reactor.after(timeout, move |reactor, server| {
                let mut replies = Replies { resp3, ..Replies::default() };
                replies.null_array();
                server.unblock(reactor, conn);
                let _ = conn.write(reactor, &replies.bytes);
            })
        });
        let keys: Vec<Key> = keys.iter().map(|key| Key::from(*key)).collect();
        for key in &keys {
            self.db.awaited.insert(key.clone());
            self.waiting.entry(key.clone()).or_default().push_back(Waiter {
                conn,
                resp3,
                at_front,
            });
        }
        self.blocked.insert(conn, (keys, timer));
    }

    /// Ends the wait of a client, if it waits. Its next request is done in the next turn.
    pub fn unblock(&mut self, reactor: &mut Context<Server>, conn: SourceId<Conn>) {
        let Some((keys, timer)) = self.blocked.remove(&conn) else { return };
        for key in keys {
            let Some(waiters) = self.waiting.get_mut(&key) else { continue };
            waiters.retain(|waiter| waiter.conn != conn);
            if waiters.is_empty() {
                self.waiting.remove(&key);
                self.db.awaited.remove(&key);
            }
        }
        timer.map(|timer| reactor.cancel(timer));
        conn.nudge(reactor);
    }

    /// Gives elements that have come to those who wait for them, in the order in which they came.
    pub fn serve_waiting(&mut self, reactor: &mut Context<Server>) {
        for key in std::mem::take(&mut self.db.filled) {
            while let Some(&Waiter { conn, resp3, at_front }) =
                self.waiting.get(&key).and_then(|waiters| waiters.front())
            {
                // One whose end is known, and not yet met, must not get what others wait for.
                if conn.is_closing(reactor) {
                    self.unblock(reactor, conn);
                    continue;
                }
                let Ok(Some(item)) = self.pop(&key, at_front) else { break };
                let mut replies = Replies { resp3, ..Replies::default() };
                replies.array(2);
                replies.string(&key);
                replies.string(&item);
                self.unblock(reactor, conn);
                let _ = conn.write(reactor, &replies.bytes);
            }
        }
        self.db.filled.clear(); // By these pops: nothing new has come.
    }
}
