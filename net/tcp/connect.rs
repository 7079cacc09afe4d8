//! Connecting.
//!
//! Knows connect(2) and its errors; the stream it makes is opened like an accepted one.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;
use socket2::SockRef;

use crate::net::event::Pressure;
use crate::net::limits::{Limits, Seat};
use crate::net::stream::Stream;
use crate::net::transport::registers_by;
use crate::reactor::{Context, Interest, Readiness, SourceId};

/// A connection that is being made. Remove its source to cancel it; the callback is then not called.
#[derive(Debug)]
pub struct Connecting {
    socket: TcpStream,
    peer: SocketAddr,
    first: Vec<u8>,
}

impl Connecting {
    /// Where to.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Bytes to be sent as soon as the connection is there, in the order in which they are written,
    /// before any that are written to the open connection. Refused, and none of them taken, past
    /// the default of [`Limits::outbox_bytes_max`](crate::net::Limits::outbox_bytes_max).
    pub fn write(&mut self, bytes: &[u8]) -> Pressure {
        if self.first.len() + bytes.len() > Limits::default().outbox_bytes_max {
            return Pressure::Refused;
        }
        self.first.extend_from_slice(bytes);
        Pressure::Below
    }
}

registers_by!(Connecting, socket);

/// Connects to `addr` (an address; looking a name up blocks) and calls `done` once: with the stream, or with the error of connect(2), or
/// with `TimedOut` after `timeout`. [`Stream::limits`] sets timeouts and bounds before it is opened.
///
/// ```no_run
/// use std::time::Duration;
/// use waterwheel::{Reactor, net::{Event, tcp}};
///
/// let mut reactor = Reactor::new()?;
/// let addr = "127.0.0.1:7001".parse().unwrap();
/// tcp::connect(&mut reactor, addr, Duration::from_secs(3), |reactor, _, result| match result {
///     Ok(stream) => {
///         let conn = stream.open(reactor, |_, _, _, event| println!("{event:?}"));
///         let _ = reactor[conn].write(b"hello\n");
///     }
///     Err(error) => eprintln!("cannot connect: {error}"),
/// })?;
/// reactor.run(&mut ())?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// Nothing was begun, and `done` will not be called: out of descriptors, no route, no free port.
#[track_caller]
pub fn connect<S, F>(
    reactor: &mut Context<S>,
    addr: SocketAddr,
    timeout: Duration,
    done: F,
) -> io::Result<SourceId<Connecting>>
where
    S: 'static,
    F: FnOnce(&mut Context<S>, &mut S, io::Result<Stream>) + 'static,
{
    let connecting =
        Connecting { socket: TcpStream::connect(addr)?, peer: addr, first: Vec::new() };
    let mut done = Some(done);
    let both = Interest::READABLE | Interest::WRITABLE;
    let id = reactor.register(connecting, both, move |reactor, state, id, ready| {
        let Some(result) = outcome(reactor, id, ready) else { return };
        if let Some(done) = done.take() {
            done(reactor, state, result);
        }
    })?;
    let tick = reactor.tick_after(timeout);
    reactor.set_deadline(id.raw(), Some(tick));
    Ok(id)
}

/// How the connecting ended, and takes it out of the loop; `None` if it has not ended.
fn outcome<S: 'static>(
    reactor: &mut Context<S>,
    id: SourceId<Connecting>,
    ready: Readiness,
) -> Option<io::Result<Stream>> {
    // Writable says that something has happened; connect(2) says that SO_ERROR tells what. Neither
    // an error nor a peer means that nothing has: a spurious event.
    let socket = &reactor[id].socket;
    let result = match socket.take_error() {
        Ok(Some(error)) | Err(error) => Err(error),
        Ok(None) => match socket.peer_addr() {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                if !ready.contains(Readiness::DEADLINE) {
                    return None;
                }
                Err(io::ErrorKind::TimedOut.into())
            }
            Err(error) => Err(error),
        },
    };
    let Connecting { socket, peer, first } = reactor.deregister(id)?;
    Some(result.map(|()| {
        if let Err(error) = SockRef::from(&socket).set_tcp_nodelay(true) {
            log::debug!("cannot set TCP_NODELAY: {error}");
        }
        let mut stream = Stream::tcp(socket, Seat::first(Limits::default()), Some(peer));
        if !first.is_empty() {
            let _ = stream.write(&first); // It fits; a failure is told by `Closed`.
        }
        stream
    }))
}
