//! The server closes everything, and one timer is left. Does `run` return?

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use waterwheel::Context;
use waterwheel::net::{Event, tcp};
use waterwheel::reactor::Missed;

use crate::room::Room;

pub fn build(reactor: &mut Context<Room>, room: &mut Room) -> io::Result<SocketAddr> {
    let timer = reactor.every(Duration::from_millis(200), Missed::Skip, |_, _, _| {});
    room.timer = Some(timer);
    let listener = tcp::listen(reactor, "127.0.0.1:0", |reactor, room: &mut Room, stream| {
        let conn = stream.open(reactor, |reactor, room: &mut Room, conn, event| match event {
            Event::Data(_) => {
                room.say(reactor, "the server closes");
                if let Some(listener) = room.listener {
                    reactor.remove(listener);
                }
                for (_, member) in &room.members {
                    member.close(reactor);
                }
            }
            Event::Closed(_) => room.leave(conn),
            _ => {}
        });
        room.join(conn);
    })?;
    room.listener = Some(listener.raw());
    listener.local_addr(reactor)
}

/// What the button does.
pub fn unref(reactor: &mut Context<Room>, room: &mut Room) {
    let Some(timer) = room.timer else { return };
    reactor.unref(timer);
}
