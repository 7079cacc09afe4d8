//! The same slow hash twice: of what Ann says in her callback, of what Bob says on a worker.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use waterwheel::Context;
use waterwheel::net::{Event, tcp};

use crate::room::{Room, hash};

pub fn build(reactor: &mut Context<Room>, _: &mut Room) -> io::Result<SocketAddr> {
    let listener = tcp::listen(reactor, "127.0.0.1:0", |reactor, room: &mut Room, stream| {
        let conn = stream.open(reactor, |reactor, room: &mut Room, conn, event| match event {
            Event::Data(line) if Some(conn) == room.find("ann") => {
                // Twice as long as a worker needs: Bob's result is there before this returns.
                let long = Duration::from_millis(2 * room.knob("hash_ms"));
                let text = format!("{:x}\n", hash(line, long));
                let _ = conn.write(reactor, text.as_bytes());
            }
            Event::Data(line) if Some(conn) == room.find("bob") => {
                let (line, long) = (line.to_vec(), Duration::from_millis(room.knob("hash_ms")));
                let work = move || hash(&line, long); // On a worker's thread.
                reactor.offload(work, move |reactor, _, result| {
                    let text =
                        result.map_or("no result\n".to_owned(), |hash| format!("{hash:x}\n"));
                    let _ = conn.write(reactor, text.as_bytes());
                });
            }
            Event::Data(line) => drop(conn.write(reactor, line)),
            Event::Closed(_) => room.leave(conn),
            _ => {}
        });
        room.join(conn);
    })?;
    listener.local_addr(reactor)
}
