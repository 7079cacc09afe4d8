//! Bus: orders, stock and mail, which do not know each other.
//!
//! Run:  cargo run --release --example bus
//! Then: nothing: it prints a line for each thing that happens
//! See:  the order in which departments get an event; mail is sent, although nobody calls it. A
//!       published event waits for the next turn, an emitted one is delivered inside the call.
//! Look: `open_shop`. Each department names events and no other department, so a new one is a new
//!       function, and nothing else changes.
//! Next: a department for returns; let stock refuse an order, by an event of its own; subscribe a
//!       listener of `Placed` from inside of one: why does it not get this order?

use std::collections::HashMap;

use waterwheel::reactor::Priority;
use waterwheel::{Context, Reactor};

mod cli;

const USAGE: &str = "\
Usage: bus [OPTIONS]

Takes three orders, and lets departments hear of them that do not know each other.

Options:
  -h, --help      show this";

/// The state: the number of each item on the shelf.
type Shelf = HashMap<&'static str, u32>;

// The events. An event may be of any type; the sender does not know the listeners.
struct Placed {
    order: u32,
    item: &'static str,
}
struct Shipped {
    order: u32,
}
struct SoldOut {
    item: &'static str,
}

fn main() {
    cli::parse(USAGE, "", &[]);
    cli::exit_on_error(run().map_err(|error| error.to_string()));
}

fn run() -> std::io::Result<()> {
    let mut reactor = Reactor::new()?;
    let mut shelf = Shelf::from([("lamp", 1), ("chair", 9)]);
    say(&reactor, "before anybody listens", "order 0: a lamp");
    reactor.publish(Placed { order: 0, item: "lamp" }); // Nobody listens yet.
    open_shop(&mut reactor);
    for (order, item) in [(1, "chair"), (2, "lamp"), (3, "lamp")] {
        say(&reactor, "orders", format_args!("order {order}: a {item}"));
        reactor.publish(Placed { order, item });
    }
    reactor.run(&mut shelf)?;
    let unheard = reactor.unheard();
    say(&reactor, "at the end", format_args!("{unheard} events were heard by nobody"));
    Ok(())
}

/// Prints a line of a department, and the turn of the loop.
fn say(reactor: &Context<Shelf>, who: &str, what: impl std::fmt::Display) {
    cli::print(format_args!("turn {}  {who}: {what}", reactor.statistics().turns));
}

fn open_shop(reactor: &mut Context<Shelf>) {
    audit(reactor);
    mail(reactor);
    advertising(reactor);
    stock(reactor);
}

/// Subscribes first and is called last: it asked for that.
fn audit(reactor: &mut Context<Shelf>) {
    reactor.subscribe_with(Priority::Low, |reactor, shelf: &mut Shelf, placed: &Placed| {
        let left = shelf.get(placed.item).unwrap_or(&0);
        say(reactor, "audit, Low", format_args!("order {}, {left} left", placed.order));
    });
}

fn mail(reactor: &mut Context<Shelf>) {
    reactor.once(|reactor, _, placed: &Placed| {
        say(reactor, "mail, once", format_args!("order {} is our first: champagne!", placed.order));
    });
    reactor.subscribe(|reactor, _, shipped: &Shipped| {
        say(
            reactor,
            "mail, published by stock",
            format_args!("order {} is on its way to you", shipped.order),
        );
    });
}

/// Praises the items that are sold, until one is sold out.
fn advertising(reactor: &mut Context<Shelf>) {
    let ads = reactor.subscribe(|reactor, _, placed: &Placed| {
        say(reactor, "advertising", format_args!("{}s are all the rage!", placed.item));
    });
    reactor.subscribe(move |reactor, _, sold_out: &SoldOut| {
        let stopped = reactor.unsubscribe(ads);
        say(
            reactor,
            "advertising, emitted by stock",
            format_args!("no more {}s; stopped: {stopped}", sold_out.item),
        );
    });
}

/// Is called first, so that all the others see the shelf as it is after the order.
fn stock(reactor: &mut Context<Shelf>) {
    reactor.subscribe_with(Priority::High, |reactor, shelf: &mut Shelf, placed: &Placed| {
        let Placed { order, item } = *placed;
        match shelf.get_mut(item) {
            Some(left @ 1..) => {
                *left -= 1;
                say(reactor, "stock, High", format_args!("order {order}: a {item} is packed"));
                reactor.publish(Shipped { order }); // Later: no hurry.
            }
            _ => {
                // Now: advertising must get this before it gets this order.
                reactor.emit(shelf, &SoldOut { item });
                say(reactor, "stock, High", format_args!("order {order}: there is no {item}"));
            }
        }
    });
}
