//! Predict: a server is told to end while a client waits for its answer. The time is simulated.

use std::io;
use std::time::{Duration, Instant};

use waterwheel::net::sim::{Faults, Network};
use waterwheel::net::{Event, drain};
use waterwheel::protocols::http::Server;
use waterwheel::timers::ManualClock;
use waterwheel::{Context, Reactor};

const ASK: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn main() -> io::Result<()> {
    let mut reactor = Reactor::builder().clock(&ManualClock::new()).build()?;
    let begin = reactor.now();
    // The server needs 500 ms for an answer. A client asks, and stays connected.
    server_and_client(&mut reactor, begin)?;
    reactor.after(ms(200), move |reactor, _| {
        // It is told to end. It may take ten seconds for that.
        drain(reactor, ms(10_000), move |reactor, ended, report| {
            *ended = reactor.now() - begin;
            println!("it has ended; {report}");
            reactor.stop();
        });
    });
    let mut ended = Duration::ZERO;
    reactor.run(&mut ended)?;
    println!("it has taken {} tenths of a second", ended.as_millis() / 100);
    let answer = usize::from(ended > ms(400)) + usize::from(ended > ms(2000));
    println!("answer: {}", ["a", "b", "c"][answer]);
    Ok(())
}

fn server_and_client(reactor: &mut Context<Duration>, begin: Instant) -> io::Result<()> {
    let network = Network::new(reactor, 1, Faults::default());
    let address = "10.0.0.1:80".parse().expect("an address");
    let server = Server::new(|reactor, _, _, reply| {
        reactor.after(ms(500), |reactor, _| {
            reply.send(reactor, "here it is\n");
        });
    });
    network.listen(reactor, address, move |reactor, _, stream| {
        server.serve(reactor, stream);
    })?;
    network.connect(reactor, address, ms(3000), move |reactor, _, stream| {
        let conn = stream.expect("it listens").open(reactor, move |reactor, _, _, event| {
            if let Event::Data(_) = event {
                let tenths = (reactor.now() - begin).as_millis() / 100;
                println!("the answer comes after {tenths} tenths of a second");
            }
        });
        let _ = conn.write(reactor, ASK);
    })?;
    Ok(())
}
