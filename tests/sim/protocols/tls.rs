//! TLS however its bytes are cut, delayed, reset: the connection is told the same, or how it ended.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use rustls::version::{TLS12, TLS13};
use support::Rng;
use support::sim::{OnPurpose, Sim, explore};
use support::tcp::{Flow, Told, note, turn_until, turns, watched};
use support::tls as with;
use support::tls_peer::TlsPeer;
use waterwheel::net::{Conn, Event, Limits, Pressure, Rate, Reason, Stream, memory};
use waterwheel::protocols::tls;
use waterwheel::{Context, Reactor, SourceId};

/// What is to be the same wherever the peer's ciphertext is cut.
#[derive(Debug, PartialEq)]
struct Outcome {
    bytes: Vec<u8>,
    eof: bool,
    closed: String,
    heard: usize,
    goodbye: bool,
    /// How much ciphertext the peer has sent.
    sent: usize,
}

/// One whole connection with a peer that cuts what it sends at this offset. We are the server, or
/// the client, of this version.
fn conversation(
    cut: usize,
    serving: bool,
    version: &'static rustls::SupportedProtocolVersion,
) -> Outcome {
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let (ours, theirs) = memory::pair(&mut reactor);
    let opened = Rc::new(Cell::new(None));
    let open = opened.clone();
    let done = move |reactor: &mut Context<Told>, _: &mut Told, result: std::io::Result<Stream>| {
        open.set(Some(result.unwrap().open(reactor, watched(note))));
    };
    let mut peer = if serving {
        with::server_of(with::of_one_size()).accept(&mut reactor, ours, done);
        TlsPeer::client(&mut reactor, theirs, with::client_config_of(&[version]))
    } else {
        with::client().connect(&mut reactor, ours, "localhost", done);
        TlsPeer::server(
            &mut reactor,
            theirs,
            with::server_config_of(with::of_one_size(), &[version]),
        )
    };
    peer.cut = cut;
    peer.shake(&mut reactor, &mut told);
    turn_until(&mut reactor, &mut told, |_, _| opened.get().is_some());
    let conn: SourceId<Conn> = opened.get().unwrap();
    // Said before ours is heard, so that more than data is under way.
    peer.say(b"one");
    peer.flush_cut(&mut reactor, &mut told);
    let _ = reactor[conn].write(&[7; 2000]);
    if version == &TLS13 {
        peer.tls.refresh_traffic_keys().unwrap();
    }
    peer.say(&[b'x'; 300]);
    peer.flush_cut(&mut reactor, &mut told);
    turns(&mut reactor, &mut told, 3);
    peer.read(&mut reactor).unwrap();
    peer.say(b"three");
    peer.tls.send_close_notify();
    peer.flush_cut(&mut reactor, &mut told);
    reactor[peer.conn].shutdown();
    turn_until(&mut reactor, &mut told, |_, told| told.closed.is_some());
    turns(&mut reactor, &mut told, 3);
    peer.read(&mut reactor).unwrap();
    Outcome {
        bytes: told.bytes,
        eof: told.eof,
        closed: told.closed.unwrap().to_string(),
        heard: peer.heard.len(),
        goodbye: peer.was_told_goodbye(),
        sent: peer.sent,
    }
}

#[test]
fn a_cut_at_any_offset_changes_nothing() {
    for version in [&TLS13, &TLS12] {
        for serving in [true, false] {
            let whole = conversation(usize::MAX, serving, version);
            assert_eq!((whole.bytes.len(), whole.heard), (308, 2000));
            assert!(whole.eof && whole.goodbye && whole.closed == "finished", "{whole:?}");
            for cut in 0..whole.sent {
                assert_eq!(conversation(cut, serving, version), whole, "cut at {cut}");
            }
        }
    }
}

/// Both ends of one connection in a simulated network.
#[derive(Default)]
struct Pair {
    ends: [End; 2],
    handshakes: usize,
    panics: usize,
}

#[derive(Default)]
struct End {
    conn: Option<SourceId<Conn>>,
    limits: Limits,
    bytes: usize,
    sent: Flow,
    got: Flow,
    eof: bool,
    error: Option<String>,
    closed: Option<Reason>,
    /// Of a hundred events, how many unwind; and pause.
    panics: u64,
    pauses: u64,
    aborts: u64,
    rng: Option<Rng>,
}

impl End {
    fn feed(&mut self, conn: &mut Conn) {
        while self.sent.at < self.bytes {
            let bytes = self.sent.peek((self.bytes - self.sent.at).min(3000));
            let pressure = conn.write(bytes);
            if !pressure.is_taken() {
                return;
            }
            self.sent.at += bytes.len();
            if pressure == Pressure::AboveHigh {
                return;
            }
        }
        conn.shutdown();
    }

    fn drawn(rng: &mut Rng, troubled: bool) -> End {
        let some = |of: u64, rng: &mut Rng| if troubled { rng.below(of) } else { 0 };
        let rate = |rng: &mut Rng| {
            (rng.below(5) == 0).then(|| Rate::new(2000 + rng.below(200_000), rng.below(5000)))
        };
        let limits = Limits {
            outbox_bytes_high: 1 + rng.below(20_000) as usize,
            outbox_bytes_low: rng.below(1000) as usize,
            read_bytes_per_turn: 1 + rng.below(40_000) as usize,
            close_grace: Duration::from_secs(24 * 3600),
            half_open: true,
            read_rate: rate(rng),
            write_rate: rate(rng),
            ..Limits::default()
        };
        End {
            limits,
            bytes: rng.below(60_000) as usize,
            panics: some(3, rng),
            pauses: rng.below(20),
            aborts: some(3, rng),
            rng: Some(Rng::from_seed(rng.next())),
            ..End::default()
        }
    }
}

/// Takes what a handshake answered.
fn took(reactor: &mut Context<Pair>, pair: &mut Pair, own: usize, result: std::io::Result<Stream>) {
    pair.handshakes += 1;
    let end = &mut pair.ends[own];
    let stream = match result {
        Ok(stream) => stream,
        Err(error) => return end.error = Some(error.to_string()),
    };
    assert!(end.conn.is_none() && end.error.is_none(), "told twice");
    let handler = move |reactor: &mut Context<Pair>, pair: &mut Pair, conn, event: Event<'_>| {
        let end = &mut pair.ends[own];
        match event {
            Event::Data(bytes) => end.got.check(bytes),
            Event::Drained => end.feed(&mut reactor[conn]),
            Event::Eof => end.eof = true,
            Event::Closed(why) => return end.closed = Some(why),
        }
        let rng = end.rng.as_mut().expect("dice");
        if rng.below(100) < end.pauses {
            reactor[conn].pause();
            reactor.after(Duration::from_millis(5), move |reactor, _| {
                reactor.get_mut(conn).map(Conn::resume);
            });
        }
        if rng.below(100) < end.aborts {
            reactor[conn].abort();
        }
        if rng.below(100) < end.panics {
            pair.panics += 1;
            std::panic::resume_unwind(Box::new(OnPurpose));
        }
    };
    let conn = stream.limits(end.limits.clone()).open(reactor, watched(handler));
    end.conn = Some(conn);
    end.feed(&mut reactor[conn]);
}

fn addr() -> SocketAddr {
    "10.0.0.1:7443".parse().expect("an address")
}

/// Servers and clients are made once: a ticket's key must not depend on the seed, nor cost time.
fn both() -> (tls::Server, tls::Client) {
    thread_local! {
        static BOTH: RefCell<Option<(tls::Server, tls::Client)>> = const { RefCell::new(None) };
    }
    let make =
        || (with::server_of(with::of_one_size()), tls::Client::from(with::forgetful_config()));
    BOTH.with_borrow_mut(|both| both.get_or_insert_with(make).clone())
}

fn set_up(sim: &mut Sim<Pair>, troubled: bool) -> Pair {
    if !troubled {
        sim.lossless();
    }
    let (server, client) = both();
    let patience = Duration::from_secs(3600);
    let (server, client) = (server.handshake_timeout(patience), client.handshake_timeout(patience));
    let on_accept = move |reactor: &mut Context<Pair>, _: &mut Pair, incoming: Stream| {
        server.accept(reactor, incoming, |reactor, pair, result| took(reactor, pair, 0, result));
    };
    let listener = sim.network.listen(&mut sim.reactor, addr(), on_accept).unwrap();
    sim.reactor.unref(listener);
    sim.reactor.after(Duration::from_secs(48 * 3600), move |reactor, _| {
        reactor.remove(listener);
    });
    let done = move |reactor: &mut Context<Pair>, pair: &mut Pair, result| match result {
        Ok(stream) => {
            client.connect(reactor, stream, "localhost", |reactor, pair, result| {
                took(reactor, pair, 1, result);
            });
        }
        Err(error) => pair.ends[1].error = Some(std::io::Error::to_string(&error)),
    };
    sim.network.connect(&mut sim.reactor, addr(), patience, done).unwrap();
    let ends = [(); 2].map(|()| End::drawn(&mut sim.rng, troubled));
    Pair { ends, ..Pair::default() }
}

#[test]
fn all_arrives_where_nothing_ends_the_connection() {
    explore(
        "all_arrives_where_nothing_ends_the_connection",
        |sim| set_up(sim, false),
        |_, pair| {
            assert_eq!(pair.handshakes, 2);
            for (own, other) in [(0, 1), (1, 0)] {
                let end = &pair.ends[own];
                assert_eq!(end.error, None);
                assert_eq!(end.got.at, pair.ends[other].bytes);
                assert!(
                    end.eof && matches!(end.closed, Some(Reason::Finished)),
                    "{:?}",
                    end.closed
                );
            }
        },
    );
}

#[test]
fn whatever_goes_wrong_no_end_takes_a_part_for_the_whole() {
    explore(
        "whatever_goes_wrong_no_end_takes_a_part_for_the_whole",
        |sim| set_up(sim, true),
        |_, pair| {
            for (own, other) in [(0, 1), (1, 0)] {
                let (end, peer) = (&pair.ends[own], &pair.ends[other]);
                assert_eq!(end.conn.is_some(), end.closed.is_some());
                assert!(end.got.at <= peer.sent.at);
                // Eof is the peer's own word: behind it nothing is missing.
                assert!(!end.eof || end.got.at == peer.bytes, "{} of {}", end.got.at, peer.bytes);
            }
        },
    );
}
