//! Your server with two places: `cargo run -p course --example run02`, then `nc 127.0.0.1 7102`,
//! three times.

use std::io;
use std::net::TcpListener;
use std::thread;

#[cfg_attr(kept = "01", path = "../01-waiting/echo.rs")]
#[cfg_attr(not(kept = "01"), path = "../01-waiting/solution.rs")]
#[allow(clippy::all, dead_code)]
mod echo;
#[path = "threads.rs"]
#[allow(clippy::all, dead_code)]
#[rustfmt::skip]
mod threads;

fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:7102")?;
    println!("listening on {}, for two at a time; Enter ends it", listener.local_addr()?);
    let server = threads::Server::start(listener, 2, |mut client| {
        let count = echo::echo(&mut client).unwrap_or(0);
        println!("{:?}: {count} bytes", thread::current().id());
    });
    io::stdin().read_line(&mut String::new())?;
    println!("no new clients; it waits for those that are there");
    println!("served: {}", server.stop());
    Ok(())
}
