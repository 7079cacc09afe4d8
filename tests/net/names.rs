//! Connecting by name: who is tried when, who wins, and what is told if nobody does.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use support::clients::skip_without;
use support::tcp;
use support::tcp::{full, full_at, nobody, turn_until, turns, watched};
use support::{MS, ceiling};
use waterwheel::net::tcp::{Connect, Race, connect_name};
use waterwheel::net::{ADDRESSES_MAX, Event, Stream};
use waterwheel::reactor::{Alive, Builder};
use waterwheel::timers::ManualClock;
use waterwheel::{Context, Reactor, SourceId};

const LIMIT: Duration = Duration::from_secs(60);
const DELAY: Duration = Duration::from_millis(250);
const TIMEOUT: Duration = Duration::from_secs(10);
const NAME: &str = "service.test:80";

/// What the callback was told, each time it was.
type Answers = Vec<io::Result<Stream>>;

fn keep(_: &mut Context<Answers>, answers: &mut Answers, answer: io::Result<Stream>) {
    answers.push(answer);
}

/// A loop whose time stands still.
struct Lab {
    reactor: Reactor<Answers>,
    clock: ManualClock,
    answers: Answers,
}

impl Lab {
    fn new() -> Lab {
        Lab::with(Reactor::builder())
    }

    fn with(builder: Builder<Answers>) -> Lab {
        let clock = ManualClock::held();
        let reactor = builder.clock(&clock).build().unwrap();
        Lab { reactor, clock, answers: Answers::new() }
    }

    /// Begins to connect to a name that has these addresses; returns when the first is tried, or
    /// all is over.
    fn connect(&mut self, addrs: &[SocketAddr]) -> SourceId<Race> {
        let addrs = addrs.to_vec();
        let connect = Connect::new().resolver(move |_| Ok(addrs.clone()));
        let id = connect.open(&mut self.reactor, NAME, keep).unwrap();
        turn_until(&mut self.reactor, &mut self.answers, |reactor, _| {
            reactor.get(id).is_none_or(|race| race.trying().next().is_some())
        });
        id
    }

    /// Who is being tried, once what can happen has happened.
    fn trying(&mut self, id: SourceId<Race>) -> Vec<SocketAddr> {
        turns(&mut self.reactor, &mut self.answers, 10);
        self.reactor.get(id).map_or(Vec::new(), |race| race.trying().collect())
    }

    fn advance(&mut self, by: Duration) {
        self.clock.advance(by);
        turns(&mut self.reactor, &mut self.answers, 10);
    }

    /// The only answer, and nothing is left.
    fn answer(&mut self) -> io::Result<Stream> {
        turn_until(&mut self.reactor, &mut self.answers, |_, answers| !answers.is_empty());
        self.advance(2 * TIMEOUT);
        // A lookup that has begun cannot be stopped.
        let sources = self.reactor.sources() - self.reactor.jobs();
        assert_eq!((self.answers.len(), sources, self.reactor.timers()), (1, 0, 0));
        assert!(!self.reactor.is_alive());
        self.answers.remove(0)
    }

    fn error(&mut self) -> (ErrorKind, String) {
        let error = self.answer().expect_err("nobody listens");
        (error.kind(), error.to_string())
    }
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

#[test]
fn an_address_is_not_looked_up() {
    skip_without!(IPV6);
    for listener in ["127.0.0.1:0", "[::1]:0"].map(|addr| TcpListener::bind(addr).unwrap()) {
        let mut lab = Lab::new();
        let addr = listener.local_addr().unwrap();
        connect_name(&mut lab.reactor, &addr.to_string(), TIMEOUT, keep).unwrap();
        assert_eq!(lab.reactor.job_statistics().offloaded, 0);
        assert_eq!(lab.answer().unwrap().peer(), Some(addr));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_address_with_a_zone_is_not_looked_up_either() {
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for zone in ["lo", "1"] {
        let mut lab = Lab::new();
        let name = format!("[::1%{zone}]:{port}");
        let connect = Connect::new().resolver(|name| panic!("{name} is an address"));
        connect.open(&mut lab.reactor, &name, keep).unwrap();
        assert_eq!(lab.reactor.job_statistics().offloaded, 0);
        let peer = lab.answer().unwrap().peer().unwrap();
        assert_eq!((peer.to_string(), peer.port()), (format!("[::1%1]:{port}"), port));
    }
    let mut lab = Lab::new();
    drop(listener);
    let refused = io::Error::from(rustix::io::Errno::CONNREFUSED);
    let name = format!("[::1%lo]:{port}");
    connect_name(&mut lab.reactor, &name, TIMEOUT, keep).unwrap();
    assert_eq!(lab.error().1, format!("cannot connect to {name}: {refused}"), "named once");
    let mut lab = Lab::new();
    connect_name(&mut lab.reactor, "[fe80::1%nosuch]:80", TIMEOUT, keep).unwrap();
    let (kind, text) = lab.error();
    assert_eq!(kind, ErrorKind::NotFound);
    let why = "this host has no interface \"nosuch\"";
    assert_eq!(text, format!("cannot connect to [fe80::1%nosuch]:80: {why}"));
}

#[test]
fn localhost_is_looked_up_and_answers() {
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::new().unwrap();
    let port =
        tcp::serve(&mut reactor, Default::default(), |reactor, _: &mut Vec<u8>, conn, event| {
            if let Event::Data(bytes) = event {
                let _ = reactor[conn].write(bytes);
            }
        })
        .port();
    let name = format!("localhost:{port}");
    connect_name(&mut reactor, &name, TIMEOUT, |reactor, _, stream| {
        let note = |reactor: &mut Context<Vec<u8>>, got: &mut Vec<u8>, _, event: Event<'_>| {
            if let Event::Data(bytes) = event {
                got.extend(bytes);
                reactor.stop();
            }
        };
        let conn = stream.unwrap().open(reactor, watched(note));
        let _ = reactor[conn].write(b"hello");
    })
    .unwrap();
    let mut got = Vec::new();
    reactor.run(&mut got).unwrap();
    assert_eq!((got, reactor.job_statistics().offloaded), (b"hello".to_vec(), 1));
}

#[test]
fn a_name_is_looked_up_on_a_worker_and_as_it_was_given() {
    let ((_listener, addr), mut lab) = (listener(), Lab::new());
    let asked = Arc::new(Mutex::new(None));
    let ask = asked.clone();
    let connect = Connect::new().resolver(move |name| {
        let thread = thread::current().name().unwrap().to_owned();
        *ask.lock().unwrap() = Some((name.to_owned(), thread));
        Ok(vec![addr])
    });
    connect.open(&mut lab.reactor, NAME, keep).unwrap();
    assert_eq!(lab.answer().unwrap().peer(), Some(addr));
    let asked = asked.lock().unwrap().take();
    assert_eq!(asked, Some((NAME.to_owned(), "waterwheel-worker-0".to_owned())));
}

#[test]
fn the_next_address_is_tried_a_quarter_of_a_second_later_and_not_before() {
    let ((_full, _waiting, silent), (_listener, addr)) = (full(), listener());
    let mut lab = Lab::new();
    let race = lab.connect(&[silent, addr]);
    assert_eq!(lab.trying(race), [silent]);
    lab.advance(DELAY - MS);
    assert_eq!(lab.trying(race), [silent]);
    lab.advance(MS);
    assert_eq!(lab.answer().unwrap().peer(), Some(addr));
}

#[test]
fn the_next_address_is_tried_at_once_when_one_has_failed() {
    let (_listener, addr) = listener();
    // Refused by the peer, a moment later; and refused by our own system, at once.
    for failing in [nobody(), "127.255.255.255:9".parse().unwrap()] {
        let mut lab = Lab::new();
        lab.connect(&[failing, failing, nobody(), addr]);
        turn_until(&mut lab.reactor, &mut lab.answers, |_, answers| !answers.is_empty());
        assert_eq!(lab.answer().unwrap().peer(), Some(addr));
    }
}

/// 100::1 (RFC 6666) and 192.0.2.1 (RFC 5737) are nobody's: there may be no route to them, or
/// silence, or somebody's firewall answers.
#[test]
fn an_address_that_leads_nowhere_does_not_keep_the_others_from_being_tried() {
    let ((_listener, addr), mut lab) = (listener(), Lab::new());
    let nowhere = ["[100::1]:9", "192.0.2.1:9"].map(|addr| addr.parse().unwrap());
    let race = lab.connect(&[nowhere[0], nowhere[1], addr]);
    for _ in 0..2 {
        if lab.reactor.get(race).is_some() {
            lab.advance(DELAY);
        }
    }
    assert_eq!(lab.answer().unwrap().peer(), Some(addr));
}

#[test]
fn families_alternate() {
    skip_without!(IPV6);
    let four = [full(), full()];
    let six = [full_at("[::1]:0"), full_at("[::1]:0")];
    let [(a, b), (c, d)] = [(six[0].2, six[1].2), (four[0].2, four[1].2)];
    let mut lab = Lab::new();
    let race = lab.connect(&[a, b, c, d]);
    let mut tried = Vec::new();
    for count in 1..=4 {
        tried = lab.trying(race);
        assert_eq!(tried.len(), count);
        lab.advance(DELAY);
    }
    assert_eq!(tried, [a, c, b, d]);
}

#[test]
fn the_first_to_answer_wins_though_others_were_tried_before() {
    let (silent, (_listener, addr)) = ([full(), full()], listener());
    let mut lab = Lab::new();
    let race = lab.connect(&[silent[0].2, silent[1].2, addr]);
    lab.advance(DELAY);
    assert_eq!(lab.trying(race).len(), 2);
    lab.advance(DELAY);
    assert_eq!(lab.answer().unwrap().peer(), Some(addr));
}

#[test]
fn an_answer_in_the_turn_of_the_timeout_is_one() {
    let ((_listener, addr), mut lab) = (listener(), Lab::new());
    let connect = Connect::new().timeout(DELAY).resolver(move |_| Ok(vec![addr]));
    let race = connect.open(&mut lab.reactor, NAME, keep).unwrap();
    turn_until(&mut lab.reactor, &mut lab.answers, |reactor, _| {
        reactor.get(race).is_none_or(|race| race.trying().next().is_some())
    });
    if lab.answers.is_empty() {
        assert!(tcp::await_readiness(&lab.reactor, 1000));
    }
    lab.clock.advance(DELAY);
    assert!(lab.answer().is_ok());
}

#[test]
fn a_race_without_a_winner_tells_each_address_and_its_error() {
    let (one, other) = (nobody(), nobody());
    let mut lab = Lab::new();
    lab.connect(&[one, other]);
    let (kind, text) = lab.error();
    assert_eq!(kind, ErrorKind::ConnectionRefused);
    let refused = io::Error::from(rustix::io::Errno::CONNREFUSED);
    assert_eq!(text, format!("cannot connect to {NAME}: {one}: {refused}; {other}: {refused}"));
}

#[test]
fn one_timeout_is_for_all_and_tells_what_became_of_each_address() {
    let ((_full, _waiting, silent), refusing) = (full(), nobody());
    let (mut lab, later) = (Lab::new(), full());
    let addrs = vec![refusing, silent, later.2];
    let connect = Connect::new().timeout(Duration::from_secs(2)).attempt_delay(2 * TIMEOUT);
    let connect = connect.resolver(move |_| Ok(addrs.clone()));
    let race = connect.open(&mut lab.reactor, NAME, keep).unwrap();
    turn_until(&mut lab.reactor, &mut lab.answers, |reactor, _| {
        reactor[race].trying().eq([silent])
    });
    lab.advance(Duration::from_millis(1999));
    assert!(lab.answers.is_empty());
    lab.advance(MS);
    let (kind, text) = lab.error();
    assert_eq!(kind, ErrorKind::TimedOut);
    let refused = io::Error::from(rustix::io::Errno::CONNREFUSED);
    let expected = format!("{refusing}: {refused}; {silent}: timed out; {}: not tried", later.2);
    assert_eq!(text, format!("cannot connect to {NAME}: {expected}"));
}

#[test]
fn a_lookup_counts_into_the_timeout_and_comes_too_late_for_anything() {
    let _ceiling = ceiling(LIMIT);
    let ((_listener, addr), mut lab) = (listener(), Lab::new());
    let ((release, released), (begin, begun)) = (channel::<()>(), channel::<()>());
    let released = Mutex::new(released);
    let connect = Connect::new().resolver(move |_| {
        begin.send(()).unwrap();
        let _ = released.lock().unwrap().recv();
        Ok(vec![addr])
    });
    connect.open(&mut lab.reactor, NAME, keep).unwrap();
    begun.recv().unwrap(); // A worker that begins later finds nothing to do, and says so at once.
    lab.advance(TIMEOUT - MS);
    assert!(lab.answers.is_empty());
    lab.advance(MS);
    let (kind, text) = lab.error();
    assert_eq!(kind, ErrorKind::TimedOut);
    assert_eq!(text, format!("cannot connect to {NAME}: looking it up timed out"));
    drop(release);
    turn_until(&mut lab.reactor, &mut lab.answers, |reactor, _| reactor.jobs() == 0);
    turns(&mut lab.reactor, &mut lab.answers, 10);
    assert!(lab.answers.is_empty());
}

#[test]
fn a_name_without_addresses_tells_why() {
    fn fail(connect: Connect) -> (ErrorKind, String) {
        let mut lab = Lab::new();
        connect.open(&mut lab.reactor, NAME, keep).unwrap();
        assert!(lab.answers.is_empty());
        lab.error()
    }
    let told = |what: &str| format!("cannot connect to {NAME}: {what}");
    let (kind, text) = fail(Connect::new().resolver(|_| Ok(Vec::new())));
    assert_eq!((kind, text), (ErrorKind::NotFound, told("it has no address")));
    let (kind, text) = fail(Connect::new().resolver(|_| Err(io::Error::other("no such name"))));
    assert_eq!((kind, text), (ErrorKind::Other, told("no such name")));
    let (_, text) = fail(Connect::new().resolver(|_| panic!("on purpose")));
    assert_eq!(text, told("the job panicked: on purpose"));
}

#[test]
fn a_name_for_which_no_worker_is_free_is_told_so() {
    let _ceiling = ceiling(LIMIT);
    let mut lab = Lab::with(Reactor::builder().workers(1).jobs_max(0));
    let (release, released) = channel::<()>();
    lab.reactor.offload(move || released.recv().is_ok(), |_, _, _| {});
    connect_name(&mut lab.reactor, NAME, TIMEOUT, keep).unwrap();
    turn_until(&mut lab.reactor, &mut lab.answers, |_, answers| !answers.is_empty());
    drop(release);
    turn_until(&mut lab.reactor, &mut lab.answers, |reactor, _| reactor.jobs() == 0);
    assert!(lab.error().1.ends_with("too many jobs wait for a worker"));
}

#[test]
fn what_is_no_name_with_a_port_is_refused_at_once() {
    let mut lab = Lab::new();
    for name in ["", "example.org", ":80", "example.org:", "example.org:http", "[::1]:65536"]
        .into_iter()
        .chain(["::1", "::1:80", "[::1]", "[a]:80", "*:80", "a:+80", "a b:80", "a:80:80", "80"])
    {
        let error = connect_name(&mut lab.reactor, name, TIMEOUT, keep).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name}");
        assert!(error.to_string().contains(&format!("{name:?}")));
    }
    assert!(!lab.reactor.is_alive());
}

#[test]
fn only_so_many_addresses_of_a_name_are_tried() {
    let mut lab = Lab::new();
    let port = nobody().port();
    let addrs: Vec<_> = (1..=50).map(|n| SocketAddr::from(([127, 0, 0, n], port))).collect();
    lab.connect(&addrs);
    let (_, text) = lab.error();
    assert_eq!(text.matches("127.0.0.").count(), ADDRESSES_MAX, "{text}");
}

#[test]
fn a_race_that_is_removed_calls_nobody_and_leaves_nothing() {
    let ((_full, _waiting, silent), (_listener, addr)) = (full(), listener());
    for wait in [Duration::ZERO, DELAY - MS, DELAY] {
        for addrs in [&[silent, silent, addr][..], &[nobody(), silent], &[addr]] {
            let mut lab = Lab::new();
            let addrs = addrs.to_vec();
            let connect = Connect::new().resolver(move |_| Ok(addrs.clone()));
            let race = connect
                .open(&mut lab.reactor, NAME, |_, _: &mut Answers, _| panic!("it was removed"));
            let race = race.unwrap();
            turn_until(&mut lab.reactor, &mut lab.answers, |reactor, _| {
                reactor[race].trying().next().is_some()
            });
            lab.clock.advance(wait);
            assert!(lab.reactor.remove(race));
            lab.advance(2 * TIMEOUT);
            assert_eq!((lab.reactor.sources(), lab.reactor.timers()), (0, 0));
            assert!(!lab.reactor.is_alive());
        }
    }
}

#[test]
fn a_race_that_is_removed_waits_for_no_lookup_and_starts_none() {
    let _ceiling = ceiling(LIMIT);
    let mut lab = Lab::with(Reactor::builder().workers(1));
    let (release, released) = channel::<()>();
    let (begin, begun) = channel();
    let ends = Mutex::new((begin, released));
    let slow = Connect::new().resolver(move |_| {
        let ends = ends.lock().unwrap();
        ends.0.send(()).unwrap();
        let _ = ends.1.recv();
        Ok(Vec::new())
    });
    let called = Arc::new(AtomicBool::new(false));
    let call = called.clone();
    let never = Connect::new().resolver(move |_| {
        call.store(true, Ordering::SeqCst);
        Ok(Vec::new())
    });
    let panics = |_: &mut _, _: &mut Answers, _| panic!("it was removed");
    let races =
        [&slow, &never].map(|connect| connect.open(&mut lab.reactor, NAME, panics).unwrap());
    let line = line!() - 1;
    begun.recv().unwrap();
    let why = lab.reactor.why_alive();
    assert_eq!(why.len(), 2, "{why:?}");
    let here = |why: &Alive| matches!(why, Alive::Source(_, place) if place.line() == line);
    assert!(why.iter().all(here), "{why:?}");
    for race in races {
        assert!(lab.reactor.remove(race));
    }
    lab.reactor.run(&mut lab.answers).unwrap(); // returns, though the first lookup goes on
    drop(release);
    turn_until(&mut lab.reactor, &mut lab.answers, |reactor, _| reactor.jobs() == 0);
    assert!(!called.load(Ordering::SeqCst));
}

#[test]
fn a_reactor_that_is_dropped_in_the_middle_of_a_lookup_waits_for_nobody() {
    let _ceiling = ceiling(LIMIT);
    let mut lab = Lab::new();
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    let connect = Connect::new().resolver(move |_| {
        let _ = released.lock().unwrap().recv();
        Ok(Vec::new())
    });
    connect.open(&mut lab.reactor, NAME, keep).unwrap();
    drop(lab);
    drop(release);
}
