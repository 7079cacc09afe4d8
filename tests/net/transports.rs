//! Connections over a transport that a seed misuses: short reads, short writes, errors, odd edges.

use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice};
use std::rc::Rc;
use std::time::Duration;

use support::Rng;
use support::tcp::{Flow, turns, unclosed, watched};
use waterwheel::mio::{Interest, Registry, Token, event::Source};
use waterwheel::net::{Conn, Event, Limits, Pressure, Reason, Stream, Transport};
use waterwheel::reactor::Readiness;
use waterwheel::timers::ManualClock;
use waterwheel::{Context, Reactor, SourceId};

/// Both ends of a line, and what goes wrong with it.
#[derive(Debug, Default)]
struct Line {
    /// What the peer sends, the first so many bytes of it.
    sends: usize,
    /// How much of that has arrived and was read.
    arrived: usize,
    read: usize,
    /// FIN comes behind the last byte that has arrived.
    finished: bool,
    /// What the peer was sent, and how much more there is room for.
    taken: Vec<u8>,
    room: usize,
    fins: usize,
    /// Writing fails when the peer has this many bytes, and reading behind what has arrived.
    breaks_at: Option<usize>,
    broken: bool,
    resets_on_drop: bool,
    dropped: bool,
    interrupts: usize,
    /// Edges that the selector owes.
    edges: Readiness,
}

#[derive(Debug)]
struct Scripted(Rc<RefCell<Line>>);

impl Transport for Scripted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let line = &mut *self.0.borrow_mut();
        line.interrupted()?;
        let bytes = Flow { at: line.read }.peek((line.arrived - line.read).min(buffer.len()));
        buffer[..bytes.len()].copy_from_slice(bytes);
        line.read += bytes.len();
        match bytes.len() {
            0 if line.broken => Err(ErrorKind::ConnectionReset.into()),
            0 if !line.finished => Err(ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }

    fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let line = &mut *self.0.borrow_mut();
        line.interrupted()?;
        assert!(!pieces.is_empty() && pieces.iter().all(|piece| !piece.is_empty()));
        if line.broken || line.breaks_at.is_some_and(|at| line.taken.len() >= at) {
            line.broken = true;
            // The peer's last words arrive with the news that it is gone.
            line.arrived += (line.sends - line.arrived).min(100);
            line.edges |= Readiness::READABLE | Readiness::READ_CLOSED | Readiness::ERROR;
            return Err(ErrorKind::BrokenPipe.into());
        }
        let before = line.taken.len();
        for piece in pieces {
            let count = piece.len().min(line.room);
            line.taken.extend(&piece[..count]);
            line.room -= count;
        }
        if line.taken.len() == before {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(line.taken.len() - before)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.0.borrow_mut().fins += 1;
        Ok(())
    }

    fn reset_on_drop(&mut self) {
        self.0.borrow_mut().resets_on_drop = true;
    }
}

impl Line {
    fn interrupted(&mut self) -> io::Result<()> {
        if self.interrupts > 0 && (self.read + self.taken.len()).is_multiple_of(3) {
            self.interrupts -= 1;
            return Err(ErrorKind::Interrupted.into());
        }
        Ok(())
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.0.borrow_mut().dropped = true;
    }
}

impl Source for Scripted {
    fn register(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        Ok(())
    }
    fn reregister(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        Ok(())
    }
    fn deregister(&mut self, _: &Registry) -> io::Result<()> {
        Ok(())
    }
}

/// What the handler has consumed, and how it ended.
#[derive(Default)]
struct End {
    consumed: Flow,
    closed: Vec<Reason>,
}

type Handle = fn(&mut Context<End>, &mut End, SourceId<Conn>, Event<'_>);

/// Runs a connection over a line until it is closed, with arrivals, room and edges as `rng` says.
fn run(rng: &mut Rng, line: Line, outbox_bytes_max: usize, handle: Handle) -> (Line, End) {
    let line = Rc::new(RefCell::new(line));
    let (mut reactor, mut end) = (Reactor::new().unwrap(), End::default());
    let limits = Limits {
        outbox_bytes_high: rng.below(300) as usize,
        outbox_bytes_low: rng.below(100) as usize,
        outbox_bytes_max,
        read_bytes_per_turn: 1 + rng.below(200) as usize,
        ..Limits::default()
    };
    let stream = Stream::over(Scripted(line.clone())).limits(limits);
    let conn = stream.open(&mut reactor, watched(handle));
    for _ in 0..100_000 {
        if !end.closed.is_empty() {
            break;
        }
        {
            let line = &mut *line.borrow_mut();
            if rng.below(3) == 0 && !line.broken && line.arrived < line.sends {
                line.arrived = line.sends.min(line.arrived + 1 + rng.below(500) as usize);
                line.edges |= Readiness::READABLE;
            }
            if rng.below(20) == 0 && line.arrived == line.sends && !line.finished {
                line.finished = true;
                line.edges |= Readiness::READABLE | Readiness::READ_CLOSED;
            }
            if rng.below(3) == 0 {
                line.room += rng.below(200) as usize;
                line.edges |= Readiness::WRITABLE;
            }
            if rng.below(10) == 0 {
                line.edges |= [Readiness::READABLE, Readiness::WRITABLE][rng.below(2) as usize];
            }
            reactor.resume(conn, line.edges);
            line.edges = Readiness::NONE;
        }
        turns(&mut reactor, &mut end, 1);
        assert!(reactor.get(conn).is_none_or(|conn| conn.unsent() <= outbox_bytes_max));
    }
    turns(&mut reactor, &mut end, 3);
    drop(reactor);
    assert_eq!(unclosed(), 0);
    let line = Rc::try_unwrap(line).expect("dropped with the connection").into_inner();
    assert!(line.dropped && end.closed.len() == 1);
    (line, end)
}

/// Echoes in small pieces; gives back what there is no room for, and pauses until there is.
fn echo(reactor: &mut Context<End>, end: &mut End, id: SourceId<Conn>, event: Event<'_>) {
    match event {
        Event::Data(bytes) => {
            let mut echoed = 0;
            for piece in bytes.chunks(70) {
                match reactor[id].write(piece) {
                    Pressure::Refused | Pressure::Closed => break,
                    _ => echoed += piece.len(),
                }
            }
            end.consumed.check(&bytes[..echoed]);
            reactor[id].unread(bytes.len() - echoed);
            if echoed < bytes.len() {
                reactor[id].pause();
            }
        }
        Event::Drained => reactor[id].resume(),
        Event::Eof => assert_eq!(reactor[id].backlog(), b"", "Eof before the last byte"),
        Event::Closed(why) => end.closed.push(why),
    }
}

#[test]
fn echo_loses_and_doubles_no_byte_whatever_the_transport_does() {
    let mut seeds = Rng::new();
    for round in 0..500 {
        let mut rng = Rng::from_seed(seeds.next());
        let sends = rng.below(6000) as usize;
        let line = Line { sends, interrupts: rng.below(30) as usize, ..Line::default() };
        let (line, end) = run(&mut rng, line, 400, echo);
        assert_eq!(line.read, sends, "round {round}");
        assert!(line.taken == Flow::default().peek(sends), "round {round}: not what was sent");
        assert!(matches!(end.closed[0], Reason::Finished), "round {round}: {:?}", end.closed);
        assert_eq!((line.fins, line.resets_on_drop), (1, false), "round {round}");
    }
}

/// Answers each `Data`, with little or with so much that it is written at once, and reads on
/// whatever becomes of it.
fn answer(reactor: &mut Context<End>, end: &mut End, id: SourceId<Conn>, event: Event<'_>) {
    match event {
        Event::Data(bytes) => {
            end.consumed.check(bytes);
            let _ = reactor[id]
                .write(&[b'x'; 20_000][..if bytes.len() % 2 == 0 { 20_000 } else { 10 }]);
        }
        Event::Closed(why) => end.closed.push(why),
        Event::Drained | Event::Eof => {}
    }
}

#[test]
fn broken_transport_closes_once_and_loses_nothing_that_arrived_before() {
    let mut seeds = Rng::new();
    for round in 0..500 {
        let mut rng = Rng::from_seed(seeds.next());
        let line = Line {
            sends: 20_000,
            breaks_at: Some(rng.below(500) as usize),
            interrupts: rng.below(30) as usize,
            ..Line::default()
        };
        let (line, end) = run(&mut rng, line, 100_000, answer);
        assert!(matches!(end.closed[0], Reason::Reset), "round {round}: {:?}", end.closed);
        assert_eq!(end.consumed.at, line.arrived, "round {round}: last words were lost");
    }
}

/// A transport that cannot be watched.
#[derive(Debug)]
struct Unwatchable(Scripted);

impl Transport for Unwatchable {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Transport::read(&mut self.0, buffer)
    }
    fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        Transport::write(&mut self.0, pieces)
    }
    fn finish(&mut self) -> io::Result<()> {
        self.0.finish()
    }
}

impl Source for Unwatchable {
    fn register(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        Err(ErrorKind::StorageFull.into())
    }
    fn reregister(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        Err(ErrorKind::NotFound.into())
    }
    fn deregister(&mut self, _: &Registry) -> io::Result<()> {
        Err(ErrorKind::NotFound.into())
    }
}

#[test]
fn connection_that_cannot_be_watched_is_told_so_by_closed() {
    let line = Rc::<RefCell<Line>>::default();
    let (mut reactor, mut end) = (Reactor::new().unwrap(), End::default());
    let stream = Stream::over(Unwatchable(Scripted(line.clone())));
    let conn = stream.open(&mut reactor, watched(answer));
    assert_eq!(reactor[conn].write(b"x"), Pressure::Closed);
    reactor.run(&mut end).unwrap();
    assert!(line.borrow().dropped && line.borrow().taken.is_empty());
    let kinds: Vec<_> = end.closed.iter().map(|why| format!("{why:?}")).collect();
    assert_eq!(kinds, ["Error(Kind(StorageFull))"]);
}

/// Answers a question of its peer by itself, as TLS may; the handler hears neither.
#[derive(Debug)]
struct Polite {
    line: Scripted,
    asked: Rc<RefCell<bool>>,
    has_own_unsent: bool,
    received: bool,
}

impl Transport for Polite {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        if self.asked.take() {
            (self.has_own_unsent, self.received) = (true, true);
        }
        Err(ErrorKind::WouldBlock.into())
    }

    fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.line.write(pieces)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.line.finish()
    }

    fn has_own_unsent(&self) -> bool {
        self.has_own_unsent
    }

    fn flush(&mut self) -> io::Result<()> {
        self.has_own_unsent = false;
        Ok(())
    }

    fn has_received(&mut self) -> bool {
        std::mem::take(&mut self.received)
    }
}

impl Source for Polite {
    fn register(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        Ok(())
    }

    fn reregister(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        Ok(())
    }

    fn deregister(&mut self, _: &Registry) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn answer_of_the_transport_to_what_came_with_a_deadline_has_not_waited() {
    let clock = ManualClock::held();
    let mut reactor = Reactor::builder().clock(&clock).build().unwrap();
    let seconds = |count| Some(Duration::from_secs(count));
    let limits =
        Limits { idle_timeout: seconds(10), write_timeout: seconds(1), ..Limits::default() };
    let asked = Rc::new(RefCell::new(false));
    let polite = Polite {
        line: Scripted(Rc::default()),
        asked: asked.clone(),
        has_own_unsent: false,
        received: false,
    };
    let closed = |_: &mut Context<_>, closed: &mut Option<Reason>, _, event: Event<'_>| {
        if let Event::Closed(why) = event {
            *closed = Some(why);
        }
    };
    Stream::over(polite).limits(limits).open(&mut reactor, watched(closed));
    let mut why = None;
    turns(&mut reactor, &mut why, 3);
    // It comes when the limits are looked at, behind what the poll has told.
    clock.advance(Duration::from_secs(10));
    *asked.borrow_mut() = true;
    turns(&mut reactor, &mut why, 3);
    assert!(why.is_none() && !*asked.borrow(), "{why:?}");
    clock.advance(Duration::from_secs(10));
    turns(&mut reactor, &mut why, 3);
    assert!(matches!(why, Some(Reason::IdleTimeout)), "{why:?}");
    assert_eq!(unclosed(), 0);
}
