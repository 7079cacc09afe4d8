//! An HTTP server under siege: real sockets on loopback, and a clock that only the test moves.

use std::net::SocketAddr;
use std::time::Duration;

use crate::Rng;
use crate::tcp::{Peer, await_readiness, turn_until};
use waterwheel::net::tcp::Listener;
use waterwheel::protocols::http::{Limits, Server};
use waterwheel::timers::ManualClock;
use waterwheel::{Reactor, SourceId};

pub struct Siege<S: 'static> {
    pub clock: ManualClock,
    pub reactor: Reactor<S>,
    pub listener: SourceId<Listener>,
    pub addr: SocketAddr,
    pub state: S,
}

impl<S: Default + 'static> Siege<S> {
    pub fn of(server: Server<S>, limits: Limits) -> Siege<S> {
        let clock = ManualClock::held();
        let mut reactor = Reactor::builder().clock(&clock).build().unwrap();
        let listener = server.limits(limits).listen(&mut reactor, "127.0.0.1:0").unwrap();
        let addr = reactor[listener].local_addr();
        Siege { clock, reactor, listener, addr, state: S::default() }
    }
}

impl<S: 'static> Siege<S> {
    /// A client whose connection is accepted.
    pub fn peer(&mut self) -> Peer {
        let before = self.reactor.sources();
        let peer = Peer::to(self.addr);
        self.until(|siege| siege.sources() > before);
        peer
    }

    pub fn until(&mut self, mut done: impl FnMut(&mut Reactor<S>) -> bool) {
        turn_until(&mut self.reactor, &mut self.state, |reactor, _| done(reactor));
    }

    /// Turns until the peer has heard this, or nothing more can come.
    pub fn hear(&mut self, peer: &mut Peer, what: &str) {
        self.until(|_| {
            let ended = peer.read_all().is_some();
            ended || peer.got.windows(what.len()).any(|bytes| bytes == what.as_bytes())
        });
    }

    /// Turns until the server has ended the peer's input.
    pub fn hear_out(&mut self, peer: &mut Peer) -> String {
        self.until(|_| peer.read_all().is_some());
        text(peer)
    }

    /// Turns until nothing happens any more.
    pub fn settle(&mut self) {
        let mut quiet = 0;
        while quiet < 3 {
            let ran = self.reactor.turn(&mut self.state, Some(Duration::ZERO)).expect("a turn");
            quiet = if ran == 0 && !await_readiness(&self.reactor, 1) { quiet + 1 } else { 0 };
        }
    }

    /// Lets time pass, a quarter of a second at a time.
    pub fn wait(&mut self, time: Duration) {
        let mut left = time;
        while left > Duration::ZERO {
            let step = left.min(Duration::from_millis(250));
            self.clock.advance(step);
            left -= step;
            while self.reactor.turn(&mut self.state, Some(Duration::ZERO)).expect("a turn") > 0 {}
        }
    }

    /// Nothing is left but the listener, at the latest when every limit is up.
    pub fn assert_clean(&mut self, when: &str) {
        self.settle();
        self.wait(Duration::from_secs(200));
        let left = (self.reactor.sources(), self.reactor.timers());
        assert_eq!(left, (1, 0), "{when}: {:?}", self.reactor.why_alive());
    }
}

/// What a peer has heard, as text.
pub fn text(peer: &Peer) -> String {
    String::from_utf8_lossy(&peer.got).into_owned()
}

/// The lengths of whole responses with a `Content-Length`; panics if there is anything else.
pub fn whole_responses(mut text: &str) -> Vec<usize> {
    let mut lengths = Vec::new();
    while !text.is_empty() {
        let (head, rest) = text.split_once("\r\n\r\n").expect("a whole head");
        let (_, length) = head.split_once("Content-Length: ").expect("a length");
        let digits = length.split("\r\n").next().unwrap();
        let length: usize = digits.parse().expect("a number");
        assert!(rest.len() >= length, "{} of {length} bytes", rest.len());
        text = &rest[length..];
        lengths.push(length);
    }
    lengths
}

/// A body of noise, the same each time.
pub fn noise(bytes: usize) -> Vec<u8> {
    let mut rng = Rng::from_seed(11);
    (0..bytes).map(|_| b'a' + rng.below(26) as u8).collect()
}
