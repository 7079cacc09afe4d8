//! Your server: `cargo run -p course --example run01`, then `nc 127.0.0.1 7101`, twice.

use std::net::TcpListener;

#[path = "echo.rs"]
#[allow(clippy::all, dead_code)]
#[rustfmt::skip]
mod echo;

fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:7101")?;
    println!("listening on {}; Ctrl-C ends it", listener.local_addr()?);
    echo::serve(&listener, None)
}
