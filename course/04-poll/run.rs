//! Your server: `cargo run -p course --example run04`, then `nc 127.0.0.1 7104`, twice, and `top`.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;

use kit::{Interest, Socket, SystemPoll};

#[cfg_attr(kept = "03", path = "../03-asking/ask.rs")]
#[cfg_attr(not(kept = "03"), path = "../03-asking/solution.rs")]
#[allow(clippy::all, dead_code)]
mod ask;
#[path = "wait.rs"]
#[allow(clippy::all, dead_code)]
#[rustfmt::skip]
mod wait;

const LISTENER: usize = 0;
const READS: Interest = Interest { readable: true, writable: false };

fn main() -> io::Result<()> {
    let mut wait = wait::Wait::new(SystemPoll::new());
    let listener = Rc::new(TcpListener::bind("127.0.0.1:7104")?);
    listener.set_nonblocking(true)?;
    let number = wait.poll.number_of(&listener);
    wait.register(number, LISTENER, READS);
    println!("listening on {}; Ctrl-C ends it", listener.local_addr()?);
    let (mut clients, mut next) = (BTreeMap::new(), LISTENER + 1);
    loop {
        let heard = wait::turn(&mut wait, &mut clients, None)?;
        if heard.iter().any(|heard| heard.token == LISTENER) {
            while let Ok((stream, _)) = listener.accept() {
                let socket = Socket::new(stream)?;
                let number = wait.poll.number_of(&socket.0);
                wait.register(number, next, READS);
                clients.insert(next, ask::Client::new(socket));
                next += 1;
            }
        }
        let tokens: Vec<usize> = heard.iter().map(|heard| heard.token).collect();
        println!("poll {}: ready {tokens:?}; clients: {}", wait.poll.polls, clients.len());
    }
}
