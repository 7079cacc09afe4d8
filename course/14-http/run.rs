//! Your reader as a server: `cargo run -p course --example run14`, then `curl -v 127.0.0.1:7114/hello`.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};

use kit::mio::net::{TcpListener, TcpStream};
use kit::{Input, Interest, Kernel, Mio, Request};

#[path = "http.rs"]
#[allow(clippy::all, dead_code)]
#[rustfmt::skip]
mod http;
#[cfg_attr(kept = "06", path = "../06-ids/registry.rs")]
#[cfg_attr(not(kept = "06"), path = "../06-ids/solution.rs")]
#[allow(clippy::all, dead_code)]
mod registry;

use registry::{Id, Registry};

const LISTENER: usize = usize::MAX;
const BOTH: Interest = Interest { readable: true, writable: true };

/// A client, what it has sent and has not been read, and what it is owed.
struct Client {
    stream: TcpStream,
    reader: http::Reader,
    input: Input,
    owed: Vec<u8>,
    /// Nothing more is answered. When all is written, it gets the end, and its own is awaited: if
    /// it were closed with unread bytes, the kernel would reset it, and the answer could be lost.
    is_over: bool,
}

fn main() -> io::Result<()> {
    let mut kernel = Mio::new()?;
    let address: SocketAddr = "127.0.0.1:7114".parse().expect("an address");
    let mut listener = TcpListener::bind(address)?;
    kernel.register(&mut listener, LISTENER, BOTH)?;
    println!("listening on http://{address}; Ctrl-C ends it");
    let mut clients = Registry::<Client>::new();
    loop {
        let mut ready = Vec::new();
        kernel.poll(None, &mut ready)?;
        for heard in ready {
            if heard.token == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    let (reader, input) = (http::Reader::default(), Input::new());
                    let client = Client { stream, reader, input, owed: Vec::new(), is_over: false };
                    let id = clients.insert(client);
                    let client = clients.get(id).expect("it was inserted just now");
                    kernel.register(&mut client.stream, token(id), BOTH)?;
                }
                continue;
            }
            let id = Id { index: heard.token as u32, generation: (heard.token >> 32) as u32 };
            if clients.get(id).is_some_and(|client| !client.turn()) {
                clients.remove(id);
            }
        }
    }
}

fn token(id: Id) -> usize {
    (id.generation as usize) << 32 | id.index as usize
}

impl Client {
    /// Reads, answers and writes until the kernel says `WouldBlock`. Gives false when it is to be
    /// removed.
    fn turn(&mut self) -> bool {
        let mut bytes = [0; 4096];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(count @ 1..) if !self.is_over => self.input.push(&bytes[..count]),
                Ok(1..) => {} // It is not read any more, and not kept.
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => {
                    self.answer();
                    let _ = self.stream.write(&self.owed); // It may have ended its half alone.
                    return false;
                }
            }
        }
        self.answer();
        while !self.owed.is_empty() {
            match self.stream.write(&self.owed) {
                Ok(count) => drop(self.owed.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        if self.is_over {
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        true
    }

    /// Answers all requests that have come.
    fn answer(&mut self) {
        while !self.is_over {
            match self.reader.next(&mut self.input) {
                Ok(request) => {
                    let Request { method, target, keep_alive, body, .. } = request;
                    println!("{method} {target}: a body of {} bytes", body.len());
                    let text = format!("{method} {target}, {} bytes\n", body.len());
                    self.respond(200, &text, method == "HEAD", keep_alive);
                }
                Err(None) => return,
                Err(Some(status)) => {
                    println!("refused with {status}");
                    self.respond(status, "No.\n", false, false);
                }
            }
        }
    }

    /// The answer to HEAD has the length of the body, and not the body.
    fn respond(&mut self, status: u16, text: &str, is_head: bool, keep_alive: bool) {
        let connection = if keep_alive { "keep-alive" } else { "close" };
        let length = text.len();
        let head = format!(
            "HTTP/1.1 {status} \r\nConnection: {connection}\r\nContent-Length: {length}\r\n\r\n"
        );
        self.owed.extend(head.bytes());
        if !is_head {
            self.owed.extend(text.bytes());
        }
        self.is_over = !keep_alive;
    }
}
