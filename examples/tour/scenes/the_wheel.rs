//! Three timers, armed while the hand of the wheel stands at 70. Which level does each come to?

use std::io;
use std::net::SocketAddr;

use waterwheel::Context;
use waterwheel::net::{Event, tcp};
use waterwheel::timers::Tick;

use crate::room::Room;

pub fn build(reactor: &mut Context<Room>, _: &mut Room) -> io::Result<SocketAddr> {
    let listener = tcp::listen(reactor, "127.0.0.1:0", |reactor, room: &mut Room, stream| {
        let conn = stream.open(reactor, |reactor, room: &mut Room, conn, event| match event {
            Event::Data(_) => {
                // A round tick to count from: the next multiple of 256.
                let zero = (reactor.tick().count() / 256 + 1) * 256;
                reactor.at_tick(Tick::new(zero + 70), move |reactor, room| {
                    let mut arm = |at| {
                        let text = format!("timer {at}");
                        reactor.at_tick(Tick::new(zero + at), move |reactor, room: &mut Room| {
                            room.say(reactor, &text);
                        });
                    };
                    arm(127);
                    arm(130);
                    arm(70 + room.knob("delay_ms"));
                });
            }
            Event::Closed(_) => room.leave(conn),
            _ => {}
        });
        room.join(conn);
    })?;
    listener.local_addr(reactor)
}
