//! An event waits in the queue while its source goes, and another one takes the same slot.

use std::io;
use std::net::SocketAddr;

use waterwheel::net::{Conn, Event, Stream, tcp};
use waterwheel::{Context, SourceId};

use crate::room::Room;

pub fn build(reactor: &mut Context<Room>, _: &mut Room) -> io::Result<SocketAddr> {
    let listener = tcp::listen(reactor, "127.0.0.1:0", |reactor, room: &mut Room, stream| {
        let conn = stream.open(reactor, receive);
        room.join(conn);
    })?;
    listener.local_addr(reactor)
}

fn receive(reactor: &mut Context<Room>, room: &mut Room, conn: SourceId<Conn>, event: Event<'_>) {
    match event {
        Event::Data(_) if Some(conn) == room.find("ann") => {
            let Some(cleo) = room.find("cleo") else { return };
            let Some(stream) = reactor.deregister(cleo).map(Stream::from) else { return };
            if let Some(bob) = room.find("bob") {
                reactor.remove(bob); // His slot is free now; the next source gets it.
                room.leave(bob);
            }
            let moved = stream.open(reactor, receive);
            room.replace(cleo, moved);
        }
        Event::Data(line) => drop(conn.write(reactor, line)),
        Event::Closed(_) => room.leave(conn),
        _ => {}
    }
}
