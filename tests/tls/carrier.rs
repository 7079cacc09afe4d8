//! TLS over a carrier that does what it is told: how often it is asked, and for what.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::rc::Rc;

use rustls::{ClientConnection, Connection, ServerConnection};
use support::tcp::{Told, note, turns, watched};
use support::tls as with;
use waterwheel::mio::{Interest, Registry, Token, event::Source};
use waterwheel::net::{Conn, Limits, Reason, Stream, Transport};
use waterwheel::protocols::tls;
use waterwheel::reactor::Readiness;
use waterwheel::{Reactor, SourceId};

/// What a carrier has for us, what it was given, and how often it was asked.
#[derive(Debug, Default)]
struct Line {
    /// Each read takes one of them at most.
    pieces: VecDeque<Vec<u8>>,
    /// When they are gone there is always one more byte.
    flood: bool,
    ended: bool,
    /// Says so when there is more.
    tells: bool,
    reads: usize,
    room: usize,
    taken: Vec<u8>,
    /// Writing fails.
    broken: bool,
    failures: usize,
    fins: usize,
    is_pair: bool,
}

#[derive(Clone, Debug, Default)]
struct Carrier(Rc<RefCell<Line>>);

impl Transport for Carrier {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let line = &mut *self.0.borrow_mut();
        line.reads += 1;
        assert!(line.reads < 1000, "it is asked and asked");
        let more = if line.flood { Some(vec![1]) } else { None };
        match line.pieces.pop_front().or(more) {
            Some(mut piece) => {
                let rest = piece.split_off(piece.len().min(buffer.len()));
                buffer[..piece.len()].copy_from_slice(&piece);
                if !rest.is_empty() {
                    line.pieces.push_front(rest);
                }
                Ok(piece.len())
            }
            None if line.ended => Ok(0),
            None => Err(ErrorKind::WouldBlock.into()),
        }
    }

    fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let line = &mut *self.0.borrow_mut();
        if line.broken {
            line.failures += 1;
            return Err(ErrorKind::BrokenPipe.into());
        }
        let before = line.taken.len();
        for piece in pieces {
            let count = piece.len().min(line.room);
            line.taken.extend(&piece[..count]);
            line.room -= count;
        }
        let count = line.taken.len() - before;
        if count == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(count) }
    }

    fn finish(&mut self) -> io::Result<()> {
        self.0.borrow_mut().fins += 1;
        Ok(())
    }

    fn has_more(&self) -> bool {
        let line = self.0.borrow();
        line.tells && (line.flood || !line.pieces.is_empty())
    }

    fn has_one_peer(&self) -> bool {
        !self.0.borrow().is_pair
    }
}

impl Source for Carrier {
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

/// What came of a handshake.
type Shaken = Option<io::Result<Stream>>;

/// A server's handshake that begins in the next turn.
fn accept(reactor: &mut Reactor<Shaken>, carrier: &Carrier) -> SourceId<tls::Handshake> {
    let stream = Stream::over(carrier.clone());
    with::server().accept(reactor, stream, |_, shaken: &mut Shaken, result| {
        *shaken = Some(result);
    })
}

#[test]
fn a_handshake_asks_once_where_there_is_nothing() {
    let (mut reactor, carrier) = (Reactor::new().unwrap(), Carrier::default());
    accept(&mut reactor, &carrier);
    turns(&mut reactor, &mut None, 5);
    assert_eq!(carrier.0.borrow().reads, 1);
}

/// Each read finds a little, and the last of them the end: it came together with what was before
/// it, so no edge will tell of it.
#[test]
fn a_handshake_reads_to_the_end_though_others_run_between() {
    for count in 1..12 {
        let (mut reactor, carrier) = (Reactor::new().unwrap(), Carrier::default());
        carrier.0.borrow_mut().pieces = (0..count).map(|_| vec![22]).collect();
        carrier.0.borrow_mut().ended = true;
        carrier.0.borrow_mut().pieces[0] = vec![22, 3, 1, 1, 0];
        accept(&mut reactor, &carrier);
        let mut shaken = None;
        turns(&mut reactor, &mut shaken, 8);
        let error = shaken.expect("told").unwrap_err();
        assert!(error.to_string().contains("closed the connection in the middle"), "{error}");
    }
}

#[test]
fn a_handshake_lets_others_run_however_much_comes() {
    let (mut reactor, carrier) = (Reactor::new().unwrap(), Carrier::default());
    carrier.0.borrow_mut().pieces.push_back(vec![22, 3, 1, 64, 0]);
    (carrier.0.borrow_mut().flood, carrier.0.borrow_mut().tells) = (true, true);
    accept(&mut reactor, &carrier);
    for turn in 1..=3 {
        turns(&mut reactor, &mut None, 1);
        let reads = carrier.0.borrow().reads;
        assert!(reads >= turn && reads <= turn * 8, "{reads} reads in {turn} turns");
    }
}

/// Passes on what each side has for the other until neither has anything.
fn pass<S: 'static>(
    (reactor, state): (&mut Reactor<S>, &mut S),
    source: impl Into<waterwheel::reactor::RawId>,
    carrier: &Carrier,
    peer: &mut Connection,
) {
    let source = source.into();
    for _ in 0..6 {
        let mut bytes = Vec::new();
        while peer.wants_write() {
            peer.write_tls(&mut bytes).unwrap();
        }
        if !bytes.is_empty() {
            carrier.0.borrow_mut().pieces.push_back(bytes);
        }
        reactor.resume(source, Readiness::READABLE | Readiness::WRITABLE);
        turns(reactor, state, 3);
        hear(carrier, peer);
    }
}

/// Shows the peer what the carrier has taken.
fn hear(carrier: &Carrier, peer: &mut Connection) {
    let taken = std::mem::take(&mut carrier.0.borrow_mut().taken);
    let mut taken = &taken[..];
    while !taken.is_empty() {
        peer.read_tls(&mut taken).unwrap();
        peer.process_new_packets().unwrap();
    }
}

fn client_peer() -> Connection {
    let name = "localhost".try_into().unwrap();
    ClientConnection::new(with::client_config(), name).unwrap().into()
}

/// A server's connection that has shaken hands over a carrier, and its peer.
fn served(
    room: usize,
    is_pair: bool,
) -> (Reactor<Told>, Told, SourceId<Conn>, Carrier, Connection) {
    let (mut reactor, carrier) = (Reactor::new().unwrap(), Carrier::default());
    (carrier.0.borrow_mut().room, carrier.0.borrow_mut().is_pair) = (room, is_pair);
    let opened: Rc<RefCell<Option<SourceId<Conn>>>> = Rc::default();
    let open = opened.clone();
    let stream = Stream::over(carrier.clone());
    let limits = Limits { half_open: true, ..Limits::default() };
    let shake = with::server().accept(&mut reactor, stream, move |reactor, _, result| {
        let conn = result.unwrap().limits(limits).open(reactor, watched(note));
        *open.borrow_mut() = Some(conn);
    });
    let (mut told, mut peer) = (Told::default(), client_peer());
    pass((&mut reactor, &mut told), shake, &carrier, &mut peer);
    let conn = opened.borrow().expect("a handshake");
    (reactor, told, conn, carrier, peer)
}

#[test]
fn bytes_are_unsent_until_the_last_of_their_ciphertext_has_gone() {
    let (mut reactor, mut told, conn, carrier, _) = served(usize::MAX, false);
    carrier.0.borrow_mut().room = 0;
    let _ = reactor[conn].write(&[7; 1000]);
    turns(&mut reactor, &mut told, 2);
    assert_eq!(reactor[conn].unsent(), 1000);
    for (room, unsent) in [(100, 900), (900, 1), (20, 1), (1000, 0)] {
        carrier.0.borrow_mut().room = room;
        reactor.resume(conn, Readiness::WRITABLE);
        turns(&mut reactor, &mut told, 2);
        assert_eq!(reactor[conn].unsent(), unsent);
    }
}

/// However the bytes lie in the buffers that they come from: that is chance, and would cost a
/// record for each piece.
#[test]
fn records_are_filled_whatever_pieces_the_bytes_come_in() {
    let room = 1 << 20;
    // The first waits in the outbox, and the second is offered behind it.
    for (first, second) in
        [(0, 41_000), (1000, 40_000), (16_383, 24_617), (1, 40_999), (100, 16_284), (100, 16_285)]
    {
        let (mut reactor, mut told, conn, carrier, mut peer) = served(usize::MAX, false);
        carrier.0.borrow_mut().room = room;
        carrier.0.borrow_mut().taken.clear();
        let said: Vec<u8> = (0..first + second).map(|at| (at % 251) as u8).collect();
        let (front, back) = said.split_at(first);
        let _ = (reactor[conn].write(front), reactor[conn].write(back));
        turns(&mut reactor, &mut told, 2);
        let taken = std::mem::take(&mut carrier.0.borrow_mut().taken);
        let (mut records, mut at) = (0, 0);
        while at < taken.len() {
            at += 5 + usize::from(u16::from_be_bytes([taken[at + 3], taken[at + 4]]));
            records += 1;
        }
        assert_eq!(records, said.len().div_ceil(16 * 1024), "{first} and {second}");
        let (mut input, mut heard) = (&taken[..], Vec::new());
        while !input.is_empty() {
            peer.read_tls(&mut input).unwrap();
            peer.process_new_packets().unwrap();
            let mut plain = [0; 50_000];
            while let Ok(count @ 1..) = peer.reader().read(&mut plain) {
                heard.extend_from_slice(&plain[..count]);
            }
        }
        assert!(heard == said, "{first} and {second}");
    }
}

/// What the peer has to send, as one piece.
fn send_piece(carrier: &Carrier, peer: &mut Connection) {
    let mut piece = Vec::new();
    while peer.wants_write() {
        peer.write_tls(&mut piece).unwrap();
    }
    carrier.0.borrow_mut().pieces.push_back(piece);
}

/// Each read finds a record, which carries nothing, and the last of them the end.
#[test]
fn records_without_data_are_read_to_the_end() {
    for count in 1..12 {
        let (mut reactor, mut told, conn, carrier, mut peer) = served(usize::MAX, false);
        for _ in 0..count {
            peer.refresh_traffic_keys().unwrap();
            send_piece(&carrier, &mut peer);
        }
        carrier.0.borrow_mut().ended = true;
        reactor.resume(conn, Readiness::READABLE);
        turns(&mut reactor, &mut told, 8);
        assert!(matches!(told.closed, Some(Reason::Error(_))), "{count}: {:?}", told.closed);
    }
}

#[test]
fn last_words_behind_records_without_data_are_heard() {
    for count in 0..12 {
        let (mut reactor, mut told, conn, carrier, mut peer) = served(usize::MAX, false);
        for _ in 0..count {
            peer.refresh_traffic_keys().unwrap();
            send_piece(&carrier, &mut peer);
        }
        peer.writer().write_all(b"last words").unwrap();
        send_piece(&carrier, &mut peer);
        (carrier.0.borrow_mut().broken, carrier.0.borrow_mut().ended) = (true, true);
        let _ = reactor[conn].write(b"too late");
        turns(&mut reactor, &mut told, 8);
        assert_eq!(told.bytes, b"last words", "behind {count}");
        assert!(matches!(told.closed, Some(Reason::Reset)), "{:?}", told.closed);
    }
}

#[test]
fn a_carrier_that_has_failed_is_offered_nothing_more() {
    for closes in [false, true] {
        let (mut reactor, mut told, conn, carrier, _) = served(usize::MAX, false);
        // Some of a record waits, and the peer's last words are still to be read.
        carrier.0.borrow_mut().room = 10;
        if closes {
            reactor[conn].shutdown();
        } else {
            let _ = reactor[conn].write(&[7; 1000]);
        }
        turns(&mut reactor, &mut told, 2);
        carrier.0.borrow_mut().broken = true;
        reactor.resume(conn, Readiness::WRITABLE);
        turns(&mut reactor, &mut told, 5);
        assert!(matches!(told.closed, Some(Reason::Reset)), "{:?}", told.closed);
        assert_eq!((carrier.0.borrow().failures, carrier.0.borrow().fins), (1, 0));
    }
}

/// As behind a STARTTLS, in one read with it.
#[test]
fn a_hello_that_has_come_before_tells_the_name_it_is_for() {
    let (mut reactor, mut shaken) = (Reactor::<Shaken>::new().unwrap(), None);
    let (carrier, mut peer) = (Carrier::default(), client_peer());
    carrier.0.borrow_mut().room = 1 << 20;
    let mut hello = Vec::new();
    peer.write_tls(&mut hello).unwrap();
    let stream = Stream::over(carrier.clone()).unread(&hello);
    let done = |_: &mut _, shaken: &mut Shaken, result| *shaken = Some(result);
    let shake = with::server().accept(&mut reactor, stream, done);
    pass((&mut reactor, &mut shaken), shake, &carrier, &mut peer);
    let stream = shaken.expect("told").expect("a handshake");
    assert_eq!(stream.tls().unwrap().server_name(), Some("localhost"));
}

#[test]
fn what_is_owed_goes_out_without_an_end_behind_it() {
    let used = (1 << 20) - served(1 << 20, false).3.0.borrow().room;
    // The end of the server's tickets does not fit.
    let (mut reactor, mut told, conn, carrier, _) = served(used - 20, false);
    assert_eq!(carrier.0.borrow().room, 0);
    let taken = carrier.0.borrow().taken.len();
    carrier.0.borrow_mut().room = usize::MAX;
    reactor.resume(conn, Readiness::WRITABLE);
    turns(&mut reactor, &mut told, 3);
    assert!(carrier.0.borrow().taken.len() > taken, "they have gone");
    assert_eq!(carrier.0.borrow().fins, 0);
    reactor[conn].shutdown();
    turns(&mut reactor, &mut told, 3);
    assert_eq!(carrier.0.borrow().fins, 1);
}

#[test]
fn closing_over_two_descriptors_waits_for_nobody() {
    for is_pair in [true, false] {
        let (mut reactor, mut told, conn, _, _) = served(usize::MAX, is_pair);
        reactor[conn].close();
        turns(&mut reactor, &mut told, 3);
        assert_eq!(told.closed.is_some(), is_pair, "{:?}", told.closed);
        told.closed = None;
        drop(reactor);
    }
}

/// Our last message does not fit, and the server has more to say behind its own.
#[test]
fn a_handshake_that_waits_for_room_is_not_called_for_input() {
    let (mut reactor, carrier) = (Reactor::<Shaken>::new().unwrap(), Carrier::default());
    (carrier.0.borrow_mut().room, carrier.0.borrow_mut().tells) = (1 << 20, true);
    let stream = Stream::over(carrier.clone());
    let done = |_: &mut _, shaken: &mut Shaken, result| *shaken = Some(result);
    let shake = with::client().connect(&mut reactor, stream, "localhost", done);
    let mut shaken = None;
    turns(&mut reactor, &mut shaken, 2);
    let mut peer: Connection = ServerConnection::new(with::server_config()).unwrap().into();
    hear(&carrier, &mut peer);
    let mut bytes = Vec::new();
    while peer.wants_write() {
        peer.write_tls(&mut bytes).unwrap();
    }
    carrier.0.borrow_mut().pieces.extend([bytes, vec![23]]);
    carrier.0.borrow_mut().room = 0;
    reactor.resume(shake, Readiness::READABLE);
    turns(&mut reactor, &mut shaken, 2);
    let before = reactor.statistics().callbacks;
    turns(&mut reactor, &mut shaken, 5);
    assert_eq!(reactor.statistics().callbacks, before, "it has nothing to do");
    assert!(shaken.is_none());
    carrier.0.borrow_mut().room = 1 << 20;
    reactor.resume(shake, Readiness::WRITABLE);
    turns(&mut reactor, &mut shaken, 2);
    assert!(shaken.expect("told").is_ok());
}
