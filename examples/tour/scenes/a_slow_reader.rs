//! A relay whose writer learns of a slow reader: what a write returns is not to be ignored.

use std::io;
use std::net::SocketAddr;

use waterwheel::Context;
use waterwheel::net::{Event, Pressure, tcp};

use crate::room::Room;

pub fn build(reactor: &mut Context<Room>, _: &mut Room) -> io::Result<SocketAddr> {
    let listener = tcp::listen(reactor, "127.0.0.1:0", |reactor, room: &mut Room, stream| {
        let conn = stream.open(reactor, |reactor, room: &mut Room, conn, event| match event {
            Event::Data(bytes) => {
                for other in room.others(conn) {
                    // The bytes go into the other's outbox, and the call returns at once.
                    let answer: &[u8] = match other.write(reactor, bytes) {
                        Pressure::Below => continue,
                        Pressure::AboveHigh => b"taken, but an outbox is above 256 KiB\n",
                        Pressure::Refused => b"refused: an outbox is full\n",
                        Pressure::Closed => b"somebody has gone\n",
                    };
                    let _ = conn.write(reactor, answer);
                }
            }
            Event::Closed(_) => room.leave(conn),
            _ => {}
        });
        room.join(conn);
    })?;
    listener.local_addr(reactor)
}
