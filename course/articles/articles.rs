//! What articles on event loops get wrong, each as a program: `cargo run -p course --example articles 3`.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use waterwheel::reactor::{Missed, Priority};
use waterwheel::timers::{ManualClock, TimerId};
use waterwheel::{Context, Reactor};

const SECOND: Duration = Duration::from_secs(1);

fn a_callback_that_waits() -> io::Result<()> {
    let mut reactor = Reactor::new()?;
    let (put, take) = mpsc::channel();
    reactor.enqueue(Priority::Normal, move |_, ()| {
        println!("baker: I wait for the flour");
        // Without a limit this program would not end.
        match take.recv_timeout(Duration::from_millis(200)) {
            Ok(flour) => println!("baker: I have {flour}"),
            Err(_) => println!("baker: nothing came"),
        }
    });
    reactor.enqueue(Priority::Normal, move |_, ()| {
        println!("miller: here it is");
        let _ = put.send("flour"); // Nobody takes it any more.
    });
    reactor.run(&mut ())
}

fn a_callback_that_is_called() -> io::Result<()> {
    let mut reactor = Reactor::new()?;
    let (flour, resolver) = reactor.promise::<&str, String>();
    flour.then(&mut reactor, |_, (), flour| {
        println!("baker: I have {flour}");
        Ok::<_, String>(())
    });
    reactor.enqueue(Priority::Normal, move |reactor, ()| {
        println!("miller: here it is");
        resolver.resolve(reactor, "flour");
    });
    reactor.run(&mut ())
}

/// News comes after 37.4 seconds. Who asks how often, and hears it how late?
fn interval_polling(clock: &ManualClock) -> io::Result<()> {
    #[derive(Default)]
    struct Server {
        news: bool,
        requests: u32,
    }
    let mut reactor = Reactor::builder().clock(clock).build()?;
    let start = reactor.now();
    reactor.after(37_400 * SECOND / 1000, |_, server: &mut Server| server.news = true);
    reactor.every(SECOND, Missed::Skip, move |reactor, server, _| {
        server.requests += 1;
        if server.news {
            let heard = (reactor.now() - start).as_millis();
            println!("interval polling: {} requests, heard at {heard} ms", server.requests);
            reactor.stop();
        }
    });
    reactor.run(&mut Server::default())
}

type Held = Box<dyn FnOnce(&mut Context<LongPoll>, &mut LongPoll, bool)>;

#[derive(Default)]
struct LongPoll {
    /// The request that waits for its answer, and the end of its patience.
    held: Option<(Held, TimerId)>,
    requests: u32,
}

/// A client's request: the server holds it until there is news, or 30 seconds have passed.
fn ask(reactor: &mut Context<LongPoll>, server: &mut LongPoll) {
    server.requests += 1;
    let asked = reactor.now();
    let held: Held = Box::new(move |reactor, server, is_news| {
        let waited = (reactor.now() - asked).as_millis();
        println!("request {}: answered after {waited} ms, news: {is_news}", server.requests);
        if is_news { reactor.stop() } else { ask(reactor, server) }
    });
    let end = reactor.after(30 * SECOND, |reactor, server| answer(reactor, server, false));
    server.held = Some((held, end));
}

fn answer(reactor: &mut Context<LongPoll>, server: &mut LongPoll, is_news: bool) {
    if let Some((held, end)) = server.held.take() {
        reactor.cancel(end);
        held(reactor, server, is_news);
    }
}

fn long_polling(clock: &ManualClock) -> io::Result<()> {
    let mut reactor = Reactor::builder().clock(clock).build()?;
    reactor.defer(ask);
    reactor.after(37_400 * SECOND / 1000, |reactor, server| answer(reactor, server, true));
    reactor.run(&mut LongPoll::default())
}

fn paused_anywhere() -> io::Result<()> {
    let clock = ManualClock::new();
    let mut reactor = Reactor::builder().clock(&clock).build()?;
    reactor.after(Duration::from_millis(10), |_, ()| println!("timer: it was due after 10 ms"));
    reactor.enqueue(Priority::Normal, move |_, ()| {
        println!("long one: begins");
        clock.advance(Duration::from_millis(50)); // So long it works.
        println!("long one: ends, after 50 ms");
    });
    reactor.enqueue(Priority::High, |_, ()| println!("high: I am urgent, and was there before it"));
    reactor.run(&mut ())
}

fn in_pieces() -> io::Result<()> {
    let clock = ManualClock::new();
    let mut reactor = Reactor::builder().clock(&clock).build()?;
    reactor.after(Duration::from_millis(10), |_, ()| println!("timer: it was due after 10 ms"));
    piece(&mut reactor, &clock, 1);
    reactor.run(&mut ())
}

fn piece(reactor: &mut Context<()>, clock: &ManualClock, number: u32) {
    let clock = clock.clone();
    reactor.enqueue(Priority::Normal, move |reactor, ()| {
        clock.advance(Duration::from_millis(10));
        println!("piece {number} of 5, after {} ms", 10 * number);
        if number < 5 {
            piece(reactor, &clock, number + 1);
        }
    });
}

fn another_thread() -> io::Result<()> {
    let mut reactor = Reactor::new()?;
    let ours = thread::current().id();
    let where_am_i =
        move || if thread::current().id() == ours { "the loop's thread" } else { "another" };
    reactor.enqueue(Priority::Normal, move |_, ()| println!("a callback: {}", where_am_i()));
    reactor.after(Duration::from_millis(1), move |_, ()| println!("a timer: {}", where_am_i()));
    reactor.after(Duration::from_millis(2), move |reactor, ()| {
        reactor.offload(where_am_i, move |_, (), done| {
            println!("its work: {}", done.unwrap_or("nowhere"));
            println!("its result: {}", where_am_i());
        });
    });
    reactor.run(&mut ())
}

fn after_nothing() -> io::Result<()> {
    let said = Rc::new(RefCell::new(Vec::new()));
    let say = |word: &'static str| {
        let said = said.clone();
        move |_: &mut Context<()>, (): &mut ()| said.borrow_mut().push(word)
    };
    let mut reactor = Reactor::new()?;
    reactor.after(Duration::ZERO, say("after 0 ms"));
    reactor.enqueue(Priority::Low, say("the least urgent callback"));
    said.borrow_mut().push("the line below");
    reactor.run(&mut ())?;
    println!("{}", said.borrow().join(", then "));
    Ok(())
}

fn main() -> io::Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("1") => a_callback_that_waits().and_then(|()| a_callback_that_is_called()),
        Some("2") => {
            interval_polling(&ManualClock::new()).and_then(|()| long_polling(&ManualClock::new()))
        }
        Some("3") => paused_anywhere().and_then(|()| in_pieces()),
        Some("4") => another_thread(),
        Some("5") => after_nothing(),
        _ => {
            eprintln!(
                "Usage: cargo run -p course --example articles N\n\nN is 1 to 5; see course/articles/README.md."
            );
            std::process::exit(2)
        }
    }
}
