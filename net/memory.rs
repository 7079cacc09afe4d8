//! Two streams with nothing between them but memory.
//!
//! Knows the wire; it needs no kernel, no clock and no simulation.
//!
//! It serves tests of code that uses a connection, two parts of one program that speak a protocol
//! to each other, and a server that is its own client. Each stream is opened like an accepted one,
//! and handlers see no difference. Bytes that one writes make the other ready in the next turn.
//!
//! # Read next
//! `sim/mod.rs`: the same wire with a network that misbehaves.

use std::rc::Rc;

use super::stream::Stream;
use super::wire::{Carrier, Parcel, Wire};
use crate::reactor::{Context, Resumer};

/// The default for the bytes that may wait in each direction to be read; for a writer that has more
/// there is no room, as in the kernel's buffer. 64 KiB.
pub const BUFFER_BYTES: usize = 64 * 1024;

/// Two streams that are each other's peer, with [`BUFFER_BYTES`] in each direction. Both belong to
/// this reactor's loop and to no other.
///
/// ```
/// use waterwheel::{Reactor, net::{Event, memory}};
///
/// let mut reactor = Reactor::new()?;
/// let (left, right) = memory::pair(&mut reactor);
/// right.open(&mut reactor, |reactor, _, conn, event| {
///     if let Event::Data(bytes) = event {
///         let _ = conn.write(reactor, &bytes.to_ascii_uppercase());
///     }
/// });
/// let left = left.open(&mut reactor, |reactor, received: &mut Vec<u8>, conn, event| {
///     if let Event::Data(bytes) = event {
///         received.extend(bytes);
///         conn.close(reactor);
///     }
/// });
/// let _ = left.write(&mut reactor, b"hello");
/// let mut received = Vec::new();
/// reactor.run(&mut received)?;
/// assert_eq!(received, b"HELLO");
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn pair<S: 'static>(reactor: &mut Context<S>) -> (Stream, Stream) {
    pair_with(reactor, BUFFER_BYTES)
}

/// [`pair`] with room for `buffer_bytes` in each direction, 1 at least.
pub fn pair_with<S: 'static>(reactor: &mut Context<S>, buffer_bytes: usize) -> (Stream, Stream) {
    let wire = Wire::new(Rc::new(AtOnce(reactor.resumer())), buffer_bytes, None, true);
    (Stream::over(wire.end(0)), Stream::over(wire.end(1)))
}

/// Everything that is sent arrives at once.
#[derive(Debug)]
struct AtOnce(Resumer);

impl Carrier for AtOnce {
    fn carry(&self, wire: &Rc<Wire>, to: usize, parcel: Parcel) {
        if let Some((id, ready)) = wire.arrive(to, parcel) {
            self.0.send(id, ready);
        }
    }

    fn resumer(&self) -> &Resumer {
        &self.0
    }
}
