//! A callback that asks for itself again and again. Who waits for it?

use std::io;
use std::net::SocketAddr;

use waterwheel::Context;
use waterwheel::net::{Event, tcp};
use waterwheel::reactor::Priority;

use crate::room::Room;

pub fn build(reactor: &mut Context<Room>, _: &mut Room) -> io::Result<SocketAddr> {
    let listener = tcp::listen(reactor, "127.0.0.1:0", |reactor, room: &mut Room, stream| {
        let conn = stream.open(reactor, |reactor, room: &mut Room, conn, event| match event {
            Event::Data(b"defer\n") => reactor.defer(defer_again),
            Event::Data(b"enqueue\n") => reactor.enqueue(Priority::Normal, enqueue_again),
            Event::Data(_) => {
                let text = format!("{} callbacks have run before this one\n", room.count);
                let _ = conn.write(reactor, text.as_bytes());
            }
            Event::Closed(_) => room.leave(conn),
            _ => {}
        });
        room.join(conn);
    })?;
    listener.local_addr(reactor)
}

fn defer_again(reactor: &mut Context<Room>, room: &mut Room) {
    if room.count_to("times") {
        reactor.defer(defer_again);
    }
}

fn enqueue_again(reactor: &mut Context<Room>, room: &mut Room) {
    if room.count_to("times") {
        reactor.enqueue(Priority::Normal, enqueue_again);
    }
}
