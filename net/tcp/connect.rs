//! Connecting.
//!
//! Knows connect(2) and its errors; `../connect.rs` waits for the outcome.
//!
//! A socket can be connected to itself. A port of this host may have no listener, and the system
//! may choose the same port for the socket that connects there: its SYN arrives at itself and is
//! answered (RFC 9293, section 3.5, simultaneous open). A client that tries again and again to
//! reach a server that is down meets this sooner or later. It then talks to itself, and the server
//! cannot get its port back. So such a socket is refused as by a missing listener, and reset.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;
use socket2::SockRef;

use crate::net::connect::{self, Connector, await_connection};
use crate::net::group::Group;
use crate::net::scarce::with_descriptor;
use crate::net::stream::Stream;
use crate::net::transport::registers_by;
use crate::reactor::{Context, SourceId};

/// A TCP connection that is being made.
pub type Connecting = connect::Connecting<TcpConnector>;

impl Connecting {
    /// The address to connect to.
    pub fn peer(&self) -> SocketAddr {
        self.connector.peer
    }
}

/// Connects to `addr`, an address ([`connect_name`](super::connect_name) takes names), and calls
/// `done` once: with the stream, or with the error of connect(2), or with `TimedOut` after
/// `timeout`. A socket that reaches only itself is `ConnectionRefused`. [`Stream::limits`] sets
/// timeouts and bounds before it is opened.
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
///         let _ = conn.write(reactor, b"hello\n");
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
    let connector = with_descriptor(reactor, || TcpConnector::to(addr))?;
    await_connection(reactor, connector, timeout, done)
}

/// A TCP socket on its way.
#[derive(Debug)]
pub struct TcpConnector {
    socket: TcpStream,
    peer: SocketAddr,
}

impl TcpConnector {
    pub(super) fn to(addr: SocketAddr) -> io::Result<TcpConnector> {
        Ok(TcpConnector { socket: TcpStream::connect(addr)?, peer: addr })
    }

    /// An error if the peer is this very socket.
    fn refuse_itself(&self, peer: SocketAddr) -> io::Result<()> {
        let local = self.socket.local_addr()?;
        if (local.ip(), local.port()) != (peer.ip(), peer.port()) {
            return Ok(());
        }
        // With a reset, or the port would be taken for a minute more (TIME_WAIT).
        if let Err(error) = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO)) {
            log::debug!("cannot set SO_LINGER: {error}");
        }
        let error = "nobody listens there, and the socket was connected to itself";
        Err(io::Error::new(ErrorKind::ConnectionRefused, error))
    }
}

impl Connector for TcpConnector {
    fn outcome(&mut self) -> Option<io::Result<()>> {
        // Writable means that something has happened; SO_ERROR has the result (connect(2)). With
        // neither an error nor a peer nothing has happened: a spurious event.
        match self.socket.take_error() {
            Ok(Some(error)) | Err(error) => Some(Err(error)),
            Ok(None) => match self.socket.peer_addr() {
                Ok(peer) => Some(self.refuse_itself(peer)),
                Err(error) if error.kind() == ErrorKind::NotConnected => None,
                Err(error) => Some(Err(error)),
            },
        }
    }

    fn stream(self, group: Group) -> Stream {
        if let Err(error) = SockRef::from(&self.socket).set_tcp_nodelay(true) {
            log::debug!("cannot set TCP_NODELAY: {error}");
        }
        Stream::tcp(self.socket, group, Some(self.peer))
    }
}

registers_by!(TcpConnector, socket);

#[cfg(test)]
mod tests;
