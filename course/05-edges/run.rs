//! Your server: `cargo run -p course --example run05`, then `nc 127.0.0.1 7105`, twice. Linux only.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;

use kit::{Epoll, Interest, Trigger};

#[cfg_attr(kept = "03", path = "../03-asking/ask.rs")]
#[cfg_attr(not(kept = "03"), path = "../03-asking/solution.rs")]
#[allow(clippy::all, dead_code)]
mod ask;
#[path = "edge.rs"]
#[allow(clippy::all, dead_code)]
#[rustfmt::skip]
mod edge;

const LISTENER: usize = 0;
/// How often a client is asked in a turn: 16 times 4 KiB.
const BUDGET: usize = 16;
const BOTH: Interest = Interest { readable: true, writable: true };

fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:7105")?;
    listener.set_nonblocking(true)?;
    let mut edges = edge::Edges::new(Epoll::new(Trigger::Edge)?);
    edges.kernel.register(&listener, LISTENER, BOTH)?;
    println!("listening on {}; Ctrl-C ends it", listener.local_addr()?);
    let (mut clients, mut next, mut came) = (BTreeMap::new(), LISTENER + 1, Vec::new());
    loop {
        let heard = edge::turn(&mut edges, &mut clients, BUDGET, None)?;
        for heard in &heard {
            let mut what = Vec::from([format!("{}", heard.token)]);
            what.extend(heard.readable.then(|| "readable".into()));
            what.extend(heard.writable.then(|| "writable".into()));
            what.extend(heard.hung_up.then(|| "hung up".into()));
            println!("poll {}: {}", edges.kernel.polls, what.join(" "));
        }
        if heard.iter().any(|heard| heard.token == LISTENER) {
            ask::accept(&listener, &mut came)?; // All of them: the report comes once.
            for client in came.drain(..) {
                edges.kernel.register(&client.stream, next, BOTH)?;
                clients.insert(next, client);
                next += 1;
            }
        }
    }
}
