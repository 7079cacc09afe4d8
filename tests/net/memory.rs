//! A pair in memory: two connections that are each other's peer, and no kernel between them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use support::tcp;
use support::tcp::{Flow, turns, unclosed, watched};
use support::{Rng, ceiling};
use waterwheel::net::{Conn, Event, Limits, Pressure, Reason, Stream, memory};
use waterwheel::timers::ManualClock;
use waterwheel::{Context, Reactor, SourceId};

const LIMIT: Duration = Duration::from_secs(60);

/// What both ends were told.
#[derive(Debug, Default)]
struct Both {
    left: tcp::Told,
    right: tcp::Told,
}

type Side = fn(&mut Both) -> &mut tcp::Told;

fn left(both: &mut Both) -> &mut tcp::Told {
    &mut both.left
}

fn right(both: &mut Both) -> &mut tcp::Told {
    &mut both.right
}

/// Opens a stream with a handler that only notes.
fn open(reactor: &mut Context<Both>, stream: Stream, side: Side) -> SourceId<Conn> {
    stream.open(
        reactor,
        watched(move |_: &mut Context<Both>, both: &mut Both, _, event: Event<'_>| {
            let told = side(both);
            match event {
                Event::Data(bytes) => told.bytes.extend(bytes),
                Event::Drained => told.drained += 1,
                Event::Eof => told.eof = true,
                Event::Closed(why) => told.closed = Some(why),
            }
        }),
    )
}

/// A reactor on a clock that jumps, a pair in it, and what its ends will be told.
fn pair(limits: Limits) -> (Reactor<Both>, Both, SourceId<Conn>, SourceId<Conn>) {
    let mut reactor = Reactor::builder().clock(&ManualClock::new()).build().unwrap();
    let (one, other) = memory::pair(&mut reactor);
    let one = open(&mut reactor, one.limits(limits.clone()), left);
    let other = open(&mut reactor, other.limits(limits), right);
    (reactor, Both::default(), one, other)
}

/// Runs until nothing is left, anywhere.
fn run_out<S: 'static>(reactor: &mut Reactor<S>, state: &mut S) {
    reactor.run(state).unwrap();
    assert_eq!((reactor.sources(), reactor.timers(), unclosed()), (0, 0, 0));
}

#[test]
fn bytes_come_in_order_and_only_from_the_loop() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut both, one, other) = pair(Limits::default());
    for word in ["in ", "this ", "order"] {
        assert_eq!(reactor[one].write(word.as_bytes()), Pressure::Below);
    }
    let _ = reactor[other].write(b"and back");
    assert!(both.left.bytes.is_empty() && both.right.bytes.is_empty());
    turns(&mut reactor, &mut both, 3);
    assert_eq!((&*both.right.bytes, &*both.left.bytes), (&b"in this order"[..], &b"and back"[..]));
    reactor[one].close();
    run_out(&mut reactor, &mut both);
    assert!(matches!(both.left.closed, Some(Reason::Finished)));
    assert!(matches!(both.right.closed, Some(Reason::Finished)) && both.right.eof);
}

#[test]
fn sixty_four_mebibytes_pass_bit_for_bit() {
    const BYTES: usize = 64 << 20;
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::new().unwrap();
    let (source, sink) = memory::pair(&mut reactor);
    const FIRST: usize = 384 * 1024;
    let mut flow = Flow { at: FIRST };
    let mut feed = move |reactor: &mut Context<usize>, id: SourceId<Conn>| {
        while flow.at < BYTES {
            let bytes = flow.peek((BYTES - flow.at).min(100_000));
            match reactor[id].write(bytes) {
                Pressure::Refused | Pressure::Closed => return,
                _ => flow.at += bytes.len(),
            }
        }
        reactor[id].shutdown();
    };
    let source = source.open(
        &mut reactor,
        watched(move |reactor: &mut Context<usize>, _: &mut usize, id, event: Event<'_>| {
            if matches!(event, Event::Drained) {
                feed(reactor, id);
            }
        }),
    );
    let mut got = Flow::default();
    sink.open(
        &mut reactor,
        watched(move |_: &mut Context<usize>, count: &mut usize, _, event: Event<'_>| {
            if let Event::Data(bytes) = event {
                got.check(bytes);
                *count = got.at;
            }
        }),
    );
    // Enough for a first `Drained`, which feeds.
    let mut flow = Flow::default();
    while reactor[source].write(flow.peek(FIRST / 3)) == Pressure::Below {
        flow.at += FIRST / 3;
    }
    assert_eq!(flow.at + FIRST / 3, FIRST);
    let mut count = 0;
    run_out(&mut reactor, &mut count);
    assert_eq!(count, BYTES);
}

#[test]
fn writer_is_held_when_its_peer_does_not_read_and_drained_when_it_does() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut both, one, other) = pair(Limits::default());
    reactor[other].pause();
    let mut flow = Flow::default();
    while reactor[one].write(flow.peek(10_000)) == Pressure::Below {
        flow.at += 10_000;
        turns(&mut reactor, &mut both, 1);
    }
    flow.at += 10_000; // The last was taken, too.
    turns(&mut reactor, &mut both, 5);
    assert_eq!(flow.at - reactor[one].unsent(), memory::BUFFER_BYTES);
    assert_eq!((both.left.drained, both.right.bytes.len()), (0, 0));
    reactor[other].resume();
    turns(&mut reactor, &mut both, 50);
    assert_eq!((both.left.drained, reactor[one].unsent()), (1, 0));
    let mut got = Flow::default();
    got.check(&both.right.bytes);
    assert_eq!(got.at, flow.at);
}

#[test]
fn small_buffer_passes_everything_a_few_bytes_at_a_time() {
    let _ceiling = ceiling(LIMIT);
    for buffer_bytes in [0, 1, 2, 3, 1000] {
        let mut reactor = Reactor::builder().clock(&ManualClock::new()).build().unwrap();
        let (one, other) = memory::pair_with(&mut reactor, buffer_bytes);
        let (one, _) = (open(&mut reactor, one, left), open(&mut reactor, other, right));
        let mut both = Both::default();
        let _ = reactor[one].write(Flow::default().peek(5000));
        reactor[one].shutdown();
        run_out(&mut reactor, &mut both);
        assert!(both.right.bytes == Flow::default().peek(5000), "{buffer_bytes}");
    }
}

#[test]
fn half_closed_pair_still_carries_the_other_direction() {
    let _ceiling = ceiling(LIMIT);
    let limits = Limits { half_open: true, ..Limits::default() };
    let (mut reactor, mut both, one, other) = pair(limits);
    reactor[one].shutdown();
    turns(&mut reactor, &mut both, 3);
    assert!(both.right.eof && both.left.closed.is_none() && both.right.closed.is_none());
    assert_eq!(reactor[one].write(b"x"), Pressure::Closed);
    let _ = reactor[other].write(b"still here");
    turns(&mut reactor, &mut both, 3);
    assert_eq!(both.left.bytes, b"still here");
    reactor[other].shutdown();
    run_out(&mut reactor, &mut both);
    assert!(matches!(both.left.closed, Some(Reason::Finished)) && both.left.eof);
}

#[test]
fn abort_is_a_reset_behind_what_has_arrived() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut both, one, _) = pair(Limits::default());
    let _ = reactor[one].write(b"last words");
    turns(&mut reactor, &mut both, 1);
    reactor[one].abort();
    run_out(&mut reactor, &mut both);
    assert_eq!(both.right.bytes, b"last words");
    assert!(matches!(both.right.closed, Some(Reason::Reset)) && !both.right.eof);
    assert!(matches!(both.left.closed, Some(Reason::Aborted)));
}

#[test]
fn stream_that_is_dropped_unopened_closes_its_peer() {
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::new().unwrap();
    let (one, other) = memory::pair(&mut reactor);
    let one = open(&mut reactor, one, left);
    let mut both = Both::default();
    let _ = reactor[one].write(b"to nobody");
    turns(&mut reactor, &mut both, 1);
    drop(other);
    run_out(&mut reactor, &mut both);
    assert!(matches!(both.left.closed, Some(Reason::Reset)), "{both:?}");
    let (one, other) = memory::pair(&mut reactor);
    drop(other);
    open(&mut reactor, one, left);
    run_out(&mut reactor, &mut both);
    assert!(matches!(both.left.closed, Some(Reason::Finished)) && both.left.eof);
}

#[test]
fn write_to_a_peer_that_has_gone_is_taken_and_answered_with_a_reset() {
    let _ceiling = ceiling(LIMIT);
    let limits = Limits { half_open: true, ..Limits::default() };
    let (mut reactor, mut both, one, other) = pair(limits);
    drop(reactor.deregister(other));
    turns(&mut reactor, &mut both, 3);
    assert!(both.left.eof && both.left.closed.is_none());
    assert_eq!(reactor[one].write(b"anybody?"), Pressure::Below);
    while both.left.closed.is_none() {
        turns(&mut reactor, &mut both, 1);
    }
    assert!(matches!(both.left.closed, Some(Reason::Reset)));
}

#[test]
fn unread_input_makes_dropping_a_reset() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut both, one, other) = pair(Limits::default());
    reactor[other].pause();
    let _ = reactor[one].write(b"unread");
    turns(&mut reactor, &mut both, 3);
    drop(reactor.deregister(other));
    while both.left.closed.is_none() {
        turns(&mut reactor, &mut both, 1);
    }
    assert!(matches!(both.left.closed, Some(Reason::Reset)) && !both.left.eof);
}

#[test]
fn edges_of_a_stream_that_is_not_opened_yet_are_not_lost() {
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::builder().clock(&ManualClock::new()).build().unwrap();
    let mut both = Both::default();
    let (one, other) = memory::pair(&mut reactor);
    let one = open(&mut reactor, one, left);
    let _ = reactor[one].write(b"early");
    reactor[one].shutdown();
    turns(&mut reactor, &mut both, 5);
    open(&mut reactor, other, right);
    run_out(&mut reactor, &mut both);
    assert_eq!(both.right.bytes, b"early");
    assert!(both.right.eof && matches!(both.left.closed, Some(Reason::Finished)));
}

#[test]
fn edges_of_a_connection_that_is_handed_over_are_not_lost() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut both, one, mut other) = pair(Limits::default());
    let mut sent = Flow::default();
    for round in 0..200 {
        let bytes = sent.peek(1 + round * 7);
        let _ = reactor[one].write(bytes);
        sent.at += bytes.len();
        turns(&mut reactor, &mut both, round % 3);
        let conn = reactor.deregister(other).unwrap();
        turns(&mut reactor, &mut both, round % 4);
        other = open_again(&mut reactor, conn);
        turns(&mut reactor, &mut both, round % 2);
    }
    reactor[one].shutdown();
    let conn = reactor.deregister(other).unwrap();
    turns(&mut reactor, &mut both, 5);
    open_again(&mut reactor, conn);
    reactor.run(&mut both).unwrap();
    assert!(both.right.bytes == Flow::default().peek(sent.at), "{}", both.right.bytes.len());
    assert!(matches!(both.right.closed, Some(Reason::Finished)) && both.left.closed.is_some());
    assert_eq!((reactor.sources(), reactor.timers()), (0, 0));
}

/// Not watched: the handler before was told nothing, as its connection was taken from it.
fn open_again(reactor: &mut Reactor<Both>, conn: Conn) -> SourceId<Conn> {
    Stream::from(conn).open(reactor, |_, both: &mut Both, _, event| match event {
        Event::Data(bytes) => both.right.bytes.extend(bytes),
        Event::Closed(why) => both.right.closed = Some(why),
        _ => {}
    })
}

#[test]
fn close_takes_its_grace_and_no_longer() {
    let _ceiling = ceiling(LIMIT);
    let clock = ManualClock::new();
    let mut reactor = Reactor::builder().clock(&clock).build().unwrap();
    let (one, other) = memory::pair(&mut reactor);
    // Nobody opens the other end, and it stays.
    let closed = Rc::<RefCell<Vec<(String, Duration)>>>::default();
    let (told, begin, timer) = (closed.clone(), clock.now(), clock.clone());
    let one = one.open(
        &mut reactor,
        watched(move |_: &mut Context<()>, _: &mut (), _, event: Event<'_>| {
            if let Event::Closed(why) = event {
                told.borrow_mut().push((format!("{why:?}"), timer.now() - begin));
            }
        }),
    );
    let _ = reactor[one].write(&[7; memory::BUFFER_BYTES + 1]);
    reactor[one].close();
    run_out(&mut reactor, &mut ());
    assert_eq!(*closed.borrow(), [("Grace".to_owned(), Limits::default().close_grace)]);
    drop(other);
}

#[test]
fn handlers_may_drop_either_end() {
    let _ceiling = ceiling(LIMIT);
    for both_at_once in [false, true] {
        let mut reactor = Reactor::new().unwrap();
        let (one, other) = memory::pair(&mut reactor);
        let peer = Rc::new(Cell::new(None));
        let victim = peer.clone();
        let one =
            one.open(&mut reactor, move |reactor, closed: &mut u32, own, event| match event {
                Event::Data(_) => {
                    reactor.remove(Option::<SourceId<Conn>>::unwrap(victim.get()).raw());
                    if both_at_once {
                        reactor.remove(own);
                    }
                }
                Event::Closed(why) => {
                    assert!(matches!(why, Reason::Finished | Reason::Reset), "{why:?}");
                    *closed += 1;
                }
                _ => {}
            });
        let other = other.open(&mut reactor, |_, _: &mut u32, _, event| panic!("{event:?}"));
        peer.set(Some(other));
        let _ = reactor[other].write(b"x");
        let mut closed = 0;
        run_out(&mut reactor, &mut closed);
        assert_eq!(closed, u32::from(!both_at_once));
        assert!(!reactor.contains(one));
    }
}

#[test]
fn dropping_the_reactor_with_everything_under_way_is_no_trouble() {
    let mut reactor = Reactor::new().unwrap();
    let (one, other) = memory::pair(&mut reactor);
    let (third, _fourth) = memory::pair(&mut reactor);
    let one = one.open(&mut reactor, |_, _: &mut (), _, _| {});
    other.open(&mut reactor, |_, _: &mut (), _, _| {});
    third.open(&mut reactor, |_, _: &mut (), _, _| {});
    let _ = reactor[one].write(&[1; 100_000]);
    reactor.turn(&mut (), Some(Duration::ZERO)).unwrap();
    drop(reactor);
}

#[test]
fn pair_has_no_addresses() {
    let mut reactor = Reactor::<()>::new().unwrap();
    let (one, _other) = memory::pair(&mut reactor);
    assert_eq!(one.peer(), None);
    let one = one.open(&mut reactor, |_, _, _, _| {});
    assert_eq!(reactor[one].peer_addr().unwrap_err().kind(), std::io::ErrorKind::Unsupported);
}

/// What one end of a storm has sent and got.
#[derive(Default)]
struct End {
    sent: Flow,
    got: Flow,
    closed: Option<Reason>,
}

fn storm_handler(
    end: usize,
) -> impl FnMut(&mut Context<[End; 2]>, &mut [End; 2], SourceId<Conn>, Event<'_>) {
    watched(
        move |_: &mut Context<[End; 2]>, ends: &mut [End; 2], _, event: Event<'_>| match event {
            Event::Data(bytes) => ends[end].got.check(bytes),
            Event::Closed(why) => ends[end].closed = Some(why),
            _ => {}
        },
    )
}

#[test]
fn whatever_is_done_to_both_ends_a_prefix_arrives_and_nothing_is_left() {
    let _ceiling = ceiling(LIMIT);
    let mut seeds = Rng::new();
    for round in 0..2000 {
        let mut rng = Rng::from_seed(seeds.next());
        let mut reactor = Reactor::builder().clock(&ManualClock::new()).build().unwrap();
        let (one, other) = memory::pair_with(&mut reactor, 1 + rng.below(3000) as usize);
        let limits = Limits { half_open: rng.below(2) == 0, ..Limits::default() };
        let ids = [(0, one), (1, other)]
            .map(|(end, s)| s.limits(limits.clone()).open(&mut reactor, storm_handler(end)));
        let mut ends = <[End; 2]>::default();
        // Closing gives up what the peer still sends.
        let mut keeps_all = true;
        for _ in 0..rng.below(60) {
            let end = rng.below(2) as usize;
            if let Some(conn) = reactor.get_mut(ids[end]) {
                match rng.below(30) {
                    0 => conn.shutdown(),
                    1 | 2 => {
                        keeps_all = false;
                        if rng.below(4) == 0 { conn.abort() } else { conn.close() }
                    }
                    3 => conn.pause(),
                    4..8 => conn.resume(),
                    _ => {
                        let bytes = ends[end].sent.peek(rng.below(2000) as usize);
                        if conn.write(bytes).is_taken() {
                            ends[end].sent.at += bytes.len();
                        }
                    }
                }
            }
            turns(&mut reactor, &mut ends, rng.below(3) as usize);
        }
        for id in ids {
            if let Some(conn) = reactor.get_mut(id) {
                conn.resume();
                conn.shutdown();
            }
        }
        run_out(&mut reactor, &mut ends);
        for end in 0..2 {
            assert!(ends[end].got.at <= ends[1 - end].sent.at, "round {round}");
        }
        if keeps_all {
            for end in 0..2 {
                assert_eq!(ends[end].got.at, ends[1 - end].sent.at, "round {round}");
                assert!(matches!(ends[end].closed, Some(Reason::Finished)), "round {round}");
            }
        }
    }
}
