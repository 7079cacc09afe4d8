//! A client of the vault, from the end of the handshake on.
//!
//! The answer to a request may have to wait: for a worker, or until the peer has read earlier
//! bytes. Until then the requests behind it stay unread, so in the end the peer is slowed down:
//!
//! ```text
//!   Data ──▶ read: a frame ──▶ take ──▶ answered at once: the next frame
//!              ▲                └─────▶ in the middle: pause, the rest is unread
//!              └──resume── may_hear: nothing is due any more ◀── Drained, or a nudge
//! ```

use std::cell::Cell;
use std::mem;
use std::rc::{Rc, Weak};

use waterwheel::net::{Conn, Event, Pressure, Stream};
use waterwheel::{Context, SourceId};

use super::wire::{self, Kind};
use super::{Vault, cost};

/// Serves a client, over any transport, from the first frame on.
pub fn open(reactor: &mut Context<Vault>, mut stream: Stream) {
    stream.closes_itself(); // Its last word is Bye.
    let mut session = Session::default();
    stream.open(reactor, move |reactor, vault, id, event| match event {
        Event::Data(input) => session.hear(reactor, vault, id, input),
        Event::Drained => session.go_on(&mut reactor[id]),
        Event::Eof => session.end(&mut reactor[id]),
        Event::Closed(why) => log::debug!("{id:?}: {why}"),
    });
}

/// The unfinished work for a client.
#[derive(Default)]
enum Amid {
    #[default]
    Nothing,
    /// It sends a value.
    Put { name: String, value: Vec<u8> },
    /// A worker has its value.
    Work,
    /// It gets a value; so many bytes of it are sent. The vault may have another one since.
    Get { value: Weak<Vec<u8>>, at: usize },
}

#[derive(Default)]
struct Session {
    amid: Amid,
    /// Where a worker's result is put: the digest of a value that is kept, or why it is not.
    result: Rc<Cell<Option<Result<u64, String>>>>,
}

impl Session {
    /// Takes request after request, as long as there is nothing else to do first.
    fn hear(
        &mut self,
        reactor: &mut Context<Vault>,
        vault: &mut Vault,
        id: SourceId<Conn>,
        mut input: &[u8],
    ) {
        while self.may_hear(&mut reactor[id]) {
            let result = match wire::frame(input) {
                Ok(Some((Kind::Raw, _, used))) if matches!(self.amid, Amid::Nothing) => {
                    return hand_over(reactor, id, &input[used..]);
                }
                Ok(Some((kind, body, used))) => {
                    input = &input[used..];
                    self.take(reactor, vault, id, kind, body)
                }
                Ok(None) => {
                    let conn = &mut reactor[id];
                    conn.unread(input.len());
                    conn.resume();
                    return self.end_if_drained(conn, input);
                }
                Err(error) => Err(error.to_string()),
            };
            if let Err(why) = result {
                self.refuse(&mut reactor[id], &why);
                return;
            }
        }
        let conn = &mut reactor[id];
        conn.unread(input.len());
        conn.pause();
    }

    /// There is room to send more, and perhaps to read more.
    fn go_on(&mut self, conn: &mut Conn) {
        if self.may_hear(conn) {
            conn.resume();
        }
    }

    /// Sends what is due. Returns true if all of it is sent, and there is room for another answer;
    /// otherwise `Drained` follows, or a nudge.
    fn may_hear(&mut self, conn: &mut Conn) -> bool {
        if !conn.admits(wire::ANSWER_BYTES_MAX) {
            return false;
        }
        match &mut self.amid {
            Amid::Nothing | Amid::Put { .. } => return true,
            Amid::Work => {
                let Some(result) = self.result.take() else { return false };
                conn.release();
                let _ = match result {
                    Ok(digest) => wire::put(conn, Kind::Done, &digest.to_be_bytes()),
                    Err(why) => return self.refuse(conn, &why),
                };
            }
            Amid::Get { value, at } => {
                let Some(value) = value.upgrade() else {
                    return self.refuse(conn, "another value was put there meanwhile");
                };
                if !wire::send(conn, &value, at) {
                    return false;
                }
            }
        }
        self.amid = Amid::Nothing;
        conn.admits(wire::ANSWER_BYTES_MAX)
    }

    fn take(
        &mut self,
        reactor: &mut Context<Vault>,
        vault: &mut Vault,
        id: SourceId<Conn>,
        kind: Kind,
        body: &[u8],
    ) -> Result<(), String> {
        self.amid = match (kind, mem::take(&mut self.amid)) {
            (Kind::Put, Amid::Nothing) => Amid::Put { name: wire::name(body)?, value: Vec::new() },
            (Kind::Piece, Amid::Put { name, mut value }) => {
                if value.len() + body.len() > wire::VALUE_BYTES_MAX {
                    return Err(format!("a value is {} bytes at most", wire::VALUE_BYTES_MAX));
                }
                value.extend_from_slice(body);
                if !id.charge(reactor, value.capacity()) {
                    return Err("too much is buffered for all clients together".into());
                }
                Amid::Put { name, value }
            }
            (Kind::End, Amid::Put { name, value }) => {
                vault.reserve(&name, &value)?;
                self.keep(reactor, id, name, value);
                Amid::Work
            }
            (Kind::Get, Amid::Nothing) => match vault.values.get(&wire::name(body)?) {
                Some(value) => Amid::Get { value: Rc::downgrade(value), at: 0 },
                None => {
                    let _ = wire::put(&mut reactor[id], Kind::Missing, b"");
                    Amid::Nothing
                }
            },
            (kind, _) => return Err(format!("{kind:?} does not belong here")),
        };
        Ok(())
    }

    /// A worker sums the value up, then it is kept and the connection is called again. The client may
    /// have gone by then.
    fn keep(&self, reactor: &mut Context<Vault>, id: SourceId<Conn>, name: String, value: Vec<u8>) {
        id.hold(reactor);
        let reserved = cost(&name, &value);
        let work = move || {
            let mut value = value;
            value.shrink_to_fit();
            (wire::digest(&value), value)
        };
        let result = self.result.clone();
        reactor.offload(work, move |reactor, vault: &mut Vault, done| {
            id.charge(reactor, 0);
            result.set(Some(match done {
                Ok((digest, value)) => {
                    vault.keep(name, value);
                    Ok(digest)
                }
                Err(error) => {
                    vault.release(reserved);
                    Err(error.to_string())
                }
            }));
            id.nudge(reactor);
        });
    }

    /// A drain lets it finish its work first.
    fn end_if_drained(&self, conn: &mut Conn, rest: &[u8]) {
        if rest.is_empty() && matches!(self.amid, Amid::Nothing) && conn.is_drained() {
            conn.write_last(&wire::head(Kind::Bye, b""));
            conn.close();
        }
    }

    /// The client has finished sending.
    fn end(&mut self, conn: &mut Conn) {
        if !conn.backlog().is_empty() || matches!(self.amid, Amid::Put { .. }) {
            self.refuse(conn, "the input ended in the middle of a request");
        }
    }

    /// Sends the reason, for which there is always room, and closes. The memory of its value is
    /// freed at once, not when the peer has closed. Returns false: nothing more is read.
    fn refuse(&mut self, conn: &mut Conn, why: &str) -> bool {
        self.amid = Amid::Nothing;
        conn.charge(0);
        conn.write_last(&wire::head(Kind::Error, why.as_bytes()));
        conn.write_last(why.as_bytes());
        conn.close();
        false
    }
}

/// From here on it is an echo: another handler gets the connection, and the bytes behind the frame.
fn hand_over(reactor: &mut Context<Vault>, id: SourceId<Conn>, behind: &[u8]) {
    let _ = wire::put(&mut reactor[id], Kind::Done, b"");
    let Some(conn) = reactor.deregister(id) else { return };
    Stream::from(conn).unread(behind).open(reactor, |reactor, _, conn, event| match event {
        Event::Data(bytes) => {
            if conn.write(reactor, bytes) == Pressure::AboveHigh {
                conn.pause(reactor);
            }
        }
        Event::Drained => {
            conn.resume(reactor);
        }
        Event::Eof | Event::Closed(_) => {}
    });
}
