//! Many connections: one that does harm does none to the others.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use support::tcp::{Peer, serve, serve_with, turn_until, turns, unclosed};
use waterwheel::net::tcp::Listen;
use waterwheel::net::{Conn, Event, Limits, Pressure, READ_BYTES_PER_TURN_TOTAL, memory};
use waterwheel::reactor::Missed;
use waterwheel::{Context, Reactor, SourceId};

/// Who is subscribed, and what has been skipped for those who do not keep up.
#[derive(Default)]
struct Feed {
    subscribers: Vec<SourceId<Conn>>,
    skipped: usize,
    closed: usize,
}

fn subscribe(_: &mut Context<Feed>, feed: &mut Feed, conn: SourceId<Conn>, event: Event<'_>) {
    match event {
        Event::Data(_) => feed.subscribers.push(conn),
        Event::Closed(_) => {
            feed.subscribers.retain(|subscriber| *subscriber != conn);
            feed.closed += 1;
        }
        Event::Drained | Event::Eof => {}
    }
}

#[test]
fn queue_of_a_peer_that_never_reads_stops_at_the_mark_and_the_others_get_all() {
    const PEERS: usize = 50;
    const MESSAGES: usize = 500;
    const BYTES: usize = 8 * 1024;
    let limits = Limits {
        outbox_bytes_high: 64 * 1024,
        outbox_bytes_low: 16 * 1024,
        outbox_bytes_max: 128 * 1024,
        ..Limits::default()
    };
    let (mut reactor, mut feed) = (Reactor::new().unwrap(), Feed::default());
    // The kernel's own choice grows with use, perhaps to more than all of the messages.
    let listen = Listen::new().limits(limits.clone()).send_buffer_bytes(64 * 1024);
    let addr = serve_with(&mut reactor, listen, subscribe);
    let mut peers: Vec<Peer> = (0..PEERS).map(|_| Peer::to(addr)).collect();
    for (number, peer) in peers.iter_mut().enumerate() {
        peer.send(b"+");
        turn_until(&mut reactor, &mut feed, |_, feed| feed.subscribers.len() == number + 1);
    }
    socket2::SockRef::from(&peers[0].socket).set_recv_buffer_size(4096).unwrap();
    let (mut received, mut late, mut unsent_max) = (vec![0; PEERS], 0, 0);
    for _ in 0..MESSAGES {
        for conn in &feed.subscribers {
            if reactor[*conn].unsent() > limits.outbox_bytes_high {
                feed.skipped += 1;
            } else {
                assert!(reactor[*conn].write(&[7; BYTES]).is_taken());
            }
        }
        turns(&mut reactor, &mut feed, 1);
        // Number 0 never reads. The others have the message after the turn in which it was sent.
        unsent_max = unsent_max.max(reactor[feed.subscribers[0]].unsent());
        for (peer, received) in peers.iter_mut().zip(&mut received).skip(1) {
            let count = peer.read(4 * BYTES).len();
            peer.got.clear();
            *received += count;
            late += usize::from(count < BYTES);
        }
    }
    turn_until(&mut reactor, &mut feed, |_, _| {
        for (peer, received) in peers.iter_mut().zip(&mut received).skip(1) {
            *received += peer.read(4 * BYTES).len();
        }
        received[1..].iter().all(|received| *received >= BYTES * MESSAGES)
    });
    assert_eq!(received[1..], vec![BYTES * MESSAGES; PEERS - 1]);
    assert!(late <= PEERS * MESSAGES / 50, "{late} messages were late");
    assert!(feed.skipped > 0, "the peer that never reads was not slow enough");
    assert!(unsent_max <= limits.outbox_bytes_high + BYTES, "{unsent_max} bytes in its queue");
    drop(peers);
    turn_until(&mut reactor, &mut feed, |_, feed| feed.closed == PEERS);
    assert_eq!(unclosed(), 0);
}

#[test]
fn interval_fires_on_time_while_a_peer_floods() {
    // A busy machine may be late once or twice; a loop that starves its timers always is.
    let mut runs = (0..5).map(|_| beats_in_a_flood());
    assert!(runs.any(|on_time| on_time >= 48), "not once 48 of 50 were on time");
}

/// Fifty beats, 20 ms apart, of a loop that is sent as much as it reads: how many were on time.
fn beats_in_a_flood() -> u32 {
    let mut reactor = Reactor::new().unwrap();
    let addr =
        serve(&mut reactor, Limits::default(), |_, (_, flooded): &mut (u32, usize), _, event| {
            if let Event::Data(bytes) = event {
                *flooded += bytes.len();
            }
        });
    let flooder = std::thread::spawn(move || {
        let mut socket = TcpStream::connect(addr).unwrap();
        while socket.write_all(&[7; 64 * 1024]).is_ok() {}
    });
    let mut state = (0, 0);
    turn_until(&mut reactor, &mut state, |_, (_, flooded)| *flooded > 0);
    reactor.every(Duration::from_millis(20), Missed::Skip, |reactor, (fired, _), occurrence| {
        let late = reactor.now() - occurrence.deadline;
        *fired += u32::from(late < Duration::from_millis(10));
    });
    reactor.after(Duration::from_millis(1010), |reactor, _| reactor.stop());
    reactor.run(&mut state).unwrap();
    let (fired, flooded) = state;
    assert!(flooded > 10 << 20, "that was no flood: {flooded} bytes");
    drop(reactor);
    flooder.join().unwrap();
    fired
}

#[test]
fn connection_that_always_has_data_delays_the_others_by_no_more_than_its_budget() {
    #[derive(Default)]
    struct Turns {
        flooded: usize,
        answered: usize,
    }
    let mut reactor = Reactor::new().unwrap();
    let mut seen = Turns::default();
    let limits = Limits { read_bytes_per_turn: 32 * 1024, ..Limits::default() };
    let addr = serve(&mut reactor, limits, |_, seen: &mut Turns, _, event| match event {
        Event::Data(b"ping") => seen.answered += 1,
        Event::Data(bytes) => seen.flooded += bytes.len(),
        _ => {}
    });
    let mut flooder = Peer::to(addr);
    let mut others: Vec<Peer> = (0..99).map(|_| Peer::to(addr)).collect();
    turn_until(&mut reactor, &mut seen, |reactor, _| reactor.sources() == 101);
    flooder.write(&[7; 1 << 20]);
    turn_until(&mut reactor, &mut seen, |_, seen| seen.flooded > 0);
    for round in 1..=10 {
        flooder.write(&[7; 1 << 20]);
        others.iter_mut().for_each(|other| other.send(b"ping"));
        let before = seen.flooded;
        turns(&mut reactor, &mut seen, 2);
        assert_eq!(seen.answered, 99 * round, "not all were heard at once");
        assert!(seen.flooded - before <= 2 * 32 * 1024);
    }
}

#[test]
fn all_that_are_ready_together_share_what_a_turn_reads() {
    const CROWD: usize = 200;
    const EACH: usize = 256 * 1024;
    let mut reactor = Reactor::new().unwrap();
    let mut read = vec![0; CROWD];
    let mut senders = Vec::new();
    for reader in 0..CROWD {
        let (left, right) = memory::pair_with(&mut reactor, EACH);
        right.open(&mut reactor, move |_, read: &mut Vec<usize>, _, event| {
            if let Event::Data(bytes) = event {
                read[reader] += bytes.len();
            }
        });
        senders.push(left.open(&mut reactor, |_, _, _, _| {}));
    }
    for sender in senders {
        assert_eq!(sender.write(&mut reactor, &[7; EACH]), Pressure::Below);
    }
    turn_until(&mut reactor, &mut read, |_, read| read[0] > 0);
    let first = read.clone();
    let share = READ_BYTES_PER_TURN_TOTAL / CROWD;
    assert!(first.iter().all(|&bytes| bytes == first[0]), "not in equal parts: {first:?}");
    // The senders are ready, too, and count as callbacks of the turn.
    assert!((share / 3..=share).contains(&first[0]), "{} of {share}", first[0]);
    // Nothing is lost, and the last ones have all of it to themselves.
    turn_until(&mut reactor, &mut read, |_, read| read.iter().all(|&bytes| bytes == EACH));
}
