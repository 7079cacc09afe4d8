//! Sockets that are connected to themselves, by every way to make a stream.

use std::net::{TcpListener, ToSocketAddrs};

use socket2::{Domain, Socket, Type};

use super::*;
use crate::Reactor;
use crate::net::race::{enter, race};

type Answers = Vec<io::Result<Stream>>;

const TIMEOUT: Duration = Duration::from_secs(30);

/// A socket of `host` that is connected to itself, or `None` if there is no such host.
fn narcissus(host: &str) -> Option<TcpConnector> {
    let addr = (host, 0).to_socket_addrs().unwrap().next().unwrap();
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).unwrap();
    socket.bind(&addr.into()).ok()?;
    let peer = socket.local_addr().unwrap().as_socket().unwrap();
    socket.connect(&peer.into()).unwrap();
    socket.set_nonblocking(true).unwrap();
    Some(TcpConnector { socket: TcpStream::from_std(socket.into()), peer })
}

fn hosts() -> impl Iterator<Item = &'static str> {
    ["127.0.0.1", "127.0.0.2", "::1"]
        .into_iter()
        .filter(|host| TcpListener::bind((*host, 0)).is_ok())
}

fn run(reactor: &mut Reactor<Answers>, addr: SocketAddr) -> io::Error {
    let mut answers = Answers::new();
    reactor.run(&mut answers).unwrap();
    assert_eq!(answers.len(), 1);
    // Free at once for a new listener, without SO_REUSEADDR.
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).unwrap();
    socket.bind(&addr.into()).unwrap();
    answers.remove(0).unwrap_err()
}

#[test]
fn socket_that_is_connected_to_itself_is_refused_and_frees_its_port() {
    for host in hosts() {
        let mut reactor = Reactor::<Answers>::new().unwrap();
        let itself = narcissus(host).unwrap();
        let addr = itself.peer;
        let done = |_: &mut Context<_>, answers: &mut Answers, answer| answers.push(answer);
        await_connection(&mut reactor, itself, TIMEOUT, done).unwrap();
        let error = run(&mut reactor, addr);
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{host}");
        assert!(error.to_string().contains("to itself"), "{error}");
    }
}

#[test]
fn race_goes_on_where_a_socket_was_connected_to_itself() {
    for host in hosts() {
        let mut reactor = Reactor::<Answers>::new().unwrap();
        let times = (TIMEOUT, TIMEOUT);
        let done = |_: &mut Context<_>, answers: &mut Answers, answer| answers.push(answer);
        let mut first = narcissus(host);
        let addr = first.as_ref().unwrap().peer;
        let connect = move |addr| first.take().map_or_else(|| TcpConnector::to(addr), Ok);
        let id = race(&mut reactor, "server:80".to_owned(), times, connect, done).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let second = listener.local_addr().unwrap();
        // First the one, and the other at once when that is refused, not after the attempt's delay.
        enter(&mut reactor, id, Ok(vec![addr, second]));
        let mut answers = Answers::new();
        reactor.run(&mut answers).unwrap();
        assert!(answers.len() == 1 && answers[0].is_ok(), "{host}: {answers:?}");

        let mut first = narcissus(host);
        let addr = first.as_ref().unwrap().peer;
        let connect = move |_| Ok(first.take().unwrap());
        let id = race(&mut reactor, "server:80".to_owned(), times, connect, done).unwrap();
        enter(&mut reactor, id, Ok(vec![addr]));
        let error = run(&mut reactor, addr);
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert!(error.to_string().starts_with(&format!("cannot connect to server:80: {addr}: ")));
    }
}
