//! Break: a chain of a million links, an error that nobody catches, and a promise that waits for
//! itself.

use std::io;
use std::process::{Command, Stdio};
use std::rc::Rc;

use kit::Loop;
use waterwheel::Reactor;
use waterwheel::patterns::Promise;

#[path = "promise.rs"]
#[allow(clippy::all, dead_code, unused)]
#[rustfmt::skip]
mod promise;

const LINKS: u64 = 1_000_000;

fn main() -> io::Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("at once") => at_once(),
        Some("yours") => yours(),
        _ => {
            child("callbacks that call each other", "at once")?;
            child("your promises", "yours")?;
            nobody_catches()?;
            waits_for_itself();
        }
    }
    Ok(())
}

/// The chain may overflow the stack, and that ends the process. So a child has to do it.
fn child(name: &str, what: &str) -> io::Result<()> {
    let program = std::env::current_exe()?;
    let ended = Command::new(program).arg(what).stderr(Stdio::null()).output()?;
    match ended.status.success() {
        true => print!("{name}: {}", String::from_utf8_lossy(&ended.stdout)),
        false => println!("{name}: a million links end the process: {}", ended.status),
    }
    Ok(())
}

/// Each callback calls the next one.
fn at_once() {
    let mut chain: Box<dyn FnOnce(u64) -> u64> = Box::new(|value| value);
    for _ in 0..LINKS {
        let next = chain;
        chain = Box::new(move |value| next(value + 1) + 1);
    }
    println!("{}", chain(0));
}

fn yours() {
    let on = Loop::new();
    let (mut tail, resolver) = promise::promise(&on);
    for _ in 0..LINKS {
        tail = tail.then(|value: u64| Ok(value + 1));
    }
    tail.then(|value| {
        println!("a million links have run, and the value is {value}");
        Ok(())
    });
    resolver.settle(Ok(0));
    on.run();
    // And one that is dropped before it is settled.
    let (mut tail, resolver) = promise::promise(&on);
    for _ in 0..LINKS {
        tail = tail.then(|value: u64| Ok(value + 1));
    }
    drop((tail, resolver));
    on.run();
}

/// The error passes by all callbacks. Then it is gone.
fn nobody_catches() -> io::Result<()> {
    let on = Loop::new();
    let (head, resolver) = promise::promise::<u32>(&on);
    head.then(Ok).then(Ok);
    resolver.settle(Err("the disk is full".into()));
    on.run();
    println!("an error that nobody catches: you have read nothing of it");
    let mut reactor = Reactor::<()>::new()?;
    Promise::<_, u32, String>::rejected(&mut reactor, "the disk is full".into());
    reactor.run(&mut ())?;
    let count = reactor.statistics().unhandled;
    println!("waterwheel has counted {count}, and logs it with the place of the promise");
    Ok(())
}

/// The callback owns the resolver of the promise that it waits for.
fn waits_for_itself() {
    let (on, held) = (Loop::new(), Rc::new(()));
    let (waits, resolver) = promise::promise::<u32>(&on);
    let holds = held.clone();
    waits.then(move |value| {
        resolver.settle(Ok(value));
        drop(holds);
        Ok(())
    });
    on.run();
    let left = Rc::strong_count(&held) - 1;
    println!("a promise that waits for itself: callbacks that stay in memory for ever: {left}");
}
