//! The door of a server: where clients come in, and descriptors run out.

use std::io;

/// A listening socket, or a substitute for one. It does not block.
pub trait Door {
    /// A client. It takes a descriptor, and dropping it closes it.
    type Socket;
    /// A descriptor that is good for nothing else than to be given up.
    type Spare;

    /// The next client who waits.
    ///
    /// # Errors
    /// `WouldBlock`: nobody waits. `ConnectionAborted`: the client has gone in the meantime.
    /// Anything else concerns all clients: for instance, there are no descriptors left.
    fn accept(&mut self) -> io::Result<Self::Socket>;

    /// Takes a descriptor.
    ///
    /// # Errors
    /// There is none left.
    fn spare(&mut self) -> io::Result<Self::Spare>;
}

/// What has become of the connections that were there when a server began to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub connections: usize,
    /// They were owed nothing, and were closed.
    pub idle: usize,
    /// They got their answer, or have gone by themselves.
    pub finished: usize,
    /// They were still there at the deadline.
    pub aborted: usize,
}
