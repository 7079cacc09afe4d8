//! Bulk transfer over TLS, against what rustls does alone.
//!
//! *Alone* is rustls as its manual shows it: two connections in memory, one writes 64 KiB of
//! plaintext at a time, its ciphertext is handed over as a slice, the other reads the plaintext out.
//! No loop, no socket, no readiness; nobody who moves bytes can do less. Ours is the same transfer
//! between two connections of one loop, whose carrier is the in-memory pair, which copies each byte
//! twice more. Both run on one thread, so that time is work. And again over a socket pair, where
//! both pay the kernel.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use waterwheel::net::{Conn, Event, Limits, Pressure, Stream, memory, tls};
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

/// What the loop is handed: bytes still to be sent, and received.
#[derive(Default)]
struct Transfer {
    left: usize,
    got: usize,
    sender: Option<SourceId<Conn>>,
}

fn fill(reactor: &mut Context<Transfer>, transfer: &mut Transfer, piece: &[u8]) {
    let Some(sender) = transfer.sender else { return };
    while transfer.left > 0 {
        transfer.left -= PIECE_BYTES;
        if reactor[sender].write(piece) != Pressure::Below {
            return;
        }
    }
}

/// Opens both ends; whatever is left to be sent is.
fn open(reactor: &mut Reactor<Transfer>, state: &mut Transfer, streams: (Stream, Stream)) {
    let limits =
        Limits { outbox_bytes_high: PIECE_BYTES, outbox_bytes_low: 0, ..Limits::default() };
    let piece = vec![7; PIECE_BYTES];
    let sender = streams.0.limits(limits).open(reactor, move |reactor, transfer, _, event| {
        if let Event::Drained = event {
            fill(reactor, transfer, &piece);
        }
    });
    streams.1.open(reactor, |_, transfer: &mut Transfer, _, event| {
        if let Event::Data(bytes) = event {
            transfer.got += bytes.len();
        }
    });
    state.sender = Some(sender);
}

fn secured(reactor: &mut Reactor<Transfer>, state: &mut Transfer, pair: (Stream, Stream)) {
    use std::{cell::RefCell, rc::Rc};
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

fn transfer(reactor: &mut Reactor<Transfer>, state: &mut Transfer, piece: &[u8]) {
    (state.left, state.got) = (TOTAL_BYTES, 0);
    fill(reactor, state, piece);
    while state.got < TOTAL_BYTES {
        reactor.turn(state, Some(Duration::from_secs(1))).unwrap();
    }
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
    for (name, secure) in [("ours", true), ("ours without TLS", false)] {
        let piece = vec![7; PIECE_BYTES];
        let mut reactor = Reactor::new().unwrap();
        let mut state = Transfer::default();
        let pair = memory::pair(&mut reactor);
        if secure {
            secured(&mut reactor, &mut state, pair);
        } else {
            open(&mut reactor, &mut state, pair);
        }
        group.bench_function(format!("in memory, {name}"), |bench| {
            bench.iter(|| transfer(&mut reactor, &mut state, &piece));
        });
    }
    group.finish();
}

criterion_group!(benches, bulk);
criterion_main!(benches);
