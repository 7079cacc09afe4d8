//! A callback that computes for 2 s, as none may: a timer, Bob and his limit have to wait.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use waterwheel::Context;
use waterwheel::net::{Event, Limits, tcp};

use crate::room::Room;

pub fn build(reactor: &mut Context<Room>, _: &mut Room) -> io::Result<SocketAddr> {
    let listener = tcp::listen(reactor, "127.0.0.1:0", |reactor, room: &mut Room, stream| {
        let conn = stream.open(reactor, |reactor, room: &mut Room, conn, event| match event {
            Event::Data(_) if Some(conn) == room.find("ann") => {
                if let Some(bob) = room.find("bob") {
                    // Bob has 1 s to say something.
                    let idle_timeout = Some(Duration::from_secs(1));
                    bob.set_limits(reactor, Limits { idle_timeout, ..Limits::default() });
                }
                reactor.after(Duration::from_millis(100), |reactor, room| {
                    room.say(reactor, "timer of 100 ms");
                });
                room.compute(reactor, Duration::from_millis(room.knob("compute_ms")));
            }
            Event::Data(line) => {
                conn.set_limits(reactor, Limits::default());
                let _ = conn.write(reactor, line);
            }
            Event::Closed(_) => room.leave(conn),
            _ => {}
        });
        room.join(conn);
    })?;
    listener.local_addr(reactor)
}
