//! What comes from files, and what goes to the next collector.

use std::io;
use std::mem;
use std::time::Duration;

use waterwheel::net::{Conn, Event, Pressure, Stream};
use waterwheel::patterns::Backoff;
use waterwheel::{Context, SourceId};

use super::follow::Behind;
use super::keep::position;
use super::protocol;
use super::server::{Held, LOOK_EVERY, RETRY_EVERY, Server, To};
use super::spool::record;

/// An `ack` with an id of ours is shorter.
const ACK_BYTES_MAX: usize = 64;

impl Server {
    pub fn pump(&mut self, reactor: &mut Context<Server>) {
        let To::Next(dial) = &self.to else { return };
        let Some(conn) = self.link else {
            let has_some = self.spool.stored > self.spool.first;
            if has_some && !mem::replace(&mut self.is_dialing, true) {
                dial.clone()(reactor);
            }
            return;
        };
        let mut frame = Vec::new();
        while let Some(message) = self.spool.to_send() {
            frame.clear();
            protocol::write_frame(message, self.spool.name, self.spool.sent, &mut frame);
            let pressure = conn.write(reactor, &frame);
            self.spool.sent += u64::from(pressure.is_taken());
            if pressure != Pressure::Below {
                return; // `Drained` follows, or `Closed`.
            }
        }
    }

    pub fn linked(&mut self, reactor: &mut Context<Server>, result: io::Result<Stream>) {
        match result {
            Err(error) => {
                (self.say)(&format!("cannot reach the next collector: {error}"));
                self.dial_later(reactor);
            }
            Ok(stream) => {
                let conn =
                    stream.open(reactor, |reactor, server: &mut Server, conn, event| match event {
                        Event::Data(bytes) => server.acknowledged(reactor, conn, bytes),
                        Event::Drained => server.pump(reactor),
                        Event::Eof => {}
                        Event::Closed(_) => {
                            server.link = None;
                            server.dial_later(reactor);
                        }
                    });
                (self.link, self.spool.sent) = (Some(conn), self.spool.first);
                self.pump(reactor);
            }
        }
    }

    fn dial_later(&mut self, reactor: &mut Context<Server>) {
        self.is_dialing = true;
        let pause = self.pauses.next().unwrap_or(RETRY_EVERY);
        reactor.after(pause, |reactor, server: &mut Server| {
            server.is_dialing = false;
            server.pump(reactor);
        });
    }

    /// Lines `ack ID`, in the order of the messages.
    fn acknowledged(&mut self, reactor: &mut Context<Server>, conn: SourceId<Conn>, input: &[u8]) {
        let (mut rest, before) = (input, self.spool.first);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let text = std::str::from_utf8(&rest[..end]).ok();
            let id = text.and_then(|text| text.strip_prefix("ack ")?.parse::<u64>().ok());
            match id {
                Some(id) if id == self.spool.first && id < self.spool.sent => {
                    self.spool.forget(id + 1);
                }
                Some(id) if id < self.spool.first => {}
                _ => {
                    conn.abort(reactor); // It is no collector.
                    return;
                }
            }
            rest = &rest[end + 1..];
        }
        match rest.len() > ACK_BYTES_MAX {
            true => conn.abort(reactor),
            false => conn.unread(reactor, rest.len()),
        };
        let first = self.spool.first;
        if first == before {
            return;
        }
        self.pauses = pauses(self.spool.name);
        if self.journal.is_some() {
            self.log(reactor, &record(b'A', &[first], b""));
            self.wait(reactor, Held::Settled(first));
            self.release(reactor, self.done); // There is room again.
        } else {
            self.spool.settled = first;
            self.release(reactor, first);
        }
    }
}

pub fn pauses(seed: u64) -> Box<dyn Iterator<Item = Duration>> {
    Box::new(Backoff::new(u32::MAX).most(Duration::from_secs(5)).seed(seed).pauses())
}

impl Server {
    pub fn follow(&mut self, reactor: &mut Context<Server>, index: usize) {
        if self.is_full() {
            reactor.after(LOOK_EVERY, move |reactor, it: &mut Server| it.follow(reactor, index));
            return;
        }
        let Some(mut tail) = self.tails[index].take() else { return };
        let work = move || (tail.read(), tail);
        reactor.offload(work, move |reactor, server: &mut Server, done| {
            let Ok((read, mut tail)) = done else { return };
            let mut more = false;
            match read {
                Ok(piece) => {
                    let mut at = 0;
                    let is_end = piece.1 != Behind::More;
                    while let Some((line, used, _)) = protocol::line(&piece.0[at..], 0, is_end) {
                        server.take(reactor, line, None);
                        at += used;
                    }
                    more = tail.took(&piece, at);
                }
                Err(error) => {
                    (server.say)(&format!("cannot read {}: {error}", tail.path.display()))
                }
            }
            if server.positions[index].1 != tail.position {
                server.positions[index].1 = tail.position;
                if let To::Next(_) = server.to {
                    server.log(reactor, &position(&server.positions[index]));
                }
            }
            server.tails[index] = Some(tail);
            server.wait(reactor, Held::Tail(index, more));
        });
    }
}
