//! Sockets that somebody else has bound: served like one's own, or refused with the reason.
#![cfg(unix)]

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use socket2::{Domain, Socket, Type};
use support::ceiling;
use waterwheel::net::{Datagram, Event, Stream, tcp, udp, unix};
use waterwheel::{Context, Reactor};

const LIMIT: Duration = Duration::from_secs(60);

/// Answers each connection with what it has sent, and ends the loop with the last.
fn echo(reactor: &mut Context<usize>, _: &mut usize, incoming: Stream) {
    incoming.open(reactor, |reactor, left: &mut usize, conn, event| match event {
        Event::Data(bytes) => {
            let _ = reactor[conn].write(bytes);
        }
        Event::Closed(_) => {
            *left -= 1;
            if *left == 0 {
                reactor.stop();
            }
        }
        _ => {}
    });
}

/// A file in the way of nobody else, gone with its test.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let name = format!("waterwheel-adopt-{name}-{}", std::process::id());
        Place(std::env::temp_dir().join(name))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn is_closed_on_exec(fd: impl AsFd) -> bool {
    fcntl_getfd(fd).unwrap().contains(FdFlags::CLOEXEC)
}

#[test]
fn inherited_listener_serves_who_waits_already_and_who_comes() {
    let _ceiling = ceiling(LIMIT);
    for host in ["127.0.0.1", "::1"] {
        let Ok(listener) = TcpListener::bind((host, 0)) else { continue };
        fcntl_setfd(&listener, FdFlags::empty()).unwrap(); // As it is inherited.
        let addr = listener.local_addr().unwrap();
        let mut waits = TcpStream::connect(addr).unwrap();
        waits.write_all(b"hello").unwrap();
        waits.shutdown(Shutdown::Write).unwrap();
        let mut reactor = Reactor::new().unwrap();
        let id = tcp::Listen::new().adopt(&mut reactor, listener, echo).unwrap();
        assert_eq!(reactor[id].local_addr(), addr);
        assert!(is_closed_on_exec(&reactor[id]));
        let mut comes = TcpStream::connect(addr).unwrap();
        comes.write_all(b"hello").unwrap();
        comes.shutdown(Shutdown::Write).unwrap();
        reactor.run(&mut 2).unwrap();
        for mut client in [waits, comes] {
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, "hello");
        }
        drop(reactor);
        assert!(TcpListener::bind(addr).is_ok(), "it was closed with its loop");
    }
}

#[test]
fn inherited_unix_listener_leaves_its_file_to_whoever_made_it() {
    let _ceiling = ceiling(LIMIT);
    let place = Place::new("stream");
    let listener = UnixListener::bind(&place.0).unwrap();
    let mut reactor = Reactor::new().unwrap();
    let id = unix::Listen::new().adopt(&mut reactor, listener, echo).unwrap();
    assert_eq!(reactor[id].local_addr().as_path(), Some(&*place.0));
    assert!(reactor[id].is_reachable());
    let mut client = UnixStream::connect(&place.0).unwrap();
    client.write_all(b"hello").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    reactor.run(&mut 1).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "hello");
    drop(reactor);
    assert!(place.0.exists());
}

#[test]
fn inherited_datagram_sockets_hear_and_answer() {
    let _ceiling = ceiling(LIMIT);
    let (socket, client) = (UdpSocket::bind("127.0.0.1:0"), UdpSocket::bind("127.0.0.1:0"));
    let (socket, client) = (socket.unwrap(), client.unwrap());
    let addr = socket.local_addr().unwrap();
    client.send_to(b"waits", addr).unwrap();
    let mut reactor = Reactor::new().unwrap();
    let id = udp::Bind::new().adopt(&mut reactor, socket, |reactor, _: &mut (), id, event| {
        if let Datagram::Received { from, bytes, .. } = event {
            let _ = reactor[id].send_to(bytes, &from);
            reactor.stop();
        }
    });
    let id = id.unwrap();
    assert_eq!(reactor[id].local_addr(), addr);
    reactor.run(&mut ()).unwrap();
    let mut answer = [0; 9];
    assert_eq!(client.recv(&mut answer).unwrap(), 5);

    let place = Place::new("datagram");
    let (socket, client) =
        (UnixDatagram::bind(&place.0).unwrap(), UnixDatagram::unbound().unwrap());
    let bind = unix::datagram::Bind::new();
    let id = bind.adopt(&mut reactor, socket, |reactor, _, _, event| {
        assert!(matches!(event, Datagram::Received { bytes: b"hello", .. }));
        reactor.stop();
    });
    let id = id.unwrap();
    client.send_to(b"hello", &place.0).unwrap();
    reactor.run(&mut ()).unwrap();
    assert_eq!(reactor[id].local_addr().unwrap().as_path(), Some(&*place.0));
    drop(reactor);
    assert!(place.0.exists());
}

#[test]
fn connected_datagram_socket_sends_to_its_peer() {
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::<()>::new().unwrap();
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    let id = unix::datagram::Bind::new().adopt(&mut reactor, ours, |_, _, _, _| {}).unwrap();
    assert!(reactor[id].local_addr().is_none());
    let _ = reactor[id].send(b"hello").unwrap();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(peer.local_addr().unwrap()).unwrap();
    let id = udp::Bind::new().adopt(&mut reactor, socket, |_, _, _, _| {}).unwrap();
    let _ = reactor[id].send(b"hello").unwrap();
    let mut bytes = [0; 9];
    assert_eq!((theirs.recv(&mut bytes).unwrap(), peer.recv(&mut bytes).unwrap()), (5, 5));
}

#[test]
fn descriptor_of_another_kind_is_refused_with_the_reason() {
    let mut reactor = Reactor::<()>::new().unwrap();
    let file = || OwnedFd::from(File::open("/dev/null").unwrap());
    let tcp = |listens: bool| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
        listens.then(|| socket.listen(1).unwrap());
        OwnedFd::from(socket)
    };
    let udp = || OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap());
    let unix = |kind| OwnedFd::from(Socket::new(Domain::UNIX, kind, None).unwrap());

    let mut refused = |of: &str, fd: OwnedFd| {
        let error = match of {
            "tcp" => tcp::Listen::new().adopt(&mut reactor, fd.into(), |_, _, _| {}).err(),
            "unix" => unix::Listen::new().adopt(&mut reactor, fd.into(), |_, _, _| {}).err(),
            "udp" => udp::Bind::new().adopt(&mut reactor, fd.into(), |_, _, _, _| {}).err(),
            _ => {
                let bind = unix::datagram::Bind::new();
                bind.adopt(&mut reactor, fd.into(), |_, _, _, _| {}).err()
            }
        };
        let error = error.unwrap_or_else(|| panic!("it was taken for {of}")).to_string();
        error.strip_prefix("cannot take over a socket: ").expect("what was tried").to_owned()
    };
    for of in ["tcp", "unix", "udp", "datagram"] {
        let error = refused(of, file());
        assert!(error.starts_with("Socket operation on non-socket"), "{error}");
    }
    if cfg!(target_os = "linux") {
        assert_eq!(refused("tcp", tcp(false)), "it does not listen");
        assert_eq!(refused("unix", unix(Type::STREAM)), "it does not listen");
    }
    let (a, _b) = UnixStream::pair().unwrap();
    assert!(refused("tcp", a.into()).starts_with("its family is "));
    assert!(refused("unix", tcp(true)).starts_with("its family is "));
    assert!(refused("udp", unix(Type::DGRAM)).starts_with("its family is "));
    assert!(refused("datagram", udp()).starts_with("its family is "));
    assert_eq!(
        refused("tcp", udp()),
        "it is not of the type SOCK_DGRAM".replace("DGRAM", "STREAM")
    );
    assert_eq!(refused("udp", tcp(true)), "it is not of the type SOCK_DGRAM");
    assert_eq!(refused("unix", unix(Type::DGRAM)), "it is not of the type SOCK_STREAM");
    assert_eq!(refused("datagram", unix(Type::STREAM)), "it is not of the type SOCK_DGRAM");
    assert_eq!(reactor.sources(), 0);
}

#[test]
fn option_that_comes_too_late_is_refused() {
    let mut reactor = Reactor::<()>::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = tcp::Listen::new().reuse_port(true).adopt(&mut reactor, listener, |_, _, _| {});
    let mut errors = vec![error.unwrap_err()];
    let place = Place::new("mode");
    let listener = UnixListener::bind(&place.0).unwrap();
    let listen = unix::Listen::new().mode(0o600);
    errors.push(listen.adopt(&mut reactor, listener, |_, _, _| {}).unwrap_err());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let bind = udp::Bind::new().broadcast(true);
    errors.push(bind.adopt(&mut reactor, socket, |_, _, _, _| {}).unwrap_err());
    let bind = unix::datagram::Bind::new().mode(0o600);
    let socket = UnixDatagram::unbound().unwrap();
    errors.push(bind.adopt(&mut reactor, socket, |_, _, _, _| {}).unwrap_err());
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().ends_with("has no effect, it is bound already"), "{error}");
    }
}

#[test]
fn listener_comes_as_stdin_as_inetd_passes_it() {
    const MARK: &str = "WATERWHEEL_ADOPT_CHILD";
    let _ceiling = ceiling(LIMIT);
    if std::env::var_os(MARK).is_some() {
        let listener = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
        let mut reactor = Reactor::new().unwrap();
        tcp::Listen::new().adopt(&mut reactor, listener.into(), echo).unwrap();
        return reactor.run(&mut 1).unwrap();
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let mut server = Command::new(std::env::current_exe().unwrap());
    let (_, test) = support::named("listener_comes_as_stdin_as_inetd_passes_it");
    server.args([&test, "--exact"]).env(MARK, "1");
    let server = server.stdin(Stdio::from(OwnedFd::from(listener))).stdout(Stdio::null()).spawn();
    client.write_all(b"hello").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!((answer.as_str(), server.unwrap().wait().unwrap().success()), ("hello", true));
}
