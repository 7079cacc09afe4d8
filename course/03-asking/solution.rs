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
        let mut state = State::Idle;
        if self.owed.is_empty() && !self.has_ended {
            let mut bytes = [0; 4096];
            match again(|| self.stream.read(&mut bytes)) {
                Ok(0) => (self.has_ended, state) = (true, State::Busy),
                Ok(count) => {
                    self.owed.extend_from_slice(&bytes[..count]);
                    state = State::Busy;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return State::Ended,
            }
        }
        while !self.owed.is_empty() {
            match again(|| self.stream.write(&self.owed)) {
                Ok(0) => return State::Ended, // It will never take more.
                Ok(count) => {
                    self.owed.drain(..count);
                    state = State::Busy;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return State::Ended,
            }
        }
        if self.has_ended && self.owed.is_empty() { State::Ended } else { state }
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
            Ok((stream, _)) => {
                stream.set_nonblocking(true)?;
                clients.push(Client::new(stream));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Asks each client once. Gives how many were busy.
pub fn round<S: Read + Write>(clients: &mut Vec<Client<S>>) -> usize {
    let mut busy = 0;
    clients.retain_mut(|client| {
        let state = client.ask();
        busy += usize::from(state == State::Busy);
        state != State::Ended
    });
    busy
}
