//! Who waits for whom? A server that sends back what it gets, one client after the other.
//!
//! # Contract
//! * `echo` reads until the peer ends, and writes every byte back, in order. It gives their number.
//! * A call that a signal has interrupted (`ErrorKind::Interrupted`) is made again.
//! * `write` may take only the first few bytes. The rest is written by further calls.
//! * `serve` serves the clients one after the other, in the order in which they came. It returns
//!   only when the listener fails. A client that fails ends nothing but its own turn.
//! * With a `patience`, a client that sends nothing for so long has had its turn.

use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::time::Duration;

/// Sends back what comes, until the peer ends. Gives the number of bytes.
pub fn echo(stream: &mut (impl Read + Write)) -> io::Result<u64> {
    // Yours: read, write back, count; until `read` gives 0.
    let _ = stream;
    Ok(0)
}

/// Serves one client after the other.
pub fn serve(listener: &TcpListener, patience: Option<Duration>) -> io::Result<()> {
    loop {
        let (mut client, _) = listener.accept()?;
        // Yours: set the patience, and echo.
        let _ = (&mut client, patience);
    }
}
