//! Promises: three things fetched side by side, one tried again, two in a race.
//!
//! Run:  cargo run --release --example promises
//! Then: nothing: the server, a kitchen, is in the same loop
//! See:  each line when it comes, with the reason; and an early end, though one dish takes a minute
//! Look: `dine` reads from top to bottom and blocks nowhere; in `fetch` callbacks become promises
//! Next: a `timeout` of 30 ms on each dish: what does `all` say then? Make it `all_settled`. Let the
//!       kitchen never warm its oven, and take the `catch` away.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use waterwheel::net::{Conn, Framed, Lines, Stream, framed, tcp};
use waterwheel::patterns::{Backoff, Promise};
use waterwheel::{Context, Reactor, SourceId};

mod cli;

const USAGE: &str = "\
Usage: promises [OPTIONS]

Fetches three dishes side by side, tries for bread until there is some, lets two dishes race.

Options:
  -h, --help      show this";

const TABLE: [&str; 3] = ["soup", "salad", "cake"];
/// The milliseconds that each dish takes.
const MENU: [Dish; 6] =
    [("soup", 60), ("salad", 20), ("cake", 40), ("bread", 0), ("snack", 10), ("stew", 60_000)];
const OVEN: [&str; 3] = ["cold, again in 10 ms", "cold, again in 20, twice as long", "warm"];

/// The state. It is the kitchen's; the guests' part is in their promises.
#[derive(Default)]
struct Kitchen {
    /// The orders of the table, by guest; the stove is lit when all have ordered.
    table: Vec<(Guest, usize)>,
    oven_looked_at: u32,
}

type Loop = Context<Kitchen>;
type Dish = (&'static str, u64);
type Guest = SourceId<Conn>;
type Soon<T> = Promise<Kitchen, T, io::Error>;

fn main() {
    cli::parse(USAGE, "", &[]);
    cli::exit_on_error(run().map_err(|error| error.to_string()));
}

fn run() -> io::Result<()> {
    let mut reactor = Reactor::new()?;
    let listener = tcp::listen(&mut reactor, "127.0.0.1:0", |reactor, _, incoming| {
        let mut cooking = None;
        let guest = framed(Lines::new(64), move |reactor, kitchen, conn, event| match event {
            Framed::Frame(dish) => cooking = order(reactor, kitchen, conn, dish),
            Framed::Closed(_) => drop(cooking.take().map(|dish| Soon::cancel(dish, reactor))),
            _ => {}
        });
        incoming.open(reactor, guest);
    })?;
    let addr = reactor[listener].local_addr();
    cli::print(format_args!("listening on {addr}"));
    dine(&mut reactor, addr);
    reactor.run(&mut Kitchen::default())
}

/// All that the guests do, in the order in which they do it.
fn dine(reactor: &mut Loop, addr: SocketAddr) {
    let table = TABLE.map(|dish| {
        fetch(reactor, addr, dish).then(reactor, |_, _, dish| {
            cli::print(format_args!("{dish}, as all are cooked side by side"));
            Ok(dish)
        })
    });
    Promise::all(reactor, table)
        .then(reactor, move |reactor, _, dishes| {
            cli::print(format_args!("all: {}, in the order of asking", dishes.join(", ")));
            let backoff = Backoff::new(5).first(Duration::from_millis(10)).jitter_percent(0);
            Promise::retry(reactor, backoff, move |reactor, _, attempt| {
                fetch(reactor, addr, "bread").finally(reactor, move |_, _| {
                    let oven = OVEN.get(attempt as usize - 1).unwrap_or(&"out of order");
                    cli::print(format_args!("bread, attempt {attempt}: the oven is {oven}"));
                })
            })
        })
        .then(reactor, move |reactor, _, _| {
            let racers = ["stew", "snack"].map(|dish| fetch(reactor, addr, dish));
            Promise::race(reactor, racers)
        })
        .then(reactor, |_, _, first| {
            cli::print(format_args!("race: {first}, so nobody waits for the other"));
        })
        .catch(reactor, |_, _, error| cli::exit_on_error(Err(error.to_string())));
}

/// Connects and asks.
fn fetch(reactor: &mut Loop, addr: SocketAddr, dish: &'static str) -> Soon<String> {
    let (connected, resolver) = reactor.promise();
    match tcp::connect(reactor, addr, Duration::from_secs(10), resolver.done()) {
        Ok(connecting) => connected
            .on_cancel(move |reactor| drop(reactor.deregister(connecting)))
            .then(reactor, move |reactor, _, stream| ask(reactor, stream, dish)),
        Err(error) => Promise::rejected(reactor, error),
    }
}

/// The handler owns the resolver. If the connection closes without an answer, that is dropped,
/// which is a rejection; and a cancel of the promise closes the connection.
fn ask(reactor: &mut Loop, stream: Stream, dish: &str) -> Soon<String> {
    let (answered, resolver) = reactor.promise();
    let mut resolver = Some(resolver);
    let handler = framed(Lines::new(64), move |reactor, _, conn, event| {
        let Framed::Frame(line) = event else { return };
        let line = String::from_utf8_lossy(line).into_owned();
        let answer = if line == "no" { Err(ErrorKind::WouldBlock.into()) } else { Ok(line) };
        resolver.take().map(|resolver| resolver.settle(reactor, answer));
        conn.close(reactor);
    });
    let conn = stream.open(reactor, handler);
    let _ = conn.write(reactor, format!("{dish}\n").as_bytes()); // A fresh connection has room.
    answered.on_cancel(move |reactor| {
        conn.close(reactor);
    })
}

/// The kitchen's side: a guest asks for a dish. Returns the promise to cancel if the guest leaves.
fn order(reactor: &mut Loop, kitchen: &mut Kitchen, conn: Guest, dish: &[u8]) -> Option<Soon<()>> {
    let number = MENU.iter().position(|(name, _)| name.as_bytes() == dish)?;
    kitchen.table.push((conn, number));
    if number < TABLE.len() && kitchen.table.len() < TABLE.len() {
        return None;
    }
    let orders = std::mem::take(&mut kitchen.table);
    orders.into_iter().map(|(conn, number)| cook(reactor, kitchen, conn, MENU[number])).last()
}

fn cook(reactor: &mut Loop, kitchen: &mut Kitchen, conn: Guest, (dish, ms): Dish) -> Soon<()> {
    kitchen.oven_looked_at += u32::from(dish == "bread");
    let is_there = dish != "bread" || kitchen.oven_looked_at > 2;
    let answer = if is_there { format!("{dish} after {ms} ms\n") } else { "no\n".to_owned() };
    let cooked = reactor.delay(Duration::from_millis(ms)).on_cancel(move |reactor| {
        cli::print(format_args!("kitchen: nobody wants the {dish} any more, so that is all"));
        reactor.stop();
    });
    cooked.then(reactor, move |reactor, _, ()| {
        let _ = conn.write(reactor, answer.as_bytes()); // The guest may have left meanwhile.
    })
}
