//! What a connection over TLS keeps while nothing happens.

use std::time::Duration;

use allocation_counter::measure;
use support::tcp::turn_until;
use support::tls as with;
use support::tls::shake_over;
use waterwheel::Reactor;
use waterwheel::net::{Event, Stream, memory};

/// Connections of which the mean is taken; both ends count.
const PAIRS: usize = 50;
/// What one may own: keys for both directions, the session, the certificates of the peer, a source
/// and its closure.
const IDLE_BYTES_MAX: usize = 8 * 1024;

/// Opens both ends, sends `message` through each, and leaves them idle.
fn settle(reactor: &mut Reactor<usize>, heard: &mut usize, pair: (Stream, Stream), message: &[u8]) {
    *heard = 0;
    for stream in [pair.0, pair.1] {
        let conn = stream.open(reactor, |_, heard: &mut usize, _, event| {
            if let Event::Data(bytes) = event {
                *heard += bytes.len();
            }
        });
        let _ = reactor[conn].write(message);
    }
    turn_until(reactor, heard, |_, heard| *heard == 2 * message.len());
}

/// Bytes for each end of an idle pair.
fn idle_bytes(secure: bool) -> usize {
    let mut reactor = Reactor::new().unwrap();
    let mut heard = 0;
    let message = vec![7; 100_000];
    let both = (with::server(), with::client());
    let mut more = |reactor: &mut Reactor<usize>, count: usize| {
        for _ in 0..count {
            let mut pair = memory::pair(reactor);
            if secure {
                let both = (&both.0, &both.1);
                pair = shake_over(reactor, &mut heard, both, "localhost", pair).both();
            }
            settle(reactor, &mut heard, pair, &message);
        }
    };
    more(&mut reactor, 3); // The loop's own buffers, and the tickets of the client.
    let before = reactor.sources();
    let allocated = measure(|| more(&mut reactor, PAIRS));
    assert_eq!(reactor.sources() - before, 2 * PAIRS);
    usize::try_from(allocated.bytes_current).unwrap() / (2 * PAIRS)
}

#[test]
fn an_idle_connection_owns_its_keys_and_no_buffer() {
    let _ceiling = support::ceiling(Duration::from_secs(60));
    let (clear, secure) = (idle_bytes(false), idle_bytes(true));
    println!("idle: {clear} bytes in the clear, {secure} over TLS");
    // The in-memory pair keeps its own buffers: they are not TLS's.
    let own = secure.saturating_sub(clear);
    assert!(own < IDLE_BYTES_MAX, "{own} bytes more than in the clear");
}
