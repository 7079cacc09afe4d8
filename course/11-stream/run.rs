//! A chat on your streams: `cargo run -p course --example run11`, then `nc 127.0.0.1 7111`, twice.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use kit::mio::net::{TcpListener, TcpStream};
use kit::{Event, Interest, Limits, Mio, Next, Pressure};

#[cfg_attr(kept = "03", path = "../03-asking/ask.rs")]
#[cfg_attr(not(kept = "03"), path = "../03-asking/solution.rs")]
#[allow(clippy::all, dead_code)]
mod ask;
#[cfg_attr(kept = "05", path = "../05-edges/edge.rs")]
#[cfg_attr(not(kept = "05"), path = "../05-edges/solution.rs")]
#[allow(clippy::all, dead_code)]
mod edge;
#[path = "stream.rs"]
#[allow(clippy::all, dead_code, unused)]
#[rustfmt::skip]
mod stream;

use edge::Edges;
use kit::Kernel;
use stream::Stream;

const LISTENER: usize = 0;
const BOTH: Interest = Interest { readable: true, writable: true };
const LIMITS: Limits = Limits { low: 64 << 10, high: 256 << 10, max: 1 << 20 };

/// The people, and for each of them those who wait until there is room for that one again.
#[derive(Default)]
struct Chat {
    people: BTreeMap<usize, Stream<TcpStream>>,
    waiting: BTreeMap<usize, Vec<usize>>,
}

impl Chat {
    /// Says it to all but `from`, who has to wait if it is too much for one of them.
    fn say(&mut self, edges: &mut Edges<Mio>, from: usize, bytes: &[u8]) -> bool {
        let mut waits = false;
        for (to, stream) in &mut self.people {
            match stream.write(bytes) {
                Pressure::Below => {}
                Pressure::AboveHigh => {
                    println!("{to} reads slowly, so {from} has to wait");
                    self.waiting.entry(*to).or_default().push(from);
                    waits = true;
                }
                Pressure::Refused => println!("{to} does not get {} bytes", bytes.len()),
            }
            edges.resume(*to); // In the next turn its bytes are sent.
        }
        waits
    }

    /// There is room for `to`, or it has gone: those who wait for it may go on.
    fn go_on(&mut self, edges: &mut Edges<Mio>, to: usize) {
        for waiter in self.waiting.remove(&to).unwrap_or_default() {
            println!("there is room for {to}, so {waiter} may go on");
            if let Some(stream) = self.people.get_mut(&waiter) {
                stream.is_paused = false;
                edges.resume(waiter);
            }
        }
    }

    /// Drives one. It is out of the table meanwhile, so its handler may write to all others.
    fn drive(&mut self, edges: &mut Edges<Mio>, heard: kit::Heard) {
        let token = heard.token;
        let Some(mut stream) = self.people.remove(&token) else { return };
        let next = stream.drive(heard, |stream, event| match event {
            Event::Data(bytes) => stream.is_paused = self.say(edges, token, bytes),
            Event::Drained => self.go_on(edges, token),
            Event::End => stream.shutdown(),
        });
        match next {
            Next::Over => {
                println!("{token} has gone");
                self.go_on(edges, token);
                return;
            }
            Next::Again => edges.resume(token),
            Next::Wait => {}
        }
        self.people.insert(token, stream);
    }
}

fn main() -> io::Result<()> {
    let mut edges = Edges::new(Mio::new()?);
    let address: SocketAddr = "127.0.0.1:7111".parse().expect("an address");
    let mut listener = TcpListener::bind(address)?;
    edges.kernel.register(&mut listener, LISTENER, BOTH)?;
    println!("listening on {address}; Ctrl-C ends it");
    let (mut chat, mut last) = (Chat::default(), LISTENER);
    loop {
        let mut ready = Vec::new();
        edges.poll(None, &mut ready)?;
        for heard in ready {
            if heard.token != LISTENER {
                chat.drive(&mut edges, heard);
                continue;
            }
            while let Ok((mut stream, _)) = listener.accept() {
                last += 1;
                println!("{last} has come");
                edges.kernel.register(&mut stream, last, BOTH)?;
                chat.people.insert(last, Stream::new(stream, LIMITS));
            }
        }
    }
}
