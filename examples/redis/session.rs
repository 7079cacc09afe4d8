//! A client's side of the server: its requests in order, and transactions.
//!
//! Knows one connection and the server's state. The commands on values are in `commands.rs`.

use waterwheel::net::{Conn, Event, Stream};
use waterwheel::{Context, SourceId};

use super::commands::{Call, Command, Run, SYNTAX};
use super::db::{Bytes, Done, Key};
use super::resp::{Parser, integer};
use super::server::Server;

/// What a client may keep in the server: requests of a transaction, keys that it watches, channels.
pub const KEPT_BYTES_MAX: usize = 1024 * 1024;
const KEEPS_TOO_MUCH: &str = "ERR this connection keeps more than 1 MiB in the server";
const TOO_LONG: &str = "ERR the reply is longer than 8 MiB, and was not sent";
/// Replies that are collected before they are written; the client may then have to read some first.
const REPLIES_BYTES: usize = 64 * 1024;

/// What is known of a client. The handler of its connection owns it.
#[derive(Default)]
pub struct Session {
    pub resp3: bool,
    name: Bytes,
    transaction: Option<Transaction>,
    /// True while EXEC runs the requests of a transaction: none of them waits.
    pub executes: bool,
    watched: Vec<(Key, u64)>,
    /// Channels and patterns that it has subscribed to.
    pub channels: Vec<Bytes>,
    pub patterns: Vec<Bytes>,
    pub kept_bytes: usize,
    closes: bool,
}

/// The requests since MULTI, as they came.
#[derive(Default)]
struct Transaction {
    requests: Vec<u8>,
    count: usize,
    failed: bool,
}

/// A request, and all that its command may need.
pub struct Turn<'a> {
    pub reactor: &'a mut Context<Server>,
    pub server: &'a mut Server,
    pub conn: SourceId<Conn>,
    pub args: &'a [&'a [u8]],
}

/// Serves a client, over whatever carries its bytes.
pub fn serve(reactor: &mut Context<Server>, server: &mut Server, client: Stream) {
    server.clients += 1;
    let (mut session, mut parser) = (Session::default(), Parser::default());
    client.open(reactor, move |reactor, server, conn, event| match event {
        Event::Data(input) => session.data(reactor, server, conn, (&mut parser, input)),
        // It was paused, because its client did not read.
        Event::Drained => drop(conn.resume(reactor)),
        Event::Eof => server.unblock(reactor, conn),
        Event::Closed(_) => {
            server.clients -= 1;
            server.unblock(reactor, conn);
            session.unwatch_all(server);
            session.leave_all(server, conn);
        }
    });
}

impl Session {
    /// Does the requests that are complete, and gives back the rest of the input.
    fn data(
        &mut self,
        reactor: &mut Context<Server>,
        server: &mut Server,
        conn: SourceId<Conn>,
        (parser, input): (&mut Parser, &[u8]),
    ) {
        server.db.now_ms = reactor.wall().unix_ms();
        let (mut used, mut reads) = (0, true);
        while reads && !self.closes && !server.is_blocked(conn) {
            server.replies.resp3 = self.resp3;
            match parser.next(&input[used..]) {
                Ok(None) => break,
                Ok(Some(length)) => {
                    let request = &input[used..used + length];
                    let turn = &mut Turn { reactor, server, conn, args: &[] };
                    parser.with_strings(request, |args| self.request(turn, args, request));
                    used += length;
                    server.serve_waiting(reactor);
                    reads =
                        server.replies.bytes.len() < REPLIES_BYTES || server.send(reactor, conn);
                }
                Err(malformed) => {
                    server.replies.error(malformed);
                    self.closes = true;
                }
            }
        }
        if !(server.send(reactor, conn) && reads) {
            conn.pause(reactor);
        }
        if self.closes {
            conn.close(reactor);
        } else {
            conn.unread(reactor, input.len() - used);
        }
        server.arm_expiry(reactor);
    }

    /// Does a request, or keeps it for EXEC.
    fn request(&mut self, turn: &mut Turn<'_>, args: &[&[u8]], request: &[u8]) {
        let Some(name) = args.first() else { return };
        if name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:") {
            self.closes = true; // A page in a browser talks to a port of this machine.
            return;
        }
        let found = turn.server.find(args);
        let at_once = ["exec", "discard", "multi", "watch", "quit", "reset"];
        let waits = found.as_ref().is_ok_and(|command| !at_once.contains(&command.name));
        match &mut self.transaction {
            Some(transaction) if waits && self.kept_bytes + request.len() <= KEPT_BYTES_MAX => {
                self.kept_bytes += request.len();
                transaction.requests.extend_from_slice(request);
                transaction.count += 1;
                turn.server.replies.simple("QUEUED");
            }
            Some(transaction) if waits || found.is_err() => {
                transaction.failed = true;
                let error = found.err().unwrap_or_else(|| KEEPS_TOO_MUCH.to_owned());
                turn.server.replies.error(error);
            }
            _ => self.run(turn, args, found),
        }
    }

    /// Runs a command. If it fails, an error takes the place of what it has replied.
    fn run(&mut self, turn: &mut Turn<'_>, args: &[&[u8]], found: Result<&Command, String>) {
        let begin = turn.server.replies.bytes.len();
        let listens = self.listens();
        let done = found.and_then(|command| match command.run {
            _ if listens && !may_be_sent_by_a_listener(command.name) => Err(format!(
                "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / \
                 RESET are allowed in this context",
                command.name
            )),
            Run::Value(run) => {
                let Server { db, replies, .. } = turn.server;
                run(&mut Call { db, args, replies }).map_err(str::to_owned)
            }
            Run::Client(run) => {
                let Turn { reactor, server, conn, .. } = turn;
                let turn = &mut Turn { reactor, server, conn: *conn, args };
                run(self, turn).map_err(str::to_owned)
            }
        });
        let is_too_long = std::mem::take(&mut turn.server.replies.is_too_long);
        if let Err(error) = done.and(if is_too_long { Err(TOO_LONG.to_owned()) } else { Ok(()) }) {
            turn.server.replies.bytes.truncate(begin);
            turn.server.replies.error(error);
        }
    }

    /// Returns true if it has subscribed, and could not know messages from replies.
    fn listens(&self) -> bool {
        !(self.resp3 || self.channels.is_empty() && self.patterns.is_empty())
    }

    /// Notes that the client keeps so many bytes more.
    pub fn keep(&mut self, bytes: usize) -> Done {
        let kept = self.kept_bytes + bytes + super::db::COST_BYTES;
        if kept > KEPT_BYTES_MAX {
            return Err(KEEPS_TOO_MUCH);
        }
        self.kept_bytes = kept;
        Ok(())
    }

    /// Ends all watches. Returns true if none of the keys has changed.
    fn unwatch_all(&mut self, server: &mut Server) -> bool {
        let mut same = true;
        for watch in self.watched.drain(..) {
            self.kept_bytes -= watch.0.len() + super::db::COST_BYTES;
            same &= server.db.unwatch(&watch);
        }
        same
    }

    fn leave_all(&mut self, server: &mut Server, conn: SourceId<Conn>) {
        let all = self.channels.drain(..).map(|name| (name, false));
        for (name, is_pattern) in all.chain(self.patterns.drain(..).map(|name| (name, true))) {
            self.kept_bytes -= name.len() + super::db::COST_BYTES;
            server.leave(&name, is_pattern, conn);
        }
    }

    /// Ends a transaction, and returns it.
    fn take_transaction(&mut self, error: &'static str) -> Done<Transaction> {
        let transaction = self.transaction.take().ok_or(error)?;
        self.kept_bytes -= transaction.requests.len();
        Ok(transaction)
    }
}

fn may_be_sent_by_a_listener(name: &str) -> bool {
    name.ends_with("subscribe") || ["ping", "quit", "reset"].contains(&name)
}

pub fn ping(session: &mut Session, turn: &mut Turn<'_>) -> Done {
    let replies = &mut turn.server.replies;
    let listens = session.listens();
    match turn.args.get(1) {
        text if listens => {
            replies.array(2);
            replies.string(b"pong");
            replies.string(text.copied().unwrap_or_default());
        }
        Some(text) => replies.string(text),
        None => replies.simple("PONG"),
    }
    Ok(())
}

pub fn echo(_: &mut Session, turn: &mut Turn<'_>) -> Done {
    turn.server.replies.string(turn.args[1]);
    Ok(())
}

/// The first words of many clients: the version that they speak, and a name.
pub fn hello(session: &mut Session, turn: &mut Turn<'_>) -> Done {
    let mut options = turn.args.get(2..).unwrap_or_default();
    let resp3 = match turn.args.get(1) {
        None => session.resp3,
        Some(&b"2") => false,
        Some(&b"3") => true,
        Some(_) => return Err("NOPROTO unsupported protocol version"),
    };
    while let Some((option, rest)) = options.split_first() {
        options = match (option.to_ascii_uppercase().as_slice(), rest) {
            (b"SETNAME", [name, rest @ ..]) => {
                session.name = (*name).into();
                rest
            }
            (b"AUTH", _) => {
                return Err("WRONGPASS invalid username-password pair or user is disabled.");
            }
            _ => return Err(SYNTAX),
        };
    }
    session.resp3 = resp3;
    let replies = &mut turn.server.replies;
    replies.resp3 = resp3;
    replies.map(7);
    for (name, value) in [("server", "redis"), ("version", super::server::VERSION)] {
        replies.string(name.as_bytes());
        replies.string(value.as_bytes());
    }
    replies.string(b"proto");
    replies.integer(if resp3 { 3 } else { 2 });
    replies.string(b"id");
    replies.integer(number(turn.conn));
    for (name, value) in [("mode", "standalone"), ("role", "master")] {
        replies.string(name.as_bytes());
        replies.string(value.as_bytes());
    }
    replies.string(b"modules");
    replies.array(0);
    Ok(())
}

/// A connection's number: as long as it is open, no other has the same.
fn number(conn: SourceId<Conn>) -> i64 {
    let (index, generation) = waterwheel::reactor::RawId::from(conn).parts();
    i64::from(index) << 20 | i64::from(generation & 0xf_ffff)
}

pub fn select(_: &mut Session, turn: &mut Turn<'_>) -> Done {
    if integer(turn.args[1]) != Some(0) {
        return Err("ERR DB index is out of range");
    }
    turn.server.replies.simple("OK");
    Ok(())
}

pub fn quit(session: &mut Session, turn: &mut Turn<'_>) -> Done {
    session.closes = true;
    turn.server.replies.simple("OK");
    Ok(())
}

pub fn reset(session: &mut Session, turn: &mut Turn<'_>) -> Done {
    session.unwatch_all(turn.server);
    session.leave_all(turn.server, turn.conn);
    *session = Session::default();
    turn.server.replies.resp3 = false;
    turn.server.replies.simple("RESET");
    Ok(())
}

pub fn client(session: &mut Session, turn: &mut Turn<'_>) -> Done {
    let replies = &mut turn.server.replies;
    match (turn.args[1].to_ascii_uppercase().as_slice(), turn.args.get(2)) {
        (b"SETNAME", Some(name)) => session.name = (*name).into(),
        (b"SETINFO" | b"NO-EVICT" | b"NO-TOUCH", Some(_)) => {}
        (b"GETNAME", None) => {
            replies.string(&session.name);
            return Ok(());
        }
        (b"ID", None) => {
            replies.integer(number(turn.conn));
            return Ok(());
        }
        _ => return Err("ERR unknown subcommand or wrong number of arguments"),
    }
    replies.simple("OK");
    Ok(())
}

pub fn multi(session: &mut Session, turn: &mut Turn<'_>) -> Done {
    if session.transaction.is_some() {
        return Err("ERR MULTI calls can not be nested");
    }
    session.transaction = Some(Transaction::default());
    turn.server.replies.simple("OK");
    Ok(())
}

/// Runs the requests of a transaction, one behind the other: no other client's command is between.
pub fn exec(session: &mut Session, turn: &mut Turn<'_>) -> Done {
    let transaction = session.take_transaction("ERR EXEC without MULTI")?;
    let same = session.unwatch_all(turn.server);
    if transaction.failed {
        return Err("EXECABORT Transaction discarded because of previous errors.");
    }
    if !same {
        turn.server.replies.null_array();
        return Ok(());
    }
    turn.server.replies.array(transaction.count);
    session.executes = true;
    let (mut parser, mut rest) = (Parser::default(), &transaction.requests[..]);
    while let Ok(Some(length)) = parser.next(rest) {
        parser.with_strings(rest, |args| {
            let found = turn.server.find(args);
            session.run(turn, args, found);
        });
        rest = &rest[length..];
    }
    session.executes = false;
    Ok(())
}

/// SAVE: the client waits for the file, but not in the middle of a transaction.
pub fn save(session: &mut Session, turn: &mut Turn<'_>) -> Done {
    let waits = (!session.executes).then_some(turn.conn);
    turn.server.save(turn.reactor, waits)
}

pub fn discard(session: &mut Session, turn: &mut Turn<'_>) -> Done {
    session.take_transaction("ERR DISCARD without MULTI")?;
    unwatch(session, turn)
}

pub fn watch(session: &mut Session, turn: &mut Turn<'_>) -> Done {
    if session.transaction.is_some() {
        return Err("ERR WATCH inside MULTI is not allowed");
    }
    for key in &turn.args[1..] {
        if !session.watched.iter().any(|(watched, _)| &watched[..] == *key) {
            session.keep(key.len())?;
            session.watched.push(turn.server.db.watch(key));
        }
    }
    turn.server.replies.simple("OK");
    Ok(())
}

pub fn unwatch(session: &mut Session, turn: &mut Turn<'_>) -> Done {
    session.unwatch_all(turn.server);
    turn.server.replies.simple("OK");
    Ok(())
}
