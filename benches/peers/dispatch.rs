//! What the loop itself costs for an event, without a network; in nanoseconds.
//!
//! A thousand eventfds are registered and some of them made ready; then the loop turns until each
//! of those has been called and has read its eight bytes. Making them ready is not measured, so the
//! clock is read twice a round, and it is the processor's counter: the system's takes longer.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use quanta::Instant;
use rustix::event::{EventfdFlags, eventfd};
use support::{arguments, nanos_each, pin, report};
use waterwheel::Reactor;
use waterwheel::net::Fd;
use waterwheel::reactor::{Interest, SourceId};

mod support;

const HELP: &str = "\
bench-dispatch     takes no arguments

  turn_ns                    a turn with nothing ready
  a1_ns, a16_ns, a256_ns     each event, with so many of 1000 ready
";

const SOURCES: usize = 1000;
const EVENTS: usize = 400_000;
const EMPTY_TURNS: usize = 200_000;
/// Shares no factor with [`SOURCES`], so that each step is another source.
const STRIDE: usize = 7;

type Source = SourceId<Fd<OwnedFd>>;

fn register(reactor: &mut Reactor<u64>) -> io::Result<Source> {
    let fd = Fd(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
    let id = reactor.register(fd, Interest::READABLE, |reactor, called, id, _| {
        let mut count = [0; 8];
        if rustix::io::read(&reactor[id].0, &mut count).is_ok() {
            *called += 1;
        }
    })?;
    Ok(id)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    const NAME: &str = "waterwheel";
    if let Some(other) = arguments(HELP)?.first() {
        return Err(format!("not an argument: {other}").into());
    }
    pin(0);
    let mut reactor = Reactor::new()?;
    let sources =
        (0..SOURCES).map(|_| register(&mut reactor)).collect::<io::Result<Vec<Source>>>()?;
    let mut called = 0;
    reactor.turn(&mut called, Some(Duration::ZERO))?;
    let start = Instant::now();
    for _ in 0..EMPTY_TURNS {
        reactor.turn(&mut called, Some(Duration::ZERO))?;
    }
    report(NAME, "turn_ns", nanos_each(start, EMPTY_TURNS));

    let clock = quanta::Clock::new();
    let mut next = (0..SOURCES).map(|step| sources[step * STRIDE % SOURCES]).cycle();
    for ready in [1, 16, 256] {
        let (rounds, mut spent) = (EVENTS / ready, 0);
        let warm_up = rounds / 10;
        for round in 0..warm_up + rounds {
            for source in next.by_ref().take(ready) {
                rustix::io::write(&reactor[source].0, &1u64.to_ne_bytes())?;
            }
            let start = clock.raw();
            let until = called + ready as u64;
            while called < until {
                reactor.turn(&mut called, Some(Duration::ZERO))?;
            }
            if round >= warm_up {
                spent += clock.delta_as_nanos(start, clock.raw());
            }
        }
        let each = spent as f64 / (rounds * ready) as f64;
        report(NAME, &format!("a{ready}_ns"), each);
    }
    Ok(())
}
