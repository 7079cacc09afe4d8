//! UDP chat: a line that one client types goes to all the others, without connections.
//!
//! Run:  cargo run --release --example udp_chat
//! Then: nc -u 127.0.0.1 7001     in three terminals, and type in each: lines, /who, /quit
//! See:  a client joins by its first line, and has left when it is silent for a minute (`--timeout
//!       SECONDS`): nothing else shows it. End a client with ^C: the others learn it only then.
//! Look: `Chat::heard`. A member is an address and a timer, and stays as long as its lines re-arm
//!       the timer. There is no accept, no close, and no queue: a line without room is lost.
//! Next: number the lines and let clients ask for those that they missed; names; ask each new
//!       client to send a word back before it gets anything: senders' addresses may be false.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use waterwheel::net::udp;
use waterwheel::timers::TimerId;
use waterwheel::{Context, Reactor, SourceId};

mod cli;

const USAGE: &str = "\
Usage: udp_chat [OPTIONS] [ADDR]

Passes each datagram on to all the other senders. ADDR is 127.0.0.1:7001 unless given;
a bare port means 127.0.0.1. Clients may say /who and /quit.

Options:
      --timeout SECONDS   how long one may be silent and still be sent lines [60]
  -h, --help              show this";

/// A line that all the others get is this long at most, so that one datagram cannot become more than
/// this times [`MEMBERS_MAX`] bytes.
const LINE_BYTES_MAX: usize = 512;
/// A sender can invent any number of addresses, and could fill our memory with them.
const MEMBERS_MAX: usize = 100;

struct Chat {
    socket: SourceId<udp::Socket>,
    /// The clients that said something lately, each with the timer of its silence.
    members: HashMap<SocketAddr, Member>,
    timeout: Duration,
    lost: u64,
}

struct Member {
    silence: TimerId,
    /// Our address as the member knows it, if that is known: it accepts no other.
    ours: Option<IpAddr>,
}

fn main() {
    let args = cli::parse(USAGE, "127.0.0.1:7001", &["--timeout"]);
    cli::exit_on_error(run(&args));
}

fn run(args: &cli::Args) -> Result<(), String> {
    let timeout = Duration::from_secs(args.number("--timeout").unwrap_or(60));
    let mut reactor = Reactor::new().map_err(|error| error.to_string())?;
    let bind = udp::Bind::new().datagram_bytes_max(LINE_BYTES_MAX);
    // On 0.0.0.0 we have several addresses, and answer from the one that was asked.
    #[cfg(all(feature = "packet-info", target_os = "linux"))]
    let bind = bind.packet_info(true);
    let socket = bind
        .open(&mut reactor, &args.addr, |reactor, chat: &mut Chat, _, event| match event {
            udp::Event::Received { from, bytes, .. } => chat.heard(reactor, from, bytes),
            udp::Event::Error(error) => log::warn!("the network says: {error}"),
            udp::Event::Writable => {} // Nothing waits: a line without room is lost.
        })
        .map_err(cli::cannot("listen on"))?;
    cli::end_on_signals(&mut reactor, cli::GRACE)?;
    cli::say(format_args!("listening on {}", reactor[socket].local_addr()));
    let mut chat = Chat { socket, members: HashMap::new(), timeout, lost: 0 };
    cli::run(&mut reactor, &mut chat)
}

impl Chat {
    fn heard(&mut self, reactor: &mut Context<Chat>, from: SocketAddr, bytes: &[u8]) {
        let line: String =
            String::from_utf8_lossy(bytes).chars().filter(|char| !char.is_control()).collect();
        match self.members.get(&from) {
            Some(member) => drop(reactor.rearm(member.silence, self.timeout)),
            None if line == "/quit" => return,
            None => {
                if self.members.len() == MEMBERS_MAX {
                    return self.tell(reactor, from, "! there are too many here\n");
                }
                self.join(reactor, from);
            }
        }
        match &*line {
            "" => {} // Only a sign of life.
            "/quit" => self.leave(reactor, from),
            "/who" => {
                let line = format!("* {} are here, you are {from}\n", self.members.len());
                self.tell(reactor, from, &line);
            }
            _ => self.tell_all(reactor, from, &format!("{from}: {line}\n")),
        }
    }

    fn join(&mut self, reactor: &mut Context<Chat>, member: SocketAddr) {
        let silence = reactor.after(self.timeout, move |reactor, chat: &mut Chat| {
            chat.leave(reactor, member);
        });
        let ours = reactor[self.socket].arrival().and_then(|arrival| arrival.own);
        self.members.insert(member, Member { silence, ours });
        self.tell_all(reactor, member, &format!("* {member} joined\n"));
    }

    fn leave(&mut self, reactor: &mut Context<Chat>, member: SocketAddr) {
        let Some(Member { silence, .. }) = self.members.remove(&member) else { return };
        reactor.cancel(silence); // No effect if this timer is the one that has just run.
        self.tell_all(reactor, member, &format!("* {member} left\n"));
    }

    fn tell_all(&mut self, reactor: &mut Context<Chat>, but: SocketAddr, line: &str) {
        let others: Vec<SocketAddr> =
            self.members.keys().copied().filter(|member| *member != but).collect();
        for member in others {
            self.tell(reactor, member, line);
        }
    }

    /// Sends a line, or counts it: no room, no route. The next one may go.
    fn tell(&mut self, reactor: &mut Context<Chat>, to: SocketAddr, line: &str) {
        use waterwheel::net::Pressure::Below;
        let ours = self.members.get(&to).and_then(|member| member.ours);
        if !matches!(self.socket.send_from(reactor, line.as_bytes(), &to, ours), Ok(Below)) {
            self.lost += 1;
            log::info!("{} lines lost", self.lost);
        }
    }
}
