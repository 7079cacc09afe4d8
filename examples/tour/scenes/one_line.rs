//! A chat: each line goes to all the others.

use std::io;
use std::net::SocketAddr;

use waterwheel::Context;
use waterwheel::net::{Event, tcp};

use crate::room::Room;

pub fn build(reactor: &mut Context<Room>, _: &mut Room) -> io::Result<SocketAddr> {
    let listener = tcp::listen(reactor, "127.0.0.1:0", |reactor, room: &mut Room, stream| {
        let conn = stream.open(reactor, |reactor, room: &mut Room, conn, event| match event {
            Event::Data(line) => {
                for other in room.others(conn) {
                    let _ = other.write(reactor, line);
                }
            }
            Event::Closed(_) => room.leave(conn),
            _ => {}
        });
        room.join(conn);
    })?;
    listener.local_addr(reactor)
}
