//! Quiz 2, behind chapter 10: each question is a function. `cargo run -p course --example quiz2 3` runs the third.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use waterwheel::reactor::{Missed, Priority};
use waterwheel::timers::{ManualClock, Wheel};
use waterwheel::{Context, Reactor};

const MS: Duration = Duration::from_millis(1);

fn question_1() -> io::Result<char> {
    let mut people = registry::Registry::new();
    let ann = people.insert("Ann");
    people.remove(ann);
    let cleo = people.insert("Cleo");
    let (places, ann) = (people.places(), people.get(ann).copied());
    println!("places: {places}; Ann: {ann:?}; Cleo: {:?}", people.get(cleo));
    Ok(match (places, ann) {
        (1, Some(_)) => 'a',
        (2, None) => 'b',
        _ => 'c',
    })
}

fn question_2() -> io::Result<char> {
    let mut reactor = Reactor::builder().clock(&ManualClock::new()).build()?;
    let first = reactor.after(10 * MS, |_, seen: &mut String| seen.push('A'));
    let second = Rc::new(std::cell::Cell::new(first));
    let cancelled = second.clone();
    reactor.after(10 * MS, move |reactor, seen| {
        seen.push('B');
        reactor.cancel(cancelled.get());
    });
    second.set(reactor.after(10 * MS, |_, seen| seen.push('C')));
    told(reactor, &["ABC", "AB", "ACB"])
}

fn question_3() -> io::Result<char> {
    fn urgent(reactor: &mut Context<String>, seen: &mut String) {
        seen.push('H');
        if seen.len() < 6 {
            reactor.enqueue(Priority::High, urgent);
        }
    }
    let mut reactor = Reactor::new()?;
    reactor.enqueue(Priority::Low, |_, seen: &mut String| seen.push('L'));
    reactor.enqueue(Priority::High, urgent);
    told(reactor, &["HHHHHHL", "LHHHHH", "HLHHHH"])
}

fn question_4() -> io::Result<char> {
    let mut reactor = Reactor::new()?;
    reactor.enqueue(Priority::Normal, |reactor, seen: &mut String| {
        seen.push('A');
        reactor.enqueue(Priority::High, |_, seen| seen.push('Q'));
        reactor.defer(|_, seen| seen.push('D'));
        seen.push('a');
    });
    reactor.enqueue(Priority::Normal, |_, seen| seen.push('B'));
    told(reactor, &["AaDBQ", "AaQDB", "ADaBQ"])
}

fn question_5() -> io::Result<char> {
    let mut reactor = Reactor::builder().clock(&ManualClock::new()).build()?;
    reactor.after(5 * MS, |reactor, _: &mut String| {
        reactor.after(5 * MS, |_, seen: &mut String| seen.push('N'));
    });
    reactor.after(10 * MS, |_, seen| seen.push('O'));
    told(reactor, &["ON", "NO", "O"])
}

fn question_6() -> io::Result<char> {
    let clock = ManualClock::new();
    let mut reactor = Reactor::builder().clock(&clock).build()?;
    let start = reactor.now();
    reactor.every(10 * MS, Missed::Skip, move |reactor, at: &mut Vec<u128>, _| {
        at.push((reactor.now() - start).as_millis());
        match at.len() {
            1 => clock.advance(25 * MS), // So long it works, this once.
            3 => reactor.stop(),
            _ => {}
        }
    });
    let mut at = Vec::new();
    reactor.run(&mut at)?;
    println!("it ran at {at:?}");
    Ok(match at[..] {
        [10, 20, 30] => 'a',
        [10, 35, 45] => 'b',
        [10, 35, 40] => 'c',
        _ => 'd',
    })
}

fn question_7() -> io::Result<char> {
    let mut wheel = Wheel::new();
    wheel.insert(3, "near");
    wheel.insert(5000, "far");
    let mut wakes = Vec::new();
    while let Some(tick) = wheel.next_deadline() {
        let mut names = Vec::new();
        while let Some(id) = wheel.expire(tick) {
            names.extend(wheel.cancel(id));
        }
        wakes.push((tick, names));
    }
    println!("{wakes:?}");
    Ok(match wakes.len() {
        2 => 'a',
        3 => 'b',
        4 => 'c',
        _ => 'd',
    })
}

fn question_8() -> io::Result<char> {
    std::panic::set_hook(Box::new(|_| {})); // Not a word of it on the terminal.
    let mut reactor = Reactor::new()?;
    reactor.enqueue(Priority::Normal, |_, _: &mut String| panic!("A"));
    reactor.enqueue(Priority::Normal, |_, seen| seen.push('B'));
    let mut seen = String::new();
    let caught = catch_unwind(AssertUnwindSafe(|| reactor.run(&mut seen))).is_err();
    let before = seen.len();
    reactor.run(&mut seen)?;
    println!(
        "run panicked: {caught}; B has run by then: {}, and later: {}",
        before > 0,
        seen.len() > before
    );
    Ok(match (caught, before, seen.len()) {
        (true, 0, 1) => 'b',
        (_, 1, _) => 'c',
        _ => 'a',
    })
}

/// Runs the loop, prints the letters that were seen, and says which option they are.
fn told(mut reactor: Reactor<String>, options: &[&str]) -> io::Result<char> {
    let mut seen = String::new();
    reactor.run(&mut seen)?;
    println!("{seen}");
    let answer = options.iter().position(|option| *option == seen);
    Ok(answer.and_then(|at| "abcd".chars().nth(at)).unwrap_or('?'))
}

#[path = "../06-ids/solution.rs"]
#[allow(dead_code)]
mod registry;

fn main() -> io::Result<()> {
    kit::quiz(&[
        question_1, question_2, question_3, question_4, question_5, question_6, question_7,
        question_8,
    ])
}
