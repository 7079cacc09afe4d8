//! Connecting.
//!
//! Knows connect(2) and its errors; how the outcome is awaited is in `../connect.rs`.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;
use socket2::SockRef;

use crate::net::connect::{self, Connector, await_connection};
use crate::net::limits::Seat;
use crate::net::stream::Stream;
use crate::net::transport::registers_by;
use crate::reactor::{Context, SourceId};

/// A TCP connection that is being made.
pub type Connecting = connect::Connecting<TcpConnector>;

impl Connecting {
    /// Where to.
    pub fn peer(&self) -> SocketAddr {
        self.connector.peer
    }
}

/// Connects to `addr`, an address ([`connect_name`](super::connect_name) takes names), and calls
/// `done` once: with the stream, or with the error of connect(2), or with `TimedOut` after
/// `timeout`. [`Stream::limits`] sets timeouts and bounds before it is opened.
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
    await_connection(reactor, TcpConnector::to(addr)?, timeout, done)
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
}

impl Connector for TcpConnector {
    fn outcome(&mut self) -> Option<io::Result<()>> {
        // Writable says that something has happened; connect(2) says that SO_ERROR tells what.
        // Neither an error nor a peer means that nothing has: a spurious event.
        match self.socket.take_error() {
            Ok(Some(error)) | Err(error) => Some(Err(error)),
            Ok(None) => match self.socket.peer_addr() {
                Ok(_) => Some(Ok(())),
                Err(error) if error.kind() == io::ErrorKind::NotConnected => None,
                Err(error) => Some(Err(error)),
            },
        }
    }

    fn stream(self, seat: Seat) -> Stream {
        if let Err(error) = SockRef::from(&self.socket).set_tcp_nodelay(true) {
            log::debug!("cannot set TCP_NODELAY: {error}");
        }
        Stream::tcp(self.socket, seat, Some(self.peer))
    }
}

registers_by!(TcpConnector, socket);
