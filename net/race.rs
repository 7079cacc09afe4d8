//! Racing: connecting to the first of several addresses that answers.
//!
//! Knows connectors and the order of addresses; `tcp/name.rs` finds the addresses.
//!
//! A name has several addresses, usually of two families. If they are tried one by one, an address
//! that cannot be reached costs a minute of silence. So each is tried a little after the one before
//! it, or at once if that has failed, and the first to answer is taken: RFC 8305, *Happy Eyeballs*,
//! sections 4 and 5.
//!
//! ```text
//!   0 ms      [2001:db8::1]:80 ···································
//!   250 ms       192.0.2.1:80      ────▶ refused
//!   at once   [2001:db8::2]:80           ──────▶ connected: taken, and the first one closed
//!   never        192.0.2.2:80
//! ```
//!
//! A race is one source, however many sockets it has: they are registered under its token, and its
//! deadline is that of the next attempt or the end. So removing the source removes all of it.
//!
//! # Left out
//! Asking for the two families separately, and starting with the first that is there (section 3):
//! getaddrinfo(3) asks for both and answers once. A memory of the address that answered last time.
//!
//! # Read next
//! `tcp/name.rs`.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use mio::event::Source;
use mio::{Registry, Token};

use super::address::HostPort;
use super::connect::Connector;
use super::group::Group;
use super::limits::Limits;
use super::scarce::with_descriptor;
use super::stream::Stream;
use crate::reactor::{Context, Interest, Options, Readiness, SourceId};
use crate::timers::Tick;

/// The most addresses that are tried for one name, the first ones: the name server decides how many
/// there are.
pub const ADDRESSES_MAX: usize = 16;

const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);

/// A connection that is being made to one of several addresses. Remove its source to cancel all of
/// it; the callback is then not called.
#[derive(Debug)]
pub struct Race<C> {
    name: String,
    addresses: Addresses,
    attempts: Vec<Attempt<C>>,
    failed: Vec<(SocketAddr, io::Error)>,
    /// The time between two attempts.
    delay: Duration,
    /// The tick at which the next one begins, if there is one.
    next: Tick,
    /// The tick at which the attempt is given up.
    until: Tick,
}

#[derive(Debug)]
enum Addresses {
    /// They are not known yet.
    Awaited,
    /// There are none, for this reason.
    Missing(io::Error),
    /// Those that have not been tried yet, in order.
    Untried(VecDeque<SocketAddr>),
}

#[derive(Debug)]
struct Attempt<C> {
    addr: SocketAddr,
    connector: C,
    registered: bool,
}

impl<C> Race<C> {
    /// The name to connect to.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The addresses that are being tried at this moment, in the order in which they were begun.
    pub fn trying(&self) -> impl Iterator<Item = SocketAddr> {
        self.attempts.iter().map(|attempt| attempt.addr)
    }

    /// The error when no address has answered: each address, and its error.
    fn failure(self) -> io::Error {
        let mut kind = ErrorKind::TimedOut;
        let mut reasons = Vec::new();
        // If an address was asked for, the message begins with it already.
        let asked = self.name.parse::<HostPort>().and_then(|name| name.address());
        let asked = asked.ok().flatten();
        let of = |addr: SocketAddr, what: &dyn fmt::Display| {
            if asked == Some(addr) { what.to_string() } else { format!("{addr}: {what}") }
        };
        for (addr, error) in self.failed {
            kind = error.kind();
            reasons.push(of(addr, &error));
        }
        for attempt in self.attempts {
            kind = ErrorKind::TimedOut;
            reasons.push(of(attempt.addr, &"timed out"));
        }
        match self.addresses {
            Addresses::Awaited => reasons.push("looking it up timed out".into()),
            Addresses::Missing(error) => {
                kind = error.kind();
                reasons.push(error.to_string());
            }
            Addresses::Untried(untried) => {
                reasons.extend(untried.iter().map(|addr| of(*addr, &"not tried")));
            }
        }
        io::Error::new(kind, format!("cannot connect to {}: {}", self.name, reasons.join("; ")))
    }
}

impl<C> Race<C> {
    /// Takes out the attempts that have failed; returns the one that is connected, if one is.
    fn winner(&mut self, now: Tick) -> Option<usize>
    where
        C: Connector,
    {
        let mut at = 0;
        while let Some(attempt) = self.attempts.get_mut(at) {
            match attempt.connector.outcome() {
                None => at += 1,
                Some(Ok(())) => return Some(at),
                Some(Err(error)) => {
                    // Dropping it closes it, which ends its registration, too.
                    self.failed.push((self.attempts.remove(at).addr, error));
                    self.next = now;
                }
            }
        }
        None
    }

    /// The next address, if its time has come.
    fn next_address(&mut self, now: Tick) -> Option<SocketAddr> {
        match &mut self.addresses {
            Addresses::Untried(untried) if now >= self.next => untried.pop_front(),
            _ => None,
        }
    }

    /// Returns true if there is nothing more to wait for.
    fn is_lost(&self) -> bool {
        let hopeless = match &self.addresses {
            Addresses::Awaited => false,
            Addresses::Missing(_) => true,
            Addresses::Untried(untried) => untried.is_empty(),
        };
        hopeless && self.attempts.is_empty()
    }

    /// The tick at which it is to be looked at again, even without an event.
    fn deadline(&self, tick_after: impl Fn(Duration) -> Tick) -> Tick
    where
        C: Connector,
    {
        let next = match &self.addresses {
            Addresses::Untried(untried) if !untried.is_empty() => self.next,
            _ => self.until,
        };
        let asks = self.attempts.iter().filter_map(|attempt| attempt.connector.ask_again());
        asks.map(tick_after).fold(next.min(self.until), Tick::min)
    }
}

/// Starts a race to addresses that [`enter`] will bring, in which `connect` begins each attempt,
/// and calls `done` once.
#[track_caller]
pub(super) fn race<S, C, N, F>(
    reactor: &mut Context<S>,
    name: String,
    (timeout, delay): (Duration, Duration),
    mut connect: N,
    done: F,
) -> io::Result<SourceId<Race<C>>>
where
    S: 'static,
    C: Connector,
    N: FnMut(SocketAddr) -> io::Result<C> + 'static,
    F: FnOnce(&mut Context<S>, &mut S, io::Result<Stream>) + 'static,
{
    let race = Race {
        name,
        addresses: Addresses::Awaited,
        attempts: Vec::new(),
        failed: Vec::new(),
        delay,
        next: Tick::START,
        until: reactor.tick_after(timeout),
    };
    let until = race.until;
    let mut done = Some(done);
    let options = Options { closes: true, ..Options::default() };
    let id = reactor.register_with(race, BOTH, options, move |reactor, state, id, _| {
        let Some(result) = outcome(reactor, id, &mut connect) else { return };
        if let Some(done) = done.take() {
            done(reactor, state, result);
        }
    })?;
    reactor.set_deadline(id, Some(until));
    Ok(id)
}

/// Gives a race its addresses, in order of preference; it begins in the next turn. Has no effect if
/// the race is gone.
pub(super) fn enter<S: 'static, C: Connector>(
    reactor: &mut Context<S>,
    id: SourceId<Race<C>>,
    addresses: io::Result<Vec<SocketAddr>>,
) {
    let Some(race) = reactor.get_mut(id) else { return };
    race.addresses = match addresses {
        Ok(found) if found.is_empty() => {
            Addresses::Missing(io::Error::new(ErrorKind::NotFound, "it has no address"))
        }
        Ok(found) => Addresses::Untried(interleaved(found)),
        Err(error) => Addresses::Missing(error),
    };
    reactor.resume(id, Readiness::WRITABLE);
}

/// Takes a race that has ended out of the loop and returns its result; else `None`.
fn outcome<S: 'static, C: Connector>(
    reactor: &mut Context<S>,
    id: SourceId<Race<C>>,
    connect: &mut impl FnMut(SocketAddr) -> io::Result<C>,
) -> Option<io::Result<Stream>> {
    let now = reactor.tick();
    if let Some(at) = reactor[id].winner(now) {
        // All others are closed here.
        let connector = reactor.deregister(id)?.attempts.swap_remove(at).connector;
        return Some(Ok(connector.stream(Group::new(Limits::default()))));
    }
    let up = now >= reactor[id].until;
    if !up {
        begin(reactor, id, now, connect);
    }
    if up || reactor[id].is_lost() {
        return Some(Err(reactor.deregister(id)?.failure()));
    }
    let tick = reactor[id].deadline(|delay| reactor.tick_after(delay));
    reactor.set_deadline(id, Some(tick));
    None
}

/// Begins the attempt whose time has come; the next one, too, if it fails at once.
fn begin<S: 'static, C: Connector>(
    reactor: &mut Context<S>,
    id: SourceId<Race<C>>,
    now: Tick,
    connect: &mut impl FnMut(SocketAddr) -> io::Result<C>,
) {
    while let Some(addr) = reactor[id].next_address(now) {
        let begun = with_descriptor(reactor, || connect(addr)).and_then(|connector| {
            reactor[id].attempts.push(Attempt { addr, connector, registered: false });
            reactor.set_interest(id, BOTH) // Registers those that are not.
        });
        match begun {
            Ok(_) => reactor[id].next = reactor.tick_after(reactor[id].delay),
            Err(error) => {
                let race = &mut reactor[id];
                race.attempts.retain(|attempt| attempt.registered);
                race.failed.push((addr, error));
            }
        }
    }
}

/// The addresses in the order in which they are tried: IPv6 first, then the families in turn while
/// there are two; within each, as the resolver has sorted them (RFC 6724). Where IPv6 has no route
/// its attempts fail at once, and the next begins without a wait.
fn interleaved(found: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let (mut sixes, mut fours) = (VecDeque::new(), VecDeque::new());
    for addr in found {
        let family = if addr.is_ipv6() { &mut sixes } else { &mut fours };
        if !family.contains(&addr) && family.len() < ADDRESSES_MAX {
            family.push_back(addr);
        }
    }
    let mut order = VecDeque::new();
    while order.len() < ADDRESSES_MAX && !(sixes.is_empty() && fours.is_empty()) {
        order.extend(sixes.pop_front());
        order.extend(fours.pop_front());
    }
    order.truncate(ADDRESSES_MAX);
    order
}

/// Each attempt is registered by itself, under the token of the race.
impl<C: Source> Source for Race<C> {
    fn register(&mut self, r: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.reregister(r, token, interest)
    }

    fn reregister(&mut self, r: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        for attempt in self.attempts.iter_mut().filter(|attempt| !attempt.registered) {
            attempt.connector.register(r, token, interest)?;
            attempt.registered = true;
        }
        Ok(())
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        let registered = self.attempts.iter_mut().filter(|attempt| attempt.registered);
        registered
            .map(|attempt| attempt.connector.deregister(registry))
            .fold(Ok(()), io::Result::and)
    }
}

#[cfg(test)]
mod tests;
