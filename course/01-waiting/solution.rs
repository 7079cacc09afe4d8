//! Who waits for whom? A server that sends back what it gets, one client after the other.
//!
//! # Contract
//! * `echo` reads until the peer ends, and writes every byte back, in order. It gives their number.
//! * A call that a signal has interrupted (`ErrorKind::Interrupted`) is made again.
//! * `write` may take only the first few bytes. The rest is written by further calls.
//! * `serve` serves the clients one after the other, in the order in which they came. It returns
//!   only when the listener fails. A client that fails ends nothing but its own turn.
//! * With a `patience`, a client that sends nothing for so long has had its turn.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpListener;
use std::time::Duration;

/// Sends back what comes, until the peer ends. Gives the number of bytes.
pub fn echo(stream: &mut (impl Read + Write)) -> io::Result<u64> {
    let (mut bytes, mut total) = ([0; 4096], 0);
    loop {
        let count = match stream.read(&mut bytes) {
            Ok(0) => return Ok(total),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        stream.write_all(&bytes[..count])?;
        total += count as u64;
    }
}

/// Serves one client after the other.
pub fn serve(listener: &TcpListener, patience: Option<Duration>) -> io::Result<()> {
    loop {
        let (mut client, address) = listener.accept()?;
        let served = client.set_read_timeout(patience).and_then(|()| echo(&mut client));
        match served {
            Ok(count) => println!("{address}: {count} bytes"),
            Err(error) => println!("{address}: {error}"),
        }
    }
}
