//! The vault: a protocol that was written outside of the library does what ours do.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustls::{ClientConnection, StreamOwned};
use socket2::{Domain, SockRef, Socket, Type};
use support::process::{Client, Process, example, output};
use support::tls::{Scratch, authority, client_config, localhost};
use support::{Rng, ceiling};

#[allow(dead_code)] // The program uses the rest.
#[path = "../../examples/more/vault/wire.rs"]
mod wire;

use wire::Kind;

const LIMIT: Duration = Duration::from_secs(60);
/// What one answer may take: less, so that a test fails and leaves no server behind.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// A vault with a certificate of the tests' authority.
struct Server {
    process: Process,
    addr: SocketAddr,
    ca: Scratch,
    _files: [Scratch; 2],
}

fn serve(test: &str) -> Server {
    let cert = Scratch::new(&format!("vault-{test}-cert.pem"), &localhost().chain);
    let key = Scratch::new(&format!("vault-{test}-key.pem"), &localhost().key);
    let ca = Scratch::new(&format!("vault-{test}-ca.pem"), &authority().pem);
    let mut command = example("vault");
    command.args(["127.0.0.1:0", "--cert"]).arg(&cert.0).arg("--key").arg(&key.0);
    let (process, addr) = Process::listening(&mut command);
    Server { process, addr, ca, _files: [cert, key] }
}

impl Server {
    fn signal(&mut self) {
        kill_process(Pid::from_raw(self.process.id() as i32).unwrap(), Signal::TERM).unwrap();
        let line = self.process.line();
        assert!(line.starts_with("SIGTERM: no new clients"), "{line}");
    }

    /// Reads what became of its connections.
    fn ends(&mut self, [idle, finished, aborted]: [usize; 3]) {
        let (said, code) = self.process.rest();
        let report = format!(
            "listeners closed: 1; connections: {} \
             ({idle} idle, {finished} finished, {aborted} aborted)\n",
            idle + finished + aborted
        );
        assert_eq!((String::from_utf8(said).unwrap(), code), (report, Some(0)));
    }

    /// Runs the program as a client.
    fn client(&self, args: &[&str], input: &[u8]) -> Output {
        let mut command = example("vault");
        command.arg(self.addr.to_string()).arg("--ca").arg(&self.ca.0).args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait_with_output().unwrap()
    }
}

/// A client by hand, which blocks.
struct Session(StreamOwned<ClientConnection, TcpStream>);

impl Session {
    fn open(addr: SocketAddr) -> Session {
        Session::over(TcpStream::connect(addr).unwrap())
    }

    /// One whose kernel takes little that is not read.
    fn slow(addr: SocketAddr) -> Session {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&addr.into()).unwrap();
        Session::over(socket.into())
    }

    /// The line that asks for TLS and the beginning of the handshake, in one packet.
    fn over(mut tcp: TcpStream) -> Session {
        tcp.set_read_timeout(Some(ANSWER_LIMIT)).unwrap();
        tcp.set_write_timeout(Some(ANSWER_LIMIT)).unwrap();
        let mut tls =
            ClientConnection::new(client_config(), "localhost".try_into().unwrap()).unwrap();
        let mut bytes = [wire::UPGRADE, b"\n"].concat();
        tls.write_tls(&mut bytes).unwrap();
        tcp.write_all(&bytes).unwrap();
        let mut answer = [0; wire::GO_AHEAD.len() + 1];
        tcp.read_exact(&mut answer).unwrap();
        assert_eq!(answer[..], [wire::GO_AHEAD, b"\n"].concat());
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp).unwrap();
        }
        Session(StreamOwned::new(tls, tcp))
    }

    fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
        self.0.flush().unwrap();
    }

    fn hear(&mut self) -> (Kind, Vec<u8>) {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).unwrap();
        let mut frame = vec![0; 4 + u32::from_be_bytes(length) as usize];
        frame[..4].copy_from_slice(&length);
        self.0.read_exact(&mut frame[4..]).unwrap();
        let (kind, body, used) = wire::frame(&frame).unwrap().expect("a whole frame");
        assert_eq!(used, frame.len());
        (kind, body.to_vec())
    }

    /// Hears that a value is kept, and its digest.
    fn hears_digest_of(&mut self, value: &[u8]) {
        assert_eq!(self.hear(), (Kind::Done, wire::digest(value).to_be_bytes().to_vec()));
    }

    /// The rest of a value, to its end.
    fn value(&mut self) -> Vec<u8> {
        let mut value = Vec::new();
        loop {
            match self.hear() {
                (Kind::Piece, piece) => value.extend(piece),
                (Kind::End, _) => return value,
                other => panic!("{other:?} in the middle of a value"),
            }
        }
    }

    fn hears_error(&mut self, why: &str) {
        let (kind, said) = self.hear();
        assert_eq!((kind, String::from_utf8(said).unwrap()), (Kind::Error, why.into()));
        self.hears_the_end();
    }

    /// A close_notify, and nothing before it.
    fn hears_the_end(&mut self) {
        assert_eq!(self.0.read(&mut [0]).unwrap(), 0);
    }
}

fn frame(kind: Kind, body: &[u8]) -> Vec<u8> {
    [&wire::head(kind, body), body].concat()
}

/// A whole value, as it is put.
fn put(name: &str, value: &[u8]) -> Vec<u8> {
    let pieces = value.chunks(wire::BODY_BYTES_MAX).map(|piece| frame(Kind::Piece, piece));
    let begin = frame(Kind::Put, name.as_bytes());
    [begin].into_iter().chain(pieces).chain([frame(Kind::End, b"")]).flatten().collect()
}

fn get(name: &str) -> Vec<u8> {
    frame(Kind::Get, name.as_bytes())
}

fn three_megabytes() -> Vec<u8> {
    let mut rng = Rng::new();
    (0..3_000_000).map(|_| rng.below(256) as u8).collect()
}

#[test]
fn frames_are_the_same_wherever_the_stream_is_cut() {
    let says = frame(Kind::Put, b"a name");
    for cut in 0..says.len() {
        assert_eq!(wire::frame(&says[..cut]), Ok(None), "cut at {cut}");
    }
    for more in [&b""[..], b"m", b"\0\0\0\0"] {
        let heard =
            wire::frame(&[&says[..], more].concat()).unwrap().map(|(k, b, u)| (k, b.to_vec(), u));
        assert_eq!(heard, Some((Kind::Put, b"a name".to_vec(), says.len())));
    }
}

#[test]
fn the_program_as_a_client_puts_gets_and_says_what_is_not_there() {
    let _ceiling = ceiling(LIMIT);
    let server = serve("client");
    for value in [&b""[..], b"hello\n", &three_megabytes()] {
        let done = server.client(&["--put", "it"], value);
        let digest = format!("{:016x}\n", wire::digest(value));
        assert_eq!(String::from_utf8_lossy(&done.stdout), digest, "{done:?}");
        let got = server.client(&["--get", "it"], b"");
        assert!(got.status.success() && got.stdout == value, "{} bytes", got.stdout.len());
    }
    let missing = server.client(&["--get", "else"], b"");
    let said = String::from_utf8(missing.stderr).unwrap();
    assert_eq!(
        (missing.status.code(), &*said),
        (Some(1), "error: there is no value of that name\n")
    );
}

#[test]
fn requests_that_come_at_once_are_answered_in_their_order() {
    let _ceiling = ceiling(LIMIT);
    let server = serve("order");
    let mut session = Session::open(server.addr);
    let large = vec![b'x'; 200_000];
    let all =
        [get("a"), put("a", b"one"), get("a"), put("b", &large), get("b"), get("c"), get("a")];
    session.send(&all.concat());
    assert_eq!(session.hear().0, Kind::Missing);
    session.hears_digest_of(b"one");
    assert_eq!(session.value(), b"one");
    session.hears_digest_of(&large);
    assert!(session.value() == large);
    assert_eq!(session.hear().0, Kind::Missing);
    assert_eq!(session.value(), b"one");
}

#[test]
fn requests_that_come_byte_by_byte_are_answered_as_well() {
    let _ceiling = ceiling(LIMIT);
    let server = serve("bytes");
    let mut session = Session::open(server.addr);
    for byte in [put("a", b"one"), get("a")].concat() {
        session.send(&[byte]);
    }
    session.hears_digest_of(b"one");
    assert_eq!(session.value(), b"one");
}

/// The client's half of the handshake comes with the line before it (`Session::over`), and what is
/// to be echoed with the frame before it.
#[test]
fn hand_over_in_mid_stream_loses_no_byte_of_the_next_protocol() {
    let _ceiling = ceiling(LIMIT);
    let server = serve("raw");
    let mut session = Session::open(server.addr);
    let echoed = three_megabytes();
    // First behind requests that have to wait for their responses; frames mean nothing any more.
    let behind = [get("a"), vec![0xff; 1000]].concat();
    session.send(&[put("a", &echoed), get("a"), frame(Kind::Raw, b""), behind.clone()].concat());
    session.hears_digest_of(&echoed);
    assert!(session.value() == echoed);
    assert_eq!(session.hear(), (Kind::Done, Vec::new()));
    let mut back = vec![0; behind.len()];
    session.0.read_exact(&mut back).unwrap();
    assert_eq!(back, behind);
    for piece in echoed.chunks(50_000) {
        session.send(piece);
        let mut back = vec![0; piece.len()];
        session.0.read_exact(&mut back).unwrap();
        assert!(back == piece);
    }
    session.0.conn.send_close_notify();
    session.0.flush().unwrap();
    session.hears_the_end();
}

#[test]
fn value_that_is_read_slowly_holds_up_nobody_and_is_not_buffered() {
    let _ceiling = ceiling(LIMIT);
    let server = serve("slow");
    let large = three_megabytes();
    let mut other = Session::open(server.addr);
    other.send(&put("large", &large));
    other.hears_digest_of(&large);
    let before = server.process.resident_kib_max();
    let mut slow: Vec<_> = (0..20).map(|_| Session::slow(server.addr)).collect();
    for session in &mut slow {
        session.send(&get("large"));
        assert_eq!(session.hear(), (Kind::Piece, large[..wire::BODY_BYTES_MAX].to_vec()));
    }
    for round in 0..100 {
        let value = format!("round {round}");
        other.send(&[put("small", value.as_bytes()), get("small")].concat());
        other.hears_digest_of(value.as_bytes());
        assert_eq!(other.value(), value.as_bytes());
    }
    let grown = server.process.resident_kib_max() - before;
    assert!(grown < 20 * 700, "{grown} KiB for twenty who do not read, of 60 MB in all");
    for session in &mut slow {
        assert!(session.value() == large[wire::BODY_BYTES_MAX..]);
    }
}

#[test]
fn value_that_is_replaced_while_it_is_sent_is_cut_with_an_error() {
    let _ceiling = ceiling(LIMIT);
    let server = serve("replaced");
    let mut other = Session::open(server.addr);
    let large = vec![b'x'; wire::VALUE_BYTES_MAX];
    other.send(&put("it", &large));
    other.hears_digest_of(&large);
    let mut slow = Session::slow(server.addr);
    slow.send(&get("it"));
    assert_eq!(slow.hear().0, Kind::Piece);
    other.send(&put("it", b"another"));
    other.hears_digest_of(b"another");
    let last = loop {
        let (kind, body) = slow.hear();
        if kind != Kind::Piece {
            break (kind, String::from_utf8(body).unwrap());
        }
    };
    assert_eq!(last, (Kind::Error, "another value was put there meanwhile".into()));
    slow.hears_the_end();
}

#[test]
fn drain_waits_for_a_value_that_is_under_way_and_says_goodbye() {
    let _ceiling = ceiling(LIMIT);
    let mut server = serve("drain-get");
    let large = three_megabytes();
    let mut idle = Session::open(server.addr);
    idle.send(&put("large", &large));
    idle.hears_digest_of(&large);
    let mut slow = Session::slow(server.addr);
    // The second request waits unread, and has its response all the same.
    slow.send(&[get("large"), get("none")].concat());
    assert_eq!(slow.hear(), (Kind::Piece, large[..wire::BODY_BYTES_MAX].to_vec()));
    server.signal();
    assert_eq!(idle.hear(), (Kind::Bye, Vec::new()));
    idle.hears_the_end();
    drop(idle);
    assert!(slow.value() == large[wire::BODY_BYTES_MAX..]);
    assert_eq!([slow.hear().0, slow.hear().0], [Kind::Missing, Kind::Bye]);
    slow.hears_the_end();
    drop(slow);
    server.ends([1, 1, 0]);
}

#[test]
fn drain_waits_for_a_value_that_is_being_put() {
    let _ceiling = ceiling(LIMIT);
    let mut server = serve("drain-put");
    let mut session = Session::open(server.addr);
    let value = three_megabytes();
    let all = put("a", &value);
    let (first, rest) = all.split_at(1_000_000);
    session.send(&[put("b", b"heard"), first.to_vec()].concat());
    session.hears_digest_of(b"heard"); // So it is amid the next.
    server.signal();
    session.send(rest);
    session.hears_digest_of(&value);
    assert_eq!(session.hear(), (Kind::Bye, Vec::new()));
    session.hears_the_end();
    drop(session);
    let (said, code) = server.process.rest();
    let said = String::from_utf8(said).unwrap();
    assert!(said.contains("connections: 1 (") && said.ends_with(" 0 aborted)\n"), "{said}");
    assert_eq!(code, Some(0));
}

/// In the clear, after the hand-over, and a client that says nothing.
#[test]
fn drain_ends_the_sessions_that_speak_another_protocol() {
    let _ceiling = ceiling(LIMIT);
    let mut server = serve("drain-others");
    let mut clear = Client::connect(server.addr);
    let mut raw = Session::open(server.addr);
    raw.send(&[frame(Kind::Raw, b""), b"hello".to_vec()].concat());
    assert_eq!(raw.hear().0, Kind::Done);
    raw.0.read_exact(&mut [0; 5]).unwrap();
    server.signal();
    raw.hears_the_end();
    drop(raw);
    assert_eq!(clear.rest(), "");
    drop(clear);
    server.ends([2, 0, 0]);
}

#[test]
fn garbage_has_a_clear_error_and_ends_its_own_session_only() {
    let _ceiling = ceiling(LIMIT);
    let server = serve("garbage");
    let too_long = "a frame is longer than 16385 bytes";
    let a_name = "a name is 1 to 255 bytes of UTF-8";
    for (says, why) in [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), too_long),
        (vec![0xff; 100_000], too_long),
        (vec![0, 0, 0, 0], "malformed frame: it has no kind"),
        (vec![0, 0, 0, 1, 9], "malformed frame: there is no such kind"),
        (vec![0, 0, 0, 1, 255], "malformed frame: there is no such kind"),
        (frame(Kind::Piece, b"of what?"), "Piece does not belong here"),
        (frame(Kind::End, b""), "End does not belong here"),
        (frame(Kind::Bye, b""), "Bye does not belong here"),
        ([frame(Kind::Put, b"a"), get("a")].concat(), "Get does not belong here"),
        ([frame(Kind::Put, b"a"), frame(Kind::Raw, b"")].concat(), "Raw does not belong here"),
        (frame(Kind::Put, b""), a_name),
        (frame(Kind::Get, &[b'x'; 256]), a_name),
        (frame(Kind::Get, b"\xff"), a_name),
        (put("a", &vec![0; wire::VALUE_BYTES_MAX + 1]), "a value is 8388608 bytes at most"),
    ] {
        let mut session = Session::open(server.addr);
        session.send(&says);
        session.hears_error(why);
    }
    // What is refused is not kept, and a name of 255 bytes is one.
    let mut session = Session::open(server.addr);
    let longest = "x".repeat(255);
    session.send(&[get("a"), put(&longest, b"kept"), get(&longest)].concat());
    assert_eq!(session.hear().0, Kind::Missing);
    session.hears_digest_of(b"kept");
    assert_eq!(session.value(), b"kept");
}

#[test]
fn session_that_ends_in_the_middle_of_a_request_has_an_error() {
    let _ceiling = ceiling(LIMIT);
    let server = serve("middle");
    let whole = put("a", b"one");
    for cut in [1, 4, 5, 6, 9, whole.len() - 1] {
        let mut session = Session::open(server.addr);
        session.send(&whole[..cut]);
        session.0.conn.send_close_notify();
        session.0.flush().unwrap();
        session.hears_error("the input ended in the middle of a request");
    }
    // One that ends behind a request has its response.
    let mut session = Session::open(server.addr);
    session.send(&[whole, get("a")].concat());
    session.0.conn.send_close_notify();
    session.0.flush().unwrap();
    session.hears_digest_of(b"one");
    assert_eq!(session.value(), b"one");
    session.hears_the_end();
}

#[test]
fn who_does_not_ask_for_tls_in_the_clear_is_sent_away() {
    let _ceiling = ceiling(LIMIT);
    let mut server = serve("clear");
    for says in ["GET / HTTP/1.1\r\n\r\n", "tls\n", "\n", &"x".repeat(100)] {
        let mut client = Client::connect(server.addr);
        client.send(says);
        assert_eq!(client.rest(), "error: the first line is TLS\n", "{says:?}");
    }
    // Nothing that comes in the clear is heard as a frame, even if it comes behind the line.
    let mut client = Client::connect(server.addr);
    client.send([b"TLS\r\n".to_vec(), put("a", b"injected")].concat());
    assert_eq!(client.line(), "go ahead");
    assert_eq!(server.process.line(), "no handshake: the peer does not speak TLS");
    let mut session = Session::open(server.addr);
    session.send(&get("a"));
    assert_eq!(session.hear().0, Kind::Missing);
}

#[test]
fn values_that_are_not_complete_count_among_what_is_buffered() {
    let _ceiling = ceiling(LIMIT);
    let server = serve("budget");
    let all = put("a", &vec![0; wire::VALUE_BYTES_MAX]);
    let part = &all[..all.len() - 5];
    let mut clients = Vec::new();
    for _ in 0..6 {
        let mut session = Session::open(server.addr);
        // One of those that have most is closed, this one perhaps while it sends.
        let _ = session.0.write_all(part).and_then(|()| session.0.flush());
        clients.push(session);
    }
    let mut kept = 0;
    for session in &mut clients {
        let _ = session.0.write_all(&all[part.len()..]).and_then(|()| session.0.flush());
        let mut answer = [0; 13];
        let heard = session.0.read_exact(&mut answer).is_ok();
        kept += usize::from(heard && answer[4] == Kind::Done as u8);
    }
    assert!((1..=2).contains(&kept), "{kept} of six were kept");
    assert!(server.process.resident_kib_max() < 80_000, "{}", server.process.resident_kib_max());
}

#[test]
fn vault_that_is_full_says_so_and_replaced_values_make_room() {
    let _ceiling = ceiling(LIMIT);
    let server = serve("full");
    let value = vec![7; wire::VALUE_BYTES_MAX];
    let mut session = Session::open(server.addr);
    // One that replaces another is there beside it for a moment.
    for name in [0, 1, 2, 3, 4, 5, 0, 1, 2, 6] {
        session.send(&put(&name.to_string(), &value));
        session.hears_digest_of(&value);
    }
    session.send(&put("7", &value));
    session.hears_error("the vault is full");
    let mut session = Session::open(server.addr);
    session.send(&[put("0", b""), put("7", &value)].concat());
    session.hears_digest_of(b"");
    session.hears_digest_of(&value);
}

#[test]
fn clients_that_vanish_in_the_middle_leave_the_server_as_it_was() {
    let _ceiling = ceiling(LIMIT);
    let server = serve("vanish");
    let large = three_megabytes();
    for says in [put("a", &large)[..2_000_000].to_vec(), put("a", &large), get("a")] {
        for reset in [true, false] {
            let mut session = Session::open(server.addr);
            session.send(&says);
            if reset {
                SockRef::from(session.0.get_ref()).set_linger(Some(Duration::ZERO)).unwrap();
            } else {
                session.0.sock.shutdown(Shutdown::Both).unwrap();
            }
        }
    }
    let mut session = Session::open(server.addr);
    session.send(&put("b", b"one"));
    session.hears_digest_of(b"one");
}

#[test]
fn arguments_are_those_of_its_help() {
    let help = String::from_utf8(output("vault", &["--help"]).stdout).unwrap();
    assert!(help.starts_with("Usage: vault [OPTIONS] [ADDR]") && help.contains("127.0.0.1:7448"));
    let ca = Scratch::new("vault-args-ca.pem", &authority().pem);
    let ca = ca.0.to_str().unwrap();
    for (args, because) in [
        (&["--nonsense"][..], "--help"),
        (&["nonsense"], "cannot listen on nonsense"),
        (&["--get", "a"], "a client wants --ca, too"),
        (&["--get", "a", "--put", "b", "--ca", ca], "either --get or --put"),
        (&["--get", "", "--ca", ca], "a name is 1 to 255 bytes"),
        (&["--get", "a", "--ca", "/nowhere"], "cannot read /nowhere"),
        (&["--get", "a", "--ca", ca, "[::1"], "a bracket is not closed"),
        (&["--get", "a", "--ca", ca, "nonsense"], "cannot connect to not a host and a port"),
        (&["--cert", ca], "--cert and --key go together"),
    ] {
        let refused = output("vault", args);
        let said = String::from_utf8(refused.stderr).unwrap();
        assert_eq!((refused.status.code(), said.lines().count()), (Some(2), 1), "{said}");
        assert!(said.starts_with("error: ") && said.contains(because), "{said}");
    }
}
