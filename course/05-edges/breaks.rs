//! Break: a client that sends much at once, for a loop that reads once for each report; and a flood,
//! for a loop without a budget. Linux only.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use kit::{Epoll, Interest, Kernel, Trigger};

#[cfg_attr(kept = "03", path = "../03-asking/ask.rs")]
#[cfg_attr(not(kept = "03"), path = "../03-asking/solution.rs")]
#[allow(clippy::all, dead_code)]
mod ask;
#[path = "edge.rs"]
#[allow(clippy::all, dead_code)]
#[rustfmt::skip]
mod edge;

use ask::Client;
use edge::Edges;

const BOTH: Interest = Interest { readable: true, writable: true };
/// How long nothing may happen before a client gives up.
const PATIENCE: Duration = Duration::from_millis(200);
const SENT: usize = 100_000;
/// 256 MiB, in pieces of 4 KiB.
const FLOOD: usize = 65_536;

fn main() -> io::Result<()> {
    once_for_each_report()?;
    yours()?;
    flood("without a budget   ", usize::MAX)?;
    flood("with a budget of 16", 16)
}

/// A server's end, which does not block, and a client that has sent so many bytes.
fn client() -> io::Result<(UnixStream, UnixStream)> {
    let (ours, mut theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    theirs.write_all(&vec![7; SENT])?;
    theirs.set_nonblocking(true)?;
    Ok((ours, theirs))
}

/// What has come back by now.
fn take(theirs: &mut UnixStream) -> usize {
    let (mut bytes, mut total) = (vec![0; 65_536], 0);
    while let Ok(count @ 1..) = theirs.read(&mut bytes) {
        total += count;
    }
    total
}

fn once_for_each_report() -> io::Result<()> {
    let ((ours, mut theirs), mut kernel) = (client()?, Epoll::new(Trigger::Edge)?);
    kernel.register(&ours, 0, Interest { readable: true, writable: false })?;
    let (mut client, mut back) = (Client::new(ours), 0);
    loop {
        let mut heard = Vec::new();
        kernel.poll(Some(PATIENCE), &mut heard)?;
        if heard.is_empty() {
            break;
        }
        client.ask();
        back += take(&mut theirs);
    }
    println!("asked once for each report: {back} of {SENT} bytes came back; it hangs");
    Ok(())
}

fn yours() -> io::Result<()> {
    let ((ours, mut theirs), mut edges) = (client()?, Edges::new(Epoll::new(Trigger::Edge)?));
    edges.kernel.register(&ours, 0, BOTH)?;
    let (mut clients, mut back) = (BTreeMap::from([(0, Client::new(ours))]), 0);
    while back < SENT {
        if edge::turn(&mut edges, &mut clients, 16, Some(PATIENCE))?.is_empty() {
            break;
        }
        back += take(&mut theirs);
    }
    let polls = edges.kernel.polls;
    let end = if back < SENT { "it hangs" } else { "all of them" };
    println!("your turn, budget 16:       {back} of {SENT} bytes, in {polls} polls; {end}");
    Ok(())
}

/// A client of the flood, which is always ready, or a real one.
enum Stream {
    Flood(usize),
    Real(UnixStream),
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Flood(left) if *left > 0 => {
                *left -= 1;
                Ok(into.len())
            }
            Stream::Flood(_) => Err(io::ErrorKind::WouldBlock.into()),
            Stream::Real(stream) => stream.read(into),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Flood(_) => Ok(bytes.len()),
            Stream::Real(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn flood(name: &str, budget: usize) -> io::Result<()> {
    let mut edges = Edges::new(Epoll::new(Trigger::Edge)?);
    let (ours, mut polite) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    polite.write_all(b"hello")?;
    polite.set_nonblocking(true)?;
    let mut clients = BTreeMap::from([(0, Client::new(Stream::Flood(FLOOD)))]);
    edges.resume(0);
    edge::turn(&mut edges, &mut clients, budget, Some(PATIENCE))?;
    // The polite client has come in the meantime.
    edges.kernel.register(&ours, 1, BOTH)?;
    clients.insert(1, Client::new(Stream::Real(ours)));
    for _ in 0..10 {
        edge::turn(&mut edges, &mut clients, budget, Some(PATIENCE))?;
        if take(&mut polite) > 0 {
            break;
        }
    }
    let served = match clients.get(&0).map(|client| &client.stream) {
        Some(Stream::Flood(left)) => FLOOD - left,
        _ => FLOOD,
    };
    println!("{name}: {} KiB of a flood are served before a polite client", served * 4);
    Ok(())
}
