//! What a WebSocket costs: when it is idle, when it was busy, and for a message.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::time::Duration;

use allocation_counter::measure;
use support::ws::{frame, masked};
use support::{MS, ceiling};
use waterwheel::Reactor;
use waterwheel::net::{Pressure, tcp};
use waterwheel::protocols::ws::{Event, Limits, Role, open};

const LIMIT: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

/// A server of sockets whose handshake goes without saying: texts come back.
fn echo(count: usize) -> (Reactor<()>, Vec<TcpStream>, i64) {
    let mut reactor = Reactor::<()>::new().unwrap();
    let limits = Rc::new(Limits::default());
    let listener = tcp::listen(&mut reactor, "127.0.0.1:0", move |reactor, _, stream| {
        open(reactor, stream, Role::Server, limits.clone(), |reactor, _, socket, event| {
            if let Event::Text(text) = event {
                assert_eq!(socket.text(reactor, text), Pressure::Below);
            }
        });
    });
    let addr = reactor[listener.unwrap()].local_addr();
    let connect = |_| {
        let peer = TcpStream::connect(addr).unwrap();
        peer.set_nonblocking(true).unwrap();
        peer
    };
    let peers: Vec<_> = (0..count).map(connect).collect();
    let opened = measure(|| {
        while reactor.sources() < count + 1 {
            reactor.turn(&mut (), Some(SECOND)).unwrap();
        }
    });
    (reactor, peers, opened.bytes_current)
}

/// Sends each peer's message in these pieces and awaits what comes back, `bytes` of it.
fn converse(reactor: &mut Reactor<()>, peers: &mut [TcpStream], pieces: &[&[u8]], bytes: usize) {
    let mut room = vec![0; bytes];
    for (at, piece) in pieces.iter().enumerate() {
        peers.iter_mut().for_each(|peer| peer.write_all(piece).unwrap());
        for peer in peers.iter_mut() {
            let mut read = 0;
            while read < bytes && at == pieces.len() - 1 {
                reactor.turn(&mut (), Some(MS)).unwrap();
                read += peer.read(&mut room[read..]).unwrap_or(0);
            }
        }
        reactor.turn(&mut (), Some(Duration::ZERO)).unwrap();
    }
}

#[test]
fn idle_socket_costs_less_than_a_kibibyte_and_no_more_when_it_was_busy() {
    const COUNT: usize = 200;
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut peers, opened) = echo(COUNT);
    let each = opened / COUNT as i64;
    assert!(each < 1024, "{each} bytes");
    let text = masked(0x81, &[b'x'; 3000]);
    // One gets the loop's own buffers warm.
    converse(&mut reactor, &mut peers[..1], &[&text], 3004);
    let busy = measure(|| {
        let mut fragments = [masked(0x01, &[b'x'; 2000]), masked(0x80, &[b'y'; 1000])];
        converse(&mut reactor, &mut peers, &[&text], 3004);
        converse(&mut reactor, &mut peers, &[&text[..9], &text[9..2000], &text[2000..]], 3004);
        let [begin, end] = &mut fragments;
        converse(&mut reactor, &mut peers, &[begin, end], 3004);
    });
    let more = busy.bytes_current / COUNT as i64;
    assert!(more < 32, "{more} bytes more");
}

#[test]
fn message_that_comes_whole_allocates_nothing() {
    let _ceiling = ceiling(LIMIT);
    for size in [1, 200, 50_000] {
        let (mut reactor, mut peers, _) = echo(1);
        let text = masked(0x81, &vec![b'x'; size]);
        let bytes = frame(0x81, &vec![b'x'; size]).len();
        // In one segment, or what is left of a large one would come in pieces.
        let mut echo = vec![0; bytes];
        let mut once = || {
            peers[0].write_all(&text).unwrap();
            let mut read = 0;
            while read < bytes {
                reactor.turn(&mut (), Some(MS)).unwrap();
                read += peers[0].read(&mut echo[read..]).unwrap_or(0);
            }
        };
        (0..100).for_each(|_| once());
        let warm = measure(|| (0..200).for_each(|_| once()));
        assert_eq!(warm.count_total, 0, "{size} bytes: {warm:?}");
    }
}
