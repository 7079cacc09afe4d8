//! A server whose callbacks do what they should not: `cargo run -p course --example run10`, then
//! `nc 127.0.0.1 7110`, twice.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use kit::mio::net::{TcpListener, TcpStream};
use kit::{Interest, Kernel, Mio};

#[path = "dispatch.rs"]
#[allow(clippy::all, dead_code)]
#[rustfmt::skip]
mod dispatch;
#[cfg_attr(kept = "07", path = "../07-queue/queue.rs")]
#[cfg_attr(not(kept = "07"), path = "../07-queue/solution.rs")]
#[allow(clippy::all, dead_code)]
mod queue;
#[cfg_attr(kept = "06", path = "../06-ids/registry.rs")]
#[cfg_attr(not(kept = "06"), path = "../06-ids/solution.rs")]
#[allow(clippy::all, dead_code)]
mod registry;

use dispatch::Loop;
use queue::Lane;
use registry::Id;

const READABLE: Interest = Interest { readable: true, writable: false };

/// The state that every callback receives: the kernel, and the ids of the clients.
struct State {
    kernel: Mio,
    clients: Vec<Id>,
}

fn token(id: Id) -> usize {
    (id.generation as usize) << 32 | id.index as usize
}

fn id(token: usize) -> Id {
    Id { index: token as u32, generation: (token >> 32) as u32 }
}

fn main() -> io::Result<()> {
    let address: SocketAddr = "127.0.0.1:7110".parse().expect("an address");
    let mut listener = TcpListener::bind(address)?;
    let mut state = State { kernel: Mio::new()?, clients: Vec::new() };
    let (mut rill, mut is_new) = (Loop::new(), true);
    let listens = rill.insert(move |rill, state: &mut State, id| {
        if std::mem::take(&mut is_new) {
            let registered = state.kernel.register(&mut listener, token(id), READABLE);
            registered.expect("the kernel takes a listener");
        }
        while let Ok((stream, _)) = listener.accept() {
            open(rill, state, stream);
        }
    });
    rill.wake(Lane::Normal, listens);
    println!("listening on {address}; Ctrl-C ends it");
    loop {
        rill.turn(&mut state);
        let timeout = if rill.is_idle() { None } else { Some(Duration::ZERO) };
        let mut ready = Vec::new();
        state.kernel.poll(timeout, &mut ready)?;
        ready.iter().for_each(|heard| rill.wake(Lane::Normal, id(heard.token)));
    }
}

/// The callback of a client owns its stream: when the callback is dropped, the stream is closed.
/// The kernel wants the id, which there is only now: so the callback registers the stream when it
/// runs for the first time.
fn open(rill: &mut Loop<State>, state: &mut State, mut stream: TcpStream) {
    let mut is_new = true;
    let id = rill.insert(move |rill, state: &mut State, id| {
        let registered = !std::mem::take(&mut is_new)
            || state.kernel.register(&mut stream, token(id), READABLE).is_ok();
        if !registered || read(rill, state, id, &mut stream).is_err() {
            leave(rill, state, id);
        }
    });
    state.clients.push(id);
    rill.wake(Lane::Normal, id);
}

fn leave(rill: &mut Loop<State>, state: &mut State, id: Id) {
    rill.remove(id);
    state.clients.retain(|client| *client != id);
}

/// Reads what there is, and does it. An error if the client has gone.
fn read(
    rill: &mut Loop<State>,
    state: &mut State,
    id: Id,
    stream: &mut TcpStream,
) -> io::Result<()> {
    let (mut text, mut bytes) = (Vec::new(), [0; 1024]);
    let ended = loop {
        match stream.read(&mut bytes) {
            Ok(count @ 1..) => text.extend_from_slice(&bytes[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(()),
            _ => break Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
        }
    };
    for line in String::from_utf8_lossy(&text).lines() {
        match line {
            "bye" => leave(rill, state, id),
            "kick" => {
                let others: Vec<Id> = state.clients.iter().copied().filter(|o| *o != id).collect();
                others.iter().for_each(|other| leave(rill, state, *other));
                writeln!(stream, "{} others are gone", others.len())?;
            }
            "defer" => rill.defer(|_, _| println!("a deferred call runs")),
            "loop" => {
                let ran = rill.turn(state);
                writeln!(
                    stream,
                    "a turn inside a callback: {}",
                    if ran { "ran" } else { "refused" }
                )?;
            }
            "boom" => panic!("a client has typed boom"),
            _ => writeln!(stream, "type bye, kick, defer, loop or boom")?,
        }
    }
    ended
}
