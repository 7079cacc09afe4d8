//! Two ends of a connection in a simulated network, to which a seed does whatever a handler may do.

use std::io;
use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::time::Duration;

use support::Rng;
use support::sim::{OnPurpose, Sim, explore};
use support::tcp::Flow;
use waterwheel::net::{Conn, Event, Limits, Rate, Reason, Stream};
use waterwheel::{Context, SourceId};

/// As long as it takes.
const GRACE: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug)]
struct Storm {
    rng: Rng,
    limits: [Limits; 2],
    ends: [End; 2],
    /// Handlers do so now and then.
    panics: bool,
    /// Nobody was connected.
    failed: bool,
    /// Nothing is done any more but what ends it.
    over: bool,
    /// What is done is printed.
    shows: bool,
}

impl Storm {
    /// Shows what is done where one seed is run alone.
    fn note(&mut self, what: String) {
        if self.shows {
            println!("{what}");
        }
    }
}

#[derive(Debug, Default)]
struct End {
    conn: Option<SourceId<Conn>>,
    sent: Flow,
    got: Flow,
    ended: bool,
    closed: Option<Reason>,
    /// It closed gracefully, and so gave up what was still to come.
    gave_up: bool,
    /// It was aborted or dropped, or may run out of time.
    broke: bool,
}

/// Opens an end, for the first time or again.
fn open(reactor: &mut Context<Storm>, storm: &mut Storm, index: usize, stream: Stream) {
    let handler = move |reactor: &mut Context<Storm>, storm: &mut Storm, id, event: Event<'_>| {
        storm.note(format!("{index} {event:.0?}").chars().take(70).collect());
        let end = &mut storm.ends[index];
        assert!(end.closed.is_none(), "an event after Closed");
        assert_eq!(reactor.get(id).is_none(), matches!(event, Event::Closed(_)));
        match event {
            Event::Data(bytes) => {
                assert!(!bytes.is_empty() && !end.ended);
                let conn: &mut Conn = &mut reactor[id];
                assert!(!conn.is_paused() && !conn.is_closing(), "{conn:?}");
                let kept = match storm.rng.below(5) {
                    0 => storm.rng.below(bytes.len() as u64 + 1) as usize,
                    _ => 0,
                };
                end.got.check(&bytes[..bytes.len() - kept]);
                conn.unread(kept);
                // Who takes a connection out, or panics, loses what it gave back.
                if kept > 0 {
                    return act_on(reactor, storm, index);
                }
                act(reactor, storm);
            }
            Event::Eof => {
                assert!(!std::mem::replace(&mut end.ended, true), "a second Eof");
                end.got.check(reactor[id].backlog());
            }
            Event::Drained => act(reactor, storm),
            Event::Closed(why) => end.closed = Some(why),
        }
        if storm.panics && storm.rng.below(40) == 0 {
            storm.note(format!("{index} panics"));
            resume_unwind(Box::new(OnPurpose));
        }
    };
    storm.ends[index].conn = Some(stream.open(reactor, handler));
}

/// Does something to either end.
fn act(reactor: &mut Context<Storm>, storm: &mut Storm) {
    let index = storm.rng.below(2) as usize;
    if storm.rng.below(12) == 0 && !storm.over {
        return take_out(reactor, storm, index);
    }
    act_on(reactor, storm, index);
}

fn act_on(reactor: &mut Context<Storm>, storm: &mut Storm, index: usize) {
    if storm.over {
        return;
    }
    let what = storm.rng.below(40);
    storm.note(format!("{index} act {what}"));
    let Storm { rng, ends, .. } = storm;
    let end = &mut ends[index];
    let Some((id, conn)) = end.conn.and_then(|id| Some((id, reactor.get_mut(id)?))) else { return };
    match what {
        0 => conn.shutdown(),
        1 => {
            conn.close();
            end.gave_up = true;
        }
        2 if rng.below(5) == 0 => {
            conn.abort();
            end.broke = true;
        }
        3 if rng.below(5) == 0 => {
            reactor.remove(id);
            end.broke = true;
            end.closed = Some(Reason::Aborted); // Nobody is told.
        }
        4 if rng.below(5) == 0 => {
            let some = |rng: &mut Rng| {
                (rng.below(2) == 0).then(|| Duration::from_millis(1 + rng.below(300)))
            };
            let limits = Limits {
                idle_timeout: some(rng),
                read_timeout: some(rng),
                write_timeout: some(rng),
                ..conn.limits().clone()
            };
            conn.set_limits(limits);
            end.broke = true;
        }
        10 | 11 => {
            let rate = |rng: &mut Rng| {
                let bytes = 20_000 + rng.below(1 << 20);
                (rng.below(2) == 0).then(|| Rate::new(bytes, rng.below(10_000)))
            };
            let limits = Limits {
                half_open: rng.below(2) == 0,
                read_rate: rate(rng),
                write_rate: rate(rng),
                ..conn.limits().clone()
            };
            conn.set_limits(limits);
        }
        5..10 => {
            conn.pause();
            reactor.after(Duration::from_millis(rng.below(100)), move |reactor, storm| {
                storm.note(format!("{index} resume"));
                let conn = storm.ends[index].conn.and_then(|id| reactor.get_mut(id));
                conn.map(Conn::resume);
            });
        }
        _ => {
            let most = [10, 3000, 3000, 3000, 30_000][rng.below(5) as usize];
            let bytes = end.sent.peek(rng.below(most) as usize);
            if conn.write(bytes).is_taken() {
                end.sent.at += bytes.len();
            }
        }
    }
}

/// Takes an end out of the loop and opens it again, at once or later.
fn take_out(reactor: &mut Context<Storm>, storm: &mut Storm, index: usize) {
    let Some(id) = storm.ends[index].conn else { return };
    let Some(conn) = reactor.deregister(id) else { return };
    storm.note(format!("{index} out"));
    let later = Duration::from_millis(storm.rng.below(20));
    if later.is_zero() {
        return open(reactor, storm, index, conn.into());
    }
    reactor.after(later, move |reactor, storm| {
        storm.note(format!("{index} in"));
        open(reactor, storm, index, conn.into());
    });
}

fn limits(rng: &mut Rng) -> Limits {
    Limits {
        outbox_bytes_high: rng.below(6000) as usize,
        outbox_bytes_low: rng.below(3000) as usize,
        outbox_bytes_max: 3000 + rng.below(100_000) as usize,
        read_bytes_per_turn: 1 + rng.below(5000) as usize,
        half_open: rng.below(2) == 0,
        close_grace: if rng.below(4) == 0 { Duration::from_millis(rng.below(300)) } else { GRACE },
        ..Limits::default()
    }
}

fn set_up(sim: &mut Sim<Storm>) -> Storm {
    let addr: SocketAddr = "10.0.0.1:7001".parse().unwrap();
    let accept = |reactor: &mut Context<Storm>, storm: &mut Storm, incoming: Stream| {
        let limits = storm.limits[1].clone();
        open(reactor, storm, 1, incoming.limits(limits));
    };
    let listener = sim.network.listen(&mut sim.reactor, addr, accept).unwrap();
    let done = |reactor: &mut Context<Storm>, storm: &mut Storm, stream: io::Result<Stream>| {
        let limits = storm.limits[0].clone();
        match stream {
            Ok(stream) => open(reactor, storm, 0, stream.limits(limits)),
            Err(_) => storm.failed = true,
        }
    };
    sim.network.connect(&mut sim.reactor, addr, Duration::from_secs(2), done).unwrap();
    for _ in 0..sim.rng.below(60) {
        sim.reactor.after(Duration::from_millis(sim.rng.below(1000)), act);
    }
    sim.reactor.after(Duration::from_secs(5), move |reactor, storm| {
        reactor.remove(listener);
        storm.over = true;
        for end in &storm.ends {
            if let Some(conn) = end.conn.and_then(|id| reactor.get_mut(id)) {
                conn.resume();
                conn.shutdown();
            }
        }
    });
    Storm {
        limits: [limits(&mut sim.rng), limits(&mut sim.rng)],
        rng: Rng::from_seed(1 + sim.rng.next() / 2),
        ends: Default::default(),
        panics: sim.rng.below(3) == 0,
        failed: false,
        over: false,
        shows: std::env::var_os("WATERWHEEL_SEED").is_some(),
    }
}

fn check(sim: &Sim<Storm>, storm: &Storm) {
    if storm.failed {
        return;
    }
    let hurries = |limits: &Limits| limits.close_grace < GRACE;
    let calm = !storm.limits.iter().any(hurries)
        && sim.network.traffic().resets == 0
        && !storm.ends.iter().any(|end| end.broke);
    for (end, other) in [(0, 1), (1, 0)].map(|(a, b)| (&storm.ends[a], &storm.ends[b])) {
        let all = end.got.at == other.sent.at;
        assert!(end.closed.is_some(), "{storm:#?}");
        assert!(end.got.at <= other.sent.at, "{storm:#?}");
        assert!(all || !end.ended || end.gave_up || other.broke, "Eof and not all: {storm:#?}");
        if calm {
            assert!(matches!(end.closed, Some(Reason::Finished)), "{storm:#?}");
            assert!(end.gave_up || all && end.ended, "{storm:#?}");
        }
    }
}

#[test]
fn whatever_is_done_every_promise_is_kept() {
    explore("whatever_is_done_every_promise_is_kept", set_up, check);
}
