//! Bulk transfer over TLS, against what rustls does alone.
//!
//! *Alone* is two of rustls's own connections in memory: one seals 64 KiB of plaintext at a time,
//! its ciphertext is handed over as a slice, the other reads the plaintext out. No loop, no socket,
//! no readiness: who moves bytes cannot do less. It is there twice, by the interface that has
//! buffers, which its manual shows, and by the one that leaves them to the caller, which ours is
//! made of; that one even spares itself the copy of the plaintext. Ours is the same transfer
//! between two connections of one loop, over the in-memory pair, which copies each byte in and out
//! again; what that and the loop cost is in the line without TLS.
//!
//! Over TCP both pay the kernel, and are like with like: alone are two sockets that are written and
//! read 64 KiB at a time, as they are here. All run on one thread, so that time is work.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use waterwheel::net::{Conn, Event, Stream, memory, tcp};
use waterwheel::protocols::tls;
use waterwheel::{Context, Reactor, SourceId};

/// What one iteration moves.
const TOTAL_BYTES: usize = 16 << 20;
/// What is written at a time.
const PIECE_BYTES: usize = 64 << 10;

/// Both sides' configurations, with one certificate.
fn configs() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let cert = made.cert.der().clone();
    let key = made.signing_key.serialize_der().try_into().unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider.clone());
    let server = server.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let mut roots = RootCertStore::empty();
    roots.add(cert.clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider);
    let client = client.with_safe_default_protocol_versions().unwrap();
    let client = client.with_root_certificates(roots).with_no_client_auth();
    (Arc::new(server.with_single_cert(vec![cert], key).unwrap()), Arc::new(client))
}

/// Hands over all that one side has to send.
fn hand_over(from: &mut rustls::Connection, to: &mut rustls::Connection) {
    let mut wire = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut wire).unwrap();
    }
    let mut wire = &wire[..];
    while !wire.is_empty() {
        to.read_tls(&mut wire).unwrap();
        to.process_new_packets().unwrap();
    }
}

/// rustls's two sides after their handshake.
fn alone() -> (rustls::Connection, rustls::Connection) {
    let (server, client) = configs();
    let name = "localhost".try_into().unwrap();
    let mut server: rustls::Connection = ServerConnection::new(server).unwrap().into();
    let mut client: rustls::Connection = ClientConnection::new(client, name).unwrap().into();
    while server.is_handshaking() || client.is_handshaking() {
        hand_over(&mut client, &mut server);
        hand_over(&mut server, &mut client);
    }
    (server, client)
}

/// What rustls alone does, in memory.
fn transfer_alone(sender: &mut rustls::Connection, receiver: &mut rustls::Connection) {
    let (piece, mut scratch) = (vec![7; PIECE_BYTES], vec![0; PIECE_BYTES]);
    let (mut wire, mut got) = (Vec::new(), 0);
    while got < TOTAL_BYTES {
        sender.writer().write_all(&piece).unwrap();
        wire.clear();
        while sender.wants_write() {
            sender.write_tls(&mut wire).unwrap();
        }
        let mut rest = &wire[..];
        while !rest.is_empty() {
            receiver.read_tls(&mut rest).unwrap();
            let state = receiver.process_new_packets().unwrap();
            if state.plaintext_bytes_to_read() > 0 {
                got += receiver.reader().read(&mut scratch).unwrap();
            }
        }
    }
}

/// Two ends of a TCP connection that do not block.
fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let far = listener.accept().unwrap().0;
    for socket in [&near, &far] {
        socket.set_nonblocking(true).unwrap();
        socket.set_nodelay(true).unwrap();
    }
    (near, far)
}

/// What rustls alone does, over TCP.
fn transfer_over_tcp(
    (sender, near): (&mut rustls::Connection, &mut TcpStream),
    (receiver, far): (&mut rustls::Connection, &mut TcpStream),
) {
    let (piece, mut scratch) = (vec![7; PIECE_BYTES], vec![0; PIECE_BYTES]);
    let (mut wire, mut left, mut got) = (vec![0; PIECE_BYTES], TOTAL_BYTES, 0);
    while got < TOTAL_BYTES {
        if left > 0 && !sender.wants_write() {
            sender.writer().write_all(&piece).unwrap();
            left -= PIECE_BYTES;
        }
        while sender.wants_write() && sender.write_tls(near).is_ok() {}
        while let Ok(count) = far.read(&mut wire) {
            let mut rest = &wire[..count];
            while !rest.is_empty() {
                receiver.read_tls(&mut rest).unwrap();
                let state = receiver.process_new_packets().unwrap();
                if state.plaintext_bytes_to_read() > 0 {
                    got += receiver.reader().read(&mut scratch).unwrap();
                }
            }
            if count < wire.len() {
                break;
            }
        }
    }
}

/// rustls's two sides without buffers, after their handshake.
fn unbuffered() -> (UnbufferedServerConnection, UnbufferedClientConnection) {
    let (server, client) = configs();
    let mut server = UnbufferedServerConnection::new(server).unwrap();
    let name = "localhost".try_into().unwrap();
    let mut client = UnbufferedClientConnection::new(client, name).unwrap();
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    while client.is_handshaking() || server.is_handshaking() || !to_client.is_empty() {
        all(&mut to_client, |input| drive(client.process_tls_records(input), &mut to_server, None));
        all(&mut to_server, |input| drive(server.process_tls_records(input), &mut to_client, None));
    }
    (server, client)
}

/// Has all of the input taken in; how much plaintext there was.
fn all(wire: &mut Vec<u8>, mut drive: impl FnMut(&mut [u8]) -> (bool, usize, usize)) -> usize {
    let (mut at, mut got) = (0, 0);
    loop {
        let (on, discard, plain) = drive(&mut wire[at..]);
        at += discard;
        got += plain;
        if !on {
            wire.clear(); // Flights are whole.
            return got;
        }
    }
}

/// Does what rustls asks for, until it lets us send: whether to call again, how much input is done
/// with, and how much plaintext there was.
fn drive<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    out: &mut Vec<u8>,
    plain: Option<&[u8]>,
) -> (bool, usize, usize) {
    let (mut discard, mut got) = (status.discard, 0);
    let on = match status.state.unwrap() {
        ConnectionState::ReadTraffic(mut traffic) => {
            while let Some(record) = traffic.next_record() {
                let record = record.unwrap();
                discard += record.discard;
                got += record.payload.len();
            }
            true
        }
        ConnectionState::EncodeTlsData(mut data) => {
            let at = out.len();
            out.resize(at + 5000, 0);
            let count = data.encode(&mut out[at..]).unwrap();
            out.truncate(at + count);
            true
        }
        ConnectionState::TransmitTlsData(sent) => {
            sent.done();
            true
        }
        ConnectionState::WriteTraffic(mut traffic) => {
            if let Some(plain) = plain {
                out.resize(plain.len() + 1024, 0);
                let count = traffic.encrypt(plain, out).unwrap();
                out.truncate(count);
            }
            false
        }
        _ => false,
    };
    (on, discard, got)
}

/// What rustls alone does without buffers. Each record is decrypted where it stands.
fn transfer_unbuffered(
    sender: &mut UnbufferedServerConnection,
    receiver: &mut UnbufferedClientConnection,
) {
    let piece = vec![7; PIECE_BYTES];
    let (mut wire, mut own, mut got) = (Vec::new(), Vec::new(), 0);
    while got < TOTAL_BYTES {
        while drive(sender.process_tls_records(&mut []), &mut wire, Some(&piece)).0 {}
        got += all(&mut wire, |input| drive(receiver.process_tls_records(input), &mut own, None));
    }
}

/// What the loop is handed: bytes that were sent and received.
#[derive(Default)]
struct Transfer {
    sent: usize,
    got: usize,
    sender: Option<SourceId<Conn>>,
}

/// Writes one piece more, when all that was sent has come: the other side of the comparison does
/// so, too, and what is under way stays in the cache.
fn next(reactor: &mut Context<Transfer>, transfer: &mut Transfer, piece: &[u8]) {
    if let Some(sender) = transfer.sender
        && transfer.got == transfer.sent
        && transfer.sent < TOTAL_BYTES
    {
        transfer.sent += piece.len();
        assert!(reactor[sender].write(piece).is_taken());
    }
}

fn open(reactor: &mut Reactor<Transfer>, state: &mut Transfer, streams: (Stream, Stream)) {
    let sender = streams.0.open(reactor, |_, _, _, _| {});
    let piece = vec![7; PIECE_BYTES];
    streams.1.open(reactor, move |reactor, transfer: &mut Transfer, _, event| {
        if let Event::Data(bytes) = event {
            transfer.got += bytes.len();
            next(reactor, transfer, &piece);
        }
    });
    state.sender = Some(sender);
}

fn secured(reactor: &mut Reactor<Transfer>, state: &mut Transfer, pair: (Stream, Stream)) {
    let (server, client) = configs();
    let (server, client) = (tls::Server::from(server), tls::Client::from(client));
    let streams: Rc<RefCell<[Option<Stream>; 2]>> = Rc::default();
    let (ours, theirs) = (streams.clone(), streams.clone());
    server.accept(reactor, pair.0, move |_, _, result| ours.borrow_mut()[0] = result.ok());
    client.connect(reactor, pair.1, "localhost", move |_, _, result| {
        theirs.borrow_mut()[1] = result.ok();
    });
    while streams.borrow().iter().any(Option::is_none) {
        reactor.turn(state, Some(Duration::from_secs(1))).unwrap();
    }
    let [ours, theirs] = streams.take();
    open(reactor, state, (ours.unwrap(), theirs.unwrap()));
}

/// Two ends of a TCP connection of the loop.
fn tcp_pair(reactor: &mut Reactor<Transfer>, state: &mut Transfer) -> (Stream, Stream) {
    let ends: Rc<RefCell<Vec<Stream>>> = Rc::default();
    let (near, far) = (ends.clone(), ends.clone());
    let listener =
        tcp::listen(reactor, "127.0.0.1:0", move |_, _, stream| near.borrow_mut().push(stream));
    let listener = listener.unwrap();
    let addr = reactor[listener].local_addr();
    let done = move |_: &mut Context<Transfer>, _: &mut Transfer, result: io::Result<Stream>| {
        far.borrow_mut().push(result.unwrap());
    };
    tcp::connect(reactor, addr, Duration::from_secs(5), done).unwrap();
    while ends.borrow().len() < 2 {
        reactor.turn(state, Some(Duration::from_secs(1))).unwrap();
    }
    reactor.remove(listener);
    let far = ends.borrow_mut().pop().unwrap();
    (ends.borrow_mut().pop().unwrap(), far)
}

fn transfer(reactor: &mut Reactor<Transfer>, state: &mut Transfer, piece: &[u8]) {
    (state.sent, state.got) = (0, 0);
    next(reactor, state, piece);
    while state.got < TOTAL_BYTES {
        reactor.turn(state, Some(Duration::from_secs(1))).unwrap();
    }
}

/// A loop with both ends in it.
fn ours(kernel: bool, secure: bool) -> (Reactor<Transfer>, Transfer) {
    let mut reactor = Reactor::new().unwrap();
    let mut state = Transfer::default();
    let pair = match kernel {
        true => tcp_pair(&mut reactor, &mut state),
        false => memory::pair(&mut reactor),
    };
    if secure {
        secured(&mut reactor, &mut state, pair);
    } else {
        open(&mut reactor, &mut state, pair);
    }
    (reactor, state)
}

fn bulk(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tls");
    group.warm_up_time(Duration::from_millis(500));
    group.measurement_time(Duration::from_secs(5));
    group.sample_size(20);
    group.throughput(Throughput::Bytes(TOTAL_BYTES as u64));

    group.bench_function("in memory, rustls alone", |bench| {
        let (mut server, mut client) = alone();
        bench.iter(|| transfer_alone(&mut server, &mut client));
    });
    group.bench_function("in memory, rustls alone, unbuffered", |bench| {
        let (mut server, mut client) = unbuffered();
        bench.iter(|| transfer_unbuffered(&mut server, &mut client));
    });
    group.bench_function("over TCP, rustls alone", |bench| {
        let (mut server, mut client) = alone();
        let (mut near, mut far) = sockets();
        bench.iter(|| transfer_over_tcp((&mut server, &mut near), (&mut client, &mut far)));
    });
    for (name, kernel, secure) in [
        ("in memory, ours", false, true),
        ("in memory, ours without TLS", false, false),
        ("over TCP, ours", true, true),
        ("over TCP, ours without TLS", true, false),
    ] {
        let (mut reactor, mut state) = ours(kernel, secure);
        let piece = vec![7; PIECE_BYTES];
        group.bench_function(name, |bench| {
            bench.iter(|| transfer(&mut reactor, &mut state, &piece));
        });
    }
    group.finish();
}

criterion_group!(benches, bulk);
criterion_main!(benches);
