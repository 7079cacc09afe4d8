//! Chat: a line that one client types goes to all the others.
//!
//! Run:  cargo run --release --example chat
//! Then: nc 127.0.0.1 7001        in three terminals, and type in each: lines, /nick, /who, /quit
//! See:  each line in the other terminals, and a note when a client joins or leaves. A fourth that
//!       does not read, `nc 127.0.0.1 7001 | sleep 999`, delays no other: it misses lines, and if
//!       it reads again it gets their number.
//! Look: `Member::tell`. One slow reader is enough to fill a server's memory, so this function
//!       decides about it, for every line to any client.
//! Next: rooms; the last ten lines for each new client; close those that are behind for a minute.

use std::mem;

use waterwheel::net::{Conn, Framed, Lines, Pressure, framed, tcp};
use waterwheel::{Context, Reactor, SourceId};

mod cli;

const USAGE: &str = "\
Usage: chat [OPTIONS] [ADDR]

Passes each line on to all the other clients. ADDR is 127.0.0.1:7001 unless given;
a bare port means 127.0.0.1. Clients may say /nick NAME, /who and /quit. A client
that vanished leaves: TCP's keep-alive asks every 15 s. All clients together may have
16 MiB buffered; then the slowest reader is closed.

Options:
  -h, --help      show this";

/// The longest line, without its end. The server has to keep a line in memory until it ends.
const LINE_BYTES_MAX: usize = 1024;
const NAME_BYTES_MAX: usize = 20;
/// The most names in the answer to /who: a request of 5 bytes must not cost more than about 2 KB.
const WHO_MAX: usize = 100;

/// Members are in a `Vec` and found by a search: each line goes to all of them in any case.
#[derive(Default)]
struct Chat {
    members: Vec<Member>,
    joined: u64,
}

struct Member {
    conn: SourceId<Conn>,
    name: String,
    /// Lines missed since it fell behind; `None` while it keeps up.
    missed: Option<u64>,
}

impl Member {
    /// Sends a line, or counts it if the member is behind: too much is unsent already. A line for
    /// a member that has gone, or is being closed, reaches nobody, and that does no harm.
    fn tell(&mut self, reactor: &mut Context<Chat>, line: &str) {
        if let Some(missed) = &mut self.missed {
            *missed += 1;
        } else if self.conn.write(reactor, line.as_bytes()) == Pressure::AboveHigh {
            self.missed = Some(0); // This line was taken; from here on we count, until `Drained`.
        }
    }

    fn catch_up(&mut self, reactor: &mut Context<Chat>) {
        if let Some(missed) = mem::take(&mut self.missed).filter(|missed| *missed > 0) {
            self.tell(reactor, &format!("* you missed {missed} lines\n"));
        }
    }
}

fn main() {
    let args = cli::parse(USAGE, "127.0.0.1:7001", &[]);
    cli::exit_on_error(run(&args));
}

fn run(args: &cli::Args) -> Result<(), String> {
    cli::raise_open_files();
    let mut reactor = Reactor::new().map_err(|error| error.to_string())?;
    let listener = tcp::Listen::new()
        .limits(cli::limits())
        .keepalive(Some(cli::KEEPALIVE))
        .open(&mut reactor, &args.addr, |reactor, chat: &mut Chat, incoming| {
            let conn = incoming.open(reactor, framed(Lines::new(LINE_BYTES_MAX), hear));
            chat.join(reactor, conn);
        })
        .map_err(cli::cannot("listen on"))?;
    cli::end_on_signals(&mut reactor, cli::GRACE)?;
    let addr = reactor[listener].local_addr();
    cli::say(format_args!("listening on {addr}"));
    cli::run(&mut reactor, &mut Chat::default())
}

/// Every client's handler.
fn hear(reactor: &mut Context<Chat>, chat: &mut Chat, conn: SourceId<Conn>, event: Framed<'_>) {
    let Some(at) = chat.members.iter().position(|member| member.conn == conn) else { return };
    match event {
        Framed::Frame(line) => chat.heard(reactor, at, &printable(line)),
        Framed::Error(_) => chat.members[at].tell(reactor, "! that line is too long: good-bye\n"),
        Framed::Drained => chat.members[at].catch_up(reactor),
        Framed::Eof => {} // `Closed` follows, as after an error.
        Framed::Closed(_) => chat.leave(reactor, at),
    }
}

/// Text without control characters, so that no client can move the cursors of others.
fn printable(line: &[u8]) -> String {
    String::from_utf8_lossy(line).chars().filter(|char| !char.is_control()).collect()
}

impl Chat {
    fn join(&mut self, reactor: &mut Context<Chat>, conn: SourceId<Conn>) {
        self.joined += 1;
        let name = format!("guest{}", self.joined);
        self.tell_all(reactor, None, &format!("* {name} joined\n"));
        let welcome = format!("* you are {name}; there are /nick NAME, /who, /quit\n");
        let mut member = Member { conn, name, missed: None };
        member.tell(reactor, &welcome);
        self.members.push(member);
    }

    fn leave(&mut self, reactor: &mut Context<Chat>, at: usize) {
        let Member { name, .. } = self.members.remove(at);
        self.tell_all(reactor, None, &format!("* {name} left\n"));
    }

    fn heard(&mut self, reactor: &mut Context<Chat>, at: usize, line: &str) {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("/nick", name) => self.rename(reactor, at, name),
            ("/who", _) => {
                let names = self.members.iter().take(WHO_MAX).map(|member| &*member.name);
                let names = names.collect::<Vec<_>>().join(", ");
                let line = match self.members.len().saturating_sub(WHO_MAX) {
                    0 => format!("* here are {names}\n"),
                    more => format!("* here are {names} and {more} more\n"),
                };
                self.members[at].tell(reactor, &line);
            }
            ("/quit", _) => {
                self.members[at].conn.close(reactor);
                self.leave(reactor, at);
            }
            _ => {
                let line = format!("{}: {line}\n", self.members[at].name);
                self.tell_all(reactor, Some(at), &line);
            }
        }
    }

    fn rename(&mut self, reactor: &mut Context<Chat>, at: usize, name: &str) {
        // Only the server gives the names of guests.
        let is_name = name.chars().all(char::is_alphanumeric) && !name.starts_with("guest");
        let is_taken = self.members.iter().any(|member| member.name == name);
        if !is_name || is_taken || !(1..=NAME_BYTES_MAX).contains(&name.len()) {
            return self.members[at].tell(reactor, "! that name will not do, or is taken\n");
        }
        let old = mem::replace(&mut self.members[at].name, name.to_owned());
        self.tell_all(reactor, None, &format!("* {old} is now {name}\n"));
    }

    fn tell_all(&mut self, reactor: &mut Context<Chat>, but: Option<usize>, line: &str) {
        for (_, member) in self.members.iter_mut().enumerate().filter(|(at, _)| but != Some(*at)) {
            member.tell(reactor, line);
        }
    }
}
