//! A callback asks for three things, each "as soon as possible". In which order do they come?

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use waterwheel::Context;
use waterwheel::net::{Event, tcp};
use waterwheel::reactor::Priority;

use crate::room::Room;

const LANES: [Priority; 3] = [Priority::High, Priority::Normal, Priority::Low];

pub fn build(reactor: &mut Context<Room>, _: &mut Room) -> io::Result<SocketAddr> {
    let listener = tcp::listen(reactor, "127.0.0.1:0", |reactor, room: &mut Room, stream| {
        let conn = stream.open(reactor, |reactor, room: &mut Room, conn, event| match event {
            Event::Data(_) if Some(conn) == room.find("ann") => {
                reactor.after(Duration::ZERO, |reactor, room| room.say(reactor, "timer of 0 ms"));
                let lane = LANES[room.knob("lane") as usize];
                reactor.enqueue(lane, |reactor, room| room.say(reactor, "enqueued"));
                reactor.defer(|reactor, room| room.say(reactor, "deferred"));
            }
            Event::Data(line) => drop(conn.write(reactor, line)),
            Event::Closed(_) => room.leave(conn),
            _ => {}
        });
        room.join(conn);
    })?;
    listener.local_addr(reactor)
}
