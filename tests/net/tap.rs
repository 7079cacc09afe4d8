//! A link with a tap: what passes is seen, changed, put off or cut, and nothing else happens to it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use support::tcp::{Flow, Peer, turn_until, turns, unclosed, watched};
use support::{MS, Rng};
use waterwheel::net::{self, Conn, Event, Limits, Link, LinkReport, Passing, Pressure, Reason};
use waterwheel::net::{Side, Stream, Tap, memory, tcp};
use waterwheel::timers::ManualClock;
use waterwheel::{Context, Reactor, SourceId};

/// What the two peers were told, and how the link has ended.
#[derive(Default)]
struct World {
    heard: [Vec<u8>; 2],
    ended: [bool; 2],
    closed: [Option<Reason>; 2],
    reports: Vec<LinkReport>,
    streams: Vec<Stream>,
}

/// A reactor with two peers in memory, and a link between them.
struct Lab {
    reactor: Reactor<World>,
    world: World,
    clock: ManualClock,
    link: SourceId<Link>,
    peers: [SourceId<Conn>; 2],
}

type Verdict = dyn FnMut(&mut Context<World>, SourceId<Link>, Passing<'_>) -> Tap;

fn lab(
    limits: Limits,
    mut tap: impl FnMut(&mut Context<World>, SourceId<Link>, Passing<'_>) -> Tap + 'static,
) -> Lab {
    let clock = ManualClock::held();
    let mut reactor = Reactor::builder().clock(&clock).build().unwrap();
    let [(left, a), (b, right)] = [(); 2].map(|()| memory::pair(&mut reactor));
    let link = net::link_with(
        &mut reactor,
        a.limits(limits.clone()),
        b.limits(limits),
        move |reactor: &mut _, _: &mut World, link, passing: Passing<'_>| {
            tap(reactor, link, passing)
        },
        |_, world, report| world.reports.push(report),
    );
    let mut sides = [0, 1].into_iter();
    let peers = [left, right].map(|stream| {
        let side = sides.next().unwrap();
        let limits = Limits { half_open: true, ..Limits::default() };
        stream.limits(limits).open(
            &mut reactor,
            watched(move |_: &mut _, world: &mut World, _, event: Event<'_>| match event {
                Event::Data(bytes) => world.heard[side].extend(bytes),
                Event::Eof => world.ended[side] = true,
                Event::Closed(why) => world.closed[side] = Some(why),
                Event::Drained => {}
            }),
        )
    });
    Lab { reactor, world: World::default(), clock, link, peers }
}

impl Lab {
    fn send(&mut self, side: usize, bytes: &[u8]) {
        let peer = self.peers[side];
        assert_ne!(self.reactor[peer].write(bytes), Pressure::Refused);
        self.turns();
    }

    fn finish(&mut self, side: usize) {
        let peer = self.peers[side];
        self.reactor[peer].shutdown();
        self.turns();
    }

    fn turns(&mut self) {
        turns(&mut self.reactor, &mut self.world, 20);
    }

    /// The report: bytes and reasons. Nothing is left.
    fn report(&mut self) -> ([u64; 2], [String; 2]) {
        self.turns();
        let LinkReport { a, b, .. } = self.world.reports.pop().expect("it has ended");
        assert!(self.world.reports.is_empty());
        ([a.bytes, b.bytes], [a.reason, b.reason].map(|reason| format!("{reason:?}")))
    }
}

fn finished() -> [String; 2] {
    ["Finished", "Finished"].map(str::to_owned)
}

#[test]
fn tap_sees_each_piece_and_end_of_both_sides_and_changes_nothing() {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let sees = seen.clone();
    let mut lab = lab(Limits::default(), move |_, _, passing| {
        sees.borrow_mut().push(match passing {
            Passing::Data(side, bytes) => format!("{side:?} {}", String::from_utf8_lossy(bytes)),
            Passing::Eof(side) => format!("{side:?} ends"),
        });
        Tap::Pass
    });
    lab.send(0, b"question");
    lab.send(1, b"answer");
    lab.finish(0);
    lab.send(1, b"more");
    assert!(!lab.world.ended[0]);
    lab.finish(1);
    assert_eq!(*seen.borrow(), ["A question", "B answer", "A ends", "B more", "B ends"]);
    assert_eq!(lab.report(), ([8, 10], finished()));
    assert_eq!(
        (&*lab.world.heard[0], &*lab.world.heard[1]),
        (&b"answermore"[..], &b"question"[..])
    );
    assert_eq!((lab.reactor.sources(), unclosed()), (0, 0));
}

#[test]
fn what_is_replaced_or_dropped_is_so_in_one_direction_and_counted_as_passed() {
    let mut lab = lab(Limits::default(), |_, _, passing| match passing {
        Passing::Data(Side::A, b"secret") => Tap::Drop,
        Passing::Data(Side::A, bytes) => Tap::Replace([bytes, b"!"].concat()),
        Passing::Data(Side::B, b"nothing") => Tap::Replace(Vec::new()),
        Passing::Eof(Side::A) => Tap::Replace(b"bye".to_vec()),
        Passing::Eof(Side::B) => Tap::Drop,
        _ => Tap::Pass,
    });
    lab.send(0, b"secret");
    lab.send(0, b"hello");
    lab.send(1, b"nothing");
    lab.send(1, b"welcome");
    lab.finish(0);
    assert_eq!((&*lab.world.heard[1], lab.world.ended[1]), (&b"hello!bye"[..], true));
    lab.finish(1);
    assert_eq!((&*lab.world.heard[0], lab.world.ended[0]), (&b"welcome"[..], true));
    assert_eq!(lab.report(), ([9, 7], finished()));
}

#[test]
fn cut_is_a_reset_of_both_and_nothing_more_is_asked() {
    for at_end in [false, true] {
        let asked = Rc::new(Cell::new(0));
        let asks = asked.clone();
        let mut lab = lab(Limits::default(), move |_, _, passing| {
            asks.set(asks.get() + 1);
            match passing {
                Passing::Data(_, b"virus") => Tap::Cut,
                Passing::Eof(_) => Tap::Cut,
                _ => Tap::Pass,
            }
        });
        lab.send(0, b"fine");
        if at_end {
            lab.finish(1);
        } else {
            lab.send(1, b"virus");
        }
        assert_eq!(lab.report(), ([4, 0], ["Aborted", "Aborted"].map(str::to_owned)));
        assert_eq!(asked.get(), 2);
        assert_eq!(lab.world.heard[0], b"");
        assert!(matches!(lab.world.closed, [Some(Reason::Reset), Some(Reason::Reset)]));
        assert_eq!((lab.reactor.sources(), unclosed()), (0, 0));
    }
}

/// First seen it waits, seen again it passes; `resume` comes from a timer.
fn delay(
    delay: Duration,
) -> impl FnMut(&mut Context<World>, SourceId<Link>, Passing<'_>) -> Tap + 'static {
    let mut waits = [false; 2];
    move |reactor, link, passing| {
        let Passing::Data(side, _) = passing else { return Tap::Pass };
        let waits = &mut waits[side as usize];
        *waits = !*waits;
        if !*waits {
            return Tap::Pass;
        }
        reactor.after(delay, move |reactor, _| {
            link.resume(reactor, side);
        });
        Tap::Wait
    }
}

#[test]
fn piece_that_waits_comes_again_and_holds_up_its_own_direction_only() {
    let mut lab = lab(Limits::default(), delay(100 * MS));
    lab.send(0, b"late");
    lab.finish(0);
    lab.send(1, b"too");
    for _ in 0..99 {
        lab.clock.advance(MS);
        lab.turns();
    }
    assert_eq!((&*lab.world.heard[1], lab.world.ended[1]), (&b""[..], false));
    lab.clock.advance(MS);
    lab.turns();
    assert_eq!((&*lab.world.heard[1], lab.world.ended[1]), (&b"late"[..], true));
    assert_eq!(lab.world.heard[0], b"too");
    lab.finish(1);
    assert_eq!(lab.report(), ([4, 3], finished()));
    assert!(!lab.link.resume(&mut lab.reactor, Side::A), "the link has gone");
}

#[test]
fn nothing_is_read_from_a_side_that_waits_and_resuming_one_that_does_not_is_nothing() {
    let asked = Rc::new(Cell::new(0));
    let asks = asked.clone();
    let mut lab = lab(Limits::default(), move |_, _, _| {
        asks.set(asks.get() + 1);
        if asks.get() < 3 { Tap::Wait } else { Tap::Pass }
    });
    assert!(lab.link.resume(&mut lab.reactor, Side::A));
    for _ in 0..10 {
        lab.send(0, b"0123456789");
    }
    assert_eq!(asked.get(), 1);
    let link = lab.link;
    lab.reactor[link].resume(Side::B);
    lab.turns();
    assert_eq!((asked.get(), lab.world.heard[1].len()), (1, 0));
    lab.reactor[link].resume(Side::A);
    lab.turns();
    assert_eq!((asked.get(), lab.world.heard[1].len()), (2, 0), "once for each time");
    lab.reactor[link].resume(Side::A);
    lab.turns();
    assert_eq!(lab.world.heard[1], b"0123456789".repeat(10));
    // A reset is told although the side waits.
    let peer = lab.peers[1];
    lab.reactor[peer].abort();
    assert_eq!(lab.report().1, ["Aborted", "Reset"]);
}

/// Every replacement is several times what the sink may hold, and the last words, too.
#[test]
fn replacement_larger_than_the_outbox_goes_in_pieces_and_the_end_behind_it() {
    let limits = Limits {
        outbox_bytes_high: 100,
        outbox_bytes_low: 10,
        outbox_bytes_max: 1000,
        ..Limits::default()
    };
    let pieces = Rc::new(Cell::new(0));
    let counts = pieces.clone();
    let mut lab = lab(limits, move |_, _, passing| match passing {
        Passing::Data(..) => {
            counts.set(counts.get() + 1);
            Tap::Replace(Flow::default().peek(300_000).to_vec())
        }
        Passing::Eof(_) => Tap::Replace(Flow::default().peek(200_000).to_vec()),
    });
    let [reader, link] = [lab.peers[1].raw(), lab.link.raw()];
    let peer = lab.peers[1];
    lab.reactor[peer].pause();
    lab.send(0, b"x");
    for _ in 0..5 {
        lab.send(0, b"y");
    }
    assert_eq!(pieces.get(), 1, "nothing is read while a replacement waits");
    let [_, b] = lab.reactor[lab.link].ends();
    assert!(lab.reactor[b].unsent() <= 1000);
    lab.reactor[peer].resume();
    lab.finish(0);
    let Lab { reactor, world, .. } = &mut lab;
    turn_until(reactor, world, |_, world| world.ended[1]);
    assert_eq!(pieces.get(), 2, "what came meanwhile is one piece");
    let heard = std::mem::take(&mut world.heard[1]);
    assert_eq!(heard.len(), 800_000);
    for part in [0..300_000, 300_000..600_000, 600_000..800_000] {
        Flow::default().check(&heard[part]);
    }
    assert!(lab.reactor.contains(reader) && lab.reactor.contains(link), "the other half is open");
    lab.send(1, b"z");
    let Lab { reactor, world, .. } = &mut lab;
    turn_until(reactor, world, |_, world| world.heard[0].len() == 300_000);
    lab.finish(1);
    let Lab { reactor, world, .. } = &mut lab;
    turn_until(reactor, world, |_, world| world.ended[0]);
    assert_eq!(lab.report(), ([800_000, 500_000], finished()));
}

/// The source has gone in order before its replacement has: it is delivered all the same.
#[test]
fn what_is_left_of_a_replacement_outlives_its_source() {
    for sink_has_finished in [true, false] {
        let limits = Limits { outbox_bytes_max: 1000, ..Limits::default() };
        let mut lab = lab(limits, |_, _, passing| match passing {
            Passing::Data(Side::A, _) => Tap::Replace(Flow::default().peek(300_000).to_vec()),
            _ => Tap::Pass,
        });
        let [a, _] = lab.reactor[lab.link].ends();
        let sink = lab.peers[1];
        lab.reactor[sink].pause();
        if sink_has_finished {
            lab.finish(1);
        }
        lab.send(0, b"x");
        // Its own program closes it, and the peer closes, too.
        lab.reactor[a].close();
        lab.finish(0);
        assert!(!lab.reactor.contains(a));
        if !sink_has_finished {
            lab.send(1, b"nobody hears this");
        }
        lab.reactor[sink].resume();
        let Lab { reactor, world, .. } = &mut lab;
        turn_until(reactor, world, |_, world| world.ended[1]);
        assert_eq!(world.heard[1].len(), 300_000);
        Flow::default().check(&world.heard[1]);
        if !sink_has_finished {
            lab.finish(1);
        }
        assert_eq!(lab.report().1, finished());
    }
}

#[test]
fn sink_that_may_hold_nothing_ends_both_with_a_tap_as_without() {
    let limits = Limits { outbox_bytes_max: 0, ..Limits::default() };
    let mut lab = lab(limits, |_, _, _| Tap::Replace(b"x".to_vec()));
    lab.send(0, b"y");
    assert_eq!(lab.report(), ([0, 0], ["Aborted", "Aborted"].map(str::to_owned)));
}

#[test]
fn tap_may_end_the_link_itself() {
    let mut lab = lab(Limits::default(), |reactor, link, _| {
        reactor.remove(link);
        Tap::Wait
    });
    lab.send(0, b"x");
    assert!(lab.world.reports.is_empty());
    assert!(matches!(lab.world.closed, [Some(Reason::Reset), Some(Reason::Reset)]));
    assert_eq!(lab.reactor.sources(), 0);
}

#[test]
fn tap_that_panics_loses_its_piece_and_no_more() {
    let mut first = true;
    let mut lab = lab(Limits::default(), move |_, _, _| {
        assert!(!std::mem::take(&mut first), "the tap's own fault");
        Tap::Pass
    });
    let peer = lab.peers[0];
    let _ = lab.reactor[peer].write(b"lost");
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| lab.turns()));
    assert!(panicked.is_err());
    lab.send(0, b"found");
    assert_eq!(lab.world.heard[1], b"found");
    lab.finish(0);
    lab.finish(1);
    assert_eq!(lab.report().1, finished());
}

/// With sockets: a slow reader, pieces that are made twice as long, and a source that is faster.
#[test]
fn slow_reader_behind_a_tap_costs_no_more_than_without() {
    let (mut reactor, mut world) = (Reactor::new().unwrap(), World::default());
    let [(a, mut left), (b, mut right)] = [(); 2].map(|()| accepted(&mut reactor, &mut world));
    let most = Rc::new(Cell::new(0));
    let notes = most.clone();
    let link = net::link_with(
        &mut reactor,
        a,
        b,
        move |_: &mut Context<World>, _: &mut World, _, passing: Passing<'_>| match passing {
            Passing::Data(_, bytes) => {
                notes.set(notes.get().max(bytes.len()));
                Tap::Replace(bytes.iter().flat_map(|byte| [*byte; 2]).collect())
            }
            Passing::Eof(_) => Tap::Pass,
        },
        |_, world, report| world.reports.push(report),
    );
    let [a, b] = reactor[link].ends();
    let mut sent = Flow::default();
    let mut in_vain = 0;
    while in_vain < 20 {
        let count = left.write(sent.peek(64 * 1024));
        sent.at += count;
        in_vain = if count == 0 { in_vain + 1 } else { 0 };
        turns(&mut reactor, &mut world, 3);
        assert!(reactor[b].unsent() <= 256 * 1024 + 2 * most.get());
    }
    assert!(reactor[a].is_paused() && most.get() <= 64 * 1024);
    left.finish();
    let mut got = 0;
    let mut expected = Flow::default();
    turn_until(&mut reactor, &mut world, |_, _| {
        right.read(64 * 1024);
        let whole = right.got.len() / 2 * 2;
        let single: Vec<u8> = right.got[..whole].chunks(2).map(|pair| pair[0]).collect();
        assert!(right.got[..whole].chunks(2).all(|pair| pair[0] == pair[1]));
        expected.check(&single);
        got += whole;
        right.got.drain(..whole);
        right.end.is_some()
    });
    assert_eq!((got, right.end), (2 * sent.at, Some(Ok(()))));
    right.finish();
    turn_until(&mut reactor, &mut world, |_, world| !world.reports.is_empty());
    assert_eq!(world.reports[0].a.bytes, 2 * sent.at as u64);
}

fn accepted(reactor: &mut Reactor<World>, world: &mut World) -> (Stream, Peer) {
    let listener = tcp::listen(reactor, "127.0.0.1:0", |_, world: &mut World, stream| {
        world.streams.push(stream);
    });
    let listener = listener.expect("a free port");
    let peer = Peer::to(reactor[listener].local_addr());
    turn_until(reactor, world, |_, world| !world.streams.is_empty());
    reactor.remove(listener);
    (world.streams.remove(0), peer)
}

/// Any mixture of verdicts, limits and pieces: what each side hears is what the tap has made of it.
#[test]
fn whatever_the_tap_answers_the_peers_hear_it_in_order() {
    let mut seeds = Rng::new();
    for _ in 0..100 {
        let mut rng = Rng::from_seed(seeds.next());
        let limits = Limits {
            outbox_bytes_high: rng.below(2000) as usize,
            outbox_bytes_low: rng.below(100) as usize,
            outbox_bytes_max: 1 + rng.below(3000) as usize,
            read_bytes_per_turn: 1 + rng.below(5000) as usize,
            ..Limits::default()
        };
        let expected = Rc::new(RefCell::new([Vec::<u8>::new(), Vec::new()]));
        let makes = expected.clone();
        let mut dice = Rng::from_seed(seeds.next());
        let mut decide: Box<Verdict> = Box::new(move |reactor, link, passing| {
            let (side, bytes) = match passing {
                Passing::Data(side, bytes) => (side, bytes),
                Passing::Eof(side) => (side, &[][..]),
            };
            let made = &mut makes.borrow_mut()[side as usize];
            match dice.below(5) {
                0 if !bytes.is_empty() => {
                    reactor.after(dice.below(20) as u32 * MS, move |reactor, _| {
                        link.resume(reactor, side);
                    });
                    return Tap::Wait;
                }
                1 => return Tap::Drop,
                2 => {
                    let new: Vec<u8> =
                        (0..dice.below(10_000)).map(|_| dice.below(256) as u8).collect();
                    made.extend(&new);
                    return Tap::Replace(new);
                }
                _ => {}
            }
            made.extend(bytes);
            Tap::Pass
        });
        let mut lab = lab(limits, move |reactor, link, passing| decide(reactor, link, passing));
        for _ in 0..30 {
            let side = rng.below(2) as usize;
            let bytes: Vec<u8> = (0..rng.below(4000)).map(|_| rng.below(256) as u8).collect();
            lab.send(side, &bytes);
            lab.clock.advance(rng.below(10) as u32 * MS);
        }
        lab.finish(0);
        lab.finish(1);
        for _ in 0..5000 {
            if !lab.world.reports.is_empty() {
                break;
            }
            lab.clock.advance(5 * MS);
            turns(&mut lab.reactor, &mut lab.world, 5);
        }
        let (bytes, reasons) = lab.report();
        let [from_a, from_b] = &*expected.borrow();
        assert!(lab.world.heard[1] == *from_a && lab.world.heard[0] == *from_b);
        assert_eq!(bytes, [from_a.len() as u64, from_b.len() as u64]);
        assert_eq!(reasons, finished());
    }
}
