//! Connecting to a Unix socket.
//!
//! Knows that connect(2) returns at once here, and the meaning of a full backlog; `../connect.rs`
//! waits for the outcome.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::time::Duration;

use mio::net::UnixStream;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::address::{Address, ToAddress};
use crate::net::connect::{self, Connector, await_connection};
use crate::net::group::Group;
use crate::net::scarce::with_descriptor;
use crate::net::stream::Stream;
use crate::net::transport::registers_by;
use crate::reactor::{Context, SourceId};

/// How long to wait before trying again if the backlog is full: the kernel does not report when it
/// has room.
const RETRY_AFTER: Duration = Duration::from_millis(10);

/// A Unix connection that is being made.
pub type Connecting = connect::Connecting<UnixConnector>;

impl Connecting {
    /// The address to connect to.
    pub fn peer(&self) -> &Address {
        &self.connector.peer
    }
}

/// Connects to `addr`, a path or on Linux `@name`, and calls `done` once, in a later turn: with the
/// stream, or with the error of connect(2) (`NotFound`, `ConnectionRefused`: no listener,
/// `PermissionDenied`), which names the path. If the listener's backlog is full, it tries again
/// until `timeout`.
///
/// ```no_run
/// use std::time::Duration;
/// use waterwheel::{Reactor, net::{Event, unix}};
///
/// let mut reactor = Reactor::new()?;
/// unix::connect(&mut reactor, "/run/control.sock", Duration::from_secs(3), |reactor, _, result| {
///     match result {
///         Ok(stream) => {
///             let conn = stream.open(reactor, |_, _, _, event| println!("{event:?}"));
///             let _ = conn.write(reactor, b"status\n");
///         }
///         Err(error) => eprintln!("cannot connect: {error}"),
///     }
/// })?;
/// reactor.run(&mut ())?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// Nothing was begun, and `done` will not be called: not an address, out of descriptors.
#[track_caller]
pub fn connect<S, F>(
    reactor: &mut Context<S>,
    addr: impl ToAddress,
    timeout: Duration,
    done: F,
) -> io::Result<SourceId<Connecting>>
where
    S: 'static,
    F: FnOnce(&mut Context<S>, &mut S, io::Result<Stream>) + 'static,
{
    let peer = addr.to_address()?;
    let new = || Socket::new(Domain::UNIX, Type::STREAM, None);
    let socket = with_descriptor(reactor, new)?;
    socket.set_nonblocking(true)?;
    let socket = UnixStream::from(OwnedFd::from(socket));
    let to = peer.to_sock_addr()?;
    let mut connector = UnixConnector { socket, peer, to, known: None };
    connector.known = connector.attempt();
    await_connection(reactor, connector, timeout, done)
}

/// A Unix socket on its way.
#[derive(Debug)]
pub struct UnixConnector {
    socket: UnixStream,
    peer: Address,
    to: SockAddr,
    /// The result of connect(2), until it is reported.
    known: Option<io::Result<()>>,
}

impl UnixConnector {
    fn attempt(&self) -> Option<io::Result<()>> {
        match SockRef::from(&self.socket).connect(&self.to) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => Some(Err(error)),
            Ok(()) => Some(Ok(())),
        }
    }
}

impl Connector for UnixConnector {
    fn outcome(&mut self) -> Option<io::Result<()>> {
        self.known.take().or_else(|| self.attempt())
    }

    fn ask_again(&self) -> Option<Duration> {
        Some(if self.known.is_some() { Duration::ZERO } else { RETRY_AFTER })
    }

    fn explain(&self, error: io::Error) -> io::Error {
        self.peer.error(&error)
    }

    fn stream(self, group: Group) -> Stream {
        Stream::carried(Box::new(self.socket), group)
    }
}

registers_by!(UnixConnector, socket);
