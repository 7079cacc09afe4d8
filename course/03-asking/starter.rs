//! What if nothing ever waits? A server that asks each client, again and again, on one thread.
//!
//! # Contract
//! * `accept` takes all clients that have come, and does not wait for more. Their sockets do not
//!   block.
//! * `ask` takes one step of an echo, and never waits: if nothing is owed, it reads once; then it
//!   writes what is owed, until all is written or the client takes no more. Bytes that were not
//!   taken stay owed. A call that a signal has interrupted is no answer: it is made again.
//! * After `WouldBlock` it does not make the same call again in this step.
//! * `ask` says `Ended` if a call has failed, or the client has sent its end and is owed nothing;
//!   otherwise `Busy` if something was read or written; otherwise `Idle`.
//! * `round` asks each client once, in order, and forgets those that have ended. It gives how many
//!   said `Busy`.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

/// What a step of a client came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Busy,
    Idle,
    Ended,
}

/// A client, and what it is owed.
pub struct Client<S> {
    pub stream: S,
    pub owed: Vec<u8>,
    pub has_ended: bool,
}

impl<S: Read + Write> Client<S> {
    pub fn new(stream: S) -> Client<S> {
        Client { stream, owed: Vec::new(), has_ended: false }
    }

    /// One step, without waiting.
    pub fn ask(&mut self) -> State {
        // Yours: read only if nothing is owed, keep what the client does not take, and say what
        // the step came to. So far, a client that takes little loses the rest.
        let mut bytes = [0; 4096];
        match again(|| self.stream.read(&mut bytes)) {
            Ok(count) => {
                let _ = again(|| self.stream.write(&bytes[..count]));
                State::Busy
            }
            Err(_) => State::Idle,
        }
    }
}

/// Makes the call until no signal interrupts it.
fn again(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Takes those who have come. The listener does not block, either.
pub fn accept(listener: &TcpListener, clients: &mut Vec<Client<TcpStream>>) -> io::Result<()> {
    loop {
        match listener.accept() {
            // Yours: one line is missing here. Without it `ask` waits.
            Ok((stream, _)) => clients.push(Client::new(stream)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Asks each client once. Gives how many were busy.
pub fn round<S: Read + Write>(clients: &mut Vec<Client<S>>) -> usize {
    // Yours: ask each, count, and forget those that have ended.
    let _ = clients;
    0
}
