//! Edges that come once: what a panic, a pause, a crowd or a hook must not make the loop miss.

use std::io::{self, IoSlice, Write};
use std::net::{Shutdown, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use support::{MS, ceiling, raise_open_files};
use waterwheel::mio::{Interest, Registry, Token};
use waterwheel::net::{
    Conn, Event, Framed, Limits, Lines, Reason, Stream, Transport, framed, memory, tcp,
};
use waterwheel::reactor::{Readiness, Script, VirtualSource};
use waterwheel::timers::ManualClock;
use waterwheel::{Context, Reactor, SourceId};

type Told = Vec<String>;

fn tell(_: &mut Context<Told>, told: &mut Told, _: SourceId<Conn>, event: Event<'_>) {
    told.push(match event {
        Event::Data(bytes) => format!("Data {}", bytes.len()),
        event => format!("{event:?}"),
    });
}

/// A client, and the connection that serves it with a copy of `handler`.
fn client<F>(
    reactor: &mut Reactor<Told>,
    told: &mut Told,
    limits: Limits,
    handler: F,
) -> (TcpStream, SourceId<Conn>)
where
    F: FnMut(&mut Context<Told>, &mut Told, SourceId<Conn>, Event<'_>) + Clone + 'static,
{
    let opened = std::rc::Rc::new(std::cell::Cell::new(None));
    let open = opened.clone();
    let listener = tcp::Listen::new().limits(limits);
    let listener = listener.open(reactor, "127.0.0.1:0", move |reactor, _, incoming| {
        open.set(Some(incoming.open(reactor, handler.clone())));
    });
    let client = TcpStream::connect(reactor[listener.unwrap()].local_addr()).unwrap();
    while opened.get().is_none() {
        reactor.turn(told, Some(5 * MS)).unwrap();
    }
    turns(reactor, told, 3);
    (client, opened.get().unwrap())
}

fn turns(reactor: &mut Reactor<Told>, told: &mut Told, count: usize) {
    for _ in 0..count {
        reactor.turn(told, Some(5 * MS)).unwrap();
    }
}

/// Turns until something that begins like this was told.
fn until(reactor: &mut Reactor<Told>, told: &mut Told, what: &str) {
    while !told.iter().any(|line| line.starts_with(what)) {
        reactor.turn(told, Some(5 * MS)).unwrap();
    }
}

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn hook_that_panics_after_the_poll_loses_no_readiness() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::new());
    let (mut peer, _) = client(&mut reactor, &mut told, Limits::default(), tell);
    let mut fuse = true;
    reactor.after_poll(move |_, _| assert!(!std::mem::take(&mut fuse), "on purpose"));
    peer.write_all(b"hello").unwrap();
    let turn = || reactor.turn(&mut told, Some(Duration::from_secs(1)));
    assert!(catch_unwind(AssertUnwindSafe(turn)).is_err());
    until(&mut reactor, &mut told, "Data 5");
}

#[test]
fn handler_that_panics_in_eof_is_still_told_closed() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::new());
    let handler = |r: &mut _, told: &mut Told, id, event: Event<'_>| {
        let eof = matches!(event, Event::Eof);
        tell(r, told, id, event);
        assert!(!eof, "on purpose");
    };
    let (peer, _) = client(&mut reactor, &mut told, Limits::default(), handler);
    drop(peer);
    while told.is_empty() {
        let turn = || reactor.turn(&mut told, Some(5 * MS));
        let _ = catch_unwind(AssertUnwindSafe(turn));
    }
    until(&mut reactor, &mut told, "Closed(Finished)");
    assert_eq!(told, ["Eof", "Closed(Finished)"]);
}

#[test]
fn half_open_connection_is_told_of_a_reset_behind_the_peers_fin() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::new());
    let limits = Limits { half_open: true, ..Limits::default() };
    let (peer, _) = client(&mut reactor, &mut told, limits, tell);
    peer.shutdown(Shutdown::Write).unwrap();
    until(&mut reactor, &mut told, "Eof");
    socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
    until(&mut reactor, &mut told, "Closed(Reset)");
}

#[test]
fn data_of_a_crowd_that_one_poll_cannot_report_beats_its_idle_timeout() {
    let _ceiling = ceiling(LIMIT);
    let clock = ManualClock::held();
    let (mut reactor, mut told) = (Reactor::builder().clock(&clock).build().unwrap(), Told::new());
    let limits = Limits { idle_timeout: Some(Duration::from_secs(10)), ..Limits::default() };
    // More than the 1,024 events that one poll takes; two descriptors each.
    const CROWD: usize = 1100;
    raise_open_files();
    let listen = tcp::Listen::new().limits(limits);
    let listener = listen.open(&mut reactor, "127.0.0.1:0", |reactor, _, incoming| {
        incoming.open(reactor, tell);
    });
    let listener = listener.unwrap();
    let addr = reactor[listener].local_addr();
    let mut peers: Vec<_> = (0..CROWD).map(|_| TcpStream::connect(addr).unwrap()).collect();
    while reactor[listener].connections() < CROWD {
        turns(&mut reactor, &mut told, 1);
    }
    turns(&mut reactor, &mut told, 3);
    clock.advance(Duration::from_secs(11));
    peers.iter_mut().for_each(|peer| peer.write_all(b"late").unwrap());
    while told.len() < CROWD {
        turns(&mut reactor, &mut told, 1);
    }
    assert!(told.iter().all(|line| line == "Data 4"), "nobody was idle");
}

#[test]
fn pause_in_a_full_read_is_no_backlog_to_be_reset_for() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::new());
    let limits = Limits { backlog_bytes_max: 64, ..Limits::default() };
    let lines =
        |reactor: &mut Context<Told>, told: &mut Told, conn: SourceId<Conn>, _: Framed<'_>| {
            told.push("frame".into());
            if let Some(conn) = reactor.get_mut(conn) {
                conn.pause();
            }
        };
    let listen = tcp::Listen::new().limits(limits);
    let listener =
        listen.open(&mut reactor, "127.0.0.1:0", move |reactor, told: &mut Told, stream| {
            let conn = stream.open(reactor, framed(Lines::new(32), lines));
            reactor.every(MS, waterwheel::reactor::Missed::Skip, move |reactor, _, _| {
                if let Some(conn) = reactor.get_mut(conn) {
                    conn.resume();
                }
            });
            told.push("open".into());
        });
    let mut peer = TcpStream::connect(reactor[listener.unwrap()].local_addr()).unwrap();
    peer.write_all(&b"a short line\n".repeat(100)).unwrap();
    while told.len() < 1 + 100 {
        turns(&mut reactor, &mut told, 1);
    }
    assert_eq!(told.iter().filter(|line| *line == "frame").count(), 100);
}

/// A transport without a kernel: so many bytes to read, and it may refuse to be watched.
#[derive(Debug)]
struct Scripted {
    left: usize,
    watchable: bool,
}

impl waterwheel::mio::event::Source for Scripted {
    fn register(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        if self.watchable { Ok(()) } else { Err(io::Error::other("on purpose")) }
    }
    fn reregister(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        Ok(())
    }
    fn deregister(&mut self, _: &Registry) -> io::Result<()> {
        Ok(())
    }
}

impl Transport for Scripted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = buffer.len().min(self.left);
        self.left -= count;
        if count > 0 { Ok(count) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }
    fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(pieces.iter().map(|piece| piece.len()).sum())
    }
    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn stream_that_cannot_be_watched_is_told_closed_though_nobody_touches_it() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::new());
    Stream::over(Scripted { left: 0, watchable: false }).open(&mut reactor, tell);
    reactor.run(&mut told).unwrap();
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("Closed(Error"), "{told:?}");
}

#[test]
fn an_error_alone_is_read_to_the_end_over_several_turns() {
    let script = Script::new();
    let (mut reactor, mut told) =
        (Reactor::builder().script(&script).build().unwrap(), Told::new());
    let transport = Scripted { left: 300_000, watchable: true };
    let conn = Stream::over(transport).open(&mut reactor, tell);
    script.report([(conn.raw(), Readiness::ERROR)]);
    for _ in 0..4 {
        reactor.turn(&mut told, Some(Duration::ZERO)).unwrap();
    }
    let count = |line: &String| line.strip_prefix("Data ").unwrap().parse::<usize>().unwrap();
    assert_eq!(told.iter().map(count).sum::<usize>(), 300_000);
}

#[test]
fn resuming_for_nothing_queues_nothing() {
    let mut reactor = Reactor::new().unwrap();
    let count = |_: &mut Context<u32>, calls: &mut u32, _: SourceId<VirtualSource>, _| *calls += 1;
    let source = reactor.register(VirtualSource, Interest::READABLE, count).unwrap();
    (0..1000).for_each(|_| assert!(reactor.resume(source, Readiness::NONE)));
    reactor.resume(source, Readiness::READABLE);
    let mut calls = 0;
    reactor.turn(&mut calls, Some(Duration::ZERO)).unwrap();
    assert_eq!(calls, 1);
}

#[test]
fn stop_in_a_hook_before_the_poll_is_not_slept_over() {
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::<()>::new().unwrap();
    reactor.register(VirtualSource, Interest::READABLE, |_, _, _, _| {}).unwrap();
    reactor.before_poll(|reactor, _| reactor.stop());
    reactor.run(&mut ()).unwrap();
}

#[test]
fn resume_of_a_closing_connection_leaves_its_grace_alone() {
    let _ceiling = ceiling(LIMIT);
    let clock = ManualClock::held();
    let (mut reactor, mut told) = (Reactor::builder().clock(&clock).build().unwrap(), Told::new());
    clock.advance(Duration::from_secs(60));
    let (_peer, conn) = client(&mut reactor, &mut told, Limits::default(), tell);
    while reactor[conn].unsent() < 1 << 20 {
        let _ = reactor[conn].write(&[7; 1 << 19]);
        turns(&mut reactor, &mut told, 1);
    }
    reactor[conn].pause();
    reactor[conn].close();
    turns(&mut reactor, &mut told, 3);
    reactor[conn].resume();
    turns(&mut reactor, &mut told, 3);
    assert!(reactor.contains(conn), "{told:?}");
    clock.advance(Duration::from_secs(5));
    until(&mut reactor, &mut told, &format!("Closed({:?})", Reason::Grace));
}

#[test]
fn reset_that_a_write_meets_first_is_no_end_of_the_peers_answer() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::new());
    let (mut peer, conn) = client(&mut reactor, &mut told, Limits::default(), tell);
    peer.write_all(b"half an ans").unwrap();
    socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
    // Flushed before the loop looks: the write takes the error, and the read behind it answers 0.
    let _ = reactor[conn].write(b"another question");
    until(&mut reactor, &mut told, "Closed");
    assert_eq!(told, ["Data 11", "Closed(Reset)"]);
}

#[test]
fn paused_connection_that_is_opened_again_is_told_nothing_before_it_is_resumed() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::new());
    let (one, other) = memory::pair(&mut reactor);
    let keep = |reactor: &mut Context<Told>, told: &mut Told, id, event: Event<'_>| {
        if matches!(event, Event::Data(_)) {
            let conn: &mut Conn = &mut reactor[id];
            conn.unread(1);
            conn.pause();
        }
        tell(reactor, told, id, event);
    };
    let (one, other) = (one.open(&mut reactor, tell), other.open(&mut reactor, keep));
    let _ = reactor[one].write(b"two");
    until(&mut reactor, &mut told, "Data 3");
    let conn = reactor.deregister(other).unwrap();
    let other = Stream::from(conn).open(&mut reactor, tell);
    turns(&mut reactor, &mut told, 3);
    assert_eq!(told, ["Data 3"]);
    reactor[other].resume();
    until(&mut reactor, &mut told, "Data 1");
}

#[test]
fn last_words_that_are_handed_over_are_no_data_of_a_closing_connection() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::new());
    let (one, other) = memory::pair(&mut reactor);
    let open = |reactor: &mut Context<Told>, told: &mut Told, id, event: Event<'_>| {
        assert!(reactor.get(id).is_none_or(|conn: &Conn| !conn.is_closing()));
        tell(reactor, told, id, event);
    };
    let (one, other) = (one.open(&mut reactor, tell), other.open(&mut reactor, tell));
    // Long enough to be sent at once; then the reset, at once, too.
    let _ = reactor[one].write(&[7; 20_000]);
    reactor[one].abort();
    drop(reactor.deregister(one));
    let _ = reactor[other].write(&[7; 20_000]); // Meets the reset before anything was read.
    let conn = reactor.deregister(other).unwrap();
    Stream::from(conn).open(&mut reactor, open);
    until(&mut reactor, &mut told, "Closed");
    assert_eq!(told, ["Data 20000", "Closed(Reset)"]);
}

#[test]
fn aborted_connection_is_told_no_data_that_was_given_back() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::new());
    let (one, other) = memory::pair(&mut reactor);
    let keep = |reactor: &mut Context<Told>, told: &mut Told, id, event: Event<'_>| {
        if matches!(event, Event::Data(_)) {
            let conn: &mut Conn = &mut reactor[id];
            conn.unread(1);
            conn.pause();
        }
        tell(reactor, told, id, event);
    };
    let (one, other) = (one.open(&mut reactor, tell), other.open(&mut reactor, keep));
    let _ = reactor[one].write(b"two");
    until(&mut reactor, &mut told, "Data 3");
    reactor[other].resume();
    reactor[other].abort();
    until(&mut reactor, &mut told, "Closed(Aborted)");
    assert_eq!(told, ["Data 3", "Closed(Aborted)"]);
}

#[test]
fn handler_that_panics_in_eof_is_told_no_data_after_it() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::new());
    let (one, other) = memory::pair(&mut reactor);
    let keep = |reactor: &mut Context<Told>, told: &mut Told, id, event: Event<'_>| {
        let eof = matches!(event, Event::Eof);
        if matches!(event, Event::Data(_)) {
            let conn: &mut Conn = &mut reactor[id];
            conn.unread(1);
        }
        tell(reactor, told, id, event);
        if eof {
            resume_unwind(Box::new("on purpose"));
        }
    };
    let limits = Limits { half_open: true, ..Limits::default() };
    let (one, other) =
        (one.open(&mut reactor, tell), other.limits(limits).open(&mut reactor, keep));
    let _ = reactor[one].write(b"two");
    reactor[one].shutdown();
    let turn = || until(&mut reactor, &mut told, "Never");
    assert!(catch_unwind(AssertUnwindSafe(turn)).is_err());
    reactor[other].pause();
    reactor[other].resume();
    turns(&mut reactor, &mut told, 3);
    assert_eq!(told, ["Data 3", "Eof"]);
}
