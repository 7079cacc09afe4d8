//! Connections over TLS: they are told what any other is told, over whatever carries them.

use waterwheel::net::{Conn, Event, Limits, Pressure, Reason, Stream};
use waterwheel::{Context, Reactor, SourceId};

mod support;
#[path = "support/tcp.rs"]
mod tcp;
#[path = "support/tls.rs"]
mod with;

use tcp::{Flow, turn_until, unclosed, watched};

/// What each side was told, and how far it is with what it sends.
#[derive(Default)]
struct Side {
    conn: Option<SourceId<Conn>>,
    sends: Flow,
    gets: Flow,
    /// How much to send.
    total: usize,
    eof: bool,
    closed: Option<Reason>,
}

type Sides = [Side; 2];

/// Writes until told to stop; finishes behind the last byte.
fn fill(reactor: &mut Context<Sides>, side: &mut Side) {
    let Some(conn) = side.conn else { return };
    while side.sends.at < side.total {
        let bytes = side.sends.peek((side.total - side.sends.at).min(40_000));
        match reactor[conn].write(bytes) {
            Pressure::Refused => return,
            pressure => {
                side.sends.at += bytes.len();
                if pressure == Pressure::AboveHigh {
                    return;
                }
            }
        }
    }
    reactor[conn].shutdown();
}

/// Sends all there is to send, and checks what comes.
fn open(reactor: &mut Reactor<Sides>, sides: &mut Sides, own: usize, stream: Stream) {
    let conn = stream.open(
        reactor,
        watched(move |reactor: &mut Context<Sides>, sides: &mut Sides, _, event| {
            let side = &mut sides[own];
            match event {
                Event::Data(bytes) => side.gets.check(bytes),
                Event::Drained => fill(reactor, side),
                Event::Eof => side.eof = true,
                Event::Closed(why) => side.closed = Some(why),
            }
        }),
    );
    sides[own].conn = Some(conn);
    fill(reactor, &mut sides[own]);
}

/// Sends so much each way and expects an orderly end.
fn exchange(reactor: &mut Reactor<Sides>, streams: (Stream, Stream), totals: [usize; 2]) {
    let mut sides = Sides::default();
    for (side, total) in sides.iter_mut().zip(totals) {
        side.total = total;
    }
    open(reactor, &mut sides, 0, streams.0);
    open(reactor, &mut sides, 1, streams.1);
    turn_until(reactor, &mut sides, |_, sides| sides.iter().all(|side| side.closed.is_some()));
    for (side, total) in sides.iter().zip([totals[1], totals[0]]) {
        assert!(matches!(side.closed, Some(Reason::Finished)), "{:?}", side.closed);
        assert!(side.eof);
        assert_eq!(side.gets.at, total);
    }
    assert_eq!(unclosed(), 0);
    assert_eq!(reactor.sources(), 0);
}

fn half_open() -> Limits {
    Limits { half_open: true, ..Limits::default() }
}

#[test]
fn megabytes_pass_each_way_at_once_and_end_in_order() {
    let mut reactor = Reactor::new().unwrap();
    for buffer_bytes in [1, 100, 5000, 64 * 1024, 1 << 20] {
        let total = 3_000_000.min(buffer_bytes * 2000);
        let (ours, theirs) = with::pair(&mut reactor, &mut Sides::default(), buffer_bytes);
        let streams = (ours.limits(half_open()), theirs.limits(half_open()));
        exchange(&mut reactor, streams, [total, total + 17]);
    }
}
