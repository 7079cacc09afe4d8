//! Races between connectors whose ports decide the outcome, on a clock that jumps.

use std::rc::Rc;

use super::*;
use crate::reactor::Reactor;
use crate::timers::ManualClock;

/// Connects to a port that decides the outcome: 0 none, 1 at once, 2 refused at once, 3 refused by
/// the selector.
#[derive(Debug)]
struct Fake {
    port: u16,
    _lives: Rc<()>,
}

impl Connector for Fake {
    fn outcome(&mut self) -> Option<io::Result<()>> {
        [None, Some(Ok(())), Some(Err(ErrorKind::ConnectionRefused.into()))]
            .into_iter()
            .nth(usize::from(self.port))
            .flatten()
    }

    fn stream(self, _: Group) -> Stream {
        let (one, _) = mio::net::UnixStream::pair().unwrap();
        let one = std::os::fd::OwnedFd::from(one);
        Stream::over(mio::net::TcpStream::from_std(std::net::TcpStream::from(one)))
    }
}

impl Source for Fake {
    fn register(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        if self.port == 3 { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
    fn reregister(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        panic!("it is registered once")
    }
    fn deregister(&mut self, _: &Registry) -> io::Result<()> {
        Ok(())
    }
}

type Answer = Option<io::Result<Stream>>;

/// A race to these ports on a clock that jumps; `lives` counts its connectors.
fn start(ports: &[u16], lives: &Rc<()>) -> (Reactor<Answer>, SourceId<Race<Fake>>) {
    let mut reactor = Reactor::builder().clock(&ManualClock::new()).build().unwrap();
    let times = (Duration::from_secs(10), Duration::from_millis(250));
    let (name, counted) = ("name".to_owned(), lives.clone());
    let connect = move |addr: SocketAddr| Ok(Fake { port: addr.port(), _lives: counted.clone() });
    let at_end = lives.clone();
    let id = race(&mut reactor, name, times, connect, move |_, answer: &mut Answer, result| {
        assert_eq!(Rc::strong_count(&at_end), 3, "every connector is gone");
        *answer = Some(result);
    });
    let id = id.unwrap();
    let addrs = (1..).zip(ports).map(|(n, port)| SocketAddr::from(([127, 0, 0, n], *port)));
    enter(&mut reactor, id, Ok(addrs.collect()));
    (reactor, id)
}

#[test]
fn losers_are_closed_before_the_winner_is_reported() {
    let (mut answer, lives) = (None, Rc::new(()));
    let (mut reactor, _) = start(&[0, 2, 0, 1, 0], &lives);
    let begin = reactor.now();
    reactor.run(&mut answer).unwrap();
    assert!(answer.unwrap().is_ok());
    // No event comes from a fake, so each is looked at when the next one is due: the second at
    // 500 ms, and as it is refused the third begins then; the fourth at 1000 ms.
    assert_eq!(reactor.now() - begin, Duration::from_secs(1));
}

#[test]
fn an_attempt_that_cannot_be_watched_has_failed() {
    let (mut answer, lives) = (None, Rc::new(()));
    let (mut reactor, _) = start(&[3, 0, 3], &lives);
    reactor.run(&mut answer).unwrap();
    let error = answer.unwrap().unwrap_err().to_string();
    assert_eq!(error.matches("no storage space").count(), 2, "{error}");
    assert_eq!(error.matches("timed out").count(), 1, "{error}");
}

#[test]
fn a_spurious_event_changes_nothing() {
    let (mut answer, lives) = (None, Rc::new(()));
    let (mut reactor, id) = start(&[0, 0], &lives);
    for _ in 0..5 {
        reactor.resume(id, Readiness::WRITABLE);
        reactor.turn(&mut answer, Some(Duration::ZERO)).unwrap();
    }
    assert_eq!(reactor[id].trying().count(), 1);
    reactor.run(&mut answer).unwrap();
    assert_eq!(answer.unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
}

#[test]
fn removing_a_race_closes_its_attempts() {
    let (mut answer, lives) = (None, Rc::new(()));
    let (mut reactor, id) = start(&[0, 0, 0], &lives);
    reactor.turn(&mut answer, None).unwrap();
    reactor.turn(&mut answer, None).unwrap();
    assert_eq!((reactor[id].trying().count(), Rc::strong_count(&lives)), (2, 5));
    reactor.remove(id);
    assert_eq!(Rc::strong_count(&lives), 1);
    assert!(answer.is_none() && !reactor.is_alive());
}

#[test]
fn an_address_that_was_asked_for_is_named_once() {
    let (mut answer, lives) = (None, Rc::new(()));
    let (mut reactor, id) = start(&[2], &lives);
    reactor[id].name = "127.0.0.1:2".to_owned();
    reactor.run(&mut answer).unwrap();
    let error = answer.unwrap().unwrap_err().to_string();
    assert_eq!(error, "cannot connect to 127.0.0.1:2: connection refused");
}

fn order(found: &[&str]) -> Vec<String> {
    let found = found.iter().map(|addr| addr.parse().unwrap());
    interleaved(found.collect()).iter().map(SocketAddr::to_string).collect()
}

#[test]
fn families_alternate_and_ipv6_comes_first() {
    let found = ["[::1]:1", "[::2]:1", "[::3]:1", "1.0.0.1:1", "1.0.0.2:1"];
    let expected = ["[::1]:1", "1.0.0.1:1", "[::2]:1", "1.0.0.2:1", "[::3]:1"];
    assert_eq!(order(&found), expected);
    let found = ["1.0.0.1:1", "1.0.0.2:1", "1.0.0.1:1", "[::1]:1"];
    assert_eq!(order(&found), ["[::1]:1", "1.0.0.1:1", "1.0.0.2:1"]);
    assert_eq!(order(&[]), [""; 0]);
}

#[test]
fn only_so_many_addresses_are_tried() {
    for both in [false, true] {
        let many = (0..200).map(|n| match both && n > 100 {
            true => SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, n], 1)),
            false => SocketAddr::from(([10, 0, 0, n as u8], 1)),
        });
        let order = interleaved(many.collect());
        assert_eq!(order.len(), ADDRESSES_MAX);
        let v6 = order.iter().filter(|addr| addr.is_ipv6()).count();
        assert_eq!(v6, if both { ADDRESSES_MAX / 2 } else { 0 });
    }
}
