//! A hello of 13 bytes, for the side-by-side runs: `bench-http PORT`.

use waterwheel::Reactor;
use waterwheel::protocols::http;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = std::env::args().nth(1).ok_or("bench-http PORT")?.parse()?;
    let mut reactor = Reactor::new()?;
    http::listen(&mut reactor, ("127.0.0.1", port), |reactor, _, _, reply| {
        reply.send(reactor, "Hello, world!");
    })?;
    Ok(reactor.run(&mut ())?)
}
