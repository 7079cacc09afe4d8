//! A client on a real socket, and a listener on a free port. Whatever waits has a ceiling.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use socket2::SockRef;

use crate::check::{ceiling, has_expired};

/// How long a client waits before the check fails. 10 s: a busy machine is no mistake.
const CEILING: Duration = Duration::from_secs(10);

/// A listener on a free port of 127.0.0.1.
#[derive(Debug)]
pub struct Listener {
    pub listener: TcpListener,
    pub address: SocketAddr,
}

impl Listener {
    /// # Panics
    /// If the machine gives none.
    pub fn new() -> Listener {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        Listener { listener, address }
    }
}

impl Default for Listener {
    fn default() -> Listener {
        Listener::new()
    }
}

/// A client that fails the check, with a sentence, instead of waiting for ever.
#[derive(Debug)]
pub struct Peer {
    stream: TcpStream,
    name: String,
}

impl Peer {
    /// # Panics
    /// If nobody listens there.
    pub fn connect(name: &str, address: SocketAddr) -> Peer {
        let stream = TcpStream::connect_timeout(&address, CEILING)
            .unwrap_or_else(|error| panic!("{name} cannot connect: {error}."));
        stream.set_write_timeout(Some(CEILING)).expect("a timeout");
        Peer { stream, name: name.to_owned() }
    }

    /// Sends all of it.
    ///
    /// # Panics
    /// If the server does not take it within the ceiling.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let sent = self.stream.write_all(bytes.as_ref());
        sent.unwrap_or_else(|error| panic!("{} could not send: {error}.", self.name));
    }

    /// A read with the ceiling; it is short after one has expired in this process.
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.stream.set_read_timeout(Some(ceiling(CEILING)))?;
        let read = self.stream.read(into);
        if read.as_ref().is_err_and(is_timeout) {
            has_expired();
        }
        read
    }

    /// Reads until there is exactly this, or something else.
    ///
    /// # Panics
    /// If something else comes, or nothing within the ceiling.
    #[track_caller]
    pub fn expect(&mut self, bytes: impl AsRef<[u8]>) {
        let (expected, mut got) = (bytes.as_ref(), Vec::new());
        while got.len() < expected.len() && expected.starts_with(&got) {
            let mut into = vec![0; expected.len() - got.len()];
            match self.read(&mut into) {
                Ok(0) => break,
                Ok(count) => got.extend_from_slice(&into[..count]),
                Err(error) if is_timeout(&error) => {
                    let sentence = format!("{} waits for an answer that does not come.", self.name);
                    crate::same(text(&got), text(expected), &sentence);
                }
                Err(error) => panic!("{} was cut off: {error}.", self.name),
            }
        }
        let sentence = format!("{} got something else than it should.", self.name);
        crate::same(text(&got), text(expected), &sentence);
    }

    /// Expects that the server ends the connection, with nothing before.
    ///
    /// # Panics
    /// If something comes, or the end does not within the ceiling.
    #[track_caller]
    pub fn expect_end(&mut self) {
        match self.read(&mut [0; 64]) {
            Ok(0) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Ok(_) => panic!("{} got more bytes, and not the end.", self.name),
            Err(error) => panic!("{} waits for the end: {error}.", self.name),
        }
    }

    /// Returns true if no byte and no end has come yet. Does not wait.
    pub fn has_nothing(&self) -> bool {
        self.stream.set_nonblocking(true).expect("a mode");
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).expect("a mode");
        matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    /// Sends nothing more, and can still read.
    pub fn finish(&self) {
        let _ = self.stream.shutdown(Shutdown::Write); // The server may have gone.
    }

    /// Ends the connection by a reset, not by a FIN.
    pub fn reset(self) {
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// The socket, for what has no method here.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
