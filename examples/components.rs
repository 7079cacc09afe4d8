//! Components: two parts that know nothing of the program they are in share one loop.
//!
//! Run:  cargo run --release --example components -- --idle 5000 --every 10000
//! Then: nc 127.0.0.1 7001        type, and then be silent
//! See:  each line come back; a line of numbers every ten seconds in which something happened;
//!       and a client closed that was silent for five.
//! Look: `reaper` and `tally`: neither names `Server`, each works in a `Reactor<S>` of any `S`. The
//!       reaper's state is a source of its own. The tally's is in the program's state, which says
//!       where by a `fn(&mut S) -> &mut Tally`.
//! Next: let the reaper spare clients with a name; put two tallies into `Server`, one for each of
//!       two listeners; move one of the parts into a crate.

use std::time::Duration;

use reaper::Reaper;
use tally::Tally;
use waterwheel::net::{Conn, Event, Pressure, tcp};
use waterwheel::{Context, Reactor, SourceId};

mod cli;

const USAGE: &str = "\
Usage: components [OPTIONS] [ADDR]

Sends back whatever a client sends, and sends away who is silent. ADDR is
127.0.0.1:7001 unless given; a bare port means 127.0.0.1. All clients together may
have 16 MiB buffered; then the slowest reader is closed.

Options:
  --idle MILLIS    silence after which a client has to go (default: 60000)
  --every MILLIS   how often to print what has happened (default: 10000)
  -h, --help       show this";

/// The program's state. One of the parts keeps its own state in it.
#[derive(Default)]
struct Server {
    tally: Tally,
}

fn main() {
    let args = cli::parse(USAGE, "127.0.0.1:7001", &["--idle", "--every"]);
    cli::exit_on_error(run(&args));
}

fn run(args: &cli::Args) -> Result<(), String> {
    cli::raise_open_files();
    let idle = Duration::from_millis(args.number("--idle").unwrap_or(60_000));
    let every = Duration::from_millis(args.number("--every").unwrap_or(10_000));
    let mut reactor = Reactor::new().map_err(|error| error.to_string())?;
    let reaper = Reaper::new(&mut reactor, idle);
    tally::print_every(&mut reactor, every, |server: &mut Server| &mut server.tally);
    let listener = tcp::Listen::new()
        .limits(cli::limits())
        .open(&mut reactor, &*args.addr, move |reactor, server: &mut Server, incoming| {
            server.tally.clients += 1;
            let conn = incoming.open(reactor, move |reactor, server, conn, event| {
                on_event(reactor, server, (conn, reaper), event);
            });
            reaper.heard(reactor, conn);
        })
        .map_err(cli::cannot("listen on"))?;
    cli::end_on_signals(&mut reactor, cli::GRACE)?;
    let addr = reactor[listener].local_addr();
    cli::say(format_args!("listening on {addr}"));
    cli::run(&mut reactor, &mut Server::default())
}

fn on_event(
    reactor: &mut Context<Server>,
    server: &mut Server,
    (conn, reaper): (SourceId<Conn>, Reaper),
    event: Event<'_>,
) {
    match event {
        Event::Data(bytes) => {
            server.tally.bytes += bytes.len() as u64;
            reaper.heard(reactor, conn);
            if conn.write(reactor, bytes) == Pressure::AboveHigh {
                conn.pause(reactor);
            }
        }
        Event::Drained => {
            conn.resume(reactor);
        }
        Event::Eof => {}
        Event::Closed(_) => {
            reaper.forget(reactor, conn);
            let (here, reaped) = reaper.counts(reactor);
            cli::say(format_args!("a client has gone: {here} here, {reaped} were silent"));
        }
    }
}

/// Counts connections and closes those that are silent. (`Limits::idle_timeout` does that, too, and
/// needs no list: this one is here to be a part.)
mod reaper {
    use super::*;
    use std::collections::HashMap;
    use waterwheel::timers::Tick;

    /// A handle, `Copy` like the ids in it, for the code that reports the acts of a client.
    #[derive(Clone, Copy)]
    pub struct Reaper(SourceId<Watch>);

    struct Watch {
        patience: Duration,
        /// The tick by which each connection must have sent something.
        until: HashMap<SourceId<Conn>, Tick>,
        reaped: u64,
    }

    impl Reaper {
        pub fn new<S: 'static>(reactor: &mut Context<S>, patience: Duration) -> Reaper {
            let watch = Watch { patience, until: HashMap::new(), reaped: 0 };
            let id = reactor.own(watch, |reactor, _, id, _| reap(reactor, id));
            reactor.unref(id); // Without connections it has nothing to wait for.
            Reaper(id)
        }

        /// A connection has come, or has said something.
        pub fn heard<S: 'static>(self, reactor: &mut Context<S>, conn: SourceId<Conn>) {
            let until = reactor.tick_after(reactor[self.0].patience);
            reactor[self.0].until.insert(conn, until);
            if reactor[self.0].until.len() == 1 {
                reactor.set_deadline(self.0, Some(until)); // Else it is armed for another client.
            }
        }

        pub fn forget<S: 'static>(self, reactor: &mut Context<S>, conn: SourceId<Conn>) {
            reactor[self.0].until.remove(&conn);
        }

        /// The number of connections, and the number that it has closed.
        pub fn counts<S: 'static>(self, reactor: &Context<S>) -> (usize, u64) {
            (reactor[self.0].until.len(), reactor[self.0].reaped)
        }
    }

    /// The deadline is up. O(connections).
    fn reap<S: 'static>(reactor: &mut Context<S>, id: SourceId<Watch>) {
        let now = reactor.tick();
        let late: Vec<_> = reactor[id].until.extract_if(|_, until| *until <= now).collect();
        for (conn, _) in late {
            reactor[id].reaped += u64::from(conn.close(reactor));
        }
        let next = reactor[id].until.values().min().copied();
        reactor.set_deadline(id, next);
    }
}

/// Prints the counts, if they have changed. Its state is a field of the program's state.
mod tally {
    use super::*;
    use waterwheel::reactor::Missed;
    use waterwheel::timers::TimerId;

    #[derive(Clone, Default, PartialEq)]
    pub struct Tally {
        pub clients: u64,
        pub bytes: u64,
    }

    /// `of` is the way from the program's state to the tally.
    pub fn print_every<S: 'static>(
        reactor: &mut Context<S>,
        period: Duration,
        of: fn(&mut S) -> &mut Tally,
    ) -> TimerId {
        let mut printed = Tally::default();
        reactor.every(period, Missed::Skip, move |_, state, _| {
            let tally = of(state);
            if *tally != printed {
                cli::say(format_args!("{} clients, {} bytes", tally.clients, tally.bytes));
                printed = tally.clone();
            }
        })
    }
}
